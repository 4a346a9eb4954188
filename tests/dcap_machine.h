/* Machines of Intel's that tests make up: quotes of all versions and bodies, certificates and collateral of a hierarchy
 * of their own. A test changes one thing and judges the rest, signed again. */
#ifndef TESTS_DCAP_MACHINE_H
#define TESTS_DCAP_MACHINE_H

#include "base/buffer.h"
#include "bulla/verify.h"

enum { DCAP_SGX_BODY = 384, DCAP_TD_1_0_BODY = 584, DCAP_TD_1_5_BODY = 648 };
enum dcap_order { DCAP_RIGHT, DCAP_SWAPPED, DCAP_TRUNCATED, DCAP_EXTENDED, DCAP_DOUBLED };

struct dcap_machine {
    int version;
    uint8_t header[48], body[DCAP_TD_1_5_BODY], qe_report[384], auth_data[64];
    unsigned body_type, body_says; /* from version 5 on */
    size_t body_length, auth_length, padding;
    uint8_t padding_byte;
    unsigned certification_type, chain_type;
    int data_length_more, certification_length_more, chain_length_more; /* what the lengths in the quote say too much */

    /* The PCK's certificate. */
    uint8_t svns[16], fmspc[6], pce_id[2];
    unsigned pce_svn;
    int smt;                       /* -1: not said */
    unsigned field_left_out, tcb_left_out, field_doubled; /* numbers of OIDs; 0: none */
    int has_extension;
    const char *pck_name, *pck_curve, *signer_name;
    int64_t pck_from, pck_until, ca_until, signer_until, root_crl_from, root_crl_until, pck_crl_from, pck_crl_until;
    int64_t revoked_by_root, revoked_by_ca; /* a serial; 0: none */
    enum dcap_order pck_order, signer_order, issuers_order;
    int pck_is_issued_by_root_key, signer_is_pck, is_root_pinned, has_other_issuers, has_no_certificates, begins_a_certificate;
    int pck_is_below_root, signer_is_below_ca;          /* valid chains that are shorter or longer than Intel's */
    int ca_is_below_other_root, signer_is_below_other_root; /* which comes with a revocation list of its own */

    int other_signs_quote, other_signs_qe, other_signs_tcb_info, other_signs_qe_identity, other_key_is_bound;
    uint8_t report_data_end;       /* the last byte of the QE's report data */
    char tcb_info[8192], qe_identity[2048];
    int adds_blank;                /* to both texts, after they were signed */
    const char *left_out;          /* member of the collateral, "collateral" or "quote" */
    const char *policy_more;
    int64_t asked_at;
};

enum { DCAP_PCK_SERIAL = 71, DCAP_CA_SERIAL = 72, DCAP_SIGNER_SERIAL = 73 };

int dcap_keys_make(void **state);
int dcap_keys_free(void **state);

/* A machine whose evidence is accepted. `type` "sgx" or "tdx", `version` of the quote, `body_length` of its body. */
struct dcap_machine dcap_machine_new(const char *type, int version, size_t body_length);
/* The first `old` of a text becomes `new`; it must be there. */
void dcap_replace(char *text, size_t size, const char *old, const char *new);
/* Evidence of the machine, signed; its root becomes the only one that the test trusts. */
void dcap_write_document(const struct dcap_machine *machine, const char *type, struct buffer *document);
/* The names of the checks that fail, separated by blanks. The text lives until the next call. */
const char *dcap_failures(const struct dcap_machine *machine, const char *type, const char *policy);
/* Whether these failures are the expected ones. `expected` may end in " ...": the evidence could not be read, so that
 * the policy's checks fail too. */
int dcap_fails_as(const char *failures, const char *expected);

#endif
