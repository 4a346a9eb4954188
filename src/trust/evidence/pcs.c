#include "trust/evidence/pcs.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "trust/evidence/dcap.h"

enum { MRSIGNER_BYTES = 32, SEAM_SIGNER_BYTES = 48, SEAM_ATTRIBUTES_BYTES = 8, ATTRIBUTES_BYTES = 16,
       MISCSELECT_BYTES = 4, MOST_MASKED = 16, MOST_LIST_BYTES = 1 << 20 };

/* ---- Members of statements ---- */

void pcs_problem(struct pcs_statement *statement, const char *problem)
{
    if (!statement->problem)
        statement->problem = problem;
}

uint64_t pcs_number(struct pcs_statement *statement, const struct json *object, const char *member, uint64_t most)
{
    const struct json *value = json_get(object, member);
    if (json_is(value, JSON_NUMBER) && value->is_integer && value->integer >= 0 && (uint64_t)value->integer <= most)
        return (uint64_t)value->integer;
    pcs_problem(statement, member);
    return UINT64_MAX; /* no machine reaches it */
}

const char *pcs_text(struct pcs_statement *statement, const struct json *object, const char *member)
{
    const struct json *value = json_get(object, member);
    if (json_is(value, JSON_STRING) && strlen(value->text) == value->length)
        return value->text;
    pcs_problem(statement, member);
    return "";
}

const struct json *pcs_list(struct pcs_statement *statement, const struct json *object, const char *member)
{
    const struct json *value = json_get(object, member);
    if (json_is(value, JSON_ARRAY))
        return value;
    pcs_problem(statement, member);
    return NULL;
}

/* "2025-06-19T10:56:11Z" and nothing else. */
int64_t pcs_time(struct pcs_statement *statement, const struct json *object, const char *member)
{
    const char *text = pcs_text(statement, object, member);
    struct tm parts = {0};
    char again[64];
    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2dZ", &parts.tm_year, &parts.tm_mon, &parts.tm_mday, &parts.tm_hour,
               &parts.tm_min, &parts.tm_sec) == 6) {
        parts.tm_year -= 1900;
        parts.tm_mon -= 1;
        time_t seconds = timegm(&parts);
        if (strftime(again, sizeof again, "%Y-%m-%dT%H:%M:%SZ", &parts) && strcmp(again, text) == 0)
            return (int64_t)seconds;
    }
    pcs_problem(statement, member);
    return 0;
}

/* Bytes in hex, into `bytes`; NULL where bad. */
static const uint8_t *read_bytes(struct pcs_statement *statement, const struct json *object, const char *member,
                                 uint8_t *bytes, size_t length)
{
    const char *text = pcs_text(statement, object, member);
    if (hex_decode(text, strlen(text), bytes, length))
        return bytes;
    pcs_problem(statement, member);
    return NULL;
}

/* `found` is what the member says; with a mask, in the bits that the mask has. */
static void check_bytes(struct pcs *pcs, struct pcs_statement *statement, const char *check, const struct json *object,
                        const char *member, const char *mask_member, const uint8_t *found, size_t length)
{
    uint8_t expected[SEAM_SIGNER_BYTES], mask[MOST_MASKED], masked[MOST_MASKED];
    const uint8_t *wanted = read_bytes(statement, object, member, expected, length);
    if (mask_member) {
        if (!read_bytes(statement, object, mask_member, mask, length))
            memset(mask, 0xff, sizeof mask);
        for (size_t i = 0; i < length; i++)
            masked[i] = found[i] & mask[i];
        found = masked;
    }
    verdict_same_bytes(pcs->evidence->verdict, check, found, length, wanted, length);
}

/* ---- Opening ---- */

static int read_list(struct pcs *pcs, const char *member)
{
    const struct json *value = json_get(pcs->collateral, member);
    struct verdict *verdict = pcs->evidence->verdict;
    bulla_error error = {0};
    size_t length = json_is(value, JSON_STRING) ? value->length / 2 : 0;
    uint8_t *der = length > 0 && length <= MOST_LIST_BYTES ? arena_alloc(&verdict->arena, length, 1, &verdict->error) : NULL;
    if (!der || !hex_decode(value->text, value->length, der, length))
        return evidence_certificates(pcs->evidence, "pcs.crls", REVOCATION_LIST, pcs->collateral, member, &pcs->lists);
    return certificates_add(&pcs->lists, REVOCATION_LIST, der, length, &error) == BULLA_OK ||
           verdict_fails(verdict, "pcs.crls", "\"%s\": %s", member, error.text);
}

static void read_statement(struct pcs *pcs, const char *member, struct pcs_statement *statement)
{
    const struct json *text = json_get(pcs->collateral, member);
    struct verdict *verdict = pcs->evidence->verdict;
    bulla_error error = {0};
    statement->problem = json_is(text, JSON_STRING) ? NULL : "it is not there as a string";
    if (statement->problem)
        return;
    statement->content = json_parse(text->text, text->length, "it", &verdict->arena, &error);
    if (!statement->content)
        statement->problem = arena_copy_text(&verdict->arena, error.text, strlen(error.text), &verdict->error);
}

