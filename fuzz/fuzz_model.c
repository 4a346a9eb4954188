/* Model files: a small valid file is changed as the input says, its root and
 * digest made right again (as an attacker would), and opened. What opens is
 * printed and run by the reference for a few positions.
 *
 * Input: the family of the program, how many tokens, then changes: what part
 * (u8), which record (u16), where in it (u16), how many bytes (u8), the bytes. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/merkle_data.h"
#include "bulla/model.h"
#include "bulla/sampler.h"
#include "exec/ref/run.h"
#include "model/model_file.h"
#include "random_program.h"
#include "small_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum part { PART_HEADER, PART_REGION, PART_OPERATION, PART_TENSOR, PART_TEXTS, PART_VALUES, PART_LENGTH, PARTS };
enum { MOST_TOKENS = 70 };

struct base {
    uint8_t *bytes;
    size_t length;
};

/* The valid file of a family, made once. */
static const struct base *base_file(int family)
{
    static struct base bases[RANDOM_FAMILIES];
    struct base *base = &bases[family];
    if (base->bytes)
        return base;
    char path[] = "/tmp/bulla-fuzz-model-XXXXXX";
    bulla_program *program;
    uint8_t root[32];
    int file = mkstemp(path);
    if (file < 0 || random_program_new(1, family, 0, &program, NULL) != BULLA_OK ||
        small_model_write(path, program, "{{ x }}", "{}", root, NULL) != BULLA_OK ||
        file_read(path, 64 << 20, &base->bytes, &base->length, NULL) != BULLA_OK)
        abort();
    close(file);
    unlink(path);
    random_program_free(program);
    return base;
}

/* Where the bytes of a part's record are; offsets as in the unchanged file. */
static uint64_t place_of(const struct base *base, enum part part, uint64_t record, uint64_t offset, uint64_t *end)
{
    const struct model_region_header *region = (const void *)(base->bytes + MODEL_FILE_HEADER);
    const bulla_tensor *tensors = (const void *)(base->bytes + MODEL_FILE_HEADER + region->tensors_offset);
    uint64_t start = 0, length = MODEL_FILE_HEADER;
    switch (part) {
    case PART_REGION:
        start = MODEL_FILE_HEADER;
        length = MODEL_REGION_HEADER;
        break;
    case PART_OPERATION:
        start = MODEL_FILE_HEADER + region->operations_offset + record % region->operation_count * sizeof(bulla_operation);
        length = sizeof(bulla_operation);
        break;
    case PART_TENSOR:
        start = MODEL_FILE_HEADER + region->tensors_offset + record % region->tensor_count * sizeof(bulla_tensor);
        length = sizeof(bulla_tensor);
        break;
    case PART_TEXTS:
        start = MODEL_FILE_HEADER + region->tokenizer_offset;
        length = region->template_offset + region->template_length - region->tokenizer_offset;
        break;
    case PART_VALUES: /* not the tables, which are known by their digest */
        start = MODEL_FILE_HEADER + tensors[4 + record % (region->tensor_count - 4)].offset;
        length = tensors[4 + record % (region->tensor_count - 4)].bytes;
        offset = offset * length / 65536;
        break;
    default:
        break;
    }
    *end = start + length;
    return start + offset % length;
}

static void apply_changes(const struct base *base, uint8_t *bytes, size_t *length, struct reader *reader)
{
    while (reader_left(reader) >= 7) {
        enum part part = reader_u8(reader) % PARTS;
        uint64_t record = reader_u16(reader), offset = reader_u16(reader), count = reader_u8(reader) % 33, end;
        if (part == PART_LENGTH) {
            *length = offset < base->length ? base->length - offset : 0;
            continue;
        }
        uint64_t at = place_of(base, part, record, offset, &end);
        count = count < reader_left(reader) ? count : reader_left(reader);
        const uint8_t *change = reader_bytes(reader, count);
        for (uint64_t i = 0; i < count && at + i < end; i++)
            bytes[at + i] = change[i];
    }
}

