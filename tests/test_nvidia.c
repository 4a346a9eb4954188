/* NVIDIA's GPUs: a real report verifies, and nothing that was changed does; so with a CPU's evidence that GPUs come with. */
#include "test.h"

#include <openssl/pem.h>

#include "authority.h"
#include "base/json.h"
#include "base/memory.h"
#include "evidence_document.h"
#include "trust_roots.h"

enum { REQUEST = 37, BLOCK = 55, BLOCKS = 64, NONCE = 32, NUMBERS = 96 };

/* ---- The real report ---- */

static uint8_t *real_report(size_t *length)
{
    size_t text_length;
    uint8_t *text = evidence_file(evidence_folder("nvidia"), "hopper-report.hex", &text_length);
    while (text_length > 0 && text[text_length - 1] == '\n')
        text_length--;
    uint8_t *bytes = memory_alloc(text_length / 2 + 1, 1, NULL);
    assert_true(hex_decode((const char *)text, text_length, bytes, text_length / 2));
    *length = text_length / 2;
    memory_free(text);
    return bytes;
}

static void write_real(const uint8_t *report, size_t length, struct buffer *document)
{
    size_t chain_length;
    uint8_t *chain = evidence_file(evidence_folder("nvidia"), "hopper-chain.pem", &chain_length);
    const char *const texts[] = {(const char *)chain};
    evidence_begin(document, "nvidia");
    evidence_add_bytes(document, "report", report, length);
    evidence_add_texts(document, "certificates", texts, 1);
    buffer_append_byte(document, '}');
    memory_free(chain);
}

static const char real_policy[] =
    "{\"type\":\"nvidia\",\"report_data\":\"27a328247bf7935c993341cf587be6f05986ccce4fe7ba2c54100bd616a58f66\","
    "\"gpu\":{\"chip\":\"GH100\",\"sku\":\"1010_0200_882\",\"driver_version\":[\"535.86.05\",\"535.86.09\"],"
    "\"vbios_version\":\"96.00.5E.00.01\",\"measurement\":{\"1\":"
    "\"c3f65ef79a19c029868cd7ce54b10e44f192444edb3506dde29cef2aac4e916c90a4f438e55aa7581a9e384c74d82db6\"}}}";

static void the_real_report_verifies(void **state)
{
    struct buffer document = {0};
    size_t length;
    if (!evidence_folder("nvidia"))
        skip();
    uint8_t *report = real_report(&length);
    write_real(report, length, &document);
    bulla_verdict *verdict = evidence_judge(&document, real_policy, evidence_time("2026-01-01"));
    assert_string_equal(evidence_failures(verdict), "");
    assert_true(bulla_verdict_passed(verdict));
    assert_string_equal(evidence_state(verdict, "nvidia.fwid"), "not checked");
    assert_string_equal(evidence_state(verdict, "nvidia.driver_rim"), "not checked");
    bulla_verdict_free(verdict);
    memory_free(report);
    buffer_free(&document);
}

static void every_signed_byte_counts(void **state)
{
    struct buffer document = {0};
    size_t length, flips = 0;
    if (!evidence_folder("nvidia"))
        skip();
    uint8_t *report = real_report(&length);
    for (size_t at = 0; at < length; at++)
        for (int bit = (int)(at % 8); bit < (int)test_count(at % 8 + 1, 8); bit++, flips++) {
            report[at] ^= (uint8_t)(1 << bit);
            write_real(report, length, &document);
            bulla_verdict *verdict = evidence_judge(&document, real_policy, evidence_time("2026-01-01"));
            if (bulla_verdict_passed(verdict))
                fail_msg("byte %zu, bit %d: accepted", at, bit);
            report[at] ^= (uint8_t)(1 << bit);
            bulla_verdict_free(verdict);
        }
    memory_free(report);
    buffer_free(&document);
    print_message("%zu bits flipped, none accepted\n", flips);
}

/* Each certificate of the real chain, byte by byte. */
static void every_byte_of_the_chain_counts(void **state)
{
    struct buffer document = {0}, ders[5] = {{0}};
    size_t length, chain_length, count = 0, flips = 0;
    if (!evidence_folder("nvidia"))
        skip();
    uint8_t *report = real_report(&length), *chain = evidence_file(evidence_folder("nvidia"), "hopper-chain.pem", &chain_length);
    BIO *in = BIO_new_mem_buf(chain, (int)chain_length);
    for (X509 *certificate; count < 5 && (certificate = PEM_read_bio_X509(in, NULL, NULL, NULL)); count++) {
        authority_write_der(&ders[count], certificate);
        X509_free(certificate);
    }
    BIO_free(in);
    assert_int_equal(count, 5);
    for (size_t i = 0; i < count; i++)
        for (size_t at = 0; at < ders[i].length; at += test_count(3, 1), flips++) {
            ders[i].data[at] ^= (uint8_t)(1 << at % 8);
            evidence_begin(&document, "nvidia");
            evidence_add_bytes(&document, "report", report, length);
            buffer_append_text(&document, ",\"certificates\":");
            for (size_t j = 0; j < count; j++) {
                buffer_append_text(&document, j ? ",\"" : "[\"");
                base64_append(&document, ders[j].data, ders[j].length);
                buffer_append_byte(&document, '"');
            }
            buffer_append_text(&document, "]}");
            bulla_verdict *verdict = evidence_judge(&document, real_policy, evidence_time("2026-01-01"));
            if (bulla_verdict_passed(verdict))
                fail_msg("certificate %zu, byte %zu: accepted", i, at);
            bulla_verdict_free(verdict);
            ders[i].data[at] ^= (uint8_t)(1 << at % 8);
        }
    for (size_t i = 0; i < count; i++)
        buffer_free(&ders[i]);
    memory_free(report);
    memory_free(chain);
    buffer_free(&document);
    print_message("%zu bytes of certificates changed, none accepted\n", flips);
}

/* ---- GPUs of our own ---- */

struct opaque {
    int type;
    const char *bytes;
    size_t length;
};

