#include "tpm_machine.h"

#include "test.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "authority.h"
#include "base/json.h"
#include "evidence_document.h"
#include "trust_roots.h"

const struct logged boot[BOOT_EVENTS] = {
    {0, NO_ACTION, DATA("StartupLocality\0\x03"), 0},
    {0, CRTM_VERSION, DATA("firmware 7"), 0},
    {7, 0x80000001, DATA(SECURE_BOOT_IS_ON), 0},
    {7, 0x80000001, DATA(GLOBAL "\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0P\0K\0k"), 0},
    {4, 0x80000003, DATA("shim"), 1},
    {0, SEPARATOR, DATA("\0\0\0\0"), 0},
    {4, SEPARATOR, DATA("\0\0\0\0"), 0},
    {7, SEPARATOR, DATA("\0\0\0\0"), 0},
    {8, IPL, DATA("command line"), 1},
    {4, 0x80000003, DATA("kernel"), 1},
};

static const char *digest_name(int algorithm)
{
    return algorithm == SHA_1 ? "SHA1" : algorithm == SHA_256 ? "SHA256" : algorithm == SHA_384 ? "SHA384" : "SHA512";
}

static size_t digest_size(int algorithm)
{
    return algorithm == SHA_1 ? 20 : algorithm == SHA_256 ? 32 : algorithm == SHA_384 ? 48 : 64;
}

static void put(struct buffer *out, uint64_t value, int bytes)
{
    for (int i = bytes; i-- > 0;)
        buffer_append_byte(out, (uint8_t)(value >> (8 * i)));
}

static void put_sized(struct buffer *out, const void *bytes, size_t length)
{
    put(out, length, 2);
    buffer_append(out, bytes, length);
}

EVP_PKEY *rsa, *other_rsa, *small_rsa, *p256, *p384, *p224;
static EVP_PKEY *root_key, *middle_key;

int make_keys(void **state)
{
    rsa = authority_key("RSA-2048");
    other_rsa = authority_key("RSA-2048");
    small_rsa = authority_key("RSA-1024");
    p256 = authority_key("P-256");
    p384 = authority_key("P-384");
    p224 = authority_key("P-224");
    root_key = authority_key("RSA-4096");
    middle_key = authority_key("P-384");
    return 0;
}

int free_keys(void **state)
{
    EVP_PKEY *const keys[] = {rsa, other_rsa, small_rsa, p256, p384, p224, root_key, middle_key};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        EVP_PKEY_free(keys[i]);
    return 0;
}

struct machine new_machine(void)
{
    struct machine machine = {.magic = 0xff544347, .type = 0x8018, .firmware = 0x2019102300163636, .safe = 1,
                              .selection_count = 2, .value_changed = -1, .value_signed = -1, .key = rsa, .scheme = RSASSA, .hash = SHA_256, .is_root_pinned = 1,
                              .use = "\x03\x02\x07\x80", .attributes = 0x50072, .name_algorithm = SHA_256,
                              .public_scheme = RSASSA, .public_hash = SHA_256, .symmetric = 0x10, .has_public = 1,
                              .spec_major = 2, .spec_size = 32, .log_bank = SHA_384, .signature_of_log = "Spec ID Event03",
                              .public_type = 1};
    memset(machine.nonce, 0xd1, sizeof machine.nonce);
    machine.selections[0].bank = SHA_256;
    machine.selections[0].pcrs = 0x43ff; /* 0 to 9 and 14 */
    machine.selections[1].bank = SHA_384;
    machine.selections[1].pcrs = 1 << 7 | 1 << 9;
    machine.selections[0].select_bytes = machine.selections[1].select_bytes = 3;
    memcpy(machine.log, boot, sizeof boot);
    machine.log_count = sizeof boot / sizeof *boot;
    return machine;
}

static void hash(int algorithm, const void *data, size_t length, uint8_t *digest)
{
    assert_int_equal(EVP_Q_digest(NULL, digest_name(algorithm), NULL, data, length, digest, NULL), 1);
}

