#include <string.h>

#include "base/memory.h"
#include "check/referee_internal.h"

static uint32_t bucket(const uint8_t id[DISPUTE_HASH])
{
    return (id[0] | (uint32_t)id[1] << 8) % REFEREE_BUCKETS;
}

struct referee_answer *referee_find_answer(const struct referee *referee, const uint8_t id[DISPUTE_HASH])
{
    struct referee_answer *answer = referee->answer_buckets[bucket(id)];
    while (answer && memcmp(answer->id, id, DISPUTE_HASH) != 0)
        answer = answer->next_in_bucket;
    return answer;
}

struct referee_dispute *referee_find_dispute(const struct referee *referee, const uint8_t id[DISPUTE_HASH])
{
    struct referee_dispute *dispute = referee->dispute_buckets[bucket(id)];
    while (dispute && memcmp(dispute->id, id, DISPUTE_HASH) != 0)
        dispute = dispute->next_in_bucket;
    return dispute;
}

static int reject(bulla_error *error, const char *why)
{
    return bulla_fail(error, BULLA_E_INPUT, "%s", why);
}

/* ---- Outcomes ---- */

static void free_path(struct referee_dispute *dispute)
{
    if (dispute->path)
        path_close(dispute->path);
    memory_free(dispute->path);
    dispute->path = NULL;
    arena_free(&dispute->arena);
}

static void end_answer(struct referee_answer *answer, enum answer_status status, const char *why, int64_t time)
{
    answer->status = status;
    answer->ended = time;
    memcpy(answer->why, why, strnlen(why, DISPUTE_WHY - 1) + 1);
    memory_free(answer->document);
    answer->document = NULL;
}

static void close_dispute(struct referee_dispute *dispute, enum dispute_status status, const char *why, int64_t time)
{
    dispute->status = status;
    dispute->ended = time;
    memcpy(dispute->why, why, strnlen(why, DISPUTE_WHY - 1));
    dispute->answer->open--;
    free_path(dispute);
}

void referee_overturn(struct referee_answer *answer, const uint8_t *winner, const char *why, int64_t time)
{
    if (answer->status != ANSWER_PENDING)
        return;
    end_answer(answer, ANSWER_OVERTURNED, why, time);
    if (winner)
        memcpy(answer->winner, winner, DISPUTE_KEY);
    for (struct referee_dispute *other = answer->disputes; other; other = other->next)
        if (other->status == DISPUTE_OPEN)
            close_dispute(other, DISPUTE_MOOT, "the answer was overturned", time);
}

void referee_end(struct referee_dispute *dispute, enum dispute_status status, const char *why, int64_t time)
{
    struct referee_answer *answer = dispute->answer;
    char own[DISPUTE_WHY] = {0}; /* `why` may lie in what is freed */
    memcpy(own, why, strnlen(why, DISPUTE_WHY - 1));
    close_dispute(dispute, status, own, time);
    if (status == DISPUTE_CHALLENGER_WON)
        referee_overturn(answer, dispute->key, own, time);
    else if (answer->open == 0 && answer->deadline <= time)
        end_answer(answer, ANSWER_FINAL, "", time);
}

/* ---- Deadlines ---- */

int64_t referee_deadline(const struct referee *referee)
{
    int64_t earliest = INT64_MAX;
    for (const struct referee_answer *answer = referee->answers; answer; answer = answer->next) {
        if (answer->status != ANSWER_PENDING)
            continue;
        if (answer->open == 0 && answer->deadline < earliest)
            earliest = answer->deadline;
        for (const struct referee_dispute *dispute = answer->disputes; dispute; dispute = dispute->next)
            if (dispute->status == DISPUTE_OPEN && dispute->deadline < earliest)
                earliest = dispute->deadline;
    }
    return earliest;
}

