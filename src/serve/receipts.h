/* Receipts as they are issued (docs/receipt.md): the salt, the chains and the hashes of one answer while it comes, and at
 * its end the signed receipt, which goes to the log. Nothing here knows HTTP or the API.
 *
 * All calls happen on the event base's thread. A log says on a thread of its own that a receipt is durable; who waits for
 * that is told on the event base's. */
#ifndef SERVE_RECEIPTS_H
#define SERVE_RECEIPTS_H

#include <openssl/evp.h>

#include "trust/receipt.h"

struct event_base;
struct receipts;      /* a server's */
struct receipt_issue; /* of one answer */

/* `inclusion` is the document's member "log", canonical JSON, of the call; `error` NULL: the receipt is durable. On any
 * thread, once for each append that was taken. */
typedef void (*receipts_logged)(void *context, const char *inclusion, size_t length, const bulla_error *error);

/* Where receipts are logged. */
struct receipts_log {
    void *context;
    /* `receipt` is copied. Receipts become leaves in the order of the calls. */
    int (*append)(void *context, const uint8_t id[RECEIPT_ID], const void *receipt, size_t length, receipts_logged done,
                  void *done_context, bulla_error *error);
    /* The signed receipt and its "log" of now. *is_found 0: there is none of that id. */
    int (*find)(void *context, const uint8_t id[RECEIPT_ID], struct buffer *receipt, struct buffer *inclusion,
                int *is_found, bulla_error *error);
    const char *folder; /* its files, as C2SP tlog-tiles names them; NULL: none to show */
    const char *key;    /* its verifier key, "NAME+HEXID+BASE64" */
};

/* What binds the receipts' key; NULL functions: this server has no evidence. */
struct receipts_evidence {
    void *context;
    /* Of the standing document. */
    int (*standing)(void *context, uint8_t hash[RECEIPT_HASH], uint8_t policy[RECEIPT_HASH], int *is_simulated,
                    bulla_error *error);
    /* A document by its hash. *is_found 0: it is not kept (any more). */
    int (*find)(void *context, const uint8_t hash[RECEIPT_HASH], struct buffer *document, int *is_found, bulla_error *error);
};

struct receipts_options {
    EVP_PKEY *key; /* Ed25519, the caller's; it must outlive the receipts */
    struct receipts_log log;
    struct receipts_evidence evidence;
};

/* Texts of the options must outlive the receipts. */
int receipts_open(struct event_base *base, const struct receipts_options *options, struct receipts **receipts,
                  bulla_error *error);
/* When no answer issues any more and the log was closed, so that nobody is told of anything. NULL is fine. */
void receipts_close(struct receipts *receipts);
const struct receipts_log *receipts_log_of(const struct receipts *receipts);
/* Appends the document of that id; the evidence too where it is wanted and kept. *is_found 0: there is none. */
int receipts_find(struct receipts *receipts, const uint8_t id[RECEIPT_ID], int wants_evidence, struct buffer *out,
                  int *is_found, bulla_error *error);

/* Begins one: draws id and salt and hashes the request's body. */
int receipt_issue_open(struct receipts *receipts, size_t choices, const void *body, size_t length,
                       struct receipt_issue **issue, bulla_error *error);
/* Also while the log has it: it is logged all the same, and nobody is told. NULL is fine. */
void receipt_issue_close(struct receipt_issue *issue);
const uint8_t *receipt_issue_id(const struct receipt_issue *issue);
const uint8_t *receipt_issue_salt(const struct receipt_issue *issue);

/* The calls that follow keep the first error for receipt_issue_submit.
 *
 * The tokens of one prompt; several are told of in any order, each with its number. */
void receipt_issue_prompt(struct receipt_issue *issue, size_t number, const uint32_t *ids, size_t count);
/* Tokens that a choice drew: they go with its next step. `ids` NULL: the backend knows none. */
void receipt_issue_tokens(struct receipt_issue *issue, size_t choice, const uint32_t *ids, size_t count);
void receipt_issue_step(struct receipt_issue *issue, size_t choice, enum receipt_part part, const void *bytes, size_t length);
/* After the step RECEIPT_FINISH; the reason is a constant. */
void receipt_issue_end(struct receipt_issue *issue, size_t choice, const char *finish);

/* The step that was made last: for who passes it on. `ids` until the choice's next call. */
struct receipt_step {
    enum receipt_part part;
    const uint32_t *ids;
    size_t id_count;
    const uint8_t *chain; /* RECEIPT_HASH */
};
struct receipt_step receipt_issue_last(const struct receipt_issue *issue);

/* What the receipt says beside the above. */
struct receipt_facts {
    const char *backend, *engine;  /* engine NULL: none */
    const uint8_t *model_root, *tokenizer, *chat_template; /* 32 bytes each, or NULL */
    uint32_t program_version;
    uint64_t prompt_tokens, output_tokens; /* where no prompt was told of, so that the tokens are not known one by one */
    const char *parameters;        /* canonical JSON */
    const char *retention;
};

/* Signs it and appends it to the log. `done` is called once, later, on the event base's thread: `document` is the receipt
 * document without evidence, or NULL with the error. After an error here it is not called. */
typedef void (*receipt_done)(void *context, const struct buffer *document, const bulla_error *error);
int receipt_issue_submit(struct receipt_issue *issue, const struct receipt_facts *facts, receipt_done done, void *context,
                         bulla_error *error);

#endif
