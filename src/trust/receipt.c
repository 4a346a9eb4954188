#include "trust/receipt.h"

#include <string.h>

#include "base/hash.h"
#include "trust/signature.h"

static const char domain_chain[] = "bulla-chain-v1", domain_request[] = "bulla-request-v1", domain_prompt[] = "bulla-prompt-v1",
                  domain_prompts[] = "bulla-prompts-v1", domain_parameter[] = "bulla-parameter-v1";

static const char *const part_names[] = {[RECEIPT_CONTENT] = "content", [RECEIPT_REASONING] = "reasoning",
                                         [RECEIPT_TOOL_CALL] = "tool_call", [RECEIPT_ARGUMENTS] = "arguments",
                                         [RECEIPT_FINISH] = "finish"};

const char *receipt_part_name(enum receipt_part part)
{
    return part >= RECEIPT_CONTENT && part <= RECEIPT_FINISH ? part_names[part] : NULL;
}

enum receipt_part receipt_part_find(const char *name)
{
    for (int part = RECEIPT_CONTENT; part <= RECEIPT_FINISH; part++)
        if (strcmp(name, part_names[part]) == 0)
            return (enum receipt_part)part;
    return (enum receipt_part)0;
}

/* ---- Hashes ---- */

static void update_u32(struct hash_stream *stream, uint32_t value)
{
    const uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16), (uint8_t)(value >> 24)};
    hash_stream_update(stream, bytes, sizeof bytes);
}

static void update_ids(struct hash_stream *stream, const uint32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        update_u32(stream, ids[i]);
}

/* A new message that begins with the domain and the salt. */
static struct hash_stream *begin_salted(const char *domain, const uint8_t salt[RECEIPT_SALT], bulla_error *error)
{
    struct hash_stream *stream = hash_stream_open(error);
    if (stream) {
        hash_stream_update(stream, domain, strlen(domain));
        hash_stream_update(stream, salt, RECEIPT_SALT);
    }
    return stream;
}

static int end(struct hash_stream *stream, uint8_t hash[RECEIPT_HASH], bulla_error *error)
{
    int code = hash_stream_finish(stream, hash, error);
    hash_stream_close(stream);
    return code;
}

int receipt_chain_start(const uint8_t salt[RECEIPT_SALT], uint32_t choice, uint8_t chain[RECEIPT_HASH], bulla_error *error)
{
    struct hash_stream *stream = begin_salted(domain_chain, salt, error);
    if (!stream)
        return BULLA_E_MEMORY;
    update_u32(stream, choice);
    return end(stream, chain, error);
}

int receipt_chain_step_with(struct hash_stream *stream, uint8_t chain[RECEIPT_HASH], enum receipt_part part,
                            const uint32_t *ids, size_t id_count, const void *bytes, size_t length, bulla_error *error)
{
    hash_stream_update(stream, chain, RECEIPT_HASH);
    update_u32(stream, (uint32_t)part);
    update_u32(stream, (uint32_t)id_count);
    update_ids(stream, ids, id_count);
    update_u32(stream, (uint32_t)length);
    update_u32(stream, (uint32_t)((uint64_t)length >> 32));
    hash_stream_update(stream, bytes, length);
    return hash_stream_finish(stream, chain, error);
}

int receipt_chain_step(uint8_t chain[RECEIPT_HASH], enum receipt_part part, const uint32_t *ids, size_t id_count,
                       const void *bytes, size_t length, bulla_error *error)
{
    struct hash_stream *stream = hash_stream_open(error);
    if (!stream)
        return BULLA_E_MEMORY;
    int code = receipt_chain_step_with(stream, chain, part, ids, id_count, bytes, length, error);
    hash_stream_close(stream);
    return code;
}

int receipt_request_hash(const uint8_t salt[RECEIPT_SALT], const void *body, size_t length, uint8_t hash[RECEIPT_HASH],
                         bulla_error *error)
{
    struct hash_stream *stream = begin_salted(domain_request, salt, error);
    if (!stream)
        return BULLA_E_MEMORY;
    hash_stream_update(stream, body, length);
    return end(stream, hash, error);
}

int receipt_prompt_hash(const uint8_t salt[RECEIPT_SALT], const uint32_t *ids, size_t count, uint8_t hash[RECEIPT_HASH],
                        bulla_error *error)
{
    struct hash_stream *stream = begin_salted(domain_prompt, salt, error);
    if (!stream)
        return BULLA_E_MEMORY;
    update_ids(stream, ids, count);
    return end(stream, hash, error);
}

