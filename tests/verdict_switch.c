/* Checks that can be switched off, for tests/python/test_check_deletion.py: what verifies without a check shows whether any
 * test would notice that the check is gone. Linked into the tests of evidence alone (the linker's --wrap puts these before
 * the functions of trust/verdict.h), and without effect where $BULLA_CHECK_SWITCHED_OFF names no check.
 *
 * A check that is switched off counts as passed; what the code does after it stays as it was. */
#include "test.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trust/verdict.h"

enum { LONGEST_TEXT = 2000 };

/* The functions that are replaced, and what the linker calls them then. */
#define DECLARE(prefix)                                                                                                     \
    int prefix##_verdict_holds(struct verdict *verdict, const char *name, int holds, const char *expected,                  \
                               const char *found, ...);                                                                     \
    int prefix##_verdict_is(struct verdict *verdict, const char *name, int holds, const char *expected);                    \
    int prefix##_verdict_same_bytes(struct verdict *verdict, const char *name, const void *found, size_t found_length,      \
                                    const void *expected, size_t expected_length);                                          \
    int prefix##_verdict_same_number(struct verdict *verdict, const char *name, uint64_t found, uint64_t expected);         \
    int prefix##_verdict_at_least(struct verdict *verdict, const char *name, uint64_t found, uint64_t least);               \
    int prefix##_verdict_fails(struct verdict *verdict, const char *name, const char *found, ...);
DECLARE(__real)
DECLARE(__wrap)

/* Of a test program that is run for one check after another, the tests of that pattern alone. */
__attribute__((constructor)) static void choose_tests(void)
{
    if (getenv("BULLA_TESTS"))
        cmocka_set_test_filter(getenv("BULLA_TESTS"));
}

static int switched(struct verdict *verdict, const char *name, int holds)
{
    const char *off = getenv("BULLA_CHECK_SWITCHED_OFF");
    if (off && verdict->count && strcmp(off, name) == 0)
        verdict->checks[verdict->count - 1].state = BULLA_CHECK_PASSED;
    return holds;
}

int __wrap_verdict_holds(struct verdict *verdict, const char *name, int holds, const char *expected, const char *found, ...)
{
    char text[LONGEST_TEXT];
    va_list arguments;
    va_start(arguments, found);
    vsnprintf(text, sizeof text, found, arguments);
    va_end(arguments);
    return switched(verdict, name, __real_verdict_holds(verdict, name, holds, expected, "%s", text));
}

int __wrap_verdict_is(struct verdict *verdict, const char *name, int holds, const char *expected)
{
    return switched(verdict, name, __real_verdict_is(verdict, name, holds, expected));
}

int __wrap_verdict_same_bytes(struct verdict *verdict, const char *name, const void *found, size_t found_length,
                              const void *expected, size_t expected_length)
{
    return switched(verdict, name,
                    __real_verdict_same_bytes(verdict, name, found, found_length, expected, expected_length));
}

int __wrap_verdict_same_number(struct verdict *verdict, const char *name, uint64_t found, uint64_t expected)
{
    return switched(verdict, name, __real_verdict_same_number(verdict, name, found, expected));
}

int __wrap_verdict_at_least(struct verdict *verdict, const char *name, uint64_t found, uint64_t least)
{
    return switched(verdict, name, __real_verdict_at_least(verdict, name, found, least));
}

int __wrap_verdict_fails(struct verdict *verdict, const char *name, const char *found, ...)
{
    char text[LONGEST_TEXT];
    va_list arguments;
    va_start(arguments, found);
    vsnprintf(text, sizeof text, found, arguments);
    va_end(arguments);
    return switched(verdict, name, __real_verdict_fails(verdict, name, "%s", text));
}
