/* Receipts: what a server signs about one answer, so that anyone can check it later. docs/receipt.md has the format and a
 * hundred lines of Python that verify it.
 *
 * A receipt is an object of JSON in canonical form (RFC 8785) and its Ed25519 signature over "bulla-receipt-v1\n" and
 * those bytes:
 *
 *     {"receipt": {...}, "signature": "<base64>"}
 *
 * Output is covered by a hash chain, one for each choice: each step takes what was delivered together, token ids and
 * bytes, so that any prefix of a stream can be checked as it comes, and a signed end shows a truncation. Hashes of
 * content are salted with 32 bytes that only the client gets: whoever sees the receipt alone learns nothing of it. */
#ifndef TRUST_RECEIPT_H
#define TRUST_RECEIPT_H

#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/hash.h"
#include "base/json.h"
#include "bulla/error.h"

enum { RECEIPT_VERSION = 1, RECEIPT_HASH = 32, RECEIPT_ID = 16, RECEIPT_SALT = 32, RECEIPT_KEY = 32, RECEIPT_SIGNATURE = 64,
       RECEIPT_MOST_CHOICES = 2048 };

/* ---- The chain ---- */

/* What was delivered together of one choice. */
enum receipt_part {
    RECEIPT_CONTENT = 1,   /* text of the answer */
    RECEIPT_REASONING = 2, /* text of the thinking before it */
    RECEIPT_TOOL_CALL = 3, /* name of a call, a zero byte, its id */
    RECEIPT_ARGUMENTS = 4, /* of the call last begun */
    RECEIPT_FINISH = 5     /* the finish reason; always the last step */
};

/* "content", ...; NULL where it is none. */
const char *receipt_part_name(enum receipt_part part);
/* 0 where there is no part of that name. */
enum receipt_part receipt_part_find(const char *name);

/* chain = SHA-256("bulla-chain-v1" || salt || choice as u32). Integers are little-endian. */
int receipt_chain_start(const uint8_t salt[RECEIPT_SALT], uint32_t choice, uint8_t chain[RECEIPT_HASH], bulla_error *error);
/* chain = SHA-256(chain || part as u32 || count of ids as u32 || ids as u32 each || length of bytes as u64 || bytes). */
int receipt_chain_step(uint8_t chain[RECEIPT_HASH], enum receipt_part part, const uint32_t *ids, size_t id_count,
                       const void *bytes, size_t length, bulla_error *error);
/* The same for who makes many: `stream` is at the start of a message, and is so again afterwards. */
int receipt_chain_step_with(struct hash_stream *stream, uint8_t chain[RECEIPT_HASH], enum receipt_part part,
                            const uint32_t *ids, size_t id_count, const void *bytes, size_t length, bulla_error *error);
/* SHA-256("bulla-request-v1" || salt || bytes), of the request's body as it came. */
int receipt_request_hash(const uint8_t salt[RECEIPT_SALT], const void *body, size_t length, uint8_t hash[RECEIPT_HASH],
                         bulla_error *error);
/* SHA-256("bulla-prompt-v1" || salt || ids as u32 each), of the prompt's tokens. */
int receipt_prompt_hash(const uint8_t salt[RECEIPT_SALT], const uint32_t *ids, size_t count, uint8_t hash[RECEIPT_HASH],
                        bulla_error *error);

/* Of several prompts: SHA-256("bulla-prompts-v1" || salt || the prompts' hashes); of one the hash itself. */
int receipt_prompts_hash(const uint8_t salt[RECEIPT_SALT], const uint8_t (*prompts)[RECEIPT_HASH], size_t count,
                         uint8_t hash[RECEIPT_HASH], bulla_error *error);
/* SHA-256("bulla-parameter-v1" || salt || canonical JSON), of a member of the request. */
int receipt_parameter_hash(const uint8_t salt[RECEIPT_SALT], const struct json *value, uint8_t hash[RECEIPT_HASH],
                           bulla_error *error);

/* ---- The receipt ---- */

struct receipt_choice {
    uint64_t tokens;
    uint8_t chain[RECEIPT_HASH]; /* after its last step */
    const char *finish;          /* "stop", "length", "tool_calls" */
};

/* Texts and arrays are the caller's, or of the arena that receipt_read took. */
struct receipt {
    uint8_t id[RECEIPT_ID];
    int64_t time;                      /* Unix seconds */
    const char *backend;               /* "native", or "upstream" */
    const char *engine;                /* of an upstream: its name and address as configured; NULL for native */
    int is_simulated;                  /* the evidence is */
    uint8_t model_root[RECEIPT_HASH];  /* native; zeros for an upstream */
    uint8_t adapter_root[RECEIPT_HASH]; /* zeros: none */
    uint32_t program_version;
    uint8_t tokenizer[RECEIPT_HASH], chat_template[RECEIPT_HASH]; /* SHA-256; zeros where there is none */
    uint8_t request[RECEIPT_HASH], prompt[RECEIPT_HASH];
    uint64_t prompt_tokens, output_tokens;
    const struct json *parameters;     /* object: everything in effect after defaults */
    const char *parameters_text;       /* or the same as canonical JSON, when writing */
    const struct receipt_choice *choices;
    size_t choice_count;
    uint8_t evidence[RECEIPT_HASH];    /* SHA-256 of the evidence's document, canonical; zeros: none */
    uint8_t policy[RECEIPT_HASH];      /* that the server publishes; zeros: none */
    const char *retention;             /* "none": nothing of the answer is kept */
    uint8_t key[RECEIPT_KEY];          /* that signs it */
};

/* The receipt's canonical bytes. */
void receipt_write(const struct receipt *receipt, struct buffer *out);
/* The whole: {"receipt":...,"signature":...}. */
int receipt_sign(const struct receipt *receipt, EVP_PKEY *key, struct buffer *out, bulla_error *error);
/* Reads it strictly: a member more or less, or one out of its form, is an error. *signed_part gets the canonical bytes of
 * the member "receipt" (of the arena). Says nothing about the signature. */
int receipt_read(const struct json *value, struct arena *arena, struct receipt *receipt, struct buffer *signed_part,
                 uint8_t signature[RECEIPT_SIGNATURE], bulla_error *error);
/* What is signed: a domain of its own, and the canonical bytes. */
void receipt_write_message(const void *bytes, size_t length, struct buffer *out);
/* Whether the signature is that of the receipt's own key. */
int receipt_signature_holds(const struct receipt *receipt, const struct buffer *signed_part,
                            const uint8_t signature[RECEIPT_SIGNATURE]);
/* What the log's leaf holds: SHA-256 of the whole signed receipt in canonical form. */
int receipt_hash(const struct json *value, uint8_t hash[RECEIPT_HASH], bulla_error *error);

#endif
