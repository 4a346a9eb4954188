/* Receipt documents from any bytes: they get a verdict or are no JSON, no verdict passes under a policy that asks for hardware
 * that no fuzzer has, and a receipt that is read is written so that it is read again as the same. What an audit takes from the document is all of it,
 * and is no other than itself. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bulla/verify.h"
#include "check/audit.h"
#include "trust/receipt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char log_key[] = "example.com/log+a06c8792+AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

static void verify(const char *text, size_t length)
{
    static const char policy[] = "{\"type\":\"snp\",\"launch_measurement\":\"00\"}";
    static const char *const keys[] = {log_key};
    bulla_receipt_options options = {.evidence = {.policy = policy, .policy_length = sizeof policy - 1},
                                     .log_keys = keys, .log_key_count = 1, .parameters = "{\"n\":1}", .parameters_length = 7};
    bulla_error error = {0};
    bulla_verdict *verdict;
    char *said;
    size_t said_length;
    if (bulla_verify_receipt(text, length, &options, &verdict, &error) != BULLA_OK) {
        struct arena arena = {0};
        if (!error.text[0] || verdict || json_parse(text, length, "input", &arena, NULL)) /* the options are good */
            abort();
        arena_free(&arena);
        return;
    }
    struct arena arena = {0};
    if (bulla_verdict_passed(verdict) || bulla_verdict_text(verdict, 1, &said, &said_length, &error) != BULLA_OK ||
        !json_parse(said, said_length, "verdict", &arena, &error))
        abort();
    bulla_verdict_text_free(said);
    bulla_verdict_free(verdict);
    arena_free(&arena);
}

static void deliver(const struct claim_choice *choice)
{
    struct audit_delivery delivery = {.claim = choice};
    size_t tokens = 0;
    for (size_t i = 0; i < choice->step_count; i++) {
        const struct claim_step *step = &choice->steps[i];
        tokens += step->id_count;
        audit_delivered_tokens(&delivery, step->id_count);
        audit_delivered(&delivery, step->part, step->text, step->length);
    }
    if (tokens != choice->token_count || delivery.differs || !delivery.ends_so)
        abort();
}

static void read_claim(const char *text, size_t length)
{
    struct arena arena = {0};
    struct claim claim;
    bulla_error error = {0};
    int code = claim_read(text, length, &arena, &claim, &error);
    if ((code != BULLA_OK) != (error.code != BULLA_OK))
        abort();
    for (size_t i = 0; code == BULLA_OK && claim.choices && i < claim.receipt.choice_count; i++)
        deliver(&claim.choices[i]);
    arena_free(&arena);
}

static void read_again(const char *text, size_t length)
{
    struct arena arena = {0};
    struct receipt receipt, second;
    struct buffer signed_part = {0}, written = {0}, again = {0};
    uint8_t signature[RECEIPT_SIGNATURE];
    bulla_error error = {0};
    const struct json *value = json_get(json_parse(text, length, "input", &arena, NULL), "signed");
    if (value && receipt_read(value, &arena, &receipt, &signed_part, signature, &error) == BULLA_OK) {
        buffer_append_text(&written, "{\"receipt\":");
        receipt_write(&receipt, &written);
        buffer_append_text(&written, ",\"signature\":\"");
        base64_append(&written, signature, sizeof signature);
        buffer_append_text(&written, "\"}");
        value = json_parse((const char *)written.data, written.length, "written", &arena, &error);
        if (!value || receipt_read(value, &arena, &second, &signed_part, signature, &error) != BULLA_OK)
            abort();
        receipt_write(&second, &again);
        if (again.length != signed_part.length || memcmp(again.data, signed_part.data, again.length) != 0)
            abort();
    }
    buffer_free(&signed_part);
    buffer_free(&written);
    buffer_free(&again);
    arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    verify((const char *)data, size);
    read_claim((const char *)data, size);
    read_again((const char *)data, size);
    return 0;
}
