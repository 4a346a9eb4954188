/* A referee with its store. */
#include <string.h>

#include "base/memory.h"
#include "ops/dispute_server.h"

struct dispute_docket {
    struct dispute_docket_options options;
    struct referee *referee;
    struct buffer line;
};

static int64_t now(const struct dispute_docket *docket)
{
    int64_t time = docket->options.now(), last = docket->referee ? referee_time(docket->referee) : 0;
    return time > last ? time : last;
}

static int keep(struct dispute_docket *docket, uint64_t number, int64_t time, bulla_error *error)
{
    return dispute_store_append(docket->options.store, number, time, docket->line.data, docket->line.length, error);
}

static int event(struct dispute_docket *docket, const char *name, int64_t time, bulla_error *error)
{
    uint64_t number = referee_entries(docket->referee);
    int code = referee_event(docket->referee, name, time, &docket->line, error);
    return code == BULLA_OK ? keep(docket, number, time, error) : code;
}

/* An empty store gets its first line. */
static int begin(struct dispute_docket *docket, bulla_error *error)
{
    struct referee_config config = docket->options.config;
    config.time = docket->options.now();
    buffer_clear(&docket->line);
    int code = dispute_public_key(docket->options.key, config.key, error);
    if (code == BULLA_OK)
        referee_write_config(&config, &docket->line);
    if (code == BULLA_OK && docket->line.error.code != BULLA_OK)
        code = bulla_fail(error, docket->line.error.code, "%s", docket->line.error.text);
    return code == BULLA_OK ? keep(docket, 0, config.time, error) : code;
}

static int check_key(struct dispute_docket *docket, bulla_error *error)
{
    uint8_t key[DISPUTE_KEY];
    int code = dispute_public_key(docket->options.key, key, error);
    if (code == BULLA_OK && memcmp(key, referee_key(docket->referee), DISPUTE_KEY) != 0)
        code = bulla_fail(error, BULLA_E_USAGE, "the store is that of a referee with another key");
    return code;
}

static int rebuild(struct dispute_docket *docket, bulla_error *error)
{
    struct dispute_store *store = docket->options.store;
    int is_there;
    uint64_t number = 0;
    buffer_clear(&docket->line);
    int code = dispute_store_read(store, 0, &docket->line, &is_there, error);
    if (code == BULLA_OK && !is_there)
        code = begin(docket, error);
    if (code == BULLA_OK)
        code = referee_open((const char *)docket->line.data, docket->line.length, docket->options.text, &docket->referee, error);
    if (code == BULLA_OK)
        code = check_key(docket, error);
    while (code == BULLA_OK) {
        buffer_clear(&docket->line);
        code = dispute_store_read(store, ++number, &docket->line, &is_there, error);
        if (code != BULLA_OK || !is_there)
            break;
        code = referee_apply(docket->referee, (const char *)docket->line.data, docket->line.length, error);
    }
    return code == BULLA_OK && number > 1 ? event(docket, "start", now(docket), error) : code;
}

int dispute_docket_open(const struct dispute_docket_options *options, struct dispute_docket **result, bulla_error *error)
{
    struct dispute_docket *docket = memory_alloc(1, sizeof *docket, error);
    *result = NULL;
    if (!docket)
        return BULLA_E_MEMORY;
    docket->options = *options;
    int code = rebuild(docket, error);
    if (code == BULLA_OK)
        *result = docket;
    else
        dispute_docket_close(docket);
    return code;
}

void dispute_docket_close(struct dispute_docket *docket)
{
    if (!docket)
        return;
    referee_close(docket->referee);
    buffer_free(&docket->line);
    memory_free(docket);
}

const struct referee *dispute_docket_referee(const struct dispute_docket *docket)
{
    return docket->referee;
}

int dispute_docket_tick(struct dispute_docket *docket, bulla_error *error)
{
    int64_t time = now(docket);
    return referee_deadline(docket->referee) < time ? event(docket, "tick", time, error) : BULLA_OK;
}

int dispute_docket_take(struct dispute_docket *docket, const void *bytes, size_t length, int *is_taken, bulla_error *why,
                        bulla_error *error)
{
    int64_t time = now(docket);
    *is_taken = 0;
    int code = referee_deadline(docket->referee) < time ? event(docket, "tick", time, error) : BULLA_OK;
    if (code != BULLA_OK)
        return code;
    uint64_t number = referee_entries(docket->referee);
    if (referee_take(docket->referee, time, bytes, length, &docket->line, why) != BULLA_OK)
        return BULLA_OK;
    *is_taken = 1;
    return keep(docket, number, time, error);
}

/* The message of an entry: it stands between `{"signed":` and `,"time":N}`. */
static int read_message(struct dispute_docket *docket, uint64_t number, struct buffer *out, bulla_error *error)
{
    static const char head[] = "{\"signed\":", tail[] = ",\"time\":";
    int is_there;
    buffer_clear(&docket->line);
    int code = dispute_store_read(docket->options.store, number, &docket->line, &is_there, error);
    if (code != BULLA_OK)
        return code;
    size_t end = docket->line.length;
    while (end > sizeof tail && memcmp(docket->line.data + end - sizeof tail + 1, tail, sizeof tail - 1) != 0)
        end--;
    if (!is_there || end <= sizeof head + sizeof tail)
        return bulla_fail(error, BULLA_E_INPUT, "the referee's store has lost its entry %llu", (unsigned long long)number);
    buffer_append(out, docket->line.data + sizeof head - 1, end - (sizeof tail - 1) - (sizeof head - 1));
    return BULLA_OK;
}

int dispute_docket_messages(struct dispute_docket *docket, const uint8_t id[DISPUTE_HASH], uint64_t from, struct buffer *out,
                            bulla_error *error)
{
    struct buffer state = {0};
    int code = BULLA_OK, is_answer = referee_write_answer(docket->referee, id, &state, NULL) == BULLA_OK;
    uint64_t entry;
    buffer_free(&state);
    buffer_append_text(out, "{\"messages\":[");
    for (uint64_t number = from; !is_answer && code == BULLA_OK && (entry = referee_find(docket->referee, id, number)) != 0; number++) {
        if (number > from)
            buffer_append_byte(out, ',');
        code = read_message(docket, entry, out, error);
    }
    buffer_append_text(out, "]}");
    return code;
}

int dispute_docket_statement(struct dispute_docket *docket, const uint8_t id[DISPUTE_HASH], struct buffer *out, bulla_error *error)
{
    struct buffer text = {0};
    buffer_append_text(&text, "{\"answer\":");
    int code = referee_write_answer(docket->referee, id, &text, error);
    dispute_put_hex(&text, "key", referee_key(docket->referee), DISPUTE_KEY);
    dispute_put_text(&text, "protocol", DISPUTE_STATEMENT);
    dispute_put_number(&text, "time", (uint64_t)now(docket));
    buffer_append_byte(&text, '}');
    if (code == BULLA_OK)
        code = dispute_sign(DISPUTE_STATEMENT, "statement", &text, docket->options.key, out, error);
    buffer_free(&text);
    return code;
}
