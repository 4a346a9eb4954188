#include "test.h"

#include "base/buffer.h"
#include "base/hash.h"
#include "base/memory.h"

static void assert_digest(const uint8_t digest[32], const char *expected)
{
    char text[65];
    hex_encode(digest, 32, text);
    assert_string_equal(text, expected);
}

/* FIPS 180-4's examples and one million "a" (NIST's SHA example values). */
static void test_known_digests(void **state)
{
    (void)state;
    bulla_error error = {0};
    uint8_t digest[32];
    assert_ok(hash_sha256(NULL, 0, digest, &error), error);
    assert_digest(digest, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_ok(hash_sha256("abc", 3, digest, &error), error);
    assert_digest(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const char *longer = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    assert_ok(hash_sha256(longer, strlen(longer), digest, &error), error);
    assert_digest(digest, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    struct hash_stream *stream = hash_stream_open(&error);
    assert_non_null(stream);
    char piece[997];
    memset(piece, 'a', sizeof piece);
    for (size_t left = 1000000; left > 0;) {
        size_t part = left < sizeof piece ? left : sizeof piece;
        hash_stream_update(stream, piece, part);
        left -= part;
    }
    assert_ok(hash_stream_finish(stream, digest, &error), error);
    assert_digest(digest, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    hash_stream_close(stream);
}

static void test_one_stream_many_messages(void **state)
{
    (void)state;
    bulla_error error = {0};
    uint8_t digest[32], expected[32], bytes[300];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7);
    struct hash_stream *stream = hash_stream_open(&error);
    assert_non_null(stream);
    for (size_t length = 0; length <= sizeof bytes; length++) {
        hash_stream_update(stream, bytes, length / 3);
        hash_stream_update(stream, bytes + length / 3, length - length / 3);
        assert_ok(hash_stream_finish(stream, digest, &error), error);
        assert_ok(hash_sha256(bytes, length, expected, &error), error);
        assert_memory_equal(digest, expected, 32);
    }
    hash_stream_close(stream);
    hash_stream_close(NULL);
}

static void test_no_memory(void **state)
{
    (void)state;
    bulla_error error = {0};
    memory_inject_failure(1, 0);
    assert_null(hash_stream_open(&error));
    memory_inject_failure(0, 0);
    assert_int_equal(error.code, BULLA_E_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_digests),
        cmocka_unit_test(test_one_stream_many_messages),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
