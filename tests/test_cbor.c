/* CBOR and COSE as evidence has them: the examples of the RFCs, and everything else refused. */
#include "test.h"

#include "authority.h"
#include "cose_writer.h"
#include "trust/cose.h"

static const struct cbor *parse(const char *hex, uint8_t bytes[512], struct arena *arena)
{
    bulla_error error = {0};
    size_t length = strlen(hex) / 2;
    assert_true(length <= 512 && hex_decode(hex, 2 * length, bytes, length));
    const struct cbor *item = cbor_parse(bytes, length, arena, &error);
    assert_int_equal(item == NULL, error.code != BULLA_OK);
    return item;
}

/* RFC 8949, appendix A, as far as evidence may have it: what is read, written down shortly. */
static const struct {
    const char *hex, *says;
} examples[] = {
    {"00", "0"},
    {"17", "23"},
    {"1818", "24"},
    {"1903e8", "1000"},
    {"1a000f4240", "1000000"},
    {"1bffffffffffffffff", "18446744073709551615"},
    {"20", "-1-0"},
    {"3903e7", "-1-999"},
    {"f6", "null"},
    {"f4", "other"},
    {"f0", "other"},
    {"f8ff", "other"},
    {"f93c00", "other"},
    {"fb3ff199999999999a", "other"},
    {"40", "b0"},
    {"4401020304", "b4"},
    {"60", "t"},
    {"6161", "ta"},
    {"62c3bc", "t\xc3\xbc"},
    {"80", "[]"},
    {"83010203", "[1,2,3]"},
    {"8301820203820405", "[1,[2,3],[4,5]]"},
    {"a0", "{}"},
    {"a201020304", "{1,2,3,4}"},
    {"a26161016162820203", "{ta,1,tb,[2,3]}"},
    {"c11a514b67b0", "#1(1363896240)"},
    {"d818456449455446", "#24(b5)"},
    /* Longer than needed. */
    {"1800", "0"},
    {"1b0000000000000001", "1"},
    {"590002abcd", "b2"},
    {"9a0000000101", "[1]"},
};

static void write_item(const struct cbor *item, struct buffer *out)
{
    static const char *const around[] = {[CBOR_ARRAY] = "[]", [CBOR_MAP] = "{}", [CBOR_TAG] = "()"};
    switch (item->type) {
    case CBOR_UNSIGNED:
    case CBOR_NEGATIVE:
        buffer_append_format(out, "%s%llu", item->type == CBOR_NEGATIVE ? "-1-" : "", (unsigned long long)item->number);
        return;
    case CBOR_BYTES:
        buffer_append_format(out, "b%zu", item->length);
        return;
    case CBOR_TEXT:
        buffer_append_text(out, "t");
        buffer_append(out, item->bytes, item->length);
        return;
    case CBOR_NULL:
    case CBOR_OTHER:
        buffer_append_text(out, item->type == CBOR_NULL ? "null" : "other");
        return;
    default:
        break;
    }
    if (item->type == CBOR_TAG)
        buffer_append_format(out, "#%llu", (unsigned long long)item->number);
    buffer_append_byte(out, (uint8_t)around[item->type][0]);
    for (size_t i = 0; i < item->length * (item->type == CBOR_MAP ? 2 : 1); i++) {
        buffer_append_text(out, i ? "," : "");
        write_item(&item->items[i], out);
    }
    buffer_append_byte(out, (uint8_t)around[item->type][1]);
}

static void examples_of_the_rfc_are_read(void **state)
{
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        uint8_t bytes[512];
        struct arena arena = {0};
        struct buffer out = {0};
        const struct cbor *item = parse(examples[i].hex, bytes, &arena);
        assert_non_null(item);
        write_item(item, &out);
        assert_string_equal((const char *)out.data, examples[i].says);
        buffer_free(&out);
        arena_free(&arena);
    }
}

