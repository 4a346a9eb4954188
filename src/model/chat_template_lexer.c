/* Template source to tokens, with jinja2's rules for white space around tags:
 * '-' strips all of it, a block's or comment's first newline goes (trim_blocks),
 * and so do blanks before a block or comment that starts its line
 * (lstrip_blocks), unless '+' says otherwise. */
#include <string.h>

#include "base/decimal.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "model/chat_template_internal.h"

struct lexer {
    struct render *render;
    struct text source;
    size_t at;
    uint32_t line;
    int starts_line; /* the last tag took its newline with it, or nothing came before */
    struct token_list *tokens;
    char open[TEMPLATE_MAX_NESTING]; /* brackets that wait for their end */
    size_t open_count;
};

static int fail(struct lexer *lexer, int code, const char *sentence)
{
    lexer->render->line = lexer->line;
    return template_fail(lexer->render, code, "%s", sentence);
}

static int looking_at(const struct lexer *lexer, size_t at, const char *text)
{
    size_t length = strlen(text);
    return lexer->source.length - at >= length && memcmp(lexer->source.bytes + at, text, length) == 0;
}

static size_t skip_space(const struct lexer *lexer, size_t at)
{
    size_t size;
    while (at < lexer->source.length && text_is_space(text_character(&lexer->source, at, &size)))
        at += size;
    return at;
}

static void move_to(struct lexer *lexer, size_t at)
{
    for (; lexer->at < at; lexer->at++)
        lexer->line += lexer->source.bytes[lexer->at] == '\n';
}

static int add_token(struct lexer *lexer, enum token_type type, size_t start, size_t end, struct value value)
{
    struct token_list *tokens = lexer->tokens;
    if (tokens->count == tokens->capacity) {
        size_t capacity = tokens->capacity ? 2 * tokens->capacity : 256;
        struct token *grown = memory_resize(tokens->tokens, capacity, sizeof *grown, lexer->render->error);
        if (!grown)
            return 0;
        tokens->tokens = grown;
        tokens->capacity = capacity;
    }
    tokens->tokens[tokens->count++] =
        (struct token){type, lexer->line, lexer->source.bytes + start, end - start, value};
    return 1;
}

/* ---- Data between tags ---- */

static int add_data(struct lexer *lexer, size_t start, size_t end)
{
    struct value text;
    return end == start || (value_text(lexer->render, lexer->source.bytes + start, end - start, &text) &&
                            add_token(lexer, TOKEN_DATA, start, end, text));
}

/* Where the data before a tag at `end` stops. */
static size_t data_end(const struct lexer *lexer, size_t start, size_t end, char sign, int is_output)
{
    const struct text *source = &lexer->source;
    size_t size, at = end;
    if (sign == '-') {
        while (at > start && text_is_space(text_character(source, text_previous(source, at), &size)))
            at = text_previous(source, at);
        return at;
    }
    if (sign == '+' || is_output)
        return end;
    size_t line = end;
    while (line > start && source->bytes[line - 1] != '\n')
        line--;
    if (line == start && !lexer->starts_line)
        return end;
    for (at = line; at < end; at += size)
        if (!text_is_space(text_character(source, at, &size)))
            return end;
    return line;
}

/* The length of a tag's end at `at`, with what it strips after it; 0: none here. */
static size_t tag_end(const struct lexer *lexer, size_t at, const char *end, int takes_newline)
{
    size_t start = at;
    if (looking_at(lexer, at, "-") && looking_at(lexer, at + 1, end))
        return skip_space(lexer, at + 1 + strlen(end)) - start;
    if (takes_newline && looking_at(lexer, at, "+") && looking_at(lexer, at + 1, end))
        return 1 + strlen(end);
    if (!looking_at(lexer, at, end))
        return 0;
    at += strlen(end);
    return at - start + (takes_newline && looking_at(lexer, at, "\n"));
}

static void end_tag(struct lexer *lexer, size_t length)
{
    lexer->starts_line = lexer->source.bytes[lexer->at + length - 1] == '\n';
    move_to(lexer, lexer->at + length);
}

