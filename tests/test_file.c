#define _GNU_SOURCE
#include "test.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "folder.h"

static size_t count_files(void)
{
    size_t count = 0;
    DIR *listing = opendir(folder);
    assert_non_null(listing);
    for (struct dirent *entry; (entry = readdir(listing));)
        count += entry->d_name[0] != '.';
    closedir(listing);
    return count;
}

static void assert_content(const char *path, const void *expected, size_t expected_length)
{
    bulla_error error = {0};
    uint8_t *data;
    size_t length;
    assert_ok(file_read(path, SIZE_MAX / 4, &data, &length, &error), error);
    assert_int_equal(length, expected_length);
    if (length)
        assert_memory_equal(data, expected, length);
    memory_free(data);
}

static void test_write_and_read_back(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct file_map map;
    uint8_t *data;
    size_t length;
    const char *path = in_folder("plain");
    assert_ok(file_write(path, "hello, held-back bytes", 22, &error), error);
    assert_content(path, "hello, held-back bytes", 22);
    assert_ok(file_write(path, "x", 1, &error), error);
    assert_content(path, "x", 1);
    assert_ok(file_map_open(path, &map, &error), error);
    assert_int_equal(map.length, 1);
    assert_int_equal(map.data[0], 'x');
    file_map_release(&map, 0, 1);
    file_map_release(&map, 2, SIZE_MAX);
    file_map_close(&map);
    assert_ok(file_write(path, "", 0, &error), error);
    assert_ok(file_map_open(path, &map, &error), error);
    assert_null(map.data);
    file_map_close(&map);
    assert_content(path, "", 0);
    assert_ok(file_write(path, "123456", 6, &error), error);
    assert_int_equal(file_read(path, 5, &data, &length, &error), BULLA_E_LIMIT);
    assert_null(data);
    assert_non_null(strstr(error.text, "its 6 bytes are more than the 5"));
    assert_int_equal(count_files(), 1);
    remove(path);
}

static void test_private(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct stat status;
    const char *path = in_folder("secret");
    assert_ok(file_write(path, "open", 4, &error), error);
    assert_int_equal(chmod(path, 0644), 0);
    assert_ok(file_write_private(path, "secret", 6, &error), error);
    assert_content(path, "secret", 6);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    remove(path);
}

/* A large file in odd pieces with a hole filled in later, moved in short transfers. */
static void write_large(const char *path, size_t transfer)
{
    bulla_error error = {0};
    size_t length = 3500000;
    uint8_t *bytes = malloc(length), *expected = calloc(1, length + 4096);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    memcpy(expected, bytes, length);
    file_inject_short_transfers(transfer);
    struct file_writer *writer = file_writer_open(path, &error);
    assert_non_null(writer);
    for (size_t at = 0, part = 1; at < length; at += part, part = part * 3 + 1) {
        part = part < length - at ? part : length - at;
        assert_ok(file_writer_append(writer, bytes + at, part, &error), error);
    }
    assert_ok(file_writer_write_at(writer, 3, "early", 5, &error), error);
    memcpy(expected + 3, "early", 5);
    assert_ok(file_writer_write_at(writer, 10, "across the held bytes", 21, &error), error);
    memcpy(expected + 10, "across the held bytes", 21);
    assert_ok(file_writer_pad(writer, 4096, &error), error);
    size_t padded = (length + 4095) / 4096 * 4096;
    assert_int_equal(file_writer_length(writer), padded);
    assert_ok(file_writer_write_at(writer, padded - 1, "z", 1, &error), error);
    expected[padded - 1] = 'z';
    assert_ok(file_writer_commit(writer, &error), error);
    assert_content(path, expected, padded);
    file_inject_short_transfers(0);
    remove(path);
    free(bytes);
    free(expected);
}

static void test_large_files_and_short_transfers(void **state)
{
    (void)state;
    write_large(in_folder("large"), 0);
    write_large(in_folder("large"), 70001);
}

static void test_outside_the_written_part(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct file_writer *writer = file_writer_open(in_folder("short"), &error);
    assert_non_null(writer);
    assert_ok(file_writer_append(writer, "abc", 3, &error), error);
    assert_int_equal(file_writer_write_at(writer, 2, "xy", 2, &error), BULLA_E_INTERNAL);
    file_writer_abandon(writer);
    file_writer_abandon(NULL);
    assert_int_equal(count_files(), 0);
}

/* Until the commit the file has another name and zeros where its first bytes go. */
static void test_an_unfinished_file_cannot_pass_for_whole(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct file_writer *writer = file_writer_open(in_folder("model"), &error);
    uint8_t block[1 << 16], first[FILE_HELD_BYTES + 1];
    memset(block, 0xAB, sizeof block);
    for (int i = 0; i < 40; i++)
        assert_ok(file_writer_append(writer, block, sizeof block, &error), error);
    DIR *listing = opendir(folder);
    int seen = 0;
    for (struct dirent *entry; (entry = readdir(listing));) {
        if (entry->d_name[0] == '.')
            continue;
        assert_memory_equal(entry->d_name, "model.partial-", 14);
        FILE *file = fopen(in_folder(entry->d_name), "rb");
        assert_int_equal(fread(first, 1, sizeof first, file), sizeof first);
        fclose(file);
        for (int i = 0; i < FILE_HELD_BYTES; i++)
            assert_int_equal(first[i], 0);
        assert_int_equal(first[FILE_HELD_BYTES], 0xAB);
        seen++;
    }
    closedir(listing);
    assert_int_equal(seen, 1);
    file_writer_abandon(writer);
    assert_int_equal(count_files(), 0);
}

