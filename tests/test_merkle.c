/* src/base/merkle.h against RFC 6962 section 2.1 written down recursively. */
#include "test.h"

#include "base/hash.h"
#include "base/memory.h"
#include "base/merkle_data.h"

enum { LARGEST = 70 };

static uint8_t data[LARGEST * MERKLE_LEAF];

static void fill_data(void)
{
    uint32_t state = 1;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)((state = state * 1664525 + 1013904223) >> 24);
}

/* MTH of the RFC: D[n] are leaves of 1,024 bytes, the last one shorter. */
static void tree_hash(const uint8_t *leaves, size_t length, uint8_t hash[32])
{
    static uint8_t bytes[1 + MERKLE_LEAF];
    size_t n = (length + MERKLE_LEAF - 1) / MERKLE_LEAF, k = 1;
    if (n == 0) {
        assert_int_equal(hash_sha256("", 0, hash, NULL), BULLA_OK);
        return;
    }
    if (n == 1) {
        bytes[0] = 0;
        memcpy(bytes + 1, leaves, length);
        assert_int_equal(hash_sha256(bytes, 1 + length, hash, NULL), BULLA_OK);
        return;
    }
    while (2 * k < n)
        k *= 2;
    uint8_t node[65] = {1};
    tree_hash(leaves, k * MERKLE_LEAF, node + 1);
    tree_hash(leaves + k * MERKLE_LEAF, length - k * MERKLE_LEAF, node + 33);
    assert_int_equal(hash_sha256(node, 65, hash, NULL), BULLA_OK);
}

/* Beyond what one thread takes at a time: 256 leaves. */
static void test_large_roots(void **state)
{
    static const size_t sizes[] = {255, 256, 257, 511, 512, 513, 700, 1025};
    uint8_t *large = memory_alloc(1025 * MERKLE_LEAF, 1, NULL), *hashes = memory_alloc(1025, 32, NULL);
    struct thread_team *team;
    bulla_error error = {0};
    assert_ok(thread_team_start(2, &team, &error), error);
    for (size_t i = 0; i < 1025 * MERKLE_LEAF; i++)
        large[i] = data[i % sizeof data] ^ (uint8_t)(i / sizeof data);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (size_t less = 0; less < 2000; less += 777) {
            uint8_t expected[32], root[32];
            size_t length = sizes[i] * MERKLE_LEAF - less;
            tree_hash(large, length, expected);
            assert_ok(merkle_data_root(large, length, team, root, &error), error);
            assert_memory_equal(root, expected, 32);
            assert_ok(merkle_leaf_hashes(large, length, team, hashes, &error), error);
            assert_ok(merkle_root(hashes, (length + MERKLE_LEAF - 1) / MERKLE_LEAF, root, &error), error);
            assert_memory_equal(root, expected, 32);
        }
    thread_team_stop(team);
    memory_free(large);
    memory_free(hashes);
}

/* PATH(m, D[n]) of section 2.1.1, appended from the leaf upwards. */
static void tree_path(size_t m, const uint8_t *leaves, size_t length, uint8_t path[64][32], unsigned *count)
{
    size_t n = (length + MERKLE_LEAF - 1) / MERKLE_LEAF, k = 1;
    if (n == 1)
        return;
    while (2 * k < n)
        k *= 2;
    size_t half = k * MERKLE_LEAF;
    if (m < k) {
        tree_path(m, leaves, half, path, count);
        tree_hash(leaves + half, length - half, path[(*count)++]);
    } else {
        tree_path(m - k, leaves + half, length - half, path, count);
        tree_hash(leaves, half, path[(*count)++]);
    }
}

static void library_root(size_t length, struct thread_team *team, uint8_t root[32])
{
    bulla_error error = {0};
    uint8_t hashes[LARGEST * 32];
    assert_ok(merkle_leaf_hashes(data, length, team, hashes, &error), error);
    assert_ok(merkle_root(hashes, (length + MERKLE_LEAF - 1) / MERKLE_LEAF, root, &error), error);
    uint8_t direct[32];
    assert_ok(merkle_data_root(data, length, team, direct, &error), error);
    assert_memory_equal(direct, root, 32);
}

