/* An answer's text taken apart byte by byte: thinking, text, tool calls. The state depends on the bytes so far only, so
 * it does not matter how the text is cut. What may still turn out to be part of a form is held; all else goes out when
 * a push ends or what kind of thing comes changes. */
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "serve/tool_call.h"
#include "serve/tools.h"

enum {
    MOST_BLANKS = 64, /* of white space that may belong to a form; more is text */
    MOST_MARKS = 4,
    CALL_ID_LETTERS = 24,
    MISTRAL_ID_LETTERS = 9, /* its templates raise an exception for any other number */
    CALL_ID_BYTES = 40
};

enum phase {
    PHASE_THINK_START, /* inside <think>, nothing came yet */
    PHASE_THINK,
    PHASE_START,       /* of the answer proper: white space only so far */
    PHASE_TEXT,
    PHASE_CALL_START,  /* behind a mark of Mistral's, which says not yet which of its forms follows */
    PHASE_CALL,
    PHASE_CLOSE,       /* behind a call's object: its closing mark */
    PHASE_ARRAY,       /* between two calls of an array */
    PHASE_BETWEEN,     /* behind a call: another one, or text */
    PHASES
};

enum kind { KIND_NONE, KIND_TEXT, KIND_REASONING, KIND_ARGUMENTS };

struct mark {
    const char *text;
    enum action {
        THINK_BEGINS,
        THINK_REPEATS, /* <think> although the prompt ended with it */
        THINK_ENDS,
        CALL_BEGINS,   /* an object follows */
        CALL_IS_HERE,  /* the mark's last byte is the object's first */
        CALL_AFTER_MARK, /* [TOOL_CALLS] */
        ARRAY_BEGINS,
        CALL_CLOSES,
        ARRAY_CLOSES
    } action;
};

struct marks {
    struct mark list[MOST_MARKS];
    size_t count;
};

struct output_parser {
    struct output_parser_sink sink;
    struct tool_format format;
    uint64_t seed;
    enum phase phase;
    struct marks marks[PHASES];
    struct buffer held; /* white space and what may be a mark; all of a call that has not begun */
    size_t blanks;      /* at its beginning */
    int drops_newlines; /* the answer's start follows </think> */
    int is_marked;      /* the call stands behind a mark, so it is one even without arguments */
    int in_array;
    struct tool_call call;
    size_t calls;
    enum kind kind;     /* of what waits in `out` */
    struct buffer out;
    bulla_error error;  /* the first */
};

static void feed(struct output_parser *parser, char byte);

static int is_blank(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

/* --- what goes out --- */

static void flush(struct output_parser *parser)
{
    struct answer_delta delta = {.tool = -1};
    const char *bytes = (const char *)parser->out.data;
    size_t length = parser->out.length;
    if (length == 0 || parser->out.error.code != BULLA_OK)
        return;
    if (parser->kind == KIND_TEXT) {
        delta.text = bytes;
        delta.text_length = length;
    } else if (parser->kind == KIND_REASONING) {
        delta.reasoning = bytes;
        delta.reasoning_length = length;
    } else {
        delta.tool = (int32_t)parser->calls - 1;
        delta.arguments = bytes;
        delta.arguments_length = length;
    }
    parser->sink.piece(parser->sink.context, &delta);
    buffer_clear(&parser->out);
}

static void emit(struct output_parser *parser, enum kind kind, const void *bytes, size_t length)
{
    if (length == 0)
        return;
    if (kind != parser->kind)
        flush(parser);
    parser->kind = kind;
    buffer_append(&parser->out, bytes, length);
}

static void emit_held(struct output_parser *parser, enum kind kind)
{
    emit(parser, kind, parser->held.data, parser->held.length);
    buffer_clear(&parser->held);
    parser->blanks = 0;
}

static void drop_held(struct output_parser *parser)
{
    buffer_clear(&parser->held);
    parser->blanks = 0;
}

static void write_call_id(struct output_parser *parser, char id[CALL_ID_BYTES])
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    int is_mistral = parser->format.calls == TOOL_FORMAT_MISTRAL || parser->format.calls == TOOL_FORMAT_MISTRAL_ARGS;
    uint64_t from[2] = {parser->seed, parser->calls};
    uint8_t digest[HASH_SHA256_BYTES] = {0};
    hash_sha256(from, sizeof from, digest, &parser->error);
    size_t at = 0, count = is_mistral ? MISTRAL_ID_LETTERS : CALL_ID_LETTERS;
    if (!is_mistral) {
        memcpy(id, "call_", 5);
        at = 5;
    }
    for (size_t i = 0; i < count; i++)
        id[at++] = letters[digest[i] % (sizeof letters - 1)];
    id[at] = 0;
}

