/* Signed notes (C2SP signed-note) and the cosignatures of witnesses (C2SP tlog-cosignature): a text of whole lines, an
 * empty line, and signature lines, each "— NAME BASE64" of four bytes of key id and the signature.
 *
 * Sources: c2sp.org/signed-note, c2sp.org/tlog-cosignature. */
#ifndef TRUST_NOTE_H
#define TRUST_NOTE_H

#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "bulla/error.h"

enum note_algorithm {
    NOTE_ED25519 = 1,     /* over the text */
    NOTE_COSIGNATURE = 4  /* Ed25519 over "cosignature/v1\ntime SECONDS\n" and the text; the time stands before it */
};

enum { NOTE_NAME = 128, NOTE_KEY_BYTES = 32, NOTE_SIGNATURE_BYTES = 64, MOST_NOTE_BYTES = 1 << 20, MOST_NOTE_SIGNATURES = 100,
       NOTE_ID_BYTES = 4, NOTE_TIME_BYTES = 8 };
#define NOTE_DASH "\xe2\x80\x94 " /* U+2014 and a blank: how a signature line begins */

struct note_key {
    char name[NOTE_NAME];
    enum note_algorithm algorithm;
    uint8_t key[NOTE_KEY_BYTES]; /* public */
};

/* The id that stands before a signature: the first four bytes of SHA-256(name || "\n" || algorithm || key). */
int note_key_id(const struct note_key *key, uint8_t id[4], bulla_error *error);
/* "NAME+HEXID+BASE64": a verifier key as logs and witnesses publish it. */
int note_key_read(const char *text, size_t length, struct note_key *key, bulla_error *error);
void note_key_write(const struct note_key *key, struct buffer *out);

/* One signature that holds. */
struct note_signature {
    const struct note_key *key;
    uint64_t time; /* NOTE_COSIGNATURE: Unix seconds */
};

struct note {
    const char *text; /* of the note that was opened, with the newline at its end */
    size_t length;
    struct note_signature signatures[MOST_NOTE_SIGNATURES]; /* of the keys that were given; each key once */
    size_t count;
};

/* Reads a note and checks the signatures of those keys; others' are passed over. An error: it is malformed, or a known
 * key's signature is wrong. That none of the keys signed it is not one: look at `count`. */
int note_open(const char *bytes, size_t length, const struct note_key *keys, size_t key_count, struct note *note,
              bulla_error *error);

/* The bytes that a key signs, into an empty buffer. */
void note_write_message(enum note_algorithm algorithm, uint64_t time, const char *text, size_t length, struct buffer *out);
/* Appends a signature line; `out` holds the text and its empty line, or such a note with signatures already. `time`
 * counts for NOTE_COSIGNATURE. */
int note_sign(const char *text, size_t length, const struct note_key *key, EVP_PKEY *private_key, uint64_t time,
              struct buffer *out, bulla_error *error);

#endif
