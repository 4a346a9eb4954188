/* Trees of a log from their nodes, their edge and their tiles, against base/merkle; tiles that lie. */
#include "test.h"

#include "base/hash.h"
#include "base/memory.h"
#include "trust/tlog_tiles.h"

enum { SMALL = 600, LARGE = 70000 /* two levels of tiles and a bit */ };

/* All nodes of a tree, and its roots at each size up to SMALL. */
static uint8_t (*nodes[TLOG_TREE_LEVELS])[MERKLE_HASH];
static uint8_t roots[SMALL + 1][MERKLE_HASH], large_root[MERKLE_HASH];

static void entry_of(uint64_t index, uint8_t entry[MERKLE_HASH])
{
    assert_int_equal(hash_sha256(&index, sizeof index, entry, NULL), BULLA_OK);
}

static int make_tree(void **state)
{
    (void)state;
    nodes[0] = calloc(LARGE, MERKLE_HASH);
    for (uint64_t i = 0; i < LARGE; i++) {
        uint8_t entry[MERKLE_HASH];
        entry_of(i, entry);
        merkle_leaf_hash(entry, sizeof entry, nodes[0][i], NULL);
    }
    for (unsigned level = 1; LARGE >> level; level++) {
        nodes[level] = calloc(LARGE >> level, MERKLE_HASH);
        for (size_t i = 0, count = LARGE >> level; i < count; i++) {
            uint8_t pair[2][MERKLE_HASH];
            memcpy(pair, nodes[level - 1][2 * i], sizeof pair);
            merkle_root(pair[0], 2, nodes[level][i], NULL);
        }
    }
    uint8_t *copy = malloc(LARGE * MERKLE_HASH);
    for (size_t size = 0; size <= SMALL; size++) {
        memcpy(copy, nodes[0], size * MERKLE_HASH);
        merkle_root(copy, size, roots[size], NULL);
    }
    memcpy(copy, nodes[0], LARGE * MERKLE_HASH);
    merkle_root(copy, LARGE, large_root, NULL);
    free(copy);
    return 0;
}

static int free_tree(void **state)
{
    (void)state;
    for (unsigned level = 0; level < TLOG_TREE_LEVELS; level++)
        free(nodes[level]);
    return 0;
}

static int get_node(void *context, unsigned level, uint64_t index, uint8_t hash[MERKLE_HASH], bulla_error *error)
{
    uint64_t size = *(const uint64_t *)context;
    assert_true(index < size >> level); /* only nodes that stay are asked for */
    memcpy(hash, nodes[level][index], MERKLE_HASH);
    return BULLA_OK;
}

static void proofs_of_every_size_hold(void **state)
{
    (void)state;
    bulla_error error = {0};
    for (uint64_t size = 1; size <= SMALL; size++) {
        const struct tlog_nodes all = {&size, get_node};
        uint8_t root[MERKLE_HASH], path[TLOG_MOST_PATH][MERKLE_HASH], proof[TLOG_MOST_PROOF][MERKLE_HASH];
        unsigned length;
        assert_ok(tlog_tree_root(&all, size, root, &error), error);
        assert_memory_equal(root, roots[size], MERKLE_HASH);
        for (uint64_t index = 0; index < size; index++) {
            assert_ok(tlog_tree_inclusion(&all, size, index, path, &length, &error), error);
            if (!merkle_path_verify(nodes[0][index], index, size, path[0], length, root, &error))
                fail_msg("the path of leaf %llu of %llu", (unsigned long long)index, (unsigned long long)size);
        }
        for (uint64_t first = 0; first <= size; first++) {
            assert_ok(tlog_tree_consistency(&all, first, size, proof, &length, &error), error);
            if (!merkle_consistency_verify(first, roots[first], size, root, proof[0], length, &error))
                fail_msg("the proof from %llu to %llu", (unsigned long long)first, (unsigned long long)size);
            if (first > 0 && first < size && merkle_consistency_verify(first, roots[first - 1], size, root, proof[0], length, &error))
                fail_msg("the proof from %llu to %llu shows another tree", (unsigned long long)first, (unsigned long long)size);
        }
        assert_int_equal(tlog_tree_inclusion(&all, size, size, path, &length, NULL), BULLA_E_USAGE);
        assert_int_equal(tlog_tree_consistency(&all, size + 1, size, proof, &length, NULL), BULLA_E_USAGE);
    }
}

