/* TPM 2.0: a quote of another project verifies, quotes of our own with event logs do, and nothing that was changed does. */
#include "test.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "authority.h"
#include "base/json.h"
#include "base/memory.h"
#include "evidence_document.h"
#include "trust/binding.h"
#include "trust_roots.h"

enum { PCRS = 24, SHA_1 = 4, SHA_256 = 0xb, SHA_384 = 0xc, SHA_512 = 0xd, RSASSA = 0x14, RSAPSS = 0x16, ECDSA = 0x18 };

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

/* ---- Event logs ---- */

struct logged {
    uint32_t pcr, type;
    const char *data;
    size_t length;
    int is_of_other_data; /* the digest */
};

enum { MOST_LOGGED = 24, NO_ACTION = 3, SEPARATOR = 4, CRTM_VERSION = 8, IPL = 13 };
static const uint32_t variable = 0x80000001, action = 0x80000007;

#define GLOBAL "\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c"
#define SECURE_BOOT_HEAD GLOBAL "\x0a\0\0\0\0\0\0\0"
#define SECURE_BOOT_NAME "S\0e\0c\0u\0r\0e\0B\0o\0o\0t\0"
#define SECURE_BOOT(length, value) SECURE_BOOT_HEAD length "\0\0\0\0\0\0\0" SECURE_BOOT_NAME value
#define DATA(text) text, sizeof text - 1
#define SECURE_BOOT_IS_ON SECURE_BOOT("\x01", "\x01")
#define SECURE_BOOT_IS_OFF SECURE_BOOT("\x01", "\x00")