/* All that silence has decided before `time`; the order does not matter but within an answer, where the earliest goes first. */
static void pass_deadlines(struct referee *referee, int64_t time)
{
    for (struct referee_answer *answer = referee->answers; answer; answer = answer->next) {
        while (answer->status == ANSWER_PENDING && answer->open) {
            struct referee_dispute *first = NULL;
            for (struct referee_dispute *dispute = answer->disputes; dispute; dispute = dispute->next)
                if (dispute->status == DISPUTE_OPEN && dispute->deadline < time && (!first || dispute->deadline < first->deadline))
                    first = dispute;
            if (!first)
                break;
            int is_proposers = path_is_proposers(first->path);
            referee_end(first, is_proposers ? DISPUTE_CHALLENGER_WON : DISPUTE_PROPOSER_WON,
                        is_proposers ? "the proposer was silent" : "the challenger was silent", first->deadline);
        }
        if (answer->status == ANSWER_PENDING && answer->open == 0 && answer->deadline < time)
            end_answer(answer, ANSWER_FINAL, "", answer->deadline);
    }
}

static void restart_turns(struct referee *referee, int64_t time)
{
    for (struct referee_answer *answer = referee->answers; answer; answer = answer->next) {
        if (answer->status != ANSWER_PENDING)
            continue;
        if (answer->deadline < time + referee->turn) /* who waited with a challenge could not make it */
            answer->deadline = time + referee->turn;
        for (struct referee_dispute *dispute = answer->disputes; dispute; dispute = dispute->next)
            if (dispute->status == DISPUTE_OPEN)
                dispute->deadline = time + referee->turn;
    }
}

/* ---- First messages ---- */

static void copy_stake(const struct json *body, char stake[REFEREE_STAKE])
{
    const struct json *text = json_get(body, "stake");
    if (json_is(text, JSON_STRING) && text->length < REFEREE_STAKE)
        memcpy(stake, text->text, text->length);
}

static int is_first(const struct dispute_message *message)
{
    static const uint8_t none[DISPUTE_HASH];
    return message->number == 0 && memcmp(message->previous, none, DISPUTE_HASH) == 0;
}

static int may_propose(const struct referee *referee, const uint8_t key[DISPUTE_KEY])
{
    for (size_t i = 0; i < referee->proposer_count; i++)
        if (memcmp(referee->proposers[i], key, DISPUTE_KEY) == 0)
            return 1;
    return referee->proposer_count == 0;
}

/* The document of an answer's message is JSON within JSON, as it is. */
static int read_answer(struct referee *referee, const struct dispute_message *message, struct referee_answer *answer,
                       bulla_error *error)
{
    struct buffer document = {0};
    const struct json *value = json_get(message->body, "document");
    if (!is_first(message) || !json_is(value, JSON_OBJECT))
        return reject(error, "it has no receipt's document, or is no first message");
    json_write_canonical(&document, value);
    if (document.error.code != BULLA_OK)
        return bulla_fail(error, document.error.code, "%s", document.error.text);
    answer->document = (char *)document.data;
    answer->document_length = document.length;
    int code = referee->text->read(referee->text->context, answer->document, answer->document_length, &answer->receipt, error);
    if (code == BULLA_OK)
        code = dispute_answer_id(answer->receipt.hash, message->key, answer->id, error);
    if (code == BULLA_OK && memcmp(answer->id, message->dispute, DISPUTE_HASH) != 0)
        code = reject(error, "its id is not that of the receipt and its proposer");
    if (code == BULLA_OK && referee_find_answer(referee, answer->id))
        code = reject(error, "the answer is known");
    if (code == BULLA_OK && !(answer->claims = memory_alloc(answer->receipt.choices, sizeof *answer->claims, error)))
        code = BULLA_E_MEMORY;
    return code;
}

static void free_answer(struct referee_answer *answer)
{
    memory_free(answer->document);
    memory_free(answer->claims);
    memory_free(answer);
}