static void event_digest(const struct logged *event, int algorithm, uint8_t *digest)
{
    if (event->is_of_other_data)
        hash(algorithm, "what was measured", 17, digest);
    else
        hash(algorithm, event->data, event->length, digest);
}

/* What a TPM would have after these events. */
static void extend(const struct logged *event, int algorithm, uint8_t values[PCRS][64])
{
    size_t size = digest_size(algorithm);
    uint8_t both[128];
    memcpy(both, values[event->pcr], size);
    event_digest(event, algorithm, both + size);
    hash(algorithm, both, 2 * size, values[event->pcr]);
}

static void replay(const struct machine *machine, int algorithm, uint8_t values[PCRS][64])
{
    size_t size = digest_size(algorithm);
    memset(values, 0, PCRS * 64);
    memset(values[9], 0x99, size); /* measured by the system, of which the log knows nothing */
    memset(values[14], 0x14, size);
    for (size_t i = 0; i < machine->log_count; i++) {
        const struct logged *event = &machine->log[i];
        if (event->type == NO_ACTION && event->length >= 17 && i == 0 && event->pcr == 0)
            values[0][size - 1] = event->data[16] == 3 || event->data[16] == 4 ? (uint8_t)event->data[16] : 0;
        if (event->type == NO_ACTION || event->pcr >= PCRS)
            continue;
        extend(event, algorithm, values);
    }
    for (size_t i = 0; i < MOST_UNLOGGED && machine->unlogged[i].data; i++)
        extend(&machine->unlogged[i], algorithm, values);
}

static void write_log(const struct machine *machine, struct buffer *log)
{
    const int banks[] = {SHA_1, SHA_256, machine->log_bank};
    struct buffer spec = {0};
    buffer_append(&spec, machine->signature_of_log, strlen(machine->signature_of_log) + 1);
    buffer_append_u32(&spec, 0);
    buffer_append(&spec, (const uint8_t[]){0, (uint8_t)machine->spec_major, 2, 2}, 4);
    buffer_append_u32(&spec, 3);
    for (int i = 0; i < 3; i++) {
        buffer_append_u16(&spec, (uint16_t)(i == 2 && machine->log_bank_twice ? SHA_256 : banks[i]));
        buffer_append_u16(&spec, (uint16_t)(i == 1 ? machine->spec_size : (int)digest_size(banks[i])));
    }
    buffer_append(&spec, "\x03" "abc", 4);
    buffer_append_u32(log, 0);
    buffer_append_u32(log, NO_ACTION);
    buffer_extend(log, 20);
    buffer_append_u32(log, (uint32_t)spec.length);
    buffer_append(log, spec.data, spec.length);
    for (size_t i = 0; i < machine->log_count; i++) {
        const struct logged *event = &machine->log[i];
        buffer_append_u32(log, event->pcr);
        buffer_append_u32(log, event->type);
        int left_out = machine->left_out_at == i ? machine->bank_left_out : 0;
        buffer_append_u32(log, left_out ? 2 : 3);
        for (int j = 0; j < 3; j++) {
            uint8_t digest[64] = {0};
            int bank = j == 0 && machine->digest_bank_twice ? SHA_256 : banks[j];
            if (bank == left_out)
                continue;
            if (event->type != NO_ACTION)
                event_digest(event, bank, digest);
            buffer_append_u16(log, (uint16_t)bank);
            buffer_append(log, digest, digest_size(bank));
        }
        buffer_append_u32(log, (uint32_t)event->length);
        buffer_append(log, event->data, event->length);
    }
    log->length -= machine->log_cut;
    buffer_free(&spec);
}