static const struct logged boot[] = {
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

/* ---- A machine ---- */

struct machine {
    uint32_t magic;
    uint16_t type;
    uint64_t firmware;
    uint8_t nonce[32], safe;
    struct {
        uint16_t bank;
        uint32_t pcrs;
        uint8_t select_bytes;
    } selections[4];
    size_t selection_count;
    uint32_t more_given, less_given; /* of SHA-256, in the document */
    int value_changed, value_signed; /* a PCR, or -1: in the document alone; in the quote too */
    int digest_hash;                 /* 0: the signature's */
    EVP_PKEY *key, *signer;          /* signer NULL: the key */
    int scheme, hash, said_scheme;   /* said_scheme 0: the scheme */
    int salt;
    const char *quote_more, *signature_more; /* bytes behind */
    int is_sized, cut;
    const char *left_out;            /* a member of the document */
    const char *more;                /* members of it */
    /* The chain; without it the document has "ak". */
    int is_certified, order, is_root_pinned;
    int64_t leaf_until, revoked;
    EVP_PKEY *certified;
    const char *use;                 /* keyUsage */
    /* The public area */
    int has_public;
    uint32_t attributes, exponent;
    uint16_t name_algorithm, public_scheme, public_hash, symmetric, public_type;
    EVP_PKEY *public_of;
    /* The log */
    struct logged log[MOST_LOGGED];
    size_t log_count, log_cut;
    int spec_major, spec_size, log_bank, log_bank_twice, has_no_log, digest_bank_twice;
    const char *signature_of_log;
    const char *policy;              /* NULL: names the key; "": nothing of it */
    const char *policy_more;
    int asks_another_nonce;
};

enum { ORDER_RIGHT, ORDER_SWAPPED, ORDER_TRUNCATED, ORDER_EXTENDED, ORDER_EMPTY };

static EVP_PKEY *rsa, *other_rsa, *small_rsa, *p256, *p384, *p224, *root_key, *middle_key;

static int make_keys(void **state)
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

static int free_keys(void **state)
{
    EVP_PKEY *const keys[] = {rsa, other_rsa, small_rsa, p256, p384, p224, root_key, middle_key};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        EVP_PKEY_free(keys[i]);
    return 0;
}

static struct machine new_machine(void)
{
    struct machine machine = {.magic = 0xff544347, .type = 0x8018, .firmware = 0x2019102300163636, .safe = 1, .selection_count = 2, .value_changed = -1,
                              .value_signed = -1, .key = rsa, .scheme = RSASSA, .hash = SHA_256, .is_root_pinned = 1,
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
static void replay(const struct machine *machine, int algorithm, uint8_t values[PCRS][64])
{
    size_t size = digest_size(algorithm);
    memset(values, 0, PCRS * 64);
    memset(values[9], 0x99, size); /* measured by the system, of which the log knows nothing */
    memset(values[14], 0x14, size);
    for (size_t i = 0; i < machine->log_count; i++) {
        const struct logged *event = &machine->log[i];
        uint8_t both[128];
        if (event->type == NO_ACTION && event->length == 17 && i == 0 && event->pcr == 0)
            values[0][size - 1] = event->data[16] == 3 || event->data[16] == 4 ? (uint8_t)event->data[16] : 0;
        if (event->type == NO_ACTION || event->pcr >= PCRS)
            continue;
        memcpy(both, values[event->pcr], size);
        event_digest(event, algorithm, both + size);
        hash(algorithm, both, 2 * size, values[event->pcr]);
    }
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
        buffer_append_u32(log, 3);
        for (int j = 0; j < 3; j++) {
            uint8_t digest[64] = {0};
            int bank = j == 0 && machine->digest_bank_twice ? SHA_256 : banks[j];
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

static void key_hash(EVP_PKEY *key, char hex[65])
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
    key_hash(machine->key, key);
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

/* The document and a policy for it. */
static void write_machine(const struct machine *machine, struct buffer *document, char policy[2048])
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

static const char *judge_machine(const struct machine *machine)
{
    struct buffer document = {0};
    char policy[2048];
    write_machine(machine, &document, policy);
    bulla_verdict *verdict = evidence_judge(&document, policy, evidence_time("2026-01-01"));
    const char *failures = evidence_failures(verdict);
    assert_int_equal(bulla_verdict_passed(verdict), failures[0] == 0);
    bulla_verdict_free(verdict);
    buffer_free(&document);
    return failures;
}

/* ---- Changes ---- */

static void use_key(struct machine *machine, EVP_PKEY *key, int scheme, int algorithm)
{
    machine->key = key;
    machine->scheme = scheme;
    machine->public_scheme = (uint16_t)scheme;
    machine->hash = algorithm;
    machine->public_hash = (uint16_t)algorithm;
}

static void log_event(struct machine *machine, size_t at, struct logged event)
{
    memmove(machine->log + at + 1, machine->log + at, (machine->log_count - at) * sizeof *machine->log);
    machine->log[at] = event;
    machine->log_count++;
}

static void select_pcrs(struct machine *machine, size_t at, uint16_t bank, uint32_t pcrs)
{
    machine->selections[at].bank = bank;
    machine->selections[at].pcrs = pcrs;
    machine->selections[at].select_bytes = 3;
    if (machine->selection_count <= at)
        machine->selection_count = at + 1;
}

struct change {
    const char *what, *fails;
    void (*make)(struct machine *machine);
};

#define EVENT(pcr, type, text) ((struct logged){pcr, type, DATA(text), 0})
#define SECURE_BOOT_WANTED ",\"secure_boot\":true"
/* Without claims nothing of the policy holds. */
#define UNREAD " policy.report_data policy.tpm_key policy.firmware_version"
#define CERTIFIED (m->is_certified = 1)

#define CHANGES(X)                                                                                                      \
    X(nothing, "", (void)m)                                                                                             \
    X(with_sizes, "", m->is_sized = 1)                                                                                  \
    X(no_log, "", m->has_no_log = 1)                                                                                    \
    X(no_public_area, "", m->has_public = 0)                                                                            \
    X(rsa_sha384, "", use_key(m, rsa, RSASSA, SHA_384))                                                                  \
    X(rsa_pss, "", (use_key(m, rsa, RSAPSS, SHA_256), m->salt = RSA_PSS_SALTLEN_DIGEST))                                 \
    X(rsa_pss_sha384, "", (use_key(m, rsa, RSAPSS, SHA_384), m->salt = RSA_PSS_SALTLEN_DIGEST))                          \
    X(rsa_pss_with_the_longest_salt, "", (use_key(m, rsa, RSAPSS, SHA_256), m->salt = RSA_PSS_SALTLEN_MAX))              \
    X(ecdsa_p256, "", use_key(m, p256, ECDSA, SHA_256))                                                                  \
    X(ecdsa_p384, "", use_key(m, p384, ECDSA, SHA_384))                                                                  \
    X(banks_the_other_way_round, "", (select_pcrs(m, 0, SHA_384, 1 << 7), select_pcrs(m, 1, SHA_256, 0x43ff)))            \
    X(an_empty_bank, "", select_pcrs(m, 2, SHA_512, 0))                                                                  \
    X(quote_missing, "tpm.quote" UNREAD, m->left_out = "quote")                                                                \
    X(signature_missing, "tpm.signature" UNREAD, m->left_out = "signature")                                                    \
    X(pcrs_missing, "tpm.pcrs" UNREAD, m->left_out = "pcrs")                                                                   \
    X(key_missing, "tpm.key" UNREAD, m->left_out = "ak")                                                                       \
    X(quote_with_more, "tpm.quote.form" UNREAD, m->quote_more = "x")                                                           \
    X(quote_cut, "tpm.quote.form" UNREAD, m->cut = 1)                                                                          \
    X(four_bytes_of_selection, "tpm.quote.form" UNREAD, m->selections[1].select_bytes = 4)                                     \
    X(selections_without_end, "tpm.quote.form" UNREAD, m->selection_count = 0x10000000)                                        \
    X(signature_with_more, "tpm.signature.form" UNREAD, m->signature_more = "x")                                               \
    X(made_outside_of_the_tpm, "tpm.quote.magic", m->magic = 0xff544346)                                                \
    X(another_statement, "tpm.quote.type", m->type = 0x8017)                                                            \
    X(clock_of_2, "tpm.quote.clock_info", m->safe = 2)                                                                  \
    X(more_values_than_quoted, "tpm.quote.selection", m->more_given = 1 << 20)                                          \
    X(fewer_values_than_quoted, "tpm.quote.selection tpm.quote.digest", m->less_given = 1 << 9)                         \
    X(a_bank_twice, "tpm.quote.selection", select_pcrs(m, 2, SHA_256, 1 << 15))                                          \
    X(an_unknown_bank, "tpm.quote.selection", select_pcrs(m, 2, 0x12, 1))                                               \
    X(nothing_selected, "tpm.quote.selection",                                                                          \
      (m->selection_count = 0, m->has_no_log = 1))                                                                      \
    X(value_changed, "tpm.quote.digest", m->value_changed = 9)                                                          \
    X(digest_of_another_hash, "tpm.quote.digest", m->digest_hash = SHA_384)                                              \
    X(rsa_of_1024_bits, "tpm.key.strength", use_key(m, small_rsa, RSASSA, SHA_256))                                      \
    X(p224, "tpm.key.strength", (use_key(m, p224, ECDSA, SHA_256), m->has_public = 0))                                   \
    X(scheme_of_another_kind, "tpm.signature.scheme tpm.quote.signature tpm.ak_public.scheme", m->said_scheme = ECDSA)  \
    X(scheme_unknown, "tpm.signature.scheme tpm.quote.signature tpm.ak_public.scheme", m->said_scheme = 0x1a)           \
    X(pss_that_is_not, "tpm.quote.signature", (m->said_scheme = RSAPSS, m->public_scheme = RSAPSS))                     \
    X(sha1, "tpm.signature.hash", use_key(m, rsa, RSASSA, SHA_1))                                                        \
    X(sha512, "tpm.signature.hash", use_key(m, rsa, RSASSA, SHA_512))                                                    \
    X(signed_by_another, "tpm.quote.signature", m->signer = other_rsa)                                                  \
    X(key_not_named, "policy.tpm_key", m->policy = "")                                                                  \
    X(another_key_named, "policy.tpm_key", m->policy = "\"tpm_key\":\"00\",")                                           \
    X(named_by_name, "", m->policy = "tpm_name")                                                                        \
    X(another_name, "policy.tpm_name", m->policy = "\"tpm_name\":\"000b00\",")                                          \
    X(certified, "", (CERTIFIED, m->policy = "\"tpm_vendor\":\"a test's root\","))                                      \
    X(certified_and_named, "", CERTIFIED)                                                                               \
    X(certified_but_nobody_asked, "policy.tpm_key", (CERTIFIED, m->policy = ""))                                        \
    X(certified_by_another_vendor, "policy.tpm_vendor", (CERTIFIED, m->policy = "\"tpm_vendor\":\"google\","))          \
    X(vendor_without_certificate, "policy.tpm_vendor", m->policy = "\"tpm_vendor\":\"google\",")                        \
    X(leaf_expired, "tpm.chain", (CERTIFIED, m->leaf_until = evidence_time("2025-12-31")))                              \
    X(chain_swapped, "tpm.chain tpm.root", (CERTIFIED, m->order = ORDER_SWAPPED))                                       \
    X(chain_truncated, "tpm.chain", (CERTIFIED, m->order = ORDER_TRUNCATED))                                            \
    X(chain_extended, "tpm.chain", (CERTIFIED, m->order = ORDER_EXTENDED))                                              \
    X(chain_empty, "tpm.certificates" UNREAD, (CERTIFIED, m->order = ORDER_EMPTY))                                             \
    X(another_root, "tpm.root", (CERTIFIED, m->is_root_pinned = 0))                                                     \
    X(middle_revoked, "tpm.chain", (CERTIFIED, m->revoked = 8))                                                         \
    X(crls_malformed, "tpm.crls" UNREAD, (CERTIFIED, m->more = ",\"crls\":\"*\""))                                       \
    X(others_revoked, "", (CERTIFIED, m->revoked = 9))                                                                  \
    X(endorsement_key, "tpm.certificate.use", (CERTIFIED, m->use = "\x03\x02\x05\x20"))                                 \
    X(certificate_of_another, "tpm.quote.signature tpm.ak_public.key policy.tpm_key",                                   \
      (CERTIFIED, m->certified = other_rsa))                                                                            \
    X(public_area_malformed, "tpm.ak_public", (m->has_public = 0, m->more = ",\"ak_public\":\"*\""))                      \
    X(public_area_of_ec, "", use_key(m, p256, ECDSA, SHA_256))                                                           \
    X(public_area_of_p384, "", use_key(m, p384, ECDSA, SHA_384))                                                         \
    X(public_area_of_another, "tpm.ak_public.key", m->public_of = other_rsa)                                            \
    X(public_area_of_another_kind, "tpm.ak_public.key", m->public_of = p256)                                            \
    X(exponent_written_out, "", m->exponent = 65537)                                                                    \
    X(exponent, "tpm.ak_public.key", m->exponent = 3)                                                                   \
    X(not_fixed_to_the_tpm, "tpm.ak_public.attributes", m->attributes &= ~(1u << 1))                                    \
    X(not_fixed_to_its_parent, "tpm.ak_public.attributes", m->attributes &= ~(1u << 4))                                 \
    X(not_made_in_the_tpm, "tpm.ak_public.attributes", m->attributes &= ~(1u << 5))                                     \
    X(not_restricted, "tpm.ak_public.attributes", m->attributes &= ~(1u << 16))                                         \
    X(not_for_signatures, "tpm.ak_public.attributes", m->attributes &= ~(1u << 18))                                     \
    X(decrypts, "tpm.ak_public.attributes", m->attributes |= 1u << 17)                                                  \
    X(public_scheme, "tpm.ak_public.scheme", m->public_scheme = RSAPSS)                                                 \
    X(public_hash, "tpm.ak_public.scheme", m->public_hash = SHA_384)                                                     \
    X(any_scheme, "tpm.ak_public.scheme", m->public_scheme = 0x10)                                                      \
    X(name_of_sha1, "tpm.ak_public.name_algorithm", m->name_algorithm = SHA_1)                                           \
    X(symmetric, "tpm.ak_public.form", m->symmetric = 6)                                                                \
    X(keyed_hash, "tpm.ak_public.form", m->public_type = 8)                                                             \
    X(log_malformed, "tpm.log", (m->has_no_log = 1, m->more = ",\"event_log\":\"*\""))                                    \
    X(log_of_the_old_format, "tpm.log.spec_id", m->signature_of_log = "Spec ID Event02")                                \
    X(log_of_version_1, "tpm.log.spec_id", m->spec_major = 1)                                                           \
    X(log_of_long_digests, "tpm.log.spec_id", m->spec_size = 33)                                                        \
    X(log_with_a_bank_twice, "tpm.log.spec_id", m->log_bank_twice = 1)                                                  \
    X(log_without_a_bank, "tpm.log.banks", (m->log_bank = SHA_512, select_pcrs(m, 1, SHA_384, 1 << 9)))                   \
    X(log_cut_in_an_event, "tpm.log.form", m->log_cut = 3)                                                              \
    X(log_without_its_last_event, "tpm.log.replay",                                                                     \
      m->log_cut = 4 + 4 + 4 + 3 * 2 + 20 + 32 + 48 + 4 + sizeof "kernel" - 1)                                    \
    X(digest_twice_in_an_event, "tpm.log.form", m->digest_bank_twice = 1)                                               \
    X(event_in_pcr_24, "tpm.log.form", log_event(m, 3, EVENT(24, IPL, "x")))                                            \
    X(no_action_anywhere, "", log_event(m, 3, EVENT(0xffffffff, NO_ACTION, "SP800-155 Event")))                         \
    X(locality_0, "", m->log[0] = EVENT(0, NO_ACTION, "StartupLocality\0\x00"))                                         \
    X(locality_4, "", m->log[0] = EVENT(0, NO_ACTION, "StartupLocality\0\x04"))                                         \
    X(locality_2, "tpm.log.startup_locality", m->log[0] = EVENT(0, NO_ACTION, "StartupLocality\0\x02"))                 \
    X(locality_without_a_number, "tpm.log.startup_locality", m->log[0] = EVENT(0, NO_ACTION, "StartupLocality\0"))      \
    X(locality_twice, "tpm.log.startup_locality", log_event(m, 1, EVENT(0, NO_ACTION, "StartupLocality\0\x04")))        \
    X(locality_too_late, "tpm.log.startup_locality", (m->log[0] = boot[1], m->log[1] = boot[0]))                        \
    X(locality_of_pcr_1, "tpm.log.startup_locality", m->log[0].pcr = 1)                                                 \
    X(value_that_the_log_does_not_give, "tpm.log.replay", m->value_signed = 8)                                          \
    X(firmware_register_without_events, "tpm.log.replay", m->value_signed = 3)                                          \
    X(system_register_without_events, "", m->value_signed = 9)                                                          \
    X(log_of_nothing_quoted, "tpm.log.replay",                                                                          \
      (m->selection_count = 1, select_pcrs(m, 0, SHA_256, 1 << 14)))                                                     \
    X(variable_that_was_not_measured, "tpm.log.event_data", m->log[2].is_of_other_data = 1)                             \
    X(separator_that_was_not_measured, "tpm.log.event_data", m->log[5].is_of_other_data = 1)                            \
    X(not_measured_nor_quoted, "",                                                                                      \
      (m->log[2].is_of_other_data = 1, select_pcrs(m, 0, SHA_256, 0x4f), select_pcrs(m, 1, SHA_384, 1 << 9)))             \
    X(secure_boot, "", m->policy_more = SECURE_BOOT_WANTED)                                                             \
    X(secure_boot_is_off, "policy.secure_boot",                                                                         \
      (m->policy_more = SECURE_BOOT_WANTED, m->log[2] = EVENT(7, variable, SECURE_BOOT_IS_OFF)))                        \
    X(secure_boot_is_off_and_may_be, "",                                                                                \
      (m->policy_more = ",\"secure_boot\":false", m->log[2] = EVENT(7, variable, SECURE_BOOT_IS_OFF)))                  \
    X(secure_boot_is_empty, "policy.secure_boot",                                                                       \
      (m->policy_more = SECURE_BOOT_WANTED, m->log[2] = EVENT(7, variable, SECURE_BOOT("\0", ""))))                     \
    X(secure_boot_of_2, "policy.secure_boot",                                                                           \
      (m->policy_more = SECURE_BOOT_WANTED, m->log[2] = EVENT(7, variable, SECURE_BOOT("\x01", "\x02"))))               \
    X(secure_boot_with_more, "policy.secure_boot",                                                                      \
      (m->policy_more = SECURE_BOOT_WANTED, m->log[2] = EVENT(7, variable, SECURE_BOOT("\x01", "\x01\x00"))))           \
    X(secure_boot_of_another_owner, "policy.secure_boot",                                                               \
      (m->policy_more = SECURE_BOOT_WANTED,                                                                             \
       m->log[2] = EVENT(7, variable, "another's number" "\x0a\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0" SECURE_BOOT_NAME "\x01"))) \
    X(secure_boot_twice, "policy.secure_boot",                                                                          \
      (m->policy_more = SECURE_BOOT_WANTED, log_event(m, 2, EVENT(7, variable, SECURE_BOOT_IS_OFF))))                   \
    X(secure_boot_off_at_last, "policy.secure_boot",                                                                    \
      (m->policy_more = SECURE_BOOT_WANTED, log_event(m, 3, EVENT(7, variable, SECURE_BOOT_IS_OFF))))                   \
    X(secure_boot_after_the_firmware, "policy.secure_boot",                                                             \
      (m->policy_more = SECURE_BOOT_WANTED, m->log[2] = boot[3],                                                        \
       log_event(m, 9, EVENT(7, variable, SECURE_BOOT_IS_ON))))                                                         \
    X(secure_boot_elsewhere, "policy.secure_boot",                                                                      \
      (m->policy_more = SECURE_BOOT_WANTED, m->log[2].pcr = 1))                                                         \
    X(secure_boot_unsaid, "policy.secure_boot", (m->policy_more = SECURE_BOOT_WANTED, m->log[2] = boot[3]))             \
    X(secure_boot_not_quoted, "policy.secure_boot",                                                                     \
      (m->policy_more = SECURE_BOOT_WANTED, select_pcrs(m, 0, SHA_256, 0x4f), select_pcrs(m, 1, SHA_384, 1 << 9)))        \
    X(debugger, "policy.allow_debug", log_event(m, 2, EVENT(7, action, "UEFI Debug Mode")))                             \
    X(debugger_allowed, "",                                                                                             \
      (log_event(m, 2, EVENT(7, action, "UEFI Debug Mode")), m->policy_more = ",\"allow_debug\":true"))                 \
    X(another_action, "", log_event(m, 2, EVENT(7, action, "Exit Boot Services")))                                      \
    X(debugger_after_the_firmware, "", log_event(m, 9, EVENT(7, action, "UEFI Debug Mode")))                            \
    X(action_that_was_not_measured, "tpm.log.event_data",                                                               \
      log_event(m, 2, ((struct logged){7, action, DATA("UEFI Debug Mode"), 1})))                                        \
    X(boot_loaders, "", (m->log[4].is_of_other_data = m->log[9].is_of_other_data = 0, m->policy_more = BOOT_LOADERS))   \
    X(boot_loader, "policy.boot_loader", (m->log[4].is_of_other_data = 0, m->policy_more = BOOT_LOADERS))               \
    X(one_boot_loader_less, "policy.boot_loader",                                                                       \
      (m->log[4].is_of_other_data = 0, m->log[9].pcr = 5, m->policy_more = BOOT_LOADERS))                               \
    X(pcr, "policy.pcr", m->policy_more = ",\"pcr\":{\"14\":\"00\"}")                                                   \
    X(pcr_not_quoted, "policy.pcr", m->policy_more = ",\"pcr\":{\"20\":\"00\"}")                                        \
    X(firmware, "policy.firmware_version", m->firmware++)                                                               \
    X(another_nonce, "policy.report_data", m->asks_another_nonce = 1)

/* SHA-256 of "shim" and "kernel". */
#define BOOT_LOADERS                                                                                      \
    ",\"boot_loader\":[\"04e666aa09809daf691a99cc7bf2d57ba09bac171966a71812ffd049d7c96bb1\","   \
    "\"6923dd1bc0460082c5d55a831908c24a282860b7f1cd6c2b79cf1bc8857c639c\"]"

#define DEFINE(name, failing, change)                \
    static void change_##name(struct machine *m)     \
    {                                                \
        change;                                      \
    }
CHANGES(DEFINE)
#define LIST(name, failing, change) {#name, failing, change_##name},
static const struct change changes[] = {CHANGES(LIST)};

static void every_change_is_seen_by_its_check(void **state)
{
    int wrong = 0;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct machine machine = new_machine();
        changes[i].make(&machine);
        const char *failures = judge_machine(&machine);
        if (strcmp(failures, changes[i].fails) != 0 && ++wrong)
            print_error("%s: these checks fail: \"%s\", expected \"%s\"\n", changes[i].what, failures, changes[i].fails);
    }
    assert_int_equal(wrong, 0);
    print_message("%zu changes, each signed again and seen by its check\n", sizeof changes / sizeof *changes);
}

/* ---- Documents that are no evidence ---- */

static void pcrs_are_read_strictly(void **state)
{
    static const char *const malformed[] = {
        "[]", "\"\"", "{\"sha256\":[]}", "{\"sha256\":{\"00\":\"%s\"}}", "{\"sha256\":{\"24\":\"%s\"}}",
        "{\"sha256\":{\"0\":\"%sff\"}}", "{\"sha256\":{\"0\":1}}", "{\"sha256\":{\"0\":\"%s\",\"pcr\":\"%s\"}}",
        "{\"sm3\":{\"0\":\"%s\"}}", "{\"sha256\":{\"0\":\"%s\"},\"sha\":{}}", "{\"sha384\":{\"0\":\"%s\"}}"};
    static const char value[] = "0000000000000000000000000000000000000000000000000000000000000000";
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        struct machine machine = new_machine();
        struct buffer document = {0};
        char policy[2048], pcrs[512];
        machine.left_out = "pcrs";
        write_machine(&machine, &document, policy);
        document.length--;
        snprintf(pcrs, sizeof pcrs, malformed[i], value, value);
        buffer_append_format(&document, ",\"pcrs\":%s}", pcrs);
        bulla_verdict *verdict = evidence_judge(&document, policy, evidence_time("2026-01-01"));
        assert_string_equal(evidence_state(verdict, "tpm.pcrs"), "fail");
        bulla_verdict_free(verdict);
        buffer_free(&document);
    }
}

/* A quote made for a server's keys: its nonce is the SHA-256 of the 64 bytes that they hash to. */
static void a_quote_is_bound_to_keys(void **state)
{
    for (int is_other = 0; is_other < 2; is_other++) {
        struct machine machine = new_machine();
        struct binding binding = {.model_count = 1};
        struct buffer document = {0};
        uint8_t report_data[64];
        char policy[2048], key[65];
        bulla_error error = {0};
        memset(binding.tls_key, 7, sizeof binding.tls_key);
        assert_ok(binding_report_data(&binding, report_data, &error), error);
        hash(SHA_256, report_data, sizeof report_data, machine.nonce);
        binding.tls_key[0] ^= (uint8_t)is_other;
        write_machine(&machine, &document, policy);
        document.length--;
        buffer_append_text(&document, ",\"binding\":");
        binding_write(&binding, &document);
        buffer_append_byte(&document, '}');
        key_hash(machine.key, key);
        snprintf(policy, sizeof policy, "{\"tpm_key\":\"%s\"}", key);
        bulla_verdict *verdict = evidence_judge(&document, policy, evidence_time("2026-01-01"));
        assert_string_equal(evidence_failures(verdict), is_other ? "binding.report_data" : "");
        assert_string_equal(evidence_state(verdict, "evidence.tried"), "not checked");
        bulla_verdict_free(verdict);
        buffer_free(&document);
    }
}

/* ---- Every byte ---- */

/* The number of flips; fails where one is accepted. `text` is the member's value in the document, in base64. */
static size_t flip_base64(struct buffer *document, const char *member, const char *policy)
{
    char name[64];
    size_t flips = 0, length;
    snprintf(name, sizeof name, "\"%s\":\"", member);
    char *text = strstr((char *)document->data, name);
    assert_non_null(text);
    text += strlen(name);
    size_t text_length = strcspn(text, "\"");
    uint8_t *bytes = memory_alloc(base64_most(text_length) + 1, 1, NULL);
    assert_true(base64_decode(text, text_length, bytes, &length));
    for (size_t at = 0; at < length; at++)
        for (int bit = (int)(at % 8); bit < (int)test_count(at % 8 + 1, 8); bit++, flips++) {
            struct buffer again = {0};
            bytes[at] ^= (uint8_t)(1 << bit);
            base64_append(&again, bytes, length);
            memcpy(text, again.data, text_length);
            bulla_verdict *verdict = evidence_judge(document, policy, evidence_time("2026-01-01"));
            if (bulla_verdict_passed(verdict))
                fail_msg("%s: byte %zu, bit %d: accepted", member, at, bit);
            bytes[at] ^= (uint8_t)(1 << bit);
            bulla_verdict_free(verdict);
            buffer_free(&again);
        }
    struct buffer again = {0};
    base64_append(&again, bytes, length);
    memcpy(text, again.data, text_length);
    buffer_free(&again);
    memory_free(bytes);
    return flips;
}

/* A log that says that secure boot is off: no flip makes it say the contrary. And the bytes that are signed. */
static void every_byte_of_our_own_counts(void **state)
{
    struct machine machine = new_machine();
    struct buffer document = {0};
    char policy[2048];
    write_machine(&machine, &document, policy);
    size_t flips = flip_base64(&document, "quote", policy) + flip_base64(&document, "signature", policy);
    machine.policy = "tpm_name";
    write_machine(&machine, &document, policy);
    flips += flip_base64(&document, "ak_public", policy);
    machine.policy_more = SECURE_BOOT_WANTED;
    machine.log[2] = EVENT(7, variable, SECURE_BOOT_IS_OFF);
    write_machine(&machine, &document, policy);
    size_t of_log = flip_base64(&document, "event_log", policy);
    buffer_free(&document);
    print_message("%zu bits of signed bytes and %zu of the log flipped, none accepted\n", flips, of_log);
}

/* ---- keylime's quote ---- */

enum { PCR_FILE_VALUES = 132, PCR_FILE_DIGESTS = 8, PCR_FILE_DIGEST = 2 + 64 };

/* As tpm2-tools write the values: the C structures as they lie in memory. */
static void add_written_pcrs(struct buffer *document, const uint8_t *bytes, size_t length)
{
    static const char *const pcrs[] = {"15", "16", "22"};
    size_t found = 0;
    assert_true(length >= PCR_FILE_VALUES + 8 + PCR_FILE_DIGESTS * PCR_FILE_DIGEST);
    buffer_append_text(document, ",\"pcrs\":{\"sha256\":{");
    for (size_t i = 0; i < PCR_FILE_DIGESTS; i++) {
        const uint8_t *digest = bytes + PCR_FILE_VALUES + 8 + i * PCR_FILE_DIGEST;
        char hex[65];
        if (digest[0] == 0)
            continue;
        assert_true(found < 3);
        hex_encode(digest + 2, 32, hex);
        buffer_append_format(document, "%s\"%s\":\"%s\"", found ? "," : "", pcrs[found], hex);
        found++;
    }
    buffer_append_text(document, "}}");
}

static void write_keylime(struct buffer *document)
{
    const char *folder = evidence_folder("tpm");
    size_t length;
    static const struct {
        const char *file, *member;
    } files[] = {{"quote.out", "quote"}, {"quotesig.out", "signature"}};
    evidence_begin(document, "tpm");
    for (size_t i = 0; i < 2; i++) {
        uint8_t *bytes = evidence_file(folder, files[i].file, &length);
        evidence_add_bytes(document, files[i].member, bytes, length);
        memory_free(bytes);
    }
    uint8_t *pcrs = evidence_file(folder, "quotepcr.out", &length);
    add_written_pcrs(document, pcrs, length);
    memory_free(pcrs);
    uint8_t *pem = evidence_file(folder, "akpub.pem", &length);
    buffer_append_text(document, ",\"ak\":");
    json_write_string(document, (const char *)pem, length);
    buffer_append_byte(document, '}');
    memory_free(pem);
}

static const char keylime_policy[] =
    "{\"type\":\"tpm\",\"report_data\":\"db1db298db6d60e6385b7231743e9c3056a18003\","
    "\"tpm_key\":\"4bbc3c7e987a043760565a98b68a7aa473a9163d026b8b53ef9c96b439f9426c\","
    "\"pcr\":{\"15\":\"0000000000000000000000000000000000000000000000000000000000000000\"}}";

static void the_quote_of_keylime_verifies(void **state)
{
    struct buffer document = {0};
    if (!evidence_folder("tpm"))
        skip();
    write_keylime(&document);
    bulla_verdict *verdict = evidence_judge(&document, keylime_policy, evidence_time("2026-01-01"));
    assert_string_equal(evidence_failures(verdict), "");
    assert_true(bulla_verdict_passed(verdict));
    bulla_verdict_free(verdict);
    buffer_free(&document);
}

/* The quote, its signature, the values in hex and the key in DER. */
static void every_byte_of_keylimes_counts(void **state)
{
    struct buffer document = {0};
    if (!evidence_folder("tpm"))
        skip();
    write_keylime(&document);
    size_t flips = flip_base64(&document, "quote", keylime_policy) + flip_base64(&document, "signature", keylime_policy);
    char *values = strstr((char *)document.data, "\"sha256\""), *behind = strstr(values, "}");
    for (char *at = strstr(values, ":\""); at && at < behind; at = strstr(at, ":\""))
        for (at += 2; *at != '"'; at++, flips++) {
            char before = *at;
            *at = before == '0' ? '1' : '0';
            bulla_verdict *verdict = evidence_judge(&document, keylime_policy, evidence_time("2026-01-01"));
            if (bulla_verdict_passed(verdict))
                fail_msg("the values' byte %td: accepted", at - values);
            bulla_verdict_free(verdict);
            *at = before;
        }
    char *pem = strstr((char *)document.data, "KEY-----\\n") + 10, *end = strstr(pem, "\\n-----END");
    for (char *at = pem; at < end; at += *at == '\\' ? 2 : 1) {
        char before = *at;
        if (before == '\\') /* the end of a line, in JSON */
            continue;
        *at = before == 'A' ? 'B' : 'A';
        bulla_verdict *verdict = evidence_judge(&document, keylime_policy, evidence_time("2026-01-01"));
        if (bulla_verdict_passed(verdict))
            fail_msg("the key's byte %td: accepted", at - pem);
        bulla_verdict_free(verdict);
        *at = before;
        flips++;
    }
    print_message("%zu changes of keylime's quote, none accepted\n", flips);
    buffer_free(&document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_quote_of_keylime_verifies),
        cmocka_unit_test(every_byte_of_keylimes_counts),
        cmocka_unit_test(every_change_is_seen_by_its_check),
        cmocka_unit_test(every_byte_of_our_own_counts),
        cmocka_unit_test(pcrs_are_read_strictly),
        cmocka_unit_test(a_quote_is_bound_to_keys),
    };
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
