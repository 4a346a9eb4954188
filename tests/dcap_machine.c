#include "dcap_machine.h"

#include "test.h"

#include <openssl/evp.h>

#include "authority.h"
#include "base/json.h"
#include "evidence_document.h"
#include "trust_roots.h"

static EVP_PKEY *root_key, *ca_key, *pck_key, *signer_key, *attestation_key, *other_key, *big_key;

int dcap_keys_make(void **state)
{
    EVP_PKEY **const keys[] = {&root_key, &ca_key, &pck_key, &signer_key, &attestation_key, &other_key};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        *keys[i] = authority_key("P-256");
    big_key = authority_key("P-384");
    return 0;
}

int dcap_keys_free(void **state)
{
    EVP_PKEY *const keys[] = {root_key, ca_key, pck_key, signer_key, attestation_key, other_key, big_key};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        EVP_PKEY_free(keys[i]);
    return 0;
}

void dcap_replace(char *text, size_t size, const char *old, const char *new)
{
    char *at = strstr(text, old);
    if (!at)
        fail_msg("\"%s\" is not there", old);
    assert_true(strlen(text) - strlen(old) + strlen(new) < size);
    memmove(at + strlen(new), at + strlen(old), strlen(at + strlen(old)) + 1);
    memcpy(at, new, strlen(new));
}

/* ---- What Intel says ---- */

static void append_components(struct buffer *out, const char *name, int first, int step, int zero)
{
    buffer_append_format(out, "\"%s\":[", name);
    for (int i = 0; i < 16; i++)
        buffer_append_format(out, "%s{\"svn\":%d}", i ? "," : "", i == zero ? 0 : first + step * i);
    buffer_append_byte(out, ']');
}

/* Each component of a level differs, so that one that is compared with another's is seen. The second of TDX is the
 * version of the module. */
static void append_level(struct buffer *out, int is_tdx, int first, int step, int pce_svn, const char *rest)
{
    buffer_append_text(out, "{\"tcb\":{");
    append_components(out, "sgxtcbcomponents", first, step, -1);
    buffer_append_format(out, ",\"pcesvn\":%d", pce_svn);
    if (is_tdx) {
        buffer_append_byte(out, ',');
        append_components(out, "tdxtcbcomponents", first - 6, step, 1);
    }
    buffer_append_format(out, "},%s}", rest);
}