enum { MOST_OPAQUE = 16, FWID_NONE, FWID_HOPPER, FWID_BLACKWELL, FWID_OF_SHA256, FWID_SHORT, FWID_UNTAGGED };
enum { ORDER_RIGHT, ORDER_SWAPPED, ORDER_TRUNCATED, ORDER_EXTENDED, ORDER_SHORT };

/* A reference manifest. */
struct rim {
    int is_given, is_forged, is_of_other_key, leaf_is_small;
    const char *version;
    int index, alternatives;  /* of the one measurement that counts */
    uint8_t value;            /* its bytes */
    const char *active, *type, *more;
    int64_t leaf_until;
    int is_root_pinned, is_short;
};

struct gpu {
    uint8_t request[REQUEST], response[4];
    int block_count;
    struct {
        uint8_t index, specification, type;
        uint16_t size, value_size;
    } blocks[BLOCKS + 1];
    size_t blocks_written, record_more;
    struct opaque opaque[MOST_OPAQUE];
    size_t opaque_count, opaque_cut;
    const char *report_more;
    int fwid;                 /* the leaf's */
    const char *leaf_name, *leaf_curve;
    int order, is_root_pinned, signs_with_other_key, is_revoked;
    int64_t leaf_until;
    struct rim rims[2];
    const char *left_out, *more, *policy, *gpu_policy;
};

#define DATA(text) text, sizeof text - 1
#define FWID_BYTES "firmware identity of forty-eight bytes, exactly.."

static EVP_PKEY *root_key, *leaf_key, *other_key, *small_key, *rim_key;

static int make_keys(void **state)
{
    root_key = authority_key("P-384");
    leaf_key = authority_key("P-384");
    other_key = authority_key("P-384");
    small_key = authority_key("P-256");
    rim_key = authority_key("P-384");
    return 0;
}

static int free_keys(void **state)
{
    EVP_PKEY *const keys[] = {root_key, leaf_key, other_key, small_key, rim_key};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        EVP_PKEY_free(keys[i]);
    return 0;
}

static struct gpu new_gpu(void)
{
    static const struct opaque opaque[] = {
        {6, DATA("\x00\x5e\x00\x96\x01\0\0\0")}, {15, DATA("882\0")}, {17, DATA("1010\0")}, {18, DATA("0200\0")},
        {3, DATA("535.86.09\0")}, {11, DATA("\xaa")}, {20, FWID_BYTES, 48}, {34, DATA("\x01\0")}, {99, DATA("later")}};
    struct gpu gpu = {.request = {0x11, 0xe0, 1, 0xff}, .response = {0x11, 0x60}, .block_count = BLOCKS,
                      .blocks_written = BLOCKS, .fwid = FWID_HOPPER, .leaf_name = "GH100 A01 GSP FMC LF",
                      .leaf_curve = "P-384", .is_root_pinned = 1};
    memset(gpu.request + 4, 0xd1, NONCE);
    for (int i = 0; i <= BLOCKS; i++) {
        gpu.blocks[i].index = (uint8_t)(i + 1);
        gpu.blocks[i].specification = gpu.blocks[i].type = 1;
        gpu.blocks[i].size = 51;
        gpu.blocks[i].value_size = 48;
    }
    memcpy(gpu.opaque, opaque, sizeof opaque);
    gpu.opaque_count = sizeof opaque / sizeof *opaque;
    for (int i = 0; i < 2; i++)
        gpu.rims[i] = (struct rim){.is_given = 1, .version = i ? "96.00.5E.00.01" : "535.86.09", .index = i ? 2 : 35,
                                   .alternatives = 2, .value = i ? 2 : 35, .active = "True", .type = "Measurement",
                                   .is_root_pinned = 1};
    return gpu;
}

/* Measurement n is 48 bytes of n, numbered from 0. */
static void write_report(const struct gpu *gpu, struct buffer *report)
{
    size_t record = 0;
    struct buffer opaque = {0};
    uint8_t numbers[NUMBERS];
    for (size_t i = 0; i < gpu->blocks_written; i++)
        record += 4 + (size_t)gpu->blocks[i].size;
    buffer_append(report, gpu->request, REQUEST);
    buffer_append(report, gpu->response, 4);
    buffer_append_byte(report, (uint8_t)gpu->block_count);
    buffer_append_u16(report, (uint16_t)(record + gpu->record_more));
    buffer_append_byte(report, 0);
    for (size_t i = 0; i < gpu->blocks_written; i++) {
        buffer_append_byte(report, gpu->blocks[i].index);
        buffer_append_byte(report, gpu->blocks[i].specification);
        buffer_append_u16(report, gpu->blocks[i].size);
        buffer_append_byte(report, gpu->blocks[i].type);
        buffer_append_u16(report, gpu->blocks[i].value_size);
        memset(buffer_extend(report, gpu->blocks[i].size - 3u), (int)i, gpu->blocks[i].size - 3u);
    }
    buffer_extend(report, gpu->record_more);
    memset(buffer_extend(report, NONCE), 0xee, NONCE);
    for (size_t i = 0; i < gpu->opaque_count; i++) {
        buffer_append_u16(&opaque, (uint16_t)gpu->opaque[i].type);
        buffer_append_u16(&opaque, (uint16_t)gpu->opaque[i].length);
        buffer_append(&opaque, gpu->opaque[i].bytes, gpu->opaque[i].length);
    }
    buffer_append_u16(report, (uint16_t)(opaque.length - gpu->opaque_cut));
    buffer_append(report, opaque.data, opaque.length - gpu->opaque_cut);
    authority_sign_raw(gpu->signs_with_other_key ? other_key : leaf_key, "SHA384", report->data, report->length, numbers, 48);
    buffer_append(report, numbers, NUMBERS);
    if (gpu->report_more)
        buffer_append_text(report, gpu->report_more);
    buffer_free(&opaque);
}

/* SEQUENCE { sha384 (or sha256), OCTET STRING } */
static void write_fwid(struct buffer *out, int is_sha256, size_t length)
{
    buffer_append(out, (const uint8_t[]){0x30, (uint8_t)(13 + length), 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2,
                                         is_sha256 ? 1 : 2, 4, (uint8_t)length}, 15);
    buffer_append(out, FWID_BYTES, length);
}

