#define _GNU_SOURCE
#include "serve/receipts.h"

#include <event2/event.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"

/* A receipt on its way to the log. */
struct submission {
    struct submission *next;
    struct receipts *receipts;
    struct receipt_issue *issue; /* who waits; NULL: nobody any more. The event thread's */
    struct buffer receipt, inclusion;
    bulla_error error;
};

struct receipts {
    struct receipts_options options;
    uint8_t key[RECEIPT_KEY];
    struct hash_stream *stream;
    int wake; /* eventfd: something was logged */
    struct event *woken;
    pthread_mutex_t lock;
    struct submission *logged; /* the lock's, newest first */
};

struct choice {
    uint8_t chain[RECEIPT_HASH];
    uint64_t tokens;
    const char *finish;
    struct buffer waiting; /* ids that go with the next step */
    int is_taken;          /* they went with the last one, and go with the next call */
};

struct prompt {
    uint8_t hash[RECEIPT_HASH];
    int is_told;
};

struct receipt_issue {
    struct receipts *receipts;
    uint8_t id[RECEIPT_ID], salt[RECEIPT_SALT], request[RECEIPT_HASH];
    struct buffer prompts; /* struct prompt each */
    uint64_t prompt_tokens;
    struct receipt_step last;
    bulla_error error;
    struct submission *submission; /* NULL: not under way */
    receipt_done done;
    void *context;
    size_t choice_count;
    struct choice choices[];
};

/* ---- The server's ---- */

static void free_submission(struct submission *submission)
{
    buffer_free(&submission->receipt);
    buffer_free(&submission->inclusion);
    memory_free(submission);
}

static void write_document(struct buffer *out, const struct buffer *receipt, const struct buffer *inclusion)
{
    buffer_append_text(out, "{\"bulla_receipt\":1,\"log\":");
    buffer_append(out, inclusion->data, inclusion->length);
    buffer_append_text(out, ",\"signed\":");
    buffer_append(out, receipt->data, receipt->length);
    buffer_append_byte(out, '}');
}

/* Tells who waits. */
static void tell(struct submission *submission)
{
    struct receipt_issue *issue = submission->issue;
    struct buffer document = {0};
    bulla_error *error = &submission->error;
    if (!issue)
        return;
    issue->submission = NULL;
    if (error->code == BULLA_OK) {
        write_document(&document, &submission->receipt, &submission->inclusion);
        *error = submission->inclusion.error.code != BULLA_OK ? submission->inclusion.error : document.error;
    }
    issue->done(issue->context, error->code == BULLA_OK ? &document : NULL, error->code == BULLA_OK ? NULL : error);
    buffer_free(&document);
}