int receipt_prompts_hash(const uint8_t salt[RECEIPT_SALT], const uint8_t (*prompts)[RECEIPT_HASH], size_t count,
                         uint8_t hash[RECEIPT_HASH], bulla_error *error)
{
    if (count == 1) {
        memcpy(hash, prompts[0], RECEIPT_HASH);
        return BULLA_OK;
    }
    struct hash_stream *stream = begin_salted(domain_prompts, salt, error);
    if (!stream)
        return BULLA_E_MEMORY;
    hash_stream_update(stream, prompts, count * RECEIPT_HASH);
    return end(stream, hash, error);
}

int receipt_parameter_hash(const uint8_t salt[RECEIPT_SALT], const struct json *value, uint8_t hash[RECEIPT_HASH],
                           bulla_error *error)
{
    struct hash_stream *stream = begin_salted(domain_parameter, salt, error);
    struct buffer text = {0};
    if (!stream)
        return BULLA_E_MEMORY;
    json_write_canonical(&text, value);
    hash_stream_update(stream, text.data, text.length);
    int code = end(stream, hash, error);
    if (text.error.code != BULLA_OK)
        code = bulla_fail(error, text.error.code, "%s", text.error.text);
    buffer_free(&text);
    return code;
}

/* ---- Reading ---- */

struct fields {
    const struct json *object;
    bulla_error *error;
};

static int fail_field(const struct fields *fields, const char *name, const char *expected)
{
    return bulla_fail(fields->error, BULLA_E_INPUT, "receipt: \"%s\" is not %s", name, expected);
}

static void read_hex(const struct fields *fields, const char *name, uint8_t *bytes, size_t length)
{
    const struct json *value = json_get(fields->object, name);
    if (!json_is(value, JSON_STRING) || !hex_decode(value->text, value->length, bytes, length))
        fail_field(fields, name, length == RECEIPT_ID ? "16 bytes in hex" : "32 bytes in hex");
}

static uint64_t read_number(const struct fields *fields, const char *name, uint64_t most)
{
    const struct json *value = json_get(fields->object, name);
    if (json_is(value, JSON_NUMBER) && value->is_integer && value->integer >= 0 && (uint64_t)value->integer <= most)
        return (uint64_t)value->integer;
    fail_field(fields, name, "a number in its range");
    return 0;
}

/* `may_be_null`: null gives NULL. */
static const char *read_text(const struct fields *fields, const char *name, int may_be_null)
{
    const struct json *value = json_get(fields->object, name);
    if (may_be_null && json_is(value, JSON_NULL))
        return NULL;
    if (json_is(value, JSON_STRING) && strlen(value->text) == value->length)
        return value->text;
    fail_field(fields, name, "a text");
    return "";
}

static void read_choices(const struct fields *fields, struct arena *arena, struct receipt *receipt)
{
    const struct json *list = json_get(fields->object, "choices");
    if (!json_is(list, JSON_ARRAY) || list->length == 0 || list->length > RECEIPT_MOST_CHOICES) {
        fail_field(fields, "choices", "a list of 1 to 2048 choices");
        return;
    }
    struct receipt_choice *choices = arena_alloc(arena, list->length, sizeof *choices, fields->error);
    if (!choices)
        return;
    for (size_t i = 0; i < list->length; i++) {
        const struct fields one = {list->items[i], fields->error};
        if (!json_is(list->items[i], JSON_OBJECT) || list->items[i]->length != 3)
            fail_field(fields, "choices", "a list of objects of chain, finish and tokens");
        read_hex(&one, "chain", choices[i].chain, RECEIPT_HASH);
        choices[i].finish = read_text(&one, "finish", 0);
        choices[i].tokens = read_number(&one, "tokens", INT64_MAX);
    }
    receipt->choices = choices;
    receipt->choice_count = list->length;
}

enum { MEMBERS = 21 };

