/* Receipt documents (docs/receipt.md), verified: what they say about an answer is what the transcript holds, a server that
 * the evidence vouches for signed it, and its log has it. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "base/memory.h"
#include "base/merkle.h"
#include "trust/binding.h"
#include "trust/checkpoint.h"
#include "trust/receipt.h"
#include "trust/verify.h"

enum { MOST_PATH = 64 };

static const uint8_t zeros[RECEIPT_HASH];

/* One verification. */
struct checking {
    const char *text;
    size_t length;
    const bulla_receipt_options *options;
    const struct note_key *log_keys;
    const struct json *document, *evidence, *parameters; /* evidence, parameters NULL: none */
    const struct policy *policy;
    struct verdict *verdict;
    struct receipt receipt;
    bulla_error error; /* memory, libcrypto */
};

/* ---- Small readings ---- */

static int read_hash(const struct json *value, uint8_t hash[RECEIPT_HASH])
{
    return json_is(value, JSON_STRING) && hex_decode(value->text, value->length, hash, RECEIPT_HASH);
}

/* Token ids of a list, in the verdict's arena; absent: none. 0 where it is no such list. */
static int read_ids(struct checking *checking, const struct json *list, const uint32_t **ids, size_t *count)
{
    *ids = NULL;
    *count = 0;
    if (!list)
        return 1;
    uint32_t *made = json_is(list, JSON_ARRAY) ? arena_alloc(&checking->verdict->arena, list->length + 1, sizeof *made,
                                                             &checking->error) : NULL;
    for (size_t i = 0; made && i < list->length; i++) {
        const struct json *id = list->items[i];
        if (!json_is(id, JSON_NUMBER) || !id->is_integer || id->integer < 0 || id->integer > UINT32_MAX)
            return 0;
        made[i] = (uint32_t)id->integer;
    }
    *ids = made;
    *count = made ? list->length : 0;
    return made != NULL;
}

static int is_native(const struct receipt *receipt)
{
    return strcmp(receipt->backend, "native") == 0;
}

/* Only these members. */
static int has_only(const struct json *object, const char *const *names, size_t count)
{
    for (size_t i = 0; json_is(object, JSON_OBJECT) && i < object->length; i++) {
        int is_known = 0;
        for (size_t k = 0; k < count; k++)
            is_known |= strcmp(object->keys[i], names[k]) == 0 && object->key_lengths[i] == strlen(names[k]);
        if (!is_known)
            return 0;
    }
    return json_is(object, JSON_OBJECT);
}

/* ---- The receipt itself ---- */

/* 0 where there is nothing to go on with. */
static int check_signed(struct checking *checking)
{
    static const char *const names[] = {"bulla_receipt", "signed", "log", "evidence", "transcript"};
    const struct json *version = json_get(checking->document, "bulla_receipt");
    struct buffer signed_part = {0};
    uint8_t signature[RECEIPT_SIGNATURE];
    bulla_error error = {0};
    if (!has_only(checking->document, names, sizeof names / sizeof *names) || !json_is(version, JSON_NUMBER) ||
        !version->is_integer || version->integer != RECEIPT_VERSION)
        return verdict_fails(checking->verdict, "receipt.format", "not a receipt document of version %d", RECEIPT_VERSION);
    int code = receipt_read(json_get(checking->document, "signed"), &checking->verdict->arena, &checking->receipt,
                            &signed_part, signature, &error);
    int holds = code == BULLA_OK && receipt_signature_holds(&checking->receipt, &signed_part, signature);
    if (code != BULLA_OK)
        verdict_fails(checking->verdict, "receipt.format", "%s", error.text);
    else
        verdict_holds(checking->verdict, "receipt.signature", holds, "a signature by the receipt's key",
                      holds ? "one by it" : "another one");
    buffer_free(&signed_part);
    return code == BULLA_OK;
}

static void check_hash_of(struct checking *checking, const char *name, const struct json *value, const uint8_t *expected)
{
    uint8_t hash[RECEIPT_HASH];
    if (receipt_hash(value, hash, &checking->error) == BULLA_OK)
        verdict_same_bytes(checking->verdict, name, hash, sizeof hash, expected, RECEIPT_HASH);
}

/* Who signed the receipt says its time: nobody else does. */
static void tell_time(struct checking *checking, int64_t time, int is_asked)
{
    time_t seconds = (time_t)time;
    struct tm parts;
    char text[64] = "a time that no calendar has";
    if (gmtime_r(&seconds, &parts))
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    verdict_not_made(checking->verdict, "receipt.time", "the evidence is judged as of %s, %s", text,
                     is_asked ? "as was asked for, its age as of when the receipt says that it was signed"
                              : "when the receipt says that it was signed");
}