static void write_tcb_info(int is_tdx, char *text, size_t size)
{
    static const char zeros[] = "000000000000000000000000000000000000000000000000"
                                "000000000000000000000000000000000000000000000000";
    struct buffer out = {0};
    buffer_append_format(
        &out,
        "{\"id\":\"%s\",\"version\":3,\"issueDate\":\"2025-12-15T10:00:00Z\","
        "\"nextUpdate\":\"2026-01-14T10:00:00Z\",\"fmspc\":\"00A067110000\",\"pceId\":\"0003\",\"tcbType\":0,"
        "\"tcbEvaluationDataNumber\":17",
        is_tdx ? "TDX" : "SGX");
    if (is_tdx)
        buffer_append_format(&out, ",\"tdxModule\":{\"mrsigner\":\"%s\",\"attributes\":\"0000000000000000\","
                             "\"attributesMask\":\"FFFFFFFFFFFFFFFF\"},\"tdxModuleIdentities\":["
                             "{\"id\":\"TDX_03\",\"mrsigner\":\"%s\",\"attributes\":\"0000000000000000\","
                             "\"attributesMask\":\"FFFFFFFFFFFFFFFF\",\"tcbLevels\":[{\"tcb\":{\"isvsvn\":3},"
                             "\"tcbDate\":\"2024-11-13T00:00:00Z\",\"tcbStatus\":\"UpToDate\"}]},"
                             "{\"id\":\"TDX_1C\",\"mrsigner\":\"%s\",\"attributes\":\"0000000000000000\","
                             "\"attributesMask\":\"FFFFFFFFFFFFFFF0\",\"tcbLevels\":[{\"tcb\":{\"isvsvn\":6},"
                             "\"tcbDate\":\"2024-11-13T00:00:00Z\",\"tcbStatus\":\"UpToDate\"},{\"tcb\":{\"isvsvn\":4},"
                             "\"tcbDate\":\"2023-08-09T00:00:00Z\",\"tcbStatus\":\"OutOfDate\",\"advisoryIDs\":"
                             "[\"INTEL-SA-01036\"]},{\"tcb\":{\"isvsvn\":2},\"tcbDate\":\"2022-08-09T00:00:00Z\","
                             "\"tcbStatus\":\"Revoked\"}]}]", zeros, zeros, zeros);
    buffer_append_text(&out, ",\"tcbLevels\":[");
    append_level(&out, is_tdx, 11, 1, 13, "\"tcbDate\":\"2024-11-13T00:00:00Z\",\"tcbStatus\":\"UpToDate\"");
    buffer_append_byte(&out, ',');
    append_level(&out, is_tdx, 9, 1, 13, "\"tcbDate\":\"2023-02-15T00:00:00Z\",\"tcbStatus\":\"OutOfDate\","
                 "\"advisoryIDs\":[\"INTEL-SA-00657\",\"INTEL-SA-00767\"]");
    buffer_append_byte(&out, ',');
    append_level(&out, is_tdx, 6, 0, 5, "\"tcbDate\":\"2018-01-04T00:00:00Z\",\"tcbStatus\":\"Revoked\","
                 "\"advisoryIDs\":[\"INTEL-SA-00106\"]");
    buffer_append_text(&out, "]}");
    snprintf(text, size, "%s", (const char *)out.data);
    assert_true(out.length < size);
    buffer_free(&out);
}

static void write_qe_identity(int is_tdx, char *text, size_t size)
{
    snprintf(text, size, "{\"id\":\"%s\",\"version\":2,\"issueDate\":\"2025-12-15T10:00:00Z\","
             "\"nextUpdate\":\"2026-01-14T10:00:00Z\",\"tcbEvaluationDataNumber\":18,\"miscselect\":\"01000000\","
             "\"miscselectMask\":\"F1FFFFFF\",\"attributes\":\"11000000000000000000000000000000\","
             "\"attributesMask\":\"FBFFFFFFFFFFFFFF0000000000000000\",\"mrsigner\":"
             "\"4949494949494949494949494949494949494949494949494949494949494949\",\"isvprodid\":2,\"tcbLevels\":["
             "{\"tcb\":{\"isvsvn\":8},\"tcbDate\":\"2024-12-13T00:00:00Z\",\"tcbStatus\":\"UpToDate\"},"
             "{\"tcb\":{\"isvsvn\":6},\"tcbDate\":\"2021-11-10T00:00:00Z\",\"tcbStatus\":\"OutOfDate\","
             "\"advisoryIDs\":[\"INTEL-SA-00615\"]},"
             "{\"tcb\":{\"isvsvn\":2},\"tcbDate\":\"2019-05-15T00:00:00Z\",\"tcbStatus\":\"Revoked\"}]}",
             is_tdx ? "TD_QE" : "QE");
}

/* ---- A machine ---- */

static void fill_sgx_body(uint8_t *body)
{
    memset(body, 0x0c, 16);       /* CPUSVN */
    memset(body + 32, 0xe1, 16);  /* ISVEXTPRODID */
    body[48] = 0x05;              /* INIT, MODE64BIT */
    body[56] = 0xe7;              /* XFRM */
    memset(body + 64, 0x3a, 32);  /* MRENCLAVE */
    memset(body + 128, 0x5b, 32); /* MRSIGNER */
    memset(body + 192, 0xc1, 64); /* CONFIGID */
    body[256] = 7;                /* ISVPRODID */
    body[258] = 9;                /* ISVSVN */
    body[260] = 3;                /* CONFIGSVN */
    memset(body + 304, 0xfa, 16); /* ISVFAMILYID */
    memset(body + 320, 0xd1, 64); /* report data */
}

