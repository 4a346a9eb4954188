/* A log's folder as it lies there: read without changing anything, and checked whole. */
#include <inttypes.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "trust/tlog_internal.h"

enum { MOST_CHECKPOINT_FILE = 65536, COMPARED_LEAVES = 16 * TLOG_TILE_WIDTH };

/* A database with a log in it, in a transaction. */
static int open_reading(const char *folder, struct tlog_store **store, struct tlog_state *state, bulla_error *error)
{
    int is_empty = 0;
    int code = tlog_store_open(folder, TLOG_READ, store, error);
    if (code == BULLA_OK)
        code = tlog_store_begin(*store, 0, error);
    if (code == BULLA_OK)
        code = tlog_store_is_empty(*store, &is_empty, error);
    if (code == BULLA_OK && is_empty)
        code = bulla_fail(error, BULLA_E_INPUT, "%s/log.db: there is no log in it", folder);
    return code == BULLA_OK ? tlog_store_read_state(*store, state, error) : code;
}

int tlog_read_key(const char *folder, struct note_key *key, bulla_error *error)
{
    struct tlog_store *store = NULL;
    struct tlog_state state;
    int code = open_reading(folder, &store, &state, error);
    if (code == BULLA_OK)
        *key = state.key;
    tlog_store_close(store);
    return code;
}

int tlog_read_receipt(const char *folder, const uint8_t id[TLOG_ID], struct buffer *receipt,
                      struct tlog_inclusion *inclusion, bulla_error *error)
{
    struct tlog_store *store = NULL;
    struct tlog_state state;
    int code = open_reading(folder, &store, &state, error);
    if (store)
        tlog_store_rollback(store);
    if (code == BULLA_OK)
        code = tlog_store_prove(store, id, receipt, inclusion, error);
    tlog_store_close(store);
    return code;
}

/* ---- The database ---- */

struct walk {
    const char *folder;
    struct tlog_store *store;
    const struct tlog_state *state;
    struct tlog_edge edge;
};

static int fail_at(const struct walk *walk, bulla_error *error, const char *what, uint64_t number)
{
    return bulla_fail(error, BULLA_E_INPUT, "%s/log.db: the log's database is damaged: %s %" PRIu64, walk->folder, what,
                      number);
}

/* What was computed since the last time against the tiles that are kept; then it is forgotten. */
static int compare_tiles(struct walk *walk, bulla_error *error)
{
    uint8_t hashes[TLOG_TILE_WIDTH][MERKLE_HASH];
    unsigned width;
    int code = BULLA_OK, is_end = walk->edge.size == walk->state->size;
    for (unsigned level = 0; code == BULLA_OK && level < TLOG_TILE_LEVELS; level++) {
        const struct tlog_edge_level *nodes = &walk->edge.levels[8 * level];
        for (size_t i = 0; code == BULLA_OK && i < nodes->count; i += TLOG_TILE_WIDTH) {
            uint64_t index = (nodes->first + i) / TLOG_TILE_WIDTH;
            size_t right = nodes->count - i < TLOG_TILE_WIDTH ? nodes->count - i : TLOG_TILE_WIDTH;
            code = tlog_store_read_tile(walk->store, level, index, hashes, &width, error);
            if (code == BULLA_OK && (width < right || (is_end && width != right) ||
                                     memcmp(hashes, nodes->hashes + i, right * sizeof *hashes) != 0))
                code = fail_at(walk, error,
                               level == 0 ? "the leaves do not give tile" : "the tiles below do not give tile", index);
        }
    }
    tlog_edge_trim(&walk->edge);
    return code;
}

