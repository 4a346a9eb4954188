/* Tiles of a log on any bytes: no proof comes of them that base/merkle doesn't follow to the root. The input is the number
 * of leaves, the index of a leaf and a number of leaves before it, each in four bytes; then the tiles in the order in which they
 * are asked for, each behind its length in two bytes. The root is the one that the tiles at the edge give, so that they pass.
 * The input is a tile's path, too. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "trust/tlog_tiles.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct shelf {
    struct reader tiles;
    uint64_t size;
};

/* An empty one: not there. Of as many bytes as it must have, where the input says 65535. */
static int get_tile(void *context, const struct tlog_tile *tile, size_t most, struct buffer *out, bulla_error *error)
{
    struct shelf *shelf = context;
    size_t length = reader_u16(&shelf->tiles), whole = tile->width * (size_t)(tile->level < 0 ? 34 : MERKLE_HASH);
    (void)error;
    if (tile->width == 0 || tile->width > TLOG_TILE_WIDTH || tile->level >= TLOG_TILE_LEVELS)
        abort();
    if (length != UINT16_MAX) {
        const uint8_t *bytes = reader_bytes(&shelf->tiles, length);
        buffer_append(out, bytes ? bytes : (const uint8_t *)"", bytes ? length : 0);
    } else
        for (size_t i = 0; i < whole; i++)
            buffer_append_byte(out, (uint8_t)(tile->index + i));
    return out->length <= most ? BULLA_OK : bulla_fail(error, BULLA_E_LIMIT, "too long");
}

static int give_tile(void *context, unsigned level, uint64_t index, unsigned width, uint8_t (*hashes)[MERKLE_HASH],
                     bulla_error *error)
{
    struct buffer bytes = {0};
    int code = get_tile(context, &(struct tlog_tile){(int)level, index, width}, TLOG_TILE_BYTES, &bytes, error);
    if (code == BULLA_OK && bytes.length == width * (size_t)MERKLE_HASH)
        memcpy(hashes, bytes.data, bytes.length);
    else
        memset(hashes, 0, width * (size_t)MERKLE_HASH);
    buffer_free(&bytes);
    return code;
}

static void check_proofs(struct tlog_reader *reader, uint64_t size, const uint8_t *root, uint64_t index, uint64_t first)
{
    uint8_t proof[TLOG_MOST_PROOF][MERKLE_HASH], hash[MERKLE_HASH];
    unsigned length;
    if (tlog_reader_leaf(reader, index, hash, NULL) == BULLA_OK &&
        tlog_reader_inclusion(reader, index, proof, &length, NULL) == BULLA_OK &&
        !merkle_path_verify(hash, index, size, proof[0], length, root, NULL))
        abort();
    if (tlog_reader_root(reader, first, hash, NULL) == BULLA_OK &&
        tlog_reader_consistency(reader, first, proof, &length, NULL) == BULLA_OK &&
        !merkle_consistency_verify(first, hash, size, root, proof[0], length, NULL))
        abort();
}

static int take_entry(void *context, uint64_t index, const uint8_t *entry, size_t length, bulla_error *error)
{
    const struct tlog_tile *tile = context;
    (void)error;
    if (index / TLOG_TILE_WIDTH != tile->index || (length > 0 && !entry))
        abort();
    return BULLA_OK;
}

static void check_path(const uint8_t *text, size_t length)
{
    struct tlog_tile tile;
    char path[TLOG_TILE_PATH];
    if (!tlog_tile_parse((const char *)text, length, &tile))
        return;
    tlog_tile_path(&tile, path);
    if (strlen(path) != length || memcmp(path, text, length) != 0 || strstr(path, ".."))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader input = reader_over(data, size);
    uint64_t leaves = reader_u32(&input), index = reader_u32(&input), first = reader_u32(&input);
    struct shelf shelf = {.size = leaves};
    const struct tlog_source source = {&shelf, get_tile};
    struct tlog_edge edge = {0};
    struct tlog_reader *reader = NULL;
    uint8_t root[MERKLE_HASH];
    check_path(data, size);
    shelf.tiles = input;
    if (tlog_edge_load(&edge, leaves, give_tile, &shelf, NULL) == BULLA_OK) {
        const struct tlog_nodes nodes = tlog_edge_nodes(&edge);
        if (tlog_tree_root(&nodes, leaves, root, NULL) != BULLA_OK)
            abort();
        shelf.tiles = input;
        if (tlog_reader_open(&source, leaves, root, &reader, NULL) == BULLA_OK)
            check_proofs(reader, leaves, root, index, first);
        tlog_reader_close(reader);
    }
    tlog_edge_free(&edge);
    const struct tlog_tile bundle = {TLOG_ENTRIES, index, (unsigned)(first % TLOG_TILE_WIDTH) + 1};
    shelf.tiles = input;
    tlog_bundle_read(&source, &bundle, take_entry, (void *)(uintptr_t)&bundle, NULL);
    return 0;
}