/* {% name %}, with the sign after its start in *sign: its length, or 0. */
static size_t raw_tag(const struct lexer *lexer, size_t at, const char *name, int is_end, char *sign)
{
    size_t start = at;
    if (!looking_at(lexer, at, "{%"))
        return 0;
    at += 2;
    *sign = 0;
    if (looking_at(lexer, at, "-") || looking_at(lexer, at, "+"))
        *sign = lexer->source.bytes[at++];
    at = skip_space(lexer, at);
    if (!looking_at(lexer, at, name))
        return 0;
    at = skip_space(lexer, at + strlen(name));
    if (!is_end && looking_at(lexer, at, "+"))
        return 0;
    size_t end = tag_end(lexer, at, "%}", is_end);
    return end ? at + end - start : 0;
}

static int lex_raw(struct lexer *lexer, size_t length)
{
    char sign;
    end_tag(lexer, length);
    size_t start = lexer->at, at = start, end = 0;
    for (; at < lexer->source.length; at++)
        if (lexer->source.bytes[at] == '{' && (end = raw_tag(lexer, at, "endraw", 1, &sign)))
            break;
    if (!end)
        return fail(lexer, BULLA_E_INPUT, "a raw block has no end");
    if (!add_data(lexer, start, data_end(lexer, start, at, sign, 0)))
        return 0;
    move_to(lexer, at);
    end_tag(lexer, end);
    return 1;
}

static int lex_comment(struct lexer *lexer)
{
    for (size_t at = lexer->at; at < lexer->source.length; at++) {
        size_t end = tag_end(lexer, at, "#}", 1);
        if (!end)
            continue;
        move_to(lexer, at);
        end_tag(lexer, end);
        return 1;
    }
    return fail(lexer, BULLA_E_INPUT, "a comment has no end");
}

/* ---- Inside tags ---- */

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char byte_at(const struct lexer *lexer, size_t at)
{
    return at < lexer->source.length ? lexer->source.bytes[at] : 0;
}

/* Digits of a base with single '_' between: where they end. */
static size_t digits_end(const struct lexer *lexer, size_t at, int base, int leading_underscore)
{
    size_t end = at;
    for (;;) {
        size_t next = end;
        if (byte_at(lexer, next) == '_' && (end > at || leading_underscore))
            next++;
        char c = byte_at(lexer, next);
        int digit = is_digit(c) ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : 99;
        if (digit >= base)
            return end;
        end = next + 1;
    }
}

/* The end of a float literal at `at`, or `at`. */
static size_t float_end(const struct lexer *lexer, size_t at)
{
    size_t end = digits_end(lexer, at, 10, 0), fraction = end, exponent;
    if (end == at || (at > 0 && lexer->source.bytes[at - 1] == '.'))
        return at;
    if (byte_at(lexer, end) == '.' && is_digit(byte_at(lexer, end + 1)))
        fraction = digits_end(lexer, end + 1, 10, 0);
    exponent = fraction;
    if ((byte_at(lexer, fraction) | 32) == 'e') {
        size_t digits = fraction + 1;
        if (byte_at(lexer, digits) == '+' || byte_at(lexer, digits) == '-')
            digits++;
        if (is_digit(byte_at(lexer, digits)))
            exponent = digits_end(lexer, digits, 10, 0);
    }
    return exponent > end ? exponent : at;
}

static size_t integer_end(const struct lexer *lexer, size_t at)
{
    if (byte_at(lexer, at) != '0')
        return digits_end(lexer, at, 10, 0);
    char letter = (char)(byte_at(lexer, at + 1) | 32);
    int base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    size_t end = base ? digits_end(lexer, at + 2, base, 1) : at;
    return base && end > at + 2 ? end : digits_end(lexer, at, 1, 0);
}

static int lex_number(struct lexer *lexer)
{
    size_t start = lexer->at, end = float_end(lexer, start);
    struct value value;
    struct text text = {.bytes = lexer->source.bytes + start};
    if (end > start) {
        double real;
        text.length = end - start;
        if (!float_from_text(&text, &real))
            return fail(lexer, BULLA_E_UNSUPPORTED, "a number with too many digits");
        value = value_float(real);
    } else {
        end = integer_end(lexer, start);
        text.length = end - start;
        if (!number_from_text(&text, 0, &value) || value.type == VALUE_MISSING)
            return fail(lexer, BULLA_E_UNSUPPORTED, "an integer of more than 64 bits");
    }
    if (!add_token(lexer, value.type == VALUE_FLOAT ? TOKEN_FLOAT : TOKEN_INTEGER, start, end, value))
        return 0;
    lexer->at = end;
    return 1;
}