static void check_evidence(struct checking *checking)
{
    const struct receipt *receipt = &checking->receipt;
    struct verdict *verdict = checking->verdict;
    bulla_evidence_options options = checking->options->evidence;
    struct binding binding;
    bulla_error error = {0};
    if (!checking->evidence) {
        verdict_not_made(verdict, "receipt.evidence", memcmp(receipt->evidence, zeros, RECEIPT_HASH) == 0
                             ? "the server has no evidence: nothing binds the receipt's key to a machine"
                             : "there is no document of evidence: nothing here binds the receipt's key to a machine");
        if (checking->policy)
            verdict_fails(verdict, "policy", "it requires evidence, and there is none");
        else
            policy_check_evidence(NULL, NULL, &(struct evidence){.verdict = verdict});
        return;
    }
    check_hash_of(checking, "receipt.evidence", checking->evidence, receipt->evidence);
    options.receipt_key = receipt->key;
    options.model = is_native(receipt) ? receipt->model_root : NULL;
    options.time = options.time ? options.time : receipt->time;
    tell_time(checking, options.time, checking->options->evidence.time != 0);
    if (!is_native(receipt)) /* a policy that names models accepts none that is not known */
        policy_check_model(checking->policy, zeros, verdict);
    const struct evidence_format *format = verify_evidence(checking->evidence, checking->policy, &options, receipt->time,
                                                           verdict);
    if (format)
        verdict_holds(verdict, "receipt.simulated", receipt->is_simulated == format->is_simulated,
                      format->is_simulated ? "SIMULATED evidence" : "evidence that is not simulated",
                      receipt->is_simulated ? "the receipt says simulated" : "the receipt says not simulated");
    if (binding_read(json_get(checking->evidence, "binding"), &binding, &error) == BULLA_OK)
        verdict_same_bytes(verdict, "receipt.policy", receipt->policy, RECEIPT_HASH, binding.policy, BINDING_BYTES);
}

/* Each member that is expected is the receipt's. */
static void check_parameters(struct checking *checking)
{
    const struct json *expected = checking->parameters;
    if (!expected) {
        verdict_not_made(checking->verdict, "receipt.parameters", "nobody said which to expect");
        return;
    }
    for (size_t i = 0; i < expected->length; i++) {
        const struct json *found = json_get_bytes(checking->receipt.parameters, expected->keys[i], expected->key_lengths[i]);
        struct buffer texts[2] = {{0}};
        json_write_canonical(&texts[0], expected->items[i]);
        if (found)
            json_write_canonical(&texts[1], found);
        int is_same = found && texts[0].length == texts[1].length && memcmp(texts[0].data, texts[1].data, texts[0].length) == 0;
        for (size_t k = 0; k < 2; k++)
            if (texts[k].error.code != BULLA_OK)
                bulla_fail(&checking->error, texts[k].error.code, "%s", texts[k].error.text);
        if (!is_same && checking->error.code == BULLA_OK)
            verdict_holds(checking->verdict, "receipt.parameters", 0, (const char *)texts[0].data, "%s: %.200s",
                          expected->keys[i], found ? (const char *)texts[1].data : "nothing");
        buffer_free(&texts[0]);
        buffer_free(&texts[1]);
        if (!is_same)
            return;
    }
    verdict_holds(checking->verdict, "receipt.parameters", 1, "those that were expected", "%zu as expected", expected->length);
}

/* ---- The transcript ---- */

static void check_request(struct checking *checking, const struct json *transcript, const uint8_t salt[RECEIPT_SALT])
{
    const struct json *text = json_get(transcript, "request");
    const void *body = checking->options->request;
    size_t length = checking->options->request_length;
    uint8_t hash[RECEIPT_HASH];
    if (!body && json_is(text, JSON_STRING)) {
        uint8_t *bytes = arena_alloc(&checking->verdict->arena, base64_most(text->length) + 1, 1, &checking->error);
        body = bytes && base64_decode(text->text, text->length, bytes, &length) ? bytes : NULL;
    }
    if (!body)
        verdict_fails(checking->verdict, "receipt.request", "the transcript's request is not bytes in base64");
    else if (receipt_request_hash(salt, body, length, hash, &checking->error) == BULLA_OK)
        verdict_same_bytes(checking->verdict, "receipt.request", checking->receipt.request, RECEIPT_HASH, hash, RECEIPT_HASH);
}

