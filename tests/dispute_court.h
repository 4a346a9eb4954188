/* Disputes before a referee: the parties' and the referee's own code, and messages between them; in one process, but where
 * a party says that it is elsewhere (court_liar.h). */
#ifndef TESTS_DISPUTE_COURT_H
#define TESTS_DISPUTE_COURT_H

#include "check/party.h"
#include "check/referee.h"
#include "dispute_play.h"

enum { COURT_WINDOW = 100000, COURT_TURN = 1000, COURT_MOST_MESSAGES = 40 };

/* One answer of a case, known to the referee. */
struct court {
    struct dispute_case *c;
    uint32_t end_tokens;   /* the answer's last ones that are end tokens: 0 or 1 */
    uint32_t ends[3];
    enum dispute_about fault; /* of text and tokens */
    struct referee_text text;
    struct referee *referee;
    EVP_PKEY *proposer, *key;     /* key: the referee's */
    uint8_t answer[DISPUTE_HASH]; /* its id */
    struct buffer log;            /* lines */
    struct buffer registration;   /* the answer's message */
    int64_t now;
    struct dispute_facts given;
    struct party_trace shared;    /* of who is honest, where the other is not */
    unsigned answers;             /* that were registered */
    double seconds;               /* that the referee took for messages */
};
int court_open(struct court *court, struct dispute_case *c, bulla_error *error);
int court_seat(struct court *court, struct dispute_case *c, bulla_error *error); /* the same without a referee */
void court_close(struct court *court);
/* The receipt says that the answer's last token ended it; the fixture's ends are it and two others. */
void court_set_end(struct court *court);
/* Registers the answer, as another one each time. */
int court_register(struct court *court, bulla_error *error);
/* Gives the referee a message, and looks at the clock before. */
int court_post(struct court *court, const struct buffer *message, bulla_error *error);
/* The clock goes on; deadlines that passed are told. */
int court_wait(struct court *court, int64_t milliseconds, bulla_error *error);
/* The referee forgets all but its log. `starts`: and says that it was away. */
int court_restart(struct court *court, int starts, bulla_error *error);
int court_derive(struct court *court, struct arena *arena, struct dispute_facts *given, bulla_error *error);

/* A party that is elsewhere: as party_take and party_next. */
struct trial_party {
    int (*take)(void *context, const void *bytes, size_t length, bulla_error *error);
    int (*next)(void *context, struct buffer *out, bulla_error *error);
    void *context;
};

/* One dispute, and its two parties. */
struct trial {
    struct court *court;
    struct arena arena;
    EVP_PKEY *challenger;
    uint8_t id[DISPUTE_HASH];
    struct party *parties[2];               /* proposer, challenger; NULL: it is elsewhere */
    struct trial_party elsewhere[2];
    struct party_options options[2];
    struct buffer messages[COURT_MOST_MESSAGES];
    unsigned count;
    size_t bytes, largest;
};
int trial_open(struct trial *trial, struct court *court, uint64_t number, const struct trace_hook *proposer,
               const struct trace_hook *challenger, bulla_error *error);
/* The same with party `side` elsewhere; the other one is honest. */
int trial_open_with(struct trial *trial, struct court *court, uint64_t number, int side, const struct trial_party *party,
                    bulla_error *error);
/* What both parties of trial `number` are opened with: hooks of [proposer, challenger], NULL of who is honest. */
int trial_options(struct trial *trial, struct court *court, uint64_t number, const struct trace_hook *const hooks[2],
                  bulla_error *error);
void trial_close(struct trial *trial);
/* The next message of whose turn it is, not yet posted. Empty: there is none. */
int trial_next(struct trial *trial, struct buffer *message, bulla_error *error);
/* Posts it, and hands it to both parties where it was taken. */
int trial_post(struct trial *trial, const struct buffer *message, bulla_error *error);
/* All messages until the end. `restarts`: the referee and the parties begin anew between any two. */
int trial_play(struct trial *trial, int restarts, bulla_error *error);
/* "open", "proposer won", "challenger won", "moot"; *why may be NULL. Text is static. */
const char *trial_status(const struct trial *trial, const char **why);
const char *court_status(const struct court *court, const char **why);

#endif
