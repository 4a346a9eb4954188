/* The input is a GPU's report, the content of a reference manifest, each after its length in two bytes, and the certificate
 * of the leaf in DER. */
#include <stddef.h>
#include <stdint.h>

#include "fuzz_evidence.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_part(struct buffer *document, const char *before, struct reader *reader, size_t length, const char *behind)
{
    const uint8_t *bytes = reader_bytes(reader, length);
    buffer_append_text(document, before);
    base64_append(document, bytes ? bytes : reader->data, bytes ? length : 0);
    buffer_append_text(document, behind);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char policy[] = "{\"report_data\":\"00\",\"gpu\":{\"chip\":\"GH100\",\"measurement\":{\"0\":\"00\"}}}";
    enum { IN_2026 = 1767225600 };
    struct buffer document = {0}, signature = {0};
    struct reader reader = reader_over(data, size);
    buffer_append_text(&document, "{\"bulla_evidence\":1,\"type\":\"nvidia\"");
    add_part(&document, ",\"report\":\"", &reader, reader_u16(&reader), "\"");
    add_part(&document, ",\"rims\":{\"driver\":{\"content\":\"", &reader, reader_u16(&reader), "\",\"signature\":\"");
    buffer_extend(&signature, 96);
    base64_append(&document, signature.data, signature.length);
    struct reader again = reader;
    add_part(&document, "\",\"certificates\":\"", &again, reader_left(&again), "\"}}");
    add_part(&document, ",\"certificates\":\"", &reader, reader_left(&reader), "\"}");
    fuzz_evidence(&document, policy, IN_2026);
    buffer_free(&document);
    buffer_free(&signature);
    return 0;
}