/* The TDX module's version is 0 in reports of TDX 1.0, 0x1C in those of 1.5. */
static void fill_td_body(uint8_t *body, size_t length)
{
    for (int i = 0; i < 16; i++)
        body[i] = (uint8_t)(5 + i);
    memcpy(body, length == DCAP_TD_1_5_BODY ? (const uint8_t[]){6, 0x1c} : (const uint8_t[]){5, 0}, 2);
    memset(body + 16, 0x5e, 48);  /* MRSEAM */
    body[123] = 0x10;             /* SEPT_VE_DISABLE */
    memcpy(body + 128, (const uint8_t[]){0xe7, 0x02, 0x06}, 3);
    static const struct {
        int at, byte;
    } fields[] = {{136, 0x3a}, {184, 0xc1}, {232, 0x0a}, {280, 0x0b},
                  {328, 0x10}, {376, 0x11}, {424, 0x12}, {472, 0x13}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        memset(body + fields[i].at, fields[i].byte, 48);
    memset(body + 520, 0xd1, 64);
    if (length == DCAP_TD_1_5_BODY)
        memcpy(body + 584, body, 16);
}

struct dcap_machine dcap_machine_new(const char *type, int version, size_t body_length)
{
    static const uint8_t vendor[16] = {0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9,
                                       0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07};
    int is_tdx = strcmp(type, "tdx") == 0;
    struct dcap_machine machine = {.version = version, .body_length = body_length, .auth_length = 32, .chain_type = 5,
                                   .certification_type = 6, .fmspc = {0x00, 0xa0, 0x67, 0x11}, .pce_id = {0, 3},
                                   .pce_svn = 13, .smt = 0, .has_extension = 1, .pck_name = "Intel SGX PCK Certificate",
                                   .pck_curve = "P-256", .signer_name = "Intel SGX TCB Signing", .is_root_pinned = 1,
                                   .asked_at = evidence_time("2026-01-01")};
    machine.header[0] = (uint8_t)version;
    machine.header[2] = 2;
    machine.header[4] = is_tdx ? 0x81 : 0;
    memcpy(machine.header + 12, vendor, sizeof vendor);
    machine.body_type = body_length == DCAP_TD_1_5_BODY ? 3 : 2;
    machine.body_says = (unsigned)body_length;
    if (is_tdx)
        fill_td_body(machine.body, body_length);
    else
        fill_sgx_body(machine.body);
    uint8_t *report = machine.qe_report;
    report[16] = 0x03;            /* MISCSELECT, of which the mask leaves out a bit */
    report[48] = 0x15;            /* ATTRIBUTES: INIT, PROVISIONKEY, and MODE64BIT outside the mask */
    report[56] = 0xe7;
    memset(report + 128, 0x49, 32);
    report[256] = 2;
    report[258] = 8;
    memset(machine.auth_data, 0xaa, sizeof machine.auth_data);
    for (int i = 0; i < 16; i++)
        machine.svns[i] = (uint8_t)(11 + i);
    write_tcb_info(is_tdx, machine.tcb_info, sizeof machine.tcb_info);
    write_qe_identity(is_tdx, machine.qe_identity, sizeof machine.qe_identity);
    return machine;
}

/* ---- Certificates ---- */

static void append_der(struct buffer *out, int tag, const void *content, size_t length)
{
    buffer_append_byte(out, (uint8_t)tag);
    if (length >= 256)
        buffer_append(out, (const uint8_t[]){0x82, (uint8_t)(length >> 8), (uint8_t)length}, 3);
    else if (length >= 128)
        buffer_append(out, (const uint8_t[]){0x81, (uint8_t)length}, 2);
    else
        buffer_append_byte(out, (uint8_t)length);
    buffer_append(out, content, length);
}

/* SEQUENCE {1.2.840.113741.1.13.1.A or 1.2.840.113741.1.13.1.A.B (B not 0), value}. */
static void append_field(struct buffer *out, unsigned a, unsigned b, int tag, const void *content, size_t length)
{
    const uint8_t oid[] = {0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01, (uint8_t)a, (uint8_t)b};
    struct buffer field = {0};
    append_der(&field, 6, oid, sizeof oid - (b == 0));
    append_der(&field, tag, content, length);
    append_der(out, 0x30, field.data, field.length);
    buffer_free(&field);
}

static void append_tcb(const struct dcap_machine *machine, struct buffer *tcb)
{
    for (unsigned i = 1; i <= 17; i++) {
        unsigned value = i == 17 ? machine->pce_svn : machine->svns[i - 1];
        const uint8_t number[] = {0, (uint8_t)value};
        if (i != machine->tcb_left_out)
            append_field(tcb, 2, i, 2, number + (value < 128), sizeof number - (value < 128));
    }
    append_field(tcb, 2, 18, 4, machine->svns, 16);
}

/* The extension's content, in the order of Intel's certificates. */
static void write_extension(const struct dcap_machine *machine, struct buffer *out)
{
    struct buffer fields = {0}, tcb = {0}, configuration = {0};
    const uint8_t number[16] = {0x77}, smt = machine->smt ? 0xff : 0, no = 0;
    append_tcb(machine, &tcb);
    append_field(&configuration, 7, 1, 1, &no, 1);
    append_field(&configuration, 7, 2, 1, &no, 1);
    append_field(&configuration, 7, 3, 1, &smt, 1);
    const struct {
        unsigned number;
        int tag;
        const void *content;
        size_t length;
    } all[] = {{1, 4, number, 16},          {2, 0x30, tcb.data, tcb.length}, {3, 4, machine->pce_id, 2},
               {4, 4, machine->fmspc, 6},   {5, 10, &no, 1},                 {6, 4, number, 16},
               {7, 0x30, configuration.data, configuration.length}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i].number == machine->field_left_out || (all[i].number >= 6 && machine->smt < 0))
            continue;
        for (int j = 0; j < 1 + (all[i].number == machine->field_doubled); j++)
            append_field(&fields, all[i].number, 0, all[i].tag, all[i].content, all[i].length);
    }
    append_der(out, 0x30, fields.data, fields.length);
    buffer_free(&fields);
    buffer_free(&tcb);
    buffer_free(&configuration);
}

