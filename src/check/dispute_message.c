#include "check/dispute_message.h"

#include <inttypes.h>
#include <string.h>

#include "trust/signature.h"

enum { SIGNATURE = 64 };

static const char *const kind_names[DISPUTE_KINDS] = {
    [DISPUTE_ANSWER] = "answer", [DISPUTE_CHALLENGE] = "challenge", [DISPUTE_CLAIM] = "claim", [DISPUTE_CHOICE] = "choice",
    [DISPUTE_REVEAL] = "reveal", [DISPUTE_ARRAYS] = "arrays", [DISPUTE_BLOCK] = "block", [DISPUTE_OPENING] = "opening",
    [DISPUTE_WITHDRAWAL] = "withdrawal", [DISPUTE_EQUIVOCATION] = "equivocation"};

const char *dispute_kind_name(int kind)
{
    return kind > 0 && kind < DISPUTE_KINDS ? kind_names[kind] : NULL;
}

const char *dispute_about_name(int about)
{
    static const char *const names[DISPUTE_ABOUTS] = {[DISPUTE_TRACE] = "trace", [DISPUTE_PROMPT] = "prompt",
                                                      [DISPUTE_PARAMETERS] = "parameters", [DISPUTE_DELIVERY] = "delivery"};
    return about > 0 && about < DISPUTE_ABOUTS ? names[about] : NULL;
}

static enum dispute_kind find_kind(const struct json *name)
{
    for (int kind = DISPUTE_KINDS; json_is(name, JSON_STRING) && kind-- > 1;)
        if (strcmp(name->text, kind_names[kind]) == 0 && name->length == strlen(kind_names[kind]))
            return (enum dispute_kind)kind;
    return (enum dispute_kind)0;
}

/* ---- Members ---- */

int dispute_get_hash(const struct json *object, const char *name, uint8_t hash[DISPUTE_HASH])
{
    const struct json *value = json_get(object, name);
    return json_is(value, JSON_STRING) && hex_decode(value->text, value->length, hash, DISPUTE_HASH);
}

int dispute_get_number(const struct json *object, const char *name, uint64_t limit, uint64_t *number)
{
    const struct json *value = json_get(object, name);
    if (!json_is(value, JSON_NUMBER) || !value->is_integer || value->integer < 0 || (uint64_t)value->integer >= limit)
        return 0;
    *number = (uint64_t)value->integer;
    return 1;
}

int dispute_get_bytes(const struct json *object, const char *name, uint8_t *bytes, size_t most, size_t *length)
{
    const struct json *value = json_get(object, name);
    return json_is(value, JSON_STRING) && base64_most(value->length) <= most &&
           base64_decode(value->text, value->length, bytes, length);
}

void dispute_put_name(struct buffer *out, const char *name)
{
    buffer_append_format(out, "%s\"%s\":", out->length && out->data[out->length - 1] == '{' ? "" : ",", name);
}

void dispute_put_hex(struct buffer *out, const char *name, const uint8_t *bytes, size_t length)
{
    char text[2 * 64 + 1];
    hex_encode(bytes, length < 64 ? length : 64, text);
    dispute_put_text(out, name, text);
}

void dispute_put_bytes(struct buffer *out, const char *name, const void *bytes, size_t length)
{
    dispute_put_name(out, name);
    buffer_append_byte(out, '"');
    base64_append(out, bytes, length);
    buffer_append_byte(out, '"');
}

void dispute_put_number(struct buffer *out, const char *name, uint64_t number)
{
    dispute_put_name(out, name);
    buffer_append_format(out, "%" PRIu64, number);
}

void dispute_put_text(struct buffer *out, const char *name, const char *text)
{
    dispute_put_name(out, name);
    json_write_string(out, text, strlen(text));
}

/* ---- Signatures ---- */

int dispute_public_key(EVP_PKEY *key, uint8_t public_key[DISPUTE_KEY], bulla_error *error)
{
    size_t length = DISPUTE_KEY;
    if (EVP_PKEY_get_raw_public_key(key, public_key, &length) == 1 && length == DISPUTE_KEY)
        return BULLA_OK;
    return bulla_fail(error, BULLA_E_USAGE, "the key is none of Ed25519");
}

