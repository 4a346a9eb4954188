#include "test.h"

#include "base/memory.h"
#include "bulla/tokenizer.h"
#include "model/unicode.h"
#include "tokenizer_samples.h"

struct sample {
    struct buffer block;
    bulla_tokenizer *tokenizer;
};

static struct sample sample_open(uint32_t algorithm, uint32_t split, uint32_t flags)
{
    struct sample sample = {0};
    bulla_error error = {0};
    assert_ok(sample_build(algorithm, split, flags, &sample.block, &error), error);
    assert_ok(bulla_tokenizer_open(sample.block.data, sample.block.length, &sample.tokenizer, &error), error);
    return sample;
}

static void sample_close(struct sample *sample)
{
    bulla_tokenizer_close(sample->tokenizer);
    buffer_free(&sample->block);
}

/* The tokens of a text, each spelled, with '|' between them. */
static void expect_tokens(const struct sample *sample, const char *text, size_t length, unsigned flags,
                          const char *expected)
{
    bulla_error error = {0};
    struct buffer found = {0};
    uint32_t *ids;
    size_t count;
    assert_ok(bulla_tokenizer_encode(sample->tokenizer, text, length, flags, 1000, &ids, &count, &error), error);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *bytes;
        size_t spelled;
        assert_int_equal(bulla_tokenizer_token_bytes(sample->tokenizer, ids[i], &bytes, &spelled), BULLA_OK);
        if (i > 0)
            buffer_append_byte(&found, '|');
        buffer_append(&found, bytes, spelled);
    }
    buffer_append_text(&found, "");
    assert_string_equal((const char *)found.data, expected);
    buffer_free(&found);
    bulla_tokens_free(ids);
}

static void expect(const struct sample *sample, const char *text, unsigned flags, const char *expected)
{
    expect_tokens(sample, text, strlen(text), flags, expected);
}

static void byte_level_merges_by_rank_and_within_words(void **state)
{
    (void)state;
    struct sample sample = sample_open(TOKENIZER_BYTE_LEVEL, TOKENIZER_SPLIT_GPT2, 0);
    expect(&sample, "", 0, "");
    expect(&sample, "low lower newest", 0, "low| lower| |new|e|s|t");
    expect(&sample, "the  low", 0, "the| | low");
    expect(&sample, "xyz", 0, "x|y|z"); /* no merges lead to it */
    expect(&sample, "\xC3\xA9", 0, "\xC3|\xA9");
    sample_close(&sample);
}

static void whole_words_win_over_merges(void **state)
{
    (void)state;
    struct sample sample = sample_open(TOKENIZER_BYTE_LEVEL, TOKENIZER_SPLIT_GPT2, TOKENIZER_WHOLE_WORDS);
    expect(&sample, "xyz", 0, "xyz");
    expect(&sample, "xyzt", 0, "x|y|z|t");
    sample_close(&sample);
}

static void control_tokens_only_where_asked(void **state)
{
    (void)state;
    struct sample sample =
        sample_open(TOKENIZER_BYTE_LEVEL, TOKENIZER_SPLIT_NONE, TOKENIZER_ADD_START | TOKENIZER_ADD_END);
    expect(&sample, "<s>x<b>", 0, "<|s|>|x|<b>");
    expect(&sample, "<s>x<b>", BULLA_ENCODE_SPECIAL, "<s>|x|<b>");
    expect(&sample, "x", BULLA_ENCODE_START, "<s>|x|<end>");
    expect(&sample, "", BULLA_ENCODE_START, "<s>|<end>");
    expect(&sample, "a \t<left> b", BULLA_ENCODE_SPECIAL, "a|<left>| |b");
    expect(&sample, "a <right>\n \xE3\x80\x80 b", BULLA_ENCODE_SPECIAL, "a| |<right>|b");
    expect(&sample, "<right> <left>", BULLA_ENCODE_SPECIAL, "<right>|<left>");
    expect(&sample, "a\n\n\nb", 0, "a|\n\n|\n|b");
    expect(&sample, "sun sunny", 0, "sun| |s|u|n|n|y");
    expect(&sample, "<lef<left>", BULLA_ENCODE_SPECIAL, "<|l|e|f|<left>");
    sample_close(&sample);
}