struct certificates_made {
    X509 *root, *other_root, *ca, *pck, *signer;
    X509_CRL *root_crl, *other_root_crl, *pck_crl;
};

static X509 *issue_pck(const struct dcap_machine *machine, const struct certificates_made *made)
{
    struct buffer content = {0};
    write_extension(machine, &content);
    const struct authority_extension extension = {"1.2.840.113741.1.13.1", content.data, content.length, 0};
    int is_below_root = machine->pck_is_below_root;
    X509 *pck = authority_issue(&(struct authority_certificate){
        .name = machine->pck_name,
        .key = strcmp(machine->pck_curve, "P-256") == 0 ? pck_key : big_key,
        .issuer = is_below_root ? made->root : made->ca,
        .issuer_key = is_below_root || machine->pck_is_issued_by_root_key ? root_key : ca_key,
        .from = machine->pck_from,
        .until = machine->pck_until,
        .serial = DCAP_PCK_SERIAL,
        .extensions = &extension,
        .extension_count = machine->has_extension != 0});
    buffer_free(&content);
    return pck;
}

static X509 *issue_signer(const struct dcap_machine *machine, const struct certificates_made *made)
{
    struct authority_certificate signer = {.name = machine->signer_name, .key = signer_key, .issuer = made->root,
                                           .issuer_key = root_key, .until = machine->signer_until,
                                           .serial = DCAP_SIGNER_SERIAL};
    if (machine->signer_is_below_ca) {
        signer.issuer = made->ca;
        signer.issuer_key = ca_key;
    } else if (machine->signer_is_below_other_root) {
        signer.issuer = made->other_root;
        signer.issuer_key = other_key;
    }
    return authority_issue(&signer);
}

