/* Model files: written, read back, and refused after any damage whatever. */
#define _GNU_SOURCE
#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/merkle_data.h"
#include "bulla/model.h"
#include "model/model_file.h"
#include "random_program.h"
#include "small_model.h"

static char folder[64], path[128];
static bulla_program *program;
static uint8_t root[32];
static const char description[] = "{\"architecture\":\"llama\"}", template[] = "{{ messages[0].content }}";

static int make_model(void **state)
{
    bulla_error error = {0};
    strcpy(folder, "/tmp/bulla-test-model-XXXXXX");
    if (!mkdtemp(folder) || random_program_new(2, RANDOM_ODD, 0, &program, &error) != BULLA_OK)
        return -1;
    snprintf(path, sizeof path, "%s/model.bulla", folder);
    return small_model_write(path, program, template, description, root, &error);
}

static int remove_model(void **state)
{
    random_program_free(program);
    DIR *listing = opendir(folder);
    for (struct dirent *entry; listing && (entry = readdir(listing));)
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(listing), entry->d_name, 0);
    if (listing)
        closedir(listing);
    return rmdir(folder);
}

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

static void test_read_back(void **state)
{
    bulla_error error = {0};
    for (unsigned threads = 0; threads < 4; threads++) {
        bulla_model *model;
        assert_ok(bulla_model_open(path, threads, &model, &error), error);
        const bulla_program *found = bulla_model_program(model);
        assert_int_equal(found->operation_count, program->operation_count);
        assert_memory_equal(found->operations, program->operations,
                            program->operation_count * sizeof *program->operations);
        assert_int_equal(found->tensor_count, program->tensor_count);
        for (uint32_t i = 0; i < found->tensor_count; i++) {
            assert_string_equal(found->tensors[i].name, program->tensors[i].name);
            assert_int_equal((uintptr_t)found->data[i] % 64, 0);
            assert_memory_equal(found->data[i], program->data[i], program->tensors[i].bytes);
            bulla_model_release(model); /* and read again */
        }
        assert_memory_equal(found->data[5], program->data[5], program->tensors[5].bytes);
        size_t length;
        const char *text = bulla_model_chat_template(model, &length);
        assert_int_equal(length, strlen(template));
        assert_memory_equal(text, template, length);
        text = bulla_model_description(model, &length);
        assert_int_equal(length, strlen(description));
        assert_memory_equal(text, description, length);
        assert_memory_equal(bulla_model_root(model), root, 32);
        assert_int_equal(bulla_model_source_digest(model)[2], 3);
        assert_int_equal(bulla_tokenizer_vocabulary(bulla_model_tokenizer(model)), program->vocabulary);
        bulla_model_close(model);
    }
    bulla_model_close(NULL);
}

/* The root is that of the bytes of the region, whoever computes it. */
static void test_root(void **state)
{
    bulla_error error = {0};
    uint8_t *bytes, found[32];
    size_t length;
    assert_ok(file_read(path, SIZE_MAX / 4, &bytes, &length, &error), error);
    const struct model_file_header *header = (const void *)bytes;
    uint64_t leaves = (header->region_length + 1023) / 1024;
    uint8_t *hashes = memory_alloc(leaves, 32, NULL);
    assert_ok(merkle_leaf_hashes(bytes + 4096, header->region_length, NULL, hashes, &error), error);
    assert_ok(merkle_root(hashes, leaves, found, &error), error);
    assert_memory_equal(found, root, 32);
    memory_free(hashes);
    memory_free(bytes);
    /* The same program gives the same file; description and source are not in the root. */
    char other[160];
    uint8_t again[32];
    snprintf(other, sizeof other, "%s/other", folder);
    assert_ok(small_model_write(other, program, template, "{}", again, &error), error);
    assert_memory_equal(again, root, 32);
    assert_ok(small_model_write(other, program, "another template", description, again, &error), error);
    assert_memory_not_equal(again, root, 32);
    unlink(other);
}