int pcs_open(struct pcs *pcs, struct evidence *evidence)
{
    pcs->evidence = evidence;
    pcs->collateral = json_get(evidence->document, "collateral");
    if (!json_is(pcs->collateral, JSON_OBJECT)) {
        verdict_fails(evidence->verdict, "pcs.collateral", "the document has no \"collateral\" (an object)");
        verdict_advise(evidence->verdict,
                       "add what Intel's PCS says of the machine: docs/evidence-dcap.md has the members");
        return 0;
    }
    if (!read_list(pcs, "root_ca_crl") || !read_list(pcs, "pck_crl"))
        return 0;
    read_statement(pcs, "tcb_info", &pcs->tcb_info);
    read_statement(pcs, "qe_identity", &pcs->qe_identity);
    return 1;
}

void pcs_close(struct pcs *pcs)
{
    const struct pcs_statement *const statements[] = {&pcs->tcb_info, &pcs->qe_identity};
    static const char *const checks[] = {"pcs.tcb_info.form", "pcs.qe_identity.form"};
    for (size_t i = 0; i < 2; i++)
        if (statements[i]->content || statements[i]->problem)
            verdict_holds(pcs->evidence->verdict, checks[i], !statements[i]->problem,
                          "all members as the PCS writes them", "%s",
                          statements[i]->problem ? statements[i]->problem : "such");
    certificates_free(&pcs->lists);
}

/* ---- Statements ---- */

/* A statement's members and checks. */
struct statement_kind {
    const char *text, *signature, *chain;
    struct chain_rules rules;
    const char *signer_check, *signature_check, *kind_check, *times_check;
    uint64_t version;
};

static const struct statement_kind tcb_info_kind = {
    "tcb_info", "tcb_info_signature", "tcb_info_issuer_chain",
    {"pcs.tcb_info.chain", "pcs.tcb_info.root", "intel", REVOCATION_ALL, NULL},
    "pcs.tcb_info.signer", "pcs.tcb_info.signature", "pcs.tcb_info.kind", "pcs.tcb_info.times", 3};
static const struct statement_kind qe_identity_kind = {
    "qe_identity", "qe_identity_signature", "qe_identity_issuer_chain",
    {"pcs.qe_identity.chain", "pcs.qe_identity.root", "intel", REVOCATION_ALL, NULL},
    "pcs.qe_identity.signer", "pcs.qe_identity.signature", "pcs.qe_identity.kind", "pcs.qe_identity.times", 2};

/* The exact bytes of the text are signed by Intel's key for that, which stands right below the root. */
static void check_signature(struct pcs *pcs, const struct statement_kind *kind)
{
    struct verdict *verdict = pcs->evidence->verdict;
    const struct json *text = json_get(pcs->collateral, kind->text), *hex = json_get(pcs->collateral, kind->signature);
    struct certificates chain = {0};
    uint8_t signature[DCAP_SIGNATURE_BYTES];
    if (evidence_certificates(pcs->evidence, kind->rules.chain, CERTIFICATE, pcs->collateral, kind->chain, &chain)) {
        certificates_verify(&chain, &pcs->lists, &kind->rules, pcs->evidence->time, verdict);
        verdict_holds(verdict, kind->signer_check,
                      chain.count == 2 && certificate_is_named(chain.list[0], "Intel SGX TCB Signing"),
                      "Intel SGX TCB Signing, right below the root", "%s, %zu certificates",
                      certificate_subject(chain.list[0], verdict), chain.count);
        verdict_is(verdict, kind->signature_check,
                   json_is(text, JSON_STRING) && json_is(hex, JSON_STRING) &&
                       hex_decode(hex->text, hex->length, signature, sizeof signature) &&
                       dcap_ecdsa_verify(X509_get0_pubkey(chain.list[0]), text->text, text->length, signature),
                   "ECDSA P-256 with SHA-256 over the exact text");
    }
    certificates_free(&chain);
}

static void check_times(struct pcs *pcs, struct pcs_statement *statement, const char *check)
{
    struct verdict *verdict = pcs->evidence->verdict;
    int64_t from = pcs_time(statement, statement->content, "issueDate"), time = pcs->evidence->time,
            until = pcs_time(statement, statement->content, "nextUpdate");
    time_t asked = (time_t)time;
    struct tm parts;
    char now[64] = "the time asked about", expected[96];
    if (gmtime_r(&asked, &parts))
        strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &parts);
    snprintf(expected, sizeof expected, "a time around %s", now);
    if (!verdict_holds(verdict, check, from <= time && time <= until, expected, "%.30s to %.30s",
                       pcs_text(statement, statement->content, "issueDate"),
                       pcs_text(statement, statement->content, "nextUpdate")))
        verdict_advise(verdict, "ask the PCS for the collateral again, or judge the evidence at the time it was made");
}

