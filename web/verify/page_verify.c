/* What the page calls: libbulla-verify with texts in and JSON out, which is the caller's (free). */
#include <emscripten/emscripten.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/hash.h"
#include "base/json.h"
#include "bulla/verify.h"

static char *taken(struct buffer *out)
{
    buffer_append(out, "", 0);
    return (char *)out->data;
}

static char *error_answer(const bulla_error *error)
{
    struct buffer out = {0};
    buffer_append_text(&out, "{\"error\":");
    json_write_string(&out, error->text, strlen(error->text));
    buffer_append_byte(&out, '}');
    return taken(&out);
}

static char *text_answer(const char *member, const char *text, size_t length)
{
    struct buffer out = {0};
    buffer_append_format(&out, "{\"%s\":", member);
    json_write_string(&out, text, length);
    buffer_append_byte(&out, '}');
    return taken(&out);
}

EMSCRIPTEN_KEEPALIVE char *page_explain(const char *policy, size_t length)
{
    char *text;
    size_t text_length;
    bulla_error error = {0};
    if (bulla_policy_explain(policy, length, &text, &text_length, &error) != BULLA_OK)
        return error_answer(&error);
    char *answer = text_answer("text", text, text_length);
    bulla_verdict_text_free(text);
    return answer;
}

static char *verdict_answer(int code, bulla_verdict *verdict, bulla_error *error)
{
    char *text = NULL;
    size_t length;
    if (code == BULLA_OK)
        code = bulla_verdict_text(verdict, 1, &text, &length, error);
    bulla_verdict_free(verdict);
    return code == BULLA_OK ? text : error_answer(error);
}

/* Of evidence, or of a receipt's document. Seconds in decimal; nonce in hex and the log's key (NAME+HEXID+BASE64), or NULL. */
EMSCRIPTEN_KEEPALIVE char *page_verify(int is_receipt, const char *document, size_t length, const char *policy,
                                       size_t policy_length, const char *time, size_t time_length, const char *nonce,
                                       size_t nonce_length, const char *log_key, size_t log_key_length)
{
    uint8_t nonce_bytes[BULLA_BINDING_BYTES];
    bulla_error error = {0};
    bulla_verdict *verdict = NULL;
    bulla_receipt_options options = {.evidence = {.policy = policy, .policy_length = policy_length},
                                     .log_keys = &log_key, .log_key_count = log_key ? 1 : 0};
    options.evidence.time = strtoll(time, NULL, 10);
    if (nonce && !hex_decode(nonce, nonce_length, nonce_bytes, sizeof nonce_bytes)) {
        bulla_fail(&error, BULLA_E_INPUT, "The nonce is not %d bytes in hex", BULLA_BINDING_BYTES);
        return error_answer(&error);
    }
    options.evidence.nonce = nonce ? nonce_bytes : NULL;
    int code = is_receipt ? bulla_verify_receipt(document, length, &options, &verdict, &error)
                          : bulla_verify_evidence(document, length, &options.evidence, &verdict, &error);
    return verdict_answer(code, verdict, &error);
}
