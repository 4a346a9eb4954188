/* API keys in both forms of store: made, found, disabled; files that are not as they must be; memory and disks that fail. */
#define _GNU_SOURCE
#include "test.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "folder.h"
#include "ops/keys.h"

static void write_text(const char *path, const char *text)
{
    bulla_error error = {0};
    assert_ok(file_write(path, text, strlen(text), &error), error);
}

static void add_key(const char *path, const char *tenant, int is_admin, char text[KEY_TEXT])
{
    bulla_error error = {0};
    struct key_entry entry = {.is_admin = is_admin, .priority = 5, .most_tokens = 77};
    snprintf(entry.tenant, sizeof entry.tenant, "%s", tenant);
    assert_ok(key_store_add(path, &entry, text, &error), error);
    assert_int_equal(strlen(text), KEY_TEXT - 1);
    assert_int_equal(strncmp(text, "bulla-", 6), 0);
}

static const struct key_entry *find(const struct key_set *set, const char *text)
{
    return key_set_find(set, text, strlen(text));
}

static void check_store(const char *path)
{
    bulla_error error = {0};
    char keys[12][KEY_TEXT], other[KEY_TEXT];
    struct key_set *set;
    assert_int_equal(key_store_read(path, &set, &error), BULLA_E_IO);
    assert_non_null(strstr(error.text, "bulla keys add"));
    bulla_error_clear(&error);
    assert_int_equal(key_store_disable(path, "x", &error), BULLA_E_IO);
    bulla_error_clear(&error);
    for (int i = 0; i < 12; i++)
        add_key(path, i % 2 ? "acme.eu" : "", i == 3, keys[i]);
    assert_ok(key_store_read(path, &set, &error), error);
    assert_int_equal(key_set_count(set), 12);
    assert_null(key_set_at(set, 12));
    for (int i = 0; i < 12; i++) {
        const struct key_entry *entry = find(set, keys[i]);
        assert_non_null(entry);
        assert_string_equal(entry->tenant, i % 2 ? "acme.eu" : "");
        assert_int_equal(entry->is_admin, i == 3);
        assert_int_equal(entry->priority, 5);
        assert_int_equal(entry->most_tokens, 77);
        assert_int_equal(entry->is_disabled, 0);
        assert_true(entry->created > 1600000000);
    }
    strcpy(other, keys[0]);
    other[20] = other[20] == 'a' ? 'b' : 'a';
    assert_null(find(set, other));
    assert_null(key_set_find(set, keys[0], KEY_TEXT - 2));
    assert_null(find(set, ""));
    strcpy(other, keys[0]);
    other[0] = 'B';
    assert_null(find(set, other));
    char id[KEY_ID];
    strcpy(id, find(set, keys[7])->id);
    key_set_free(set);
    assert_ok(key_store_disable(path, id, &error), error);
    assert_ok(key_store_disable(path, id, &error), error);
    assert_ok(key_store_read(path, &set, &error), error);
    assert_int_equal(find(set, keys[7])->is_disabled, 1);
    assert_int_equal(find(set, keys[6])->is_disabled, 0);
    key_set_free(set);
    assert_int_equal(key_store_disable(path, "nobody", &error), BULLA_E_USAGE);
    assert_non_null(strstr(error.text, "no key with the id \"nobody\""));
    /* The key itself is nowhere in the folder's files, in no form. */
    bulla_error_clear(&error);
    uint8_t *data, bytes[KEY_BYTES];
    size_t length;
    assert_ok(file_read(path, 1 << 24, &data, &length, &error), error);
    assert_null(memmem(data, length, keys[0] + 6, 64));
    assert_true(hex_decode(keys[0] + 6, 64, bytes, sizeof bytes));
    assert_null(memmem(data, length, bytes, sizeof bytes));
    memory_free(data);
}

static void test_lines(void **state)
{
    (void)state;
    check_store(in_folder("keys.json"));
    uint8_t magic[16];
    int descriptor = open(in_folder("keys.json"), O_RDONLY);
    assert_int_equal(read(descriptor, magic, 16), 16);
    close(descriptor);
    assert_memory_equal(magic, "{\"id\":\"", 7);
    empty_folder();
}