static void sentencepiece_prefixes_and_falls_back(void **state)
{
    (void)state;
    struct sample sample = sample_open(TOKENIZER_SENTENCEPIECE, TOKENIZER_SPLIT_NONE,
                                       TOKENIZER_PREFIX | TOKENIZER_STRIP_FIRST | TOKENIZER_FUSE_UNKNOWN);
    expect(&sample, "low lower", 0, " low| lower");
    expect(&sample, "\xE2\x96\x81low", 0, " | low");
    expect(&sample, "\xE4\xBD\xA0", 0, " |\xE4|\xBD|\xA0");
    expect(&sample, "a<s>low", BULLA_ENCODE_SPECIAL, " |a|<s>| low");
    expect(&sample, "low er", 0, " low| |er"); /* " low" is ranked before "low er" */
    sample_close(&sample);
    sample = sample_open(TOKENIZER_SENTENCEPIECE, TOKENIZER_SPLIT_NONE,
                         TOKENIZER_PREFIX | TOKENIZER_PREFIX_FIRST | TOKENIZER_PREFIX_UNLESS);
    expect(&sample, "low<s>low", BULLA_ENCODE_SPECIAL, " low|<s>|low");
    expect(&sample, " low", 0, " low");
    sample_close(&sample);
}

static void invalid_utf8_becomes_replacement_characters(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t replaced; /* characters U+FFFD, nothing else comes out */
    } cases[] = {
        {"\x80", 1}, {"\xC0\xAF", 2}, {"\xE2\x82", 1}, {"\xED\xA0\x80", 3}, {"\xF0\x9F\x98", 1},
        {"\xF4\x90\x80\x80", 4}, {"\xE0\x80", 2}, {"\xF8\x88", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer out = {0};
        unicode_append_well_formed(&out, cases[i].text, strlen(cases[i].text));
        assert_int_equal(out.length, 3 * cases[i].replaced);
        for (size_t at = 0; at < out.length; at += 3)
            assert_memory_equal(out.data + at, "\xEF\xBF\xBD", 3);
        buffer_free(&out);
    }
    struct sample sample = sample_open(TOKENIZER_BYTE_LEVEL, TOKENIZER_SPLIT_NONE, 0);
    expect(&sample, "a\xFFz", 0, "a|\xEF|\xBF|\xBD|z");
    expect_tokens(&sample, "a\0z", 3, 0, "a|");
    sample_close(&sample);
}