static int take_answer(struct referee *referee, const struct dispute_message *message, int64_t time, bulla_error *error)
{
    if (!may_propose(referee, message->key))
        return reject(error, "the referee does not take answers of that key");
    struct referee_answer *answer = memory_alloc(1, sizeof *answer, error);
    int code = answer ? read_answer(referee, message, answer, error) : BULLA_E_MEMORY;
    if (code != BULLA_OK) {
        if (answer)
            free_answer(answer);
        return code;
    }
    memcpy(answer->proposer, message->key, DISPUTE_KEY);
    copy_stake(message->body, answer->stake);
    answer->time = time;
    answer->deadline = time + referee->window;
    answer->entry = referee->entries;
    answer->last_dispute = &answer->disputes;
    answer->next_in_bucket = referee->answer_buckets[bucket(answer->id)];
    referee->answer_buckets[bucket(answer->id)] = answer;
    *referee->last_answer = answer;
    referee->last_answer = &answer->next;
    return BULLA_OK;
}

static int find_about(const struct json *name)
{
    for (int about = 1; json_is(name, JSON_STRING) && about < DISPUTE_ABOUTS; about++)
        if (strcmp(name->text, dispute_about_name(about)) == 0)
            return about;
    return 0;
}

static int read_challenge(struct referee *referee, const struct dispute_message *message, int64_t time,
                          struct referee_dispute *dispute, bulla_error *error)
{
    uint8_t id[DISPUTE_HASH], nonce[DISPUTE_HASH];
    uint64_t choice;
    int about = find_about(json_get(message->body, "about"));
    if (!is_first(message) || !about || !dispute_get_hash(message->body, "answer", id) ||
        !dispute_get_hash(message->body, "nonce", nonce) || !dispute_get_number(message->body, "choice", UINT32_MAX, &choice))
        return reject(error, "it is no challenge");
    struct referee_answer *answer = referee_find_answer(referee, id);
    if (!answer || choice >= answer->receipt.choices)
        return reject(error, "no such answer is known");
    if (answer->status != ANSWER_PENDING)
        return reject(error, answer->status == ANSWER_FINAL ? "the answer is final" : "the answer is overturned already");
    if (answer->deadline < time)
        return reject(error, "the time for challenges is over");
    int code = dispute_id(id, (uint32_t)choice, message->key, nonce, dispute->id, error);
    if (code == BULLA_OK && memcmp(dispute->id, message->dispute, DISPUTE_HASH) != 0)
        code = reject(error, "its id is not that of answer, choice, key and nonce");
    if (code == BULLA_OK && referee_find_dispute(referee, dispute->id))
        code = reject(error, "the dispute is known");
    dispute->answer = answer;
    dispute->choice = (uint32_t)choice;
    dispute->about = (enum dispute_about)about;
    return code;
}

/* Text and tokens are settled at once; then there may be a path. */
static int open_path(struct referee *referee, struct referee_dispute *dispute, bulla_error *error)
{
    const struct referee_answer *answer = dispute->answer;
    int code = referee->text->derive(referee->text->context, answer->document, answer->document_length, dispute->choice,
                                     &dispute->arena, &dispute->given, error);
    if (code != BULLA_OK || dispute->given.fault || dispute->about != DISPUTE_TRACE)
        return code;
    dispute->path = memory_alloc(1, sizeof *dispute->path, error);
    return dispute->path ? path_open(dispute->path, &dispute->given, &dispute->arena, error) : BULLA_E_MEMORY;
}

