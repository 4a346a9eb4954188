/* The history of a log: receipts in its tree, checkpoints of one history or of a fork, with and without tiles. */
#include "test.h"

#include <openssl/evp.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "folder.h"
#include "serve/connect_log.h"

enum { MOST = 700 };

/* A log as its operator has it. */
struct tree {
    uint8_t leaves[MOST][32]; /* entries */
    uint64_t size;
    struct note_key key;
    EVP_PKEY *private_key;
};

static void hash_leaves(const struct tree *tree, uint64_t from, uint64_t count, uint8_t (*hashes)[32])
{
    for (uint64_t i = 0; i < count; i++)
        assert_int_equal(merkle_leaf_hash(tree->leaves[from + i], 32, hashes[i], NULL), BULLA_OK);
}

static void grow(struct tree *tree, uint64_t size, uint8_t mark)
{
    for (; tree->size < size; tree->size++) {
        memset(tree->leaves[tree->size], mark, 32);
        tree->leaves[tree->size][0] = (uint8_t)tree->size;
        tree->leaves[tree->size][1] = (uint8_t)(tree->size >> 8);
    }
}

static void open_tree(struct tree *tree, const char *name)
{
    uint8_t seed[32] = {1};
    size_t length = 32;
    memset(tree, 0, sizeof *tree);
    tree->private_key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
    tree->key.algorithm = NOTE_ED25519;
    snprintf(tree->key.name, sizeof tree->key.name, "%s", name);
    assert_int_equal(EVP_PKEY_get_raw_public_key(tree->private_key, tree->key.key, &length), 1);
}

/* The member "log" of the document of leaf `index` in the tree of its first `size` leaves. */
static void write_member(const struct tree *tree, uint64_t index, uint64_t size, struct buffer *out)
{
    static uint8_t hashes[MOST][32];
    struct checkpoint checkpoint = {.size = size};
    struct buffer note = {0};
    uint8_t path[64][32];
    unsigned length;
    char hex[65];
    snprintf(checkpoint.origin, sizeof checkpoint.origin, "%s", tree->key.name);
    hash_leaves(tree, 0, size, hashes);
    assert_int_equal(merkle_path(hashes[0], size, index, path, &length, NULL), BULLA_OK);
    assert_int_equal(merkle_root(hashes[0], size, checkpoint.root, NULL), BULLA_OK);
    checkpoint_write(&checkpoint, &note);
    size_t text = note.length;
    buffer_append_byte(&note, '\n');
    struct buffer copy = {0};
    buffer_append(&copy, note.data, text);
    assert_int_equal(note_sign((const char *)copy.data, text, &tree->key, tree->private_key, 0, &note, NULL), BULLA_OK);
    buffer_append_format(out, "{\"index\":%llu,\"path\":[", (unsigned long long)index);
    for (unsigned i = 0; i < length; i++) {
        hex_encode(path[i], 32, hex);
        buffer_append_format(out, i ? ",\"%s\"" : "\"%s\"", hex);
    }
    buffer_append_text(out, "],\"checkpoint\":");
    json_write_string(out, (const char *)note.data, note.length);
    buffer_append_byte(out, '}');
    buffer_free(&copy);
    buffer_free(&note);
}

/* Level 0 and 1 of up to 700 leaves. */
static void give_tile(struct connect_log *log, const struct tree *tree, const struct tlog_tile *want)
{
    static uint8_t hashes[MOST][32];
    uint8_t nodes[3][32];
    uint64_t first = want->index * TLOG_TILE_WIDTH;
    if (want->level == 0 && first + want->width <= tree->size) {
        hash_leaves(tree, first, want->width, hashes);
        connect_log_give(log, want, hashes, want->width * 32);
    } else if (want->level == 1 && want->index == 0 && want->width <= tree->size / TLOG_TILE_WIDTH) {
        for (unsigned i = 0; i < want->width; i++) {
            hash_leaves(tree, (uint64_t)i * TLOG_TILE_WIDTH, TLOG_TILE_WIDTH, hashes);
            assert_int_equal(merkle_root(hashes[0], TLOG_TILE_WIDTH, nodes[i], NULL), BULLA_OK);
        }
        connect_log_give(log, want, nodes, want->width * 32);
    } else {
        connect_log_give(log, want, NULL, 0);
    }
}

