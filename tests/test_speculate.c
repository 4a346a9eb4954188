/* Guesses from the text so far, and how many of them are worth a step. */
#include "test.h"

#include "base/memory.h"
#include "exec/speculate.h"

static uint64_t state = 7;

static uint32_t next_random(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % below);
}

/* --- lookup --- */

static void append_all(struct lookup *lookup, const uint32_t *tokens, size_t count)
{
    for (size_t i = 0; i < count; i++)
        lookup_append(lookup, tokens[i]);
}

static void assert_guesses(const struct lookup *lookup, const uint32_t *tokens, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_int_equal(lookup_guess(lookup, i), tokens[i]);
}

static void what_followed_before(void **unused)
{
    static const uint32_t text[] = {1, 2, 3, 4, 5, 6, 2, 3, 9, 8, 1, 2};
    struct lookup lookup = {0};
    bulla_error error = {0};
    assert_ok(lookup_open(&lookup, 100, &error), error);
    append_all(&lookup, text, 7);
    assert_int_equal(lookup_match(&lookup), 0);
    lookup_append(&lookup, 3);
    assert_int_equal(lookup_match(&lookup), 2); /* 2 3 */
    assert_guesses(&lookup, (const uint32_t[]){4, 5, 6, 2, 3, 4}, 6);
    append_all(&lookup, text + 8, 3);
    assert_int_equal(lookup_match(&lookup), 0);
    lookup_append(&lookup, 2);
    assert_int_equal(lookup_match(&lookup), 2); /* 1 2 */
    lookup_append(&lookup, 3);
    assert_int_equal(lookup_match(&lookup), 3); /* 1 2 3 goes on: not 2 3, which was later */
    assert_guesses(&lookup, (const uint32_t[]){4, 5}, 2);
    append_all(&lookup, (const uint32_t[]){4, 5, 6, 2}, 4);
    assert_int_equal(lookup_match(&lookup), 7);
    append_all(&lookup, (const uint32_t[]){7, 2, 3}, 3);
    assert_int_equal(lookup_match(&lookup), 2);
    assert_int_equal(lookup_guess(&lookup, 0), 4); /* the later of two places */
    lookup_close(&lookup);
}

static void what_repeats_itself_goes_on(void **unused)
{
    struct lookup lookup = {0};
    bulla_error error = {0};
    assert_ok(lookup_open(&lookup, 100, &error), error);
    append_all(&lookup, (const uint32_t[]){9, 5, 5, 5}, 4);
    assert_guesses(&lookup, (const uint32_t[]){5, 5, 5, 5, 5}, 5);
    append_all(&lookup, (const uint32_t[]){1, 2, 3, 1, 2}, 5);
    assert_guesses(&lookup, (const uint32_t[]){3, 1, 2, 3, 1, 2, 3}, 7);
    lookup_close(&lookup);
}

/* The length of the longest match among all earlier places, up to `most`. */
static size_t longest_match(const uint32_t *tokens, size_t count, size_t most)
{
    size_t longest = 0;
    for (size_t end = 1; end < count; end++) {
        size_t length = 0;
        while (length < end && length < most && tokens[end - 1 - length] == tokens[count - 1 - length])
            length++;
        longest = length > longest ? length : longest;
    }
    return longest;
}

/* A match is one; what has stood before is found, but for places that share a slot with later ones. */
static void random_texts(void **unused)
{
    enum { LENGTH = 400 };
    uint32_t tokens[LENGTH];
    size_t missed = 0, there = 0;
    for (uint64_t round = 0; round < test_count(200, 5000); round++) {
        struct lookup lookup = {0};
        bulla_error error = {0};
        uint32_t alphabet = 2 + next_random(30), step = round % 3 ? 1 : 400000007;
        assert_ok(lookup_open(&lookup, LENGTH, &error), error);
        for (size_t count = 1; count <= LENGTH; count++) {
            uint32_t token = next_random(4) && count > 20 ? tokens[count - 20] : next_random(alphabet) * step;
            tokens[count - 1] = token;
            lookup_append(&lookup, token);
            size_t match = lookup_match(&lookup), best = longest_match(tokens, count, LOOKUP_LONGEST);
            assert_true(match == 0 || match >= LOOKUP_SHORTEST);
            for (size_t i = 0; i < match; i++)
                assert_int_equal(tokens[lookup.next - 1 - i], tokens[count - 1 - i]);
            if (match)
                assert_int_equal(lookup_guess(&lookup, 0), tokens[lookup.next]);
            there += best >= LOOKUP_SHORTEST;
            missed += best >= LOOKUP_SHORTEST && match < best;
        }
        lookup_close(&lookup);
    }
    print_message("%zu of %zu matches were missed\n", missed, there);
    assert_true(there > 1000 && missed < there / 10);
}

/* --- how many --- */

/* A text that repeats itself, so that there is always a guess; steps cost `row` more a row. */
struct trial {
    struct speculation speculation;
    double row;
    uint32_t period, at;
};

static void begin(struct trial *trial, uint32_t most, double row)
{
    bulla_error error = {0};
    *trial = (struct trial){.row = row, .period = 7};
    assert_ok(speculation_open(&trial->speculation, 100000, most, 0, &error), error);
    for (; trial->at < 20; trial->at++)
        speculation_prompt(&trial->speculation, trial->at % trial->period);
}