static int hash_prompt(struct checking *checking, const struct json *list, const uint8_t salt[RECEIPT_SALT],
                       uint8_t hash[RECEIPT_HASH], uint64_t *tokens)
{
    const uint32_t *ids;
    size_t count;
    if (!read_ids(checking, list, &ids, &count))
        return 0;
    *tokens += count;
    return receipt_prompt_hash(salt, ids, count, hash, &checking->error) == BULLA_OK;
}

static void check_prompt(struct checking *checking, const struct json *list, const uint8_t salt[RECEIPT_SALT])
{
    struct verdict *verdict = checking->verdict;
    const struct receipt *receipt = &checking->receipt;
    uint64_t tokens = 0;
    uint8_t hash[RECEIPT_HASH] = {0};
    if (!list) {
        verdict_not_made(verdict, "receipt.prompt", "the transcript has no tokens of the prompt");
        return;
    }
    int is_several = json_is(list, JSON_ARRAY) && list->length > 1 && json_is(list->items[0], JSON_ARRAY);
    uint8_t (*hashes)[RECEIPT_HASH] = is_several ? arena_alloc(&verdict->arena, list->length, sizeof *hashes,
                                                               &checking->error) : NULL;
    int is_read = is_several ? hashes != NULL : hash_prompt(checking, list, salt, hash, &tokens);
    for (size_t i = 0; is_read && is_several && i < list->length; i++)
        is_read = hash_prompt(checking, list->items[i], salt, hashes[i], &tokens);
    if (is_read && is_several)
        receipt_prompts_hash(salt, (const uint8_t (*)[RECEIPT_HASH])hashes, list->length, hash, &checking->error);
    if (!is_read)
        verdict_fails(verdict, "receipt.prompt", "the transcript's prompt_ids are no token ids");
    else if (tokens != receipt->prompt_tokens)
        verdict_fails(verdict, "receipt.prompt", "the transcript has %llu tokens of the prompt, the receipt %llu",
                      (unsigned long long)tokens, (unsigned long long)receipt->prompt_tokens);
    else
        verdict_same_bytes(verdict, "receipt.prompt", receipt->prompt, RECEIPT_HASH, hash, RECEIPT_HASH);
}

/* What the steps of a choice give. */
struct walked {
    uint8_t chain[RECEIPT_HASH];
    uint64_t tokens;
    int has_ended;
    char finish[64]; /* the reason; "": the last step is none */
};

static int walk_step(struct checking *checking, const struct json *step, struct walked *walked)
{
    static const char *const names[] = {"part", "ids", "text"};
    const struct json *name = json_get(step, "part"), *text = json_get(step, "text");
    const uint32_t *ids;
    size_t count;
    if (!has_only(step, names, 3) || !json_is(name, JSON_STRING) || !json_is(text, JSON_STRING) ||
        !read_ids(checking, json_get(step, "ids"), &ids, &count))
        return 0;
    enum receipt_part part = receipt_part_find(name->text);
    if (!part || walked->has_ended) /* nothing follows a finish */
        return 0;
    walked->tokens += count;
    walked->has_ended = part == RECEIPT_FINISH;
    if (walked->has_ended)
        snprintf(walked->finish, sizeof walked->finish, "%s", text->text); /* up to the zero byte */
    return receipt_chain_step(walked->chain, part, ids, count, text->text, text->length, &checking->error) == BULLA_OK;
}

static void check_choice(struct checking *checking, const struct json *choice, size_t number, const uint8_t salt[RECEIPT_SALT],
                         struct walked *walked)
{
    static const char *const names[] = {"steps"};
    struct verdict *verdict = checking->verdict;
    const struct json *steps = json_get(choice, "steps");
    char text[40];
    int length = snprintf(text, sizeof text, "receipt.chain.%zu", number);
    const char *name = arena_copy_text(&verdict->arena, text, (size_t)length, &checking->error);
    int is_read = name && has_only(choice, names, 1) && json_is(steps, JSON_ARRAY) &&
                  receipt_chain_start(salt, (uint32_t)number, walked->chain, &checking->error) == BULLA_OK;
    for (size_t i = 0; is_read && i < steps->length; i++)
        is_read = walk_step(checking, steps->items[i], walked);
    if (!name)
        return;
    if (is_read)
        verdict_same_bytes(verdict, name, checking->receipt.choices[number].chain, RECEIPT_HASH, walked->chain, RECEIPT_HASH);
    else
        verdict_fails(verdict, name, "the transcript's steps are malformed");
}

