/* For tests in Python: the verdict on a document of evidence.
 *
 *   tool_evidence DOCUMENT POLICY TIME   files of JSON, Unix seconds; the verdict as JSON
 *
 * Exits 0 where the verdict passed, 1 where it did not, 2 with the sentence on standard error where there is none. */
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "bulla/verify.h"

enum { MOST_BYTES = 1 << 24 };

static int fail(const bulla_error *error)
{
    fprintf(stderr, "%s\n", error->text);
    return 2;
}

static int judge(const char *document, size_t length, const bulla_evidence_options *options)
{
    bulla_error error = {0};
    bulla_verdict *verdict;
    char *text;
    if (bulla_verify_evidence(document, length, options, &verdict, &error) != BULLA_OK)
        return fail(&error);
    int status = !bulla_verdict_passed(verdict);
    if (bulla_verdict_text(verdict, 1, &text, &length, &error) == BULLA_OK) {
        printf("%s\n", text);
        bulla_verdict_text_free(text);
    } else {
        status = fail(&error);
    }
    bulla_verdict_free(verdict);
    return status;
}

int main(int argc, char **argv)
{
    bulla_error error = {0};
    uint8_t *document, *policy;
    size_t length, policy_length;
    if (argc != 4) {
        fprintf(stderr, "usage: tool_evidence DOCUMENT POLICY TIME\n");
        return 2;
    }
    if (file_read(argv[1], MOST_BYTES, &document, &length, &error) != BULLA_OK)
        return fail(&error);
    if (file_read(argv[2], MOST_BYTES, &policy, &policy_length, &error) != BULLA_OK) {
        memory_free(document);
        return fail(&error);
    }
    const bulla_evidence_options options = {.policy = (const char *)policy, .policy_length = policy_length,
                                            .time = strtoll(argv[3], NULL, 10)};
    int status = judge((const char *)document, length, &options);
    memory_free(document);
    memory_free(policy);
    return status;
}
