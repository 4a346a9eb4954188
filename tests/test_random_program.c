/* The random programs themselves, by the reference run: in range, or out of it where asked. */
#include "test.h"

#include "base/memory.h"
#include "exec/ref/run.h"
#include "random_program.h"

static void test_families(void **state)
{
    int raised = 0;
    for (int family = 0; family < RANDOM_FAMILIES; family++)
        for (int strain = 0; strain < 2; strain++) {
            bulla_error error = {0};
            bulla_program *program;
            assert_ok(random_program_new(7, family, strain, &program, &error), error);
            struct reference_run *run;
            assert_ok(reference_run_open(program, 0, &run, &error), error);
            uint32_t ids[100];
            for (uint32_t i = 0; i < 100; i++)
                ids[i] = (i * 7919 + 3) % program->vocabulary;
            int32_t *logits = memory_alloc((size_t)100 * program->vocabulary, sizeof *logits, &error);
            assert_non_null(logits);
            int code = reference_run_append(run, ids, 100, logits, &error);
            if (!strain && code)
                fail_msg("%s: %s", random_family_name(family), error.text);
            raised += code == BULLA_E_RANGE;
            int64_t largest = 0;
            for (uint64_t i = 0; !code && i < (uint64_t)100 * program->vocabulary; i++)
                largest = llabs(logits[i]) > largest ? llabs(logits[i]) : largest;
            print_message("%s, strain %d: largest logit %lld %s\n", random_family_name(family), strain,
                          (long long)largest, error.text);
            memory_free(logits);
            reference_run_close(run);
            random_program_free(program);
        }
    assert_true(raised >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_families)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
