/* An answer's text taken apart, any bytes of it: however it is cut, the same comes out, pieces of a call follow its
 * first, and without a form all of it is text. The first byte chooses the form, the second the cuts. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "serve/tools.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct heard {
    struct buffer line;
    int32_t tool;
    size_t calls;
};

static void hear(void *context, const struct answer_delta *delta)
{
    struct heard *heard = context;
    if ((delta->text_length > 0) + (delta->reasoning_length > 0) + (delta->tool >= 0) != 1)
        abort();
    if (delta->tool_id) {
        if ((size_t)delta->tool != heard->calls++ || !delta->tool_name[0])
            abort();
        heard->tool = delta->tool;
        buffer_append_format(&heard->line, "\1%s\1%s\1", delta->tool_id, delta->tool_name);
    } else if (delta->tool != heard->tool && delta->tool >= 0) {
        abort();
    }
    for (size_t i = 0; i < delta->text_length; i++) {
        buffer_append_byte(&heard->line, 'T');
        buffer_append_byte(&heard->line, (uint8_t)delta->text[i]);
    }
    for (size_t i = 0; i < delta->reasoning_length; i++) {
        buffer_append_byte(&heard->line, 'R');
        buffer_append_byte(&heard->line, (uint8_t)delta->reasoning[i]);
    }
    buffer_append(&heard->line, delta->arguments, delta->arguments_length);
}

static void take_apart(const uint8_t *data, size_t size, uint8_t how, unsigned cut, struct heard *heard)
{
    struct tool_format format = {how % 5, (how >> 3) & 1};
    struct output_parser_sink sink = {heard, hear};
    struct output_parser *parser;
    *heard = (struct heard){.tool = -1};
    if (output_parser_open(&format, (how >> 4) & 1, (how >> 5) & 1, how, &sink, &parser, NULL) != BULLA_OK)
        abort();
    for (size_t at = 0; at < size;) {
        size_t piece = cut ? 1 + at % cut : size;
        piece = piece > size - at ? size - at : piece;
        if (output_parser_push(parser, (const char *)data + at, piece, NULL) != BULLA_OK)
            abort();
        at += piece;
    }
    if (output_parser_end(parser, NULL) != BULLA_OK || output_parser_calls(parser) != heard->calls)
        abort();
    output_parser_close(parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heard whole, bytes, pieces;
    if (size < 2)
        return 0;
    uint8_t how = data[0];
    unsigned cut = data[1] % 16 + 2;
    data += 2;
    size -= 2;
    take_apart(data, size, how, 0, &whole);
    take_apart(data, size, how, 1, &bytes);
    take_apart(data, size, how, cut, &pieces);
    if (whole.line.length != bytes.line.length || whole.line.length != pieces.line.length)
        abort();
    if (whole.line.length && (memcmp(whole.line.data, bytes.line.data, whole.line.length) != 0 ||
                              memcmp(whole.line.data, pieces.line.data, whole.line.length) != 0))
        abort();
    int has_form = ((how >> 4) & 1 && how % 5) || (how & 0x28);
    if (!has_form && whole.line.length != 2 * size)
        abort();
    buffer_free(&whole.line);
    buffer_free(&bytes.line);
    buffer_free(&pieces.line);
    return 0;
}
