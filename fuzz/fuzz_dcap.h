/* What the targets of Intel's quotes share: an input is the members of a document, one after another, each with its
 * length (32 bits, little-endian) before it: the quote, then the collateral's. */
#ifndef FUZZ_DCAP_H
#define FUZZ_DCAP_H

#include "fuzz_evidence.h"

static inline void fuzz_dcap(const char *type, const char *policy, const uint8_t *data, size_t size)
{
    enum { JANUARY_2026 = 1767225600 }; /* the kept inputs are of then */
    static const char *const members[] = {"tcb_info", "tcb_info_signature", "tcb_info_issuer_chain", "qe_identity",
                                          "qe_identity_signature", "qe_identity_issuer_chain", "root_ca_crl", "pck_crl",
                                          "pck_crl_issuer_chain"};
    struct reader reader = reader_over(data, size);
    struct buffer document = {0};
    buffer_append_format(&document, "{\"bulla_evidence\":1,\"type\":\"%s\",\"quote\":\"", type);
    for (size_t i = 0; i <= sizeof members / sizeof *members; i++) {
        size_t length = reader_u32(&reader), left = reader_left(&reader);
        length = length < left ? length : left;
        const uint8_t *bytes = reader_bytes(&reader, length);
        if (i == 0) {
            base64_append(&document, bytes, length);
            buffer_append_text(&document, "\",\"collateral\":{");
            continue;
        }
        buffer_append_format(&document, "%s\"%s\":", i > 1 ? "," : "", members[i - 1]);
        json_write_string(&document, (const char *)bytes, length);
    }
    buffer_append_text(&document, "}}");
    fuzz_evidence(&document, policy, JANUARY_2026);
    buffer_free(&document);
}

#endif