static int take_challenge(struct referee *referee, const struct dispute_message *message, size_t length, int64_t time,
                          bulla_error *error)
{
    struct referee_dispute *dispute = memory_alloc(1, sizeof *dispute, error);
    int code = dispute ? read_challenge(referee, message, time, dispute, error) : BULLA_E_MEMORY;
    if (code == BULLA_OK)
        code = open_path(referee, dispute, error);
    if (code != BULLA_OK) {
        if (dispute)
            free_path(dispute);
        memory_free(dispute);
        return code;
    }
    struct referee_answer *answer = dispute->answer;
    memcpy(dispute->key, message->key, DISPUTE_KEY);
    memcpy(dispute->last, message->hash, DISPUTE_HASH);
    copy_stake(message->body, dispute->stake);
    dispute->time = time;
    dispute->deadline = time + referee->turn;
    dispute->entries[0] = referee->entries;
    dispute->number = 1;
    dispute->bytes = length;
    dispute->next_in_bucket = referee->dispute_buckets[bucket(dispute->id)];
    referee->dispute_buckets[bucket(dispute->id)] = dispute;
    *answer->last_dispute = dispute;
    answer->last_dispute = &dispute->next;
    answer->open++;
    if (dispute->given.fault)
        referee_end(dispute, DISPUTE_CHALLENGER_WON, dispute->given.why, time);
    else if (!dispute->path)
        referee_end(dispute, DISPUTE_PROPOSER_WON, "text and tokens are what request and receipt give", time);
    return BULLA_OK;
}

/* ---- Turns ---- */

int referee_claim_hash(const struct json *body, uint8_t hash[DISPUTE_HASH], bulla_error *error)
{
    struct buffer text = {0};
    const char *const names[] = {"end", "range", "root"};
    for (int i = 0; i < 3; i++) {
        if (!json_get(body, names[i])) {
            buffer_free(&text);
            return reject(error, "a claim without root, end or range");
        }
        json_write_canonical(&text, json_get(body, names[i]));
        buffer_append_byte(&text, '\n');
    }
    int code = text.error.code != BULLA_OK ? bulla_fail(error, text.error.code, "%s", text.error.text)
                                           : hash_sha256(text.data, text.length, hash, error);
    buffer_free(&text);
    return code;
}

/* The proposer has one trace of a choice, whoever asks. *why stays NULL where the claim is about this, and the same as before. */
static int compare_claim(const struct referee_dispute *dispute, const struct json *body, const char **why, bulla_error *error)
{
    struct referee_claim *known = &dispute->answer->claims[dispute->choice];
    uint8_t answer[DISPUTE_HASH], hash[DISPUTE_HASH];
    uint64_t choice;
    bulla_error own = {0};
    int code = referee_claim_hash(body, hash, &own);
    if (code != BULLA_OK && code != BULLA_E_INPUT)
        return bulla_fail(error, code, "%s", own.text);
    if (code != BULLA_OK || !dispute_get_hash(body, "answer", answer) ||
        !dispute_get_number(body, "choice", UINT32_MAX, &choice) || memcmp(answer, dispute->answer->id, DISPUTE_HASH) != 0 ||
        choice != dispute->choice) {
        *why = "the proposer's claim is not about this answer";
        return BULLA_OK;
    }
    if (known->is_there && memcmp(known->hash, hash, DISPUTE_HASH) != 0)
        *why = "the proposer claimed two traces of one answer";
    known->is_there = 1;
    memcpy(known->hash, hash, DISPUTE_HASH);
    return BULLA_OK;
}

static int take_turn(struct referee *referee, const struct dispute_message *message, size_t length, int64_t time,
                     bulla_error *error)
{
    struct referee_dispute *dispute = referee_find_dispute(referee, message->dispute);
    if (!dispute)
        return reject(error, "no such dispute is known");
    if (dispute->status != DISPUTE_OPEN)
        return reject(error, "the dispute has ended");
    int is_proposers = path_is_proposers(dispute->path);
    if (memcmp(message->key, is_proposers ? dispute->answer->proposer : dispute->key, DISPUTE_KEY) != 0)
        return reject(error, is_proposers ? "it is the proposer's turn" : "it is the challenger's turn");
    if (message->number != dispute->number || memcmp(message->previous, dispute->last, DISPUTE_HASH) != 0 ||
        dispute->number >= REFEREE_MOST_MESSAGES)
        return reject(error, "it does not follow the dispute's last message");
    const char *why = NULL;
    int code = message->kind == DISPUTE_CLAIM && dispute->path->stage == PATH_CLAIM
                   ? compare_claim(dispute, message->body, &why, error) : BULLA_OK;
    if (code != BULLA_OK)
        return code;
    enum path_result result = why ? PATH_PROPOSER_LOSES : path_take(dispute->path, message->kind, message->body);
    dispute->entries[dispute->number++] = referee->entries;
    dispute->bytes += length;
    memcpy(dispute->last, message->hash, DISPUTE_HASH);
    dispute->deadline = time + referee->turn;
    if (result != PATH_GOES_ON)
        referee_end(dispute, result == PATH_PROPOSER_LOSES ? DISPUTE_CHALLENGER_WON : DISPUTE_PROPOSER_WON,
                    why ? why : dispute->path->why, time);
    return BULLA_OK;
}

