/* What Intel's quotes have in common, whatever they are about: a header, the body (an enclave's or a trust domain's
 * report), and the signature data. The quoting enclave (QE) signed header and body with its attestation key; its own
 * report binds that key; the machine's PCK signed that report; a certificate chain to Intel's root vouches for the PCK.
 *
 * "Intel SGX: ECDSA Quote Library API", appendix A (quotes of version 3); "Intel TDX: DCAP Quoting Library API",
 * appendix A (versions 4 and 5); "Intel SGX PCK Certificate and Certificate Revocation List Profile" (the PCK's
 * extension).
 *
 * Documents: "quote" (with the PCK's chain in it) and "collateral" (trust/evidence/pcs.h). */
#ifndef TRUST_EVIDENCE_DCAP_H
#define TRUST_EVIDENCE_DCAP_H

#include "trust/evidence.h"
#include "trust/evidence/pcs.h"

/* An enclave's report (REPORT of the "Intel 64 and IA-32 Architectures Software Developer's Manual", volume 3D, without
 * its key id and MAC): where its fields are. */
enum { ENCLAVE_REPORT_BYTES = 384, ENCLAVE_MISCSELECT = 16, ENCLAVE_EXT_PROD_ID = 32, ENCLAVE_ATTRIBUTES = 48,
       ENCLAVE_MRENCLAVE = 64, ENCLAVE_MRSIGNER = 128, ENCLAVE_CONFIG_ID = 192, ENCLAVE_PROD_ID = 256,
       ENCLAVE_SVN = 258, ENCLAVE_CONFIG_SVN = 260, ENCLAVE_FAMILY_ID = 304, ENCLAVE_REPORT_DATA = 320 };

/* What quotes of one kind of TEE must say. */
struct dcap_kind {
    uint32_t tee_type;
    unsigned first_version, last_version;
    const char *versions;                     /* in words */
    const char *tcb_info_id, *qe_identity_id; /* of the collateral for such quotes */
    /* The bytes of a body of that type (0 in quotes below version 5, which do not say it); 0: there is no such body. */
    size_t (*body_bytes)(unsigned version, unsigned body_type);
};

/* A quote, taken apart. All point into its bytes, which live as long as the verdict. */
struct dcap_quote {
    const struct dcap_kind *kind;
    const uint8_t *bytes;
    size_t signed_length; /* header and body */
    unsigned version;
    const uint8_t *body;
    size_t body_length;
    const uint8_t *signature, *attestation_key, *qe_report, *qe_signature, *auth_data, *certificates;
    size_t auth_length, certificates_length;
};

/* Reads the document's "quote" and states the checks of its form; 0 where it cannot be taken apart. */
int dcap_read(struct evidence *evidence, const struct dcap_kind *kind, struct dcap_quote *quote);
/* States every check but those of the body, and adds the claims of the TCB. `td`: of trust domains, else NULL. */
void dcap_verify(struct evidence *evidence, const struct dcap_quote *quote, const struct pcs_td *td);

enum { DCAP_SIGNATURE_BYTES = 64 };
/* All of Intel's signatures: ECDSA on P-256 with SHA-256, r and s big-endian. 1 where it is right; `key` may be NULL.
 */
int dcap_ecdsa_verify(EVP_PKEY *key, const void *data, size_t length, const uint8_t signature[DCAP_SIGNATURE_BYTES]);

#endif