/* One step whose first `right` guesses come true; how many were proposed. */
static uint32_t advance(struct trial *trial, uint64_t room, uint32_t right)
{
    uint32_t ids[SPECULATE_MOST], count = speculation_propose(&trial->speculation, room, ids);
    assert_true(count <= room && count <= SPECULATE_MOST);
    speculation_took(&trial->speculation, 1 + count, 1 + count * trial->row);
    for (uint32_t i = 0; i < count && i < right; i++)
        speculation_drawn(&trial->speculation, ids[i]);
    if (right <= count)
        speculation_drawn(&trial->speculation, 1000 + trial->at++);
    return count;
}

static void cheap_rows(void **unused)
{
    struct trial trial;
    begin(&trial, SPECULATE_MOST, 0.01);
    assert_int_equal(advance(&trial, 100, 100), 0); /* what a step takes is not known yet */
    for (int i = 0; i < 20; i++)
        advance(&trial, 100, 100);
    assert_int_equal(advance(&trial, 100, 100), SPECULATE_MOST);
    assert_int_equal(advance(&trial, 5, 100), 5);
    assert_int_equal(advance(&trial, 0, 100), 0);
    speculation_close(&trial.speculation);
    begin(&trial, 3, 0.01);
    for (int i = 0; i < 20; i++)
        advance(&trial, 100, 100);
    assert_int_equal(advance(&trial, 100, 100), 3);
    speculation_close(&trial.speculation);
    begin(&trial, 0, 0.01);
    for (int i = 0; i < 20; i++)
        assert_int_equal(advance(&trial, 100, 100), 0);
    speculation_close(&trial.speculation);
}

/* Guesses that are always right, rows that cost as much as steps: soon nothing is proposed. */
static void dear_rows(void **unused)
{
    struct trial trial;
    uint32_t proposed = 0;
    begin(&trial, SPECULATE_MOST, 1);
    for (int i = 0; i < 100; i++) {
        uint32_t ids[SPECULATE_MOST], count = speculation_propose(&trial.speculation, 100, ids);
        speculation_took(&trial.speculation, 1 + count, 1 + count * trial.row);
        proposed += count;
        for (uint32_t j = 0; j <= count; j++)
            speculation_drawn(&trial.speculation, trial.at++ % trial.period);
    }
    assert_true(proposed > 0 && proposed < 8);
    speculation_close(&trial.speculation);
}

/* Guesses of a kind that is always wrong, from matches of four here, are not made any more; others are. */
static void wrong_guesses(void **unused)
{
    struct speculation speculation;
    bulla_error error = {0};
    uint32_t ids[SPECULATE_MOST], wrong[2] = {0}, right = 0;
    assert_ok(speculation_open(&speculation, 10000, SPECULATE_MOST, 0, &error), error);
    for (uint32_t i = 0; i < 500; i++) {
        uint32_t count = speculation_propose(&speculation, 100, ids);
        speculation_took(&speculation, 1 + count, 1 + 0.2 * count);
        if (lookup_match(&speculation.lookup) >= 4)
            wrong[i >= 250] += count;
        else
            right += count;
        speculation_drawn(&speculation, i % 5 ? i % 5 : 10 + i); /* 1 2 3 4 x 1 2 3 4 y */
    }
    assert_true(wrong[0] > 0 && right > 100);
    assert_int_equal(wrong[1], 0);
    speculation_close(&speculation);
}

/* A step that took long by mishap keeps its number of rows from being tried, but not for ever. */
static void a_mishap(void **unused)
{
    struct trial trial;
    uint32_t ids[SPECULATE_MOST];
    begin(&trial, 1, 0.01);
    speculation_took(&trial.speculation, 1, 1);
    assert_int_equal(speculation_propose(&trial.speculation, 100, ids), 1);
    speculation_took(&trial.speculation, 2, 50);
    int steps = 0;
    for (; speculation_propose(&trial.speculation, 100, ids) == 0; steps++) {
        speculation_took(&trial.speculation, 1, steps == 3 ? 80 : 1);
        assert_true(steps < 1000);
    }
    assert_true(steps > 20);
    for (int i = 0; i < 10; i++)
        speculation_took(&trial.speculation, 2, i == 4 ? 50 : 1.1);
    assert_int_equal(speculation_propose(&trial.speculation, 100, ids), 1);
    speculation_close(&trial.speculation);
}

static void allocation_failures(void **unused)
{
    int done = 0;
    for (uint64_t n = 1; !done; n++) {
        bulla_error error = {0};
        struct speculation speculation;
        memory_inject_failure(n, 0);
        int code = speculation_open(&speculation, 1000, SPECULATE_MOST, 0, &error);
        memory_inject_failure(0, 0);
        done = code == BULLA_OK;
        assert_true(done || (code == BULLA_E_MEMORY && error.code == BULLA_E_MEMORY));
        speculation_close(&speculation);
        assert_true(n < 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_followed_before), cmocka_unit_test(what_repeats_itself_goes_on),
        cmocka_unit_test(random_texts),         cmocka_unit_test(cheap_rows),
        cmocka_unit_test(dear_rows),            cmocka_unit_test(wrong_guesses),
        cmocka_unit_test(a_mishap),             cmocka_unit_test(allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