static void test_sqlite(void **state)
{
    (void)state;
    check_store(in_folder("keys.db"));
    char renamed[512];
    snprintf(renamed, sizeof renamed, "%s/renamed", folder);
    uint8_t magic[16];
    int descriptor = open(in_folder("keys.db"), O_RDONLY);
    assert_int_equal(read(descriptor, magic, 16), 16);
    close(descriptor);
    assert_memory_equal(magic, "SQLite format 3", 16);
    /* What lies there decides, not the name. */
    bulla_error error = {0};
    struct key_set *set;
    assert_int_equal(rename(in_folder("keys.db"), renamed), 0);
    assert_ok(key_store_read(renamed, &set, &error), error);
    assert_int_equal(key_set_count(set), 12);
    key_set_free(set);
    empty_folder();
}

#define HASH "\"hash\":\"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\""
#define HASH2 "\"hash\":\"10112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\""

static void test_lines_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{", "line 1"},
        {"\n\n[]\n", "line 3: must be an object"},
        {"{\"id\":\"a\",\"scope\":\"use\"}", "\"hash\" is missing"},
        {"{\"id\":\"a\"," HASH "}", "\"scope\" is missing"},
        {"{" HASH ",\"scope\":\"use\"}", "\"id\" must be"},
        {"{\"id\":\"a b\"," HASH ",\"scope\":\"use\"}", "\"id\" must be"},
        {"{\"id\":\"123456789012345678901234\"," HASH ",\"scope\":\"use\"}", "\"id\" must be a string of at most 23"},
        {"{\"id\":7," HASH ",\"scope\":\"use\"}", "\"id\" must be a string"},
        {"{\"id\":\"a\\u0000b\"," HASH ",\"scope\":\"use\"}", "\"id\" must be a string"},
        {"{\"id\":\"a\",\"hash\":\"0011\",\"scope\":\"use\"}", "\"hash\" must be 64 hex digits"},
        {"{\"id\":\"a\"," HASH ",\"scope\":\"root\"}", "\"scope\" is \"root\", expected"},
        {"{\"id\":\"a\"," HASH ",\"scope\":\"use\",\"priority\":1001}", "\"priority\" must be a whole number"},
        {"{\"id\":\"a\"," HASH ",\"scope\":\"use\",\"priority\":-1}", "\"priority\" must be a whole number"},
        {"{\"id\":\"a\"," HASH ",\"scope\":\"use\",\"most_tokens\":1.5}", "\"most_tokens\" must be a whole number"},
        {"{\"id\":\"a\"," HASH ",\"scope\":\"use\",\"disabled\":0}", "\"disabled\" must be true or false"},
        {"{\"id\":\"a\"," HASH ",\"scope\":\"use\",\"tenant\":\"a/b\"}", "\"tenant\" must be"},
        {"{\"id\":\"a\"," HASH ",\"scope\":\"use\",\"tennant\":\"a\"}", "there is no field \"tennant\""},
        {"{\"id\":\"a\"," HASH ",\"scope\":\"use\"}\n{\"id\":\"b\"," HASH ",\"scope\":\"use\"}", "have the same hash"},
        {"{\"id\":\"a\"," HASH ",\"scope\":\"use\"}\n{\"id\":\"a\"," HASH2 ",\"scope\":\"use\"}", "two keys have the id \"a\""},
        {"SQLite format 3 is not", "line 1"},
    };
    const char *path = in_folder("bad");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bulla_error error = {0};
        struct key_set *set;
        write_text(path, cases[i].text);
        assert_int_equal(key_store_read(path, &set, &error), BULLA_E_INPUT);
        assert_null(set);
        if (!strstr(error.text, cases[i].says))
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, error.text, cases[i].says);
    }
    /* What is written by hand: blank lines, fields in any order, no end of line. */
    bulla_error error = {0};
    struct key_set *set;
    write_text(path, "\n \t\r\n{\"scope\":\"admin\",\"id\":\"boss\"," HASH "}\r\n\n{\"id\":\"b\",\"scope\":\"use\"," HASH2 "}");
    assert_ok(key_store_read(path, &set, &error), error);
    assert_int_equal(key_set_count(set), 2);
    assert_string_equal(key_set_at(set, 0)->id, "boss");
    key_set_free(set);
    /* A key is not added to a store that cannot be read, and nothing is lost. */
    char text[KEY_TEXT];
    struct key_entry entry = {0};
    write_text(path, "{\"id\":\"a\"}\n");
    assert_int_equal(key_store_add(path, &entry, text, &error), BULLA_E_INPUT);
    assert_string_equal(text, "");
    bulla_error_clear(&error);
    struct key_entry bad = {.tenant = "a b"};
    assert_int_equal(key_store_add(in_folder("new"), &bad, text, &error), BULLA_E_INPUT);
    assert_non_null(strstr(error.text, "\"tenant\""));
    bulla_error_clear(&error);
    assert_int_equal(key_store_read(folder, &set, &error), BULLA_E_INPUT);
    assert_non_null(strstr(error.text, "no regular file"));
    empty_folder();
}