static X509 *issue_leaf(const struct gpu *gpu, X509 *issuer)
{
    struct buffer content = {0}, fwid = {0};
    int is_blackwell = gpu->fwid == FWID_BLACKWELL || gpu->fwid == FWID_UNTAGGED;
    write_fwid(&fwid, gpu->fwid == FWID_OF_SHA256, gpu->fwid == FWID_SHORT ? 47 : 48);
    if (is_blackwell) { /* vendor, then the list of two FWIDs */
        buffer_append(&content, (const uint8_t[]){0x30, 0x81, (uint8_t)(8 + 2 + 2 * fwid.length)}, 3);
        buffer_append(&content, "\x80\x06NVIDIA", 8);
        buffer_append(&content, (const uint8_t[]){gpu->fwid == FWID_BLACKWELL ? 0xa6 : 0xa7, (uint8_t)(2 * fwid.length)}, 2);
        buffer_append(&content, fwid.data, fwid.length);
        buffer_append(&content, fwid.data, fwid.length);
        content.data[content.length - 1] ^= 1;
    } else {
        buffer_append(&content, (const uint8_t[]){0x30, (uint8_t)(3 + 4 + fwid.length), 2, 1, 1, 0x30, 2, 5, 0}, 9);
        buffer_append(&content, fwid.data, fwid.length);
    }
    const struct authority_extension extension = {is_blackwell ? "2.23.133.5.4.1.1" : "2.23.133.5.4.1", content.data,
                                                  content.length, 0};
    X509 *leaf = authority_issue(&(struct authority_certificate){
        .name = gpu->leaf_name, .key = strcmp(gpu->leaf_curve, "P-384") == 0 ? leaf_key : small_key, .issuer = issuer,
        .issuer_key = other_key, .until = gpu->leaf_until, .extensions = &extension,
        .extension_count = gpu->fwid == FWID_NONE ? 0 : 1});
    buffer_free(&content);
    buffer_free(&fwid);
    return leaf;
}

/* Leaf, boot ROM, provisioner, model, root. */
static void add_chain(const struct gpu *gpu, struct buffer *document)
{
    static const char *const names[] = {"GH100 A01 GSP BROM", "Provisioner", "GH100 Identity", "Device Identity"};
    struct buffer pem[5] = {{0}}, list = {0};
    X509 *chain[5];
    for (int i = 4; i > 0; i--)
        chain[i] = authority_issue(&(struct authority_certificate){
            .name = names[i - 1], .key = i == 4 ? root_key : other_key, .issuer = i == 4 ? NULL : chain[i + 1],
            .issuer_key = i >= 3 ? root_key : other_key, .is_authority = 1, .serial = 10 + i});
    chain[0] = issue_leaf(gpu, chain[1]);
    for (int i = 0; i < 5; i++)
        authority_write_pem(&pem[i], chain[i]);
    const char *t[5];
    for (int i = 0; i < 5; i++)
        t[i] = (const char *)pem[i].data;
    const struct {
        const char *texts[6];
        size_t count;
    } orders[] = {[ORDER_RIGHT] = {{t[0], t[1], t[2], t[3], t[4]}, 5},
                  [ORDER_SWAPPED] = {{t[0], t[2], t[1], t[3], t[4]}, 5},
                  [ORDER_TRUNCATED] = {{t[0], t[1], t[2], t[3]}, 4},
                  [ORDER_EXTENDED] = {{t[0], t[0], t[1], t[2], t[3], t[4]}, 6},
                  [ORDER_SHORT] = {{NULL}, 0}};
    evidence_add_texts(document, "certificates", orders[gpu->order].texts, orders[gpu->order].count);
    if (gpu->is_root_pinned)
        authority_trust("nvidia", chain[4]);
    if (gpu->is_revoked) { /* the model's, by the root; or one that is not there */
        const int64_t serial = gpu->is_revoked;
        X509_CRL *crl = authority_revoke(chain[4], root_key, 0, 0, &serial, 1);
        authority_write_crl_pem(&list, crl);
        const char *const texts[] = {(const char *)list.data};
        evidence_add_texts(document, "crls", texts, 1);
        X509_CRL_free(crl);
    }
    for (int i = 0; i < 5; i++) {
        X509_free(chain[i]);
        buffer_free(&pem[i]);
    }
    buffer_free(&list);
}

/* ---- Reference manifests ---- */

static void write_content(const struct rim *rim, struct buffer *content)
{
    buffer_append_format(content, "<SoftwareIdentity name=\"GH100\">\n<ns0:Meta colloquialVersion=\"%s\" edition=\"GPU\"></ns0:Meta>\n",
                         rim->version);
    for (int i = 0; i < 3; i++) {
        char hex[97], zeros[97];
        memset(zeros, '0', 96);
        zeros[96] = 0;
        for (int j = 0; j < 48; j++)
            snprintf(hex + 2 * j, 3, "%02x", i == 1 ? rim->value : 0xff);
        buffer_append_format(content,
                             "<ns0:Resource active=\"%s\" alternatives=\"%d\" index=\"%d\" name=\"M = > 1\" size=\"48\" "
                             "type=\"%s\" ns2:Hash0=\"%s\" ns2:Hash1=\"%s\"></ns0:Resource>\n",
                             i == 1 ? rim->active : i == 0 ? "False" : "True", rim->alternatives, i == 1 ? rim->index : 5,
                             i == 2 ? "Other" : rim->type, zeros, hex);
    }
    buffer_append_format(content, "%s</SoftwareIdentity>", rim->more ? rim->more : "");
}

