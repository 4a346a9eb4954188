#include "check/audit.h"

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/utf8.h"

static const uint8_t zeros[RECEIPT_HASH];

void audit_lacks(struct verdict *verdict, const char *name, const char *why)
{
    verdict_not_made(verdict, name, "%s", why);
    verdict->lacks = 1;
}

void audit_without_policy(struct verdict *verdict)
{
    for (size_t i = 0; i < verdict->count; i++)
        if (strcmp(verdict->checks[i].name, "policy") == 0)
            verdict->checks[i] = (bulla_check){.state = BULLA_CHECK_NOT_MADE, .name = "policy",
                                               .found = "there is none: what the evidence is worth is not judged"};
}

/* ---- Model and parameters ---- */

int audit_check_model(struct verdict *verdict, const struct receipt *receipt, const struct audit_model *model)
{
    const uint8_t *chat_template = model->chat_template ? model->chat_template : zeros;
    int is_same = verdict_same_bytes(verdict, "audit.model", receipt->model_root, RECEIPT_HASH, model->root, RECEIPT_HASH);
    if (!is_same)
        verdict_advise(verdict, "the receipt is for another model than the one that it is audited with");
    /* The root covers all three; a receipt that says something else of them is a lie all the same. */
    int is_whole = verdict_same_number(verdict, "audit.program", receipt->program_version, model->program_version);
    is_whole &= verdict_same_bytes(verdict, "audit.tokenizer", receipt->tokenizer, RECEIPT_HASH, model->tokenizer,
                                   RECEIPT_HASH);
    is_whole &= verdict_same_bytes(verdict, "audit.chat_template", receipt->chat_template, RECEIPT_HASH, chat_template,
                                   RECEIPT_HASH);
    is_whole &= verdict_same_bytes(verdict, "audit.adapter", receipt->adapter_root, RECEIPT_HASH, zeros, RECEIPT_HASH);
    return is_same && is_whole;
}

uint64_t audit_limit(const struct json *said, uint64_t asked, int *is_lower)
{
    uint64_t limit = json_is(said, JSON_NUMBER) && said->is_integer && said->integer > 0 ? (uint64_t)said->integer : 0;
    *is_lower = limit && (asked == 0 || limit < asked);
    return *is_lower ? limit : asked;
}

/* The members' values as canonical texts; 1 where they are the same. */
static int is_same_value(const struct json *found, const struct json *expected, struct buffer texts[2])
{
    json_write_canonical(&texts[0], expected);
    if (found)
        json_write_canonical(&texts[1], found);
    return found && texts[0].length == texts[1].length && memcmp(texts[0].data, texts[1].data, texts[0].length) == 0;
}

int audit_check_parameters(struct verdict *verdict, const struct receipt *receipt, const struct buffer *expected,
                           const char *limits)
{
    const struct json *object = json_parse((const char *)expected->data, expected->length, "parameters", &verdict->arena,
                                           &verdict->error);
    size_t same = 0;
    for (size_t i = 0; object && verdict->error.code == BULLA_OK && i < object->length; i++) {
        struct buffer texts[2] = {{0}};
        const struct json *found = json_get(receipt->parameters, object->keys[i]);
        int is_same = is_same_value(found, object->items[i], texts);
        for (size_t k = 0; k < 2; k++)
            if (texts[k].error.code != BULLA_OK)
                verdict->error = texts[k].error;
        if (!is_same && verdict->error.code == BULLA_OK)
            verdict_holds(verdict, "audit.parameters", 0, (const char *)texts[0].data, "%s: %.200s", object->keys[i],
                          found ? (const char *)texts[1].data : "nothing");
        same += (size_t)is_same;
        buffer_free(&texts[0]);
        buffer_free(&texts[1]);
    }
    if (!object || same < object->length)
        return 0;
    return verdict_holds(verdict, "audit.parameters", receipt->parameters->length == object->length,
                         "what the request gives, and no more", "%zu, what the request gives%s%s",
                         receipt->parameters->length, *limits ? " with limits of the server's own: " : "", limits);
}

/* ---- What was delivered ---- */

/* In whole characters. */
static void cut_words(char words[AUDIT_WORDS])
{
    words[utf8_check(words, strlen(words))] = 0;
}

static void describe_step(enum receipt_part part, size_t tokens, const char *text, size_t length, char words[AUDIT_WORDS])
{
    int shown = length < AUDIT_WORDS / 2 ? (int)length : AUDIT_WORDS / 2;
    snprintf(words, AUDIT_WORDS, "%s of %zu tokens, \"%.*s%s\"", receipt_part_name(part), tokens, shown, text,
             (size_t)shown < length ? "..." : "");
    cut_words(words);
}

