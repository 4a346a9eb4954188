#define _GNU_SOURCE
#include "test.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "model/name_table.h"
#include "model/source_format.h"

/* Models in memory. */

static void append_string(struct buffer *out, const char *text, size_t length)
{
    buffer_append_u64(out, length);
    buffer_append(out, text, length);
}

static void append_key(struct buffer *out, const char *key, uint32_t type)
{
    append_string(out, key, strlen(key));
    buffer_append_u32(out, type);
}

static void append_tensor(struct buffer *out, const char *name, uint64_t columns, uint64_t rows, uint32_t type,
                          uint64_t offset)
{
    append_string(out, name, strlen(name));
    buffer_append_u32(out, 2);
    buffer_append_u64(out, columns);
    buffer_append_u64(out, rows);
    buffer_append_u32(out, type);
    buffer_append_u64(out, offset);
}

/* A GGUF file with an F32 tensor {4, 3} of 0, 1, 2, ... and a Q8_0 one {2, 64} of ones. */
static struct buffer make_gguf(void)
{
    struct buffer out = {0};
    buffer_append(&out, "GGUF", 4);
    buffer_append_u32(&out, 3);
    buffer_append_u64(&out, 2);
    buffer_append_u64(&out, 5);
    append_key(&out, "general.architecture", 8);
    append_string(&out, "llama", 5);
    append_key(&out, "layers", 4);
    buffer_append_u32(&out, 2);
    append_key(&out, "tokens", 9);
    buffer_append_u32(&out, 8);
    buffer_append_u64(&out, 4);
    append_string(&out, "a", 1);
    append_string(&out, "\xFF", 1);
    append_string(&out, "n\0l", 3);
    append_string(&out, "last", 4);
    append_key(&out, "flags", 9);
    buffer_append_u32(&out, 7);
    buffer_append_u64(&out, 2);
    buffer_append(&out, "\1\2", 2);
    append_key(&out, "broken", 8);
    append_string(&out, "\xC3(", 2);
    append_tensor(&out, "counting", 3, 4, 0, 0);
    append_tensor(&out, "ones", 64, 2, 8, 64);
    buffer_pad(&out, 32);
    for (int i = 0; i < 12; i++) {
        float value = (float)i;
        buffer_append(&out, &value, sizeof value);
    }
    buffer_pad(&out, 32);
    for (int i = 0; i < 4; i++) {
        buffer_append_u16(&out, 0x3C00);
        memset(buffer_extend(&out, 32), 1, 32);
    }
    assert_int_equal(out.error.code, BULLA_OK);
    return out;
}

static struct buffer make_safetensors(const char *header, size_t data)
{
    struct buffer out = {0};
    append_string(&out, header, strlen(header));
    buffer_extend(&out, data);
    assert_int_equal(out.error.code, BULLA_OK);
    return out;
}

static const char packed_header[] =
    "{\"l.qweight\":{\"dtype\":\"I32\",\"shape\":[2,8],\"data_offsets\":[0,64]},"
    "\"l.qzeros\":{\"dtype\":\"I32\",\"shape\":[2,1],\"data_offsets\":[64,72]},"
    "\"l.scales\":{\"dtype\":\"F16\",\"shape\":[2,8],\"data_offsets\":[72,104]},"
    "\"l.g_idx\":{\"dtype\":\"I32\",\"shape\":[16],\"data_offsets\":[104,168]},"
    "\"norm\":{\"dtype\":\"BF16\",\"shape\":[8],\"data_offsets\":[168,184]}}";
static const char packed_config[] =
    "{\"hidden_size\":8,\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":8}}";

static int open_gguf(const struct buffer *bytes, struct source **source, bulla_error *error)
{
    return source_open_bytes(SOURCE_GGUF, bytes->data, bytes->length, NULL, 0, source, error);
}

static int open_packed(const struct buffer *bytes, struct source **source, bulla_error *error)
{
    return source_open_bytes(SOURCE_SAFETENSORS, bytes->data, bytes->length, packed_config, sizeof packed_config - 1,
                             source, error);
}

/* What they hold. */

