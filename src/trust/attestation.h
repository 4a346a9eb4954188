/* A server's evidence: its attester, its standing evidence, and fresh evidence for whoever asks with a nonce.
 *
 * The standing evidence is made when the attestation is opened, with a nonce of the server's own, and again each half hour
 * and when the models change; receipts name it by its hash. Earlier ones stay findable, ATTESTATION_KEPT of them. Verifiers
 * often take evidence of an hour: so it is renewed well before, and too old after twice that time (attestation_is_old).
 *
 * Quotes are made by a thread of the attestation's own, one at a time. Whatever nonces wait when it is free are the leaves
 * of one Merkle tree and share one quote, whose binding has the root (trust/binding.h, "nonce_path"): so a TPM that takes
 * a second a quote answers a thousand askers in the next. No quote answers a nonce that came after it was begun. */
#ifndef TRUST_ATTESTATION_H
#define TRUST_ATTESTATION_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "bulla/error.h"
#include "trust/attester.h"

enum {
    ATTESTATION_HASH = 32,
    ATTESTATION_KEPT = 64,           /* standing documents that can be found */
    ATTESTATION_MOST_WAITING = 2048, /* nonces; more are refused */
    ATTESTATION_SECONDS = 1800,      /* between renewals */
    ATTESTATION_MOST_EXTENSION = 60000 /* bytes: TLS clients take certificates of 64 KiB and more, but not much more */
};

struct attestation;

/* What happens, for a log; on the attestation's thread. `reason` is a sentence or NULL; `hash` the standing document's. */
enum attestation_event {
    ATTESTATION_RENEWED,       /* there is new standing evidence */
    ATTESTATION_NOT_RENEWED,   /* there is none; the one before stays */
    ATTESTATION_NOT_QUOTED,    /* askers got an error */
    ATTESTATION_OLD_COLLATERAL, /* the collateral's file cannot be read any more: what it said before stays */
    ATTESTATION_LACKS           /* once, at the start: something that evidence of this machine will not have */
};
typedef void (*attestation_told)(void *context, const struct attester *attester, enum attestation_event event,
                                 const uint8_t hash[ATTESTATION_HASH], const char *reason);

/* Copied but for the texts and tables that attester_options points at. */
struct attestation_options {
    const char *attester;        /* NULL: the one that the machine has, and none is an error; "none": no evidence at all */
    const struct attester *own;  /* instead, where it is not NULL */
    struct attester_options machine;
    const uint8_t *tls_key;      /* SHA-256 of the SubjectPublicKeyInfo; NULL: zeros, for a server without TLS */
    const uint8_t *receipt_key;  /* Ed25519; NULL: zeros */
    const char *policy;          /* that the server publishes; NULL: none */
    size_t policy_length;
    const uint8_t (*models)[32]; /* roots, in any order; none stand for one of zeros, as that of an upstream's model */
    size_t model_count;
    const char *collateral;      /* file: an object of JSON with members for the documents, read again when it changes */
    int makes_extension;         /* for certificates: attestation_extension */
    unsigned renewal_seconds;    /* 0: ATTESTATION_SECONDS */
    unsigned most_waiting;       /* 0: ATTESTATION_MOST_WAITING */
    uint64_t (*clock)(void);     /* nanoseconds, which pass while the machine sleeps too; NULL: the system's */
    attestation_told told;       /* NULL: nobody is told */
    void *context;
};

/* Returns at once: the standing evidence is made on the thread. */
int attestation_open(const struct attestation_options *options, struct attestation **attestation, bulla_error *error);
/* Those who wait are told that it ends. NULL is fine. */
void attestation_close(struct attestation *attestation);

/* Whether the first standing evidence is there: 0 while it is being made, 1, or -1 with the reason in `error` where it
 * failed. 1 with the attester "none". */
int attestation_is_ready(struct attestation *attestation, bulla_error *error);
/* Whether the standing evidence could not be renewed for so long that it is too old: clients will refuse it. It can be had all
 * the same, since an old one is better than none. */
int attestation_is_old(struct attestation *attestation);
/* The standing document (canonical JSON), and its hash: SHA-256 of it. `document` may be NULL. BULLA_E_UNSUPPORTED: this
 * server has no evidence. */
int attestation_standing(struct attestation *attestation, uint8_t hash[ATTESTATION_HASH], struct buffer *document,
                         bulla_error *error);
/* A standing document of this process by its hash; BULLA_E_INPUT where there is none, or it is not kept any more. */
int attestation_find(struct attestation *attestation, const uint8_t hash[ATTESTATION_HASH], struct buffer *document,
                     bulla_error *error);

/* What a certificate of the TLS key has in its extension for evidence (trust/ra_tls.h): an Intel quote over the key alone, as
 * other RA-TLS clients read it, and else the standing document. Made anew with the standing evidence. */
int attestation_extension(struct attestation *attestation, struct buffer *extension, bulla_error *error);

/* The two ends of a document, which all whom one quote serves have in common: megabytes are not copied for each. Freed when
 * all who hold it have released it; from any thread. */
struct attestation_ends;
void attestation_ends_hold(struct attestation_ends *ends);
void attestation_ends_release(struct attestation_ends *ends); /* NULL is fine */
const void *attestation_ends_head(const struct attestation_ends *ends, size_t *length);
const void *attestation_ends_tail(const struct attestation_ends *ends, size_t *length);

/* Called once, on the attestation's own thread. The document is the ends with `middle` between them, which is the asker's
 * own; both are of the call unless they are held. */
typedef void (*attestation_done)(void *context, struct attestation_ends *ends, const char *middle, size_t length,
                                 const bulla_error *error);
/* Asks for evidence bound to the nonce; returns at once. An error, without a call of `done`: BULLA_E_LIMIT where too many
 * wait, BULLA_E_UNSUPPORTED where this server has no evidence. */
int attestation_quote(struct attestation *attestation, const uint8_t nonce[32], attestation_done done, void *context,
                      bulla_error *error);
/* Takes back what was asked for with this context, and gives its place to others. 0: its quote is under way, and `done` will
 * be called; or it was already. */
int attestation_cancel(struct attestation *attestation, const void *context);

/* The models that are served now. Where they are others than before, the standing evidence is made anew. */
int attestation_set_models(struct attestation *attestation, const uint8_t (*models)[32], size_t count, bulla_error *error);

/* Whether the standing evidence binds this model root: receipts of others' answers would name evidence that says nothing of
 * them. 1 with the attester "none". */
int attestation_binds(struct attestation *attestation, const uint8_t root[32]);

const struct attester *attestation_attester(const struct attestation *attestation); /* NULL: "none" */
int attestation_is_simulated(const struct attestation *attestation);
/* SHA-256 of the policy's canonical JSON; zeros: none is published. */
const uint8_t *attestation_policy_hash(const struct attestation *attestation);
/* The policy as it is published (canonical JSON); NULL: none. */
const char *attestation_policy(const struct attestation *attestation, size_t *length);
uint64_t attestation_quotes(struct attestation *attestation); /* tried so far */

#endif