static void sign_content(const struct rim *rim, const struct buffer *content, uint8_t numbers[NUMBERS])
{
    static const char before[] =
        "<ds:SignedInfo xmlns=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\""
        " xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\""
        " xmlns:ns0=\"http://standards.iso.org/iso/19770/-2/2015/schema.xsd\""
        " xmlns:ns2=\"http://www.w3.org/2001/04/xmlenc#sha384\">"
        "<ds:CanonicalizationMethod Algorithm=\"http://www.w3.org/2006/12/xml-c14n11\"></ds:CanonicalizationMethod>"
        "<ds:SignatureMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384\"></ds:SignatureMethod>"
        "<ds:Reference URI=\"\"><ds:Transforms><ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\">"
        "</ds:Transform><ds:Transform Algorithm=\"http://www.w3.org/2006/12/xml-c14n11\"></ds:Transform></ds:Transforms>"
        "<ds:DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#sha384\"></ds:DigestMethod><ds:DigestValue>";
    struct buffer info = {0};
    uint8_t digest[48];
    assert_int_equal(EVP_Q_digest(NULL, "SHA384", NULL, content->data, content->length, digest, NULL), 1);
    buffer_append_text(&info, before);
    base64_append(&info, digest, sizeof digest);
    buffer_append_text(&info, "</ds:DigestValue></ds:Reference></ds:SignedInfo>");
    authority_sign_raw(rim->is_of_other_key ? leaf_key : rim_key, "SHA384", info.data, info.length, numbers, 48);
    buffer_free(&info);
}

static void add_rim(struct rim *rim, const char *member, struct buffer *document)
{
    struct buffer content = {0}, pem[2] = {{0}};
    uint8_t numbers[NUMBERS];
    X509 *root = authority_issue(&(struct authority_certificate){.name = "CoRIM", .key = root_key, .is_authority = 1});
    X509 *leaf = authority_issue(&(struct authority_certificate){.name = "RIM signer", .issuer = root, .issuer_key = root_key,
                                                                 .key = rim->leaf_is_small ? small_key : rim_key,
                                                                 .until = rim->leaf_until});
    if (rim->is_root_pinned)
        authority_trust("nvidia_rim", root);
    write_content(rim, &content);
    sign_content(rim, &content, numbers);
    if (rim->is_forged)
        *strstr((char *)content.data, "GH100") = 'X';
    authority_write_pem(&pem[0], leaf);
    authority_write_pem(&pem[1], root);
    const char *const texts[] = {(const char *)pem[0].data, (const char *)pem[1].data};
    buffer_append_format(document, "\"%s\":{\"version\":1", member);
    evidence_add_bytes(document, "content", content.data, content.length);
    evidence_add_bytes(document, "signature", numbers, rim->is_short ? NUMBERS - 1 : NUMBERS);
    evidence_add_texts(document, "certificates", texts, 2);
    buffer_append_byte(document, '}');
    buffer_free(&content);
    buffer_free(&pem[0]);
    buffer_free(&pem[1]);
    X509_free(root);
    X509_free(leaf);
}

static void write_gpu(struct gpu *gpu, struct buffer *document)
{
    struct buffer report = {0};
    write_report(gpu, &report);
    buffer_append_text(document, "{\"bulla_evidence\":1,\"type\":\"nvidia\"");
    if (!gpu->left_out || strcmp(gpu->left_out, "report") != 0)
        evidence_add_bytes(document, "report", report.data, report.length);
    add_chain(gpu, document);
    buffer_append_text(document, ",\"rims\":{");
    if (gpu->rims[0].is_given)
        add_rim(&gpu->rims[0], "driver", document);
    if (gpu->rims[0].is_given && gpu->rims[1].is_given)
        buffer_append_byte(document, ',');
    if (gpu->rims[1].is_given)
        add_rim(&gpu->rims[1], "vbios", document);
    buffer_append_format(document, "}%s}", gpu->more ? gpu->more : "");
    buffer_free(&report);
}

static const char *judge_gpu(struct gpu *gpu)
{
    struct buffer document = {0};
    char policy[2048];
    test_roots_forget();
    write_gpu(gpu, &document);
    snprintf(policy, sizeof policy,
             "{\"report_data\":\"d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1\",%s\"gpu\":{%s}}",
             gpu->policy ? gpu->policy : "", gpu->gpu_policy ? gpu->gpu_policy : "");
    bulla_verdict *verdict = evidence_judge(&document, policy, evidence_time("2026-01-01"));
    const char *failures = evidence_failures(verdict);
    assert_int_equal(bulla_verdict_passed(verdict), failures[0] == 0);
    bulla_verdict_free(verdict);
    buffer_free(&document);
    return failures;
}

static void set_opaque(struct gpu *gpu, int type, const char *bytes, size_t length)
{
    for (size_t i = 0; i < gpu->opaque_count; i++)
        if (gpu->opaque[i].type == type)
            gpu->opaque[i] = (struct opaque){type, bytes, length};
}

/* The driver's values with which nothing is compared: "policy.gpu.allow_unmeasured" is asked then. */
#define UNMEASURED " policy.gpu.allow_unmeasured"
#define DRIVER (g->rims[0])
#define VBIOS (g->rims[1])