static void test_gguf_tensors(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct buffer bytes = make_gguf();
    struct source *source;
    float values[128];
    assert_ok(open_gguf(&bytes, &source, &error), error);
    assert_int_equal(source_kind(source), SOURCE_GGUF);
    assert_int_equal(source_tensor_count(source), 2);
    assert_null(source_tensor_at(source, 2));
    assert_null(source_tensor_find(source, "absent"));
    const struct source_tensor *counting = source_tensor_find(source, "counting");
    assert_ptr_equal(counting, source_tensor_at(source, 0));
    assert_int_equal(counting->dimensions, 2);
    assert_int_equal(counting->shape[0], 4);
    assert_int_equal(counting->shape[1], 3);
    assert_int_equal(counting->rows, 4);
    assert_int_equal(counting->columns, 3);
    assert_ok(source_tensor_read(source, counting, 1, 2, values, &error), error);
    for (int i = 0; i < 6; i++)
        assert_true(values[i] == (float)(3 + i));
    assert_ok(source_tensor_read(source, counting, 4, 0, NULL, &error), error);
    const struct source_tensor *ones = source_tensor_find(source, "ones");
    assert_string_equal(ones->type_name, "Q8_0");
    assert_ok(source_tensor_read(source, ones, 0, 2, values, &error), error);
    for (int i = 0; i < 128; i++)
        assert_true(values[i] == 1.0F);
    source_tensor_release(source, ones);
    assert_int_equal(source_tensor_read(source, ones, 1, 2, values, &error), BULLA_E_USAGE);
    bulla_error_clear(&error);
    assert_int_equal(source_tensor_read(source, ones, UINT64_MAX, 2, values, &error), BULLA_E_USAGE);
    bulla_error_clear(&error);
    assert_int_equal(source_tensor_read(source, ones, 0, UINT64_MAX, values, &error), BULLA_E_USAGE);
    source_close(source);
    buffer_free(&bytes);
    source_close(NULL);
}

static void assert_sentence(bulla_error *error, const char *part)
{
    assert_int_not_equal(error->code, BULLA_OK);
    if (!strstr(error->text, part))
        fail_msg("\"%s\" is not in \"%s\"", part, error->text);
    bulla_error_clear(error);
}

static void test_gguf_settings(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct buffer bytes = make_gguf();
    struct source *source;
    const char *text;
    size_t length;
    uint64_t count;
    int64_t integer;
    double real;
    int boolean;
    assert_ok(open_gguf(&bytes, &source, &error), error);
    assert_int_equal(source_get_text(source, "general.architecture", &text, &length, &error), 1);
    assert_string_equal(text, "llama");
    assert_int_equal(source_get_integer(source, "layers", 1, 2, &integer, &error), 1);
    assert_int_equal(integer, 2);
    assert_int_equal(source_get_integer(source, "layers", 3, 9, &integer, &error), -1);
    assert_sentence(&error, "layers is 2; 3 to 9 was expected");
    assert_int_equal(source_get_integer(source, "absent", 3, 9, &integer, &error), 0);
    assert_int_equal(source_get_real(source, "layers", &real, &error), 1);
    assert_int_equal(source_get_bool(source, "layers", &boolean, &error), -1);
    assert_sentence(&error, "layers is a u32; a bool was expected");
    assert_int_equal(source_get_text(source, "broken", &text, &length, &error), -1);
    assert_sentence(&error, "broken: its text is not UTF-8 at byte 0 of 2");
    assert_int_equal(source_get_array(source, "tokens", &count, &error), 1);
    assert_int_equal(count, 4);
    assert_int_equal(source_get_array_text(source, "tokens", 3, &text, &length, &error), 1);
    assert_string_equal(text, "last");
    assert_int_equal(source_get_array_text(source, "tokens", 1, &text, &length, &error), -1);
    assert_sentence(&error, "tokens[1]: its text is not UTF-8 at byte 0 of 1");
    assert_int_equal(source_get_array_text(source, "tokens", 2, &text, &length, &error), -1);
    assert_sentence(&error, "tokens[2]: its text has a NUL at byte 1 of 3");
    assert_int_equal(source_get_array_text(source, "tokens", 4, &text, &length, &error), -1);
    assert_sentence(&error, "tokens[4] asked for, of 4 elements");
    assert_int_equal(source_get_array_integer(source, "flags", 0, &integer, &error), 1);
    assert_int_equal(source_get_array_integer(source, "flags", 1, &integer, &error), -1);
    assert_sentence(&error, "flags[1]: a bool of value 2");
    assert_int_equal(source_get_array_real(source, "tokens", 0, &real, &error), -1);
    assert_sentence(&error, "tokens[0] is a string; a number was expected");
    assert_null(source_json(source, "config.json"));
    source_close(source);
    buffer_free(&bytes);
}