/* Root and digest over whatever the header now says, where that lies in the file. */
static void seal(uint8_t *bytes, size_t length)
{
    struct model_file_header *header = (void *)bytes;
    if (length < MODEL_FILE_HEADER + MODEL_REGION_HEADER || header->region_length > length - MODEL_FILE_HEADER ||
        header->region_length == 0 || header->description_offset > length ||
        header->description_length > length - header->description_offset)
        return;
    uint64_t leaves = (header->region_length + MERKLE_LEAF - 1) / MERKLE_LEAF;
    uint8_t *hashes = memory_alloc(leaves, MERKLE_HASH, NULL);
    if (!hashes || merkle_leaf_hashes(bytes + MODEL_FILE_HEADER, header->region_length, NULL, hashes, NULL) != BULLA_OK ||
        merkle_root(hashes, leaves, header->model_root, NULL) != BULLA_OK ||
        model_file_header_digest(header, (char *)bytes + header->description_offset, header->description_length,
                                 header->header_digest, NULL) != BULLA_OK)
        abort();
    memory_free(hashes);
}

static void sample(const bulla_program *program, const int32_t *logits)
{
    bulla_sampler *sampler;
    bulla_sampling sampling;
    uint32_t token = 0;
    bulla_sampling_defaults(&sampling);
    sampling.temperature = 700000;
    sampling.top_p = 900000;
    if (bulla_sampler_open(program->vocabulary, program->data[1], &sampler, NULL) != BULLA_OK)
        return;
    if (bulla_sampler_draw(sampler, &sampling, logits, program->logits_F, NULL, 0, NULL, 0, NULL, 1, &token, NULL) !=
            BULLA_OK || token >= program->vocabulary)
        abort();
    bulla_sampler_close(sampler);
}

static void run_model(const bulla_model *model, unsigned tokens)
{
    const bulla_program *program = bulla_model_program(model);
    bulla_error error = {0};
    struct reference_run *run;
    char *text;
    size_t length;
    if (bulla_model_program_json(model, &text, &length, &error) != BULLA_OK)
        abort();
    bulla_text_free(text);
    int32_t *logits = memory_alloc(program->vocabulary, sizeof *logits, &error);
    tokens = tokens < program->context ? tokens : program->context;
    if (logits && reference_run_open(program, tokens - 1, &run, &error) == BULLA_OK) {
        uint32_t ids[MOST_TOKENS];
        for (uint32_t i = 0; i < tokens; i++)
            ids[i] = (uint32_t)((i * UINT64_C(2654435761)) % program->vocabulary);
        int code = reference_run_append(run, ids, tokens, logits, &error);
        if (code == BULLA_OK)
            sample(program, logits);
        else if (code != BULLA_E_RANGE && code != BULLA_E_MEMORY)
            abort();
        reference_run_close(run);
    }
    memory_free(logits);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int file = -1;
    if (file < 0 && (file = memfd_create("model", 0)) < 0)
        abort();
    struct reader reader = reader_over(data, size);
    int family = reader_u8(&reader) % RANDOM_FAMILIES;
    const struct base *base = base_file(family);
    unsigned tokens = reader_u8(&reader);
    /* Seldom beyond one block of attention, and where a position is cheap. */
    tokens = family == RANDOM_ODD && tokens > 240 ? MOST_TOKENS : tokens % 3 + 1;
    size_t length = base->length;
    uint8_t *bytes = memory_alloc(length, 1, NULL);
    if (!bytes)
        abort();
    memcpy(bytes, base->bytes, length);
    apply_changes(base, bytes, &length, &reader);
    seal(bytes, length);
    if (ftruncate(file, (off_t)length) != 0 || pwrite(file, bytes, length, 0) != (ssize_t)length)
        abort();
    memory_free(bytes);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    bulla_model *model;
    bulla_error error = {0};
    int code = bulla_model_open(path, 1, &model, &error);
    if (code == BULLA_OK)
        run_model(model, tokens);
    else if (error.code != code || !error.text[0])
        abort();
    bulla_model_close(model);
    return 0;
}