static void splits_into_words(void **state)
{
    (void)state;
    static const struct {
        uint32_t split;
        const char *text, *words;
    } cases[] = {
        {TOKENIZER_SPLIT_GPT2, "it's  a test123 !?\n\n x ", "it|'s| | a| test|123| !?|\n\n| x| "},
        {TOKENIZER_SPLIT_GPT2, "A'LL \xC2\xB2", "A|'|LL| \xC2\xB2"},
        {TOKENIZER_SPLIT_SMOLLM, "ab 12  3  c", "ab| |1|2|  |3| | c"},
        {TOKENIZER_SPLIT_LLAMA3, "I'LL 12345 (word)!\n\n  x\t\ty", "I|'LL| |123|45| (|word|)!\n\n| | x|\t|\ty"},
        {TOKENIZER_SPLIT_LLAMA3, "a \n \n  b'\xC5\xBF", "a| \n \n| | b|'\xC5\xBF"},
        {TOKENIZER_SPLIT_QWEN2, "x12", "x|1|2"},
        {TOKENIZER_SPLIT_QWEN2, "q\xCC\x87z", "q|\xCC\x87z"},
        {TOKENIZER_SPLIT_QWEN35, "q\xCC\x87z", "q\xCC\x87z"},
        {TOKENIZER_SPLIT_TEKKEN, "HTTPServer fooBar ABC a/b//\n1", "HTTPServer| foo|Bar| ABC| a|/b|//\n|1"},
        {TOKENIZER_SPLIT_TEKKEN, "\xC2\xAA" "AB", "\xC2\xAA|AB"},
        {TOKENIZER_SPLIT_GPT4O, "Don't WE'LL 1234", "Don't| WE'LL| |123|4"},
        {TOKENIZER_SPLIT_SPACES, "a b  c", "a| b| | c"},
        {TOKENIZER_SPLIT_NONE, "a b", "a b"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer found = {0};
        size_t length = strlen(cases[i].text), segment = 0;
        for (size_t offset = 0; offset < length;) {
            size_t end = tokenizer_next_word(cases[i].split, cases[i].text, length, offset, &segment);
            assert_true(end > offset && end <= length);
            buffer_append_format(&found, "%s%.*s", offset ? "|" : "", (int)(end - offset), cases[i].text + offset);
            offset = end;
        }
        assert_string_equal((const char *)found.data, cases[i].words);
        buffer_free(&found);
    }
}

static void normalises_to_nfc(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"abc", "abc"},
        {"e\xCC\x81", "\xC3\xA9"},
        {"a\xCC\x88\xCC\xA3", "\xE1\xBA\xA1\xCC\x88"},             /* marks in order of their class */
        {"\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "\xED\x95\x9C"},  /* Hangul */
        {"\xED\x95\x98\xE1\x86\xAB", "\xED\x95\x9C"},
        {"\xE2\x84\xAB", "\xC3\x85"},                              /* Angstrom sign */
        {"\xE0\xA4\x95\xE0\xA4\xBC", "\xE0\xA4\x95\xE0\xA4\xBC"},  /* a composition exclusion */
        {"\xCD\x84", "\xCC\x88\xCC\x81"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer out = {0};
        unicode_append_nfc(&out, cases[i][0], strlen(cases[i][0]));
        assert_string_equal((const char *)out.data, cases[i][1]);
        buffer_free(&out);
    }
}

static void decodes_and_streams(void **state)
{
    (void)state;
    struct sample sample = sample_open(TOKENIZER_SENTENCEPIECE, TOKENIZER_SPLIT_NONE,
                                       TOKENIZER_PREFIX | TOKENIZER_STRIP_FIRST);
    const uint32_t ids[] = {SAMPLE_START, SAMPLE_FIRST + 3, 0xF0, 0x9F, 0x98, 0x80,
                            0xE4,         SAMPLE_FIRST,     0xBD, 0xE4, 0xBD};
    static const char *const pieces[] = {"", "low",             "", "", "", "\xF0\x9F\x98\x80",
                                         "", "\xEF\xBF\xBDlo", "\xEF\xBF\xBD", "", ""};
    bulla_error error = {0};
    bulla_text_stream stream = {0};
    char *text, out[64];
    size_t length, count = sizeof ids / sizeof *ids;
    for (size_t i = 0; i < count; i++) {
        size_t used = bulla_text_stream_push(sample.tokenizer, &stream, ids[i], out, sizeof out);
        assert_int_equal(used, strlen(pieces[i]));
        assert_memory_equal(out, pieces[i], used);
    }
    assert_int_equal(bulla_text_stream_end(&stream, out, sizeof out), 3);
    assert_int_equal(bulla_text_stream_end(&stream, out, sizeof out), 0);
    assert_ok(bulla_tokenizer_decode(sample.tokenizer, ids, count, 0, &text, &length, &error), error);
    assert_string_equal(text, "low\xF0\x9F\x98\x80\xEF\xBF\xBDlo\xEF\xBF\xBD\xEF\xBF\xBD");
    bulla_text_free(text);
    assert_ok(bulla_tokenizer_decode(sample.tokenizer, ids, 2, 1, &text, &length, &error), error);
    assert_string_equal(text, "<s>low");
    bulla_text_free(text);
    const uint32_t beyond[] = {SAMPLE_IDS};
    assert_int_equal(bulla_tokenizer_decode(sample.tokenizer, beyond, 1, 0, &text, &length, &error), BULLA_E_USAGE);
    assert_int_equal(bulla_text_stream_push(sample.tokenizer, &stream, SAMPLE_IDS, out, sizeof out), 0);
    sample_close(&sample);
}

static void answers_about_tokens(void **state)
{
    (void)state;
    struct sample sample = sample_open(TOKENIZER_BYTE_LEVEL, TOKENIZER_SPLIT_NONE, TOKENIZER_ADD_START);
    const bulla_tokenizer *tokenizer = sample.tokenizer;
    assert_int_equal(bulla_tokenizer_vocabulary(tokenizer), SAMPLE_IDS);
    assert_int_equal(bulla_tokenizer_find(tokenizer, "<end>", 5), SAMPLE_END);
    assert_int_equal(bulla_tokenizer_find(tokenizer, "lower", 5), -1);
    assert_true(bulla_tokenizer_is_end(tokenizer, SAMPLE_END));
    assert_false(bulla_tokenizer_is_end(tokenizer, SAMPLE_START));
    assert_true(bulla_tokenizer_is_control(tokenizer, SAMPLE_START));
    assert_false(bulla_tokenizer_is_control(tokenizer, SAMPLE_TAG));
    assert_true(bulla_tokenizer_is_control(tokenizer, SAMPLE_IDS));
    assert_int_equal(bulla_tokenizer_start_token(tokenizer), SAMPLE_START);
    assert_int_equal(bulla_tokenizer_end_token(tokenizer), SAMPLE_END);
    assert_true(bulla_tokenizer_adds_start(tokenizer));
    sample_close(&sample);
}

static void stops_at_the_limit(void **state)
{
    (void)state;
    struct sample sample = sample_open(TOKENIZER_BYTE_LEVEL, TOKENIZER_SPLIT_NONE, 0);
    bulla_error error = {0};
    uint32_t *ids;
    size_t count;
    assert_int_equal(bulla_tokenizer_encode(sample.tokenizer, "abcd", 4, 0, 3, &ids, &count, &error), BULLA_E_LIMIT);
    assert_non_null(strstr(error.text, "3 tokens"));
    assert_null(ids);
    sample_close(&sample);
}

/* Long runs are where a careless algorithm takes quadratic time; the test's own time limit notices. */
static void takes_long_runs(void **state)
{
    (void)state;
    enum { BYTES = 1 << 18 };
    static const char *const runs[] = {"low", "\n", " ", "\xCC\x81", "<", "A", "\xC2\xAA\x41"};
    char *text = memory_alloc(BYTES, 1, NULL);
    for (uint32_t split = 0; split < TOKENIZER_SPLIT_COUNT; split++) {
        uint32_t algorithm = split ? TOKENIZER_BYTE_LEVEL : TOKENIZER_SENTENCEPIECE;
        struct sample sample = sample_open(algorithm, split, TOKENIZER_NFC);
        for (size_t run = 0; run < sizeof runs / sizeof *runs; run++) {
            bulla_error error = {0};
            uint32_t *ids;
            size_t count, length = strlen(runs[run]);
            for (size_t i = 0; i < BYTES; i++)
                text[i] = runs[run][i % length];
            assert_ok(bulla_tokenizer_encode(sample.tokenizer, text, BYTES / 12 * 12, 0, BYTES, &ids, &count, &error),
                      error);
            bulla_tokens_free(ids);
        }
        sample_close(&sample);
    }
    memory_free(text);
}

enum { LONG_BYTES = 20000 };

/* Byte-pair encoding as it is defined: each time the whole text is looked through for the lowest rank. */
static size_t merge_plainly(const bulla_tokenizer *tokenizer, uint32_t *ids, size_t count)
{
    uint32_t *ranks = memory_alloc(count, sizeof *ranks, NULL), *results = memory_alloc(count, sizeof *results, NULL);
    for (size_t at = 0; at < count; at++)
        if (at + 1 == count || !tokenizer_find_merge(tokenizer, ids[at], ids[at + 1], &ranks[at], &results[at]))
            ranks[at] = UINT32_MAX;
    for (;;) {
        size_t best = 0;
        for (size_t at = 1; at < count; at++)
            best = ranks[at] < ranks[best] ? at : best;
        if (ranks[best] == UINT32_MAX)
            break;
        ids[best] = results[best];
        count--;
        memmove(ids + best + 1, ids + best + 2, (count - best - 1) * sizeof *ids);
        memmove(ranks + best + 1, ranks + best + 2, (count - best - 1) * sizeof *ranks);
        memmove(results + best + 1, results + best + 2, (count - best - 1) * sizeof *results);
        for (size_t at = best ? best - 1 : 0; at <= best; at++)
            if (at + 1 == count || !tokenizer_find_merge(tokenizer, ids[at], ids[at + 1], &ranks[at], &results[at]))
                ranks[at] = UINT32_MAX;
    }
    memory_free(ranks);
    memory_free(results);
    return count;
}

static void write_long_word(char *text, uint64_t seed)
{
    static const char *const parts[] = {"lo", "w", "er", "ne", "  ", "th", "e", "lowe", "r", "xyz", "n", "ew"};
    for (size_t length = 0; length < LONG_BYTES;) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
        const char *part = parts[(seed >> 33) % (seed >> 60 ? sizeof parts / sizeof *parts : 2)];
        for (size_t i = 0; part[i] && length < LONG_BYTES; i++)
            text[length++] = part[i];
    }
}

