/* What is delivered of an answer, as the steps of its receipt (docs/receipt.md, "Steps"). Who answers and who audits the
 * answer make them from the same deltas. */
#ifndef SERVE_API_STEPS_H
#define SERVE_API_STEPS_H

#include "base/buffer.h"
#include "serve/backend.h"
#include "trust/receipt.h"

/* `is_plain`: an event that delivers the step says its bytes itself. The bytes are valid during the call. */
typedef void (*api_take_step)(void *context, size_t choice, enum receipt_part part, const char *bytes, size_t length,
                              int is_plain);

/* Zero but for `take` and `context`; api_steps_free ends it. */
struct api_steps {
    api_take_step take;
    void *context;
    struct buffer text;  /* of a step that is put together; what is wrong with it is looked at in the end */
    uint32_t *last_call; /* of each choice: 1 + the call that went on last; 0: none */
};

int api_steps_open(struct api_steps *steps, size_t choices, bulla_error *error);
void api_steps_free(struct api_steps *steps);
/* The prompt that a completion echoes before all else. */
void api_steps_echo(struct api_steps *steps, size_t choice, const char *text, size_t length);
/* Its tokens belong to the first of the steps, or where it gives none to the choice's next one. */
void api_steps_delta(struct api_steps *steps, size_t choice, const struct answer_delta *delta);
/* `word`: the finish reason as the API calls it; `stop`: the stop reason, or NULL. */
void api_steps_finish(struct api_steps *steps, size_t choice, const char *word, const char *stop);

#endif