void pcs_check_statements(struct pcs *pcs, const char *tcb_info_id, const char *qe_identity_id)
{
    const struct {
        const struct statement_kind *kind;
        struct pcs_statement *statement;
        const char *id;
    } all[] = {{&tcb_info_kind, &pcs->tcb_info, tcb_info_id}, {&qe_identity_kind, &pcs->qe_identity, qe_identity_id}};
    for (size_t i = 0; i < 2; i++) {
        struct pcs_statement *statement = all[i].statement;
        check_signature(pcs, all[i].kind);
        const char *id = pcs_text(statement, statement->content, "id");
        uint64_t version = pcs_number(statement, statement->content, "version", 1000);
        verdict_holds(pcs->evidence->verdict, all[i].kind->kind_check,
                      strcmp(id, all[i].id) == 0 && version == all[i].kind->version, all[i].id, "%.20s, version %llu",
                      id, (unsigned long long)version);
        check_times(pcs, statement, all[i].kind->times_check);
    }
    verdict_same_number(pcs->evidence->verdict, "pcs.tcb_info.tcb_type",
                        pcs_number(&pcs->tcb_info, pcs->tcb_info.content, "tcbType", 1000), 0);
}

void pcs_check_issuers(struct pcs *pcs, const struct certificates *pck_chain)
{
    struct certificates issuers = {0};
    bulla_error error = {0};
    int is_read =
        certificates_add_json(&issuers, CERTIFICATE, json_get(pcs->collateral, "pck_crl_issuer_chain"), &error) == BULLA_OK;
    int are_same = is_read && issuers.count + 1 == pck_chain->count;
    for (size_t i = 0; are_same && i < issuers.count; i++)
        are_same = X509_cmp(issuers.list[i], pck_chain->list[i + 1]) == 0;
    verdict_holds(pcs->evidence->verdict, "pcs.pck_crl.issuers", are_same, "the issuers of the PCK's certificate", "%s",
                  are_same ? "these" : is_read ? "others" : error.text);
    certificates_free(&issuers);
}

/* ---- What they say ---- */

void pcs_check_machine(struct pcs *pcs, const struct pck *pck)
{
    struct pcs_statement *tcb_info = &pcs->tcb_info;
    check_bytes(pcs, tcb_info, "pcs.tcb_info.fmspc", tcb_info->content, "fmspc", NULL, pck->fmspc, FMSPC_BYTES);
    check_bytes(pcs, tcb_info, "pcs.tcb_info.pce_id", tcb_info->content, "pceId", NULL, pck->pce_id, PCE_ID_BYTES);
}

void pcs_check_qe(struct pcs *pcs, const uint8_t *report)
{
    struct pcs_statement *identity = &pcs->qe_identity;
    const struct json *content = identity->content;
    check_bytes(pcs, identity, "pcs.qe.mrsigner", content, "mrsigner", NULL, report + ENCLAVE_MRSIGNER, MRSIGNER_BYTES);
    check_bytes(pcs, identity, "pcs.qe.miscselect", content, "miscselect", "miscselectMask",
                report + ENCLAVE_MISCSELECT, MISCSELECT_BYTES);
    check_bytes(pcs, identity, "pcs.qe.attributes", content, "attributes", "attributesMask",
                report + ENCLAVE_ATTRIBUTES, ATTRIBUTES_BYTES);
    verdict_same_number(pcs->evidence->verdict, "pcs.qe.isv_prod_id", evidence_number(report + ENCLAVE_PROD_ID, 2),
                        pcs_number(identity, content, "isvprodid", UINT16_MAX));
}

const struct json *pcs_module(struct pcs *pcs, unsigned version)
{
    char id[16];
    const struct json *list = pcs_list(&pcs->tcb_info, pcs->tcb_info.content, "tdxModuleIdentities");
    snprintf(id, sizeof id, "TDX_%02X", version);
    for (size_t i = 0; list && i < list->length; i++)
        if (strcasecmp(pcs_text(&pcs->tcb_info, list->items[i], "id"), id) == 0)
            return list->items[i];
    return NULL;
}

/* Modules of version 0 (TDX 1.0) stand in "tdxModule", later ones in "tdxModuleIdentities". */
void pcs_check_module(struct pcs *pcs, const struct pcs_td *td)
{
    struct pcs_statement *tcb_info = &pcs->tcb_info;
    unsigned version = td->tee_tcb_svn[1];
    const struct json *module = version ? pcs_module(pcs, version) : json_get(tcb_info->content, "tdxModule");
    if (!verdict_holds(pcs->evidence->verdict, "pcs.module.version", module != NULL,
                       "a version that the TCB info knows", "%u", version))
        return;
    check_bytes(pcs, tcb_info, "pcs.module.mrsigner", module, "mrsigner", NULL, td->mrsignerseam, SEAM_SIGNER_BYTES);
    check_bytes(pcs, tcb_info, "pcs.module.attributes", module, "attributes", "attributesMask", td->seamattributes,
                SEAM_ATTRIBUTES_BYTES);
}