static void read_members(const struct fields *fields, struct arena *arena, struct receipt *receipt)
{
    const struct json *simulated = json_get(fields->object, "simulated");
    if (!json_is(fields->object, JSON_OBJECT) || fields->object->length != MEMBERS ||
        read_number(fields, "bulla_receipt", RECEIPT_VERSION) != RECEIPT_VERSION) {
        bulla_fail(fields->error, BULLA_E_INPUT, "not a receipt of version %d", RECEIPT_VERSION);
        return;
    }
    read_hex(fields, "adapter_root", receipt->adapter_root, RECEIPT_HASH);
    receipt->backend = read_text(fields, "backend", 0);
    read_hex(fields, "chat_template", receipt->chat_template, RECEIPT_HASH);
    read_choices(fields, arena, receipt);
    receipt->engine = read_text(fields, "engine", 1);
    read_hex(fields, "evidence", receipt->evidence, RECEIPT_HASH);
    read_hex(fields, "id", receipt->id, RECEIPT_ID);
    read_hex(fields, "key", receipt->key, RECEIPT_KEY);
    read_hex(fields, "model_root", receipt->model_root, RECEIPT_HASH);
    receipt->output_tokens = read_number(fields, "output_tokens", INT64_MAX);
    receipt->parameters = json_get(fields->object, "parameters");
    if (!json_is(receipt->parameters, JSON_OBJECT))
        fail_field(fields, "parameters", "an object");
    read_hex(fields, "policy", receipt->policy, RECEIPT_HASH);
    receipt->program_version = (uint32_t)read_number(fields, "program_version", UINT32_MAX);
    read_hex(fields, "prompt", receipt->prompt, RECEIPT_HASH);
    receipt->prompt_tokens = read_number(fields, "prompt_tokens", INT64_MAX);
    read_hex(fields, "request", receipt->request, RECEIPT_HASH);
    receipt->retention = read_text(fields, "retention", 0);
    receipt->is_simulated = json_is(simulated, JSON_TRUE);
    if (!json_is_bool(simulated))
        fail_field(fields, "simulated", "true or false");
    receipt->time = (int64_t)read_number(fields, "time", INT64_MAX);
    read_hex(fields, "tokenizer", receipt->tokenizer, RECEIPT_HASH);
}

int receipt_read(const struct json *value, struct arena *arena, struct receipt *receipt, struct buffer *signed_part,
                 uint8_t signature[RECEIPT_SIGNATURE], bulla_error *error)
{
    const struct json *text = json_get(value, "signature");
    const struct fields fields = {json_get(value, "receipt"), error};
    uint8_t bytes[RECEIPT_SIGNATURE + 2];
    size_t length = 0;
    bulla_error own = {0};
    const struct fields members = {fields.object, &own};
    *receipt = (struct receipt){0};
    if (!json_is(value, JSON_OBJECT) || value->length != 2 || !fields.object)
        return bulla_fail(error, BULLA_E_INPUT, "not a signed receipt: an object of receipt and signature");
    if (!json_is(text, JSON_STRING) || base64_most(text->length) > sizeof bytes ||
        !base64_decode(text->text, text->length, bytes, &length) || length != RECEIPT_SIGNATURE)
        return bulla_fail(error, BULLA_E_INPUT, "receipt: the signature is not %d bytes in base64", RECEIPT_SIGNATURE);
    memcpy(signature, bytes, RECEIPT_SIGNATURE);
    read_members(&members, arena, receipt);
    buffer_clear(signed_part);
    json_write_canonical(signed_part, fields.object);
    if (own.code == BULLA_OK && signed_part->error.code != BULLA_OK)
        bulla_fail(&own, signed_part->error.code, "%s", signed_part->error.text);
    return own.code == BULLA_OK ? BULLA_OK : bulla_fail(error, own.code, "%s", own.text);
}

void receipt_write_message(const void *bytes, size_t length, struct buffer *out)
{
    buffer_append_text(out, "bulla-receipt-v1\n");
    buffer_append(out, bytes, length);
}

int receipt_signature_holds(const struct receipt *receipt, const struct buffer *signed_part,
                            const uint8_t signature[RECEIPT_SIGNATURE])
{
    struct buffer message = {0};
    EVP_PKEY *key = signature_key_from_ed25519(receipt->key);
    receipt_write_message(signed_part->data, signed_part->length, &message);
    int holds = key && message.error.code == BULLA_OK &&
                signature_verify(key, NULL, message.data, message.length, signature, RECEIPT_SIGNATURE);
    EVP_PKEY_free(key);
    buffer_free(&message);
    return holds;
}

int receipt_hash(const struct json *value, uint8_t hash[RECEIPT_HASH], bulla_error *error)
{
    struct buffer text = {0};
    json_write_canonical(&text, value);
    int code = text.error.code != BULLA_OK ? bulla_fail(error, text.error.code, "%s", text.error.text)
                                           : hash_sha256(text.data, text.length, hash, error);
    buffer_free(&text);
    return code;
}
