#include "gpu_machine.h"

#include "test.h"

#include "authority.h"
#include "evidence_document.h"
#include "trust_roots.h"

EVP_PKEY *gpu_small_key;
static EVP_PKEY *root_key, *leaf_key, *other_key, *rim_key;

int make_keys(void **state)
{
    root_key = authority_key("P-384");
    leaf_key = authority_key("P-384");
    other_key = authority_key("P-384");
    gpu_small_key = authority_key("P-256");
    rim_key = authority_key("P-384");
    return 0;
}

int free_keys(void **state)
{
    EVP_PKEY *const keys[] = {root_key, leaf_key, other_key, gpu_small_key, rim_key};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        EVP_PKEY_free(keys[i]);
    return 0;
}

struct gpu new_gpu(void)
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
    for (int i = 0; i < gpu->report_zeros; i++)
        buffer_append_byte(report, 0);
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
        .name = gpu->leaf_name, .key = strcmp(gpu->leaf_curve, "P-384") == 0 ? leaf_key : gpu_small_key, .issuer = issuer,
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
    buffer_append_text(content, "<SoftwareIdentity name=\"GH100\">\n");
    buffer_append_format(content, "<ns0:Meta colloquialVersion=\"%s\" edition=\"GPU\"></ns0:Meta>\n", rim->version);
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
        "<ds:Reference URI=\"\"><ds:Transforms>"
        "<ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"></ds:Transform>"
        "<ds:Transform Algorithm=\"http://www.w3.org/2006/12/xml-c14n11\"></ds:Transform></ds:Transforms>"
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

static void add_rim(const struct rim *rim, const char *member, struct buffer *document)
{
    struct buffer content = {0}, pem[2] = {{0}};
    uint8_t numbers[NUMBERS];
    X509 *root = authority_issue(&(struct authority_certificate){.name = "CoRIM", .key = root_key, .is_authority = 1});
    X509 *leaf = authority_issue(&(struct authority_certificate){.name = "RIM signer", .issuer = root, .issuer_key = root_key,
                                                                 .key = rim->leaf_is_small ? gpu_small_key : rim_key,
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

void write_gpu(const struct gpu *gpu, struct buffer *document)
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