static void paths_are_the_reference_s(void **state)
{
    (void)state;
    bulla_error error = {0};
    for (uint64_t size = 1; size <= SMALL; size += size < 300 ? 1 : 37)
        for (uint64_t index = 0; index < size; index += 1 + size / 7) {
            const struct tlog_nodes all = {&size, get_node};
            uint8_t path[TLOG_MOST_PATH][MERKLE_HASH], expected[64][MERKLE_HASH];
            unsigned length, expected_length;
            assert_ok(tlog_tree_inclusion(&all, size, index, path, &length, &error), error);
            assert_ok(merkle_path(nodes[0][0], size, index, expected, &expected_length, &error), error);
            assert_int_equal(length, expected_length);
            assert_memory_equal(path, expected, length * MERKLE_HASH);
        }
}

/* --- the edge --- */

static int give_tile(void *context, unsigned level, uint64_t index, unsigned width, uint8_t (*hashes)[MERKLE_HASH],
                     bulla_error *error)
{
    (void)context;
    (void)error;
    memcpy(hashes, nodes[8 * level][index * TLOG_TILE_WIDTH], width * sizeof *hashes);
    return BULLA_OK;
}

static void check_edge(struct tlog_edge *edge, uint64_t first_new)
{
    const struct tlog_nodes own = tlog_edge_nodes(edge);
    bulla_error error = {0};
    uint8_t root[MERKLE_HASH], path[TLOG_MOST_PATH][MERKLE_HASH];
    unsigned length;
    assert_ok(tlog_tree_root(&own, edge->size, root, &error), error);
    assert_memory_equal(root, roots[edge->size], MERKLE_HASH);
    for (uint64_t index = first_new; index < edge->size; index++) {
        assert_ok(tlog_tree_inclusion(&own, edge->size, index, path, &length, &error), error);
        assert_true(merkle_path_verify(nodes[0][index], index, edge->size, path[0], length, root, &error));
    }
}

static void an_edge_goes_on_from_any_size(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct tlog_edge edge = {0};
    for (uint64_t start = 0; start < SMALL; start += start < 20 || start % 256 > 250 ? 1 : 17) {
        assert_ok(tlog_edge_load(&edge, start, give_tile, NULL, &error), error);
        check_edge(&edge, start);
        for (uint64_t size = start; size < SMALL && size < start + 300; size++) {
            assert_ok(tlog_edge_append(&edge, nodes[0][size], &error), error);
            if (size % 23 == 0 || size % 256 < 2)
                check_edge(&edge, start);
        }
        tlog_edge_trim(&edge);
        check_edge(&edge, edge.size);
    }
    tlog_edge_free(&edge);
    /* From nothing to many, with what is not needed forgotten on the way. */
    for (uint64_t size = 0; size < LARGE; size++) {
        assert_ok(tlog_edge_append(&edge, nodes[0][size], &error), error);
        if (size % 1000 == 0)
            tlog_edge_trim(&edge);
    }
    uint8_t root[MERKLE_HASH];
    const struct tlog_nodes own = tlog_edge_nodes(&edge);
    assert_ok(tlog_tree_root(&own, LARGE, root, &error), error);
    assert_memory_equal(root, large_root, MERKLE_HASH);
    assert_int_equal(own.get(own.context, 0, 0, root, NULL), BULLA_E_INTERNAL);
    tlog_edge_free(&edge);
}

/* --- paths of tiles --- */