static int hex_escape(struct lexer *lexer, size_t at, size_t end, size_t digits, struct buffer *out)
{
    uint32_t code_point = 0;
    for (size_t i = 0; i < digits; i++) {
        char c = at + i < end ? lexer->source.bytes[at + i] : 0, lower = (char)(c | 32);
        if (!is_digit(c) && !(lower >= 'a' && lower <= 'f'))
            return fail(lexer, BULLA_E_INPUT, "an escape in a string has too few hex digits");
        code_point = code_point << 4 | (uint32_t)(is_digit(c) ? c - '0' : lower - 'a' + 10);
    }
    if (code_point > 0x10FFFF)
        return fail(lexer, BULLA_E_INPUT, "an escape in a string is beyond U+10FFFF");
    if (code_point >= 0xD800 && code_point <= 0xDFFF)
        return fail(lexer, BULLA_E_UNSUPPORTED, "a surrogate in a string is not supported");
    char bytes[4];
    buffer_append(out, bytes, utf8_encode(code_point, bytes));
    return 1;
}

/* The escape after the backslash at `*at`, as Python's unicode-escape reads it;
 * an unknown one stays as it is. */
static int string_escape(struct lexer *lexer, size_t *at, size_t end, struct buffer *out)
{
    static const char letters[] = "\\'\"abfnrtv", meanings[] = "\\'\"\a\b\f\n\r\t\v";
    char c = lexer->source.bytes[++*at];
    const char *letter = c ? strchr(letters, c) : NULL;
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (letter) {
        buffer_append_byte(out, (uint8_t)meanings[letter - letters]);
        ++*at;
    } else if (c == '\n') {
        ++*at;
    } else if (digits) {
        if (!hex_escape(lexer, *at + 1, end, digits, out))
            return 0;
        *at += 1 + digits;
    } else if (c >= '0' && c <= '7') {
        uint32_t code_point = 0;
        for (int i = 0; i < 3 && *at < end && byte_at(lexer, *at) >= '0' && byte_at(lexer, *at) <= '7'; i++)
            code_point = code_point * 8 + (uint32_t)(byte_at(lexer, (*at)++) - '0');
        char bytes[4];
        buffer_append(out, bytes, utf8_encode(code_point, bytes));
    } else if (c == 'N') {
        return fail(lexer, BULLA_E_UNSUPPORTED, "\\N in a string is not supported");
    } else if ((unsigned char)c >= 0x80) {
        /* jinja2 turns the character itself into an escape first. */
        size_t size;
        uint32_t code_point = text_character(&lexer->source, *at, &size);
        buffer_append_format(out, code_point < 0x100     ? "\\x%02x"
                                  : code_point < 0x10000 ? "\\u%04x"
                                                         : "\\U%08x",
                             (unsigned)code_point);
        *at += size;
    } else {
        buffer_append_byte(out, '\\');
    }
    return 1;
}

static int lex_string(struct lexer *lexer)
{
    char quote = lexer->source.bytes[lexer->at];
    size_t start = lexer->at + 1, end = start;
    struct buffer out = {0};
    struct value text;
    for (; end < lexer->source.length && lexer->source.bytes[end] != quote; end++)
        if (lexer->source.bytes[end] == '\\')
            end++;
    if (end >= lexer->source.length)
        return fail(lexer, BULLA_E_INPUT, "a string has no end");
    for (size_t at = start; at < end;) {
        if (lexer->source.bytes[at] != '\\') {
            buffer_append_byte(&out, (uint8_t)lexer->source.bytes[at++]);
        } else if (!string_escape(lexer, &at, end, &out)) {
            buffer_free(&out);
            return 0;
        }
    }
    if (!text_from_buffer(lexer->render, &out, &text) || !add_token(lexer, TOKEN_STRING, start, end, text))
        return 0;
    move_to(lexer, end + 1);
    return 1;
}

