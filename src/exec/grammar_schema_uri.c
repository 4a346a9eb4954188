/* References of URIs (RFC 3986 section 5.2), as far as "$id" and "$ref" need them. */
#include <string.h>

#include "exec/grammar_compile.h"

struct parts {
    struct text scheme, authority, path, query; /* with ':', with "//", plain, with '?' */
};

static size_t span(const char *text, size_t length, const char *stops)
{
    size_t at = 0;
    while (at < length && !strchr(stops, text[at]))
        at++;
    return at;
}

/* The fragment is left out: the caller took it off. */
static struct parts split(const char *text, size_t length)
{
    struct parts parts = {0};
    size_t scheme = span(text, length, ":/?");
    if (scheme > 0 && scheme < length && text[scheme] == ':') {
        parts.scheme = (struct text){text, scheme + 1};
        text += scheme + 1;
        length -= scheme + 1;
    }
    if (length >= 2 && memcmp(text, "//", 2) == 0) {
        size_t authority = 2 + span(text + 2, length - 2, "/?");
        parts.authority = (struct text){text, authority};
        text += authority;
        length -= authority;
    }
    size_t path = span(text, length, "?");
    parts.path = (struct text){text, path};
    parts.query = (struct text){text + path, length - path};
    return parts;
}

/* Takes "." and ".." out of a path that begins with '/'. */
static size_t remove_dots(char *path, size_t length)
{
    size_t used = 0;
    for (size_t at = 0; at < length;) {
        size_t end = at + 1;
        while (end < length && path[end] != '/')
            end++;
        size_t segment = end - at;
        int one = segment == 2 && path[at + 1] == '.';
        int two = segment == 3 && path[at + 1] == '.' && path[at + 2] == '.';
        if (two)
            while (used > 0 && path[--used] != '/') {
            }
        if (one || two) {
            if (end == length)
                path[used++] = '/';
        } else {
            memmove(path + used, path + at, segment);
            used += segment;
        }
        at = end;
    }
    return used;
}

static size_t put(char *out, size_t used, const struct text *text)
{
    if (text->length > 0)
        memcpy(out + used, text->bytes, text->length);
    return used + text->length;
}

struct text uri_resolve(struct compiler *compiler, const struct text *base, const char *reference, size_t length)
{
    struct parts from = split(base->bytes ? base->bytes : "", base->length), to = split(reference, length);
    char *out = compiler_alloc(compiler, base->length + length + 2, 1);
    compiler_work(compiler, 50 + 12 * ((uint64_t)base->length + length));
    if (length == 0 || !out)
        return *base;
    if (to.scheme.length > 0)
        return (struct text){reference, length};
    size_t used = put(out, 0, &from.scheme);
    if (to.authority.length > 0) {
        used = put(out, used, &to.authority);
        used = put(out, used, &to.path);
        return (struct text){out, put(out, used, &to.query)};
    }
    used = put(out, used, &from.authority);
    size_t path = used;
    if (to.path.length == 0) {
        used = put(out, used, &from.path);
    } else if (to.path.bytes[0] == '/') {
        used = put(out, used, &to.path);
    } else {
        struct text folder = from.path;
        while (folder.length > 0 && folder.bytes[folder.length - 1] != '/')
            folder.length--;
        used = put(out, used, &folder);
        if (folder.length == 0 && from.authority.length > 0)
            out[used++] = '/';
        used = put(out, used, &to.path);
    }
    if (used > path && out[path] == '/')
        used = path + remove_dots(out + path, used - path);
    used = put(out, used, to.query.length > 0 || to.path.length > 0 ? &to.query : &from.query);
    return (struct text){out, used};
}