static int check_row(void *context, const struct tlog_row *row, bulla_error *error)
{
    struct walk *walk = context;
    uint8_t hash[MERKLE_HASH], leaf[MERKLE_HASH];
    if (row->index != walk->edge.size)
        return fail_at(walk, error, "there is no receipt", walk->edge.size);
    int code = hash_sha256(row->length ? row->body : "", row->length, hash, error);
    if (code == BULLA_OK && memcmp(hash, row->hash, MERKLE_HASH) != 0)
        code = fail_at(walk, error, "the hash is not that of receipt", row->index);
    if (code == BULLA_OK)
        code = merkle_leaf_hash(hash, MERKLE_HASH, leaf, error);
    if (code == BULLA_OK)
        code = tlog_edge_append(&walk->edge, leaf, error);
    return code == BULLA_OK && walk->edge.size % COMPARED_LEAVES == 0 ? compare_tiles(walk, error) : code;
}

static int check_database(struct walk *walk, bulla_error *error)
{
    uint8_t root[MERKLE_HASH];
    int code = tlog_check_signed(walk->folder, walk->state, error);
    if (code == BULLA_OK)
        code = tlog_store_each(walk->store, 0, INT64_MAX, 1, check_row, walk, error);
    if (code == BULLA_OK && walk->edge.size != walk->state->size)
        code = fail_at(walk, error, "its receipts are not as many as were signed:", walk->edge.size);
    if (code == BULLA_OK)
        code = compare_tiles(walk, error);
    const struct tlog_nodes nodes = tlog_edge_nodes(&walk->edge);
    if (code == BULLA_OK)
        code = tlog_tree_root(&nodes, walk->state->size, root, error);
    if (code == BULLA_OK && memcmp(root, walk->state->root, MERKLE_HASH) != 0)
        code = fail_at(walk, error, "the root that was signed is not that of its leaves, which are", walk->state->size);
    return code;
}

/* ---- The files ---- */

/* What the file of the whole tile holds, or of as much of it as the database has. */
static int expect(const struct walk *walk, const struct tlog_tile *tile, struct buffer *out, bulla_error *error)
{
    uint8_t hashes[TLOG_TILE_WIDTH][MERKLE_HASH];
    unsigned width;
    if (tile->level == TLOG_ENTRIES)
        return tlog_store_read_bundle(walk->store, tile->index, TLOG_TILE_WIDTH, out, error);
    int code = tlog_store_read_tile(walk->store, (unsigned)tile->level, tile->index, hashes, &width, error);
    if (code == BULLA_OK)
        buffer_append(out, hashes, width * sizeof *hashes);
    return code;
}

static int check_file(const struct walk *walk, const struct tlog_tile *tile, bulla_error *error)
{
    const struct tlog_source source = tlog_folder_source(walk->folder);
    const struct tlog_tile whole = {tile->level, tile->index, TLOG_TILE_WIDTH};
    struct buffer found = {0}, expected = {0};
    char path[TLOG_TILE_PATH];
    size_t one = tile->level == TLOG_ENTRIES ? TLOG_BUNDLE_ENTRY : MERKLE_HASH, length = one * tile->width;
    int code = source.get(source.context, tile, TLOG_TILE_WIDTH * one, &found, error);
    if (code == BULLA_OK && found.length == 0 && tile->width < TLOG_TILE_WIDTH) {
        length = one * TLOG_TILE_WIDTH;
        code = source.get(source.context, &whole, length, &found, error);
    }
    if (code == BULLA_OK)
        code = expect(walk, tile, &expected, error);
    if (code == BULLA_OK && (found.error.code != BULLA_OK || expected.error.code != BULLA_OK))
        code = bulla_fail(error, BULLA_E_MEMORY, "memory is short for a tile");
    tlog_tile_path(tile, path);
    /* The whole tile may have come since the database was read: then it begins with what that had. */
    size_t known = length < expected.length ? length : expected.length;
    if (code == BULLA_OK && (found.length != length || known < one * tile->width ||
                             memcmp(found.data, expected.data, known) != 0))
        code = bulla_fail(error, BULLA_E_INPUT, "%s/%s: %s; opening the log for appending writes it anew", walk->folder,
                          path, found.length == 0 ? "is not there" : "is not what the database gives");
    buffer_free(&found);
    buffer_free(&expected);
    return code;
}

