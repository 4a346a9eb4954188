/* The writing half of receipt.h: what servers do. */
#include <inttypes.h>
#include <string.h>

#include "trust/receipt.h"
#include "trust/signature.h"

static void write_hex(struct buffer *out, const char *before, const uint8_t *bytes, size_t length)
{
    char hex[2 * RECEIPT_SIGNATURE + 1];
    hex_encode(bytes, length, hex);
    buffer_append_format(out, "%s\"%s\"", before, hex);
}

static void write_text(struct buffer *out, const char *before, const char *text)
{
    buffer_append_text(out, before);
    if (text)
        json_write_string(out, text, strlen(text));
    else
        buffer_append_text(out, "null");
}

static void write_choices(const struct receipt *receipt, struct buffer *out)
{
    buffer_append_text(out, "\"choices\":[");
    for (size_t i = 0; i < receipt->choice_count; i++) {
        const struct receipt_choice *choice = &receipt->choices[i];
        write_hex(out, i ? ",{\"chain\":" : "{\"chain\":", choice->chain, RECEIPT_HASH);
        write_text(out, ",\"finish\":", choice->finish);
        buffer_append_format(out, ",\"tokens\":%" PRIu64 "}", choice->tokens);
    }
    buffer_append_byte(out, ']');
}

/* The members in the order of RFC 8785. */
void receipt_write(const struct receipt *receipt, struct buffer *out)
{
    write_hex(out, "{\"adapter_root\":", receipt->adapter_root, RECEIPT_HASH);
    write_text(out, ",\"backend\":", receipt->backend);
    buffer_append_format(out, ",\"bulla_receipt\":%d", RECEIPT_VERSION);
    write_hex(out, ",\"chat_template\":", receipt->chat_template, RECEIPT_HASH);
    buffer_append_byte(out, ',');
    write_choices(receipt, out);
    write_text(out, ",\"engine\":", receipt->engine);
    write_hex(out, ",\"evidence\":", receipt->evidence, RECEIPT_HASH);
    write_hex(out, ",\"id\":", receipt->id, RECEIPT_ID);
    write_hex(out, ",\"key\":", receipt->key, RECEIPT_KEY);
    write_hex(out, ",\"model_root\":", receipt->model_root, RECEIPT_HASH);
    buffer_append_format(out, ",\"output_tokens\":%" PRIu64 ",\"parameters\":", receipt->output_tokens);
    if (receipt->parameters_text)
        buffer_append_text(out, receipt->parameters_text);
    else
        json_write_canonical(out, receipt->parameters);
    write_hex(out, ",\"policy\":", receipt->policy, RECEIPT_HASH);
    buffer_append_format(out, ",\"program_version\":%" PRIu32, receipt->program_version);
    write_hex(out, ",\"prompt\":", receipt->prompt, RECEIPT_HASH);
    buffer_append_format(out, ",\"prompt_tokens\":%" PRIu64, receipt->prompt_tokens);
    write_hex(out, ",\"request\":", receipt->request, RECEIPT_HASH);
    write_text(out, ",\"retention\":", receipt->retention);
    buffer_append_format(out, ",\"simulated\":%s,\"time\":%" PRId64, receipt->is_simulated ? "true" : "false", receipt->time);
    write_hex(out, ",\"tokenizer\":", receipt->tokenizer, RECEIPT_HASH);
    buffer_append_byte(out, '}');
}

int receipt_sign(const struct receipt *receipt, EVP_PKEY *key, struct buffer *out, bulla_error *error)
{
    struct buffer message = {0};
    uint8_t signature[RECEIPT_SIGNATURE];
    receipt_write_message(NULL, 0, &message);
    size_t domain = message.length;
    receipt_write(receipt, &message);
    int is_made = message.error.code == BULLA_OK && signature_ed25519_sign(key, message.data, message.length, signature);
    if (is_made) {
        buffer_append_text(out, "{\"receipt\":");
        buffer_append(out, message.data + domain, message.length - domain);
        buffer_append_text(out, ",\"signature\":\"");
        base64_append(out, signature, sizeof signature);
        buffer_append_text(out, "\"}");
    }
    buffer_free(&message);
    if (!is_made)
        return bulla_fail(error, BULLA_E_INTERNAL, "a receipt could not be signed");
    return out->error.code != BULLA_OK ? bulla_fail(error, out->error.code, "%s", out->error.text) : BULLA_OK;
}
