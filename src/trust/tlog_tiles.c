#include "trust/tlog_tiles.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

/* ---- Paths ---- */

enum { GROUPS = 7, GROUP = 1000, TILE_BITS = 8 };

void tlog_tile_path(const struct tlog_tile *tile, char path[TLOG_TILE_PATH])
{
    unsigned groups[GROUPS], count = 0;
    uint64_t index = tile->index;
    int used = tile->level == TLOG_ENTRIES ? snprintf(path, TLOG_TILE_PATH, "tile/entries")
                                           : snprintf(path, TLOG_TILE_PATH, "tile/%d", tile->level);
    do {
        groups[count++] = (unsigned)(index % GROUP);
        index /= GROUP;
    } while (index > 0);
    while (count-- > 0)
        used += snprintf(path + used, (size_t)(TLOG_TILE_PATH - used), "/%s%03u", count > 0 ? "x" : "", groups[count]);
    if (tile->width < TLOG_TILE_WIDTH)
        snprintf(path + used, (size_t)(TLOG_TILE_PATH - used), ".p/%u", tile->width);
}

/* Digits of a number into *value; how many there were. */
static size_t read_digits(const char *text, const char *end, uint64_t *value)
{
    size_t count = 0;
    for (; text + count < end && text[count] >= '0' && text[count] <= '9' && count < 18; count++)
        *value = *value * 10 + (uint64_t)(text[count] - '0');
    return count;
}

/* What the path says, leniently: whoever calls compares it with the one right form. */
static void read_path(const char *at, const char *end, struct tlog_tile *tile)
{
    uint64_t level = 0, width = 0;
    at += 5; /* "tile/" */
    if (end - at > 7 && memcmp(at, "entries", 7) == 0) {
        tile->level = TLOG_ENTRIES;
        at += 7;
    } else {
        at += read_digits(at, end, &level);
        tile->level = level < TLOG_TILE_LEVELS ? (int)level : TLOG_TILE_LEVELS;
    }
    for (unsigned group = 0; group < GROUPS - 1 && at < end && *at == '/'; group++) {
        at += 1 + (at + 1 < end && at[1] == 'x');
        at += read_digits(at, at + 3 < end ? at + 3 : end, &tile->index);
    }
    if (end - at > 3 && memcmp(at, ".p/", 3) == 0) {
        read_digits(at + 3, end, &width);
        tile->width = width < TLOG_TILE_WIDTH ? (unsigned)width : 0;
    }
}

int tlog_tile_parse(const char *path, size_t length, struct tlog_tile *tile)
{
    char right[TLOG_TILE_PATH];
    *tile = (struct tlog_tile){.width = TLOG_TILE_WIDTH};
    if (length < 5 || length >= TLOG_TILE_PATH || memcmp(path, "tile/", 5) != 0)
        return 0;
    read_path(path, path + length, tile);
    tlog_tile_path(tile, right);
    return tile->level < TLOG_TILE_LEVELS && tile->width > 0 && strlen(right) == length && memcmp(right, path, length) == 0;
}

/* ---- In a folder ---- */

static int get_file(void *context, const struct tlog_tile *tile, size_t most, struct buffer *out, bulla_error *error)
{
    char name[TLOG_TILE_PATH];
    struct buffer path = {0};
    enum file_kind kind = FILE_ABSENT;
    uint8_t *bytes = NULL;
    size_t length = 0;
    bulla_error own = {0};
    tlog_tile_path(tile, name);
    buffer_append_format(&path, "%s/%s", (const char *)context, name);
    int code = path.error.code != BULLA_OK ? bulla_fail(&own, path.error.code, "%s", path.error.text)
                                           : file_find_kind((const char *)path.data, &kind, &own);
    if (code == BULLA_OK && kind != FILE_ABSENT)
        code = file_read((const char *)path.data, most, &bytes, &length, &own);
    if (code != BULLA_OK && kind != FILE_ABSENT) /* a narrow tile that went in between is not there */
        if (file_find_kind((const char *)path.data, &kind, NULL) == BULLA_OK && kind == FILE_ABSENT)
            code = BULLA_OK;
    if (code == BULLA_OK)
        buffer_append(out, bytes, length);
    memory_free(bytes);
    buffer_free(&path);
    return code == BULLA_OK ? code : bulla_fail(error, code, "%s", own.text);
}

struct tlog_source tlog_folder_source(const char *folder)
{
    return (struct tlog_source){(void *)(uintptr_t)folder, get_file};
}

/* ---- Reading tiles ---- */

struct tile {
    uint64_t index;
    unsigned width; /* 0: not there */
    uint8_t hashes[TLOG_TILE_WIDTH][MERKLE_HASH];
};

struct tlog_reader {
    struct tlog_source source;
    uint64_t size;
    /* At the right edge, checked together; and of each level the whole one that was used last. */
    struct tile edge[TLOG_TILE_LEVELS], recent[TLOG_TILE_LEVELS];
};

