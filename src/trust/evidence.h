/* Evidence: what hardware says about the machine, the program and the keys of a server, in one document that holds all
 * that its verification needs (report, certificate chains, collateral, revocation lists, nonce), so that it verifies
 * without a network, years later. docs/evidence.md has the members of each format.
 *
 *     {"bulla_evidence": 1, "type": "snp", "binding": {...}, "report": "<base64>", "certificates": [...], ...}
 *
 * A format verifies what the vendor vouches for (chains, signatures, TCB, collateral) and states what the evidence claims;
 * what of it is acceptable, the policy says (trust/policy.h). The binding ties it to a server's keys (trust/binding.h).
 * Documents of GPUs are in the member "gpus" of the CPU's (trust/verify.c). */
#ifndef TRUST_EVIDENCE_H
#define TRUST_EVIDENCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "trust/certificates.h"
#include "trust/verdict.h"

/* What evidence claims, by name: the names are those of the policy's fields. */
struct claim {
    const char *name; /* as bulla_check's */
    enum { CLAIM_BYTES, CLAIM_NUMBER, CLAIM_FLAG, CLAIM_TEXT } kind;
    const uint8_t *bytes; /* of the verdict's arena, or of the document */
    size_t length;
    uint64_t number;      /* CLAIM_FLAG: 0 or 1 */
    const char *text;
};

enum { MOST_CLAIMS = 96 };

/* One piece of evidence while it is verified. The caller sets the first part. */
struct evidence {
    const struct json *document;
    int64_t time, used_at;   /* Unix seconds: everything is judged at the first, its age as of the second */
    const uint8_t *nonce;    /* of the CPU's evidence, for what is bound to it (a GPU's report); NULL: none */
    size_t nonce_length;
    struct verdict *verdict; /* its arena is for whatever lives as long */

    struct claim claims[MOST_CLAIMS];
    size_t claim_count;
    int64_t made_at;         /* when the document says that it was made, 0 where its format has no time */
};

/* A format: one file in trust/evidence/, one line in evidence.c's table. */
struct evidence_format {
    const char *type;        /* "snp" */
    const char *title;       /* "AMD SEV-SNP attestation report" */
    int is_simulated;
    int is_gpu;              /* a GPU's, which comes with the CPU's ("gpus") or alone */
    int has_met_real;        /* whether real hardware's evidence was ever verified by it */
    size_t report_data_bytes; /* of the claim "report_data": 64, or 32 (SHA-256 of the 64 bytes) */
    /* States every check of the format and adds its claims. What it cannot read it states as a failed check. */
    void (*verify)(struct evidence *evidence);
};

const struct evidence_format *evidence_format_find(const char *type); /* NULL: there is none */

/* Verifies by the document's type: the format's checks, and "evidence.type". Gives the format, or NULL where that is not
 * one that this version knows (a failed check says so). */
const struct evidence_format *evidence_verify(struct evidence *evidence);

/* ---- For formats ---- */

/* The decoded bytes of a member in base64, of the verdict's arena. NULL, with a failed check of that name, where the
 * member is missing, no base64, or longer than `most`. */
const uint8_t *evidence_bytes(struct evidence *evidence, const char *check, const char *member, size_t most, size_t *length);
/* Certificates or revocation lists of a document's member; 0 with a failed check of that name. */
int evidence_certificates(struct evidence *evidence, const char *check, enum certificate_kind kind,
                          const struct json *document, const char *member, struct certificates *certificates);
/* The document's "certificates", and its "crls" where it has some; 0 with a failed check of one of the names. */
int evidence_chain(struct evidence *evidence, const char *check, const char *crls_check, struct certificates *chain);
/* A little-endian number of at most 8 bytes. */
uint64_t evidence_number(const uint8_t *at, size_t bytes);

/* Claims that are bytes of a structure, or numbers there (little-endian). */
struct claim_field {
    const char *name;
    unsigned at, length;
    int is_number;
};
/* Those within the first `length` bytes: older structures may lack the last ones. */
void evidence_claim_fields(struct evidence *evidence, const uint8_t *bytes, size_t length, const struct claim_field *fields,
                           size_t count);
/* The bytes and texts must live as long as the verdict. */
void evidence_claim_bytes(struct evidence *evidence, const char *name, const uint8_t *bytes, size_t length);
void evidence_claim_number(struct evidence *evidence, const char *name, uint64_t number);
void evidence_claim_flag(struct evidence *evidence, const char *name, int is_set);
void evidence_claim_text(struct evidence *evidence, const char *name, const char *text);
/* Bytes claimed under a name and a number: "pcr", 3 is "pcr3". */
void evidence_claim_slot(struct evidence *evidence, const char *name, unsigned number, const uint8_t *bytes,
                         size_t length);
const struct claim *evidence_claim(const struct evidence *evidence, const char *name); /* or NULL */

#endif