/* "stop (a stop string)" */
static void describe_finish(const char *finish, const char *stop, char words[AUDIT_WORDS])
{
    snprintf(words, AUDIT_WORDS, stop ? "%.40s (%.80s)" : "%.40s", finish, stop);
    cut_words(words);
}

void audit_delivered_tokens(struct audit_delivery *delivery, size_t count)
{
    delivery->waiting += count;
}

static int is_same_text(const struct claim_step *step, const char *text, size_t length)
{
    return step->length == length && memcmp(step->text, text, length) == 0;
}

static void take_finish(struct audit_delivery *delivery, const char *text, size_t length)
{
    const struct claim_choice *claim = delivery->claim;
    size_t word = strnlen(text, length);
    delivery->ends_so = is_same_text(&claim->steps[claim->step_count - 1], text, length);
    describe_finish(text, word < length ? text + word + 1 : NULL, delivery->finish);
}

void audit_delivered(struct audit_delivery *delivery, enum receipt_part part, const char *text, size_t length)
{
    const struct claim_choice *claim = delivery->claim;
    size_t at = delivery->steps++, tokens = delivery->waiting;
    const struct claim_step *step = at < claim->step_count ? &claim->steps[at] : NULL;
    delivery->waiting = 0;
    if (part == RECEIPT_FINISH)
        take_finish(delivery, text, length);
    if (delivery->differs || (step && step->part == part && step->id_count == tokens &&
                              (part == RECEIPT_FINISH || is_same_text(step, text, length))))
        return;
    delivery->differs = at + 1;
    describe_step(part, tokens, text, length, delivery->expected);
}

/* ---- A choice ---- */

/* "audit.tokens.3", as long as the verdict. */
static const char *name_check(struct verdict *verdict, const char *what, size_t number)
{
    char text[60];
    int length = snprintf(text, sizeof text, "audit.%s.%zu", what, number);
    const char *name = arena_copy_text(&verdict->arena, text, (size_t)length, &verdict->error);
    return name ? name : what;
}

/* Why an answer may end where no token says so: then when it ended is the server's word. NULL: it may not. */
static const char *excuse(const struct receipt *receipt, const struct claim_choice *claim)
{
    if (strcmp(claim->finish, "length") != 0)
        return NULL;
    if (claim->stop && strcmp(claim->stop, "deadline") == 0 && json_is(json_get(receipt->parameters, "timeout"), JSON_NUMBER))
        return "the server cut the answer off at its deadline; when that was cannot be computed";
    if (!claim->stop && json_is(json_get(receipt->parameters, "max_tokens"), JSON_NULL))
        return "no limit is in the parameters, and the context is not full: a server whose cache is smaller than the context "
               "ends answers so";
    return NULL;
}

/* Whether the answer ended as it had to, or else the excuse for it. */
static const char *find_cut(const struct receipt *receipt, const struct replay_outcome *outcome,
                            const struct audit_delivery *delivery)
{
    return outcome->result == REPLAY_SAME && delivery->ends_so ? NULL : excuse(receipt, delivery->claim);
}

/* 1 where the tokens are right and, as far as tokens say it, so is the end. */
static int check_tokens(struct verdict *verdict, const struct receipt *receipt, size_t number,
                        const struct replay_outcome *outcome, const struct claim_choice *claim)
{
    const char *name = name_check(verdict, "tokens", number);
    char expected[AUDIT_WORDS], words[AUDIT_WORDS];
    switch (outcome->result) {
    case REPLAY_SAME:
        break;
    case REPLAY_GOES_ON:
        if (excuse(receipt, claim))
            break;
        snprintf(expected, sizeof expected, "token %zu, which is %u", outcome->at, outcome->drawn);
        describe_finish(claim->finish, claim->stop, words);
        return verdict_holds(verdict, name, 0, expected, "the end after %zu tokens, %s", outcome->at, words);
    case REPLAY_DIFFERS:
        snprintf(expected, sizeof expected, "%u", outcome->drawn);
        return verdict_holds(verdict, name, 0, expected, "token %zu of choice %zu is %u", outcome->at, number,
                             claim->tokens[outcome->at]);
    case REPLAY_ENDS:
        snprintf(expected, sizeof expected, "the answer's end after %zu tokens", outcome->at);
        return verdict_holds(verdict, name, 0, expected, "token %zu of choice %zu is %u", outcome->at, number,
                             claim->tokens[outcome->at]);
    case REPLAY_REFUSED:
        return verdict_fails(verdict, name, "the request has no answer: %s", outcome->refusal.text);
    }
    return verdict_holds(verdict, name, 1, "those that the model gives", "%zu, each drawn again", claim->token_count);
}