/* Of native answers each token has its id; upstreams say numbers only. */
static void check_tokens(struct checking *checking, const struct walked *walked)
{
    const struct receipt *receipt = &checking->receipt;
    uint64_t all = 0;
    if (!is_native(receipt)) {
        verdict_not_made(checking->verdict, "receipt.tokens", "the engine behind the server tells no tokens");
        return;
    }
    for (size_t i = 0; i < receipt->choice_count; i++) {
        all += walked[i].tokens;
        if (walked[i].tokens != receipt->choices[i].tokens) {
            verdict_fails(checking->verdict, "receipt.tokens", "choice %zu has %llu tokens, the receipt says %llu", i,
                          (unsigned long long)walked[i].tokens, (unsigned long long)receipt->choices[i].tokens);
            return;
        }
    }
    verdict_same_number(checking->verdict, "receipt.tokens", receipt->output_tokens, all);
}

static void check_finish(struct checking *checking, const struct walked *walked)
{
    const struct receipt *receipt = &checking->receipt;
    for (size_t i = 0; i < receipt->choice_count; i++)
        if (!*walked[i].finish || strcmp(walked[i].finish, receipt->choices[i].finish) != 0) {
            verdict_fails(checking->verdict, "receipt.finish", "choice %zu ends with \"%s\", the receipt says \"%.60s\"", i,
                          walked[i].finish, receipt->choices[i].finish);
            return;
        }
    verdict_holds(checking->verdict, "receipt.finish", 1, "those of the transcript", "of each choice");
}

static void check_transcript(struct checking *checking)
{
    static const char *const names[] = {"salt", "request", "prompt_ids", "choices"};
    const struct json *transcript = json_get(checking->document, "transcript"), *choices = json_get(transcript, "choices");
    struct verdict *verdict = checking->verdict;
    uint8_t salt[RECEIPT_SALT];
    if (!transcript) {
        verdict_not_made(verdict, "receipt.transcript", "there is none: what the answer was is not checked");
        if (checking->options->request)
            verdict_fails(verdict, "receipt.request", "without the transcript's salt nobody can tell whether it is this one");
        return;
    }
    struct walked *walked = arena_alloc(&verdict->arena, checking->receipt.choice_count, sizeof *walked, &checking->error);
    if (!walked)
        return;
    if (!has_only(transcript, names, 4) || !read_hash(json_get(transcript, "salt"), salt) || !json_is(choices, JSON_ARRAY) ||
        choices->length != checking->receipt.choice_count) {
        verdict_fails(verdict, "receipt.transcript", "it is malformed, or has not the choices of the receipt");
        return;
    }
    check_request(checking, transcript, salt);
    check_prompt(checking, json_get(transcript, "prompt_ids"), salt);
    for (size_t i = 0; i < choices->length; i++)
        check_choice(checking, choices->items[i], i, salt, walked + i);
    check_tokens(checking, walked);
    check_finish(checking, walked);
}

/* ---- The log ---- */

static void check_note(struct checking *checking, const struct json *text)
{
    const bulla_receipt_options *options = checking->options;
    struct verdict *verdict = checking->verdict;
    struct checkpoint checkpoint;
    struct note *note;
    bulla_error error = {0};
    size_t cosigned = 0;
    int is_signed = 0;
    if (options->log_key_count == 0) {
        verdict_not_made(verdict, "log.checkpoint", "nobody said which key the log has");
        verdict_not_made(verdict, "log.witnesses", "nobody said which to expect");
        return;
    }
    note = arena_alloc(&verdict->arena, 1, sizeof *note, &checking->error);
    if (!note)
        return;
    int code = note_open(text->text, text->length, checking->log_keys, options->log_key_count, note, &error);
    if (code == BULLA_OK)
        cosigned = checkpoint_cosigned(note, checking->log_keys, &is_signed);
    if (code == BULLA_OK)
        code = checkpoint_read(note->text, note->length, &checkpoint, &error);
    if (code != BULLA_OK)
        verdict_fails(verdict, "log.checkpoint", "%s", error.text);
    else
        verdict_holds(verdict, "log.checkpoint", is_signed && strcmp(checkpoint.origin, checking->log_keys->name) == 0,
                      checking->log_keys->name, is_signed ? "%s, signed by the log's key" : "%s, not signed by the log's key",
                      checkpoint.origin);
    if (options->witnesses)
        verdict_at_least(verdict, "log.witnesses", cosigned, options->witnesses);
    else
        verdict_not_made(verdict, "log.witnesses", "none is asked for");
}

