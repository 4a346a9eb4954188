#include "cli/line_keys.h"

#include <string.h>

#include "base/utf8.h"

enum { ESCAPE = 0x1B, DELETE = 0x7F, REPLACEMENT = 0xFFFD };

static enum line_key key_of_control(uint8_t byte)
{
    static const uint8_t keys[0x20] = {
        [0x01] = LINE_KEY_HOME,       [0x02] = LINE_KEY_LEFT,     [0x03] = LINE_KEY_INTERRUPT,
        [0x04] = LINE_KEY_DELETE_OR_END, [0x05] = LINE_KEY_END,   [0x06] = LINE_KEY_RIGHT,
        [0x08] = LINE_KEY_BACKSPACE,  [0x0B] = LINE_KEY_KILL_AFTER, [0x0C] = LINE_KEY_CLEAR,
        [0x0D] = LINE_KEY_ENTER,      [0x0E] = LINE_KEY_NEXT,     [0x10] = LINE_KEY_PREVIOUS,
        [0x15] = LINE_KEY_KILL_BEFORE, [0x17] = LINE_KEY_KILL_WORD, [0x19] = LINE_KEY_YANK,
        [0x1A] = LINE_KEY_SUSPEND,
    };
    return byte == DELETE ? LINE_KEY_BACKSPACE : (enum line_key)keys[byte];
}

static enum line_key character(uint32_t value, uint32_t *code_point)
{
    *code_point = value;
    return LINE_KEY_CHARACTER;
}

/* Alt and a key come as escape and that key. */
static enum line_key key_of_alt(uint8_t byte, uint32_t *code_point)
{
    switch (byte) {
    case '\r':
    case '\n':
        return character('\n', code_point);
    case 'b':
        return LINE_KEY_WORD_LEFT;
    case 'f':
        return LINE_KEY_WORD_RIGHT;
    case 'd':
        return LINE_KEY_KILL_WORD_AFTER;
    case 0x08:
    case DELETE:
        return LINE_KEY_KILL_WORD;
    }
    return LINE_KEY_NONE;
}

/* Keys with a letter at the end; with a parameter 1;3 or 1;5 (Alt, Ctrl) arrows go by words. */
static enum line_key key_of_letter(uint8_t final, int with_modifier)
{
    switch (final) {
    case 'A':
        return LINE_KEY_UP;
    case 'B':
        return LINE_KEY_DOWN;
    case 'C':
        return with_modifier ? LINE_KEY_WORD_RIGHT : LINE_KEY_RIGHT;
    case 'D':
        return with_modifier ? LINE_KEY_WORD_LEFT : LINE_KEY_LEFT;
    case 'H':
        return LINE_KEY_HOME;
    case 'F':
        return LINE_KEY_END;
    }
    return LINE_KEY_NONE;
}

/* A whole control sequence is held. Numbers: VT220 function keys, xterm's bracketed paste. */
static enum line_key key_of_sequence(struct line_key_reader *reader)
{
    const uint8_t *held = reader->held;
    uint8_t final = held[reader->held_length - 1];
    unsigned number = 0;
    size_t i = 2;
    for (; i < reader->held_length && held[i] >= '0' && held[i] <= '9' && number < 1000; i++)
        number = 10 * number + (held[i] - '0');
    if (final != '~')
        return key_of_letter(final, held[i] == ';');
    switch (number) {
    case 1:
    case 7:
        return LINE_KEY_HOME;
    case 4:
    case 8:
        return LINE_KEY_END;
    case 3:
        return LINE_KEY_DELETE;
    case 200:
        reader->pasting = 1;
        reader->after_return = 0;
        break;
    case 201:
        reader->pasting = 0;
        break;
    }
    return LINE_KEY_NONE;
}

static enum line_key push_escape(struct line_key_reader *reader, uint8_t byte, uint32_t *code_point)
{
    if (reader->held_length == 1) {
        if (byte == '[' || byte == 'O') {
            reader->held[reader->held_length++] = byte;
            return LINE_KEY_NONE;
        }
        reader->held_length = byte == ESCAPE ? 1 : 0;
        return reader->pasting ? LINE_KEY_NONE : key_of_alt(byte, code_point);
    }
    if (byte < 0x20 || byte > 0x7E) { /* no sequence holds these: it was cut off */
        reader->held_length = 0;
        return line_keys_push(reader, byte, code_point);
    }
    if (reader->held_length < sizeof reader->held)
        reader->held[reader->held_length++] = byte;
    else
        reader->held[sizeof reader->held - 1] = byte; /* too long to mean anything, but it still ends */
    if (byte < 0x40)
        return LINE_KEY_NONE;
    int is_letter = reader->held[1] == 'O';
    enum line_key key = is_letter ? key_of_letter(byte, 0) : key_of_sequence(reader);
    reader->held_length = 0;
    return reader->pasting ? LINE_KEY_NONE : key;
}

static enum line_key push_pasted_control(struct line_key_reader *reader, uint8_t byte, uint32_t *code_point)
{
    int repeats = byte == '\n' && reader->after_return;
    reader->after_return = byte == '\r';
    if ((byte == '\r' || byte == '\n') && !repeats)
        return character('\n', code_point);
    return byte == '\t' ? character('\t', code_point) : LINE_KEY_NONE;
}

/* Bytes of one code point, held until it is whole. */
static enum line_key push_utf8(struct line_key_reader *reader, uint8_t byte, uint32_t *code_point)
{
    uint8_t *held = reader->held;
    int continues = byte >= 0x80 && byte < 0xC0;
    if (reader->held_length > 0 && !continues) { /* the one before was cut off; this byte begins anew */
        reader->held_length = 0;
        if (byte < 0x80)
            return line_keys_push(reader, byte, code_point);
    }
    held[reader->held_length++] = byte;
    size_t size = held[0] >= 0xF5 ? 1 : held[0] >= 0xF0 ? 4 : held[0] >= 0xE0 ? 3 : held[0] >= 0xC2 ? 2 : 1;
    if (reader->held_length < size)
        return LINE_KEY_NONE;
    int whole = utf8_decode((const char *)held, reader->held_length, code_point) > 0;
    reader->held_length = 0;
    if (whole && *code_point >= 0x80 && *code_point <= 0x9F) /* C1 control characters steer terminals */
        return LINE_KEY_NONE;
    return whole ? LINE_KEY_CHARACTER : character(REPLACEMENT, code_point);
}

enum line_key line_keys_push(struct line_key_reader *reader, uint8_t byte, uint32_t *code_point)
{
    if (reader->held_length > 0 && reader->held[0] == ESCAPE)
        return push_escape(reader, byte, code_point);
    if (byte >= 0x80 || reader->held_length > 0) {
        reader->after_return = 0;
        return push_utf8(reader, byte, code_point);
    }
    if (byte == ESCAPE) {
        reader->held[reader->held_length++] = byte;
        return LINE_KEY_NONE;
    }
    if (reader->pasting && (byte < 0x20 || byte == DELETE))
        return push_pasted_control(reader, byte, code_point);
    reader->after_return = 0;
    if (byte == '\n' || byte == '\t')
        return character(byte, code_point);
    return byte < 0x20 || byte == DELETE ? key_of_control(byte) : character(byte, code_point);
}

int line_keys_waiting(const struct line_key_reader *reader)
{
    return reader->held_length > 0 && reader->held[0] == ESCAPE && !reader->pasting;
}

void line_keys_expire(struct line_key_reader *reader)
{
    if (line_keys_waiting(reader))
        reader->held_length = 0;
}