static void run_sql(const char *path, const char *sql)
{
    sqlite3 *database;
    assert_int_equal(sqlite3_open(path, &database), SQLITE_OK);
    assert_int_equal(sqlite3_exec(database, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(database);
}

static void assert_refused(const char *path, const char *says)
{
    bulla_error error = {0};
    struct key_set *set;
    int code = key_store_read(path, &set, &error);
    if (code == BULLA_OK || !strstr(error.text, says))
        fail_msg("%d: \"%s\" does not say \"%s\"", code, error.text, says);
    assert_null(set);
}

static void test_sqlite_rows(void **state)
{
    (void)state;
    static const char columns[] = "INSERT INTO keys VALUES ";
    static const struct {
        const char *row, *says;
    } cases[] = {
        {"('a', x'00', 't', 'use', 0, 0, 0, 0)", "key 1: \"hash\" must be a blob of 32 bytes"},
        {"('a', randomblob(32), 't', 'root', 0, 0, 0, 0)", "\"scope\" is \"root\""},
        {"('a', randomblob(32), 't', 'administrator', 0, 0, 0, 0)", "\"scope\" must be a text of at most"},
        {"('a', randomblob(32), 't!', 'use', 0, 0, 0, 0)", "\"tenant\" must be"},
        {"('', randomblob(32), '', 'use', 0, 0, 0, 0)", "\"id\" must be"},
        {"('a', randomblob(32), '', 'use', -5, 0, 0, 0)", "\"priority\" is"},
        {"('a', randomblob(32), '', 'use', 0, -1, 0, 0)", "\"most_tokens\" is out of range"},
        {"('a', randomblob(32), '', 'use', 0, 0, -1, 0)", "\"created\" is out of range"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char key[KEY_TEXT], sql[512], path[512];
        snprintf(path, sizeof path, "%s/rows%zu.db", folder, i);
        add_key(path, "", 0, key);
        snprintf(sql, sizeof sql, "DELETE FROM keys; %s%s", columns, cases[i].row);
        run_sql(path, sql);
        assert_refused(path, cases[i].says);
    }
    char path[512];
    snprintf(path, sizeof path, "%s/other.db", folder);
    run_sql(path, "CREATE TABLE others (x)");
    assert_refused(path, "no such table: keys");
    empty_folder();
}

/* Each page of a database overwritten, and the file cut at many places: a clear refusal or the same keys, never fewer. */
static void test_sqlite_damage(void **state)
{
    (void)state;
    bulla_error error = {0};
    char key[KEY_TEXT], path[512], damaged[512];
    snprintf(path, sizeof path, "%s/whole.db", folder);
    snprintf(damaged, sizeof damaged, "%s/damaged.db", folder);
    for (int i = 0; i < 60; i++)
        add_key(path, "tenant", 0, key);
    uint8_t *data;
    size_t length, refused = 0, tried = 0;
    assert_ok(file_read(path, 1 << 24, &data, &length, &error), error);
    assert_true(length >= 3 * 4096);
    for (size_t at = 0; at < length; at += 512, tried += 2) {
        for (int cuts = 0; cuts < 2; cuts++) {
            struct key_set *set;
            bulla_error own = {0};
            if (cuts && at == 0)
                continue;
            uint8_t *copy = malloc(length);
            memcpy(copy, data, length);
            memset(copy + at, 0xA5, cuts ? 0 : 512);
            assert_ok(file_write(damaged, copy, cuts ? at : length, &error), error);
            free(copy);
            int code = key_store_read(damaged, &set, &own);
            if (code == BULLA_OK)
                assert_int_equal(key_set_count(set), 60);
            else if (!strstr(own.text, "damaged.db"))
                fail_msg("\"%s\" names no file", own.text);
            assert_true(cuts || at % 4096 || code != BULLA_OK); /* a page's head */
            refused += code != BULLA_OK;
            key_set_free(set);
        }
    }
    assert_true(refused > tried / 2);
    memory_free(data);
    memset(key, 0, sizeof key);
    struct key_entry entry = {0};
    write_text(damaged, "SQLite format 3");
    truncate(damaged, 16);
    bulla_error_clear(&error);
    assert_int_equal(key_store_read(damaged, &(struct key_set *){NULL}, &error), BULLA_E_INPUT);
    assert_non_null(strstr(error.text, "is damaged"));
    bulla_error_clear(&error);
    assert_int_equal(key_store_add(damaged, &entry, key, &error), BULLA_E_INPUT);
    assert_string_equal(key, "");
    empty_folder();
}

static void inject(int is_file, uint64_t n)
{
    if (is_file)
        file_inject_failure(n, 0);
    else
        memory_inject_failure(n, 0);
}

/* Each allocation and each file call of an addition fails once; the store stays whole, with the key where one was
 * handed out. */
static void check_add_failures(const char *path, const char *first, int is_file)
{
    for (uint64_t n = 1;; n++) {
        bulla_error error = {0};
        struct key_entry entry = {.tenant = "second"};
        struct key_set *set;
        char text[KEY_TEXT];
        inject(is_file, n);
        int code = key_store_add(path, &entry, text, &error);
        inject(is_file, 0);
        assert_true(code == BULLA_OK ? text[0] : !text[0] && error.text[0]);
        bulla_error_clear(&error);
        assert_ok(key_store_read(path, &set, &error), error);
        assert_non_null(find(set, first));
        assert_true(code != BULLA_OK || find(set, text));
        key_set_free(set);
        if (code == BULLA_OK)
            return;
    }
}

static void check_read_failures(const char *path, int is_file)
{
    for (uint64_t n = 1;; n++) {
        bulla_error error = {0};
        struct key_set *set;
        inject(is_file, n);
        int code = key_store_read(path, &set, &error);
        inject(is_file, 0);
        assert_true((set != NULL) == (code == BULLA_OK));
        assert_true(code == BULLA_OK || error.text[0]);
        key_set_free(set);
        if (code == BULLA_OK)
            return;
    }
}

static void test_failures(void **state)
{
    (void)state;
    for (int is_database = 0; is_database < 2; is_database++) {
        char key[KEY_TEXT], path[512];
        snprintf(path, sizeof path, "%s/failing%s", folder, is_database ? ".db" : ".json");
        for (int i = 0; i < 20; i++)
            add_key(path, "first", 0, key);
        for (int is_file = 0; is_file < 2; is_file++) {
            check_add_failures(path, key, is_file);
            check_read_failures(path, is_file);
        }
    }
    empty_folder();
}

/* A stamp shows each change, and whether it is too young to be relied on. */
static void test_stamps(void **state)
{
    (void)state;
    for (int is_database = 0; is_database < 2; is_database++) {
        bulla_error error = {0};
        char key[KEY_TEXT], path[512];
        struct key_stamp before, after;
        struct key_set *set;
        snprintf(path, sizeof path, "%s/stamped%s", folder, is_database ? ".db" : ".json");
        key_stamp_take(path, &before);
        assert_int_equal(key_stamp_is_fresh(&before), 0); /* nothing is there */
        add_key(path, "", 0, key);
        key_stamp_take(path, &after);
        assert_false(key_stamp_equals(&before, &after));
        assert_true(key_stamp_is_fresh(&after));
        assert_ok(key_store_read(path, &set, &error), error);
        key_stamp_take(path, &before);
        assert_true(key_stamp_equals(&before, &after)); /* reading is no change */
        add_key(path, "", 0, key);
        key_stamp_take(path, &after);
        assert_false(key_stamp_equals(&before, &after));
        assert_ok(key_store_disable(path, key_set_at(set, 0)->id, &error), error);
        key_stamp_take(path, &before);
        assert_false(key_stamp_equals(&before, &after));
        for (int i = 0; i < 2; i++)
            before.files[i].seconds -= before.files[i].seconds ? 10 : 0;
        assert_false(key_stamp_is_fresh(&before));
        key_set_free(set);
    }
    empty_folder();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_sqlite),
        cmocka_unit_test(test_lines_malformed),
        cmocka_unit_test(test_sqlite_rows),
        cmocka_unit_test(test_sqlite_damage),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_stamps),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
