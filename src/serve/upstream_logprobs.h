/* The log probabilities that come with a piece of an answer, in both of OpenAI's forms: chat's
 * {"content":[{"token","logprob","bytes","top_logprobs":[...]}]}, and completions'
 * {"tokens":[...],"token_logprobs":[...],"top_logprobs":[{token: logprob}]}. */
#ifndef SERVE_UPSTREAM_LOGPROBS_H
#define SERVE_UPSTREAM_LOGPROBS_H

#include "base/arena.h"
#include "serve/backend.h"

struct upstream_logprob {
    struct answer_logprob logprob;
    struct answer_logprob *top; /* [top_count] */
    size_t top_count;
};

struct upstream_logprobs {
    struct upstream_logprob *tokens; /* [count] */
    size_t count;
};

/* `value` may be NULL or JSON's null: none. BULLA_E_INPUT: it has another form; BULLA_E_MEMORY. */
int upstream_logprobs_read(const struct json *value, struct arena *arena, struct upstream_logprobs *logprobs,
                           bulla_error *error);

#endif
