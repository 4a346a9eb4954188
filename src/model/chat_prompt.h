/* From the messages of a chat to token ids: what the verbs that answer and import's
 * own conversations share. */
#ifndef MODEL_CHAT_PROMPT_H
#define MODEL_CHAT_PROMPT_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/chat_template.h"
#include "bulla/tokenizer.h"

struct chat_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
    size_t length;
};

/* The ids of a text in which spelled control tokens are tokens, with the start token in front
 * where the tokenizer wants one and the text does not begin with it. *ids is freed with
 * bulla_tokens_free. */
int chat_encode(const bulla_tokenizer *tokenizer, const char *text, size_t length, uint32_t **ids, size_t *count,
                bulla_error *error);

/* The ids of the messages as `chat_template` writes them at the Unix time `now`. With
 * `generation` the assistant's next turn is begun. */
int chat_encode_messages(const bulla_tokenizer *tokenizer, const bulla_chat_template *chat_template,
                         const struct chat_message *messages, size_t message_count, int generation, long long now,
                         uint32_t **ids, size_t *count, bulla_error *error);

#endif