/* q = 5 everywhere, zeros 3 and 7 (stored as 2 and 6), scales 1 and 2, groups swapped. */
static void test_packed_matrix(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct buffer bytes = make_safetensors(packed_header, 184);
    uint8_t *data = bytes.data + 8 + sizeof packed_header - 1;
    struct source *source;
    float values[8 * 16];
    memset(data, 0x55, 64);
    memset(data + 64, 0x22, 4);
    memset(data + 68, 0x66, 4);
    for (int i = 0; i < 16; i++) {
        data[72 + 2 * i + 1] = i < 8 ? 0x3C : 0x40;
        data[104 + 4 * i] = i < 8;
    }
    assert_ok(open_packed(&bytes, &source, &error), error);
    assert_int_equal(source_tensor_count(source), 2);
    const struct source_tensor *tensor = source_tensor_find(source, "l.weight");
    assert_non_null(tensor);
    assert_string_equal(tensor->type_name, "GPTQ 4-bit");
    assert_int_equal(tensor->rows, 8);
    assert_int_equal(tensor->columns, 16);
    assert_ok(source_tensor_read(source, tensor, 3, 4, values, &error), error);
    for (int row = 0; row < 4; row++)
        for (int column = 0; column < 16; column++)
            assert_true(values[16 * row + column] == (column < 8 ? -4.0F : 2.0F));
    source_tensor_release(source, tensor);
    int64_t integer;
    assert_int_equal(source_get_integer(source, "quantization_config.group_size", 1, 64, &integer, &error), 1);
    assert_int_equal(integer, 8);
    assert_non_null(source_json(source, "config.json"));
    source_close(source);
    buffer_free(&bytes);
}

/* Damage. */

/* Opens a copy of exactly `length` bytes, so that a sanitizer sees any look beyond, and reads everything. */
static int open_and_read(enum source_kind kind, const uint8_t *bytes, size_t length, const char *config,
                         bulla_error *error)
{
    uint8_t *exact = malloc(length ? length : 1);
    memcpy(exact, bytes, length);
    struct source *source;
    int code = source_open_bytes(kind, exact, length, config, config ? strlen(config) : 0, &source, error);
    for (size_t i = 0; code == BULLA_OK && i < source_tensor_count(source); i++) {
        const struct source_tensor *tensor = source_tensor_at(source, i);
        float *values = malloc(tensor->rows * tensor->columns * sizeof *values + 1);
        if (source_tensor_read(source, tensor, 0, tensor->rows, values, error) != BULLA_OK)
            assert_int_equal(error->code, BULLA_E_UNSUPPORTED);
        free(values);
    }
    const char *text;
    size_t text_length;
    for (uint64_t i = 0; code == BULLA_OK && i < 5; i++)
        source_get_array_text(source, "tokens", i, &text, &text_length, error);
    if (code != BULLA_OK)
        assert_null(source);
    source_close(source);
    free(exact);
    return code;
}

/* Cut at every byte; then every byte of the header changed to several others. */
static void damage(enum source_kind kind, const struct buffer *bytes, size_t header, const char *config)
{
    static const uint8_t changes[] = {0x00, 0x01, 0x7F, 0x80, 0xFF, '"', '9', '-'};
    for (size_t length = 0; length < bytes->length; length++) {
        bulla_error error = {0};
        int code = open_and_read(kind, bytes->data, length, config, &error);
        assert_true(code == BULLA_E_INPUT);
        assert_true(strlen(error.text) > 10);
    }
    for (size_t at = 0; at < header; at++) {
        uint8_t old = bytes->data[at];
        for (size_t i = 0; i < sizeof changes + 2; i++) {
            bulla_error error = {0};
            bytes->data[at] = i < sizeof changes ? changes[i] : i == sizeof changes ? old + 1 : old - 1;
            int code = open_and_read(kind, bytes->data, bytes->length, config, &error);
            assert_true(code == BULLA_OK || code == BULLA_E_INPUT || code == BULLA_E_UNSUPPORTED ||
                        code == BULLA_E_LIMIT);
            assert_true(code == BULLA_OK || strlen(error.text) > 10);
        }
        bytes->data[at] = old;
    }
}