/* Presents leaf `index` of the tree of `size`; tiles are of `tiles`. The check that fails, or "". */
static void present(struct connect_log *log, const struct tree *tree, uint64_t index, uint64_t size, const struct tree *tiles,
                    unsigned *wanted, struct connect_problem *problem)
{
    struct buffer text = {0};
    struct arena arena = {0};
    struct connect_entry entry = {0};
    struct tlog_tile want;
    enum connect_history history = CONNECT_ONE_HISTORY;
    *problem = (struct connect_problem){0};
    *wanted = 0;
    write_member(tree, index, size, &text);
    const struct json *member = json_parse((const char *)text.data, text.length, "member", &arena, NULL);
    if (connect_log_read(log, member, tree->leaves[index], &entry, problem) == BULLA_OK)
        while ((history = connect_log_compare(log, &entry, &want, problem)) == CONNECT_WANTS_TILE) {
            assert_true(++*wanted < 20);
            give_tile(log, tiles, &want);
        }
    assert_int_equal(history == CONNECT_ONE_HISTORY && !problem->check[0], !problem->check[0]);
    connect_entry_free(&entry);
    arena_free(&arena);
    buffer_free(&text);
}

static void assert_present(struct connect_log *log, const struct tree *tree, uint64_t index, uint64_t size,
                           const struct tree *tiles, const char *expected)
{
    struct connect_problem problem;
    unsigned wanted;
    present(log, tree, index, size, tiles, &wanted, &problem);
    if (strcmp(problem.check, expected) != 0)
        fail_msg("leaf %d of %d: found \"%s\" (%s), expected \"%s\"", (int)index, (int)size, problem.check, problem.text, expected);
}

static struct connect_log *open_log(const struct tree *tree)
{
    struct connect_log *log;
    bulla_error error = {0};
    const struct connect_log_options options = {.folder = folder};
    assert_ok(connect_log_open(&options, &log, &error), error);
    assert_ok(connect_log_set_key(log, &tree->key, &error), error);
    return log;
}

static void keep(const struct connect_log *log)
{
    bulla_error error = {0};
    assert_ok(file_write_private(connect_log_path(log), connect_log_note(log)->data, connect_log_note(log)->length, &error),
              error);
}

