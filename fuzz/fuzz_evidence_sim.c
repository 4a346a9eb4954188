/* The input is a whole document, of any type: the kept ones are simulated, with bindings, nonce paths and GPUs. */
#include <stddef.h>
#include <stdint.h>

#include "fuzz_evidence.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char policy[] = "{\"type\":[\"sim\",\"snp\"]}"; /* simulated evidence is not allowed, so nothing passes */
    enum { JANUARY_2026 = 1767225600 };
    struct arena arena = {0};
    bulla_error error = {0};
    struct buffer document = {0};
    buffer_append(&document, data, size);
    buffer_append(&document, "", 0);
    if (json_parse((const char *)document.data, document.length, "document", &arena, &error))
        fuzz_evidence(&document, policy, JANUARY_2026);
    arena_free(&arena);
    buffer_free(&document);
    return 0;
}
