/* Documents of evidence made of the files of ../shared/vectors, for tests. */
#ifndef TESTS_EVIDENCE_DOCUMENT_H
#define TESTS_EVIDENCE_DOCUMENT_H

#include "base/buffer.h"
#include "bulla/verify.h"

/* "2025-06-01" or "2025-06-01T12:00:00Z" in Unix seconds. */
int64_t evidence_time(const char *text);
/* The folder of a vendor's vectors ($BULLA_SHARED/vectors/NAME), NULL where there is none: the test is skipped. */
const char *evidence_folder(const char *name);
/* A file of it; fails the test where it is not there. memory_free. */
uint8_t *evidence_file(const char *folder, const char *name, size_t *length);

/* `{"bulla_evidence": 1, "type": TYPE`, to be followed by members and `}`. */
void evidence_begin(struct buffer *document, const char *type);
void evidence_add_bytes(struct buffer *document, const char *member, const void *bytes, size_t length); /* base64 */
void evidence_add_texts(struct buffer *document, const char *member, const char *const *texts, size_t count);

/* The verdict on a document under a policy at a time; fails the test where there is none. */
bulla_verdict *evidence_judge(const struct buffer *document, const char *policy, int64_t time);
/* The state of the check that was stated last under that name ("pass", "fail", "not checked"), or "" where it was not
 * stated. The text lives until the next call. */
const char *evidence_state(const bulla_verdict *verdict, const char *check);
/* The names of failed checks, separated by blanks. The text lives until the next call. */
const char *evidence_failures(const bulla_verdict *verdict);
/* Verifies a document that passes with each of its allocations failing in turn; fails the test where it passes then. How many
 * there were. */
uint64_t evidence_fail_allocations(const struct buffer *document, const char *policy, int64_t time);

#endif