static void write_signed(const char *context, const struct buffer *text, struct buffer *out)
{
    buffer_append_text(out, context);
    buffer_append_byte(out, '\n');
    buffer_append(out, text->data, text->length);
}

int dispute_sign(const char *context, const char *what, const struct buffer *text, EVP_PKEY *key, struct buffer *out,
                 bulla_error *error)
{
    uint8_t signature[SIGNATURE];
    struct buffer message = {0};
    write_signed(context, text, &message);
    int is_signed = message.error.code == BULLA_OK && signature_ed25519_sign(key, message.data, message.length, signature);
    buffer_free(&message);
    if (!is_signed)
        return bulla_fail(error, BULLA_E_INTERNAL, "libcrypto could not sign");
    int is_first = strcmp(what, "signature") < 0;
    buffer_append_byte(out, '{');
    for (int i = 0; i < 2; i++) {
        if (i == is_first) {
            dispute_put_bytes(out, "signature", signature, sizeof signature);
        } else {
            dispute_put_name(out, what);
            buffer_append(out, text->data, text->length);
        }
    }
    buffer_append_byte(out, '}');
    return out->error.code != BULLA_OK ? bulla_fail(error, out->error.code, "%s", out->error.text) : BULLA_OK;
}

int dispute_is_signed(const char *context, const struct json *value, const char *what, const uint8_t key[DISPUTE_KEY],
                      uint8_t hash[DISPUTE_HASH])
{
    uint8_t signature[SIGNATURE + 2];
    size_t length;
    struct buffer text = {0}, message = {0};
    if (!json_get(value, what) || !dispute_get_bytes(value, "signature", signature, sizeof signature, &length) ||
        length != SIGNATURE)
        return 0;
    json_write_canonical(&text, json_get(value, what));
    write_signed(context, &text, &message);
    EVP_PKEY *public_key = signature_key_from_ed25519(key);
    int holds = public_key && text.error.code == BULLA_OK && message.error.code == BULLA_OK &&
                signature_verify(public_key, NULL, message.data, message.length, signature, SIGNATURE) &&
                hash_sha256(message.data, message.length, hash, NULL) == BULLA_OK;
    EVP_PKEY_free(public_key);
    buffer_free(&text);
    buffer_free(&message);
    return holds;
}

/* ---- Messages ---- */

/* One way to write it down, so that its bytes are its hash's. */
static int is_canonical(const struct json *value, const void *bytes, size_t length)
{
    struct buffer text = {0};
    json_write_canonical(&text, value);
    int is_same = text.error.code == BULLA_OK && text.length == length && memcmp(text.data, bytes, length) == 0;
    buffer_free(&text);
    return is_same;
}

int dispute_message_read(const void *bytes, size_t length, struct arena *arena, struct dispute_message *message,
                         bulla_error *error)
{
    *message = (struct dispute_message){0};
    if (length > DISPUTE_MOST_DOCUMENT)
        return bulla_fail(error, BULLA_E_LIMIT, "a message of %zu bytes, at most %d are read", length, DISPUTE_MOST_DOCUMENT);
    const struct json *value = json_parse(bytes, length, "the message", arena, error);
    if (!value)
        return error ? error->code : BULLA_E_INPUT;
    const struct json *inner = json_get(value, "message"), *protocol = json_get(inner, "protocol");
    message->kind = find_kind(json_get(inner, "kind"));
    message->body = json_get(inner, "body");
    if (!json_is(value, JSON_OBJECT) || value->length != 2 || !json_is(inner, JSON_OBJECT) || inner->length != 7 ||
        !json_is(protocol, JSON_STRING) || strcmp(protocol->text, DISPUTE_PROTOCOL) != 0 || !message->kind ||
        !json_is(message->body, JSON_OBJECT) || !dispute_get_hash(inner, "dispute", message->dispute) ||
        !dispute_get_hash(inner, "previous", message->previous) || !dispute_get_hash(inner, "key", message->key) ||
        !dispute_get_number(inner, "number", UINT32_MAX, &message->number))
        return bulla_fail(error, BULLA_E_INPUT, "not a message of " DISPUTE_PROTOCOL);
    if (length > DISPUTE_MOST_MESSAGE && message->kind != DISPUTE_ANSWER && message->kind != DISPUTE_EQUIVOCATION)
        return bulla_fail(error, BULLA_E_LIMIT, "a message of %zu bytes, at most %d are read", length, DISPUTE_MOST_MESSAGE);
    if (!is_canonical(value, bytes, length))
        return bulla_fail(error, BULLA_E_INPUT, "the message is not in canonical form");
    if (!dispute_is_signed(DISPUTE_PROTOCOL, value, "message", message->key, message->hash))
        return bulla_fail(error, BULLA_E_INPUT, "the message is not signed by its key");
    return BULLA_OK;
}

