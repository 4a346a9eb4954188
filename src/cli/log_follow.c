#include "cli/log_follow.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/interrupt.h"

/* ---- New leaves ---- */

struct growth {
    struct tlog_edge edge;
    uint64_t first; /* that is new; bundles begin before it */
    const struct log_follow_events *events;
};

static int take_entry(void *context, uint64_t index, const uint8_t *entry, size_t length, bulla_error *error)
{
    struct growth *growth = context;
    uint8_t leaf[MERKLE_HASH];
    if (index < growth->first)
        return BULLA_OK;
    if (length != RECEIPT_HASH)
        return bulla_fail(error, BULLA_E_INPUT, "entry %" PRIu64 " has %zu bytes, a receipt's hash %d", index, length,
                          RECEIPT_HASH);
    int code = growth->events->entry ? growth->events->entry(growth->events->context, index, entry, error) : BULLA_OK;
    if (code == BULLA_OK)
        code = merkle_leaf_hash(entry, length, leaf, error);
    return code == BULLA_OK ? tlog_edge_append(&growth->edge, leaf, error) : code;
}

static int read_entries(struct growth *growth, const struct tlog_source *tiles, uint64_t size, bulla_error *error)
{
    int code = BULLA_OK;
    for (uint64_t index = growth->first / TLOG_TILE_WIDTH; code == BULLA_OK && index * TLOG_TILE_WIDTH < size; index++) {
        uint64_t left = size - index * TLOG_TILE_WIDTH;
        const struct tlog_tile bundle = {TLOG_ENTRIES, index, left < TLOG_TILE_WIDTH ? (unsigned)left : TLOG_TILE_WIDTH};
        code = tlog_bundle_read(tiles, &bundle, take_entry, growth, error);
        tlog_edge_trim(&growth->edge);
    }
    return code;
}

/* The tree that was known, with the new entries appended, must have the root that was signed. */
static int compute_tree(const struct log_follow *follow, const struct checkpoint *last, const struct checkpoint *next,
                        bulla_error *error)
{
    const struct tlog_source tiles = log_source_tiles(follow->source);
    struct growth growth = {.first = last->size, .events = &follow->events};
    struct tlog_reader *reader = NULL;
    uint8_t root[MERKLE_HASH];
    int code = BULLA_OK;
    if (last->size > 0)
        code = tlog_reader_open(&tiles, last->size, last->root, &reader, error);
    if (code == BULLA_OK && reader)
        code = tlog_reader_edge(reader, &growth.edge, error);
    if (code == BULLA_OK)
        code = read_entries(&growth, &tiles, next->size, error);
    const struct tlog_nodes nodes = tlog_edge_nodes(&growth.edge);
    if (code == BULLA_OK)
        code = tlog_tree_root(&nodes, next->size, root, error);
    if (code == BULLA_OK && memcmp(root, next->root, MERKLE_HASH) != 0)
        code = bulla_fail(error, BULLA_E_INPUT, "the entries %" PRIu64 " to %" PRIu64 " do not give the root that was signed",
                          last->size, next->size);
    tlog_reader_close(reader);
    tlog_edge_free(&growth.edge);
    return code;
}

/* ---- Following ---- */

static int look(const struct log_follow *follow, bulla_error *error)
{
    const struct log_follow_events *events = &follow->events;
    struct log_state *state = follow->state;
    struct buffer note = {0};
    struct checkpoint next, last = state->checkpoint;
    int code = log_source_checkpoint(follow->source, follow->key, &note, &next, error);
    if (code == BULLA_OK)
        code = log_state_check(state, follow->source, &note, &next, error);
    if (code == BULLA_OK)
        code = compute_tree(follow, &last, &next, error);
    if (code == BULLA_OK && events->accept)
        code = events->accept(events->context, &next, error);
    if (code == BULLA_OK)
        code = log_state_keep(state, &note, &next, error);
    if (code == BULLA_OK && events->done)
        code = events->done(events->context, &last, &next, error);
    buffer_free(&note);
    return code;
}

static void pause_for(uint64_t seconds)
{
    for (uint64_t i = 0; i < seconds && !interrupt_came(); i++)
        nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
}

void log_time(char when[LOG_TIME])
{
    time_t now = time(NULL);
    struct tm parts;
    *when = 0;
    if (gmtime_r(&now, &parts))
        strftime(when, LOG_TIME, "%Y-%m-%dT%H:%M:%SZ", &parts);
}

int log_follow(const struct log_follow *follow, bulla_error *error)
{
    for (;;) {
        bulla_error own = {0};
        int code = look(follow, &own);
        if (code == BULLA_E_IO && !follow->is_once)
            fprintf(stderr, "bulla %s: %s; it is tried again\n", follow->name, own.text);
        else if (code != BULLA_OK)
            return bulla_fail(error, code, "%s", own.text);
        if (follow->is_once)
            return BULLA_OK;
        pause_for(follow->every);
        if (interrupt_came())
            return bulla_fail(error, BULLA_E_CANCELLED, "interrupted");
    }
}