/* A word that is so long that its merges wait by rank, some of which make others of lower ranks. */
static void long_words_merge_by_rank_too(void **state)
{
    (void)state;
    static char text[LONG_BYTES + 8];
    static uint32_t plain[LONG_BYTES];
    struct sample sample = sample_open(TOKENIZER_BYTE_LEVEL, TOKENIZER_SPLIT_NONE, 0);
    for (uint64_t seed = 1; seed < test_count(4, 40); seed++) {
        bulla_error error = {0};
        uint32_t *ids;
        size_t count;
        write_long_word(text, seed);
        for (size_t i = 0; i < LONG_BYTES; i++)
            plain[i] = (uint8_t)text[i];
        size_t expected = merge_plainly(sample.tokenizer, plain, LONG_BYTES);
        assert_ok(bulla_tokenizer_encode(sample.tokenizer, text, LONG_BYTES, 0, SIZE_MAX, &ids, &count, &error), error);
        assert_int_equal(count, expected);
        assert_memory_equal(ids, plain, count * sizeof *ids);
        assert_true(count < LONG_BYTES * 3 / 4);
        bulla_tokens_free(ids);
    }
    for (uint64_t n = 1;; n++) {
        bulla_error error = {0};
        uint32_t *ids;
        size_t count;
        memory_inject_failure(n, 0);
        int code = bulla_tokenizer_encode(sample.tokenizer, text, LONG_BYTES, 0, SIZE_MAX, &ids, &count, &error);
        memory_inject_failure(0, 0);
        bulla_tokens_free(ids);
        if (code == BULLA_OK)
            break;
        assert_int_equal(code, BULLA_E_MEMORY);
        assert_true(n < 100);
    }
    sample_close(&sample);
}