static struct submission *take_logged(struct receipts *receipts)
{
    struct submission *oldest = NULL;
    pthread_mutex_lock(&receipts->lock);
    struct submission *newest = receipts->logged;
    receipts->logged = NULL;
    pthread_mutex_unlock(&receipts->lock);
    while (newest) {
        struct submission *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

static void on_woken(evutil_socket_t socket, short what, void *context)
{
    struct receipts *receipts = context;
    uint64_t count;
    ssize_t taken = read(receipts->wake, &count, sizeof count);
    (void)taken;
    (void)what;
    (void)socket;
    for (struct submission *at = take_logged(receipts), *next; at; at = next) {
        next = at->next;
        tell(at);
        free_submission(at);
    }
}

/* On the log's thread. */
static void on_logged(void *context, const char *inclusion, size_t length, const bulla_error *error)
{
    struct submission *submission = context;
    struct receipts *receipts = submission->receipts;
    uint64_t one = 1;
    if (error)
        submission->error = *error;
    else
        buffer_append(&submission->inclusion, inclusion, length);
    pthread_mutex_lock(&receipts->lock);
    submission->next = receipts->logged;
    receipts->logged = submission;
    pthread_mutex_unlock(&receipts->lock);
    ssize_t put = write(receipts->wake, &one, sizeof one); /* a full one means that the thread is woken already */
    (void)put;
}

int receipts_open(struct event_base *base, const struct receipts_options *options, struct receipts **result,
                  bulla_error *error)
{
    struct receipts *receipts = memory_alloc(1, sizeof *receipts, error);
    size_t length = RECEIPT_KEY;
    *result = NULL;
    if (!receipts)
        return BULLA_E_MEMORY;
    receipts->options = *options;
    pthread_mutex_init(&receipts->lock, NULL);
    receipts->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    receipts->stream = hash_stream_open(error);
    if (receipts->wake >= 0)
        receipts->woken = event_new(base, receipts->wake, EV_READ | EV_PERSIST, on_woken, receipts);
    int code = !receipts->stream ? BULLA_E_MEMORY : BULLA_OK;
    if (code == BULLA_OK && (!receipts->woken || event_add(receipts->woken, NULL) != 0))
        code = bulla_fail(error, BULLA_E_MEMORY, "the receipts' event cannot be made");
    if (code == BULLA_OK && (EVP_PKEY_get_raw_public_key(options->key, receipts->key, &length) != 1 || length != RECEIPT_KEY))
        code = bulla_fail(error, BULLA_E_USAGE, "the key of receipts is no Ed25519 key");
    if (code == BULLA_OK)
        *result = receipts;
    else
        receipts_close(receipts);
    return code;
}

void receipts_close(struct receipts *receipts)
{
    if (!receipts)
        return;
    for (struct submission *at = take_logged(receipts), *next; at; at = next) {
        next = at->next;
        free_submission(at);
    }
    if (receipts->woken)
        event_free(receipts->woken);
    if (receipts->wake >= 0)
        close(receipts->wake);
    hash_stream_close(receipts->stream);
    pthread_mutex_destroy(&receipts->lock);
    memory_free(receipts);
}

const struct receipts_log *receipts_log_of(const struct receipts *receipts)
{
    return &receipts->options.log;
}

/* The evidence that a signed receipt names, as a member; nothing where it is not kept. */
static int write_evidence(struct receipts *receipts, const struct buffer *text, struct buffer *out, bulla_error *error)
{
    const struct receipts_evidence *evidence = &receipts->options.evidence;
    struct arena arena = {0};
    struct buffer document = {0};
    uint8_t hash[RECEIPT_HASH];
    int is_found = 0, code = BULLA_OK;
    const struct json *value = json_parse((const char *)text->data, text->length, "a receipt of the log", &arena, error);
    const struct json *named = json_get(json_get(value, "receipt"), "evidence");
    if (!value)
        code = error ? error->code : BULLA_E_INPUT;
    else if (evidence->find && json_is(named, JSON_STRING) && hex_decode(named->text, named->length, hash, sizeof hash))
        code = evidence->find(evidence->context, hash, &document, &is_found, error);
    if (code == BULLA_OK && is_found) {
        buffer_append_text(out, ",\"evidence\":");
        buffer_append(out, document.data, document.length);
    }
    buffer_free(&document);
    arena_free(&arena);
    return code;
}

int receipts_find(struct receipts *receipts, const uint8_t id[RECEIPT_ID], int wants_evidence, struct buffer *out,
                  int *is_found, bulla_error *error)
{
    const struct receipts_log *log = &receipts->options.log;
    struct buffer receipt = {0}, inclusion = {0};
    int code = log->find(log->context, id, &receipt, &inclusion, is_found, error);
    if (code == BULLA_OK && *is_found) {
        buffer_append_text(out, "{\"bulla_receipt\":1");
        if (wants_evidence)
            code = write_evidence(receipts, &receipt, out, error);
        buffer_append_text(out, ",\"log\":");
        buffer_append(out, inclusion.data, inclusion.length);
        buffer_append_text(out, ",\"signed\":");
        buffer_append(out, receipt.data, receipt.length);
        buffer_append_byte(out, '}');
    }
    buffer_free(&receipt);
    buffer_free(&inclusion);
    return code;
}

/* ---- One answer's ---- */

int receipt_issue_open(struct receipts *receipts, size_t choices, const void *body, size_t length,
                       struct receipt_issue **result, bulla_error *error)
{
    uint8_t random[RECEIPT_ID + RECEIPT_SALT];
    struct receipt_issue *issue = memory_alloc(1, sizeof *issue + choices * sizeof *issue->choices, error);
    *result = issue;
    if (!issue)
        return BULLA_E_MEMORY;
    issue->receipts = receipts;
    issue->choice_count = choices;
    int code = getrandom(random, sizeof random, 0) == (ssize_t)sizeof random
                   ? BULLA_OK
                   : bulla_fail(error, BULLA_E_INTERNAL, "the system gives no random bytes");
    memcpy(issue->id, random, RECEIPT_ID);
    memcpy(issue->salt, random + RECEIPT_ID, RECEIPT_SALT);
    if (code == BULLA_OK)
        code = receipt_request_hash(issue->salt, body, length, issue->request, error);
    for (size_t i = 0; code == BULLA_OK && i < choices; i++)
        code = receipt_chain_start(issue->salt, (uint32_t)i, issue->choices[i].chain, error);
    if (code != BULLA_OK) {
        receipt_issue_close(issue);
        *result = NULL;
    }
    return code;
}

void receipt_issue_close(struct receipt_issue *issue)
{
    if (!issue)
        return;
    if (issue->submission)
        issue->submission->issue = NULL;
    for (size_t i = 0; i < issue->choice_count; i++)
        buffer_free(&issue->choices[i].waiting);
    buffer_free(&issue->prompts);
    memory_wipe(issue->salt, sizeof issue->salt);
    memory_free(issue);
}

const uint8_t *receipt_issue_id(const struct receipt_issue *issue)
{
    return issue->id;
}

const uint8_t *receipt_issue_salt(const struct receipt_issue *issue)
{
    return issue->salt;
}

static void keep_error(struct receipt_issue *issue, const bulla_error *error)
{
    if (issue->error.code == BULLA_OK && error->code != BULLA_OK)
        issue->error = *error;
}

void receipt_issue_prompt(struct receipt_issue *issue, size_t number, const uint32_t *ids, size_t count)
{
    size_t room = (number + 1) * sizeof(struct prompt);
    bulla_error error = {0};
    if (issue->prompts.length < room)
        buffer_extend(&issue->prompts, room - issue->prompts.length);
    keep_error(issue, &issue->prompts.error);
    if (issue->error.code != BULLA_OK)
        return;
    struct prompt *prompt = (struct prompt *)(void *)issue->prompts.data + number;
    receipt_prompt_hash(issue->salt, ids, count, prompt->hash, &error);
    prompt->is_told = 1;
    issue->prompt_tokens += count;
    keep_error(issue, &error);
}

void receipt_issue_tokens(struct receipt_issue *issue, size_t number, const uint32_t *ids, size_t count)
{
    struct choice *choice = issue->choices + number;
    choice->tokens += count;
    if (choice->is_taken)
        buffer_clear(&choice->waiting);
    choice->is_taken = 0;
    if (ids)
        buffer_append(&choice->waiting, ids, count * sizeof *ids); /* the machine is little-endian, as the chain is */
    keep_error(issue, &choice->waiting.error);
}

void receipt_issue_step(struct receipt_issue *issue, size_t number, enum receipt_part part, const void *bytes, size_t length)
{
    struct choice *choice = issue->choices + number;
    bulla_error error = {0};
    if (choice->is_taken)
        buffer_clear(&choice->waiting);
    choice->is_taken = 1;
    issue->last = (struct receipt_step){.part = part, .ids = (const uint32_t *)(const void *)choice->waiting.data,
                                        .id_count = choice->waiting.length / sizeof(uint32_t), .chain = choice->chain};
    receipt_chain_step_with(issue->receipts->stream, choice->chain, part, issue->last.ids, issue->last.id_count, bytes,
                            length, &error);
    keep_error(issue, &error);
}

void receipt_issue_end(struct receipt_issue *issue, size_t number, const char *finish)
{
    issue->choices[number].finish = finish;
}

struct receipt_step receipt_issue_last(const struct receipt_issue *issue)
{
    return issue->last;
}

/* ---- Its end ---- */

/* The hash of all prompts; zeros where not each was told of. */
static int hash_prompts(const struct receipt_issue *issue, uint8_t hash[RECEIPT_HASH], bulla_error *error)
{
    const struct prompt *prompts = (const void *)issue->prompts.data;
    size_t count = issue->prompts.length / sizeof *prompts;
    uint8_t (*hashes)[RECEIPT_HASH] = count ? memory_alloc(count, sizeof *hashes, error) : NULL;
    int code = count && !hashes ? BULLA_E_MEMORY : BULLA_OK, is_whole = count > 0;
    for (size_t i = 0; hashes && i < count; i++) {
        is_whole = is_whole && prompts[i].is_told;
        memcpy(hashes[i], prompts[i].hash, RECEIPT_HASH);
    }
    if (code == BULLA_OK && is_whole)
        code = receipt_prompts_hash(issue->salt, (const uint8_t (*)[RECEIPT_HASH])hashes, count, hash, error);
    memory_free(hashes);
    return code;
}

static void copy_hash(uint8_t hash[RECEIPT_HASH], const uint8_t *from)
{
    if (from)
        memcpy(hash, from, RECEIPT_HASH);
}

/* `choices` has room for all. */
static int fill(const struct receipt_issue *issue, const struct receipt_facts *facts, struct receipt_choice *choices,
                struct receipt *receipt, bulla_error *error)
{
    const struct receipts *receipts = issue->receipts;
    const struct receipts_evidence *evidence = &receipts->options.evidence;
    *receipt = (struct receipt){.time = (int64_t)time(NULL), .backend = facts->backend, .engine = facts->engine,
                                .program_version = facts->program_version, .parameters_text = facts->parameters,
                                .choices = choices, .choice_count = issue->choice_count, .retention = facts->retention,
                                .prompt_tokens = issue->prompts.length ? issue->prompt_tokens : facts->prompt_tokens};
    memcpy(receipt->id, issue->id, RECEIPT_ID);
    memcpy(receipt->request, issue->request, RECEIPT_HASH);
    memcpy(receipt->key, receipts->key, RECEIPT_KEY);
    copy_hash(receipt->model_root, facts->model_root);
    copy_hash(receipt->tokenizer, facts->tokenizer);
    copy_hash(receipt->chat_template, facts->chat_template);
    for (size_t i = 0; i < issue->choice_count; i++) {
        const struct choice *choice = issue->choices + i;
        choices[i] = (struct receipt_choice){.tokens = choice->tokens, .finish = choice->finish};
        memcpy(choices[i].chain, choice->chain, RECEIPT_HASH);
        receipt->output_tokens += choice->tokens;
        if (!choice->finish)
            return bulla_fail(error, BULLA_E_INTERNAL, "choice %zu of the answer has not ended", i);
    }
    if (!issue->prompts.length)
        receipt->output_tokens = facts->output_tokens;
    if (!issue->prompts.length && issue->choice_count == 1)
        choices[0].tokens = facts->output_tokens;
    int code = hash_prompts(issue, receipt->prompt, error);
    if (code == BULLA_OK && evidence->standing)
        code = evidence->standing(evidence->context, receipt->evidence, receipt->policy, &receipt->is_simulated, error);
    return code;
}

static int sign(const struct receipt_issue *issue, const struct receipt_facts *facts, struct buffer *out, bulla_error *error)
{
    struct receipt receipt;
    struct receipt_choice *choices = memory_alloc(issue->choice_count, sizeof *choices, error);
    if (!choices)
        return BULLA_E_MEMORY;
    int code = fill(issue, facts, choices, &receipt, error);
    if (code == BULLA_OK)
        code = receipt_sign(&receipt, issue->receipts->options.key, out, error);
    memory_free(choices);
    return code;
}

int receipt_issue_submit(struct receipt_issue *issue, const struct receipt_facts *facts, receipt_done done, void *context,
                         bulla_error *error)
{
    const struct receipts_log *log = &issue->receipts->options.log;
    if (issue->error.code != BULLA_OK)
        return bulla_fail(error, issue->error.code, "%s", issue->error.text);
    struct submission *submission = memory_alloc(1, sizeof *submission, error);
    if (!submission)
        return BULLA_E_MEMORY;
    submission->receipts = issue->receipts;
    submission->issue = issue;
    issue->submission = submission;
    issue->done = done;
    issue->context = context;
    int code = sign(issue, facts, &submission->receipt, error);
    if (code == BULLA_OK)
        code = log->append(log->context, issue->id, submission->receipt.data, submission->receipt.length, on_logged,
                           submission, error);
    if (code != BULLA_OK) {
        issue->submission = NULL;
        free_submission(submission);
    }
    return code;
}