static int write_in_three_steps(const char *path, bulla_error *error)
{
    static uint8_t block[1500000];
    struct file_writer *writer = file_writer_open(path, error);
    if (!writer)
        return error->code;
    file_writer_append(writer, "new content", 11, error);
    file_writer_append(writer, block, sizeof block, error);
    file_writer_write_at(writer, 20, "patched", 7, error);
    if (error->code != BULLA_OK) {
        file_writer_abandon(writer);
        return error->code;
    }
    return file_writer_commit(writer, error);
}

/* Whatever call fails: the old content or the new one, and no other file left. */
static void test_every_call_may_fail(void **state)
{
    (void)state;
    const char *path = in_folder("kept");
    int failures = 0;
    for (int keep_failing = 0; keep_failing < 2; keep_failing++) {
        for (uint64_t n = 1;; n++) {
            bulla_error error = {0};
            assert_ok(file_write(path, "old content", 11, &error), error);
            file_inject_failure(n, keep_failing);
            int code = write_in_three_steps(path, &error);
            file_inject_failure(0, 0);
            assert_int_equal(count_files(), 1);
            if (code == BULLA_OK)
                break;
            failures++;
            assert_int_equal(code, BULLA_E_IO);
            assert_non_null(strstr(error.text, folder));
            struct file_map map;
            bulla_error reading = {0};
            assert_ok(file_map_open(path, &map, &reading), reading);
            int is_old = map.length == 11 && memcmp(map.data, "old content", 11) == 0;
            int is_new = map.length == 1500011 && memcmp(map.data, "new content", 11) == 0;
            assert_true(is_old || is_new);
            file_map_close(&map);
        }
    }
    assert_true(failures > 20);
    remove(path);
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    const char *path = in_folder("kept");
    for (uint64_t n = 1;; n++) {
        bulla_error error = {0};
        memory_inject_failure(n, 0);
        int code = write_in_three_steps(path, &error);
        memory_inject_failure(0, 0);
        if (code == BULLA_OK)
            break;
        assert_int_equal(code, BULLA_E_MEMORY);
        assert_int_equal(count_files(), 0);
        assert_true(n < 100);
    }
    remove(path);
}

static void test_reading_may_fail(void **state)
{
    (void)state;
    const char *path = in_folder("read");
    bulla_error error = {0};
    assert_ok(file_write(path, "content", 7, &error), error);
    for (uint64_t n = 1;; n++) {
        bulla_error reading = {0}, mapping = {0};
        uint8_t *data;
        size_t length;
        struct file_map map;
        file_inject_failure(n, 0);
        int read = file_read(path, 100, &data, &length, &reading);
        file_inject_failure(n, 0);
        int mapped = file_map_open(path, &map, &mapping);
        file_inject_failure(0, 0);
        memory_free(data);
        file_map_close(&map);
        assert_true(read == BULLA_OK || (read == BULLA_E_IO && strstr(reading.text, "read: cannot ")));
        assert_true(mapped == BULLA_OK || (mapped == BULLA_E_IO && strstr(mapping.text, "read: cannot ")));
        if (read == BULLA_OK && mapped == BULLA_OK)
            break;
        assert_true(n < 20);
    }
    remove(path);
}

static void test_what_is_no_regular_file(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct file_map map;
    enum file_kind kind;
    uint8_t *data;
    size_t length;
    const char *fifo = in_folder("fifo");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_ok(file_find_kind(fifo, &kind, &error), error);
    assert_int_equal(kind, FILE_OTHER);
    assert_int_equal(file_map_open(fifo, &map, &error), BULLA_E_INPUT);
    bulla_error_clear(&error);
    assert_int_equal(file_write(fifo, "x", 1, &error), BULLA_E_USAGE);
    bulla_error_clear(&error);
    assert_int_equal(file_write(folder, "x", 1, &error), BULLA_E_USAGE);
    assert_non_null(strstr(error.text, "is a folder"));
    bulla_error_clear(&error);
    assert_int_equal(file_read(folder, 10, &data, &length, &error), BULLA_E_INPUT);
    bulla_error_clear(&error);
    assert_int_equal(file_read(in_folder("absent"), 10, &data, &length, &error), BULLA_E_IO);
    assert_non_null(strstr(error.text, "absent: cannot open it for reading: No such file or directory"));
    bulla_error_clear(&error);
    assert_int_equal(file_write(in_folder("absent/x"), "x", 1, &error), BULLA_E_IO);
    bulla_error_clear(&error);
    assert_ok(file_find_kind(in_folder("absent/x"), &kind, &error), error);
    assert_int_equal(kind, FILE_ABSENT);
    assert_ok(file_find_kind(folder, &kind, &error), error);
    assert_int_equal(kind, FILE_FOLDER);
    assert_int_equal(file_write(in_folder("absent/x"), "x", 1, NULL), BULLA_E_IO);
    remove(fifo);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_and_read_back), cmocka_unit_test(test_private),
        cmocka_unit_test(test_large_files_and_short_transfers),
        cmocka_unit_test(test_outside_the_written_part),
        cmocka_unit_test(test_an_unfinished_file_cannot_pass_for_whole),
        cmocka_unit_test(test_every_call_may_fail),
        cmocka_unit_test(test_every_allocation_may_fail),
        cmocka_unit_test(test_reading_may_fail),
        cmocka_unit_test(test_what_is_no_regular_file),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
