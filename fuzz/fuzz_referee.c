/* Messages to a referee from any bytes: as they come, and signed as the next message of whose turn it is in a dispute about
 * the answer of a small random program. Whatever comes, an honest proposer loses nothing, a message that is rejected has no
 * effect, and the log alone gives the state.
 *
 * An input is a byte that says who is honest, then pieces: a byte, a length of two bytes, bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "answer_model.h"
#include "dispute_court.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { AS_IT_IS = 0, HONEST = 1, MOST_PIECES = 40 };

static struct dispute_case fixture;
static struct court court; /* always at the same place: a kept trace points to its facts */
static struct party_trace kept;

static int64_t same(void *context, uint32_t operation, uint64_t position, uint32_t array, uint64_t index, int64_t value)
{
    return value;
}

static int never(void *context, uint32_t operation, uint64_t *position)
{
    return 0;
}

static const struct trace_hook nothing = {.element = same, .altered = never};

static void require(int holds)
{
    if (!holds)
        abort();
}

static void open_fixture(void)
{
    bulla_error error = {0};
    bulla_model *model;
    bulla_sampling sampling;
    bulla_sampling_defaults(&sampling);
    sampling.temperature = 900000;
    require(answer_model_open(5, 0, 0, 0, "", &model, &error) == BULLA_OK);
    require(dispute_case_open(&fixture, model, 5, 6, 3, &sampling, 0, &error) == BULLA_OK);
}

/* Rejected: the state is as before. */
static void post_raw(const uint8_t *bytes, size_t length)
{
    struct buffer message = {0}, before = {0}, after = {0};
    bulla_error error = {0};
    buffer_append(&message, bytes, length);
    referee_write_all(court.referee, &before);
    if (court_post(&court, &message, &error) != BULLA_OK) {
        referee_write_all(court.referee, &after);
        require(before.length == after.length && memcmp(before.data, after.data, before.length) == 0);
    }
    buffer_free(&message);
    buffer_free(&before);
    buffer_free(&after);
}

/* A body, signed as the next message by whose turn it is, if that is not the honest one. */
static void post_signed(struct trial *trial, int honest, int kind, const uint8_t *bytes, size_t length)
{
    const struct dispute_path *path = party_path(trial->parties[0]);
    int is_proposers = path_is_proposers(path);
    struct arena arena = {0};
    struct buffer body = {0}, out = {0};
    struct dispute_message message = {.kind = (enum dispute_kind)(1 + kind % (DISPUTE_KINDS - 1)), .number = trial->count}, last;
    const struct json *value = json_parse((const char *)bytes, length, "", &arena, NULL);
    bulla_error error = {0};
    if (json_is(value, JSON_OBJECT) && is_proposers != honest && message.kind != DISPUTE_ANSWER && message.kind != DISPUTE_EQUIVOCATION) {
        json_write_canonical(&body, value);
        memcpy(message.dispute, trial->id, DISPUTE_HASH);
        require(dispute_message_read(trial->messages[trial->count - 1].data, trial->messages[trial->count - 1].length, &arena, &last,
                                     &error) == BULLA_OK);
        memcpy(message.previous, last.hash, DISPUTE_HASH);
        if (dispute_message_write(&message, &body, is_proposers ? court.proposer : trial->challenger, &out, &error) == BULLA_OK)
            trial_post(trial, &out, &error);
    }
    buffer_free(&body);
    buffer_free(&out);
    arena_free(&arena);
}

static void post_honest(struct trial *trial)
{
    struct buffer message = {0};
    bulla_error error = {0};
    require(trial_next(trial, &message, &error) == BULLA_OK);
    if (message.length)
        require(trial_post(trial, &message, &error) == BULLA_OK);
    buffer_free(&message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader reader = reader_over(data, size);
    struct trial trial;
    bulla_error error = {0};
    if (!fixture.model)
        open_fixture();
    int honest = reader_u8(&reader) & 1; /* 1: the proposer */
    require(court_open(&court, &fixture, &error) == BULLA_OK && court_register(&court, &error) == BULLA_OK);
    court.shared = kept;
    require(trial_open(&trial, &court, 1, NULL, &nothing, &error) == BULLA_OK);
    for (int i = 0; i < MOST_PIECES && !reader.failed && reader_left(&reader) && strcmp(trial_status(&trial, NULL), "open") == 0; i++) {
        int what = reader_u8(&reader);
        size_t length = reader_u16(&reader), left = reader_left(&reader);
        const uint8_t *bytes = reader_bytes(&reader, length < left ? length : left);
        if (what == AS_IT_IS)
            post_raw(bytes, length < left ? length : left);
        else if (what == HONEST)
            post_honest(&trial);
        else
            post_signed(&trial, honest, what, bytes, length < left ? length : left);
    }
    const char *why, *status = trial_status(&trial, &why);
    require(!honest || strcmp(status, "challenger won") != 0);
    require(honest || strcmp(status, "proposer won") != 0 || strcmp(why, "the challenger withdrew") == 0);
    require(court_restart(&court, 0, &error) == BULLA_OK);
    trial_close(&trial);
    kept = court.shared;
    court.shared = (struct party_trace){0};
    court_close(&court);
    return 0;
}