static void check_finish(struct verdict *verdict, const struct receipt *receipt, size_t number,
                         const struct replay_outcome *outcome, const struct audit_delivery *delivery)
{
    const struct claim_choice *claim = delivery->claim;
    const char *name = name_check(verdict, "finish", number);
    const char *cut = find_cut(receipt, outcome, delivery);
    char found[AUDIT_WORDS];
    describe_finish(claim->finish, claim->stop, found);
    if (cut)
        audit_lacks(verdict, name, cut);
    else
        verdict_holds(verdict, name, delivery->ends_so, delivery->finish, "%s", found);
}

/* Of an answer that was cut off, as far as its tokens go: what was held back may have been delivered at its end or not. */
static void check_delivered(struct verdict *verdict, const struct receipt *receipt, size_t number,
                            const struct replay_outcome *outcome, const struct audit_delivery *delivery)
{
    const struct claim_choice *claim = delivery->claim;
    const char *name = name_check(verdict, "delivered", number);
    char found[AUDIT_WORDS] = "nothing more";
    if (outcome->result == REPLAY_SAME && find_cut(receipt, outcome, delivery)) {
        audit_lacks(verdict, name, "the answer would have ended with these tokens, and was cut off");
    } else if (delivery->differs) {
        size_t at = delivery->differs - 1;
        const struct claim_step *step = &claim->steps[at];
        if (at < claim->step_count)
            describe_step(step->part, step->id_count, step->text, step->length, found);
        verdict_holds(verdict, name, 0, delivery->expected, "step %zu of choice %zu is %s", at, number, found);
    } else if (outcome->result == REPLAY_SAME && delivery->steps < claim->step_count) {
        const struct claim_step *step = &claim->steps[delivery->steps];
        describe_step(step->part, step->id_count, step->text, step->length, found);
        verdict_holds(verdict, name, 0, "nothing more", "step %zu of choice %zu is %s", delivery->steps, number, found);
    } else {
        verdict_holds(verdict, name, 1, "what those tokens give", "%zu steps, what those tokens give", delivery->steps);
    }
}

void audit_check_choice(struct verdict *verdict, const struct receipt *receipt, size_t number,
                        const struct replay_outcome *outcome, const struct audit_delivery *delivery)
{
    if (check_tokens(verdict, receipt, number, outcome, delivery->claim)) {
        check_finish(verdict, receipt, number, outcome, delivery);
        check_delivered(verdict, receipt, number, outcome, delivery);
        return;
    }
    audit_lacks(verdict, name_check(verdict, "finish", number), "the tokens are others");
    audit_lacks(verdict, name_check(verdict, "delivered", number), "the tokens are others");
}

/* ---- Which receipts are audited ---- */

int audit_is_chosen(const uint8_t secret[AUDIT_SECRET], const uint8_t hash[RECEIPT_HASH], uint64_t share, int *is_chosen,
                    bulla_error *error)
{
    static const char label[] = "bulla-watch-v1";
    uint8_t bytes[sizeof label - 1 + AUDIT_SECRET + RECEIPT_HASH], digest[HASH_SHA256_BYTES];
    memcpy(bytes, label, sizeof label - 1);
    memcpy(bytes + sizeof label - 1, secret, AUDIT_SECRET);
    memcpy(bytes + sizeof label - 1 + AUDIT_SECRET, hash, RECEIPT_HASH);
    int code = hash_sha256(bytes, sizeof bytes, digest, error);
    struct reader reader = reader_over(digest, sizeof digest);
    *is_chosen = share >= AUDIT_ALL || reader_u64(&reader) < share * (UINT64_MAX / AUDIT_ALL);
    return code;
}

/* Checks that fail where the transcript, or a document's other parts, are not those of the signed receipt. */
static int is_of_binding(const char *name)
{
    static const char *const names[] = {"receipt.format", "receipt.transcript", "receipt.request", "receipt.prompt"};
    static const char chain[] = "receipt.chain.";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return 1;
    return strncmp(name, chain, sizeof chain - 1) == 0;
}

/* What is of the answer: not what its log and its evidence are worth. Of an answer of another model nothing is known but
 * what the receipt says itself. */
static int is_of_answer(const char *name, int is_other_model)
{
    static const char *const names[] = {"receipt.signature", "receipt.tokens", "receipt.finish"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return 1;
    return !is_other_model && strncmp(name, "audit.", 6) == 0;
}

enum audit_finding audit_find(const struct verdict *verdict)
{
    const bulla_check *model = verdict_find(verdict, "audit.model");
    int is_other_model = model && model->state == BULLA_CHECK_FAILED, has_failed = 0;
    for (size_t i = 0; i < verdict->count; i++) {
        const bulla_check *check = &verdict->checks[i];
        if (check->state == BULLA_CHECK_FAILED && is_of_binding(check->name))
            return AUDIT_UNBOUND;
        has_failed |= check->state == BULLA_CHECK_FAILED && is_of_answer(check->name, is_other_model);
    }
    return has_failed ? AUDIT_FAILED : verdict->lacks ? AUDIT_UNCHECKED : AUDIT_PASSED;
}