static void emit_call(struct output_parser *parser)
{
    char id[CALL_ID_BYTES];
    flush(parser);
    write_call_id(parser, id);
    struct answer_delta delta = {.tool = (int32_t)parser->calls++, .tool_id = id, .tool_name = parser->call.name};
    if (parser->error.code == BULLA_OK)
        parser->sink.piece(parser->sink.context, &delta);
    parser->kind = KIND_ARGUMENTS;
}

/* --- calls --- */

/* What is held is text, and so is what follows. */
static void turn_to_text(struct output_parser *parser)
{
    emit_held(parser, KIND_TEXT);
    parser->phase = PHASE_TEXT;
    parser->in_array = 0;
}

static void begin_call(struct output_parser *parser, enum tool_call_form form)
{
    tool_call_begin(&parser->call, form);
    parser->call.knows_all_keys = !parser->is_marked;
    parser->phase = PHASE_CALL;
    parser->blanks = 0;
}

/* Behind a call's last byte, which is held where the call has not begun. */
static void finish_call(struct output_parser *parser)
{
    const struct tool_call *call = &parser->call;
    if (!call->has_begun && !call->has_arguments && !parser->is_marked) {
        turn_to_text(parser);
        return;
    }
    if (!call->has_begun) {
        emit_call(parser);
        if (call->has_arguments)
            emit(parser, KIND_ARGUMENTS, parser->held.data + parser->held.length - call->read + call->arguments_at,
                 call->arguments_length);
        else
            emit(parser, KIND_ARGUMENTS, "{}", 2);
    }
    drop_held(parser);
    parser->phase = parser->in_array ? PHASE_ARRAY
                                     : parser->format.calls == TOOL_FORMAT_HERMES ? PHASE_CLOSE : PHASE_BETWEEN;
}

static void feed_call(struct output_parser *parser, char byte)
{
    enum tool_call_step step;
    if (tool_call_byte(&parser->call, byte, &step, &parser->error) != BULLA_OK)
        return;
    if (step == TOOL_CALL_BROKEN || parser->held.length == TOOL_MOST_HELD) {
        turn_to_text(parser);
        feed(parser, byte); /* it may begin something */
        return;
    }
    if (step == TOOL_CALL_ARGUMENT || step == TOOL_CALL_LAST) {
        if (parser->kind != KIND_ARGUMENTS || parser->held.length) {
            drop_held(parser);
            emit_call(parser);
        }
        emit(parser, KIND_ARGUMENTS, &byte, 1);
    } else {
        buffer_append_byte(&parser->held, (uint8_t)byte);
    }
    if (step == TOOL_CALL_DONE || step == TOOL_CALL_LAST)
        finish_call(parser);
}

/* [TOOL_CALLS] came: an array of objects, or a name. */
static void feed_call_start(struct output_parser *parser, char byte)
{
    if (is_blank(byte) && parser->held.length < MOST_BLANKS) {
        buffer_append_byte(&parser->held, (uint8_t)byte);
        return;
    }
    parser->in_array = byte == '[';
    if (parser->in_array) {
        buffer_append_byte(&parser->held, (uint8_t)byte);
        begin_call(parser, TOOL_CALL_OBJECT);
        return;
    }
    begin_call(parser, byte == '{' ? TOOL_CALL_OBJECT : TOOL_CALL_ARGS);
    feed_call(parser, byte);
}

/* --- marks --- */

/* The mark that is spelled by `text` (NULL: none); *may_be where `text` begins one. */
static const struct mark *find_mark(const struct marks *marks, const uint8_t *text, size_t length, int *may_be)
{
    *may_be = 0;
    for (size_t i = 0; i < marks->count; i++) {
        size_t whole = strlen(marks->list[i].text);
        if (length > whole || memcmp(marks->list[i].text, text, length) != 0)
            continue;
        if (length == whole)
            return &marks->list[i];
        *may_be = 1;
    }
    return NULL;
}

static void begin_answer(struct output_parser *parser, int drops_newlines)
{
    drop_held(parser);
    parser->phase = PHASE_START;
    parser->drops_newlines = drops_newlines;
    parser->marks[PHASE_START].count -= parser->format.thinks != 0; /* <think>, the last: thinking is over */
    parser->format.thinks = 0;
}

