/* The input is a platform's key, after its length in two bytes, and an Arm CCA token. */
#include <stddef.h>
#include <stdint.h>

#include "fuzz_evidence.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char policy[] = "{\"report_data\":\"00\"}";
    enum { IN_2026 = 1767225600 };
    struct buffer document = {0};
    struct reader reader = reader_over(data, size);
    size_t length = reader_u16(&reader);
    const uint8_t *key = reader_bytes(&reader, length);
    buffer_append_text(&document, "{\"bulla_evidence\":1,\"type\":\"cca\",\"platform_key\":\"");
    base64_append(&document, key ? key : data, key ? length : 0);
    buffer_append_text(&document, "\",\"token\":\"");
    base64_append(&document, data + reader.offset, reader_left(&reader));
    buffer_append_text(&document, "\"}");
    fuzz_evidence(&document, policy, IN_2026);
    buffer_free(&document);
    return 0;
}