static void write_quote(const struct machine *machine, uint8_t values[2][PCRS][64], struct buffer *quote)
{
    struct buffer selected = {0};
    uint8_t digest[64];
    int algorithm = machine->digest_hash ? machine->digest_hash : machine->hash;
    put(quote, machine->magic, 4);
    put(quote, machine->type, 2);
    put_sized(quote, "\x00\x0b who signs", 12);
    put_sized(quote, machine->nonce, sizeof machine->nonce);
    put(quote, 5994, 8);
    put(quote, 3, 4);
    put(quote, 0, 4);
    put(quote, machine->safe, 1);
    put(quote, machine->firmware, 8);
    put(quote, machine->selection_count, 4);
    for (size_t i = 0; i < machine->selection_count && i < 4; i++) {
        put(quote, machine->selections[i].bank, 2);
        put(quote, machine->selections[i].select_bytes, 1);
        for (int j = 0; j < machine->selections[i].select_bytes; j++)
            put(quote, machine->selections[i].pcrs >> (8 * j), 1);
        for (int pcr = 0; pcr < PCRS; pcr++)
            if (machine->selections[i].pcrs >> pcr & 1 && machine->selections[i].bank != 0x12)
                buffer_append(&selected, values[machine->selections[i].bank != SHA_256][pcr],
                              digest_size(machine->selections[i].bank));
    }
    hash(algorithm, selected.data ? selected.data : (const uint8_t *)"", selected.length, digest);
    put_sized(quote, digest, digest_size(algorithm));
    if (machine->quote_more)
        buffer_append_text(quote, machine->quote_more);
    quote->length -= (size_t)machine->cut;
    buffer_free(&selected);
}

static void sign_pss(EVP_PKEY *key, const char *digest, const void *data, size_t length, int salt, uint8_t *signature,
                     size_t *signature_length)
{
    EVP_PKEY_CTX *parameters;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit_ex(context, &parameters, digest, NULL, NULL, key, NULL), 1);
    assert_true(EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PSS_PADDING) > 0);
    assert_true(EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, salt) > 0);
    assert_int_equal(EVP_DigestSign(context, signature, signature_length, data, length), 1);
    EVP_MD_CTX_free(context);
}

static void write_signature(const struct machine *machine, const struct buffer *quote, struct buffer *out)
{
    uint8_t signature[512];
    size_t length = sizeof signature;
    EVP_PKEY *signer = machine->signer ? machine->signer : machine->key;
    const char *digest = digest_name(machine->hash);
    put(out, (uint64_t)(machine->said_scheme ? machine->said_scheme : machine->scheme), 2);
    put(out, (uint64_t)machine->hash, 2);
    if (machine->scheme == ECDSA) {
        size_t size = ((size_t)EVP_PKEY_get_bits(signer) + 7) / 8;
        authority_sign_raw(signer, digest, quote->data, quote->length, signature, size);
        put_sized(out, signature, size);
        put_sized(out, signature + size, size);
    } else {
        if (machine->scheme == RSAPSS)
            sign_pss(signer, digest, quote->data, quote->length, machine->salt, signature, &length);
        else
            authority_sign(signer, digest, quote->data, quote->length, signature, &length);
        put_sized(out, signature, length);
        if (machine->said_scheme == ECDSA)
            put(out, 0, 2);
    }
    if (machine->signature_more)
        buffer_append_text(out, machine->signature_more);
}

static void write_public(const struct machine *machine, struct buffer *out)
{
    EVP_PKEY *key = machine->public_of ? machine->public_of : machine->key;
    int is_rsa = EVP_PKEY_is_a(key, "RSA");
    uint8_t bytes[512];
    put(out, is_rsa ? machine->public_type : 0x23, 2);
    put(out, machine->name_algorithm, 2);
    put(out, machine->attributes, 4);
    put_sized(out, "policy", 6);
    put(out, machine->symmetric, 2);
    put(out, machine->public_scheme, 2);
    if (machine->public_scheme != 0x10)
        put(out, machine->public_hash, 2);
    if (is_rsa) {
        BIGNUM *modulus = NULL;
        assert_int_equal(EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &modulus), 1);
        int length = BN_bn2bin(modulus, bytes);
        put(out, (uint64_t)(8 * length), 2);
        put(out, machine->exponent, 4);
        put_sized(out, bytes, (size_t)length);
        BN_free(modulus);
        return;
    }
    size_t length, size = EVP_PKEY_get_bits(key) == 256 ? 32 : 48;
    assert_int_equal(EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, bytes, sizeof bytes, &length), 1);
    put(out, size == 32 ? 3 : 4, 2);
    put(out, 0x10, 2);
    put_sized(out, bytes + 1, size);
    put_sized(out, bytes + 1 + size, size);
}