static void test_damaged_gguf(void **state)
{
    (void)state;
    struct buffer bytes = make_gguf();
    damage(SOURCE_GGUF, &bytes, bytes.length - 64 - 136, NULL);
    buffer_free(&bytes);
}

static void test_damaged_safetensors(void **state)
{
    (void)state;
    struct buffer bytes = make_safetensors(packed_header, 184);
    damage(SOURCE_SAFETENSORS, &bytes, bytes.length, packed_config);
    buffer_free(&bytes);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    struct buffer gguf = make_gguf(), packed = make_safetensors(packed_header, 184);
    for (int kind = 0; kind < 2; kind++) {
        for (uint64_t n = 1;; n++) {
            bulla_error error = {0};
            struct source *source;
            memory_inject_failure(n, 0);
            int code = kind ? open_packed(&packed, &source, &error) : open_gguf(&gguf, &source, &error);
            memory_inject_failure(0, 0);
            source_close(source);
            if (code == BULLA_OK)
                break;
            assert_int_equal(code, BULLA_E_MEMORY);
            assert_true(n < 1000);
        }
    }
    buffer_free(&gguf);
    buffer_free(&packed);
}

/* Folders. */

static void write_text(const char *folder, const char *name, const void *bytes, size_t length)
{
    char path[256];
    bulla_error error = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(file_write(path, bytes, length, &error), error);
}

static void remove_files(const char *folder, const char *const *names)
{
    char path[256];
    for (; *names; names++) {
        snprintf(path, sizeof path, "%s/%s", folder, *names);
        remove(path);
    }
    assert_int_equal(rmdir(folder), 0);
}

