/* Files that the kernel makes up as they are read: their length is not known before. */
#ifndef TRUST_ATTESTER_KERNEL_FILE_H
#define TRUST_ATTESTER_KERNEL_FILE_H

#include "base/buffer.h"
#include "bulla/error.h"

/* All of it, at most `most` bytes. With `may_be_absent` a file that is not there is empty. */
int kernel_file_read(const char *path, size_t most, int may_be_absent, struct buffer *out, bulla_error *error);
/* In one piece, to a file that is there. */
int kernel_file_write(const char *path, const void *bytes, size_t length, bulla_error *error);

/* `,"NAME":"BASE64"` */
void document_add_bytes(struct buffer *out, const char *name, const void *bytes, size_t length);

#endif