/* A mark is whole; it is held. */
static void act(struct output_parser *parser, enum action action)
{
    switch (action) {
    case THINK_BEGINS:
    case THINK_REPEATS:
        drop_held(parser);
        parser->phase = PHASE_THINK_START;
        parser->marks[PHASE_THINK_START].count = 1;
        return;
    case THINK_ENDS:
        begin_answer(parser, 1);
        return;
    case CALL_CLOSES:
    case ARRAY_CLOSES:
        drop_held(parser);
        parser->phase = PHASE_BETWEEN;
        parser->in_array = 0;
        return;
    default:
        break;
    }
    if (parser->calls == TOOL_MOST_CALLS) {
        turn_to_text(parser);
    } else if (action == CALL_AFTER_MARK) {
        parser->phase = PHASE_CALL_START;
        parser->is_marked = 1;
    } else if (action == CALL_BEGINS) {
        parser->is_marked |= !parser->in_array;
        begin_call(parser, TOOL_CALL_OBJECT);
    } else { /* the object's brace is fed again, as its first byte */
        parser->is_marked = 0;
        parser->in_array = action == ARRAY_BEGINS;
        parser->held.length--;
        begin_call(parser, TOOL_CALL_OBJECT);
        feed_call(parser, '{');
    }
}

static int is_thinking(const struct output_parser *parser)
{
    return parser->phase == PHASE_THINK || parser->phase == PHASE_THINK_START;
}

/* What is held belongs to no form. */
static void hold_no_more(struct output_parser *parser)
{
    if (!is_thinking(parser)) {
        turn_to_text(parser);
        return;
    }
    emit_held(parser, KIND_REASONING);
    parser->phase = PHASE_THINK;
}

/* The held bytes with the one after them cannot be what the phase waits for. */
static void give_up(struct output_parser *parser)
{
    char again[MOST_BLANKS + 32];
    size_t length = parser->held.length, tail = length - parser->blanks;
    enum phase phase = parser->phase;
    if (phase == PHASE_CLOSE) { /* another call may follow without the mark that closes this one */
        memcpy(again, parser->held.data, length);
        drop_held(parser);
        parser->phase = PHASE_BETWEEN;
        for (size_t i = 0; i < length; i++)
            feed(parser, again[i]);
        return;
    }
    if (tail <= 1 && (phase == PHASE_TEXT || phase == PHASE_THINK)) {
        emit_held(parser, is_thinking(parser) ? KIND_REASONING : KIND_TEXT);
        return;
    }
    char last = (char)parser->held.data[--parser->held.length];
    hold_no_more(parser);
    feed(parser, last);
}

/* White space that may belong to a form. */
static int may_be_blank(const struct output_parser *parser, char byte)
{
    switch (parser->phase) {
    case PHASE_TEXT:
        return 0;
    case PHASE_THINK:
    case PHASE_THINK_START:
        return byte == '\n';
    default:
        return is_blank(byte);
    }
}

static void feed(struct output_parser *parser, char byte)
{
    if (parser->out.error.code != BULLA_OK || parser->held.error.code != BULLA_OK || parser->error.code != BULLA_OK)
        return;
    if (parser->phase == PHASE_CALL) {
        feed_call(parser, byte);
        return;
    }
    if (parser->phase == PHASE_CALL_START) {
        feed_call_start(parser, byte);
        return;
    }
    if (byte == '\n' && (parser->phase == PHASE_THINK_START || parser->drops_newlines) && parser->held.length == 0)
        return;
    parser->drops_newlines = 0;
    int is_blank_yet = parser->held.length == parser->blanks && may_be_blank(parser, byte);
    buffer_append_byte(&parser->held, (uint8_t)byte);
    if (parser->held.error.code != BULLA_OK)
        return;
    if (is_blank_yet && ++parser->blanks <= MOST_BLANKS)
        return;
    if (is_blank_yet) {
        hold_no_more(parser);
        return;
    }
    int may_be;
    const struct mark *mark = find_mark(&parser->marks[parser->phase], parser->held.data + parser->blanks,
                                        parser->held.length - parser->blanks, &may_be);
    if (mark)
        act(parser, mark->action);
    else if (!may_be)
        give_up(parser);
}

/* --- the calls of others --- */

static void add_mark(struct output_parser *parser, enum phase phase, const char *text, enum action action)
{
    struct marks *marks = &parser->marks[phase];
    marks->list[marks->count++] = (struct mark){text, action};
}