static void test_program_json(void **state)
{
    bulla_error error = {0};
    bulla_model *model;
    char *text, hex[65];
    size_t length;
    assert_ok(bulla_model_open(path, 1, &model, &error), error);
    assert_ok(bulla_model_program_json(model, &text, &length, &error), error);
    struct arena arena = {0};
    struct json *json = json_parse(text, length, "program", &arena, &error);
    assert_non_null(json);
    hex_encode(root, 32, hex);
    assert_string_equal(json_get(json, "model_root")->text, hex);
    assert_int_equal(json_get(json, "version")->integer, 1);
    const struct json *operations = json_get(json, "operations"), *tensors = json_get(json, "tensors");
    assert_int_equal(operations->length, program->operation_count);
    assert_int_equal(tensors->length, program->tensor_count);
    for (uint32_t i = 0; i < program->operation_count; i++) {
        const bulla_operation *o = &program->operations[i];
        const struct json *one = operations->items[i], *inputs = json_get(one, "inputs");
        assert_string_equal(json_get(one, "kind")->text, bulla_operation_kind_name(o->kind));
        for (size_t j = 0; j < 3; j++)
            assert_int_equal(j < inputs->length ? inputs->items[j]->integer : -1, o->inputs[j]);
        for (int role = 0; role < BULLA_TENSOR_ROLES; role++) {
            const struct json *name = json_get(json_get(one, "tensors"), bulla_tensor_role_name(role));
            assert_int_equal(name != NULL, o->tensors[role] >= 0);
            if (name)
                assert_string_equal(name->text, program->tensors[o->tensors[role]].name);
        }
    }
    bulla_text_free(text);
    for (uint64_t n = 1, code = 1; code; n++) {
        memory_inject_failure(n, 0);
        bulla_error_clear(&error);
        code = (uint64_t)bulla_model_program_json(model, &text, &length, &error);
        memory_inject_failure(0, 0);
        if (code)
            assert_int_equal(code, BULLA_E_MEMORY);
        else
            bulla_text_free(text);
    }
    arena_free(&arena);
    bulla_model_close(model);
}

static void assert_refused(const char *file, const char *what, uint64_t where)
{
    bulla_error error = {0};
    bulla_model *model;
    int code = bulla_model_open(file, 1, &model, &error);
    if (code == BULLA_OK)
        fail_msg("%s at %llu: taken", what, (unsigned long long)where);
    if (model || error.code != code || strncmp(error.text, file, strlen(file)) != 0)
        fail_msg("%s at %llu: code %d, the sentence is \"%s\"", what, (unsigned long long)where, code, error.text);
}

/* A byte changed: every one with full counts; otherwise all of the headers, the
 * records, the tokenizer and the description, and a part of the tensors. */
static void test_changed_bytes(void **state)
{
    int file = open(path, O_RDWR);
    struct stat info;
    assert_true(file >= 0 && fstat(file, &info) == 0);
    struct model_region_header header;
    assert_int_equal(pread(file, &header, sizeof header, 4096), sizeof header);
    uint64_t end = (uint64_t)info.st_size, data = 4096 + header.data_offset, changed = 0;
    for (uint64_t at = 0; at < end; changed++) {
        uint8_t byte, other;
        assert_int_equal(pread(file, &byte, 1, (off_t)at), 1);
        other = byte ^ (uint8_t)(1 << at % 8);
        assert_int_equal(pwrite(file, &other, 1, (off_t)at), 1);
        assert_refused(path, "a changed byte", at);
        assert_int_equal(pwrite(file, &byte, 1, (off_t)at), 1);
        int dense = test_count(0, 1) || at < 256 || (at >= 4096 && at < 4096 + 256) || at >= end - 64;
        at += dense ? 1 : at < data ? 13 : 257;
    }
    close(file);
    bulla_error error = {0};
    bulla_model *model;
    assert_ok(bulla_model_open(path, 1, &model, &error), error);
    bulla_model_close(model);
    print_message("%llu of %llu bytes changed, each refused\n", (unsigned long long)changed, (unsigned long long)end);
}