#define CHANGES(X)                                                                                                      \
    X(nothing, "", (void)g)                                                                                             \
    X(blackwell, "", (g->leaf_name = "GB100 A01 GSP FMC LF", g->fwid = FWID_BLACKWELL))                                 \
    X(no_report, "nvidia.report policy.report_data", g->left_out = "report")                                            \
    X(report_with_more, "nvidia.report.form policy.report_data", g->report_more = "x")                                  \
    X(request_of_spdm_1_2, "nvidia.request.version", g->request[0] = 0x12)                                              \
    X(another_request, "nvidia.request.code", g->request[1] = 0xe1)                                                     \
    X(request_without_signature, "nvidia.request.attributes", g->request[2] = 0)                                        \
    X(request_of_one, "nvidia.request.operation", g->request[3] = 1)                                                    \
    X(response_of_spdm_1_0, "nvidia.response.version", g->response[0] = 0x10)                                           \
    X(another_response, "nvidia.response.code", g->response[1] = 0x61)                                                  \
    X(response_of_another_slot, "nvidia.response.slot", g->response[3] = 1)                                             \
    X(both_of_another_slot, "", (g->response[3] = 1, g->request[36] = 1))                                               \
    X(another_nonce, "policy.report_data", g->request[20] = 0)                                                          \
    X(fewer_blocks_said, "nvidia.measurements.count" UNCOMPARED, g->block_count = 63)                                   \
    X(more_blocks_than_64, "nvidia.measurements.count" UNCOMPARED, (g->block_count = 65, g->blocks_written = 65))       \
    X(no_block, "nvidia.measurements.count" UNCOMPARED, (g->block_count = 0, g->blocks_written = 0))                    \
    X(half_a_block, "nvidia.measurements.count nvidia.measurements.specification nvidia.measurements.kind "             \
      "nvidia.measurements.order" UNCOMPARED, g->record_more = 3)                                                       \
    X(fewer_blocks, "", g->block_count = g->blocks_written = 40)                                                        \
    X(block_of_another_specification, "nvidia.measurements.specification", g->blocks[40].specification = 2)             \
    X(block_of_raw_bits, "nvidia.measurements.kind" UNCOMPARED, g->blocks[40].type = 0x81)                              \
    X(block_of_32_bytes, "nvidia.measurements.kind" UNCOMPARED, (g->blocks[40].size = 35, g->blocks[40].value_size = 32)) \
    X(block_of_two_sizes, "nvidia.measurements.kind" UNCOMPARED, g->blocks[40].value_size = 47)                         \
    X(block_of_another_kind, "", g->blocks[40].type = 3)                                                                \
    X(block_twice, "nvidia.measurements.order", g->blocks[40].index = 40)                                               \
    X(opaque_cut, "nvidia.opaque.form", g->opaque_cut = 1)                                                              \
    X(opaque_twice, "nvidia.opaque.form", (g->opaque[8] = g->opaque[1]))                                                \
    X(opaque_of_version_0, "", set_opaque(g, 34, DATA("\0\0")))                                                         \
    X(opaque_of_version_2, "nvidia.opaque.version", set_opaque(g, 34, DATA("\x02\0")))                                  \
    X(opaque_of_version_256, "nvidia.opaque.version", set_opaque(g, 34, DATA("\0\x01")))                                \
    X(opaque_of_a_short_version, "nvidia.opaque.version", set_opaque(g, 34, DATA("\x01")))                              \
    X(no_driver, "nvidia.opaque.driver_version nvidia.driver_rim.version" UNMEASURED, g->opaque[4].type = 40)           \
    X(driver_of_odd_characters, "nvidia.opaque.driver_version nvidia.driver_rim.version" UNMEASURED,                    \
      set_opaque(g, 3, DATA("535\n86")))                                                                                \
    X(no_vbios, "nvidia.opaque.vbios_version nvidia.vbios_rim.version" UNMEASURED, g->opaque[0].type = 40)              \
    X(short_vbios, "nvidia.opaque.vbios_version nvidia.vbios_rim.version" UNMEASURED, g->opaque[0].length = 7)          \
    X(no_fwid, "", g->opaque[6].type = 40)                                                                              \
    X(fwid, "nvidia.fwid", set_opaque(g, 20, "firmware identity of forty-eight bytes, exactly:.", 48))                  \
    X(short_fwid, "nvidia.fwid", set_opaque(g, 20, FWID_BYTES, 47))                                                     \
    X(leaf_without_fwid, "nvidia.fwid", g->fwid = FWID_NONE)                                                            \
    X(leaf_with_fwid_of_sha256, "nvidia.fwid", g->fwid = FWID_OF_SHA256)                                                \
    X(leaf_with_short_fwid, "nvidia.fwid", g->fwid = FWID_SHORT)                                                        \
    X(leaf_with_fwid_elsewhere, "nvidia.fwid", g->fwid = FWID_UNTAGGED)                                                 \
    X(a_switch, "nvidia.certificate.kind", g->leaf_name = "LS_10 A01 FSP FMC LF")                                       \
    X(a_name_alone, "nvidia.certificate.kind", g->leaf_name = " GSP FMC LF")                                            \
    X(leaf_on_p256, "nvidia.certificate.key nvidia.report.signature", g->leaf_curve = "P-256")                          \
    X(signed_by_another, "nvidia.report.signature", g->signs_with_other_key = 1)                                        \
    X(leaf_expired, "nvidia.chain", g->leaf_until = evidence_time("2025-12-31"))                                        \
    X(chain_swapped, "nvidia.chain", g->order = ORDER_SWAPPED)                                                          \
    X(chain_truncated, "nvidia.chain nvidia.root nvidia.chain.length", g->order = ORDER_TRUNCATED)                      \
    X(chain_extended, "nvidia.chain nvidia.chain.length", g->order = ORDER_EXTENDED)                                    \
    X(chain_empty, "nvidia.certificates", g->order = ORDER_SHORT)                                                       \
    X(another_root, "nvidia.root", g->is_root_pinned = 0)                                                               \
    X(model_revoked, "nvidia.chain", g->is_revoked = 13)                                                                \
    X(crls_malformed, "nvidia.crls", g->more = ",\"crls\":\"*\"")                                                        \
    X(others_revoked, "", g->is_revoked = 99)                                                                           \
    X(rims_missing, "policy.gpu.allow_unmeasured", (DRIVER.is_given = 0, VBIOS.is_given = 0))                           \
    X(driver_rim_missing, "policy.gpu.allow_unmeasured", DRIVER.is_given = 0)                                           \
    X(vbios_rim_missing, "policy.gpu.allow_unmeasured", VBIOS.is_given = 0)                                             \
    X(rims_not_wanted, "",                                                                                              \
      (DRIVER.is_given = 0, VBIOS.is_given = 0, g->gpu_policy = "\"allow_unmeasured\":true"))                           \
    X(rims_wanted, "policy.gpu.allow_unmeasured", (DRIVER.is_given = 0, g->gpu_policy = "\"allow_unmeasured\":false"))  \
    X(measurements_named_instead, "", (DRIVER.is_given = 0, g->gpu_policy = MEASUREMENTS))                              \
    X(driver_rim_forged, "nvidia.driver_rim.signature" UNMEASURED, DRIVER.is_forged = 1)                                \
    X(driver_rim_of_another_key, "nvidia.driver_rim.signature" UNMEASURED, DRIVER.is_of_other_key = 1)                  \
    X(driver_rim_on_p256, "nvidia.driver_rim.signature" UNMEASURED, DRIVER.leaf_is_small = 1)                           \
    X(driver_rim_short, "nvidia.driver_rim" UNMEASURED, DRIVER.is_short = 1)                                            \
    X(driver_rim_expired, "nvidia.driver_rim.chain" UNMEASURED, DRIVER.leaf_until = evidence_time("2025-12-31"))        \
    X(rims_of_another_root,                                                                                             \
      "nvidia.driver_rim.root nvidia.vbios_rim.root" UNMEASURED, DRIVER.is_root_pinned = VBIOS.is_root_pinned = 0)      \
    X(driver_rim_of_another_version, "nvidia.driver_rim.version" UNMEASURED, DRIVER.version = "535.86.1")               \
    X(driver_rim_of_the_vbios, "nvidia.driver_rim.version" UNMEASURED, DRIVER.version = "96.00.5E.00.01")               \
    X(driver_rim_of_other_values, "nvidia.driver_rim.measurements" UNMEASURED, DRIVER.value = 0)                        \
    X(driver_rim_of_unlisted_values, "nvidia.driver_rim.measurements" UNMEASURED, DRIVER.alternatives = 1)              \
    X(driver_rim_of_no_values, "nvidia.driver_rim.measurements" UNMEASURED, DRIVER.alternatives = 0)                    \
    X(driver_rim_of_measurement_64, "nvidia.driver_rim.measurements" UNMEASURED, DRIVER.index = 64)                     \
    X(driver_rim_of_nothing_active, "nvidia.driver_rim.measurements" UNMEASURED, DRIVER.active = "False")               \
    X(driver_rim_of_other_resources, "nvidia.driver_rim.measurements" UNMEASURED, DRIVER.type = "File")                 \
    X(driver_rim_with_a_broken_element, "nvidia.driver_rim.measurements" UNMEASURED,                                    \
      DRIVER.more = "<ns0:Resource type=\"Measurement\" active=\"True")                                                 \
    X(no_decoder, "", (set_opaque(g, 11, DATA("\x55")), DRIVER.value = 0, DRIVER.more = ANOTHER_ELEMENT))               \
    X(a_decoder, "nvidia.driver_rim.measurements" UNMEASURED, (DRIVER.value = 0, DRIVER.more = ANOTHER_ELEMENT))        \
    X(vbios_rim_forged, "nvidia.vbios_rim.signature" UNMEASURED, VBIOS.is_forged = 1)                                   \
    X(vbios_rim_short, "nvidia.vbios_rim" UNMEASURED, VBIOS.is_short = 1)                                               \
    X(vbios_rim_expired, "nvidia.vbios_rim.chain" UNMEASURED, VBIOS.leaf_until = evidence_time("2025-12-31"))           \
    X(vbios_rim_of_another_version, "nvidia.vbios_rim.version" UNMEASURED, VBIOS.version = "96.00.5e.00.01")            \
    X(vbios_rim_of_other_values, "nvidia.vbios_rim.measurements" UNMEASURED, VBIOS.value = 0)                           \
    X(all_that_the_policy_names, "", g->gpu_policy =                                                                    \
      "\"driver_version\":\"535.86.09\",\"vbios_version\":\"96.00.5E.00.01\",\"chip\":[\"GB100\",\"GH100\"],"           \
      "\"sku\":\"1010_0200_882\",\"required\":true")                                                                    \
    X(policy_driver, "policy.gpu.driver_version", g->gpu_policy = "\"driver_version\":\"535.86.10\"")                   \
    X(policy_vbios, "policy.gpu.vbios_version", g->gpu_policy = "\"vbios_version\":\"96.00.5E.00.02\"")                 \
    X(policy_chip, "policy.gpu.chip", g->gpu_policy = "\"chip\":\"GB100\"")                                             \
    X(policy_sku, "policy.gpu.sku", g->gpu_policy = "\"sku\":\"1010_0200_883\"")                                        \
    X(policy_sku_unsaid, "policy.gpu.sku", (g->gpu_policy = "\"sku\":\"1010_0200_882\"", g->opaque[1].type = 40))       \
    X(policy_measurement, "policy.gpu.measurement", g->gpu_policy = "\"measurement\":{\"63\":\"3f\"}")                  \
    X(policy_measurement_missing, "policy.gpu.measurement",                                                             \
      (g->gpu_policy = MEASUREMENTS, g->block_count = g->blocks_written = 40))