static void add_structure(struct buffer *document, const struct machine *machine, const char *name,
                          const struct buffer *bytes)
{
    struct buffer sized = {0};
    if (machine->left_out && strcmp(machine->left_out, name) == 0)
        return;
    put_sized(&sized, bytes->data, bytes->length);
    if (machine->is_sized)
        evidence_add_bytes(document, name, sized.data, sized.length);
    else
        evidence_add_bytes(document, name, bytes->data, bytes->length);
    buffer_free(&sized);
}

static void add_bank(struct buffer *document, const char *name, uint32_t pcrs, uint8_t values[PCRS][64], size_t size)
{
    buffer_append_format(document, "\"%s\":{", name);
    for (int pcr = 0, written = 0; pcr < PCRS; pcr++)
        if (pcrs >> pcr & 1) {
            char hex[129];
            hex_encode(values[pcr], size, hex);
            buffer_append_format(document, "%s\"%d\":\"%s\"", written++ ? "," : "", pcr, hex);
        }
    buffer_append_byte(document, '}');
}

static void add_pcrs(struct buffer *document, const struct machine *machine, uint8_t values[2][PCRS][64])
{
    uint32_t given[2] = {0};
    for (size_t i = 0; i < machine->selection_count && i < 4; i++)
        if (machine->selections[i].bank == SHA_256 || machine->selections[i].bank == SHA_384)
            given[machine->selections[i].bank == SHA_384] |= machine->selections[i].pcrs;
    given[0] = (given[0] | machine->more_given) & ~machine->less_given;
    buffer_append_text(document, ",\"pcrs\":{");
    add_bank(document, "sha256", given[0], values[0], 32);
    if (given[1]) {
        buffer_append_byte(document, ',');
        add_bank(document, "sha384", given[1], values[1], 48);
    }
    buffer_append_byte(document, '}');
}

static void add_pem_key(struct buffer *document, EVP_PKEY *key)
{
    BIO *out = BIO_new(BIO_s_mem());
    char *pem;
    assert_int_equal(PEM_write_bio_PUBKEY(out, key), 1);
    long length = BIO_get_mem_data(out, &pem);
    buffer_append_text(document, ",\"ak\":");
    json_write_string(document, pem, (size_t)length);
    BIO_free(out);
}

static void add_chain(struct buffer *document, const struct machine *machine)
{
    struct buffer pem[3] = {{0}}, list = {0};
    const struct authority_extension use = {"2.5.29.15", (const uint8_t *)machine->use, 4, 1};
    X509 *root = authority_issue(&(struct authority_certificate){.name = "TPM root", .key = root_key, .is_authority = 1});
    X509 *middle = authority_issue(&(struct authority_certificate){.name = "TPM authority", .key = middle_key, .issuer = root,
                                                                   .issuer_key = root_key, .is_authority = 1, .serial = 8});
    X509 *leaf = authority_issue(&(struct authority_certificate){
        .name = "AK", .key = machine->certified ? machine->certified : machine->key, .issuer = middle,
        .issuer_key = middle_key, .until = machine->leaf_until, .extensions = &use, .extension_count = 1});
    X509 *const certificates[] = {leaf, middle, root};
    for (int i = 0; i < 3; i++)
        authority_write_pem(&pem[i], certificates[i]);
    const char *l = (const char *)pem[0].data, *m = (const char *)pem[1].data, *r = (const char *)pem[2].data;
    const struct {
        const char *texts[4];
        size_t count;
    } orders[] = {[ORDER_RIGHT] = {{l, m, r}, 3}, [ORDER_SWAPPED] = {{l, r, m}, 3}, [ORDER_TRUNCATED] = {{l, r}, 2},
                  [ORDER_EXTENDED] = {{l, l, m, r}, 4}, [ORDER_EMPTY] = {{NULL}, 0}};
    evidence_add_texts(document, "certificates", orders[machine->order].texts, orders[machine->order].count);
    test_roots_forget();
    if (machine->is_root_pinned)
        authority_trust("tpm", root);
    if (machine->revoked) {
        X509_CRL *crl = authority_revoke(root, root_key, 0, 0, &machine->revoked, 1);
        authority_write_crl_pem(&list, crl);
        const char *const texts[] = {(const char *)list.data};
        evidence_add_texts(document, "crls", texts, 1);
        X509_CRL_free(crl);
    }
    for (int i = 0; i < 3; i++) {
        X509_free(certificates[i]);
        buffer_free(&pem[i]);
    }
    buffer_free(&list);
}

