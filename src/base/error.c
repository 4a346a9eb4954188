#include "bulla/error.h"

#include <stdio.h>
#include <string.h>

/* Text from a hostile file may reach a terminal: no escape sequences, and no
 * half character at a cut. */
static void clean(char *text, size_t capacity)
{
    size_t length = strlen(text);
    if (length + 1 >= capacity) {
        while (length > 0 && ((unsigned char)text[length - 1] & 0xC0) == 0x80)
            length--;
        if (length > 0 && ((unsigned char)text[length - 1] & 0x80))
            length--;
        text[length] = 0;
    }
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c == 0x7F)
            *c = '?';
}

int bulla_fail(bulla_error *error, int code, const char *format, ...)
{
    if (!error)
        return code;
    if (error->code != BULLA_OK)
        return error->code;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    clean(error->text, sizeof error->text);
    error->code = code;
    return code;
}

int bulla_fail_prefix(bulla_error *error, const char *format, ...)
{
    if (!error || error->code == BULLA_OK)
        return error ? error->code : BULLA_OK;
    char old[sizeof error->text];
    memcpy(old, error->text, sizeof old);
    va_list arguments;
    va_start(arguments, format);
    int used = vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    if (used >= 0 && (size_t)used < sizeof error->text)
        snprintf(error->text + used, sizeof error->text - (size_t)used, ": %.*s", (int)sizeof old - 1, old);
    clean(error->text, sizeof error->text);
    return error->code;
}

void bulla_error_clear(bulla_error *error)
{
    if (error) {
        error->code = BULLA_OK;
        error->text[0] = 0;
    }
}

const char *bulla_code_name(int code)
{
    static const char *const names[] = {"ok",     "input", "unsupported", "range",     "limit",
                                        "memory", "io",    "usage",       "cancelled", "internal"};
    return code >= 0 && code < (int)(sizeof names / sizeof names[0]) ? names[code] : "unknown";
}