/* Claims that are not made where measurements cannot be read, and manifests with which nothing can be compared. */
#define UNCOMPARED " nvidia.driver_rim.measurements nvidia.vbios_rim.measurements" UNMEASURED
#define HEX_63 "3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f"
#define HEX_9 "090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909"
#define MEASUREMENTS "\"measurement\":{\"63\":\"" HEX_63 "\",\"9\":[\"00\",\"" HEX_9 "\"]}"
#define ANOTHER_ELEMENT                                                                                           \
    "<ns0:Resource active=\"True\" alternatives=\"1\" index=\"9\" type=\"Measurement\" ns2:Hash0=\"" HEX_9 "\"></ns0:Resource>"

struct change {
    const char *what, *fails;
    void (*make)(struct gpu *gpu);
};

#define DEFINE(name, failing, change)            \
    static void change_##name(struct gpu *g)     \
    {                                            \
        change;                                  \
    }
CHANGES(DEFINE)
#define LIST(name, failing, change) {#name, failing, change_##name},
static const struct change changes[] = {CHANGES(LIST)};

static void every_change_is_seen_by_its_check(void **state)
{
    int wrong = 0;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct gpu gpu = new_gpu();
        changes[i].make(&gpu);
        const char *failures = judge_gpu(&gpu);
        if (strcmp(failures, changes[i].fails) != 0 && ++wrong)
            print_error("%s: these checks fail: \"%s\", expected \"%s\"\n", changes[i].what, failures, changes[i].fails);
    }
    assert_int_equal(wrong, 0);
    print_message("%zu changes, each signed again and seen by its check\n", sizeof changes / sizeof *changes);
}