static void test_roots(void **state)
{
    static const size_t over[] = {0, 1, 63, 511, 1023};
    struct thread_team *team;
    bulla_error error = {0};
    assert_ok(thread_team_start(3, &team, &error), error);
    for (size_t leaves = 0; leaves <= LARGEST; leaves++)
        for (size_t i = 0; i < sizeof over / sizeof over[0]; i++) {
            uint8_t expected[32], alone[32], together[32];
            size_t length = leaves * MERKLE_LEAF + over[i];
            if (length > sizeof data)
                continue;
            tree_hash(data, length, expected);
            library_root(length, NULL, alone);
            library_root(length, team, together);
            assert_memory_equal(alone, expected, 32);
            assert_memory_equal(together, expected, 32);
        }
    thread_team_stop(team);
}

static void test_paths(void **state)
{
    size_t verified = 0;
    for (size_t count = 1; count <= LARGEST; count++) {
        size_t length = count * MERKLE_LEAF - 5 * count; /* no multiple of a leaf */
        if ((length + MERKLE_LEAF - 1) / MERKLE_LEAF != count)
            length = count * MERKLE_LEAF;
        uint8_t hashes[LARGEST * 32], root[32], path[64][32], expected[64][32];
        bulla_error error = {0};
        assert_ok(merkle_leaf_hashes(data, length, NULL, hashes, &error), error);
        tree_hash(data, length, root);
        for (size_t index = 0; index < count; index++) {
            unsigned used, wanted = 0;
            assert_ok(merkle_path(hashes, count, index, path, &used, &error), error);
            tree_path(index, data, length, expected, &wanted);
            assert_int_equal(used, wanted);
            assert_memory_equal(path, expected, 32 * used);
            const uint8_t *leaf = hashes + 32 * index;
            assert_int_equal(merkle_path_verify(leaf, index, count, path[0], used, root, &error), 1);
            verified++;
            /* another place, a longer or shorter path, another size */
            if (count > 1) {
                assert_int_equal(merkle_path_verify(leaf, (index + 1) % count, count, path[0], used, root, &error), 0);
                assert_int_equal(merkle_path_verify(leaf, index, count, path[0], used - 1, root, &error), 0);
            }
            assert_int_equal(merkle_path_verify(leaf, index, count, path[0], used + 1, root, &error), 0);
            assert_int_equal(merkle_path_verify(leaf, index, 2 * count + 1, path[0], used, root, &error), 0);
            assert_int_equal(merkle_path_verify(leaf, index, UINT64_MAX, path[0], used, root, &error), 0);
            assert_int_equal(merkle_path_verify(leaf, count, count, path[0], used, root, &error), 0);
        }
    }
    print_message("%zu paths verified\n", verified);
}