/* ---- Entries ---- */

static int take_message(struct referee *referee, int64_t time, const struct dispute_message *message, size_t length,
                        bulla_error *error)
{
    switch (message->kind) {
    case DISPUTE_ANSWER:
        return take_answer(referee, message, time, error);
    case DISPUTE_CHALLENGE:
        return take_challenge(referee, message, length, time, error);
    case DISPUTE_EQUIVOCATION:
        return referee_take_equivocation(referee, message, time, error);
    default:
        return take_turn(referee, message, length, time, error);
    }
}

int referee_take(struct referee *referee, int64_t time, const void *bytes, size_t length, struct buffer *line, bulla_error *error)
{
    struct arena arena = {0};
    struct dispute_message message;
    if (time < referee->time || referee_deadline(referee) < time)
        return bulla_fail(error, BULLA_E_USAGE, "the time of a message is before the last one's, or behind a deadline");
    buffer_clear(line);
    buffer_append_text(line, "{\"signed\":");
    buffer_append(line, bytes, length);
    buffer_append_format(line, ",\"time\":%lld}", (long long)time);
    int code = line->error.code != BULLA_OK ? bulla_fail(error, line->error.code, "%s", line->error.text)
                                            : dispute_message_read(bytes, length, &arena, &message, error);
    if (code == BULLA_OK)
        code = take_message(referee, time, &message, length, error);
    arena_free(&arena);
    if (code != BULLA_OK)
        return code;
    referee->time = time;
    referee->entries++;
    return BULLA_OK;
}

int referee_event(struct referee *referee, const char *event, int64_t time, struct buffer *line, bulla_error *error)
{
    int is_tick = strcmp(event, "tick") == 0;
    if (time < referee->time || (!is_tick && strcmp(event, "start") != 0))
        return bulla_fail(error, BULLA_E_INPUT, "the log's entry %llu is no event", (unsigned long long)referee->entries);
    buffer_clear(line);
    buffer_append_format(line, "{\"event\":\"%s\",\"time\":%lld}", event, (long long)time);
    if (line->error.code != BULLA_OK)
        return bulla_fail(error, line->error.code, "%s", line->error.text);
    if (is_tick)
        pass_deadlines(referee, time);
    else
        restart_turns(referee, time);
    referee->time = time;
    referee->entries++;
    return BULLA_OK;
}

int referee_apply(struct referee *referee, const char *line, size_t length, bulla_error *error)
{
    struct arena arena = {0};
    struct buffer message = {0}, again = {0};
    const struct json *value = json_parse(line, length, "an entry of the referee's log", &arena, error);
    const struct json *event = json_get(value, "event");
    uint64_t time = 0;
    int code = value ? BULLA_OK : error ? error->code : BULLA_E_INPUT;
    if (code == BULLA_OK && !dispute_get_number(value, "time", INT64_MAX, &time))
        code = bulla_fail(error, BULLA_E_INPUT, "the log's entry %llu has no time", (unsigned long long)referee->entries);
    if (code == BULLA_OK && json_is(event, JSON_STRING)) {
        code = referee_event(referee, event->text, (int64_t)time, &again, error);
    } else if (code == BULLA_OK) {
        json_write_canonical(&message, json_get(value, "signed"));
        code = message.error.code != BULLA_OK ? bulla_fail(error, message.error.code, "%s", message.error.text)
                                              : referee_take(referee, (int64_t)time, message.data, message.length, &again, error);
    }
    if (code == BULLA_OK && (again.length != length || memcmp(again.data, line, length) != 0))
        code = bulla_fail(error, BULLA_E_INPUT, "the log's entry %llu is not as a referee writes it",
                          (unsigned long long)referee->entries - 1);
    buffer_free(&message);
    buffer_free(&again);
    arena_free(&arena);
    return code;
}