static void check_log(struct checking *checking)
{
    static const char *const names[] = {"index", "path", "checkpoint"};
    const struct json *log = json_get(checking->document, "log"), *index = json_get(log, "index"),
                      *path = json_get(log, "path"), *text = json_get(log, "checkpoint");
    struct verdict *verdict = checking->verdict;
    uint8_t entry[RECEIPT_HASH], leaf[MERKLE_HASH], hashes[MOST_PATH][MERKLE_HASH];
    struct checkpoint checkpoint;
    if (!log && checking->options->log_key_count) {
        verdict_fails(verdict, "log.inclusion", "the document says nothing of the log that must have it");
        return;
    }
    if (!log) {
        verdict_not_made(verdict, "log.inclusion", "the document says nothing of a log");
        return;
    }
    int is_read = has_only(log, names, 3) && json_is(index, JSON_NUMBER) && index->is_integer && index->integer >= 0 &&
                  json_is(path, JSON_ARRAY) && path->length <= MOST_PATH && json_is(text, JSON_STRING) &&
                  strlen(text->text) == text->length &&
                  checkpoint_read(text->text, text->length, &checkpoint, NULL) == BULLA_OK;
    for (size_t i = 0; is_read && i < path->length; i++)
        is_read = read_hash(path->items[i], hashes[i]);
    if (!is_read) {
        verdict_fails(verdict, "log.inclusion", "the member \"log\" is malformed");
        return;
    }
    check_note(checking, text);
    if (receipt_hash(json_get(checking->document, "signed"), entry, &checking->error) != BULLA_OK ||
        merkle_leaf_hash(entry, sizeof entry, leaf, &checking->error) != BULLA_OK)
        return;
    int leads = merkle_path_verify(leaf, (uint64_t)index->integer, checkpoint.size, hashes[0], (unsigned)path->length,
                                   checkpoint.root, &checking->error);
    verdict_holds(verdict, "log.inclusion", leads, "a path from the receipt to the checkpoint's root",
                  "leaf %lld of %llu, a path that leads %s", (long long)index->integer, (unsigned long long)checkpoint.size,
                  leads ? "there" : "elsewhere");
}

/* ---- All of it ---- */

static void check_all(void *context, const struct policy *policy, struct arena *arena, struct verdict *verdict,
                      bulla_error *error)
{
    struct checking *checking = context;
    const bulla_receipt_options *options = checking->options;
    checking->policy = policy;
    checking->verdict = verdict;
    checking->document = json_parse(checking->text, checking->length, "the receipt", arena, error);
    checking->evidence = json_get(checking->document, "evidence");
    if (checking->document && !checking->evidence && options->evidence_document)
        checking->evidence = json_parse(options->evidence_document, options->evidence_length, "the evidence", arena, error);
    if (error->code == BULLA_OK && options->parameters)
        checking->parameters = json_parse(options->parameters, options->parameters_length, "the expected parameters", arena,
                                          error);
    if (checking->parameters && !json_is(checking->parameters, JSON_OBJECT))
        bulla_fail(error, BULLA_E_USAGE, "the expected parameters are no object");
    if (error->code == BULLA_OK && check_signed(checking)) {
        check_transcript(checking);
        check_parameters(checking);
        check_log(checking);
        check_evidence(checking);
    }
    if (checking->error.code != BULLA_OK)
        bulla_fail(error, checking->error.code, "%s", checking->error.text);
}

int bulla_verify_receipt(const char *document, size_t length, const bulla_receipt_options *options, bulla_verdict **verdict,
                         bulla_error *error)
{
    struct checking checking = {.text = document, .length = length, .options = options};
    struct note_key *keys = NULL;
    int code = BULLA_OK;
    *verdict = NULL;
    if (options->log_key_count > BULLA_MOST_LOG_KEYS)
        return bulla_fail(error, BULLA_E_USAGE, "%zu keys of logs, at most %d", options->log_key_count, BULLA_MOST_LOG_KEYS);
    if (options->witnesses && options->log_key_count == 0)
        return bulla_fail(error, BULLA_E_USAGE, "witnesses are asked for, and neither the log's key nor theirs are given");
    if (options->log_key_count)
        keys = memory_alloc(options->log_key_count, sizeof *keys, error);
    if (options->log_key_count && !keys)
        return BULLA_E_MEMORY;
    for (size_t i = 0; code == BULLA_OK && i < options->log_key_count; i++)
        code = note_key_read(options->log_keys[i], strlen(options->log_keys[i]), &keys[i], error);
    checking.log_keys = keys;
    if (code == BULLA_OK)
        code = verify_with(options->evidence.policy, options->evidence.policy_length, check_all, &checking, verdict, error);
    memory_free(keys);
    return code;
}