static void write_bytes(const char *file, const uint8_t *bytes, size_t length)
{
    int descriptor = open(file, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, bytes, length), (ssize_t)length);
    close(descriptor);
}

static void test_cut_and_longer_files(void **state)
{
    bulla_error error = {0};
    uint8_t *bytes;
    size_t length;
    char other[160];
    snprintf(other, sizeof other, "%s/cut", folder);
    assert_ok(file_read(path, SIZE_MAX / 4, &bytes, &length, &error), error);
    for (int i = 0; i < 64; i++) {
        write_bytes(other, bytes, length * (size_t)i / 64);
        assert_refused(other, "cut", length * (size_t)i / 64);
    }
    static const size_t more[] = {1, 16, 4095, 4096, 5119};
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) {
        write_bytes(other, bytes, more[i]);
        assert_refused(other, "cut", more[i]);
        write_bytes(other, bytes, length - more[i]);
        assert_refused(other, "cut", length - more[i]);
    }
    bytes = memory_resize(bytes, length + 1, 1, NULL);
    bytes[length] = 0;
    write_bytes(other, bytes, length + 1);
    assert_refused(other, "a byte more", length);
    unlink(other);
    assert_refused(other, "no file", 0);
    assert_refused(folder, "a folder", 0);
    memory_free(bytes);
}

/* As an attacker would: root and digest made right again after the change. */
static void seal(uint8_t *bytes, size_t length)
{
    struct model_file_header *header = (void *)bytes;
    uint64_t leaves = (header->region_length + 1023) / 1024;
    uint8_t *hashes = memory_alloc(leaves, 32, NULL);
    assert_int_equal(merkle_leaf_hashes(bytes + 4096, header->region_length, NULL, hashes, NULL), BULLA_OK);
    assert_int_equal(merkle_root(hashes, leaves, header->model_root, NULL), BULLA_OK);
    memory_free(hashes);
    assert_int_equal(model_file_header_digest(header, (char *)bytes + header->description_offset,
                                              header->description_length, header->header_digest, NULL), BULLA_OK);
}

