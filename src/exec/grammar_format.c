/* "format": regular expressions of texts that have it. Each is a part of what the format's own specification allows, so
 * that whatever is written is valid wherever the format is checked. */
#include <string.h>

#include "exec/grammar_compile.h"

/* RFC 3339 section 5.6, years 1000 to 9999, no leap seconds. */
#define DATE                                                                                                   \
    "(?:[1-9][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)" \
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"                                                                            \
    "|(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)-02-29)"
#define TIME                                                                                   \
    "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):" \
    "[0-5][0-9])"
/* RFC 3339 appendix A. */
#define NUMBER "[0-9]{1,9}"
#define CLOCK                                                                                               \
    "T(?:" NUMBER "H(?:" NUMBER "M(?:" NUMBER "S)?)?|" NUMBER "M(?:" NUMBER "S)?|" NUMBER "S)"
#define DURATION                                                                                              \
    "P(?:" NUMBER "W|" CLOCK "|(?:" NUMBER "Y(?:" NUMBER "M(?:" NUMBER "D)?)?|" NUMBER "M(?:" NUMBER "D)?|" \
    NUMBER "D)(?:" CLOCK ")?)"
/* RFC 1123 section 2.1: ASCII, without two hyphens in a row; at most 253 characters. */
#define LABEL "[A-Za-z0-9](?:-?[A-Za-z0-9]){0,30}"
#define LAST_LABEL "[A-Za-z](?:-?[A-Za-z0-9]){0,30}"
#define HOSTNAME "(?:" LABEL "\\.){0,3}" LAST_LABEL
/* RFC 5321 section 4.1.2, without quoted strings; the local part has at most 64 characters. */
#define ATOM "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
#define EMAIL ATOM "{1,32}(?:\\." ATOM "{1,15}){0,2}@" HOSTNAME
#define OCTET "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define IPV4 "(?:" OCTET "\\.){3}" OCTET
/* RFC 4291 section 2.2, without embedded IPv4. */
#define GROUP "[0-9A-Fa-f]{1,4}"
#define IPV6                                                                                               \
    "(?:(?:" GROUP ":){7}" GROUP "|(?:" GROUP ":){1,7}:|(?:" GROUP ":){1,6}:" GROUP "|(?:" GROUP           \
    ":){1,5}(?::" GROUP "){1,2}|(?:" GROUP ":){1,4}(?::" GROUP "){1,3}|(?:" GROUP ":){1,3}(?::" GROUP     \
    "){1,4}|(?:" GROUP ":){1,2}(?::" GROUP "){1,5}|" GROUP ":(?::" GROUP "){1,6}|:(?:(?::" GROUP "){1,7}|:))"
/* RFC 3986, without user information and IP literals; international forms (RFC 3987) are written in ASCII too. */
#define ESCAPED "%[0-9A-Fa-f]{2}"
#define PATH_CHARACTER "(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|" ESCAPED ")"
#define NO_COLON "(?:[A-Za-z0-9._~!$&'()*+,;=@-]|" ESCAPED ")"
#define HOST "(?:[A-Za-z0-9._~!$&'()*+,;=-]|" ESCAPED ")*(?::[0-9]{1,5})?"
#define SEGMENTS "(?:/" PATH_CHARACTER "*)*"
#define ABSOLUTE "/(?:" PATH_CHARACTER "+" SEGMENTS ")?"
#define TAIL "(?:\\?(?:" PATH_CHARACTER "|[/?])*)?(?:#(?:" PATH_CHARACTER "|[/?])*)?"
#define URI                                                                                            \
    "[A-Za-z][A-Za-z0-9+.-]*:(?://" HOST SEGMENTS "|" ABSOLUTE "|" PATH_CHARACTER "+" SEGMENTS ")" TAIL
#define URI_REFERENCE "(?:" URI "|(?://" HOST SEGMENTS "|" ABSOLUTE "|" NO_COLON "+" SEGMENTS ")?" TAIL ")"
/* RFC 6570 section 2, ASCII. */
#define VARIABLE "[A-Za-z0-9_](?:\\.?[A-Za-z0-9_])*(?::[1-9][0-9]{0,3}|\\*)?"
#define URI_TEMPLATE \
    "(?:[A-Za-z0-9._~!#$&()*+,;=:@/?-]|" ESCAPED "|\\{[+#./;?&]?" VARIABLE "(?:," VARIABLE ")*\\})*"
/* RFC 6901 section 3. */
#define POINTER "(?:/(?:[^~/]|~[01])*)*"
/* A part of ECMA-262's patterns without groups in groups. */
#define REPEATED "(?:[*+?]|\\{[1-9]\\})?"
#define ONE                                                                                            \
    "(?:[A-Za-z0-9 _,:;=@#%&<>~!'\"/-]|\\.|\\\\[dDwWsS.\\\\/()\\[\\]{}*+?^$|]|\\[\\^?[A-Za-z0-9_]+\\])" REPEATED
#define BRANCHES "(?:" ONE ")+(?:\\|(?:" ONE ")+)*"
#define REGEX "\\^?(?:" ONE "|\\((?:\\?:)?" BRANCHES "\\)" REPEATED ")*\\$?"
#define WHOLE(pattern) "^(?:" pattern ")$"

const char *format_pattern(const char *name)
{
    static const struct {
        const char *name, *pattern;
    } formats[] = {
        {"date", WHOLE(DATE)},
        {"time", WHOLE(TIME)},
        {"date-time", WHOLE(DATE "T" TIME)},
        {"duration", WHOLE(DURATION)},
        {"email", WHOLE(EMAIL)},
        {"idn-email", WHOLE(EMAIL)},
        {"hostname", WHOLE(HOSTNAME)},
        {"idn-hostname", WHOLE(HOSTNAME)},
        {"ipv4", WHOLE(IPV4)},
        {"ipv6", WHOLE(IPV6)},
        {"uuid", WHOLE("[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}")},
        {"uri", WHOLE(URI)},
        {"uri-reference", WHOLE(URI_REFERENCE)},
        {"iri", WHOLE(URI)},
        {"iri-reference", WHOLE(URI_REFERENCE)},
        {"uri-template", WHOLE(URI_TEMPLATE)},
        {"json-pointer", WHOLE(POINTER)},
        {"relative-json-pointer", WHOLE("(?:0|[1-9][0-9]{0,8})(?:#|" POINTER ")")},
        {"regex", WHOLE(REGEX)},
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, name) == 0)
            return formats[i].pattern;
    return NULL;
}
