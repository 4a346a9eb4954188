#include "dispute_court.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"

static EVP_PKEY *make_key(uint8_t first, uint64_t number)
{
    uint8_t seed[32] = {first};
    memcpy(seed + 8, &number, sizeof number);
    return EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
}

/* ---- Text and tokens, as the case has them ---- */

static int read_document(void *context, const char *document, size_t length, struct referee_receipt *receipt, bulla_error *error)
{
    *receipt = (struct referee_receipt){.choices = 1};
    return hash_sha256(document, length, receipt->hash, error);
}

static int derive(void *context, const char *document, size_t length, uint32_t choice, struct arena *arena,
                  struct dispute_facts *given, bulla_error *error)
{
    struct court *court = context;
    struct dispute_case *c = court->c;
    *given = (struct dispute_facts){.program = &c->referee, .prompt_count = c->answer.prompt_count, .sampling = c->sampling,
        .token_count = c->answer.token_count - court->end_tokens, .expects_end = court->end_tokens > 0,
        .expects_range = c->answer.has_range, .ends = court->ends, .end_count = 3, .fault = court->fault,
        .allowed_roots = c->answer.allowed, .allowed = (const uint64_t *const *)c->allowed, .tokens = c->tokens, .why = "fault"};
    return BULLA_OK;
}

int court_derive(struct court *court, struct arena *arena, struct dispute_facts *given, bulla_error *error)
{
    return derive(court, NULL, 0, 0, arena, given, error);
}

/* ---- The referee ---- */

static int note_line(struct court *court, const struct buffer *line, bulla_error *error)
{
    buffer_append(&court->log, line->data, line->length);
    buffer_append_byte(&court->log, '\n');
    return court->log.error.code ? bulla_fail(error, court->log.error.code, "%s", court->log.error.text) : BULLA_OK;
}

static int event(struct court *court, const char *name, bulla_error *error)
{
    struct buffer line = {0};
    int code = referee_event(court->referee, name, court->now, &line, error);
    code = code ? code : note_line(court, &line, error);
    buffer_free(&line);
    return code;
}

int court_seat(struct court *court, struct dispute_case *c, bulla_error *error)
{
    *court = (struct court){.c = c, .now = 1000000, .proposer = make_key(1, 0), .key = make_key(2, 0)};
    return court->proposer && court->key ? BULLA_OK : bulla_fail(error, BULLA_E_MEMORY, "no keys");
}

int court_open(struct court *court, struct dispute_case *c, bulla_error *error)
{
    struct buffer line = {0};
    int code = court_seat(court, c, error);
    if (code)
        return code;
    court->text = (struct referee_text){court, read_document, derive};
    struct referee_config config = {.window = COURT_WINDOW, .turn = COURT_TURN, .time = court->now};
    code = dispute_public_key(court->key, config.key, error);
    referee_write_config(&config, &line);
    code = code ? code : referee_open((const char *)line.data, line.length, &court->text, &court->referee, error);
    code = code ? code : note_line(court, &line, error);
    buffer_free(&line);
    return code;
}

void court_close(struct court *court)
{
    referee_close(court->referee);
    party_trace_close(&court->shared);
    EVP_PKEY_free(court->proposer);
    EVP_PKEY_free(court->key);
    buffer_free(&court->log);
    buffer_free(&court->registration);
}

void court_set_end(struct court *court)
{
    uint32_t end = court->c->tokens[court->c->answer.token_count - 1], vocabulary = court->c->referee.program.vocabulary;
    court->end_tokens = 1;
    court->ends[0] = (end + 1) % vocabulary;
    court->ends[1] = end;
    court->ends[2] = (end + 2) % vocabulary;
}

int court_wait(struct court *court, int64_t milliseconds, bulla_error *error)
{
    court->now += milliseconds;
    return referee_deadline(court->referee) < court->now ? event(court, "tick", error) : BULLA_OK;
}