static const char *const malformed[] = {
    "",
    "18", "1900", "1a000000", "1b00000000000000", "38",       /* cut off in the head */
    "41", "4401", "61", "81", "8201", "a1", "a101", "c1",     /* cut off behind it */
    "5affffffff", "5bffffffffffffffff", "9bffffffffffffffff", "bb8000000000000000", "bbffffffffffffffff",
    "1c", "1d", "1e", "3c", "5c", "7c", "9c", "bc", "dc", "fc", "fe", /* reserved */
    /* Of indefinite length. */
    "5f42010243030405ff", "7f657374726561646d696e67ff", "9fff", "bf61610161629f0203ffff", "ff", "1f", "3f", "df",
    "f800", "f818", "f81f",                                   /* simple values that have a shorter form */
    "61ff", "62c328", "63eda080", "64f4908080",               /* no UTF-8 */
    "0000", "8000", "f6f6", "a000",                           /* more behind */
    "a2010001ff", "a201000101", "a2010018010a", "a220002000", "a2616100616101", "a36161006162006161f6", /* keys twice */
    "a14000", "a1f600", "a1f4f4", "a1800a", "a1a00a", "a1c10000", "a1fb000000000000000000", /* keys of other types */
};

static void everything_else_is_refused(void **state)
{
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        uint8_t bytes[512];
        struct arena arena = {0};
        if (parse(malformed[i], bytes, &arena))
            fail_msg("%s: read", malformed[i]);
        arena_free(&arena);
    }
}

static void depth_and_size_are_bounded(void **state)
{
    for (int i = 0; i < 4; i++) {
        struct arena arena = {0};
        struct buffer out = {0};
        bulla_error error = {0};
        size_t more = i % 2 != 0, depth = MOST_CBOR_DEPTH + more, items = MOST_CBOR_ITEMS + more;
        if (i < 2) {
            for (size_t j = 1; j < depth; j++)
                cbor_write_list(&out, 1);
            cbor_write_list(&out, 0);
        } else {
            cbor_write_list(&out, items);
            for (size_t j = 0; j < items; j++)
                cbor_write_integer(&out, 7);
        }
        const struct cbor *item = cbor_parse(out.data, out.length, &arena, &error);
        assert_int_equal(item != NULL, i % 2 == 0);
        assert_int_equal(error.code, item ? BULLA_OK : BULLA_E_LIMIT);
        buffer_free(&out);
        arena_free(&arena);
    }
}

static void maps_are_looked_up(void **state)
{
    uint8_t bytes[512];
    struct arena arena = {0};
    const struct cbor *map = parse("a50001200261610319010004623432f6", bytes, &arena);
    assert_non_null(map);
    assert_true(cbor_is_integer(cbor_label(map, 0), 1));
    assert_true(cbor_is_integer(cbor_label(map, -1), 2));
    assert_true(cbor_is_integer(cbor_label(map, 256), 4));
    assert_true(cbor_is_integer(cbor_member(map, "a"), 3));
    assert_true(cbor_is(cbor_member(map, "42"), CBOR_NULL));
    assert_null(cbor_label(map, 1));
    assert_null(cbor_label(map, 42));
    assert_null(cbor_member(map, "b"));
    assert_null(cbor_member(map, ""));
    assert_null(cbor_label(NULL, 0));
    assert_null(cbor_member(&map->items[1], "a"));
    assert_false(cbor_is_integer(NULL, 0) || cbor_is_integer(&map->items[4], 3) || cbor_is_text(&map->items[1], ""));
    assert_false(cbor_is_integer(&map->items[0], -1) || cbor_is_integer(&map->items[2], 0));
    arena_free(&arena);
}

static void items_are_described(void **state)
{
    static const struct {
        const char *hex, *says;
    } cases[] = {{"18ff", "255"}, {"20", "another value"}, {"43010203", "3 bytes"}, {"6568656c6c6f", "hello"},
                 {"63610062", "a"}, {"820102", "a list of 2"}, {"a0", "a map of 0"}, {"c100", "tag 1"},
                 {"f6", "another value"}};
    uint8_t bytes[512];
    struct arena arena = {0};
    bulla_error error = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(cbor_describe(parse(cases[i].hex, bytes, &arena), &arena, &error), cases[i].says);
    assert_string_equal(cbor_describe(NULL, &arena, &error), "nothing");
    /* A long text is cut at a character. */
    memset(bytes, 'a', sizeof bytes);
    memcpy(bytes + 99, "\xc3\xbc", 2);
    const struct cbor text = {.type = CBOR_TEXT, .bytes = bytes, .length = 300};
    assert_int_equal(strlen(cbor_describe(&text, &arena, &error)), 99);
    arena_free(&arena);
}

/* ---- COSE ---- */

