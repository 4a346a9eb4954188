/* SHA-256 (FIPS 180-4), by OpenSSL's libcrypto, which picks the fastest code
 * that the processor has. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"

enum { HASH_SHA256_BYTES = 32 };

/* The digest of one message. Costs a look-up of the algorithm on each call: many
 * small messages go faster through one stream. */
int hash_sha256(const void *data, size_t length, uint8_t digest[HASH_SHA256_BYTES], bulla_error *error);

/* One message after another, each given in pieces. Used by one thread at a time. */
struct hash_stream;

/* NULL, with the error recorded, when memory is short. A new stream is at the
 * start of a message. */
struct hash_stream *hash_stream_open(bulla_error *error);
/* More bytes of the message. Keeps its first error for hash_stream_finish. */
void hash_stream_update(struct hash_stream *stream, const void *data, size_t length);
/* The message's digest; the stream is at the start of the next message, also
 * after an error. */
int hash_stream_finish(struct hash_stream *stream, uint8_t digest[HASH_SHA256_BYTES], bulla_error *error);
void hash_stream_close(struct hash_stream *stream); /* NULL is fine */

#endif