int dispute_message_write(struct dispute_message *message, const struct buffer *body, EVP_PKEY *key, struct buffer *out,
                          bulla_error *error)
{
    struct buffer text = {0}, whole = {0};
    int code = dispute_public_key(key, message->key, error);
    if (code != BULLA_OK)
        return code;
    buffer_append_byte(&text, '{');
    dispute_put_name(&text, "body");
    buffer_append(&text, body->data, body->length);
    dispute_put_hex(&text, "dispute", message->dispute, DISPUTE_HASH);
    dispute_put_hex(&text, "key", message->key, DISPUTE_KEY);
    dispute_put_text(&text, "kind", dispute_kind_name(message->kind));
    dispute_put_number(&text, "number", message->number);
    dispute_put_hex(&text, "previous", message->previous, DISPUTE_HASH);
    dispute_put_text(&text, "protocol", DISPUTE_PROTOCOL);
    buffer_append_byte(&text, '}');
    write_signed(DISPUTE_PROTOCOL, &text, &whole);
    if (body->error.code != BULLA_OK)
        code = bulla_fail(error, body->error.code, "%s", body->error.text);
    else if (text.error.code != BULLA_OK || whole.error.code != BULLA_OK)
        code = bulla_fail(error, BULLA_E_MEMORY, "memory is short for a message");
    if (code == BULLA_OK)
        code = hash_sha256(whole.data, whole.length, message->hash, error);
    if (code == BULLA_OK)
        code = dispute_sign(DISPUTE_PROTOCOL, "message", &text, key, out, error);
    buffer_free(&text);
    buffer_free(&whole);
    return code;
}

/* ---- Ids ---- */

static int hash_parts(const char *context, const uint8_t *first, const uint32_t *choice, const uint8_t *second,
                      const uint8_t *third, uint8_t id[DISPUTE_HASH], bulla_error *error)
{
    uint8_t bytes[32 + 4 + 3 * DISPUTE_HASH];
    size_t length = strlen(context);
    memcpy(bytes, context, length);
    memcpy(bytes + length, first, DISPUTE_HASH);
    length += DISPUTE_HASH;
    for (int i = 0; choice && i < 4; i++)
        bytes[length++] = (uint8_t)(*choice >> 8 * i);
    memcpy(bytes + length, second, DISPUTE_HASH);
    length += DISPUTE_HASH;
    if (third)
        memcpy(bytes + length, third, DISPUTE_HASH);
    return hash_sha256(bytes, length + (third ? DISPUTE_HASH : 0), id, error);
}

int dispute_answer_id(const uint8_t receipt[DISPUTE_HASH], const uint8_t proposer[DISPUTE_KEY], uint8_t id[DISPUTE_HASH],
                      bulla_error *error)
{
    return hash_parts("bulla-dispute-answer-v1", receipt, NULL, proposer, NULL, id, error);
}

int dispute_id(const uint8_t answer[DISPUTE_HASH], uint32_t choice, const uint8_t challenger[DISPUTE_KEY],
               const uint8_t nonce[DISPUTE_HASH], uint8_t id[DISPUTE_HASH], bulla_error *error)
{
    return hash_parts(DISPUTE_PROTOCOL, answer, &choice, challenger, nonce, id, error);
}
