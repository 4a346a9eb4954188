/* Messages of disputes (docs/dispute.md): canonical JSON (RFC 8785), signed with Ed25519. A message is a file, a body of a
 * request and an entry of the referee's log alike, byte for byte.
 *
 *     {"message": {"body": {...}, "dispute": HEX, "key": HEX, "kind": NAME, "number": N, "previous": HEX,
 *                  "protocol": "bulla-dispute-v1"}, "signature": BASE64}
 *
 * The signature is that of `key` over "bulla-dispute-v1", a line feed, and the canonical JSON of `message`; a message's hash
 * is SHA-256 of these same bytes. */
#ifndef CHECK_DISPUTE_MESSAGE_H
#define CHECK_DISPUTE_MESSAGE_H

#include <openssl/evp.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/hash.h"
#include "base/json.h"

enum {
    DISPUTE_HASH = 32,
    DISPUTE_KEY = 32,
    DISPUTE_MOST_MESSAGE = 64 << 10,  /* bytes of any message */
    DISPUTE_MOST_DOCUMENT = 2 << 20   /* but of those with a receipt's document */
};
#define DISPUTE_PROTOCOL "bulla-dispute-v1"

enum dispute_kind {
    DISPUTE_ANSWER = 1,   /* proposer: an answer, for which it vouches; `dispute` is the answer's id */
    DISPUTE_CHALLENGE,    /* challenger: its first message */
    DISPUTE_CLAIM,        /* proposer: the trace's root, and how the answer ended */
    DISPUTE_CHOICE,       /* challenger: where to go on */
    DISPUTE_REVEAL,       /* proposer: hashes */
    DISPUTE_ARRAYS,       /* proposer: roots of a cell's arrays */
    DISPUTE_BLOCK,        /* proposer: a block's bytes */
    DISPUTE_OPENING,      /* proposer: what a step reads */
    DISPUTE_WITHDRAWAL,   /* challenger: there is nothing to dispute */
    DISPUTE_EQUIVOCATION, /* anyone: two things that one key signed and that cannot both be */
    DISPUTE_KINDS
};
const char *dispute_kind_name(int kind); /* "answer", ...; NULL where it is none */

/* What a challenge is about. All but the trace is settled when the challenge comes, by text and tokens alone. */
enum dispute_about { DISPUTE_TRACE = 1, DISPUTE_PROMPT, DISPUTE_PARAMETERS, DISPUTE_DELIVERY, DISPUTE_ABOUTS };
const char *dispute_about_name(int about); /* "trace", ...; NULL where it is none */

struct dispute_message {
    enum dispute_kind kind;
    uint8_t dispute[DISPUTE_HASH], previous[DISPUTE_HASH]; /* previous: zeros in a first one */
    uint8_t key[DISPUTE_KEY];
    uint64_t number;          /* in its dispute, from 0 */
    const struct json *body;
    uint8_t hash[DISPUTE_HASH];
};

/* BULLA_E_INPUT where it is no message, not in canonical form, or not signed by its key. */
int dispute_message_read(const void *bytes, size_t length, struct arena *arena, struct dispute_message *message,
                         bulla_error *error);
/* Signs a message: all of it but `body`, `key` and `hash` is taken, the latter two are set. `body` is canonical JSON. Appends to
 * `out`. */
int dispute_message_write(struct dispute_message *message, const struct buffer *body, EVP_PKEY *key, struct buffer *out,
                          bulla_error *error);
int dispute_public_key(EVP_PKEY *key, uint8_t public_key[DISPUTE_KEY], bulla_error *error);

/* SHA-256("bulla-dispute-answer-v1" || the receipt's hash || the proposer's key) */
int dispute_answer_id(const uint8_t receipt[DISPUTE_HASH], const uint8_t proposer[DISPUTE_KEY], uint8_t id[DISPUTE_HASH],
                      bulla_error *error);
/* SHA-256("bulla-dispute-v1" || the answer's id || choice u32 || the challenger's key || nonce) */
int dispute_id(const uint8_t answer[DISPUTE_HASH], uint32_t choice, const uint8_t challenger[DISPUTE_KEY],
               const uint8_t nonce[DISPUTE_HASH], uint8_t id[DISPUTE_HASH], bulla_error *error);

/* Members of a body; 0 where they are not so. */
int dispute_get_hash(const struct json *object, const char *name, uint8_t hash[DISPUTE_HASH]); /* in hex */
int dispute_get_number(const struct json *object, const char *name, uint64_t limit, uint64_t *number); /* below limit */
int dispute_get_bytes(const struct json *object, const char *name, uint8_t *bytes, size_t most, size_t *length); /* base64 */
/* `,"name":"HEX"` and the like, without the comma where `out` ends in '{'. Names must come in order. */
void dispute_put_name(struct buffer *out, const char *name);
void dispute_put_hex(struct buffer *out, const char *name, const uint8_t *bytes, size_t length);
void dispute_put_bytes(struct buffer *out, const char *name, const void *bytes, size_t length);
void dispute_put_number(struct buffer *out, const char *name, uint64_t number);
void dispute_put_text(struct buffer *out, const char *name, const char *text);

/* {"signature": BASE64, WHAT: TEXT}: `text` is canonical JSON, signed with `context` and a line feed before it. WHAT comes
 * before or after `signature` as its letters do. */
int dispute_sign(const char *context, const char *what, const struct buffer *text, EVP_PKEY *key, struct buffer *out,
                 bulla_error *error);
/* Whether value.signature is the key's over value.WHAT. */
int dispute_is_signed(const char *context, const struct json *value, const char *what, const uint8_t key[DISPUTE_KEY],
                      uint8_t hash[DISPUTE_HASH]);

#endif
