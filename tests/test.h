/* cmocka with what it needs before it, for every test file. */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bulla/error.h"

/* How often to repeat something: BULLA_TEST_COUNTS is "full" in `make test-full`. */
static inline uint64_t test_count(uint64_t reduced, uint64_t full)
{
    const char *counts = getenv("BULLA_TEST_COUNTS");
    return counts && strcmp(counts, "full") == 0 ? full : reduced;
}

/* Whether this runs with sanitizers, which makes it some ten times slower. */
static inline int test_is_sanitized(void)
{
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
    return 1;
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
    return 1;
#else
    return 0;
#endif
}

/* Fails with the recorded sentence unless `call` is BULLA_OK. */
#define assert_ok(call, error)                                             \
    do {                                                                   \
        if ((call) != BULLA_OK)                                            \
            fail_msg("%s: %s", #call, (error).text);                       \
    } while (0)
#endif
