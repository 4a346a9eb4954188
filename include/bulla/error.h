/* Errors, as every Bulla call reports them.
 *
 * A call that can fail returns `int`: BULLA_OK (0), or one of the codes below
 * after writing a sentence into the caller's `bulla_error`. The sentence names
 * the thing that is wrong (file, field, tensor, offset), what was found, what
 * was expected and, where there is one, the next step for the person.
 *
 * Library code never prints, exits or aborts.
 */
#ifndef BULLA_ERROR_H
#define BULLA_ERROR_H

#include <stdarg.h>

enum bulla_code {
    BULLA_OK = 0,
    BULLA_E_INPUT,       /* data from outside is malformed or contradicts itself */
    BULLA_E_UNSUPPORTED, /* well-formed, but something Bulla does not do */
    BULLA_E_RANGE,       /* a value left a bound of the canonical program (docs/canonical.md) */
    BULLA_E_LIMIT,       /* a documented limit: context length, depth, size */
    BULLA_E_MEMORY,      /* an allocation failed */
    BULLA_E_IO,          /* the operating system refused a file or socket operation */
    BULLA_E_USAGE,       /* the caller's arguments do not fit */
    BULLA_E_CANCELLED,   /* the caller asked to stop */
    BULLA_E_INTERNAL     /* a bug in Bulla */
};

typedef struct bulla_error {
    int code;       /* an enum bulla_code; BULLA_OK means "no error so far" */
    char text[1000]; /* UTF-8, NUL-terminated, cut at a character where too long */
} bulla_error;

/* Records an error and returns `code`, so that callers can write
 * `return bulla_fail(error, BULLA_E_INPUT, "...")`. The first error is kept:
 * when `error` already holds one, it is left as it is and its code returned.
 * `error` may be NULL. Control characters in the text are replaced by '?'. */
int bulla_fail(bulla_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the recorded sentence (to name the file, say) and
 * returns the recorded code. Does nothing when no error is recorded. */
int bulla_fail_prefix(bulla_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Forgets the recorded error. */
void bulla_error_clear(bulla_error *error);

/* The code's name: "input", "range", ... */
const char *bulla_code_name(int code);

#endif