/* Bytes of a tile, or of the whole one that has taken the place of a narrow one; *is_whole says which came. */
static int fetch(const struct tlog_source *source, const struct tlog_tile *tile, size_t most, struct buffer *bytes,
                 int *is_whole, bulla_error *error)
{
    char path[TLOG_TILE_PATH];
    struct tlog_tile whole = {tile->level, tile->index, TLOG_TILE_WIDTH};
    int code = source->get(source->context, tile, most, bytes, error);
    *is_whole = tile->width == TLOG_TILE_WIDTH;
    if (code == BULLA_OK && bytes->error.code == BULLA_OK && bytes->length == 0 && !*is_whole) {
        *is_whole = 1;
        code = source->get(source->context, &whole, most, bytes, error);
    }
    tlog_tile_path(tile, path);
    if (code == BULLA_OK && bytes->error.code != BULLA_OK)
        code = bulla_fail(error, bytes->error.code, "%s: %s", path, bytes->error.text);
    if (code == BULLA_OK && bytes->length == 0)
        code = bulla_fail(error, BULLA_E_INPUT, "%s is not there", path);
    return code;
}

static int fetch_hashes(const struct tlog_reader *reader, unsigned level, uint64_t index, unsigned width, struct tile *out,
                        bulla_error *error)
{
    struct buffer bytes = {0};
    int is_whole;
    char path[TLOG_TILE_PATH];
    const struct tlog_tile tile = {(int)level, index, width};
    int code = fetch(&reader->source, &tile, TLOG_TILE_BYTES, &bytes, &is_whole, error);
    size_t expected = (is_whole ? TLOG_TILE_WIDTH : width) * (size_t)MERKLE_HASH;
    tlog_tile_path(&tile, path);
    if (code == BULLA_OK && bytes.length != expected)
        code = bulla_fail(error, BULLA_E_INPUT, "%s has %zu bytes, expected %zu", path, bytes.length, expected);
    if (code == BULLA_OK) {
        out->index = index;
        out->width = width;
        memcpy(out->hashes, bytes.data, width * (size_t)MERKLE_HASH);
    }
    buffer_free(&bytes);
    return code;
}

/* The root of 2^up hashes from `offset` on. */
static int slice_root(const struct tile *tile, unsigned offset, unsigned up, uint8_t hash[MERKLE_HASH], bulla_error *error)
{
    uint8_t hashes[TLOG_TILE_WIDTH][MERKLE_HASH];
    unsigned count = 1u << up;
    memcpy(hashes, tile->hashes[offset], count * (size_t)MERKLE_HASH);
    return merkle_root(hashes[0], count, hash, error);
}

/* A tile whose hashes are known to be of the tree: at the edge, or checked against its hash in the tile above it. The
 * level above a whole tile has a node for it, so that the walk up ends at the edge. */
static int find_tile(struct tlog_reader *reader, unsigned level, uint64_t index, const struct tile **found,
                     bulla_error *error)
{
    struct tile *recent = &reader->recent[level];
    const struct tile *above;
    uint8_t root[MERKLE_HASH];
    *found = index == (reader->size >> TILE_BITS * level) / TLOG_TILE_WIDTH ? &reader->edge[level] : recent;
    if (*found == &reader->edge[level] || (recent->width > 0 && recent->index == index))
        return BULLA_OK;
    recent->width = 0;
    int code = find_tile(reader, level + 1, index / TLOG_TILE_WIDTH, &above, error);
    if (code == BULLA_OK)
        code = fetch_hashes(reader, level, index, TLOG_TILE_WIDTH, recent, error);
    if (code == BULLA_OK)
        code = slice_root(recent, 0, TILE_BITS, root, error);
    if (code == BULLA_OK && memcmp(root, above->hashes[index % TLOG_TILE_WIDTH], MERKLE_HASH) != 0) {
        char path[TLOG_TILE_PATH];
        tlog_tile_path(&(struct tlog_tile){(int)level, index, TLOG_TILE_WIDTH}, path);
        code = bulla_fail(error, BULLA_E_INPUT, "%s is not of the checkpoint's tree", path);
    }
    if (code != BULLA_OK)
        recent->width = 0;
    return code;
}

static int get_node(void *context, unsigned level, uint64_t index, uint8_t hash[MERKLE_HASH], bulla_error *error)
{
    struct tlog_reader *reader = context;
    unsigned up = level % TILE_BITS;
    const struct tile *tile;
    int code = find_tile(reader, level / TILE_BITS, index >> (TILE_BITS - up), &tile, error);
    return code == BULLA_OK ? slice_root(tile, (unsigned)(index << up) % TLOG_TILE_WIDTH, up, hash, error) : code;
}

static struct tlog_nodes reader_nodes(struct tlog_reader *reader)
{
    return (struct tlog_nodes){reader, get_node};
}