/* ---- GPUs that come with a CPU's evidence ---- */

static void put(struct buffer *out, uint64_t value, int bytes)
{
    for (int i = bytes; i-- > 0;)
        buffer_append_byte(out, (uint8_t)(value >> (8 * i)));
}

/* A TPM's quote of one register with that nonce, without the closing brace. */
static void write_cpu(const uint8_t *nonce, size_t nonce_length, struct buffer *document)
{
    struct buffer quote = {0}, signature = {0};
    uint8_t numbers[64], zeros[32] = {0}, digest[32];
    BIO *out = BIO_new(BIO_s_mem());
    char *pem;
    put(&quote, 0xff5443478018, 6);
    put(&quote, 0, 2);
    put(&quote, nonce_length, 2);
    buffer_append(&quote, nonce, nonce_length);
    buffer_extend(&quote, 25);
    put(&quote, 1, 4);
    put(&quote, 0x000b03800000, 6);
    put(&quote, 32, 2);
    assert_int_equal(EVP_Q_digest(NULL, "SHA256", NULL, zeros, 32, digest, NULL), 1);
    buffer_append(&quote, digest, 32);
    authority_sign_raw(small_key, "SHA256", quote.data, quote.length, numbers, 32);
    put(&signature, 0x0018000b0020, 6);
    buffer_append(&signature, numbers, 32);
    put(&signature, 32, 2);
    buffer_append(&signature, numbers + 32, 32);
    evidence_begin(document, "tpm");
    evidence_add_bytes(document, "quote", quote.data, quote.length);
    evidence_add_bytes(document, "signature", signature.data, signature.length);
    buffer_append_format(document, ",\"pcrs\":{\"sha256\":{\"7\":\"%064d\"}},\"ak\":", 0);
    assert_int_equal(PEM_write_bio_PUBKEY(out, small_key), 1);
    long length = BIO_get_mem_data(out, &pem);
    json_write_string(document, pem, (size_t)length);
    BIO_free(out);
    buffer_free(&quote);
    buffer_free(&signature);
}

static void write_cpu_policy(const uint8_t *nonce, size_t nonce_length, const char *more, char policy[1024])
{
    unsigned char *der = NULL;
    uint8_t sha256[32];
    char key[65], hex[129];
    int length = i2d_PUBKEY(small_key, &der);
    assert_int_equal(EVP_Q_digest(NULL, "SHA256", NULL, der, (size_t)length, sha256, NULL), 1);
    OPENSSL_free(der);
    hex_encode(sha256, 32, key);
    hex_encode(nonce, nonce_length, hex);
    snprintf(policy, 1024, "{\"type\":\"tpm\",\"report_data\":\"%s\",\"tpm_key\":\"%s\"%s}", hex, key, more);
}

struct attached {
    const char *what, *fails;
    const char *gpus;     /* in place of those that follow: JSON */
    int count;            /* of GPUs */
    size_t nonce_length;  /* of the CPU */
    const char *policy;
    void (*make)(struct gpu *gpu); /* of the last */
};

static void gpus_are_bound_to_the_cpu(void **state)
{
    static const struct attached cases[] = {
        {"one", "", NULL, 1, 32, "", change_nothing},
        {"two", "", NULL, 2, 32, ",\"gpu\":{\"chip\":\"GH100\"}", change_nothing},
        {"of another nonce", "gpus.0.nvidia.request.nonce", NULL, 1, 32, "", change_another_nonce},
        {"the second is badly signed", "gpus.1.nvidia.report.signature", NULL, 2, 32, "", change_signed_by_another},
        {"the second is not accepted", "gpus.0.policy.gpu.chip gpus.1.policy.gpu.chip", NULL, 2, 32,
         ",\"gpu\":{\"chip\":\"GB100\"}", change_nothing},
        {"nothing was compared", "gpus.0.policy.gpu.allow_unmeasured", NULL, 1, 32, "", change_rims_missing},
        {"nothing need be compared", "", NULL, 1, 32, ",\"gpu\":{\"allow_unmeasured\":true}", change_rims_missing},
        {"none, though wanted", "policy.gpu", NULL, 0, 32, ",\"gpu\":{\"chip\":\"GH100\"}", change_nothing},
        {"none, which may be", "", NULL, 0, 32, ",\"gpu\":{\"chip\":\"GH100\",\"required\":false}", change_nothing},
        {"an empty list", "evidence.gpus", "[]", 0, 32, "", NULL},
        {"no list", "evidence.gpus", "{}", 0, 32, "", NULL},
        {"no document", "gpus.0.evidence.version", "[1]", 0, 32, "", NULL},
        {"of an unknown type", "gpus.0.evidence.type", "[{\"bulla_evidence\":1,\"type\":\"abacus\"}]", 0, 32, "", NULL},
        {"report data of another length", "evidence.gpus", NULL, 1, 31, "", change_nothing},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer document = {0};
        uint8_t nonce[64];
        char policy[1024];
        memset(nonce, 0xd1, sizeof nonce);
        test_roots_forget();
        write_cpu(nonce, cases[i].nonce_length, &document);
        if (cases[i].gpus || cases[i].count)
            buffer_append_format(&document, ",\"gpus\":%s", cases[i].gpus ? cases[i].gpus : "[");
        for (int j = 0; j < cases[i].count; j++) {
            struct gpu gpu = new_gpu();
            if (j == cases[i].count - 1)
                cases[i].make(&gpu);
            buffer_append_text(&document, j ? "," : "");
            write_gpu(&gpu, &document);
        }
        buffer_append_text(&document, cases[i].count ? "]}" : "}");
        write_cpu_policy(nonce, cases[i].nonce_length, cases[i].policy, policy);
        bulla_verdict *verdict = evidence_judge(&document, policy, evidence_time("2026-01-01"));
        if (strcmp(evidence_failures(verdict), cases[i].fails) != 0)
            fail_msg("%s: these checks fail: \"%s\", expected \"%s\"", cases[i].what, evidence_failures(verdict), cases[i].fails);
        assert_int_equal(bulla_verdict_passed(verdict), cases[i].fails[0] == 0);
        bulla_verdict_free(verdict);
        buffer_free(&document);
    }
}

