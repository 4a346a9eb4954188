#define _GNU_SOURCE /* memfd_create */
#include "serve/dispute_part.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/model_file.h"

enum { HEADER = 128, MOST_PART = 256 << 20 };
static const char magic[16] = "bulla-part-1\n";

int dispute_part_write(const struct trace_model *model, const char *path, bulla_error *error)
{
    struct buffer out = {0};
    uint8_t proof[64][MERKLE_HASH];
    const void *part;
    size_t length;
    unsigned proof_length;
    int code = trace_model_part(model, &part, &length, proof, &proof_length, error);
    if (code != BULLA_OK)
        return code;
    buffer_append(&out, magic, sizeof magic);
    buffer_append(&out, model->leaves.hashes + model->leaves.start[model->leaves.height] * MERKLE_HASH, MERKLE_HASH);
    buffer_append_u64(&out, model->region_length);
    buffer_append_u64(&out, length);
    buffer_append_u64(&out, (uint64_t)proof_length * MERKLE_HASH);
    buffer_pad(&out, HEADER);
    buffer_append(&out, part, length);
    buffer_append(&out, proof, (size_t)proof_length * MERKLE_HASH);
    code = out.error.code != BULLA_OK ? bulla_fail(error, out.error.code, "%s", out.error.text)
                                      : file_write(path, out.data, out.length, error);
    buffer_free(&out);
    return code;
}

static int check_part(const char *path, uint8_t *bytes, size_t length, struct step_program *program, bulla_error *error)
{
    struct reader reader = reader_over(bytes, length);
    const uint8_t *start = reader_bytes(&reader, sizeof magic), *root = reader_bytes(&reader, MERKLE_HASH);
    uint64_t region = reader_u64(&reader), part = reader_u64(&reader), proof = reader_u64(&reader);
    if (reader.failed || memcmp(start, magic, sizeof magic) != 0 || length < HEADER || part > length - HEADER ||
        proof != length - HEADER - part)
        return bulla_fail(error, BULLA_E_INPUT, "%s: not a model's program part; `bulla dispute part` writes one", path);
    struct hash_stream *stream = hash_stream_open(error);
    if (!stream)
        return BULLA_E_MEMORY;
    int code = step_program_part(bytes + HEADER, part, bytes + HEADER + part, proof, root, stream, program, error);
    hash_stream_close(stream);
    if (code != BULLA_OK)
        return bulla_fail_prefix(error, "%s", path);
    if (program->region_length != region)
        return bulla_fail(error, BULLA_E_INPUT, "%s: its header says another length of the region", path);
    return BULLA_OK;
}

int dispute_part_open(const char *path, struct dispute_part *part, bulla_error *error)
{
    uint8_t *bytes;
    size_t length;
    *part = (struct dispute_part){0};
    int code = file_read(path, MOST_PART, &bytes, &length, error);
    if (code != BULLA_OK)
        return code;
    part->bytes = bytes;
    code = check_part(path, bytes, length, &part->program, error);
    if (code != BULLA_OK)
        dispute_part_close(part);
    return code;
}

void dispute_part_close(struct dispute_part *part)
{
    memory_free(part->bytes);
    *part = (struct dispute_part){0};
}

static int write_all(int descriptor, const void *bytes, size_t length, off_t offset)
{
    for (size_t at = 0; at < length;) {
        ssize_t written = pwrite(descriptor, (const uint8_t *)bytes + at, length - at, offset + (off_t)at);
        if (written <= 0)
            return 0;
        at += (size_t)written;
    }
    return 1;
}

int dispute_part_model(const struct dispute_part *part, int *descriptor, bulla_error *error)
{
    static const char description[] = "{}";
    const uint8_t *region = (const uint8_t *)part->bytes + HEADER;
    uint64_t length = part->program.program.tensors[0].offset, whole = part->program.region_length;
    struct model_file_header header = {.file_version = MODEL_FILE_VERSION, .program_version = BULLA_PROGRAM_VERSION,
        .region_offset = MODEL_FILE_HEADER, .region_length = whole, .description_offset = MODEL_FILE_HEADER + whole,
        .description_length = sizeof description - 1};
    memcpy(header.magic, MODEL_FILE_MAGIC, sizeof header.magic);
    memcpy(header.model_root, part->program.model_root, MERKLE_HASH);
    int code = model_file_header_digest(&header, description, sizeof description - 1, header.header_digest, error);
    if (code != BULLA_OK)
        return code;
    *descriptor = memfd_create("bulla-program", MFD_CLOEXEC);
    if (*descriptor < 0 || !write_all(*descriptor, &header, sizeof header, 0) ||
        !write_all(*descriptor, region, length, MODEL_FILE_HEADER) ||
        !write_all(*descriptor, description, sizeof description - 1, (off_t)(MODEL_FILE_HEADER + whole))) {
        if (*descriptor >= 0)
            close(*descriptor);
        return bulla_fail(error, BULLA_E_IO, "the system gives no memory for a model's program");
    }
    return BULLA_OK;
}
