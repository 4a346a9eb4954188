/* Tiles of a transparency log (C2SP tlog-tiles), and proofs made from them: for whoever follows a log over HTTP or in a
 * folder without trusting either. No network, no database, no threads.
 *
 * Tile N of level L holds the hashes of the nodes 256 N .. 256 N + 255 of the tree's level 8 L; level 0 are the leaf
 * hashes. A tile at the tree's right edge may be narrower: it is named by its width, and goes once the whole tile is
 * there. Beside each tile of level 0 lies a bundle with the entries themselves, each behind its length in two bytes,
 * big-endian. A Bulla log's entries are the 32 bytes receipt_hash() of its receipts.
 *
 * Source: c2sp.org/tlog-tiles. */
#ifndef TRUST_TLOG_TILES_H
#define TRUST_TLOG_TILES_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/merkle.h"
#include "bulla/error.h"
#include "trust/checkpoint.h"
#include "trust/tlog_tree.h"

enum {
    TLOG_TILE_WIDTH = 256,
    TLOG_TILE_LEVELS = 8,    /* of a tree of up to 2^63 leaves */
    TLOG_TILE_PATH = 64,     /* of a tile's path, with its NUL */
    TLOG_ENTRIES = -1,       /* the level of entry bundles */
    TLOG_TILE_BYTES = TLOG_TILE_WIDTH * MERKLE_HASH,
    TLOG_MOST_BUNDLE_BYTES = TLOG_TILE_WIDTH * (2 + 65535)
};

struct tlog_tile {
    int level;      /* 0 to 7, or TLOG_ENTRIES */
    uint64_t index;
    unsigned width; /* 1 to 256 */
};

/* "tile/0/x001/x234/067.p/5", "tile/entries/000". */
void tlog_tile_path(const struct tlog_tile *tile, char path[TLOG_TILE_PATH]);
/* Reads such a path, in the one form that tlog_tile_path writes; 0 for anything else. */
int tlog_tile_parse(const char *path, size_t length, struct tlog_tile *tile);

/* Where tiles come from; nothing of what comes is trusted. */
struct tlog_source {
    void *context;
    /* Appends the tile's bytes to `out` (which is empty), at most `most` of them; leaves it empty where there is no such
     * tile. A narrow tile that isn't there is asked for a second time as the whole one. */
    int (*get)(void *context, const struct tlog_tile *tile, size_t most, struct buffer *out, bulla_error *error);
};

/* The tiles below a folder, which must outlive it. */
struct tlog_source tlog_folder_source(const char *folder);

/* The tree of one checkpoint, read from tiles. Each hash that is used has been checked up to the root. */
struct tlog_reader;

/* Reads the tiles at the right edge and checks them against the root. BULLA_E_INPUT: they are of another tree, or
 * missing. `source` is copied; its context must outlive the reader. Tiles that were read are kept, one a level. */
int tlog_reader_open(const struct tlog_source *source, uint64_t size, const uint8_t root[MERKLE_HASH],
                     struct tlog_reader **reader, bulla_error *error);
void tlog_reader_close(struct tlog_reader *reader); /* NULL is fine */
/* The path of a leaf: merkle_path_verify takes it. */
int tlog_reader_inclusion(struct tlog_reader *reader, uint64_t index, uint8_t path[TLOG_MOST_PATH][MERKLE_HASH],
                          unsigned *length, bulla_error *error);
/* That the tree began with that of `first` leaves: merkle_consistency_verify takes it, and says whether a known root of
 * `first` leaves is the one. */
int tlog_reader_consistency(struct tlog_reader *reader, uint64_t first, uint8_t proof[TLOG_MOST_PROOF][MERKLE_HASH],
                            unsigned *length, bulla_error *error);
/* The root of the first `first` leaves. */
int tlog_reader_root(struct tlog_reader *reader, uint64_t first, uint8_t root[MERKLE_HASH], bulla_error *error);
/* The hash of leaf `index`. */
int tlog_reader_leaf(struct tlog_reader *reader, uint64_t index, uint8_t hash[MERKLE_HASH], bulla_error *error);
/* Loads the edge of the reader's tree, for leaves to be appended. */
int tlog_reader_edge(struct tlog_reader *reader, struct tlog_edge *edge, bulla_error *error);

/* Reads the bundle of entries `tile` from the source: exactly as many as it is wide. Each is handed to `each` in order;
 * another result than BULLA_OK ends it. The bytes are what the source says: hash them and compare. */
int tlog_bundle_read(const struct tlog_source *source, const struct tlog_tile *tile,
                     int (*each)(void *context, uint64_t index, const uint8_t *entry, size_t length, bulla_error *error),
                     void *context, bulla_error *error);

#endif
