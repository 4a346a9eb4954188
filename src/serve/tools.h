/* How models call tools and think aloud, which their chat templates show: Hermes and Qwen
 * (<tool_call>{"name","arguments"}</tool_call>), Llama 3 ({"name","parameters"}, <|python_tag|>), Mistral ([TOOL_CALLS][...]),
 * and Bulla's own form for templates that support none of these but take tools; thinking between <think> and </think>.
 * Two sides: the grammar that forces a call, and the parser that takes an answer's text apart as it streams. */
#ifndef SERVE_TOOLS_H
#define SERVE_TOOLS_H

#include "base/buffer.h"
#include "serve/backend.h"

struct tool_format {
    enum { TOOL_FORMAT_NONE, TOOL_FORMAT_HERMES, TOOL_FORMAT_LLAMA3, TOOL_FORMAT_MISTRAL } calls;
    int thinks; /* text between <think> and </think> is reasoning */
};

/* By what the Jinja source holds. NONE: the template does not take tools. */
struct tool_format tool_format_detect(const char *chat_template, size_t length);

/* Appends the grammar's specification (exec/grammar.h) for tool_choice "required" or a named tool: one call or, with
 * `parallel`, several, each with arguments that its schema accepts. BULLA_E_UNSUPPORTED where the format has none. */
int tool_format_grammar(const struct tool_format *format, const struct json *tools, const char *named, int parallel,
                        struct buffer *specification, bulla_error *error);

/* Takes one choice's text apart. */
struct output_parser;
struct output_parser_sink {
    void *context;
    /* delta: text, reasoning or a tool's piece is set; choice, tokens and logprobs are the caller's. */
    void (*piece)(void *context, const struct answer_delta *delta);
};
/* `takes_tools`: whether calls are looked for. `is_thinking`: the prompt ended inside <think>. `seed`: what call
 * ids are made from, so that the same answer has the same ids ("call_" and 24 letters and digits). */
int output_parser_open(const struct tool_format *format, int takes_tools, int is_thinking, uint64_t seed,
                       const struct output_parser_sink *sink, struct output_parser **parser, bulla_error *error);
/* Text that may be the beginning of a mark is held back; a call whose JSON is broken comes out as text in the end. */
int output_parser_push(struct output_parser *parser, const char *text, size_t length, bulla_error *error);
int output_parser_end(struct output_parser *parser, bulla_error *error);
size_t output_parser_calls(const struct output_parser *parser); /* tool calls so far: finish reason "tool_calls" where > 0 */
void output_parser_close(struct output_parser *parser); /* NULL is fine */

#endif
