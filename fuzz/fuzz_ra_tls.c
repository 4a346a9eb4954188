/* The input is a TLS certificate with evidence in it (RA-TLS), in DER or PEM. No verdict on it passes; a document of another
 * form, or JSON that is none inside of it, is an error. */
#include <stddef.h>
#include <stdint.h>

#include "fuzz_evidence.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char policy[] = "{\"type\":[\"sgx\",\"tdx\"]}", collateral[] = "{\"collateral\":{}}";
    const bulla_evidence_options options = {.policy = policy, .policy_length = sizeof policy - 1, .time = 1750000000,
                                            .collateral = collateral, .collateral_length = sizeof collateral - 1};
    bulla_error error = {0};
    bulla_verdict *verdict;
    if (bulla_verify_evidence((const char *)data, size, &options, &verdict, &error) != BULLA_OK)
        return 0;
    if (bulla_verdict_passed(verdict))
        abort();
    bulla_verdict_free(verdict);
    return 0;
}
