/* What a receipt document says of an answer (docs/receipt.md), read for an audit. That it is signed, and that the transcript
 * is what was signed, is checked by bulla_verify_receipt; here it is only what someone says. */
#ifndef CHECK_CLAIM_H
#define CHECK_CLAIM_H

#include "trust/receipt.h"

struct claim_step {
    enum receipt_part part;
    const char *text;
    size_t length;
    size_t id_count; /* tokens that it delivers */
};

struct claim_choice {
    const struct claim_step *steps;
    size_t step_count;
    const uint32_t *tokens; /* of all steps, in the order in which they were drawn */
    size_t token_count;
    const char *finish;     /* the reason */
    const char *stop;       /* the stop reason, or NULL */
};

/* All of it lives in the arena that claim_read took. */
struct claim {
    struct receipt receipt;
    uint8_t salt[RECEIPT_SALT];
    const void *request;   /* the body as sent; NULL: the transcript has none that is bytes */
    size_t request_length;
    const struct claim_choice *choices; /* [receipt.choice_count]; NULL: there is no transcript */
};

/* BULLA_E_INPUT where the document is not as bulla_verify_receipt demands. */
int claim_read(const char *document, size_t length, struct arena *arena, struct claim *claim, bulla_error *error);

#endif
