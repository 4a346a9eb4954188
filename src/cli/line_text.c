#include "cli/line_text.h"

#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"

/* The code point at `at`; bytes that are no UTF-8 count one by one as U+FFFD. */
static size_t decode(const char *text, size_t length, size_t at, uint32_t *code_point)
{
    size_t size = utf8_decode(text + at, length - at, code_point);
    if (size > 0)
        return size;
    *code_point = 0xFFFD;
    return 1;
}

size_t line_text_next(const char *text, size_t length, size_t at)
{
    uint32_t before, after;
    utf8proc_int32_t state = 0;
    at += decode(text, length, at, &before);
    while (at < length) {
        size_t size = decode(text, length, at, &after);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, (utf8proc_int32_t)after, &state))
            break;
        before = after;
        at += size;
    }
    return at;
}

/* Clusters can only be found forwards; a line start is a border for sure. */
size_t line_text_previous(const char *text, size_t length, size_t at)
{
    size_t start = line_text_line_start(text, at);
    if (start == at)
        return at - 1;
    for (;;) {
        size_t next = line_text_next(text, length, start);
        if (next >= at)
            return start;
        start = next;
    }
}

int line_text_starts_character(const char *text, size_t length, uint32_t code_point)
{
    enum { JOINER = 0x200D };
    size_t at = length;
    uint32_t before;
    while (at > 0 && length - at < 4 && ((uint8_t)text[--at] & 0xC0) == 0x80) {
    }
    if (length == 0)
        return 1;
    decode(text, length, at, &before);
    return before != JOINER && utf8proc_grapheme_break((utf8proc_int32_t)before, (utf8proc_int32_t)code_point);
}

size_t line_text_line_start(const char *text, size_t at)
{
    while (at > 0 && text[at - 1] != '\n')
        at--;
    return at;
}

size_t line_text_line_end(const char *text, size_t length, size_t at)
{
    while (at < length && text[at] != '\n')
        at++;
    return at;
}

static int is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n';
}

size_t line_text_word_before(const char *text, size_t length, size_t at)
{
    while (at > 0 && is_blank(text[at - 1]))
        at--;
    while (at > 0 && !is_blank(text[at - 1]))
        at--;
    return at;
}

size_t line_text_word_after(const char *text, size_t length, size_t at)
{
    while (at < length && is_blank(text[at]))
        at++;
    while (at < length && !is_blank(text[at]))
        at++;
    return at;
}

int line_text_width(const char *text, size_t from, size_t to, int column)
{
    int start = column;
    while (from < to) {
        uint32_t code_point;
        from += decode(text, to, from, &code_point);
        if (code_point == '\t')
            column += LINE_TAB_COLUMNS - column % LINE_TAB_COLUMNS;
        else
            column += utf8proc_charwidth((utf8proc_int32_t)code_point);
    }
    return column - start;
}