static struct certificates_made make_certificates(const struct dcap_machine *machine)
{
    struct certificates_made made;
    made.root = authority_issue(&(struct authority_certificate){.name = "Intel SGX Root CA", .key = root_key,
                                                                .is_authority = 1, .serial = 70});
    made.other_root = authority_issue(&(struct authority_certificate){.name = "Intel SGX Root CB", .key = other_key,
                                                                      .is_authority = 1, .serial = 70});
    made.ca = authority_issue(&(struct authority_certificate){
        .name = "Intel SGX PCK Platform CA",
        .key = ca_key,
        .issuer = machine->ca_is_below_other_root ? made.other_root : made.root,
        .issuer_key = machine->ca_is_below_other_root ? other_key : root_key,
        .is_authority = 1,
        .until = machine->ca_until,
        .serial = DCAP_CA_SERIAL});
    made.pck = issue_pck(machine, &made);
    made.signer = issue_signer(machine, &made);
    made.root_crl = authority_revoke(made.root, root_key, machine->root_crl_from, machine->root_crl_until,
                                     &machine->revoked_by_root, machine->revoked_by_root != 0);
    made.other_root_crl = authority_revoke(made.other_root, other_key, 0, 0, NULL, 0);
    made.pck_crl = authority_revoke(made.ca, ca_key, machine->pck_crl_from, machine->pck_crl_until,
                                    &machine->revoked_by_ca, machine->revoked_by_ca != 0);
    test_roots_forget();
    if (machine->is_root_pinned)
        authority_trust("intel", made.root);
    return made;
}

static void free_certificates(struct certificates_made *made)
{
    X509_free(made->root);
    X509_free(made->other_root);
    X509_free(made->ca);
    X509_free(made->pck);
    X509_free(made->signer);
    X509_CRL_free(made->root_crl);
    X509_CRL_free(made->other_root_crl);
    X509_CRL_free(made->pck_crl);
}

/* PEM of a chain of `count` certificates, leaf first, in that order. */
static void append_chain(struct buffer *out, X509 *const *chain, size_t count, enum dcap_order order)
{
    size_t last = count - 1;
    for (size_t i = 0; i < count; i++) {
        size_t which = order == DCAP_SWAPPED && i >= last - 1 ? 2 * last - 1 - i : i;
        if (order == DCAP_TRUNCATED && i == last)
            break;
        authority_write_pem(out, chain[which]);
        if ((order == DCAP_EXTENDED && i == 0) || (order == DCAP_DOUBLED && i == last))
            authority_write_pem(out, chain[which]);
    }
}

/* ---- The quote ---- */

static void append_point(struct buffer *out, EVP_PKEY *key)
{
    uint8_t point[80];
    size_t length;
    assert_int_equal(EVP_PKEY_get_octet_string_param(key, "pub", point, sizeof point, &length), 1);
    assert_int_equal(length, 65);
    buffer_append(out, point + 1, 64);
}

static void append_signature(struct buffer *out, EVP_PKEY *key, const void *data, size_t length)
{
    uint8_t numbers[64];
    int is_small = EVP_PKEY_get_bits(key) == 256;
    if (is_small)
        authority_sign_raw(key, "SHA256", data, length, numbers, 32);
    else
        memset(numbers, 1, sizeof numbers);
    buffer_append(out, numbers, sizeof numbers);
}