static void test_folder_with_every_failure(void **state)
{
    (void)state;
    static const char index[] = "{\"weight_map\":{\"a\":\"2.safetensors\",\"b\":\"1.safetensors\"}}";
    char folder[] = "/tmp/bulla-test-source-XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct buffer first =
        make_safetensors("{\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
    struct buffer second = make_safetensors("{\"a\":{\"dtype\":\"F16\",\"shape\":[1,3],\"data_offsets\":[0,6]},"
                                            "\"unlisted\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[6,8]}}",
                                            8);
    write_text(folder, "1.safetensors", first.data, first.length);
    write_text(folder, "2.safetensors", second.data, second.length);
    write_text(folder, "model.safetensors.index.json", index, sizeof index - 1);
    write_text(folder, "config.json", "{\"x\":[1]}", 9);
    write_text(folder, "chat_template.jinja", "{{ x }}", 7);
    for (int round = 0; round < 2; round++) {
        for (uint64_t n = 1;; n++) {
            bulla_error error = {0};
            struct source *source;
            if (round)
                memory_inject_failure(n, 0);
            else
                file_inject_failure(n, 0);
            int code = source_open(folder, &source, &error);
            memory_inject_failure(0, 0);
            file_inject_failure(0, 0);
            if (code == BULLA_OK) {
                const uint8_t *data;
                size_t length;
                assert_int_equal(source_tensor_count(source), 2);
                assert_string_equal(source_tensor_at(source, 0)->name, "a");
                assert_ok(source_side_file(source, "chat_template.jinja", &data, &length, &error), error);
                assert_int_equal(length, 7);
                assert_memory_equal(data, "{{ x }}", 7);
                assert_ok(source_side_file(source, "tokenizer.model", &data, &length, &error), error);
                assert_null(data);
                assert_int_equal(source_side_file(source, "/etc/passwd", &data, &length, &error), BULLA_E_USAGE);
                assert_null(source_json(source, "tokenizer.json"));
                source_tensor_release(source, source_tensor_at(source, 0));
                source_close(source);
                break;
            }
            assert_null(source);
            assert_int_equal(code, round ? BULLA_E_MEMORY : BULLA_E_IO);
            assert_true(n < 1000);
        }
    }
    buffer_free(&first);
    buffer_free(&second);
    remove_files(folder, (const char *const[]){"1.safetensors", "2.safetensors", "model.safetensors.index.json",
                                               "config.json", "chat_template.jinja", NULL});
}

/* Several threads at once. */

struct work {
    const struct source *source;
    const struct source_tensor *tensor;
    int number, wrong;
};

static void *read_rows(void *argument)
{
    struct work *work = argument;
    float values[256];
    for (int i = 0; i < 2000; i++) {
        uint64_t row = (uint64_t)(i * 7 + work->number * 13) % work->tensor->rows;
        if (source_tensor_read(work->source, work->tensor, row, 1, values, NULL) != BULLA_OK)
            work->wrong++;
        for (int j = 0; j < 256; j++)
            work->wrong += values[j] != (float)(row * 256 + (uint64_t)j);
        source_tensor_release(work->source, work->tensor);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    char folder[] = "/tmp/bulla-test-source-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    struct buffer bytes =
        make_safetensors("{\"t\":{\"dtype\":\"F32\",\"shape\":[512,256],\"data_offsets\":[0,524288]}}", 0);
    for (int i = 0; i < 512 * 256; i++) {
        float value = (float)i;
        buffer_append(&bytes, &value, sizeof value);
    }
    write_text(folder, "t.safetensors", bytes.data, bytes.length);
    snprintf(path, sizeof path, "%s/t.safetensors", folder);
    bulla_error error = {0};
    struct source *source;
    pthread_t threads[4];
    struct work work[4];
    assert_ok(source_open(path, &source, &error), error);
    for (int i = 0; i < 4; i++) {
        work[i] = (struct work){source, source_tensor_at(source, 0), i, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, read_rows, &work[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(work[i].wrong, 0);
    }
    source_close(source);
    buffer_free(&bytes);
    remove_files(folder, (const char *const[]){"t.safetensors", NULL});
}

/* Names. */

static void test_name_table(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct name_table table = {0};
    static char names[50000][8];
    size_t index;
    assert_false(name_table_find(&table, "x", 1, &index));
    for (size_t i = 0; i < 50000; i++) {
        snprintf(names[i], sizeof names[i], "%zu", i * 17);
        assert_ok(name_table_add(&table, names[i], strlen(names[i]), i, &error), error);
    }
    for (size_t i = 0; i < 50000 * 17; i++) {
        char name[16];
        snprintf(name, sizeof name, "%zu", i);
        assert_int_equal(name_table_find(&table, name, strlen(name), &index), i % 17 == 0);
        if (i % 17 == 0)
            assert_int_equal(index, i / 17);
    }
    name_table_free(&table);
}

/* Names made to collide: their hashes, computed here as name_table.c does, share 12 low bits. */
static void test_name_table_stops_at_collisions(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct name_table table = {0};
    static char names[1100][12];
    size_t added = 0, index;
    for (unsigned number = 0; added < 1100; number++) {
        uint64_t hash = UINT64_C(0xCBF29CE484222325);
        snprintf(names[added], sizeof names[added], "%u", number);
        for (const char *c = names[added]; *c; c++)
            hash = (hash ^ (unsigned char)*c) * UINT64_C(0x100000001B3);
        hash = (hash ^ hash >> 33) * UINT64_C(0xFF51AFD7ED558CCD);
        added += ((hash ^ hash >> 33) & 4095) == 0;
    }
    size_t i = 0;
    while (i < 1100 && name_table_add(&table, names[i], strlen(names[i]), i, &error) == BULLA_OK)
        i++;
    assert_int_equal(i, 1024);
    assert_int_equal(error.code, BULLA_E_LIMIT);
    assert_true(name_table_find(&table, names[1023], strlen(names[1023]), &index));
    assert_false(name_table_find(&table, names[1024], strlen(names[1024]), &index));
    name_table_free(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gguf_tensors),
        cmocka_unit_test(test_gguf_settings),
        cmocka_unit_test(test_packed_matrix),
        cmocka_unit_test(test_damaged_gguf),
        cmocka_unit_test(test_damaged_safetensors),
        cmocka_unit_test(test_allocation_failures),
        cmocka_unit_test(test_folder_with_every_failure),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_name_table),
        cmocka_unit_test(test_name_table_stops_at_collisions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
