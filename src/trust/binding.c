#include "trust/binding.h"

#include <openssl/evp.h>
#include <string.h>

#include "base/hash.h"
#include "base/merkle.h"

static const char domain[] = "bulla-evidence-v1";

/* ---- The document's member ---- */

static int read_hex(const struct json *value, const char *name, uint8_t bytes[BINDING_BYTES], bulla_error *error)
{
    if (json_is(value, JSON_STRING) && hex_decode(value->text, value->length, bytes, BINDING_BYTES))
        return BULLA_OK;
    return bulla_fail(error, BULLA_E_INPUT, "binding: \"%s\" is not %d bytes in hex", name, BINDING_BYTES);
}

static int read_models(const struct json *models, struct binding *binding, bulla_error *error)
{
    if (!json_is(models, JSON_ARRAY) || models->length == 0 || models->length > MOST_MODELS)
        return bulla_fail(error, BULLA_E_INPUT, "binding: \"models\" is not a list of 1 to %d roots", MOST_MODELS);
    for (size_t i = 0; i < models->length; i++) {
        int code = read_hex(models->items[i], "models", binding->models[i], error);
        if (code != BULLA_OK)
            return code;
        if (i > 0 && memcmp(binding->models[i - 1], binding->models[i], BINDING_BYTES) >= 0)
            return bulla_fail(error, BULLA_E_INPUT, "binding: root %zu of \"models\" is not above the one before it", i);
    }
    binding->model_count = models->length;
    return BULLA_OK;
}

int binding_read(const struct json *value, struct binding *binding, bulla_error *error)
{
    const struct {
        const char *name;
        uint8_t *bytes;
    } members[] = {{"tls_key", binding->tls_key}, {"receipt_key", binding->receipt_key}, {"policy", binding->policy},
                   {"nonce", binding->nonce}};
    size_t count = sizeof members / sizeof *members;
    if (!json_is(value, JSON_OBJECT) || value->length != count + 1)
        return bulla_fail(error, BULLA_E_INPUT, "binding: not an object of tls_key, receipt_key, policy, nonce and models");
    for (size_t i = 0; i < count; i++) {
        int code = read_hex(json_get(value, members[i].name), members[i].name, members[i].bytes, error);
        if (code != BULLA_OK)
            return code;
    }
    return read_models(json_get(value, "models"), binding, error);
}

static void write_hex(struct buffer *out, const char *before, const uint8_t bytes[BINDING_BYTES])
{
    char hex[2 * BINDING_BYTES + 1];
    hex_encode(bytes, BINDING_BYTES, hex);
    buffer_append_format(out, "%s\"%s\"", before, hex);
}

/* `root` NULL: the models one by one. */
static void write_members(const struct binding *binding, const uint8_t *root, struct buffer *out)
{
    if (root)
        write_hex(out, "{\"models\":", root);
    else
        buffer_append_text(out, "{\"models\":[");
    for (size_t i = 0; i < binding->model_count && !root; i++)
        write_hex(out, i ? "," : "", binding->models[i]);
    write_hex(out, root ? ",\"nonce\":" : "],\"nonce\":", binding->nonce);
    write_hex(out, ",\"policy\":", binding->policy);
    write_hex(out, ",\"receipt_key\":", binding->receipt_key);
    write_hex(out, ",\"tls_key\":", binding->tls_key);
    buffer_append_byte(out, '}');
}

void binding_write(const struct binding *binding, struct buffer *out)
{
    write_members(binding, NULL, out);
}

int binding_report_data(const struct binding *binding, uint8_t report_data[REPORT_DATA_BYTES], bulla_error *error)
{
    uint8_t hashes[MOST_MODELS][MERKLE_HASH], root[MERKLE_HASH];
    struct buffer text = {0};
    int code = BULLA_OK;
    for (size_t i = 0; i < binding->model_count && code == BULLA_OK; i++)
        code = merkle_leaf_hash(binding->models[i], BINDING_BYTES, hashes[i], error);
    if (code == BULLA_OK)
        code = merkle_root(hashes[0], binding->model_count, root, error);
    if (code != BULLA_OK)
        return code;
    buffer_append_text(&text, domain);
    write_members(binding, root, &text);
    if (text.error.code != BULLA_OK)
        code = bulla_fail(error, text.error.code, "%s", text.error.text);
    else if (EVP_Q_digest(NULL, "SHA512", NULL, text.data, text.length, report_data, NULL) != 1)
        code = bulla_fail(error, BULLA_E_INTERNAL, "SHA-512 failed");
    buffer_free(&text);
    return code;
}