static void tiles_have_one_path(void **state)
{
    (void)state;
    static const struct {
        struct tlog_tile tile;
        const char *path;
    } cases[] = {{{0, 0, 256}, "tile/0/000"},
                 {{0, 0, 1}, "tile/0/000.p/1"},
                 {{0, 999, 255}, "tile/0/999.p/255"},
                 {{1, 1000, 256}, "tile/1/x001/000"},
                 {{0, 65536, 256}, "tile/0/x065/536"},
                 {{0, 1234067, 5}, "tile/0/x001/x234/067.p/5"},
                 {{7, 127, 10}, "tile/7/127.p/10"},
                 {{TLOG_ENTRIES, 16777216, 77}, "tile/entries/x016/x777/216.p/77"},
                 {{0, (UINT64_C(1) << 55) - 1, 256}, "tile/0/x036/x028/x797/x018/x963/967"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[TLOG_TILE_PATH];
        struct tlog_tile tile;
        tlog_tile_path(&cases[i].tile, path);
        assert_string_equal(path, cases[i].path);
        assert_true(tlog_tile_parse(path, strlen(path), &tile));
        assert_int_equal(tile.level, cases[i].tile.level);
        assert_int_equal(tile.index, cases[i].tile.index);
        assert_int_equal(tile.width, cases[i].tile.width);
    }
    static const char *const wrong[] = {
        "", "tile", "tile/", "tile/0", "tile/0/", "tile/0/00", "tile/0/0000", "tile/8/000", "tile/00/000", "tile/-1/000",
        "tile/0/x000/000", "tile/0/001/000", "tile/0/x001", "tile/0/x001/x000", "tile/0/000.p", "tile/0/000.p/",
        "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/1/", "tile/0/000/", "tile/0//000", "tile/0/0a0",
        "tile/entries", "tile/entries/", "tile/entriesx/000", "tile/entries/../key.pem", "tile/0/../../key.pem", "/tile/0/000",
        "tile/0/000.q/1", "tile/0/000 ", "tile/0/x999/x999/x999/x999/x999/x999/x999/999", "checkpoint", "key.pem",
        "tile/18446744073709551616/000", "tile/0/000.p/4294967297"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct tlog_tile tile;
        if (tlog_tile_parse(wrong[i], strlen(wrong[i]), &tile))
            fail_msg("\"%s\" is taken", wrong[i]);
    }
}

/* --- a source, and what it may do --- */

struct shelf {
    uint64_t size;
    int lacks_narrow;             /* has whole ones in their place */
    struct tlog_tile spoilt;      /* of level and index; width 0: none */
    enum { FLIPPED, SHORT, LONG, ABSENT, REFUSED } how;
    size_t at;                    /* which byte is flipped */
    unsigned asked;
};

static void append_tile(const struct tlog_tile *tile, struct buffer *out)
{
    if (tile->level == TLOG_ENTRIES)
        for (unsigned i = 0; i < tile->width; i++) {
            uint8_t entry[2 + MERKLE_HASH] = {0, MERKLE_HASH};
            entry_of(tile->index * TLOG_TILE_WIDTH + i, entry + 2);
            buffer_append(out, entry, sizeof entry);
        }
    else
        buffer_append(out, nodes[8 * tile->level][tile->index * TLOG_TILE_WIDTH], tile->width * (size_t)MERKLE_HASH);
}

static int get_tile(void *context, const struct tlog_tile *tile, size_t most, struct buffer *out, bulla_error *error)
{
    struct shelf *shelf = context;
    uint64_t count = shelf->size >> (tile->level > 0 ? 8 * tile->level : 0);
    shelf->asked++;
    assert_true(tile->width > 0);
    if (shelf->lacks_narrow && tile->width < TLOG_TILE_WIDTH)
        return BULLA_OK;
    assert_true(tile->index * TLOG_TILE_WIDTH < count); /* nothing is asked for that isn't of the tree */
    if (shelf->spoilt.width > 0 && shelf->spoilt.level == tile->level && shelf->spoilt.index == tile->index) {
        if (shelf->how == REFUSED)
            return bulla_fail(error, BULLA_E_IO, "refused");
        if (shelf->how == ABSENT)
            return BULLA_OK;
        append_tile(tile, out);
        if (shelf->how == SHORT)
            buffer_cut(out, out->length - 1);
        else if (shelf->how == LONG)
            buffer_append_byte(out, 0);
        else
            out->data[shelf->at % out->length] ^= 1;
    } else
        append_tile(tile, out);
    assert_true(out->length <= most + 1);
    return BULLA_OK;
}

static void tiles_give_every_proof(void **state)
{
    (void)state;
    bulla_error error = {0};
    for (uint64_t size = 0; size <= SMALL; size += size % 256 > 250 || size % 256 < 5 ? 1 : 50)
        for (int lacks_narrow = 0; lacks_narrow < 2; lacks_narrow++) {
            struct shelf shelf = {.size = size, .lacks_narrow = lacks_narrow};
            struct tlog_reader *reader;
            uint8_t path[TLOG_MOST_PROOF][MERKLE_HASH], root[MERKLE_HASH];
            unsigned length;
            if (size >> 8 > 0 && lacks_narrow)
                continue; /* level 1 has no whole tile */
            assert_ok(tlog_reader_open(&(struct tlog_source){&shelf, get_tile}, size, roots[size], &reader, &error), error);
            for (uint64_t index = 0; index < size; index += 13) {
                assert_ok(tlog_reader_inclusion(reader, index, path, &length, &error), error);
                assert_true(merkle_path_verify(nodes[0][index], index, size, path[0], length, roots[size], &error));
                assert_ok(tlog_reader_consistency(reader, index, path, &length, &error), error);
                assert_true(merkle_consistency_verify(index, roots[index], size, roots[size], path[0], length, &error));
                assert_ok(tlog_reader_root(reader, index, root, &error), error);
                assert_memory_equal(root, roots[index], MERKLE_HASH);
                assert_ok(tlog_reader_leaf(reader, index, root, &error), error);
                assert_memory_equal(root, nodes[0][index], MERKLE_HASH);
            }
            assert_int_equal(tlog_reader_leaf(reader, size, root, NULL), BULLA_E_USAGE);
            assert_int_equal(tlog_reader_leaf(reader, UINT64_MAX, root, NULL), BULLA_E_USAGE);
            assert_int_equal(tlog_reader_root(reader, size + 1, root, NULL), BULLA_E_USAGE);
            assert_int_equal(tlog_reader_inclusion(reader, size, path, &length, NULL), BULLA_E_USAGE);
            assert_int_equal(tlog_reader_consistency(reader, size + 1, path, &length, NULL), BULLA_E_USAGE);
            tlog_reader_close(reader);
        }
}

static void large_trees_take_few_tiles(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct shelf shelf = {.size = LARGE};
    struct tlog_reader *reader;
    struct tlog_edge edge = {0};
    uint8_t path[TLOG_MOST_PROOF][MERKLE_HASH], root[MERKLE_HASH], smaller[MERKLE_HASH];
    unsigned length;
    assert_ok(tlog_reader_open(&(struct tlog_source){&shelf, get_tile}, LARGE, large_root, &reader, &error), error);
    assert_int_equal(shelf.asked, 3);
    for (uint64_t index = 0; index < LARGE; index += 977) {
        uint64_t first = index + 1;
        const struct tlog_nodes all = {&first, get_node};
        shelf.asked = 0;
        assert_ok(tlog_reader_inclusion(reader, index, path, &length, &error), error);
        assert_true(merkle_path_verify(nodes[0][index], index, LARGE, path[0], length, large_root, &error));
        assert_true(shelf.asked <= 2);
        assert_ok(tlog_tree_root(&all, first, smaller, &error), error);
        assert_ok(tlog_reader_consistency(reader, first, path, &length, &error), error);
        assert_true(merkle_consistency_verify(first, smaller, LARGE, large_root, path[0], length, &error));
        assert_true(shelf.asked <= 4);
    }
    assert_ok(tlog_reader_edge(reader, &edge, &error), error);
    const struct tlog_nodes own = tlog_edge_nodes(&edge);
    assert_ok(tlog_tree_root(&own, LARGE, root, &error), error);
    assert_memory_equal(root, large_root, MERKLE_HASH);
    tlog_edge_free(&edge);
    tlog_reader_close(reader);
}

/* Whatever a spoilt tile does, a proof that comes is right. */
static void read_spoilt(struct shelf *shelf, int expected)
{
    struct tlog_reader *reader = NULL;
    uint8_t path[TLOG_MOST_PROOF][MERKLE_HASH];
    unsigned length;
    int failures = 0;
    for (uint64_t index = 0; index < LARGE; index += 9973) {
        bulla_error error = {0};
        if (!reader && tlog_reader_open(&(struct tlog_source){shelf, get_tile}, LARGE, large_root, &reader, &error) != BULLA_OK) {
            assert_int_equal(error.code, expected);
            failures++;
            continue;
        }
        if (tlog_reader_inclusion(reader, index, path, &length, &error) == BULLA_OK) {
            assert_true(merkle_path_verify(nodes[0][index], index, LARGE, path[0], length, large_root, &error));
        } else {
            assert_int_equal(error.code, expected);
            failures++;
        }
    }
    assert_true(failures > 0);
    tlog_reader_close(reader);
}

static void spoilt_tiles_are_found(void **state)
{
    (void)state;
    static const struct tlog_tile tiles[] = {{0, LARGE / 256, 1}, {0, 0, 1}, {0, 38, 1}, {1, 0, 1}, {1, 1, 1}, {2, 0, 1}};
    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++) {
        struct shelf shelf = {.size = LARGE, .spoilt = tiles[i]};
        shelf.how = FLIPPED;
        for (shelf.at = 0; shelf.at < TLOG_TILE_BYTES; shelf.at += 257)
            read_spoilt(&shelf, BULLA_E_INPUT);
        shelf.how = SHORT;
        read_spoilt(&shelf, BULLA_E_INPUT);
        shelf.how = LONG;
        read_spoilt(&shelf, BULLA_E_INPUT);
        shelf.how = REFUSED;
        read_spoilt(&shelf, BULLA_E_IO);
        shelf.lacks_narrow = 0;
        shelf.how = ABSENT;
        read_spoilt(&shelf, BULLA_E_INPUT);
    }
    struct shelf shelf = {.size = 200};
    struct tlog_reader *reader;
    bulla_error error = {0};
    uint8_t root[MERKLE_HASH] = {0};
    assert_int_equal(tlog_reader_open(&(struct tlog_source){&shelf, get_tile}, 200, roots[199], &reader, &error), BULLA_E_INPUT);
    assert_null(reader);
    assert_int_equal(tlog_reader_open(&(struct tlog_source){&shelf, get_tile}, 0, root, &reader, NULL), BULLA_E_INPUT);
    assert_int_equal(tlog_reader_open(&(struct tlog_source){&shelf, get_tile}, UINT64_MAX, root, &reader, NULL), BULLA_E_INPUT);
}