static void test_one_history(void **state)
{
    static struct tree tree;
    open_tree(&tree, "log.example/a");
    grow(&tree, MOST, 1);
    struct connect_log *log = open_log(&tree);
    static const struct {
        uint64_t index, size;
    } steps[] = {{0, 1}, {1, 2}, {2, 7}, {7, 8}, {8, 300}, {9, 200}, {255, 256}, {300, 301}, {305, 512}, {0, 3}, {511, 700}, {699, 700}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        assert_present(log, &tree, steps[i].index, steps[i].size, &tree, "");
    assert_int_equal(connect_log_size(log), 700);
    assert_null(connect_log_fork(log));
    connect_log_close(log);
    EVP_PKEY_free(tree.private_key);
    empty_folder();
}

/* What follows directly is shown by its own path. */
static void test_without_tiles(void **state)
{
    static struct tree tree, none;
    struct connect_problem problem;
    unsigned wanted;
    open_tree(&tree, "log.example/a");
    grow(&tree, 300, 1);
    for (uint64_t size = 1; size < 40; size++)
        for (uint64_t more = 1; more < 20; more++) {
            struct connect_log *log = open_log(&tree);
            present(log, &tree, size - 1, size, &none, &wanted, &problem);
            present(log, &tree, size, size + more, &none, &wanted, &problem);
            assert_string_equal(problem.check, "");
            assert_int_equal(wanted, 0);
            assert_int_equal(connect_log_size(log), size + more);
            connect_log_close(log);
        }
    EVP_PKEY_free(tree.private_key);
    empty_folder();
}

/* Another tree under the same key, presented after the first one's `size` leaves. */
static void check_fork(uint64_t same, uint64_t size, uint64_t index, uint64_t presented, const char *expected)
{
    static struct tree tree, other;
    open_tree(&tree, "log.example/a");
    open_tree(&other, "log.example/a");
    grow(&tree, size, 1);
    grow(&other, same, 1);
    grow(&other, presented, 2);
    struct connect_log *log = open_log(&tree);
    assert_present(log, &tree, size - 1, size, &tree, "");
    keep(log);
    connect_log_close(log);
    log = open_log(&tree); /* as after a kill */
    assert_int_equal(connect_log_size(log), size);
    assert_present(log, &other, index, presented, &other, expected);
    int has_forked = strcmp(expected, "log.fork") == 0;
    assert_int_equal(connect_log_fork(log) != NULL, has_forked);
    if (has_forked) {
        connect_log_close(log);
        log = open_log(&tree);
        assert_non_null(connect_log_fork(log));
        assert_int_equal(unlink(connect_log_fork(log)), 0);
        assert_null(connect_log_fork(log));
        assert_present(log, &tree, 0, size, &tree, ""); /* what was known still is */
    }
    connect_log_close(log);
    EVP_PKEY_free(tree.private_key);
    EVP_PKEY_free(other.private_key);
    empty_folder();
}

static void test_forks(void **state)
{
    check_fork(0, 5, 4, 5, "log.fork");       /* two trees of one size */
    check_fork(4, 5, 4, 5, "log.fork");
    check_fork(3, 5, 5, 6, "log.fork");       /* follows other leaves */
    check_fork(3, 5, 5, 90, "log.fork");
    check_fork(3, 5, 4, 5, "log.fork");
    check_fork(0, 300, 2, 5, "log.consistency"); /* shrunk, to whichever history: the larger tree is not shown */
    check_fork(299, 300, 300, 500, "log.fork");
    check_fork(3, 5, 7, 20, "log.fork");      /* by tiles of the other tree */
    check_fork(100, 300, 400, 600, "log.fork");
    check_fork(5, 9, 4, 5, "log.consistency"); /* shrunk, and the tiles of what it was are gone: they may be late */
}

static void test_refused(void **state)
{
    static struct tree tree, other, none;
    open_tree(&tree, "log.example/a");
    open_tree(&other, "log.example/b");
    grow(&tree, 30, 1);
    grow(&other, 30, 1);
    struct connect_log *log = open_log(&tree);
    assert_present(log, &other, 3, 4, &other, "log.checkpoint"); /* another log's name */
    snprintf(other.key.name, sizeof other.key.name, "log.example/a");
    other.key.key[0] ^= 1;
    assert_present(log, &tree, 3, 4, &tree, "");
    memset(tree.leaves[5], 7, 32);
    assert_present(log, &tree, 9, 10, &none, "log.consistency");
    assert_null(connect_log_fork(log)); /* nothing was shown, neither this way nor that */
    connect_log_close(log);
    EVP_PKEY_free(tree.private_key);
    EVP_PKEY_free(other.private_key);
    empty_folder();
}

/* Notes one after the other: the last whole one counts, wherever a loss of power cut the one behind it. */
static void test_notes_that_are_kept(void **state)
{
    static struct tree tree;
    bulla_error error = {0};
    struct buffer both = {0};
    open_tree(&tree, "log.example/a");
    grow(&tree, 9, 1);
    struct connect_log *log = open_log(&tree);
    assert_present(log, &tree, 3, 4, &tree, "");
    buffer_append(&both, connect_log_note(log)->data, connect_log_note(log)->length);
    size_t first = both.length;
    buffer_append_byte(&both, 0);
    assert_present(log, &tree, 7, 8, &tree, "");
    buffer_append(&both, connect_log_note(log)->data, connect_log_note(log)->length);
    for (size_t length = first; length <= both.length; length++) {
        assert_ok(file_write_private(connect_log_path(log), both.data, length, &error), error);
        struct connect_log *again = open_log(&tree);
        assert_int_equal(connect_log_size(again), length == both.length ? 8 : 4);
        assert_int_equal(connect_log_note(again)->length, length == both.length ? both.length - first - 1 : first);
        connect_log_close(again);
    }
    buffer_free(&both);
    connect_log_close(log);
    EVP_PKEY_free(tree.private_key);
    empty_folder();
}

static void test_damaged_file(void **state)
{
    static struct tree tree;
    struct connect_log *log;
    bulla_error error = {0};
    const struct connect_log_options options = {.folder = folder};
    open_tree(&tree, "log.example/a");
    grow(&tree, 5, 1);
    log = open_log(&tree);
    assert_present(log, &tree, 3, 4, &tree, "");
    assert_ok(file_write_private(connect_log_path(log), "damaged", 7, &error), error);
    connect_log_close(log);
    assert_ok(connect_log_open(&options, &log, &error), error);
    assert_int_equal(connect_log_set_key(log, &tree.key, &error), BULLA_E_INPUT); /* and not as if none were known */
    assert_null(connect_log_key(log));
    connect_log_close(log);
    EVP_PKEY_free(tree.private_key);
    empty_folder();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_history), cmocka_unit_test(test_without_tiles), cmocka_unit_test(test_forks),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_damaged_file), cmocka_unit_test(test_notes_that_are_kept),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
