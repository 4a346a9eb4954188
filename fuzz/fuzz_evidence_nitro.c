/* The input is an attestation document of AWS Nitro Enclaves: COSE_Sign1, tagged or not. */
#include <stddef.h>
#include <stdint.h>

#include "fuzz_evidence.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char policy[] = "{\"public_key\":\"02fec45bb14c4fa0f3b57b72e3e1c5e5d04e8b3a9c0bb4d0d2d6b4f4a6bf2ef1\"}";
    enum { IN_2030 = 1893456000 };
    struct buffer document = {0};
    buffer_append_text(&document, "{\"bulla_evidence\":1,\"type\":\"nitro\",\"document\":\"");
    base64_append(&document, data, size);
    buffer_append_text(&document, "\"}");
    fuzz_evidence(&document, policy, IN_2030);
    buffer_free(&document);
    return 0;
}
