/* The parties of disputes as programs: what `bulla dispute respond` and `challenge` do (check/party.h does the thinking). */
#ifndef CLI_DISPUTING_H
#define CLI_DISPUTING_H

#include "check/party.h"
#include "check/referee.h"
#include "cli/dispute_carrier.h"
#include "serve/auditor.h"

int disputing_read_key(const char *text, uint8_t key[DISPUTE_KEY], bulla_error *error); /* in hex */

struct disputing_options {
    const char *model;                /* as model_cache_open */
    unsigned threads;
    EVP_PKEY *key;
    const char *referee, *ca;         /* URL or folder; certificates, or NULL */
    const uint8_t *referee_key;       /* that signs its statements; NULL: not checked */
    const char *stake;
    const struct trace_hook *hook;    /* tests: a liar's; NULL */
    int (*edit)(void *context, enum dispute_kind kind, struct buffer *body); /* tests; NULL */
    void *edit_context;
};

struct disputing;
int disputing_open(const struct disputing_options *options, struct disputing **disputing, bulla_error *error);
void disputing_close(struct disputing *disputing); /* NULL is fine */

/* Vouches for the answers of these receipt documents, and answers all challenges until each is final or overturned. Tells
 * on standard output how they stand. BULLA_E_INPUT where one was overturned. */
int disputing_respond(struct disputing *disputing, const char *const *paths, size_t count, bulla_error *error);

struct disputing_challenge {
    const char *path;            /* of the receipt's document */
    const uint8_t *proposer;     /* whose answer it is */
    int64_t choice;              /* -1: the one that the audit finds */
    int is_unaudited;            /* challenges whatever an audit would say */
    enum dispute_about about;    /* 0: as text and tokens say */
};
/* Audits the answer; where it is not what its receipt says, challenges it and plays to the end. *is_right: nothing was
 * challenged, since the answer is what the receipt says. BULLA_E_INPUT where the challenge was lost. */
int disputing_run_challenge(struct disputing *disputing, const struct disputing_challenge *challenge, int *is_right,
                            bulla_error *error);

/* ---- What they share (disputing.c) ---- */

/* One answer, as a party knows it. */
struct disputing_answer {
    struct buffer document;      /* canonical */
    struct referee_receipt receipt;
    uint8_t id[DISPUTE_HASH];
    struct arena arena;
    const struct json *state;    /* the statement's answer, of the last look; NULL: the referee knows none */
};
int disputing_read_answer(struct disputing *disputing, const char *path, const uint8_t proposer[DISPUTE_KEY],
                          struct disputing_answer *answer, bulla_error *error);
int disputing_look(struct disputing *disputing, struct disputing_answer *answer, bulla_error *error);
void disputing_free_answer(struct disputing_answer *answer);
/* What is known of one choice, for all disputes about it. Zero-initialise. */
struct disputing_facts {
    int is_derived;
    struct arena arena;
    struct dispute_facts facts;
    struct party_trace trace;
};
void disputing_free_facts(struct disputing_facts *facts);
/* One dispute's messages are followed, and the own next one is sent. */
struct disputing_party {
    struct party *party;         /* NULL: text and tokens are not right, and it is settled by that */
    uint8_t id[DISPUTE_HASH];
    uint64_t sent;               /* 1 + number of the last message that was taken */
    char why[DISPUTE_WHY];       /* the last one was not */
};
int disputing_open_party(struct disputing *disputing, const struct disputing_answer *answer, uint32_t choice,
                         const uint8_t proposer[DISPUTE_KEY], struct disputing_facts *facts, struct disputing_party *party,
                         bulla_error *error); /* `facts` outlive it */
int disputing_turn(struct disputing *disputing, struct disputing_party *party, bulla_error *error);
void disputing_close_party(struct disputing_party *party);
const char *disputing_text(const struct json *object, const char *name); /* "" where there is none */
void disputing_wait(void);

struct disputing {
    struct disputing_options options;
    struct buffer path;          /* of the model's file */
    bulla_model *model;
    struct trace_model *tree;    /* NULL until a trace is needed */
    struct import_executor executor;
    struct dispute_text *text;
    struct dispute_carrier *carrier;
};

#endif