/* RFC 9052, appendix C.2.1, and the key "11" of appendix C.7.1. */
static const char example[] = "d28443a10126a10442313154546869732069732074686520636f6e74656e742e5840"
                              "8eb33e4ca31d1c465ab05aac34cc6b23d58fef5c083106c4d25a91aef0b0117e"
                              "2af9a291aa32e14ab834dc56ed2a223444547e01f11d3b0916e5a4c345cacb36";
static const char example_key[] = "a501020258023131200121582"
                                  "0bac5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff2258"
                                  "2020138bf82dc1b6d562be0fa54ab7804a3a64b6d72ccfed6b6fb6ed28bbfc117e";

static int verifies(const uint8_t *bytes, size_t length, EVP_PKEY *key)
{
    struct arena arena = {0};
    struct cose_sign1 sign1;
    bulla_error error = {0};
    int code = cose_sign1_read(bytes, length, &arena, &sign1, &error);
    assert_int_equal(code, error.code);
    int is_right = code == BULLA_OK && cose_sign1_verify(&sign1, key);
    arena_free(&arena);
    return is_right;
}

static EVP_PKEY *read_key(const char *hex, const struct cose_algorithm *algorithm)
{
    uint8_t bytes[512];
    struct arena arena = {0};
    bulla_error error = {0};
    size_t length = strlen(hex) / 2;
    assert_true(hex_decode(hex, 2 * length, bytes, length));
    EVP_PKEY *key = cose_key(bytes, length, algorithm, &arena, &error);
    assert_int_equal(key == NULL, error.code != BULLA_OK);
    arena_free(&arena);
    return key;
}

static const struct cose_algorithm *algorithm_of(const char *header)
{
    static const struct cose_algorithm *algorithm;
    EVP_PKEY *key = authority_key("P-256");
    struct arena arena = {0};
    struct cose_sign1 sign1;
    struct buffer out = {0};
    bulla_error error = {0};
    cose_write_sign1(&out, &(struct cose_writing){.algorithm = -7, .key = key, .header = header, .payload = ""});
    assert_ok(cose_sign1_read(out.data, out.length, &arena, &sign1, &error), error);
    algorithm = sign1.algorithm;
    arena_free(&arena);
    buffer_free(&out);
    EVP_PKEY_free(key);
    return algorithm;
}

static void the_rfcs_signature_is_right(void **state)
{
    uint8_t bytes[512];
    size_t length = strlen(example) / 2, flipped = 0;
    EVP_PKEY *key = read_key(example_key, algorithm_of("a10126"));
    assert_non_null(key);
    assert_true(hex_decode(example, 2 * length, bytes, length));
    assert_true(verifies(bytes, length, key));
    for (size_t at = 0; at < length; at++)
        for (int bit = 0; bit < 8; bit++) {
            /* The tag may be missing, but no other; the key's name in the unprotected header is not signed. */
            int is_open = at >= 7 && at <= 10;
            bytes[at] ^= (uint8_t)(1 << bit);
            if (!is_open && ++flipped && verifies(bytes, length, key))
                fail_msg("byte %zu, bit %d: accepted", at, bit);
            bytes[at] ^= (uint8_t)(1 << bit);
        }
    for (size_t cut = 0; cut < length; cut++)
        assert_false(verifies(bytes, cut, key));
    assert_true(verifies(bytes + 1, length - 1, key));
    EVP_PKEY_free(key);
    print_message("%zu bits flipped, none accepted\n", flipped);
}

static void every_algorithm_has_its_curve(void **state)
{
    static const char *const curves[] = {"P-256", "P-384", "P-521"};
    static const int64_t ids[] = {-7, -35, -36};
    uint8_t payload[70000] = {1, 2, 3};
    static const size_t lengths[] = {0, 23, 24, 255, 256, 65535, 65536, 70000};
    for (int i = 0; i < 3; i++) {
        EVP_PKEY *key = authority_key(curves[i]), *other = authority_key(curves[i]);
        for (size_t j = 0; j < sizeof lengths / sizeof *lengths; j++) {
            struct buffer out = {0};
            cose_write_sign1(&out, &(struct cose_writing){.algorithm = ids[i], .key = key, .is_tagged = 1,
                                                          .payload = payload, .payload_length = lengths[j]});
            assert_true(verifies(out.data, out.length, key));
            assert_false(verifies(out.data, out.length, other));
            assert_false(verifies(out.data, out.length, NULL));
            buffer_free(&out);
        }
        EVP_PKEY_free(other);
        EVP_PKEY_free(key);
    }
    /* ES384 by a key on P-256 whose signature is right. */
    EVP_PKEY *key = authority_key("P-256");
    struct buffer out = {0};
    cose_write_sign1(&out, &(struct cose_writing){.algorithm = -35, .key = key, .payload = payload,
                                                  .payload_length = 5});
    assert_false(verifies(out.data, out.length, key));
    buffer_free(&out);
    EVP_PKEY_free(key);
}

