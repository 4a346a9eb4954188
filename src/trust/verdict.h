/* What a verification found: a list of checks, each passed, failed or not made, with the field it is about, what was
 * found and what was expected. Checking code stays straight: it states one check after another, and whoever asked
 * looks at the list.
 *
 * A check's name says what it is about, in the words of the format ("snp.report.signature"); tests delete checks one by
 * one and name the one that has to refuse. */
#ifndef TRUST_VERDICT_H
#define TRUST_VERDICT_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "bulla/verify.h"

/* Zero-initialise; verdict_free ends it. */
struct verdict {
    struct arena arena;   /* of the checks' texts, and for whoever verifies: it lives as long as the verdict */
    bulla_check *checks; /* in the order in which they were stated */
    size_t count, capacity;
    bulla_check lost;    /* what is stated where memory is short */
    bulla_error error;    /* then; such a verdict never passes */
    int lacks;            /* what had to be checked was not: nor does such a one */
};

void verdict_free(struct verdict *verdict);

/* What callers of bulla/verify.h have. */
struct bulla_verdict {
    struct verdict verdict;
};

/* Each states one check and gives whether it passed. */
int verdict_holds(struct verdict *verdict, const char *name, int holds, const char *expected, const char *found, ...)
    __attribute__((format(printf, 5, 6)));
/* The same where there is no more to say of what was found than whether it is that. */
int verdict_is(struct verdict *verdict, const char *name, int holds, const char *expected);
int verdict_same_bytes(struct verdict *verdict, const char *name, const void *found, size_t found_length,
                       const void *expected, size_t expected_length); /* compared in constant time, shown in hex */
int verdict_same_number(struct verdict *verdict, const char *name, uint64_t found, uint64_t expected);
int verdict_at_least(struct verdict *verdict, const char *name, uint64_t found, uint64_t least);
/* A failed check, with what was wrong in one sentence. Always 0. */
int verdict_fails(struct verdict *verdict, const char *name, const char *found, ...) __attribute__((format(printf, 3, 4)));
void verdict_not_made(struct verdict *verdict, const char *name, const char *why, ...)
    __attribute__((format(printf, 3, 4)));
/* Belongs to the check that was stated last. */
void verdict_advise(struct verdict *verdict, const char *advice, ...) __attribute__((format(printf, 2, 3)));

/* At least one check was made and none failed. */
int verdict_passed(const struct verdict *verdict);
/* The check of this name that was stated last, or NULL. */
const bulla_check *verdict_find(const struct verdict *verdict, const char *name);

/* A line a check (verdict_text.c). */
void verdict_write_text(const struct verdict *verdict, struct buffer *out);
/* {"passed": bool, "checks": [{"name", "state", "found", "expected", "advice"}]}, canonical. */
void verdict_write_json(const struct verdict *verdict, struct buffer *out);

#endif
