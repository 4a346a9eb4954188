/* Collateral of Intel's Provisioning Certification Service (PCS): what Intel says about the machines, the quoting
 * enclaves and the TDX modules that make quotes. "Intel SGX and Intel TDX Provisioning Certification Service", API
 * version 4.
 *
 *     "collateral": {"tcb_info": TEXT, "tcb_info_signature": HEX, "tcb_info_issuer_chain": PEM,
 *                    "qe_identity": TEXT, "qe_identity_signature": HEX, "qe_identity_issuer_chain": PEM,
 *                    "pck_crl_issuer_chain": PEM, "root_ca_crl": LIST, "pck_crl": LIST}
 *
 * TEXT is JSON in a string: Intel signed its exact bytes. LIST is DER in hex (as Intel's tools give it), PEM, or DER in
 * base64. */
#ifndef TRUST_EVIDENCE_PCS_H
#define TRUST_EVIDENCE_PCS_H

#include "trust/evidence.h"

enum { SVN_COMPONENTS = 16, FMSPC_BYTES = 6, PCE_ID_BYTES = 2 };

/* What the PCK's certificate says of the machine. */
struct pck {
    uint8_t svns[SVN_COMPONENTS]; /* SGX TCB components 1 to 16 */
    uint16_t pce_svn;
    uint8_t fmspc[FMSPC_BYTES], pce_id[PCE_ID_BYTES];
    int has_smt, smt;             /* machines of several packages say whether they use it */
};

/* What a trust domain's report says of the TDX module. */
struct pcs_td {
    const uint8_t *tee_tcb_svn;   /* SVN_COMPONENTS: of the module that launched the domain */
    const uint8_t *tee_tcb_svn_2; /* of the module that runs now; NULL where the report does not say it */
    const uint8_t *mrsignerseam, *seamattributes;
};

/* What Intel signed: TCB info or a QE identity. */
struct pcs_statement {
    const struct json *content; /* NULL where it is no JSON */
    const char *problem;        /* the first thing in it that was not as it should be, or NULL */
};

struct pcs {
    struct evidence *evidence;
    const struct json *collateral;
    struct certificates lists; /* revocation lists alone */
    struct pcs_statement tcb_info, qe_identity;
};

/* Zero-initialise; pcs_close ends it. Reads what is there; 0, with a failed check, where there is no collateral or
 * where its revocation lists cannot be read. */
int pcs_open(struct pcs *pcs, struct evidence *evidence);
/* Frees; before that it states whether all that was read of the statements was as it should be. */
void pcs_close(struct pcs *pcs);

/* Both statements: chains, signatures, what they are about, times. */
void pcs_check_statements(struct pcs *pcs, const char *tcb_info_id, const char *qe_identity_id);
/* The issuers of the PCK's revocation list are those of the PCK's certificate. */
void pcs_check_issuers(struct pcs *pcs, const struct certificates *pck_chain);
/* The TCB info is about this machine. */
void pcs_check_machine(struct pcs *pcs, const struct pck *pck);
/* The QE is what its identity says. */
void pcs_check_qe(struct pcs *pcs, const uint8_t *qe_report);
/* The TDX module is one that the TCB info knows. */
void pcs_check_module(struct pcs *pcs, const struct pcs_td *td);
/* The levels that machine, QE and module reach; claims "tcb_status", "tcb_date", "tcb.evaluation" (pcs_level.c). */
void pcs_rate(struct pcs *pcs, const struct pck *pck, const uint8_t *qe_report, const struct pcs_td *td);

/* ---- For pcs_level.c: members of statements. What is missing or malformed becomes the statement's problem ---- */

void pcs_problem(struct pcs_statement *statement, const char *problem); /* kept where it is the first */
uint64_t pcs_number(struct pcs_statement *statement, const struct json *object, const char *member, uint64_t most);
const char *pcs_text(struct pcs_statement *statement, const struct json *object, const char *member); /* "" where bad */
const struct json *pcs_list(struct pcs_statement *statement, const struct json *object,
                            const char *member);                                                  /* or NULL */
int64_t pcs_time(struct pcs_statement *statement, const struct json *object, const char *member); /* Unix seconds */
/* What the TCB info says of the module of that version ("TDX_03"); NULL: nothing. */
const struct json *pcs_module(struct pcs *pcs, unsigned version);

#endif