/* From the QE's report on. */
static void append_certification(const struct dcap_machine *machine, const struct certificates_made *made,
                                 struct buffer *out)
{
    uint8_t report[384];
    struct buffer bound = {0}, chain = {0};
    append_point(&bound, machine->other_key_is_bound ? other_key : attestation_key);
    buffer_append(&bound, machine->auth_data, machine->auth_length);
    memcpy(report, machine->qe_report, sizeof report);
    assert_int_equal(EVP_Q_digest(NULL, "SHA256", NULL, bound.data, bound.length, report + 320, NULL), 1);
    report[383] = machine->report_data_end;
    buffer_append(out, report, sizeof report);
    int is_small = strcmp(machine->pck_curve, "P-256") == 0;
    append_signature(out, machine->other_signs_qe ? other_key : is_small ? pck_key : big_key, report, sizeof report);
    buffer_append_u16(out, (uint16_t)machine->auth_length);
    buffer_append(out, machine->auth_data, machine->auth_length);
    X509 *root = machine->ca_is_below_other_root ? made->other_root : made->root;
    if (machine->pck_is_below_root)
        append_chain(&chain, (X509 *const[]){made->pck, made->root}, 2, machine->pck_order);
    else if (!machine->has_no_certificates)
        append_chain(&chain, (X509 *const[]){made->pck, made->ca, root}, 3, machine->pck_order);
    if (machine->begins_a_certificate)
        buffer_append_text(&chain, "-----BEGIN x");
    buffer_append_byte(&chain, 0);
    buffer_append_u16(out, (uint16_t)machine->chain_type);
    buffer_append_u32(out, (uint32_t)((int)chain.length + machine->chain_length_more));
    buffer_append(out, chain.data, chain.length);
    buffer_free(&bound);
    buffer_free(&chain);
}

static void write_quote(const struct dcap_machine *machine, const struct certificates_made *made, struct buffer *out)
{
    struct buffer certification = {0}, data = {0};
    buffer_append(out, machine->header, sizeof machine->header);
    if (machine->version >= 5) {
        buffer_append_u16(out, (uint16_t)machine->body_type);
        buffer_append_u32(out, machine->body_says);
    }
    buffer_append(out, machine->body, machine->body_length);
    append_signature(&data, machine->other_signs_quote ? other_key : attestation_key, out->data, out->length);
    append_point(&data, attestation_key);
    append_certification(machine, made, &certification);
    if (machine->version >= 4) {
        buffer_append_u16(&data, (uint16_t)machine->certification_type);
        buffer_append_u32(&data, (uint32_t)((int)certification.length + machine->certification_length_more));
    }
    buffer_append(&data, certification.data, certification.length);
    buffer_append_u32(out, (uint32_t)((int)data.length + machine->data_length_more));
    buffer_append(out, data.data, data.length);
    for (size_t i = 0; i < machine->padding; i++)
        buffer_append_byte(out, i + 1 == machine->padding ? machine->padding_byte : 0);
    buffer_free(&certification);
    buffer_free(&data);
}

/* ---- The document ---- */

struct collateral {
    const struct dcap_machine *machine;
    struct buffer *document;
    int count;
};

static int is_left_out(const struct dcap_machine *machine, const char *name)
{
    return machine->left_out && strcmp(machine->left_out, name) == 0;
}

static void add_member(struct collateral *collateral, const char *name, const void *text, size_t length)
{
    if (is_left_out(collateral->machine, name))
        return;
    buffer_append_format(collateral->document, "%s\"%s\":", collateral->count++ ? "," : "", name);
    json_write_string(collateral->document, text, length);
}

static void add_hex(struct collateral *collateral, const char *name, const uint8_t *bytes, size_t length)
{
    struct buffer text = {0};
    char *hex = (char *)buffer_extend(&text, 2 * length + 1);
    hex_encode(bytes, length, hex);
    add_member(collateral, name, hex, 2 * length);
    buffer_free(&text);
}

static void add_statement(struct collateral *collateral, const char *name, const char *text, EVP_PKEY *key)
{
    char member[64], given[9000];
    uint8_t numbers[64];
    authority_sign_raw(key, "SHA256", text, strlen(text), numbers, 32);
    snprintf(given, sizeof given, "%s%s", text, collateral->machine->adds_blank ? " " : "");
    add_member(collateral, name, given, strlen(given));
    snprintf(member, sizeof member, "%s_signature", name);
    add_hex(collateral, member, numbers, sizeof numbers);
}