static void test_wrong_fields(void **state)
{
    bulla_error error = {0};
    uint8_t *bytes;
    size_t length;
    char other[160];
    snprintf(other, sizeof other, "%s/wrong", folder);
    assert_ok(file_read(path, SIZE_MAX / 4, &bytes, &length, &error), error);
    uint8_t *kept = memory_alloc(length, 1, NULL);
    memcpy(kept, bytes, length);
    struct model_file_header *header = (void *)bytes;
    struct model_region_header *region = (void *)(bytes + 4096);
    bulla_tensor *tensors = (void *)(bytes + 4096 + region->tensors_offset);
    uint32_t last = region->tensor_count - 1;
    size_t refused = 0;
#define REFUSE(sealed, change)                                                                                          \
    do {                                                                                                                \
        change;                                                                                                         \
        if (sealed)                                                                                                     \
            seal(bytes, length);                                                                                        \
        else                                                                                                            \
            (void)model_file_header_digest(header, description, strlen(description), header->header_digest, NULL);      \
        write_bytes(other, bytes, length);                                                                              \
        assert_refused(other, #change, 0);                                                                              \
        memcpy(bytes, kept, length);                                                                                    \
        refused++;                                                                                                      \
    } while (0)
    REFUSE(0, header->file_version++);
    REFUSE(0, header->program_version = 0);
    REFUSE(0, header->region_offset = 0);
    REFUSE(0, header->region_offset = UINT64_MAX);
    REFUSE(0, header->region_length = 0);
    REFUSE(0, header->region_length++);
    REFUSE(0, header->region_length = UINT64_MAX - 4095);
    REFUSE(0, header->description_offset = UINT64_MAX);
    REFUSE(0, header->description_length = UINT64_MAX);
    REFUSE(0, header->description_length--);
    REFUSE(0, header->model_root[31] ^= 1);
    REFUSE(0, header->reserved[0] = 1);
    REFUSE(0, header->reserved[sizeof header->reserved - 1] = 1);
    REFUSE(1, region->magic[0] = 0);
    REFUSE(1, region->version = 2);
    REFUSE(1, region->operation_count++);
    REFUSE(1, region->operation_count = UINT32_MAX);
    REFUSE(1, region->tensor_count--);
    REFUSE(1, region->tensor_count = UINT32_MAX);
    REFUSE(1, region->vocabulary++);
    REFUSE(1, region->context = 0);
    REFUSE(1, region->layers = 0);
    REFUSE(1, region->logits_F = -1);
    REFUSE(1, region->reserved_word = 1);
    REFUSE(1, region->reserved[900] = 1);
    REFUSE(1, region->operations_offset += 64);
    REFUSE(1, region->operations_offset = UINT64_MAX);
    REFUSE(1, region->tensors_offset -= 64);
    REFUSE(1, region->tensors_offset = 1);
    REFUSE(1, region->tokenizer_offset = 0);
    REFUSE(1, region->tokenizer_offset = UINT64_MAX - 63);
    REFUSE(1, region->tokenizer_length--);
    REFUSE(1, region->tokenizer_length = UINT64_MAX);
    REFUSE(1, region->template_offset = region->tokenizer_offset);
    REFUSE(1, region->template_length = UINT64_MAX);
    REFUSE(1, region->data_offset = 0);
    REFUSE(1, region->data_offset += 1024);
    REFUSE(1, tensors[0].offset += 64);
    REFUSE(1, tensors[7].offset = tensors[6].offset);
    REFUSE(1, tensors[7].offset = UINT64_MAX);
    REFUSE(1, tensors[7].offset++);
    REFUSE(1, tensors[7].bytes += 64);
    REFUSE(1, tensors[last].bytes = UINT64_MAX);
    REFUSE(1, tensors[last].rows = tensors[last].bytes = 0);
    REFUSE(1, bytes[4096 + region->template_offset + region->template_length] = 1); /* between two parts */
    REFUSE(1, bytes[4096 + region->tokenizer_offset + 9] ^= 1);
    REFUSE(1, ((bulla_operation *)(void *)(bytes + 4096 + region->operations_offset))[3].kind = 0);
#undef REFUSE
    seal(bytes, length); /* nothing changed: taken */
    write_bytes(other, bytes, length);
    bulla_model *model;
    assert_ok(bulla_model_open(other, 1, &model, &error), error);
    bulla_model_close(model);
    unlink(other);
    memory_free(bytes);
    memory_free(kept);
    print_message("%zu wrong fields refused, with roots and digests made right again\n", refused);
}

/* Whatever the system refuses on the way, no file that loads appears. */
static void test_failing_disk(void **state)
{
    char other[160];
    snprintf(other, sizeof other, "%s/failing", folder);
    size_t files = count_files(), failures = 0;
    for (int keep = 0; keep < 2; keep++)
        for (uint64_t n = 1;; n++) {
            bulla_error error = {0};
            uint8_t other_root[32];
            file_inject_failure(n, keep);
            int code = small_model_write(other, program, template, description, other_root, &error);
            file_inject_failure(0, 0);
            if (code == BULLA_OK) {
                assert_memory_equal(other_root, root, 32);
                unlink(other);
                break;
            }
            failures++;
            assert_int_equal(code, BULLA_E_IO);
            assert_int_equal(error.code, BULLA_E_IO);
            bulla_model *model;
            int opened = bulla_model_open(other, 1, &model, NULL);
            if (opened == BULLA_OK) { /* only where the folder's own fsync failed, after the rename: all of it is there */
                assert_memory_equal(bulla_model_root(model), root, 32);
                bulla_model_close(model);
                assert_non_null(strstr(error.text, "folder"));
                unlink(other);
            }
            assert_int_equal(count_files(), files);
        }
    print_message("%zu failing system calls, no partial file\n", failures);
    assert_true(failures > 20);
    for (uint64_t n = 1;; n++) { /* reading */
        bulla_error error = {0};
        bulla_model *model;
        file_inject_failure(n, 0);
        int code = bulla_model_open(path, 1, &model, &error);
        file_inject_failure(0, 0);
        bulla_model_close(model);
        if (code == BULLA_OK)
            break;
        assert_int_equal(code, BULLA_E_IO);
        assert_null(model);
    }
}

static void test_short_transfers(void **state)
{
    char other[160];
    uint8_t other_root[32];
    bulla_error error = {0};
    bulla_model *model;
    snprintf(other, sizeof other, "%s/short", folder);
    file_inject_short_transfers(1000);
    assert_ok(small_model_write(other, program, template, description, other_root, &error), error);
    file_inject_short_transfers(0);
    assert_ok(bulla_model_open(other, 2, &model, &error), error);
    bulla_model_close(model);
    unlink(other);
}

/* Without its root: what another process checks is taken as the header claims it, and nothing else is. */
static void test_unrooted(void **state)
{
    char other[160];
    uint8_t *bytes;
    size_t length;
    bulla_error error = {0};
    bulla_model *model;
    snprintf(other, sizeof other, "%s/unrooted", folder);
    assert_ok(file_read(path, SIZE_MAX / 4, &bytes, &length, &error), error);
    assert_ok(bulla_model_open(path, 1, &model, &error), error);
    uint64_t weight = bulla_model_program(model)->tensors[bulla_model_program(model)->tensor_count - 1].offset;
    bulla_model_close(model);
    bytes[4096 + weight] ^= 1;
    write_bytes(other, bytes, length);
    assert_refused(other, "a changed weight", weight);
    int descriptor = open(other, O_RDONLY | O_CLOEXEC);
    assert_true(descriptor >= 0);
    assert_ok(bulla_model_open_unrooted(descriptor, "it", &model, &error), error);
    assert_memory_equal(bulla_model_root(model), root, 32);
    bulla_model_close(model);
    bytes[0] ^= 1;
    write_bytes(other, bytes, length);
    assert_int_equal(bulla_model_open_unrooted(descriptor, "it", &model, &error), BULLA_E_INPUT);
    assert_null(model);
    close(descriptor);
    unlink(other);
    memory_free(bytes);
}

static void test_allocation_failures(void **state)
{
    char other[160];
    snprintf(other, sizeof other, "%s/memory", folder);
    size_t files = count_files();
    uint64_t failed_write = 0, failed_open = 0;
    for (int code = 1; code; failed_write++) {
        bulla_error error = {0};
        uint8_t other_root[32];
        memory_inject_failure(failed_write + 1, 0);
        code = small_model_write(other, program, template, description, other_root, &error);
        memory_inject_failure(0, 0);
        if (code) {
            assert_int_equal(code, BULLA_E_MEMORY);
            assert_int_equal(count_files(), files);
        }
    }
    unlink(other);
    for (int code = 1; code; failed_open++) {
        bulla_error error = {0};
        bulla_model *model;
        memory_inject_failure(failed_open + 1, 0);
        code = bulla_model_open(path, 2, &model, &error);
        memory_inject_failure(0, 0);
        if (code) {
            assert_int_equal(code, BULLA_E_MEMORY);
            assert_null(model);
        } else
            bulla_model_close(model);
    }
    print_message("%llu failing allocations while writing, %llu while opening\n", (unsigned long long)failed_write - 1,
                  (unsigned long long)failed_open - 1);
    assert_true(failed_write > 10 && failed_open > 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_back),
        cmocka_unit_test(test_root),
        cmocka_unit_test(test_program_json),
        cmocka_unit_test(test_changed_bytes),
        cmocka_unit_test(test_cut_and_longer_files),
        cmocka_unit_test(test_wrong_fields),
        cmocka_unit_test(test_failing_disk),
        cmocka_unit_test(test_short_transfers),
        cmocka_unit_test(test_unrooted),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