/* Every bit of leaf, path and root counts. */
static void test_changed_bits(void **state)
{
    uint8_t hashes[13 * 32], root[32], path[64][32];
    unsigned used;
    bulla_error error = {0};
    size_t length = 12 * MERKLE_LEAF + 100;
    assert_ok(merkle_leaf_hashes(data, length, NULL, hashes, &error), error);
    tree_hash(data, length, root);
    assert_ok(merkle_path(hashes, 13, 9, path, &used, &error), error);
    for (unsigned bit = 0; bit < 256; bit++) {
        uint8_t *places[] = {root, hashes + 9 * 32, path[0], path[used - 1]};
        for (int i = 0; i < 4; i++) {
            places[i][bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(merkle_path_verify(hashes + 9 * 32, 9, 13, path[0], used, root, &error), 0);
            places[i][bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
    assert_int_equal(merkle_path_verify(hashes + 9 * 32, 9, 13, path[0], used, root, &error), 1);
    for (size_t at = 0; at < length; at += 97) {
        uint8_t changed[32];
        data[at] ^= 16;
        library_root(length, NULL, changed);
        data[at] ^= 16;
        assert_memory_not_equal(changed, root, 32);
    }
}

static void test_failures(void **state)
{
    uint8_t hashes[3 * 32], root[32], path[64][32];
    unsigned used;
    assert_int_equal(merkle_leaf_hashes(data, 3 * MERKLE_LEAF, NULL, hashes, NULL), BULLA_OK);
    bulla_error error = {0};
    assert_int_equal(merkle_path(hashes, 3, 3, path, &used, &error), BULLA_E_USAGE);
    for (uint64_t n = 1; n <= 2; n++) {
        bulla_error_clear(&error);
        memory_inject_failure(n, 0);
        assert_int_equal(merkle_leaf_hashes(data, 3 * MERKLE_LEAF, NULL, hashes, &error), BULLA_E_MEMORY);
        assert_int_equal(error.code, BULLA_E_MEMORY);
        bulla_error_clear(&error);
        memory_inject_failure(n, 0);
        assert_int_equal(merkle_path(hashes, 3, 1, path, &used, &error), BULLA_E_MEMORY);
    }
    bulla_error_clear(&error);
    memory_inject_failure(1, 0);
    assert_int_equal(merkle_path_verify(hashes, 0, 1, path[0], 0, hashes, &error), 0);
    assert_int_equal(error.code, BULLA_E_MEMORY);
    memory_inject_failure(1, 0);
    assert_int_equal(merkle_root(hashes, 3, root, &error), BULLA_E_MEMORY);
    for (uint64_t n = 1; n <= 4; n++) {
        bulla_error_clear(&error);
        memory_inject_failure(n, 0);
        assert_int_equal(merkle_data_root(data, 3 * MERKLE_LEAF, NULL, root, &error), BULLA_E_MEMORY);
    }
    memory_inject_failure(0, 0);
}

/* PROOF and SUBPROOF of RFC 9162 section 2.1.4.1, over D[first of leaves, last of them), written down recursively. */
static unsigned subproof(size_t m, const uint8_t *leaves, size_t n, int is_whole, uint8_t (*proof)[32])
{
    size_t k = 1;
    if (m == n) {
        if (is_whole)
            return 0;
        tree_hash(leaves, n * MERKLE_LEAF, proof[0]);
        return 1;
    }
    while (2 * k < n)
        k *= 2;
    unsigned count;
    if (m <= k) {
        count = subproof(m, leaves, k, is_whole, proof);
        tree_hash(leaves + k * MERKLE_LEAF, (n - k) * MERKLE_LEAF, proof[count]);
    } else {
        count = subproof(m - k, leaves + k * MERKLE_LEAF, n - k, 0, proof);
        tree_hash(leaves, k * MERKLE_LEAF, proof[count]);
    }
    return count + 1;
}

static void test_consistency(void **state)
{
    uint8_t proof[64][32], roots[LARGEST + 1][32];
    bulla_error error = {0};
    size_t changed = 0;
    for (size_t n = 0; n <= LARGEST; n++)
        tree_hash(data, n * MERKLE_LEAF, roots[n]);
    for (size_t n = 0; n <= LARGEST; n++)
        for (size_t m = 0; m <= n; m++) {
            unsigned length = m == 0 ? 0 : subproof(m, data, n, 1, proof);
            assert_true(merkle_consistency_verify(m, roots[m], n, roots[n], proof[0], length, &error));
            if (m == 0 || m == n)
                continue;
            for (unsigned i = 0; i < length; i++, changed++) {
                proof[i][i % 32] ^= 1;
                assert_false(merkle_consistency_verify(m, roots[m], n, roots[n], proof[0], length, &error));
                proof[i][i % 32] ^= 1;
            }
            assert_false(merkle_consistency_verify(m, roots[m], n, roots[n], proof[0], length - 1, &error));
            assert_false(merkle_consistency_verify(m, roots[m], n, roots[n], proof[0], length + 1, &error));
            assert_false(merkle_consistency_verify(m, roots[m - 1], n, roots[n], proof[0], length, &error));
            assert_false(merkle_consistency_verify(m, roots[m], n, roots[m], proof[0], length, &error));
            assert_false(merkle_consistency_verify(n, roots[n], m, roots[m], proof[0], length, &error));
        }
    assert_int_equal(error.code, BULLA_OK);
    print_message("%zu changed hashes of proofs refused\n", changed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_consistency),
        cmocka_unit_test(test_roots),
        cmocka_unit_test(test_large_roots),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_changed_bits),
        cmocka_unit_test(test_failures),
    };
    fill_data();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