static void add_call_marks(struct output_parser *parser)
{
    static const enum phase phases[] = {PHASE_START, PHASE_TEXT, PHASE_BETWEEN};
    for (size_t i = 0; i < sizeof phases / sizeof phases[0]; i++)
        switch (parser->format.calls) {
        case TOOL_FORMAT_HERMES:
            add_mark(parser, phases[i], "<tool_call>", CALL_BEGINS);
            break;
        case TOOL_FORMAT_LLAMA3:
            add_mark(parser, phases[i], "<|python_tag|>", CALL_BEGINS);
            break;
        case TOOL_FORMAT_MISTRAL:
        case TOOL_FORMAT_MISTRAL_ARGS:
            add_mark(parser, phases[i], "[TOOL_CALLS]", CALL_AFTER_MARK);
            break;
        default:
            break;
        }
    if (parser->format.calls == TOOL_FORMAT_HERMES) {
        add_mark(parser, PHASE_CLOSE, "</tool_call>", CALL_CLOSES);
    } else if (parser->format.calls == TOOL_FORMAT_LLAMA3) {
        add_mark(parser, PHASE_START, "{", CALL_IS_HERE);
        add_mark(parser, PHASE_BETWEEN, "{", CALL_IS_HERE);
        add_mark(parser, PHASE_BETWEEN, ";", CALL_BEGINS);
    } else if (parser->format.calls == TOOL_FORMAT_MISTRAL) {
        add_mark(parser, PHASE_START, "[{", ARRAY_BEGINS);
    }
    add_mark(parser, PHASE_ARRAY, ",", CALL_BEGINS);
    add_mark(parser, PHASE_ARRAY, "]", ARRAY_CLOSES);
}

int output_parser_open(const struct tool_format *format, int takes_tools, int is_thinking, uint64_t seed,
                       const struct output_parser_sink *sink, struct output_parser **result, bulla_error *error)
{
    struct output_parser *parser = memory_alloc(1, sizeof *parser, error);
    if (!parser)
        return BULLA_E_MEMORY;
    parser->sink = *sink;
    parser->format = *format;
    parser->format.thinks = format->thinks || is_thinking;
    parser->seed = seed;
    parser->phase = is_thinking ? PHASE_THINK_START : PHASE_START;
    if (takes_tools && format->calls != TOOL_FORMAT_NONE)
        add_call_marks(parser);
    add_mark(parser, PHASE_THINK_START, "</think>", THINK_ENDS);
    add_mark(parser, PHASE_THINK_START, "<think>", THINK_REPEATS);
    add_mark(parser, PHASE_THINK, "</think>", THINK_ENDS);
    if (parser->format.thinks)
        add_mark(parser, PHASE_START, "<think>", THINK_BEGINS);
    if (parser->phase == PHASE_START && parser->marks[PHASE_START].count == 0)
        parser->phase = PHASE_TEXT;
    *result = parser;
    return BULLA_OK;
}

static int first_error(const struct output_parser *parser, bulla_error *error)
{
    const bulla_error *errors[] = {&parser->error, &parser->out.error, &parser->held.error};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (errors[i]->code != BULLA_OK)
            return bulla_fail(error, errors[i]->code, "%s", errors[i]->text);
    return BULLA_OK;
}

/* Bytes at the front of `text` that are plainly text: none that begins a mark. */
static size_t plain_length(const struct output_parser *parser, const char *text, size_t length)
{
    const struct marks *marks = &parser->marks[PHASE_TEXT];
    if (parser->phase != PHASE_TEXT || parser->held.length)
        return 0;
    const char *mark = marks->count ? memchr(text, marks->list[0].text[0], length) : NULL; /* there is at most one */
    return mark ? (size_t)(mark - text) : length;
}

int output_parser_push(struct output_parser *parser, const char *text, size_t length, bulla_error *error)
{
    for (size_t at = 0; at < length;) {
        size_t plain = plain_length(parser, text + at, length - at);
        emit(parser, KIND_TEXT, text + at, plain);
        at += plain;
        if (at < length)
            feed(parser, text[at++]);
    }
    flush(parser);
    return first_error(parser, error);
}

int output_parser_end(struct output_parser *parser, bulla_error *error)
{
    int is_blank_only = parser->held.length == parser->blanks;
    switch (parser->phase) {
    case PHASE_CALL: /* the end of one that had its arguments is not missed */
        is_blank_only = parser->call.has_begun;
        break;
    case PHASE_START:
    case PHASE_TEXT:
    case PHASE_CALL_START:
        is_blank_only = 0;
        break;
    default:
        break;
    }
    if (is_blank_only)
        drop_held(parser);
    else
        emit_held(parser, is_thinking(parser) ? KIND_REASONING : KIND_TEXT);
    flush(parser);
    return first_error(parser, error);
}

size_t output_parser_calls(const struct output_parser *parser)
{
    return parser->calls;
}

void output_parser_close(struct output_parser *parser)
{
    if (!parser)
        return;
    buffer_free(&parser->held);
    buffer_free(&parser->out);
    memory_free(parser);
}