/* Neither may stand where the other belongs. */
static void a_cpu_is_no_gpu(void **state)
{
    struct buffer cpu = {0}, document = {0};
    uint8_t nonce[32];
    char policy[1024], hex[65];
    memset(nonce, 0xd1, sizeof nonce);
    hex_encode(nonce, sizeof nonce, hex);
    write_cpu(nonce, sizeof nonce, &cpu);
    buffer_append(&document, cpu.data, cpu.length);
    buffer_append_format(&document, ",\"gpus\":[%s}]}", (const char *)cpu.data);
    write_cpu_policy(nonce, sizeof nonce, "", policy);
    bulla_verdict *verdict = evidence_judge(&document, policy, evidence_time("2026-01-01"));
    assert_string_equal(evidence_failures(verdict), "gpus.0.evidence.gpu");
    bulla_verdict_free(verdict);
    struct gpu gpu = new_gpu();
    buffer_clear(&document);
    test_roots_forget();
    write_gpu(&gpu, &document);
    document.length--;
    buffer_append_format(&document, ",\"gpus\":[%s}]}", (const char *)cpu.data);
    snprintf(policy, sizeof policy, "{\"report_data\":\"%s\"}", hex);
    verdict = evidence_judge(&document, policy, evidence_time("2026-01-01"));
    assert_string_equal(evidence_failures(verdict), "evidence.gpus");
    bulla_verdict_free(verdict);
    buffer_free(&document);
    buffer_free(&cpu);
}

/* Where the CPU's report data are 64 bytes, their SHA-256 is the GPU's nonce. */
static void a_gpu_is_bound_to_64_bytes(void **state)
{
    for (int is_other = 0; is_other < 2; is_other++) {
        struct buffer document = {0};
        struct gpu gpu = new_gpu();
        uint8_t report_data[64];
        char policy[1024], hex[129];
        memset(report_data, 0x64, sizeof report_data);
        hex_encode(report_data, sizeof report_data, hex);
        assert_int_equal(EVP_Q_digest(NULL, "SHA256", NULL, report_data, 64, gpu.request + 4, NULL), 1);
        gpu.request[4] ^= (uint8_t)is_other;
        test_roots_forget();
        evidence_begin(&document, "sim");
        buffer_append_format(&document, ",\"report\":{\"measurement\":\"%064d\",\"report_data\":\"%s\"},\"gpus\":[", 0, hex);
        write_gpu(&gpu, &document);
        buffer_append_text(&document, "]}");
        snprintf(policy, sizeof policy, "{\"report_data\":\"%s\",\"allow_simulated\":true,\"gpu\":{}}", hex);
        bulla_verdict *verdict = evidence_judge(&document, policy, evidence_time("2026-01-01"));
        assert_string_equal(evidence_failures(verdict), is_other ? "gpus.0.nvidia.request.nonce" : "");
        bulla_verdict_free(verdict);
        buffer_free(&document);
    }
}

static void without_memory_nothing_passes(void **state)
{
    struct buffer document = {0};
    struct gpu gpu = new_gpu();
    uint8_t nonce[32];
    char policy[1024];
    memset(nonce, 0xd1, sizeof nonce);
    test_roots_forget();
    write_cpu(nonce, sizeof nonce, &document);
    buffer_append_text(&document, ",\"gpus\":[");
    write_gpu(&gpu, &document);
    buffer_append_text(&document, "]}");
    write_cpu_policy(nonce, sizeof nonce, ",\"gpu\":{\"chip\":\"GH100\"}", policy);
    uint64_t count = evidence_fail_allocations(&document, policy, evidence_time("2026-01-01"));
    assert_true(count > 10);
    buffer_free(&document);
    print_message("%llu failing allocations\n", (unsigned long long)count);
}

/* ---- Policies ---- */

static void policies_of_gpus_are_read_strictly(void **state)
{
    static const char *const malformed[] = {
        "{\"gpu\":[]}", "{\"gpu\":{\"coffee\":1}}", "{\"gpu\":{\"required\":1}}", "{\"gpu\":{\"measurement\":{\"64\":\"00\"}}}",
        "{\"gpu.chip\":\"GH100\"}", "{\"gpu\":{\"chip\":1}}", "{\"pcr\":{\"24\":\"00\"}}", "{\"secure_boot\":1}"};
    bulla_error error = {0};
    char *text;
    size_t length;
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++)
        if (bulla_policy_explain(malformed[i], strlen(malformed[i]), &text, &length, &error) == BULLA_OK)
            fail_msg("taken: %s", malformed[i]);
    static const char policy[] = "{\"gpu\":{\"chip\":[\"GH100\",\"GB100\"],\"measurement\":{\"63\":\"00\"}},\"secure_boot\":true}";
    assert_ok(bulla_policy_explain(policy, sizeof policy - 1, &text, &length, &error), error);
    assert_non_null(strstr(text, "The GPU's chip must be one of GH100, GB100.\n"));
    assert_non_null(strstr(text, "The GPU's measurement gpu.measurement63 must be 00.\n"));
    assert_non_null(strstr(text, "A GPU must be attested"));
    assert_non_null(strstr(text, "The secure boot must be on.\n"));
    bulla_verdict_text_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_real_report_verifies),
        cmocka_unit_test(every_signed_byte_counts),
        cmocka_unit_test(every_byte_of_the_chain_counts),
        cmocka_unit_test(every_change_is_seen_by_its_check),
        cmocka_unit_test(gpus_are_bound_to_the_cpu),
        cmocka_unit_test(a_cpu_is_no_gpu),
        cmocka_unit_test(a_gpu_is_bound_to_64_bytes),
        cmocka_unit_test(without_memory_nothing_passes),
        cmocka_unit_test(policies_of_gpus_are_read_strictly),
    };
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
