/* An answer_sink that writes what it is told as lines of text, so that a test compares one string:
 *
 *     0 text "Hel"            choice, what, bytes
 *     0 reasoning "hm"
 *     0 tool 1 id "call_1" name "f" arguments "{"
 *     0 logprob "Hel" -0.250 top "Hel" -0.250 "Hal" -2.000
 *     0 finish stop
 *     embedding 0.500 -1.000
 *     end 5 prompt 2 cached 7 output 1 reasoning
 *     fail 502 server_error upstream_broken 0 the upstream's ... */
#ifndef TESTS_ANSWER_LOG_H
#define TESTS_ANSWER_LOG_H

#include <string.h>

#include "base/buffer.h"
#include "serve/backend.h"

struct answer_log {
    struct buffer text;
    unsigned deltas, ends; /* `ends`: calls of end and fail */
    void (*on_delta)(struct answer_log *log); /* or NULL; after the delta was written */
    void (*on_end)(struct answer_log *log);   /* or NULL */
    void *context;                            /* of these two */
};

static inline void answer_log_quote(struct buffer *out, const char *text, size_t length)
{
    buffer_append_byte(out, '"');
    buffer_append(out, text, length);
    buffer_append_byte(out, '"');
}

static inline void answer_log_delta(void *context, const struct answer_delta *delta)
{
    struct answer_log *log = context;
    struct buffer *out = &log->text;
    if (delta->text_length) {
        buffer_append_format(out, "%u text ", delta->choice);
        answer_log_quote(out, delta->text, delta->text_length);
        buffer_append_byte(out, '\n');
    }
    if (delta->reasoning_length) {
        buffer_append_format(out, "%u reasoning ", delta->choice);
        answer_log_quote(out, delta->reasoning, delta->reasoning_length);
        buffer_append_byte(out, '\n');
    }
    if (delta->tool >= 0) {
        buffer_append_format(out, "%u tool %d", delta->choice, (int)delta->tool);
        if (delta->tool_id)
            buffer_append_format(out, " id \"%s\"", delta->tool_id);
        if (delta->tool_name)
            buffer_append_format(out, " name \"%s\"", delta->tool_name);
        buffer_append_text(out, " arguments ");
        answer_log_quote(out, delta->arguments, delta->arguments_length);
        buffer_append_byte(out, '\n');
    }
    if (delta->logprob) {
        buffer_append_format(out, "%u logprob ", delta->choice);
        answer_log_quote(out, delta->logprob->token, delta->logprob->length);
        buffer_append_format(out, " %.3f", delta->logprob->logprob);
        for (size_t i = 0; i < delta->top_count; i++) {
            buffer_append_text(out, i ? " " : " top ");
            answer_log_quote(out, delta->top[i].token, delta->top[i].length);
            buffer_append_format(out, " %.3f", delta->top[i].logprob);
        }
        buffer_append_byte(out, '\n');
    }
    log->deltas++;
    if (log->on_delta)
        log->on_delta(log);
}

static inline void answer_log_finish(void *context, uint32_t choice, const char *reason, const char *stop)
{
    struct answer_log *log = context;
    buffer_append_format(&log->text, "%u finish %s", choice, reason);
    if (stop)
        buffer_append_format(&log->text, " at \"%s\"", stop);
    buffer_append_byte(&log->text, '\n');
}

static inline void answer_log_embedding(void *context, const float *values, size_t count)
{
    struct answer_log *log = context;
    buffer_append_text(&log->text, "embedding");
    for (size_t i = 0; i < count; i++)
        buffer_append_format(&log->text, " %.3f", (double)values[i]);
    buffer_append_byte(&log->text, '\n');
}

static inline void answer_log_end(void *context, const struct answer_usage *usage)
{
    struct answer_log *log = context;
    buffer_append_format(&log->text, "end %d prompt %d cached %d output %d reasoning\n", (int)usage->prompt_tokens,
                         (int)usage->cached_tokens, (int)usage->output_tokens, (int)usage->reasoning_tokens);
    log->ends++;
    if (log->on_end)
        log->on_end(log);
}

static inline void answer_log_fail(void *context, const struct answer_error *error)
{
    struct answer_log *log = context;
    buffer_append_format(&log->text, "fail %d %s %s %u %s\n", error->status, error->type,
                         error->code ? error->code : "-", error->retry_after, error->message);
    log->ends++;
    if (log->on_end)
        log->on_end(log);
}

static inline struct answer_sink answer_log_sink(struct answer_log *log)
{
    return (struct answer_sink){log, answer_log_delta, answer_log_finish, answer_log_embedding, answer_log_end,
                                answer_log_fail, NULL};
}

static inline const char *answer_log_text(const struct answer_log *log)
{
    return log->text.length > 0 ? (const char *)log->text.data : "";
}

static inline void answer_log_clear(struct answer_log *log)
{
    buffer_free(&log->text);
    memset(log, 0, sizeof *log);
}

#endif
