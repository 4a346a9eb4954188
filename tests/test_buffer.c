#include "test.h"

#include "base/arena.h"
#include "base/buffer.h"
#include "base/memory.h"

static void test_append_and_read_back(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    buffer_append_u16(&buffer, 0x0102);
    buffer_append_u32(&buffer, 0x03040506);
    buffer_append_u64(&buffer, 0x0708090A0B0C0D0EULL);
    buffer_append_format(&buffer, "%s-%d", "x", 42);
    buffer_pad(&buffer, 64);
    assert_int_equal(buffer.error.code, BULLA_OK);
    assert_int_equal(buffer.length, 64);
    struct reader reader = reader_over(buffer.data, buffer.length);
    assert_int_equal(reader_u16(&reader), 0x0102);
    assert_int_equal(reader_u32(&reader), 0x03040506);
    assert_true(reader_u64(&reader) == 0x0708090A0B0C0D0EULL);
    assert_memory_equal(reader_bytes(&reader, 4), "x-42", 4);
    assert_null(reader_bytes(&reader, 64));
    assert_true(reader.failed);
    assert_int_equal(reader_u64(&reader), 0);
    buffer_free(&buffer);
}

static void test_allocation_failure_is_an_error(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    memory_inject_failure(1, 1);
    buffer_append_text(&buffer, "lost");
    memory_inject_failure(0, 0);
    assert_int_equal(buffer.error.code, BULLA_E_MEMORY);
    assert_int_equal(buffer.length, 0);
    buffer_append_text(&buffer, "quiet after the first error");
    assert_int_equal(buffer.length, 0);
    buffer_free(&buffer);
    assert_null(memory_alloc(SIZE_MAX, 2, NULL));
}

static void test_cut(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    buffer_cut(&buffer, 0);
    assert_null(buffer.data);
    buffer_append_text(&buffer, "whole");
    buffer_cut(&buffer, 9);
    assert_string_equal((char *)buffer.data, "whole");
    buffer_cut(&buffer, 2);
    assert_int_equal(buffer.length, 2);
    assert_string_equal((char *)buffer.data, "wh");
    buffer_cut(&buffer, 0);
    assert_string_equal((char *)buffer.data, "");
    buffer_free(&buffer);
}

static void test_hex(void **state)
{
    (void)state;
    uint8_t bytes[3] = {0x00, 0xAB, 0xFF}, back[3];
    char text[7];
    hex_encode(bytes, 3, text);
    assert_string_equal(text, "00abff");
    assert_true(hex_decode("00ABff", 6, back, 3));
    assert_memory_equal(bytes, back, 3);
    assert_false(hex_decode("00ABfg", 6, back, 3));
    assert_false(hex_decode("00ABf", 5, back, 3));
}

static void test_arena_limit(void **state)
{
    (void)state;
    struct arena arena = {.limit = 256 * 1024};
    bulla_error error = {0};
    assert_non_null(arena_alloc(&arena, 3, 5, &error));
    assert_string_equal(arena_copy_text(&arena, "text", 4, &error), "text");
    assert_null(arena_alloc(&arena, 1, 1 << 20, &error));
    assert_int_equal(error.code, BULLA_E_LIMIT);
    arena_free(&arena);
}

static void test_error_keeps_the_first_and_is_clean(void **state)
{
    (void)state;
    bulla_error error = {0};
    bulla_fail(&error, BULLA_E_INPUT, "field %s: found \x1b[31m", "x");
    bulla_fail(&error, BULLA_E_IO, "second");
    bulla_fail_prefix(&error, "file %d", 7);
    assert_int_equal(error.code, BULLA_E_INPUT);
    assert_string_equal(error.text, "file 7: field x: found ?[31m");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_and_read_back),
        cmocka_unit_test(test_allocation_failure_is_an_error),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_arena_limit),
        cmocka_unit_test(test_error_keeps_the_first_and_is_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
