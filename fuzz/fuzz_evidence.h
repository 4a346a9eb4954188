/* What the targets of evidence's formats share: a document is verified, no verdict passes (nobody signs what a fuzzer makes),
 * and what the verdict says is JSON again. */
#ifndef FUZZ_EVIDENCE_H
#define FUZZ_EVIDENCE_H

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bulla/verify.h"

/* `document` is complete JSON; `policy` asks for little, so that the format's own checks decide. */
static inline void fuzz_evidence(const struct buffer *document, const char *policy, int64_t time)
{
    const bulla_evidence_options options = {.policy = policy, .policy_length = strlen(policy), .time = time};
    bulla_error error = {0};
    bulla_verdict *verdict;
    char *text;
    size_t length;
    if (bulla_verify_evidence((const char *)document->data, document->length, &options, &verdict, &error) != BULLA_OK ||
        bulla_verdict_passed(verdict))
        abort();
    for (int as_json = 0; as_json < 2; as_json++) {
        struct arena arena = {0};
        if (bulla_verdict_text(verdict, as_json, &text, &length, &error) != BULLA_OK ||
            (as_json && !json_parse(text, length, "verdict", &arena, &error)))
            abort();
        bulla_verdict_text_free(text);
        arena_free(&arena);
    }
    bulla_verdict_free(verdict);
}

#endif
