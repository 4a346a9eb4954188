/* How models call tools and think aloud, which their chat templates show (docs/tools.md tables the forms): Hermes and
 * Qwen (<tool_call>{"name","arguments"}</tool_call>), Llama 3 ({"name","parameters"}, <|python_tag|>), Mistral
 * ([TOOL_CALLS][{"name","arguments"}] and the later [TOOL_CALLS]name[ARGS]{...}); thinking between <think> and
 * </think>.
 * Two sides: the grammar that forces a call, and the parser that takes an answer's text apart as it streams. */
#ifndef SERVE_TOOLS_H
#define SERVE_TOOLS_H

#include "base/buffer.h"
#include "serve/backend.h"

enum {
    TOOL_MOST_CALLS = 128,      /* of one answer; what looks like more of them is text */
    TOOL_MOST_NAME = 256,       /* bytes of a called tool's name */
    TOOL_MOST_HELD = 16 * 1024, /* bytes of a call that has not shown both its name and where its arguments begin */
    TOOL_MOST_FORCED = 16       /* calls that a grammar lets an answer make */
};

struct tool_format {
    enum {
        TOOL_FORMAT_NONE,
        TOOL_FORMAT_HERMES,
        TOOL_FORMAT_LLAMA3,
        TOOL_FORMAT_MISTRAL,
        TOOL_FORMAT_MISTRAL_ARGS
    } calls;
    int thinks; /* text between <think> and </think> is reasoning */
};

/* By what the Jinja source holds. NONE: the template does not take tools, or writes calls in a form that is not one of
 * these. */
struct tool_format tool_format_detect(const char *chat_template, size_t length);
/* Whether a control token spelled like this belongs to the form of a call. Control tokens are no part of an answer's
 * text; those for which this is true are given to output_parser_push as their spelling, in their place. */
int tool_format_is_mark(const struct tool_format *format, const char *spelling, size_t length);

/* Appends the grammar's specification (exec/grammar.h) for tool_choice "required" or a named tool: one call or, with
 * `parallel`, several, each with arguments that its schema accepts. `named` is NULL for any tool. `tools`: as in struct
 * answer_request. BULLA_E_UNSUPPORTED where the format has no calls, BULLA_E_USAGE where no tool has the name. */
int tool_format_grammar(const struct tool_format *format, const struct json *tools, const char *named, int parallel,
                        struct buffer *specification, bulla_error *error);
/* Appends the specification of the arguments of one function, {"name", "parameters"}, as a forced call has them.
 * BULLA_E_USAGE where the parameters are no JSON schema of an object. */
int tool_arguments_grammar(const struct json *function, struct buffer *specification, bulla_error *error);
/* The specification of an answer that thinks before what `inner`, another specification, demands: as far as </think>
 * where the prompt ended inside of it (`is_thinking`), else, where the format thinks, with a block of thinking or
 * without. */
int tool_format_grammar_thinking(const struct tool_format *format, int is_thinking, const char *inner, size_t length,
                                 struct buffer *specification, bulla_error *error);

/* Takes one choice's text apart. */
struct output_parser;
struct output_parser_sink {
    void *context;
    /* delta: text, reasoning or a tool's piece is set; choice, tokens and logprobs are the caller's. A call's first
     * piece has id and name and no arguments. */
    void (*piece)(void *context, const struct answer_delta *delta);
};
/* `takes_tools`: whether calls are looked for. `is_thinking`: the prompt ended inside <think>. `seed`: what call
 * ids are made from, so that the same answer has the same ids: "call_" and 24 letters and digits, or for Mistral's
 * templates, which take no other, 9 of these. */
int output_parser_open(const struct tool_format *format, int takes_tools, int is_thinking, uint64_t seed,
                       const struct output_parser_sink *sink, struct output_parser **parser, bulla_error *error);
/* Text that may be the beginning of a mark is held back; a call that breaks off before its arguments begin comes out as
 * text. However the text is cut into pushes, all pieces of a kind together are the same. */
int output_parser_push(struct output_parser *parser, const char *text, size_t length, bulla_error *error);
int output_parser_end(struct output_parser *parser, bulla_error *error);
/* Tool calls so far: finish reason "tool_calls" where > 0. */
size_t output_parser_calls(const struct output_parser *parser);
void output_parser_close(struct output_parser *parser); /* NULL is fine */

#endif