int court_post(struct court *court, const struct buffer *message, bulla_error *error)
{
    struct buffer line = {0};
    int code = court_wait(court, 0, error);
    double start = clock_seconds();
    code = code ? code : referee_take(court->referee, court->now, message->data, message->length, &line, error);
    court->seconds += clock_seconds() - start;
    code = code ? code : note_line(court, &line, error);
    buffer_free(&line);
    return code;
}

int court_register(struct court *court, bulla_error *error)
{
    struct buffer document = {0};
    uint8_t hash[DISPUTE_HASH];
    buffer_append_format(&document, "{\"answer\":%u}", court->answers++);
    buffer_clear(&court->registration);
    int code = hash_sha256(document.data, document.length, hash, error);
    code = code ? code : party_write_answer(court->proposer, hash, &document, "10", &court->registration, court->answer, error);
    buffer_free(&document);
    return code ? code : court_post(court, &court->registration, error);
}

int court_restart(struct court *court, int starts, bulla_error *error)
{
    const char *at = (const char *)court->log.data, *end = at + court->log.length;
    struct referee *again = NULL;
    struct buffer before = {0}, after = {0};
    int code = BULLA_OK;
    while (at < end && code == BULLA_OK) {
        size_t length = (size_t)((const char *)memchr(at, '\n', (size_t)(end - at)) - at);
        code = again ? referee_apply(again, at, length, error) : referee_open(at, length, &court->text, &again, error);
        at += length + 1;
    }
    referee_write_all(court->referee, &before);
    if (code == BULLA_OK)
        referee_write_all(again, &after);
    if (code == BULLA_OK && (before.length != after.length || memcmp(before.data, after.data, before.length) != 0))
        code = bulla_fail(error, BULLA_E_INTERNAL, "the log gives another state");
    buffer_free(&before);
    buffer_free(&after);
    if (code)
        return code;
    referee_close(court->referee);
    court->referee = again;
    return starts ? event(court, "start", error) : BULLA_OK;
}

/* ---- Trials ---- */

static int hand_over(struct trial *trial, const struct buffer *message, bulla_error *error)
{
    int code = BULLA_OK;
    for (int i = 0; i < 2 && code == BULLA_OK; i++) {
        const struct trial_party *elsewhere = &trial->elsewhere[i];
        code = elsewhere->take ? elsewhere->take(elsewhere->context, message->data, message->length, error)
                               : party_take(trial->parties[i], message->data, message->length, error);
    }
    return code;
}

static int open_parties(struct trial *trial, bulla_error *error)
{
    int code = BULLA_OK;
    for (int i = 0; i < 2 && code == BULLA_OK; i++)
        if (!trial->elsewhere[i].take)
            code = party_open(&trial->options[i], &trial->court->given, trial->court->answer, 0, &trial->parties[i], error);
    for (unsigned m = 0; m < trial->count && code == BULLA_OK; m++)
        code = hand_over(trial, &trial->messages[m], error);
    return code;
}

static void close_parties(struct trial *trial)
{
    for (int i = 0; i < 2; i++) {
        party_close(trial->parties[i]);
        trial->parties[i] = NULL;
    }
}

static uint8_t proposer_key[DISPUTE_KEY];

int trial_options(struct trial *trial, struct court *court, uint64_t number, const struct trace_hook *const hooks[2],
                  bulla_error *error)
{
    *trial = (struct trial){.court = court, .challenger = make_key(3, number)};
    for (int i = 0; i < 2; i++)
        trial->options[i] = (struct party_options){.key = i ? trial->challenger : court->proposer, .proposer = proposer_key,
            .model = court->c->tree, .executor = &court->c->executor, .hook = hooks[i],
            .shared = !hooks[i] && hooks[1 - i] ? &court->shared : NULL};
    return dispute_public_key(court->proposer, proposer_key, error);
}

/* With its options set. */
static int begin(struct trial *trial, uint64_t number, bulla_error *error)
{
    uint8_t nonce[DISPUTE_HASH] = {9};
    struct buffer message = {0};
    struct court *court = trial->court;
    memcpy(nonce + 8, &number, sizeof number);
    int code = court_derive(court, &trial->arena, &court->given, error);
    code = code ? code : open_parties(trial, error);
    code = code ? code : party_write_challenge(trial->challenger, court->answer, 0, DISPUTE_TRACE, nonce, "1", &message, trial->id, error);
    code = code ? code : trial_post(trial, &message, error);
    buffer_free(&message);
    return code;
}