/* Signed as it should be, and refused for what it says. */
static void headers_are_strict(void **state)
{
    static const struct {
        const char *header;
        int64_t unprotected; /* 0: none */
        int is_read;
    } cases[] = {
        {"a1013822", 0, 1},
        {"a10139" "0022", 0, 1},
        {"a2013822" "0441" "31", 0, 1},  /* a key's name */
        {"a1013822", 4, 1},
        {"a1013822", 1, 0},              /* the algorithm twice */
        {"a1013822", 2, 0},
        {"a2013822" "0281" "04", 0, 0},  /* crit */
        {"a0", 0, 0},
        {"", 0, 0},
        {"a10127", 0, 0},                /* EdDSA */
        {"a10105", 0, 0},                /* HMAC */
        {"a101" "654553333834", 0, 0},   /* its name */
        {"81013822", 0, 0},
        {"a101382200", 0, 0},
        {"a201382201" "3822", 0, 0},
    };
    EVP_PKEY *key = authority_key("P-384");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer out = {0};
        cose_write_sign1(&out, &(struct cose_writing){.algorithm = -35, .key = key, .header = cases[i].header,
                                                      .unprotected = cases[i].unprotected != 0,
                                                      .unprotected_label = cases[i].unprotected, .payload = "hello",
                                                      .payload_length = 5});
        if (verifies(out.data, out.length, key) != cases[i].is_read)
            fail_msg("header %s, unprotected %d", cases[i].header, (int)cases[i].unprotected);
        buffer_free(&out);
    }
    EVP_PKEY_free(key);
}

static void keys_are_strict(void **state)
{
    const struct cose_algorithm *es256 = algorithm_of("a10126"), *es384 = algorithm_of("a1013822");
    EVP_PKEY *made = authority_key("P-384");
    struct buffer out = {0};
    struct arena arena = {0};
    bulla_error error = {0};
    for (int i = 0; i < 4; i++) {
        static const int64_t curves[] = {2, 2, 2, 1}, ids[] = {0, -35, -36, 0};
        buffer_clear(&out);
        cose_write_key(&out, made, curves[i], ids[i]);
        EVP_PKEY *key = cose_key(out.data, out.length, es384, &arena, &error);
        assert_int_equal(key != NULL, i < 2);
        EVP_PKEY_free(key);
    }
    /* A type that is none, y as a sign, a coordinate that is short, a point that is not on the curve, no map. */
    static const char *const wrong[] = {
        "a4010120012158" "20bac5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff2258"
        "2020138bf82dc1b6d562be0fa54ab7804a3a64b6d72ccfed6b6fb6ed28bbfc117e",
        "a4010220012158" "20bac5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff22f5",
        "a4010220012158" "1fc5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff2258"
        "2020138bf82dc1b6d562be0fa54ab7804a3a64b6d72ccfed6b6fb6ed28bbfc117e",
        "a4010220012158" "20bac5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff2258"
        "2020138bf82dc1b6d562be0fa54ab7804a3a64b6d72ccfed6b6fb6ed28bbfc117f",
        "80", "a4010220", "",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_null(read_key(wrong[i], es256));
    buffer_free(&out);
    arena_free(&arena);
    EVP_PKEY_free(made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_of_the_rfc_are_read),
        cmocka_unit_test(everything_else_is_refused),
        cmocka_unit_test(depth_and_size_are_bounded),
        cmocka_unit_test(maps_are_looked_up),
        cmocka_unit_test(items_are_described),
        cmocka_unit_test(the_rfcs_signature_is_right),
        cmocka_unit_test(every_algorithm_has_its_curve),
        cmocka_unit_test(headers_are_strict),
        cmocka_unit_test(keys_are_strict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
