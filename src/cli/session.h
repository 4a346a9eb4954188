/* What the verbs that answer share: a model opened with its engine and chat
 * template, and prompts as token ids. */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/engine.h"
#include "bulla/model.h"
#include "model/chat_prompt.h"

struct session {
    bulla_model *model;
    bulla_engine *engine;
    bulla_chat_template *chat_template; /* NULL where the model has none */
    double load_seconds;                /* mapping, checking, recomputing the root, and an import where there was one */
};

/* `options` for the engine (NULL: defaults); its threads serve the load too. `path` as for
 * model_cache_open. session_close ends it, also after an error. */
int session_open(const char *path, const bulla_engine_options *options, struct session *session, bulla_error *error);
void session_close(struct session *session); /* a zeroed session is fine */

struct session_prompt {
    uint32_t *ids; /* free with session_prompt_free */
    size_t count;
};

/* The messages through the model's chat template, ready for the assistant's turn. The start token stands
 * in front where the tokenizer wants one and the template wrote none. Text of a message that spells a
 * control token becomes that token, as with every engine that renders before it encodes.
 * BULLA_E_INPUT naming the byte where a message is not UTF-8. */
int session_chat_prompt(const struct session *session, const struct chat_message *messages, size_t count,
                        struct session_prompt *prompt, bulla_error *error);
/* `text` as it is, any bytes, with the start token in front where the tokenizer wants one; spelled
 * control tokens become tokens. */
int session_raw_prompt(const struct session *session, const char *text, size_t length, struct session_prompt *prompt,
                       bulla_error *error);
void session_prompt_free(struct session_prompt *prompt);

#endif
