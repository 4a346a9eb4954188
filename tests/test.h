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

/* Fails with the recorded sentence unless `call` is BULLA_OK. */
#define assert_ok(call, error)                                             \
    do {                                                                   \
        if ((call) != BULLA_OK)                                            \
            fail_msg("%s: %s", #call, (error).text);                       \
    } while (0)
#endif
