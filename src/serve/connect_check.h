/* One answer, checked as it comes: every event against the hash chain, its text against the client's own, and at the end
 * the signed receipt against all of it, the request and what the evidence binds (docs/receipt.md has the format,
 * docs/connect.md what is checked). Pure: no network, no files, no time. Whatever the server sends, an event is handed on
 * only where a step of the chain covers everything that it delivers.
 *
 *   connect_check.c     steps, chains, the document that is kept
 *   connect_chunks.c    events and bodies of /v1/chat/completions and /v1/completions
 *   connect_items.c     events and bodies of /v1/responses
 *   connect_receipt.c   the receipt;  connect_parameters.c  its parameters */
#ifndef SERVE_CONNECT_CHECK_H
#define SERVE_CONNECT_CHECK_H

#include "base/json.h"
#include "trust/binding.h"
#include "trust/receipt.h"

enum connect_form { CONNECT_CHAT, CONNECT_COMPLETION, CONNECT_RESPONSE };

/* Why something is not verified. */
struct connect_problem {
    char check[64];  /* "receipt.signature"; "" while nothing is wrong */
    char text[900];  /* a sentence */
};

/* Records the first problem. Always BULLA_E_INPUT, so that callers can return it. */
int connect_fail(struct connect_problem *problem, const char *check, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What verified evidence binds. */
struct connect_pin {
    uint8_t receipt_key[BINDING_BYTES];
    uint8_t models[MOST_MODELS][BINDING_BYTES];
    size_t model_count;
    int is_simulated;
};

/* What was asked for; all of it must outlive the check. */
struct connect_asked {
    enum connect_form form;
    const void *body; /* as it was sent */
    size_t length;
    const struct json *json; /* the same, an object */
};

enum connect_event {
    CONNECT_PASS,  /* hand it on */
    CONNECT_LAST,  /* it has the receipt: to be held back until that is verified */
    CONNECT_DONE,  /* [DONE]; nothing to hand on by itself */
    CONNECT_FAILED /* the server's own error: the answer ends here, and not well */
};

struct connect_check;

/* `id` and `salt` are the answer's headers, NULL where they are missing. */
int connect_check_open(const struct connect_asked *asked, const char *id, const char *salt, struct connect_check **check,
                       struct connect_problem *problem);
void connect_check_close(struct connect_check *check); /* NULL is fine */

/* One event's data. `out` gets it without what was added for checking: of CONNECT_PASS and CONNECT_FAILED an object, of
 * CONNECT_LAST an object without its closing brace, so that connect_check_seal can add to it. After an error no
 * other call but connect_check_close makes sense, and `out` is not to be handed on. */
int connect_check_event(struct connect_check *check, const char *data, size_t length, struct buffer *out,
                        enum connect_event *event, struct connect_problem *problem);
/* A body that is no stream; `out` as of CONNECT_LAST. */
int connect_check_whole(struct connect_check *check, const char *body, size_t length, struct buffer *out,
                        struct connect_problem *problem);
/* The last event's type, of responses; NULL for other forms. Valid until the next event. */
const char *connect_check_type(const struct connect_check *check);
/* Whether a stream may end here: its receipt came, and of chats and completions [DONE]. */
int connect_check_ended(const struct connect_check *check);
/* Appends ,"bulla":{"receipt":PATH,"verified":true}} (`path` NULL: without). */
void connect_check_seal(struct buffer *out, const char *path);

/* The receipt that came last: everything but its log and its evidence. */
int connect_check_receipt(struct connect_check *check, const struct connect_pin *pin, struct connect_problem *problem);

/* Once the receipt is verified: */
const struct receipt *connect_check_get(const struct connect_check *check);
const uint8_t *connect_check_leaf(const struct connect_check *check); /* the entry of the log, 32 bytes */
const struct json *connect_check_log(const struct connect_check *check); /* the document's member "log"; NULL: none */
/* The receipt document with the evidence (canonical JSON; NULL: without) and, where `with_transcript`, the texts. */
void connect_check_write(const struct connect_check *check, const char *evidence, size_t length, int with_transcript,
                         struct buffer *out);

#endif