/* --- entries --- */

static int take_entry(void *context, uint64_t index, const uint8_t *entry, size_t length, bulla_error *error)
{
    uint8_t expected[MERKLE_HASH];
    uint64_t *next = context;
    if (index != *next)
        return bulla_fail(error, BULLA_E_INTERNAL, "out of order");
    ++*next;
    assert_int_equal(length, MERKLE_HASH);
    entry_of(index, expected);
    assert_memory_equal(entry, expected, MERKLE_HASH);
    return BULLA_OK;
}

static void bundles_are_read_exactly(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct shelf shelf = {.size = SMALL};
    const struct tlog_source source = {&shelf, get_tile};
    const struct tlog_tile tile = {TLOG_ENTRIES, 2, SMALL - 512};
    uint64_t next = 512;
    assert_ok(tlog_bundle_read(&source, &tile, take_entry, &next, &error), error);
    assert_int_equal(next, SMALL);
    shelf.lacks_narrow = 1;
    shelf.size = LARGE;
    next = 512;
    assert_ok(tlog_bundle_read(&source, &tile, take_entry, &next, &error), error);
    assert_int_equal(next, SMALL);
    shelf.lacks_narrow = 0;
    shelf.spoilt = tile;
    for (shelf.how = SHORT; shelf.how <= ABSENT; shelf.how++) {
        next = 512;
        assert_int_equal(tlog_bundle_read(&source, &tile, take_entry, &next, NULL), BULLA_E_INPUT);
    }
    next = 7;
    shelf.spoilt.width = 0;
    assert_int_equal(tlog_bundle_read(&source, &tile, take_entry, &next, NULL), BULLA_E_INTERNAL);
}

