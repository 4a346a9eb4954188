/* A test of a table of changes, each of which exactly the checks that are named must see. Included where the table is complete;
 * before it stand
 *
 *     CHANGES(X)             lines X(name, "names of the checks that fail", statement that changes *m)
 *     CHANGED                the type of what is changed
 *     NEW_CHANGED            an expression that makes one, as it passes
 *     JUDGE_CHANGED(m)       the names of the checks that fail, separated by blanks
 *     FAILS_AS(found, named) whether those are the named ones; else they are to be the same text */
#ifndef TESTS_CHANGES_H
#define TESTS_CHANGES_H

#include <string.h>

#include "test.h"

#ifndef FAILS_AS
#define FAILS_AS(found, named) (strcmp(found, named) == 0)
#endif

#define DEFINE(name, failing, change)        \
    static void change_##name(CHANGED *m)    \
    {                                        \
        change;                              \
    }
CHANGES(DEFINE)

#define LIST(name, failing, change) {#name, failing, change_##name},
static const struct {
    const char *what, *fails;
    void (*make)(CHANGED *changed);
} changes[] = {CHANGES(LIST)};

static void every_change_is_seen_by_its_check(void **state)
{
    int wrong = 0;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        CHANGED changed = NEW_CHANGED;
        changes[i].make(&changed);
        const char *failures = JUDGE_CHANGED(&changed);
        if (!FAILS_AS(failures, changes[i].fails) && ++wrong)
            print_error("%s: these checks fail: \"%s\", expected \"%s\"\n", changes[i].what, failures, changes[i].fails);
    }
    assert_int_equal(wrong, 0);
    print_message("%zu changes, each signed again and seen by its check\n", sizeof changes / sizeof *changes);
}

#endif