/* Everything a caller may do with an opened block. */
static void use(const bulla_tokenizer *tokenizer)
{
    static const char text[] = "low lower<s> <left>x<b>\n\nsun \xE4\xBD\xA0\xFF the12";
    bulla_error error = {0};
    uint32_t *ids;
    size_t count, length;
    char *decoded;
    if (bulla_tokenizer_encode(tokenizer, text, sizeof text, BULLA_ENCODE_SPECIAL | BULLA_ENCODE_START, 1000, &ids,
                               &count, &error))
        return;
    assert_ok(bulla_tokenizer_decode(tokenizer, ids, count, 1, &decoded, &length, &error), error);
    bulla_text_free(decoded);
    bulla_tokens_free(ids);
    bulla_tokenizer_find(tokenizer, "<s>", 3);
    bulla_tokenizer_start_token(tokenizer);
}

static void try_block(const uint8_t *block, size_t length)
{
    bulla_error error = {0};
    bulla_tokenizer *tokenizer;
    if (bulla_tokenizer_open(block, length, &tokenizer, &error) == BULLA_OK) {
        use(tokenizer);
        bulla_tokenizer_close(tokenizer);
    } else {
        assert_null(tokenizer);
        assert_true(error.text[0] != 0);
    }
}

static void survives_damage(void **state)
{
    (void)state;
    for (uint32_t algorithm = TOKENIZER_BYTE_LEVEL; algorithm <= TOKENIZER_SENTENCEPIECE; algorithm++) {
        struct sample sample = sample_open(algorithm, TOKENIZER_SPLIT_GPT2, TOKENIZER_WHOLE_WORDS | TOKENIZER_NFC);
        size_t length = sample.block.length;
        static const uint8_t flips[] = {0x01, 0x80, 0xFF, 0x10};
        for (size_t at = 0; at < length; at++) {
            uint8_t *copy = memory_alloc(length, 1, NULL); /* exactly as long, so that a sanitizer sees reads beyond */
            memcpy(copy, sample.block.data, length);
            for (size_t flip = 0; flip < sizeof flips; flip++) {
                copy[at] = sample.block.data[at] ^ flips[flip];
                try_block(copy, length);
            }
            memory_free(copy);
        }
        for (size_t cut = 0; cut < length; cut++) {
            bulla_error error = {0};
            bulla_tokenizer *tokenizer;
            uint8_t *copy = memory_alloc(cut, 1, NULL);
            memcpy(copy, sample.block.data, cut);
            assert_int_not_equal(bulla_tokenizer_open(copy, cut, &tokenizer, &error), BULLA_OK);
            memory_free(copy);
        }
        sample_close(&sample);
    }
}