/* ---- Opening ---- */

void referee_write_config(const struct referee_config *config, struct buffer *line)
{
    buffer_append_text(line, "{\"config\":{");
    dispute_put_hex(line, "key", config->key, DISPUTE_KEY);
    buffer_append_text(line, ",\"proposers\":[");
    for (size_t i = 0; i < config->proposer_count; i++) {
        char text[2 * DISPUTE_KEY + 1];
        hex_encode(config->proposers[i], DISPUTE_KEY, text);
        buffer_append_format(line, "%s\"%s\"", i ? "," : "", text);
    }
    buffer_append_format(line, "],\"turn\":%lld,\"window\":%lld},\"time\":%lld}", (long long)config->turn,
                         (long long)config->window, (long long)config->time);
}

static int read_config(struct referee *referee, const struct json *value, bulla_error *error)
{
    const struct json *config = json_get(value, "config"), *list = json_get(config, "proposers");
    uint64_t window, turn, time;
    const uint64_t most = UINT64_C(1) << 48;
    if (!dispute_get_hash(config, "key", referee->key) || !dispute_get_number(config, "window", most, &window) ||
        !dispute_get_number(config, "turn", most, &turn) || !dispute_get_number(value, "time", most, &time) ||
        !json_is(list, JSON_ARRAY))
        return bulla_fail(error, BULLA_E_INPUT, "a referee's log begins with another line than its settings");
    referee->window = (int64_t)window;
    referee->turn = (int64_t)turn;
    referee->time = (int64_t)time;
    referee->proposers = memory_alloc(list->length + 1, DISPUTE_KEY, error);
    if (!referee->proposers)
        return BULLA_E_MEMORY;
    for (; referee->proposer_count < list->length; referee->proposer_count++) {
        const struct json *key = list->items[referee->proposer_count];
        if (!json_is(key, JSON_STRING) || !hex_decode(key->text, key->length, referee->proposers[referee->proposer_count], DISPUTE_KEY))
            return bulla_fail(error, BULLA_E_INPUT, "the referee's log has a proposer's key that is none");
    }
    return BULLA_OK;
}

int referee_open(const char *config, size_t length, const struct referee_text *text, struct referee **result,
                 bulla_error *error)
{
    struct arena arena = {0};
    struct referee *referee = memory_alloc(1, sizeof *referee, error);
    *result = NULL;
    if (!referee)
        return BULLA_E_MEMORY;
    referee->text = text;
    referee->last_answer = &referee->answers;
    referee->entries = 1;
    const struct json *value = json_parse(config, length, "the referee's log", &arena, error);
    int code = value ? read_config(referee, value, error) : error ? error->code : BULLA_E_INPUT;
    arena_free(&arena);
    if (code == BULLA_OK)
        *result = referee;
    else
        referee_close(referee);
    return code;
}

void referee_close(struct referee *referee)
{
    if (!referee)
        return;
    for (struct referee_answer *answer = referee->answers, *next; answer; answer = next) {
        next = answer->next;
        for (struct referee_dispute *dispute = answer->disputes, *after; dispute; dispute = after) {
            after = dispute->next;
            free_path(dispute);
            memory_free(dispute);
        }
        free_answer(answer);
    }
    memory_free(referee->proposers);
    memory_free(referee);
}
