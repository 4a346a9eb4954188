/* The signed receipt against all that came, and what the evidence binds. */
#include <inttypes.h>
#include <string.h>

#include "base/memory.h"
#include "serve/connect_internal.h"

static int same_hex(const uint8_t *bytes, size_t length, const char *hex)
{
    char own[2 * RECEIPT_HASH + 1];
    hex_encode(bytes, length, own);
    return strcmp(own, hex) == 0;
}

static int is_zero(const uint8_t hash[RECEIPT_HASH])
{
    static const uint8_t zeros[RECEIPT_HASH];
    return memcmp(hash, zeros, RECEIPT_HASH) == 0;
}

/* The document's form, and the signature. */
static int read_receipt(struct connect_check *check, struct connect_problem *problem)
{
    static const char *const members[] = {"bulla_receipt", "signed", "log", NULL};
    const struct json *version = json_get(check->document, "bulla_receipt"), *value = json_get(check->document, "signed");
    struct buffer signed_part = {0};
    uint8_t signature[RECEIPT_SIGNATURE];
    bulla_error error = {0};
    if (!json_is(version, JSON_NUMBER) || !version->is_integer || version->integer != RECEIPT_VERSION || !value)
        return connect_fail(problem, "receipt.form", "the answer's receipt is no document of version %d", RECEIPT_VERSION);
    if (connect_only(check->document, members, "receipt.form", problem) != BULLA_OK)
        return BULLA_E_INPUT;
    int code = receipt_read(value, &check->arena, &check->receipt, &signed_part, signature, &error);
    if (code == BULLA_OK)
        code = receipt_hash(value, check->leaf, &error);
    if (code != BULLA_OK)
        connect_fail(problem, "receipt.form", "%s", error.text);
    else if (!receipt_signature_holds(&check->receipt, &signed_part, signature))
        code = connect_fail(problem, "receipt.signature", "the receipt's signature is wrong");
    buffer_free(&signed_part);
    return code == BULLA_OK ? BULLA_OK : BULLA_E_INPUT;
}

/* Who signed it, for what. */
static int check_binding(const struct connect_check *check, const struct connect_pin *pin, struct connect_problem *problem)
{
    const struct receipt *receipt = &check->receipt;
    uint8_t request[RECEIPT_HASH];
    bulla_error error = {0};
    int is_bound = 0;
    if (memcmp(receipt->key, pin->receipt_key, RECEIPT_KEY) != 0)
        return connect_fail(problem, "receipt.key", "the receipt is signed by another key than the one that the evidence binds");
    if (!same_hex(receipt->id, RECEIPT_ID, check->id))
        return connect_fail(problem, "receipt.id", "the receipt is that of another answer: its id is not the header's");
    for (size_t i = 0; i < pin->model_count; i++)
        is_bound |= memcmp(pin->models[i], receipt->model_root, RECEIPT_HASH) == 0;
    if (!is_bound)
        return connect_fail(problem, "receipt.model_root", "the model that answered is not among those that the evidence binds");
    if (receipt->is_simulated != pin->is_simulated)
        return connect_fail(problem, "receipt.simulated", "the receipt says that its evidence is %s, and that is not so",
                            receipt->is_simulated ? "simulated" : "not simulated");
    if (strcmp(receipt->backend, "native") != 0 && strcmp(receipt->backend, "upstream") != 0)
        return connect_fail(problem, "receipt.backend", "the receipt's backend \"%.60s\" is not known", receipt->backend);
    if (!is_zero(receipt->model_root) != (strcmp(receipt->backend, "native") == 0))
        return connect_fail(problem, "receipt.model_root", "the receipt's model root does not fit its backend");
    if (receipt_request_hash(check->salt, check->asked.body, check->asked.length, request, &error) != BULLA_OK)
        return connect_fail(problem, "memory", "%s", error.text);
    if (memcmp(request, receipt->request, RECEIPT_HASH) != 0)
        return connect_fail(problem, "receipt.request", "the receipt is of another request than the one that was sent, or has "
                                                        "another salt than the header's");
    return BULLA_OK;
}

static int check_choice(const struct connect_check *check, size_t index, struct connect_problem *problem)
{
    const struct connect_choice *own = &check->choices[index];
    const struct receipt_choice *signed_choice = &check->receipt.choices[index];
    int tells_ids = strcmp(check->receipt.backend, "native") == 0;
    if (!own->is_there || !own->has_finished)
        return connect_fail(problem, "receipt.choices", "choice %zu has not ended, and the receipt says that it has", index);
    if (memcmp(own->chain, signed_choice->chain, RECEIPT_HASH) != 0)
        return connect_fail(problem, "receipt.chain", "the hash chain of choice %zu is not that of what came", index);
    if (strcmp((const char *)own->finish.data, signed_choice->finish) != 0)
        return connect_fail(problem, "receipt.finish", "choice %zu ended with \"%.40s\", its receipt says \"%.40s\"", index,
                            (const char *)own->finish.data, signed_choice->finish);
    if (tells_ids ? own->tokens != signed_choice->tokens : own->tokens != 0)
        return connect_fail(problem, "receipt.tokens",
                            "choice %zu came with %" PRIu64 " token ids, its receipt says %" PRIu64, index, own->tokens,
                            signed_choice->tokens);
    return BULLA_OK;
}

static int check_counts(const struct connect_check *check, struct connect_problem *problem)
{
    const struct receipt *receipt = &check->receipt;
    uint64_t sum = 0;
    size_t there = 0;
    for (size_t i = 0; i < check->choice_count; i++)
        there += (size_t)check->choices[i].is_there;
    if (there != receipt->choice_count)
        return connect_fail(problem, "receipt.choices", "the receipt is of %zu choices, and %zu came", receipt->choice_count,
                            there);
    for (size_t i = 0; i < receipt->choice_count; i++) {
        if (check_choice(check, i, problem) != BULLA_OK)
            return BULLA_E_INPUT;
        sum += receipt->choices[i].tokens;
    }
    if (sum != receipt->output_tokens)
        return connect_fail(problem, "receipt.tokens", "the receipt's tokens do not add up");
    if (check->has_usage &&
        (check->prompt_tokens != receipt->prompt_tokens || check->output_tokens != receipt->output_tokens))
        return connect_fail(problem, "receipt.tokens", "the answer's usage is not what its receipt counts");
    return BULLA_OK;
}

int connect_check_receipt(struct connect_check *check, const struct connect_pin *pin, struct connect_problem *problem)
{
    if (!check->has_receipt)
        return connect_fail(problem, "answer.receipt", "the answer has no receipt");
    if (read_receipt(check, problem) != BULLA_OK || check_binding(check, pin, problem) != BULLA_OK ||
        check_counts(check, problem) != BULLA_OK)
        return BULLA_E_INPUT;
    return connect_check_parameters(check, check->receipt.parameters, problem);
}