/* ---- Checks ---- */

/* The asker's nonce is a leaf of the tree whose root the evidence is bound to. */
static void check_nonce_path(const struct json *path, const uint8_t nonce[BINDING_BYTES], const struct binding *binding,
                             struct verdict *verdict)
{
    const struct json *index = json_get(path, "index"), *count = json_get(path, "count"), *hashes = json_get(path, "path");
    uint8_t leaf[MERKLE_HASH], list[64][MERKLE_HASH];
    bulla_error error = {0};
    int is_read = json_is(index, JSON_NUMBER) && index->is_integer && index->integer >= 0 && json_is(count, JSON_NUMBER) &&
                  count->is_integer && count->integer > index->integer && json_is(hashes, JSON_ARRAY) && hashes->length <= 64;
    for (size_t i = 0; is_read && i < hashes->length; i++)
        is_read = json_is(hashes->items[i], JSON_STRING) &&
                  hex_decode(hashes->items[i]->text, hashes->items[i]->length, list[i], MERKLE_HASH);
    if (!is_read) {
        verdict_fails(verdict, "binding.nonce", "the path from the nonce to the evidence's is malformed");
        return;
    }
    int leads = merkle_leaf_hash(nonce, BINDING_BYTES, leaf, &error) == BULLA_OK &&
                merkle_path_verify(leaf, (uint64_t)index->integer, (uint64_t)count->integer, list[0],
                                   (unsigned)hashes->length, binding->nonce, &error);
    verdict_holds(verdict, "binding.nonce", leads, "a path from the nonce to the evidence's", "%s",
                  leads ? "one of several askers" : "a path that leads elsewhere");
}

static void check_expected(const struct binding *binding, const struct binding_expected *expected, struct verdict *verdict)
{
    const struct {
        const char *check;
        const uint8_t *found, *expected;
    } keys[] = {{"binding.tls_key", binding->tls_key, expected->tls_key},
                {"binding.receipt_key", binding->receipt_key, expected->receipt_key}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i].expected)
            verdict_same_bytes(verdict, keys[i].check, keys[i].found, BINDING_BYTES, keys[i].expected, BINDING_BYTES);
        else
            verdict_not_made(verdict, keys[i].check, "nobody said which key to expect");
    if (!expected->nonce)
        verdict_not_made(verdict, "binding.nonce", "nobody said which nonce to expect: the evidence may be old");
    else if (expected->nonce_path)
        check_nonce_path(expected->nonce_path, expected->nonce, binding, verdict);
    else
        verdict_same_bytes(verdict, "binding.nonce", binding->nonce, BINDING_BYTES, expected->nonce, BINDING_BYTES);
    int is_bound = 0;
    for (size_t i = 0; expected->model && i < binding->model_count; i++)
        is_bound |= memcmp(binding->models[i], expected->model, BINDING_BYTES) == 0;
    if (expected->model)
        verdict_holds(verdict, "binding.model", is_bound, "the model's root among the evidence's", "%s",
                      is_bound ? "among them" : "not among them");
    else
        verdict_not_made(verdict, "binding.model", "nobody said which model to expect");
}

void binding_check(const struct evidence_format *format, const struct evidence *evidence,
                   const struct binding_expected *expected)
{
    struct verdict *verdict = evidence->verdict;
    const struct json *member = json_get(evidence->document, "binding");
    const struct claim *claim = evidence_claim(evidence, "report_data");
    struct binding binding;
    uint8_t report_data[REPORT_DATA_BYTES], shorter[BINDING_BYTES];
    bulla_error error = {0};
    if (!member) {
        verdict_fails(verdict, "binding", "the document has no \"binding\": nothing says whose keys the evidence is for");
        return;
    }
    int code = binding_read(member, &binding, &error);
    if (code == BULLA_OK)
        code = binding_report_data(&binding, report_data, &error);
    if (code == BULLA_OK)
        code = hash_sha256(report_data, sizeof report_data, shorter, &error);
    if (code != BULLA_OK) {
        verdict_fails(verdict, "binding", "%s", error.text);
        return;
    }
    int is_short = format->report_data_bytes == BINDING_BYTES;
    verdict_same_bytes(verdict, "binding.report_data", claim ? claim->bytes : NULL, claim ? claim->length : 0,
                       is_short ? shorter : report_data, is_short ? sizeof shorter : sizeof report_data);
    check_expected(&binding, expected, verdict);
}