static int read_edge(struct tlog_reader *reader, const uint8_t expected[MERKLE_HASH], bulla_error *error)
{
    uint8_t root[MERKLE_HASH];
    const struct tlog_nodes nodes = reader_nodes(reader);
    int code = BULLA_OK;
    for (unsigned level = 0; code == BULLA_OK && level < TLOG_TILE_LEVELS; level++) {
        uint64_t count = reader->size >> TILE_BITS * level;
        unsigned width = (unsigned)(count % TLOG_TILE_WIDTH);
        if (width > 0)
            code = fetch_hashes(reader, level, count / TLOG_TILE_WIDTH, width, &reader->edge[level], error);
    }
    if (code == BULLA_OK)
        code = tlog_tree_root(&nodes, reader->size, root, error);
    if (code == BULLA_OK && memcmp(root, expected, MERKLE_HASH) != 0)
        code = bulla_fail(error, BULLA_E_INPUT, "the tiles do not give the checkpoint's root of %" PRIu64 " leaves",
                          reader->size);
    return code;
}

int tlog_reader_open(const struct tlog_source *source, uint64_t size, const uint8_t root[MERKLE_HASH],
                     struct tlog_reader **reader, bulla_error *error)
{
    *reader = NULL;
    if (size > INT64_MAX)
        return bulla_fail(error, BULLA_E_INPUT, "a tree of more than 2^63 leaves");
    struct tlog_reader *made = memory_alloc(1, sizeof *made, error);
    if (!made)
        return BULLA_E_MEMORY;
    made->source = *source;
    made->size = size;
    int code = read_edge(made, root, error);
    if (code == BULLA_OK)
        *reader = made;
    else
        memory_free(made);
    return code;
}

void tlog_reader_close(struct tlog_reader *reader)
{
    memory_free(reader);
}

/* ---- What is read from them ---- */

int tlog_reader_inclusion(struct tlog_reader *reader, uint64_t index, uint8_t path[TLOG_MOST_PATH][MERKLE_HASH],
                          unsigned *length, bulla_error *error)
{
    const struct tlog_nodes nodes = reader_nodes(reader);
    return tlog_tree_inclusion(&nodes, reader->size, index, path, length, error);
}

int tlog_reader_consistency(struct tlog_reader *reader, uint64_t first, uint8_t proof[TLOG_MOST_PROOF][MERKLE_HASH],
                            unsigned *length, bulla_error *error)
{
    const struct tlog_nodes nodes = reader_nodes(reader);
    return tlog_tree_consistency(&nodes, first, reader->size, proof, length, error);
}

static int fail_size(const struct tlog_reader *reader, uint64_t size, bulla_error *error)
{
    return bulla_fail(error, BULLA_E_USAGE, "leaf %" PRIu64 " of a tree of %" PRIu64, size, reader->size);
}

int tlog_reader_root(struct tlog_reader *reader, uint64_t first, uint8_t root[MERKLE_HASH], bulla_error *error)
{
    const struct tlog_nodes nodes = reader_nodes(reader);
    return first <= reader->size ? tlog_tree_root(&nodes, first, root, error) : fail_size(reader, first, error);
}

int tlog_reader_leaf(struct tlog_reader *reader, uint64_t index, uint8_t hash[MERKLE_HASH], bulla_error *error)
{
    return index < reader->size ? get_node(reader, 0, index, hash, error) : fail_size(reader, index, error);
}

static int give_edge(void *context, unsigned level, uint64_t index, unsigned width, uint8_t (*hashes)[MERKLE_HASH],
                     bulla_error *error)
{
    const struct tlog_reader *reader = context;
    (void)index;
    (void)error;
    memcpy(hashes, reader->edge[level].hashes, width * (size_t)MERKLE_HASH);
    return BULLA_OK;
}

int tlog_reader_edge(struct tlog_reader *reader, struct tlog_edge *edge, bulla_error *error)
{
    return tlog_edge_load(edge, reader->size, give_edge, reader, error);
}

/* ---- Entries ---- */

int tlog_bundle_read(const struct tlog_source *source, const struct tlog_tile *tile,
                     int (*each)(void *context, uint64_t index, const uint8_t *entry, size_t length, bulla_error *error),
                     void *context, bulla_error *error)
{
    struct buffer bytes = {0};
    char path[TLOG_TILE_PATH];
    int is_whole = 0;
    int code = fetch(source, tile, TLOG_MOST_BUNDLE_BYTES, &bytes, &is_whole, error);
    struct reader reader = reader_over(bytes.data, bytes.length);
    tlog_tile_path(tile, path);
    for (unsigned i = 0; code == BULLA_OK && i < tile->width; i++) {
        size_t high = reader_u8(&reader), length = high << 8 | reader_u8(&reader);
        const uint8_t *entry = reader_bytes(&reader, length);
        if (reader.failed || !entry)
            code = bulla_fail(error, BULLA_E_INPUT, "%s ends in entry %u of %u", path, i, tile->width);
        else
            code = each(context, tile->index * TLOG_TILE_WIDTH + i, entry, length, error);
    }
    if (code == BULLA_OK && !(is_whole && tile->width < TLOG_TILE_WIDTH) && reader_left(&reader) > 0)
        code = bulla_fail(error, BULLA_E_INPUT, "%s has more than its %u entries", path, tile->width);
    buffer_free(&bytes);
    return code;
}