/* One list in DER and hex, the other in PEM; two of roots in PEM. */
static void add_lists(struct collateral *collateral, const struct certificates_made *made)
{
    struct buffer list = {0};
    if (collateral->machine->ca_is_below_other_root || collateral->machine->signer_is_below_other_root) {
        authority_write_crl_pem(&list, made->root_crl);
        authority_write_crl_pem(&list, made->other_root_crl);
        add_member(collateral, "root_ca_crl", list.data, list.length);
    } else {
        authority_write_crl_der(&list, made->root_crl);
        add_hex(collateral, "root_ca_crl", list.data, list.length);
    }
    buffer_clear(&list);
    authority_write_crl_pem(&list, made->pck_crl);
    add_member(collateral, "pck_crl", list.data, list.length);
    buffer_free(&list);
}

static void append_signer_chain(const struct dcap_machine *machine, const struct certificates_made *made,
                                struct buffer *chain)
{
    X509 *leaf = machine->signer_is_pck ? made->pck : made->signer;
    X509 *root = machine->signer_is_below_other_root ? made->other_root : made->root;
    if (machine->signer_is_pck || machine->signer_is_below_ca)
        append_chain(chain, (X509 *const[]){leaf, made->ca, root}, 3, machine->signer_order);
    else
        append_chain(chain, (X509 *const[]){leaf, root}, 2, machine->signer_order);
}

static void add_chains(struct collateral *collateral, const struct certificates_made *made)
{
    const struct dcap_machine *machine = collateral->machine;
    struct buffer chain = {0};
    append_signer_chain(machine, made, &chain);
    add_member(collateral, "tcb_info_issuer_chain", chain.data, chain.length);
    add_member(collateral, "qe_identity_issuer_chain", chain.data, chain.length);
    buffer_clear(&chain);
    X509 *root = machine->ca_is_below_other_root ? made->other_root : made->root;
    if (machine->pck_is_below_root)
        authority_write_pem(&chain, made->root);
    else
        append_chain(&chain, (X509 *const[]){machine->has_other_issuers ? made->signer : made->ca, root}, 2,
                     machine->issuers_order);
    add_member(collateral, "pck_crl_issuer_chain", chain.data, chain.length);
    buffer_free(&chain);
}

void dcap_write_document(const struct dcap_machine *machine, const char *type, struct buffer *document)
{
    struct certificates_made made = make_certificates(machine);
    struct buffer quote = {0};
    struct collateral collateral = {machine, document, 0};
    EVP_PKEY *signer = machine->signer_is_pck ? pck_key : signer_key;
    write_quote(machine, &made, &quote);
    evidence_begin(document, type);
    evidence_add_bytes(document, is_left_out(machine, "quote") ? "other" : "quote", quote.data, quote.length);
    buffer_append_format(document, ",\"%s\":{", is_left_out(machine, "collateral") ? "others" : "collateral");
    add_lists(&collateral, &made);
    add_chains(&collateral, &made);
    add_statement(&collateral, "tcb_info", machine->tcb_info, machine->other_signs_tcb_info ? other_key : signer);
    add_statement(&collateral, "qe_identity", machine->qe_identity,
                  machine->other_signs_qe_identity ? other_key : signer);
    buffer_append_text(document, "}}");
    free_certificates(&made);
    buffer_free(&quote);
}

const char *dcap_failures(const struct dcap_machine *machine, const char *type, const char *policy)
{
    struct buffer document = {0};
    dcap_write_document(machine, type, &document);
    bulla_verdict *verdict = evidence_judge(&document, policy, machine->asked_at);
    const char *failures = evidence_failures(verdict);
    assert_int_equal(bulla_verdict_passed(verdict), failures[0] == 0);
    bulla_verdict_free(verdict);
    buffer_free(&document);
    return failures;
}

int dcap_fails_as(const char *failures, const char *expected)
{
    const char *rest = strstr(expected, " ...");
    size_t length = rest ? (size_t)(rest - expected) : 0;
    return rest ? strncmp(failures, expected, length) == 0 && strncmp(failures + length, " policy.", 8) == 0
                : strcmp(failures, expected) == 0;
}
