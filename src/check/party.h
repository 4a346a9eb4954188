/* A party of one dispute: proposer or challenger, honest. It follows the messages of the dispute as the referee took them,
 * and says the next one when it is its turn; what it says follows from the messages and the model alone, so it may be opened
 * again with the same messages at any time. No clock, no carrier. */
#ifndef CHECK_PARTY_H
#define CHECK_PARTY_H

#include "check/dispute_path.h"
#include "check/trace.h"

/* The trace of one choice of one answer, for parties of several disputes about it, in turns. Their `given` is one, which
 * outlives it. Zero-initialise. */
struct party_trace {
    struct trace *trace;
    uint32_t *tokens; /* that it is of */
    /* The proposer's: how the answer ended. */
    int has_end;
    uint32_t end, range_position, range_operation;
};
void party_trace_close(struct party_trace *shared); /* when no party uses it any more */

struct party_options {
    EVP_PKEY *key;              /* the own one */
    const uint8_t *proposer;    /* the proposer's public key */
    const struct trace_model *model;
    const struct import_executor *executor;
    struct party_trace *shared; /* NULL: of its own */
    const struct trace_hook *hook; /* tests: a liar's; NULL */
    int (*edit)(void *context, enum dispute_kind kind, struct buffer *body); /* tests: changes what is said; NULL */
    void *edit_context;
};

struct party;

/* `given` with its allowed sets, and what the options name, must outlive it. `answer`, `choice`: what the dispute is about. */
int party_open(const struct party_options *options, const struct dispute_facts *given, const uint8_t answer[DISPUTE_HASH],
               uint32_t choice, struct party **party, bulla_error *error);
void party_close(struct party *party); /* NULL is fine */
/* The next message of the dispute, from its challenge on, also the own ones. BULLA_E_INPUT for one that is none. */
int party_take(struct party *party, const void *bytes, size_t length, bulla_error *error);
/* Appends the own next message to `out` where it is the own turn; else nothing. It counts when it is taken. */
int party_next(struct party *party, struct buffer *out, bulla_error *error);
uint64_t party_number(const struct party *party); /* of the next message */
/* PATH_GOES_ON, or who lost by the messages so far; *why says it. */
enum path_result party_result(const struct party *party, const char **why);
const struct dispute_path *party_path(const struct party *party);

/* First messages; *id is the answer's, the dispute's. `document`: canonical JSON. */
int party_write_answer(EVP_PKEY *key, const uint8_t receipt[DISPUTE_HASH], const struct buffer *document, const char *stake,
                       struct buffer *out, uint8_t id[DISPUTE_HASH], bulla_error *error);
int party_write_challenge(EVP_PKEY *key, const uint8_t answer[DISPUTE_HASH], uint32_t choice, enum dispute_about about,
                          const uint8_t nonce[DISPUTE_HASH], const char *stake, struct buffer *out, uint8_t id[DISPUTE_HASH],
                          bulla_error *error);
/* Of two signed things, as canonical JSON. */
int party_write_equivocation(EVP_PKEY *key, const uint8_t answer[DISPUTE_HASH], const struct buffer *first,
                             const struct buffer *second, struct buffer *out, bulla_error *error);

#endif
