/* AMD SEV-SNP: an input is the report, up to four certificates and a revocation list, each with its length (32 bits,
 * little-endian) before it; certificates and list in DER. */
#include <stddef.h>
#include <stdint.h>

#include "fuzz_evidence.h"

enum { MOST_CERTIFICATES_HERE = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int append_next(struct reader *reader, struct buffer *document)
{
    size_t length = reader_u32(reader), left = reader_left(reader);
    length = length < left ? length : left;
    base64_append(document, reader_bytes(reader, length), length);
    return reader_left(reader) > 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char policy[] = "{\"type\":\"snp\",\"vmpl\":1,\"minimum_tcb\":{\"snp\":24}}";
    enum { IN_2030 = 1893456000 }; /* the kept certificates are valid then */
    struct reader reader = reader_over(data, size);
    struct buffer document = {0};
    buffer_append_text(&document, "{\"bulla_evidence\":1,\"type\":\"snp\",\"report\":\"");
    int has_more = append_next(&reader, &document);
    buffer_append_text(&document, "\",\"certificates\":[\"");
    for (int i = 0; i < MOST_CERTIFICATES_HERE && has_more; i++) {
        buffer_append_text(&document, i ? "\",\"" : "");
        has_more = append_next(&reader, &document);
    }
    buffer_append_text(&document, "\"],\"crls\":[\"");
    if (has_more)
        append_next(&reader, &document);
    buffer_append_text(&document, "\"]}");
    fuzz_evidence(&document, policy, IN_2030);
    buffer_free(&document);
    return 0;
}
