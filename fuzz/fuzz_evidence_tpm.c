/* The input is a TPM's quote, its signature and the public area of its key, each after its length in two bytes, and an event
 * log. */
#include <stddef.h>
#include <stdint.h>

#include "fuzz_evidence.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_bytes(struct buffer *document, const char *member, const uint8_t *bytes, size_t length)
{
    buffer_append_format(document, ",\"%s\":\"", member);
    base64_append(document, bytes, length);
    buffer_append_byte(document, '"');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char head[] =
        "{\"bulla_evidence\":1,\"type\":\"tpm\",\"ak\":\"-----BEGIN PUBLIC KEY-----\\n"
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7L"
        "tkBoN79R9Q==\\n-----END PUBLIC KEY-----\\n\",\"pcrs\":{\"sha256\":{"
        "\"0\":\"0000000000000000000000000000000000000000000000000000000000000000\","
        "\"7\":\"0000000000000000000000000000000000000000000000000000000000000000\"}}";
    static const char policy[] = "{\"report_data\":\"00\",\"secure_boot\":true,\"boot_loader\":[\"00\"]}";
    static const char *const members[] = {"quote", "signature", "ak_public"};
    enum { IN_2026 = 1767225600 };
    struct buffer document = {0};
    struct reader reader = reader_over(data, size);
    buffer_append_text(&document, head);
    for (int i = 0; i < 3; i++) {
        size_t length = reader_u16(&reader);
        const uint8_t *bytes = reader_bytes(&reader, length);
        add_bytes(&document, members[i], bytes ? bytes : data, bytes ? length : 0);
    }
    if (reader_left(&reader) > 0)
        add_bytes(&document, "event_log", data + reader.offset, reader_left(&reader));
    buffer_append_byte(&document, '}');
    fuzz_evidence(&document, policy, IN_2026);
    buffer_free(&document);
    return 0;
}
