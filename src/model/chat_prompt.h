/* From the messages of a chat to token ids: what the verbs that answer, import's own conversations and the server
 * share.
 *
 * Words of a conversation that spell a control token ("<|im_end|>") are a way to forge turns. chat_render keeps them
 * text: it looks for such spellings in all texts of the variables first. Where there is none, as in nearly every
 * conversation, the template is rendered and encoded as it is. Otherwise a sign, a letter that occurs nowhere in the
 * variables, is put into each spelling, behind its first character, so that wherever the template puts the text, and
 * whatever it cuts from it, the spelling stays broken. The signs are taken out of the rendered text again and
 * leave marks: bytes that no control token may cover when the text is encoded. So ids are those of the plain way, but
 * for the forged tokens. A text that ends with the beginning of a spelling ("<|im_") is treated alike, so that two
 * texts side by side cannot make one together. Differences remain only where a template asks for such a spelling in a
 * message, or counts a message's characters. */
#ifndef MODEL_CHAT_PROMPT_H
#define MODEL_CHAT_PROMPT_H

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "bulla/chat_template.h"
#include "bulla/tokenizer.h"

struct chat_message {
    const char *role; /* "system", "user", "assistant" */
    const char *content;
    size_t length;
};

/* The ids of a text in which spelled control tokens are tokens, with the start token in front
 * where the tokenizer wants one and the text does not begin with it. *ids is freed with
 * bulla_tokens_free. The text's own ids may be `limit`: more is BULLA_E_LIMIT. */
int chat_encode(const bulla_tokenizer *tokenizer, const char *text, size_t length, size_t limit, uint32_t **ids,
                size_t *count, bulla_error *error);

/* The ids of the messages as `chat_template` writes them at the Unix time `now`. With
 * `generation` the assistant's next turn is begun. Text of a message that spells a control token becomes
 * that token. */
int chat_encode_messages(const bulla_tokenizer *tokenizer, const bulla_chat_template *chat_template,
                         const struct chat_message *messages, size_t message_count, int generation, long long now,
                         uint32_t **ids, size_t *count, bulla_error *error);

/* A conversation as a request has it. */
struct chat_variables {
    const struct json *messages; /* array of objects */
    const struct json *tools;    /* array, or NULL */
    const struct json *more;     /* object of further variables (chat_template_kwargs), or NULL */
    int begins_answer;           /* add_generation_prompt */
    int continues_last;          /* the text ends with the last message's content */
    long long now;               /* Unix time */
};

/* A rendered conversation. */
struct chat_rendering {
    char *text; /* NUL-terminated */
    size_t length;
    size_t *marks; /* ascending offsets of bytes that no control token may cover */
    size_t mark_count;
};

/* Renders. BULLA_E_USAGE where `more` names a variable that the request has a field for; BULLA_E_INPUT where the
 * template refuses the messages, or the last one cannot be continued: it is empty, or the template changes it. */
int chat_render(const bulla_tokenizer *tokenizer, const bulla_chat_template *chat_template,
                const struct chat_variables *variables, struct chat_rendering *rendering, bulla_error *error);
void chat_rendering_free(struct chat_rendering *rendering); /* a zeroed one is fine */
/* As chat_encode, with the marks heeded. */
int chat_encode_rendering(const bulla_tokenizer *tokenizer, const struct chat_rendering *rendering, size_t limit,
                          uint32_t **ids, size_t *count, bulla_error *error);

#endif
