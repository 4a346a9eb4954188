/* The smallest program that verifies: linked with libbulla-verify and libcrypto alone, for test_verify_library.py to look at.
 *
 *   tool_verify DOCUMENT POLICY TIME   the texts themselves and Unix seconds
 *
 * Prints a line a failed check and exits 0 where the verdict passed, 1 where it did not, 2 where there is none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bulla/verify.h"

int main(int argc, char **argv)
{
    bulla_verdict *verdict;
    bulla_error error = {0};
    if (argc != 4)
        return 2;
    const bulla_evidence_options options = {.policy = argv[2], .policy_length = strlen(argv[2]),
                                            .time = strtoll(argv[3], NULL, 10)};
    if (bulla_verify_evidence(argv[1], strlen(argv[1]), &options, &verdict, &error) != BULLA_OK) {
        puts(error.text);
        return 2;
    }
    for (size_t i = 0; i < bulla_verdict_count(verdict); i++) {
        bulla_check check = bulla_verdict_check(verdict, i);
        if (check.state == BULLA_CHECK_FAILED)
            puts(check.name);
    }
    int status = !bulla_verdict_passed(verdict);
    bulla_verdict_free(verdict);
    return status;
}
