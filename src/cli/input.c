#include "cli/input.h"

#include <errno.h>
#include <string.h>

enum { READ_BYTES = 1 << 16 };

static int check(FILE *file, const struct buffer *out, bulla_error *error)
{
    if (ferror(file))
        return bulla_fail(error, BULLA_E_IO, "standard input cannot be read: %s", strerror(errno));
    if (out->error.code != BULLA_OK)
        return bulla_fail(error, out->error.code, "%s", out->error.text);
    if (out->length > INPUT_LIMIT)
        return bulla_fail(error, BULLA_E_LIMIT, "standard input has more than the %d bytes that are read at once",
                          INPUT_LIMIT);
    return BULLA_OK;
}

int input_read_all(FILE *file, struct buffer *out, bulla_error *error)
{
    char bytes[READ_BYTES];
    size_t count;
    while (out->length <= INPUT_LIMIT && out->error.code == BULLA_OK &&
           (count = fread(bytes, 1, sizeof bytes, file)) > 0)
        buffer_append(out, bytes, count);
    return check(file, out, error);
}

void input_drop_newline(struct buffer *text)
{
    if (text->length == 0 || text->data[text->length - 1] != '\n')
        return;
    text->length--;
    if (text->length > 0 && text->data[text->length - 1] == '\r')
        text->length--;
    text->data[text->length] = 0;
}

int input_read_line(FILE *file, struct buffer *out, int *there, bulla_error *error)
{
    int byte = EOF;
    buffer_clear(out);
    while (out->length <= INPUT_LIMIT && out->error.code == BULLA_OK && (byte = getc(file)) != EOF) {
        buffer_append_byte(out, (uint8_t)byte);
        if (byte == '\n')
            break;
    }
    *there = out->length > 0;
    input_drop_newline(out);
    return check(file, out, error);
}