void hash_key(EVP_PKEY *key, char hex[65])
{
    unsigned char *der = NULL;
    uint8_t sha256[32];
    int length = i2d_PUBKEY(key, &der);
    hash(SHA_256, der, (size_t)length, sha256);
    hex_encode(sha256, 32, hex);
    OPENSSL_free(der);
}

static void write_policy(const struct machine *machine, const struct buffer *public_area, char policy[2048])
{
    char key[65], name[65], nonce[65];
    uint8_t sha256[32];
    hash_key(machine->key, key);
    hash(SHA_256, public_area->data, public_area->length, sha256);
    hex_encode(sha256, 32, name);
    hex_encode(machine->nonce, 32, nonce);
    nonce[0] = machine->asks_another_nonce ? '0' : nonce[0];
    int length = snprintf(policy, 2048, "{\"type\":\"tpm\",\"report_data\":\"%s\",", nonce);
    if (!machine->policy)
        length += snprintf(policy + length, 2048 - (size_t)length, "\"tpm_key\":\"%s\",", key);
    else if (strcmp(machine->policy, "tpm_name") == 0)
        length += snprintf(policy + length, 2048 - (size_t)length, "\"tpm_name\":\"000b%s\",", name);
    else
        length += snprintf(policy + length, 2048 - (size_t)length, "%s", machine->policy);
    snprintf(policy + length, 2048 - (size_t)length, "\"firmware_version\":\"2019102300163636\"%s}",
             machine->policy_more ? machine->policy_more : "");
}

void write_machine(const struct machine *machine, struct buffer *document, char policy[2048])
{
    uint8_t values[2][PCRS][64];
    struct buffer quote = {0}, signature = {0}, public_area = {0}, log = {0};
    replay(machine, SHA_256, values[0]);
    replay(machine, SHA_384, values[1]);
    if (machine->value_signed >= 0)
        values[0][machine->value_signed][5] ^= 1;
    write_quote(machine, values, &quote);
    write_signature(machine, &quote, &signature);
    write_public(machine, &public_area);
    write_log(machine, &log);
    if (machine->value_changed >= 0)
        values[0][machine->value_changed][5] ^= 1;
    evidence_begin(document, "tpm");
    add_structure(document, machine, "quote", &quote);
    add_structure(document, machine, "signature", &signature);
    if (machine->has_public)
        add_structure(document, machine, "ak_public", &public_area);
    if (!machine->left_out || strcmp(machine->left_out, "pcrs") != 0)
        add_pcrs(document, machine, values);
    if (machine->is_certified)
        add_chain(document, machine);
    else if (!machine->left_out || strcmp(machine->left_out, "ak") != 0)
        add_pem_key(document, machine->key);
    if (!machine->has_no_log)
        evidence_add_bytes(document, "event_log", log.data, log.length);
    buffer_append_format(document, "%s}", machine->more ? machine->more : "");
    write_policy(machine, &public_area, policy);
    buffer_free(&quote);
    buffer_free(&signature);
    buffer_free(&public_area);
    buffer_free(&log);
}