static int is_name_character(char c)
{
    return is_digit(c) || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int lex_name(struct lexer *lexer)
{
    size_t start = lexer->at;
    while (is_name_character(byte_at(lexer, lexer->at)))
        lexer->at++;
    if ((unsigned char)byte_at(lexer, lexer->at) >= 0x80)
        return fail(lexer, BULLA_E_UNSUPPORTED, "names with characters beyond ASCII are not supported");
    return add_token(lexer, TOKEN_NAME, start, lexer->at, (struct value){0});
}

static int balance(struct lexer *lexer, char c)
{
    if (c == '(' || c == '[' || c == '{') {
        if (lexer->open_count == sizeof lexer->open)
            return fail(lexer, BULLA_E_LIMIT, "brackets are nested too deep");
        lexer->open[lexer->open_count++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (lexer->open_count == 0 || lexer->open[--lexer->open_count] != c)
            return fail(lexer, BULLA_E_INPUT, "a closing bracket has no opening one");
    }
    return 1;
}

static int lex_operator(struct lexer *lexer)
{
    static const char *const operators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                            "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++)
        if (looking_at(lexer, lexer->at, operators[i])) {
            size_t start = lexer->at;
            if (!balance(lexer, operators[i][0]) ||
                !add_token(lexer, TOKEN_OPERATOR, start, start + strlen(operators[i]), (struct value){0}))
                return 0;
            lexer->at += strlen(operators[i]);
            return 1;
        }
    return fail(lexer, BULLA_E_INPUT, "a character that means nothing in an expression");
}

static int lex_tag(struct lexer *lexer, int is_output)
{
    const char *end = is_output ? "}}" : "%}";
    lexer->open_count = 0;
    for (;;) {
        size_t length = lexer->open_count == 0 ? tag_end(lexer, lexer->at, end, !is_output) : 0;
        if (length) {
            int added = add_token(lexer, is_output ? TOKEN_OUTPUT_END : TOKEN_BLOCK_END, lexer->at, lexer->at,
                                  (struct value){0});
            end_tag(lexer, length);
            return added;
        }
        size_t after = skip_space(lexer, lexer->at);
        if (after > lexer->at) {
            move_to(lexer, after);
            continue;
        }
        if (lexer->at == lexer->source.length)
            return fail(lexer, BULLA_E_INPUT,
                        is_output ? "expected '}}', found the end" : "expected '%}', found the end");
        char c = lexer->source.bytes[lexer->at];
        int done = is_digit(c)                                           ? lex_number(lexer)
                   : is_name_character(c) || (unsigned char)c >= 0x80 ? lex_name(lexer)
                   : c == '\'' || c == '"'                              ? lex_string(lexer)
                                                                        : lex_operator(lexer);
        if (!done)
            return 0;
    }
}

/* ---- The whole ---- */

/* The next "{{", "{%" or "{#" from `at` on. */
static size_t find_tag(const struct lexer *lexer, size_t at)
{
    for (; at + 1 < lexer->source.length; at++) {
        const char *open = memchr(lexer->source.bytes + at, '{', lexer->source.length - 1 - at);
        if (!open)
            break;
        at = (size_t)(open - lexer->source.bytes);
        if (open[1] == '{' || open[1] == '%' || open[1] == '#')
            return at;
    }
    return lexer->source.length;
}

static int lex_one(struct lexer *lexer)
{
    size_t start = lexer->at, tag = find_tag(lexer, start);
    char sign = 0, kind = byte_at(lexer, tag + 1);
    if (tag == lexer->source.length) {
        int added = add_data(lexer, start, tag);
        move_to(lexer, tag);
        return added;
    }
    size_t raw = raw_tag(lexer, tag, "raw", 0, &sign);
    char after = byte_at(lexer, tag + 2);
    sign = after == '-' || after == '+' ? after : 0;
    if (!add_data(lexer, start, data_end(lexer, start, tag, sign, kind == '{')))
        return 0;
    move_to(lexer, tag);
    if (raw)
        return lex_raw(lexer, raw);
    size_t body = tag + 2 + (sign != 0);
    if (kind == '#') {
        move_to(lexer, body);
        return lex_comment(lexer);
    }
    if (!add_token(lexer, kind == '{' ? TOKEN_OUTPUT_BEGIN : TOKEN_BLOCK_BEGIN, tag, body, (struct value){0}))
        return 0;
    move_to(lexer, body);
    return lex_tag(lexer, kind == '{');
}

int template_tokenize(struct render *render, const char *source, size_t length, struct token_list *tokens)
{
    struct lexer lexer = {
        .render = render, .source = {source, length, 0}, .line = 1, .starts_line = 1, .tokens = tokens};
    while (lexer.at < length)
        if (!template_spend(render, 1) || !lex_one(&lexer))
            return 0;
    return add_token(&lexer, TOKEN_END, length, length, (struct value){0});
}
