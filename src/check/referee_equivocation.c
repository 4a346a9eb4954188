/* Two things that one key signed and that cannot both be: a proof of fault by itself. */
#include <string.h>

#include "base/memory.h"
#include "check/referee_internal.h"
#include "trust/receipt.h"

static int reject(bulla_error *error, const char *why)
{
    return bulla_fail(error, BULLA_E_INPUT, "%s", why);
}

/* A message inside of another one. */
static int read_inner(const struct json *value, struct arena *arena, struct dispute_message *message)
{
    struct buffer text = {0};
    json_write_canonical(&text, value);
    int is_read = text.error.code == BULLA_OK && dispute_message_read(text.data, text.length, arena, message, NULL) == BULLA_OK;
    buffer_free(&text);
    return is_read;
}

/* Whether both say what a proposer's claim says, of this answer, and not the same. */
static int are_two_claims(const struct dispute_message *first, const struct dispute_message *second,
                          const uint8_t answer[DISPUTE_HASH])
{
    uint8_t said[DISPUTE_HASH], one[DISPUTE_HASH], other[DISPUTE_HASH];
    uint64_t choice, same;
    return first->kind == DISPUTE_CLAIM && second->kind == DISPUTE_CLAIM && dispute_get_hash(first->body, "answer", said) &&
           memcmp(said, answer, DISPUTE_HASH) == 0 && dispute_get_hash(second->body, "answer", said) &&
           memcmp(said, answer, DISPUTE_HASH) == 0 && dispute_get_number(first->body, "choice", UINT32_MAX, &choice) &&
           dispute_get_number(second->body, "choice", UINT32_MAX, &same) && choice == same &&
           referee_claim_hash(first->body, one, NULL) == BULLA_OK &&
           referee_claim_hash(second->body, other, NULL) == BULLA_OK && memcmp(one, other, DISPUTE_HASH) != 0;
}

static int are_two_turns(const struct dispute_message *first, const struct dispute_message *second)
{
    return memcmp(first->dispute, second->dispute, DISPUTE_HASH) == 0 && first->number == second->number &&
           memcmp(first->previous, second->previous, DISPUTE_HASH) == 0;
}

static int take_messages(struct referee *referee, struct referee_answer *answer, const struct json *one, const struct json *other,
                         const uint8_t *finder, struct arena *arena, int64_t time, bulla_error *error)
{
    struct dispute_message first, second;
    if (!read_inner(one, arena, &first) || !read_inner(other, arena, &second) ||
        memcmp(first.key, second.key, DISPUTE_KEY) != 0 || memcmp(first.hash, second.hash, DISPUTE_HASH) == 0)
        return reject(error, "these are not two messages of one key");
    const struct referee_dispute *dispute = referee_find_dispute(referee, first.dispute);
    int is_of_answer = dispute && dispute->answer == answer;
    if (!are_two_claims(&first, &second, answer->id) && !(is_of_answer && are_two_turns(&first, &second)))
        return reject(error, "these two messages do not contradict each other");
    if (memcmp(first.key, answer->proposer, DISPUTE_KEY) == 0) {
        referee_overturn(answer, finder, "the proposer signed two messages that cannot both be", time);
        return BULLA_OK;
    }
    int is_found = 0;
    for (struct referee_dispute *other_dispute = answer->disputes; other_dispute; other_dispute = other_dispute->next)
        if (other_dispute->status == DISPUTE_OPEN && memcmp(other_dispute->key, first.key, DISPUTE_KEY) == 0) {
            is_found = 1;
            referee_end(other_dispute, DISPUTE_PROPOSER_WON, "the challenger signed two messages that cannot both be", time);
        }
    return is_found ? BULLA_OK : reject(error, "neither proposer nor a challenger with an open dispute signed them");
}

static int take_receipts(struct referee_answer *answer, const struct json *one, const struct json *other, const uint8_t *finder,
                         struct arena *arena, int64_t time, bulla_error *error)
{
    const struct json *const values[2] = {one, other};
    uint8_t hashes[2][RECEIPT_HASH], signature[RECEIPT_SIGNATURE];
    for (int i = 0; i < 2; i++) {
        struct receipt receipt;
        struct buffer text = {0};
        int is_one = receipt_read(values[i], arena, &receipt, &text, signature, NULL) == BULLA_OK &&
                     receipt_signature_holds(&receipt, &text, signature) && receipt_hash(values[i], hashes[i], NULL) == BULLA_OK &&
                     memcmp(receipt.key, answer->receipt.key, RECEIPT_KEY) == 0 &&
                     memcmp(receipt.id, answer->receipt.id, RECEIPT_ID) == 0;
        buffer_free(&text);
        if (!is_one)
            return reject(error, "these are not two receipts with the answer's id and key");
    }
    if (memcmp(hashes[0], hashes[1], RECEIPT_HASH) == 0 || (memcmp(hashes[0], answer->receipt.hash, RECEIPT_HASH) != 0 &&
                                                            memcmp(hashes[1], answer->receipt.hash, RECEIPT_HASH) != 0))
        return reject(error, "these two receipts are one, or none of them is the answer's");
    referee_overturn(answer, finder, "the server signed two receipts of one answer", time);
    return BULLA_OK;
}

int referee_take_equivocation(struct referee *referee, const struct dispute_message *message, int64_t time, bulla_error *error)
{
    const struct json *first = json_get(message->body, "first"), *second = json_get(message->body, "second");
    struct referee_answer *answer = referee_find_answer(referee, message->dispute);
    struct arena arena = {0};
    if (!answer || answer->status != ANSWER_PENDING)
        return reject(error, "no such answer is pending");
    int code = json_get(first, "message")
                   ? take_messages(referee, answer, first, second, message->key, &arena, time, error)
                   : take_receipts(answer, first, second, message->key, &arena, time, error);
    arena_free(&arena);
    return code;
}
