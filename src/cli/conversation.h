/* A conversation with a model: messages so far, and the engine's sequence that
 * holds their keys and values, so that a turn computes only what is new. */
#ifndef CLI_CONVERSATION_H
#define CLI_CONVERSATION_H

#include "base/buffer.h"
#include "cli/session.h"
#include "exec/generate.h"

struct conversation_message {
    int is_answer; /* the model's; else the user's */
    struct buffer text;
};

struct conversation {
    const struct session *session;
    bulla_sampling sampling;
    uint64_t max_tokens;
    uint32_t speculate;    /* struct generate_request's */
    int always_speculates; /* too */
    int keeps_sequence; /* 0: every turn is computed from its first token, for tests */

    char *system; /* NULL: none */
    struct conversation_message *messages;
    size_t message_count, message_capacity;

    bulla_sequence *sequence; /* NULL: none */
    uint64_t first_sampled;   /* it was opened with */
    struct buffer held;       /* ids of its positions, u32 each */
};

/* What a turn came to. */
struct conversation_turn {
    enum generate_finish finish;
    int is_full; /* the context: nothing was answered, the message is not part of the conversation */
    size_t prompt_tokens, output_tokens;
    uint64_t computed_tokens; /* of the prompt */
    uint64_t range_position;
    uint32_t range_operation;
};

struct conversation_output {
    /* Text as it comes, in whole characters; non-zero cancels. */
    int (*on_text)(void *context, const char *text, size_t length);
    int (*is_cancelled)(void *context); /* may be NULL */
    void *context;
};

void conversation_begin(struct conversation *conversation, const struct session *session);
void conversation_end(struct conversation *conversation);
/* Forgets the messages; the system message stays. */
void conversation_reset(struct conversation *conversation);
/* An empty text: no system message. */
int conversation_set_system(struct conversation *conversation, const char *text, size_t length, bulla_error *error);

/* One turn: the user's text, the model's answer. A cancelled answer stays as far as it got. After an error
 * the conversation is as it was before. */
int conversation_say(struct conversation *conversation, const char *text, size_t length,
                     const struct conversation_output *output, struct conversation_turn *turn, bulla_error *error);

#endif