/* --- memory --- */

static void short_memory_is_an_error(void **state)
{
    (void)state;
    struct shelf shelf = {.size = SMALL};
    for (uint64_t n = 1;; n++) {
        struct tlog_reader *reader = NULL;
        struct tlog_edge edge = {0};
        uint8_t path[TLOG_MOST_PROOF][MERKLE_HASH];
        unsigned length;
        bulla_error error = {0};
        uint64_t before = memory_allocation_count();
        memory_inject_failure(n, 0);
        int code = tlog_reader_open(&(struct tlog_source){&shelf, get_tile}, SMALL, roots[SMALL], &reader, &error);
        if (code == BULLA_OK)
            code = tlog_reader_inclusion(reader, 3, path, &length, &error);
        if (code == BULLA_OK)
            code = tlog_reader_edge(reader, &edge, &error);
        if (code == BULLA_OK)
            code = tlog_edge_append(&edge, nodes[0][SMALL], &error);
        memory_inject_failure(0, 0);
        tlog_edge_free(&edge);
        tlog_reader_close(reader);
        if (memory_allocation_count() - before < n) {
            assert_ok(code, error);
            break;
        }
        assert_int_equal(code, BULLA_E_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(proofs_of_every_size_hold),
        cmocka_unit_test(paths_are_the_reference_s),
        cmocka_unit_test(an_edge_goes_on_from_any_size),
        cmocka_unit_test(tiles_have_one_path),
        cmocka_unit_test(tiles_give_every_proof),
        cmocka_unit_test(large_trees_take_few_tiles),
        cmocka_unit_test(spoilt_tiles_are_found),
        cmocka_unit_test(bundles_are_read_exactly),
        cmocka_unit_test(short_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_tree, free_tree);
}
