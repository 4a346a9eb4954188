/* Inside the referee: its state. */
#ifndef CHECK_REFEREE_INTERNAL_H
#define CHECK_REFEREE_INTERNAL_H

#include "check/referee.h"

enum { REFEREE_BUCKETS = 4096, REFEREE_MOST_MESSAGES = 32 /* of a dispute */, REFEREE_STAKE = 128 };

enum answer_status { ANSWER_PENDING, ANSWER_FINAL, ANSWER_OVERTURNED }; /* pending with an open dispute is "disputed" */
enum dispute_status { DISPUTE_OPEN, DISPUTE_PROPOSER_WON, DISPUTE_CHALLENGER_WON, DISPUTE_MOOT };

struct referee_dispute {
    uint8_t id[DISPUTE_HASH], key[DISPUTE_KEY];
    struct referee_answer *answer;
    struct referee_dispute *next;           /* of the answer */
    struct referee_dispute *next_in_bucket;
    uint32_t choice;
    enum dispute_about about;
    char stake[REFEREE_STAKE];
    enum dispute_status status;
    char why[DISPUTE_WHY];
    int64_t time, deadline, ended;
    uint8_t last[DISPUTE_HASH];             /* hash of the last message */
    uint64_t entries[REFEREE_MOST_MESSAGES];
    uint64_t number;                        /* of the next message */
    uint64_t bytes;                         /* of all messages */
    struct arena arena;                     /* while it is open: */
    struct dispute_facts given;
    struct dispute_path *path;
};

struct referee_claim {
    int is_there;
    uint8_t hash[DISPUTE_HASH]; /* of root, end and range */
};

struct referee_answer {
    uint8_t id[DISPUTE_HASH], proposer[DISPUTE_KEY];
    struct referee_receipt receipt;
    struct referee_answer *next;            /* in the order in which they came */
    struct referee_answer *next_in_bucket;
    char stake[REFEREE_STAKE];
    enum answer_status status;
    char why[DISPUTE_WHY];
    uint8_t winner[DISPUTE_KEY];            /* overturned: whose doing */
    int64_t time, deadline, ended;
    uint64_t entry;
    char *document;                         /* while it is pending */
    size_t document_length;
    struct referee_claim *claims;           /* [receipt.choices] */
    struct referee_dispute *disputes, **last_dispute;
    uint32_t open;                          /* disputes */
};

struct referee {
    const struct referee_text *text;
    uint8_t key[DISPUTE_KEY];
    uint8_t (*proposers)[DISPUTE_KEY];
    size_t proposer_count;
    int64_t window, turn, time;
    uint64_t entries;
    struct referee_answer *answers, **last_answer, *answer_buckets[REFEREE_BUCKETS];
    struct referee_dispute *dispute_buckets[REFEREE_BUCKETS];
};

struct referee_answer *referee_find_answer(const struct referee *referee, const uint8_t id[DISPUTE_HASH]);
struct referee_dispute *referee_find_dispute(const struct referee *referee, const uint8_t id[DISPUTE_HASH]);
/* Ends an open dispute, and what follows for its answer. */
void referee_end(struct referee_dispute *dispute, enum dispute_status status, const char *why, int64_t time);
/* Ends an answer that is pending, and its open disputes. `winner`: a key, or NULL. */
void referee_overturn(struct referee_answer *answer, const uint8_t *winner, const char *why, int64_t time);
/* A message of kind DISPUTE_EQUIVOCATION. */
int referee_take_equivocation(struct referee *referee, const struct dispute_message *message, int64_t time, bulla_error *error);
/* What a claim says, as one hash. BULLA_E_INPUT where it is none. */
int referee_claim_hash(const struct json *body, uint8_t hash[DISPUTE_HASH], bulla_error *error);

#endif
