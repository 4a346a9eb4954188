/* `bulla policy explain`: a policy in sentences. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "bulla/verify.h"
#include "cli/output.h"
#include "cli/verb.h"

enum { LARGEST_POLICY = 16 << 20 };

static int run(const struct verb *verb, int argc, char **argv, bulla_error *error)
{
    uint8_t *policy;
    char *text;
    size_t length, text_length;
    int others;
    int code = verb_parse(verb, argc, argv, NULL, &others, error);
    if (code == BULLA_OK && strcmp(argv[0], "explain") != 0)
        code = bulla_fail(error, BULLA_E_USAGE, "\"%s\" is not explain", argv[0]);
    if (code == BULLA_OK)
        code = file_read(argv[1], LARGEST_POLICY, &policy, &length, error);
    if (code != BULLA_OK)
        return code;
    code = bulla_policy_explain((const char *)policy, length, &text, &text_length, error);
    memory_free(policy);
    if (code != BULLA_OK)
        return bulla_fail_prefix(error, "%s", argv[1]);
    output_text(stdout, text, text_length);
    bulla_verdict_text_free(text);
    return BULLA_OK;
}

const struct verb verb_policy = {
    .name = "policy",
    .summary = "say in sentences what a policy accepts",
    .arguments = "explain FILE",
    .details = "docs/policy.md has every field.",
    .minimum_arguments = 2,
    .maximum_arguments = 2,
    .run = run,
};