int trial_open(struct trial *trial, struct court *court, uint64_t number, const struct trace_hook *proposer,
               const struct trace_hook *challenger, bulla_error *error)
{
    const struct trace_hook *hooks[2] = {proposer, challenger};
    int code = trial_options(trial, court, number, hooks, error);
    return code ? code : begin(trial, number, error);
}

int trial_open_with(struct trial *trial, struct court *court, uint64_t number, int side, const struct trial_party *party,
                    bulla_error *error)
{
    const struct trace_hook *hooks[2] = {NULL, NULL};
    int code = trial_options(trial, court, number, hooks, error);
    trial->elsewhere[side] = *party;
    trial->options[1 - side].shared = &court->shared; /* one honest trace for all trials */
    return code ? code : begin(trial, number, error);
}

void trial_close(struct trial *trial)
{
    close_parties(trial);
    for (unsigned i = 0; i < trial->count; i++)
        buffer_free(&trial->messages[i]);
    EVP_PKEY_free(trial->challenger);
    arena_free(&trial->arena);
}

int trial_next(struct trial *trial, struct buffer *message, bulla_error *error)
{
    int code = BULLA_OK;
    buffer_clear(message);
    for (int i = 0; i < 2 && code == BULLA_OK && message->length == 0; i++)
        code = trial->elsewhere[i].next ? trial->elsewhere[i].next(trial->elsewhere[i].context, message, error)
                                        : party_next(trial->parties[i], message, error);
    return code;
}

int trial_post(struct trial *trial, const struct buffer *message, bulla_error *error)
{
    int code = court_post(trial->court, message, error);
    if (code)
        return code;
    struct buffer *kept = &trial->messages[trial->count++];
    buffer_append(kept, message->data, message->length);
    trial->bytes += message->length;
    trial->largest = message->length > trial->largest ? message->length : trial->largest;
    return hand_over(trial, message, error);
}

int trial_play(struct trial *trial, int restarts, bulla_error *error)
{
    struct buffer message = {0};
    int code = trial_next(trial, &message, error);
    while (code == BULLA_OK && message.length && trial->count < COURT_MOST_MESSAGES) {
        code = trial_post(trial, &message, error);
        if (code == BULLA_OK && restarts) {
            code = court_restart(trial->court, 1, error);
            close_parties(trial);
            code = code ? code : open_parties(trial, error);
        }
        trial->court->now += 3;
        code = code ? code : trial_next(trial, &message, error);
    }
    buffer_free(&message);
    return code;
}

/* ---- States ---- */

static const char *find_text(const struct court *court, const uint8_t *dispute, const char **why)
{
    static char texts[2][DISPUTE_WHY];
    struct buffer out = {0};
    struct arena arena = {0};
    uint8_t id[DISPUTE_HASH];
    texts[0][0] = texts[1][0] = 0;
    if (referee_write_answer(court->referee, court->answer, &out, NULL) == BULLA_OK) {
        const struct json *value = json_parse((const char *)out.data, out.length, "", &arena, NULL);
        const struct json *list = json_get(value, "disputes"), *found = dispute ? NULL : value;
        for (size_t i = 0; dispute && list && i < list->length; i++)
            if (dispute_get_hash(list->items[i], "dispute", id) && memcmp(id, dispute, DISPUTE_HASH) == 0)
                found = list->items[i];
        if (found) {
            snprintf(texts[0], sizeof texts[0], "%s", json_get(found, "status")->text);
            snprintf(texts[1], sizeof texts[1], "%s", json_get(found, "why")->text);
        }
    }
    buffer_free(&out);
    arena_free(&arena);
    if (why)
        *why = texts[1];
    return texts[0];
}

const char *trial_status(const struct trial *trial, const char **why)
{
    return find_text(trial->court, trial->id, why);
}

const char *court_status(const struct court *court, const char **why)
{
    return find_text(court, NULL, why);
}