static int everything(uint32_t algorithm, bulla_error *error)
{
    struct buffer block = {0};
    bulla_tokenizer *tokenizer = NULL;
    uint32_t *ids = NULL;
    char *text = NULL;
    size_t count, length;
    static const char input[] = "low\xFF e\xCC\x81<s> lower newest low er";
    uint32_t split = algorithm == TOKENIZER_BYTE_LEVEL ? TOKENIZER_SPLIT_LLAMA3 : TOKENIZER_SPLIT_NONE;
    int code = sample_build(algorithm, split, TOKENIZER_NFC | TOKENIZER_WHOLE_WORDS, &block, error) ||
               bulla_tokenizer_open(block.data, block.length, &tokenizer, error) ||
               bulla_tokenizer_encode(tokenizer, input, sizeof input, BULLA_ENCODE_SPECIAL, 100, &ids, &count, error) ||
               bulla_tokenizer_decode(tokenizer, ids, count, 1, &text, &length, error);
    bulla_text_free(text);
    bulla_tokens_free(ids);
    bulla_tokenizer_close(tokenizer);
    buffer_free(&block);
    return code ? error->code : BULLA_OK;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (uint32_t algorithm = TOKENIZER_BYTE_LEVEL; algorithm <= TOKENIZER_SENTENCEPIECE; algorithm++) {
        bulla_error error = {0};
        uint64_t before = memory_allocation_count();
        assert_ok(everything(algorithm, &error), error);
        uint64_t allocations = memory_allocation_count() - before;
        for (int keep = 0; keep < 2; keep++) {
            for (uint64_t n = 1; n <= allocations; n++) {
                bulla_error_clear(&error);
                memory_inject_failure(n, keep);
                int code = everything(algorithm, &error);
                memory_inject_failure(0, 0);
                assert_int_equal(code, BULLA_E_MEMORY);
            }
        }
    }
}

static void one_tokenizer_has_one_block(void **state)
{
    (void)state;
    struct sample first = sample_open(TOKENIZER_SENTENCEPIECE, TOKENIZER_SPLIT_NONE, TOKENIZER_PREFIX);
    struct sample second = sample_open(TOKENIZER_SENTENCEPIECE, TOKENIZER_SPLIT_NONE, TOKENIZER_PREFIX);
    assert_int_equal(first.block.length, second.block.length);
    assert_memory_equal(first.block.data, second.block.data, first.block.length);
    sample_close(&first);
    sample_close(&second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level_merges_by_rank_and_within_words),
        cmocka_unit_test(whole_words_win_over_merges),
        cmocka_unit_test(control_tokens_only_where_asked),
        cmocka_unit_test(sentencepiece_prefixes_and_falls_back),
        cmocka_unit_test(invalid_utf8_becomes_replacement_characters),
        cmocka_unit_test(splits_into_words),
        cmocka_unit_test(normalises_to_nfc),
        cmocka_unit_test(decodes_and_streams),
        cmocka_unit_test(answers_about_tokens),
        cmocka_unit_test(stops_at_the_limit),
        cmocka_unit_test(takes_long_runs),
        cmocka_unit_test(long_words_merge_by_rank_too),
        cmocka_unit_test(survives_damage),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(one_tokenizer_has_one_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