static int check_files(const struct walk *walk, uint64_t size, bulla_error *error)
{
    int code = BULLA_OK;
    for (int level = TLOG_ENTRIES; code == BULLA_OK && level < TLOG_TILE_LEVELS; level++) {
        uint64_t nodes = size >> (level > 0 ? 8 * level : 0);
        for (uint64_t index = 0; code == BULLA_OK && index * TLOG_TILE_WIDTH < nodes; index++) {
            uint64_t left = nodes - index * TLOG_TILE_WIDTH;
            const struct tlog_tile tile = {level, index, left < TLOG_TILE_WIDTH ? (unsigned)left : TLOG_TILE_WIDTH};
            code = check_file(walk, &tile, error);
        }
    }
    return code;
}

/* The published checkpoint, read before the database: that is at least as far. */
static int read_published(const char *folder, uint8_t **text, size_t *length, bulla_error *error)
{
    char *path = tlog_path(folder, "checkpoint", error);
    int code = path ? file_read(path, MOST_CHECKPOINT_FILE, text, length, error) : BULLA_E_MEMORY;
    memory_free(path);
    return code;
}

/* How many leaves the names of the tiles show; before the database is read for good, which then has at least as many. */
static int find_shown(const char *folder, uint64_t *shown, bulla_error *error)
{
    struct tlog_store *store = NULL;
    struct tlog_state state;
    int code = open_reading(folder, &store, &state, error);
    tlog_store_close(store);
    if (code == BULLA_OK)
        *shown = tlog_tiles_size(folder, state.size);
    return code;
}

static int check_published(const struct walk *walk, const uint8_t *text, size_t length, uint64_t *size, bulla_error *error)
{
    struct checkpoint checkpoint;
    struct tlog_reader *reader = NULL;
    uint8_t root[MERKLE_HASH];
    bulla_error own = {0};
    int code = checkpoint_open((const char *)text, length, &walk->state->key, 1, 0, &checkpoint, &own);
    if (code == BULLA_OK && checkpoint.size > walk->state->size)
        code = bulla_fail(&own, BULLA_E_INPUT,
                          "is of %" PRIu64 " receipts, log.db has %" PRIu64 ": the database is an older copy",
                          checkpoint.size, walk->state->size);
    if (code == BULLA_OK)
        code = tlog_store_reader(walk->store, walk->state, &reader, &own);
    if (code == BULLA_OK)
        code = tlog_reader_root(reader, checkpoint.size, root, &own);
    if (code == BULLA_OK && memcmp(root, checkpoint.root, MERKLE_HASH) != 0)
        code = bulla_fail(&own, BULLA_E_INPUT, "has another root than the database gives for its %" PRIu64 " receipts",
                          checkpoint.size);
    tlog_reader_close(reader);
    *size = checkpoint.size;
    return code == BULLA_OK ? check_files(walk, checkpoint.size, error)
                            : bulla_fail(error, code, "%s/checkpoint: %s", walk->folder, own.text);
}

int tlog_check(const char *folder, struct tlog_check *check, bulla_error *error)
{
    struct tlog_state state;
    struct walk walk = {.folder = folder, .state = &state};
    uint8_t *published = NULL;
    size_t length = 0;
    uint64_t shown = 0;
    int code = read_published(folder, &published, &length, error);
    if (code == BULLA_OK)
        code = find_shown(folder, &shown, error);
    if (code == BULLA_OK)
        code = open_reading(folder, &walk.store, &state, error);
    if (code == BULLA_OK)
        code = tlog_check_tiles(folder, shown, state.size, error);
    if (code == BULLA_OK)
        code = tlog_store_check(walk.store, error);
    if (code == BULLA_OK)
        code = check_database(&walk, error);
    if (code == BULLA_OK)
        code = check_published(&walk, published, length, &check->published, error);
    if (code == BULLA_OK) {
        check->size = state.size;
        memcpy(check->root, state.root, MERKLE_HASH);
    }
    tlog_edge_free(&walk.edge);
    tlog_store_close(walk.store);
    memory_free(published);
    return code;
}
