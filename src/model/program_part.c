#include "model/program_part.h"

#include "model/model_file.h"

/* Operations and tensor records lie where the header says. */
static int check_header(const struct model_region_header *header, size_t length, bulla_error *error)
{
    int code = model_region_check(header, error);
    if (code)
        return code;
    uint64_t operations_end = header->operations_offset + (uint64_t)header->operation_count * sizeof(bulla_operation);
    uint64_t tensors_end = header->tensors_offset + (uint64_t)header->tensor_count * sizeof(bulla_tensor);
    if (header->data_offset != length || header->operations_offset != MODEL_REGION_HEADER ||
        header->tensors_offset > length || header->tensors_offset % MODEL_ALIGNMENT ||
        operations_end > header->tensors_offset || tensors_end > length)
        return bulla_fail(error, BULLA_E_INPUT, "the program part has %zu bytes; its header says %llu, and has operations or "
                          "tensor records elsewhere", length, (unsigned long long)header->data_offset);
    return BULLA_OK;
}

static int check_proof(const uint8_t *part, size_t length, const uint8_t *proof, size_t proof_length,
                       uint64_t region_length, const uint8_t model_root[MERKLE_HASH], struct hash_stream *stream,
                       bulla_error *error)
{
    struct merkle_prefix prefix = {0};
    uint8_t leaf[MERKLE_HASH];
    int code = BULLA_OK;
    for (size_t at = 0; at < length && code == BULLA_OK; at += MODEL_REGION_HEADER) {
        code = merkle_range_leaf(stream, -1, part + at, MODEL_REGION_HEADER, leaf);
        code = code ? code : merkle_prefix_add(stream, &prefix, leaf);
    }
    uint64_t leaves = (region_length + MODEL_REGION_HEADER - 1) / MODEL_REGION_HEADER;
    if (code || proof_length % MERKLE_HASH ||
        !merkle_prefix_verify(stream, &prefix, leaves, proof, (unsigned)(proof_length / MERKLE_HASH), model_root))
        return bulla_fail(error, BULLA_E_INPUT, "the program part of %zu bytes does not lead to the model root", length);
    return BULLA_OK;
}

static int check_tensors(const bulla_program *program, uint64_t region_length, bulla_error *error)
{
    for (uint32_t i = 0; i < program->tensor_count; i++) {
        const bulla_tensor *tensor = &program->tensors[i];
        if (tensor->bytes > region_length || tensor->offset > region_length - tensor->bytes)
            return bulla_fail(error, BULLA_E_INPUT, "tensor %u lies at %llu, beyond the region of %llu bytes", i,
                              (unsigned long long)tensor->offset, (unsigned long long)region_length);
    }
    return BULLA_OK;
}

int program_part_read(const void *part, size_t length, const uint8_t *proof, size_t proof_length,
                      const uint8_t model_root[MERKLE_HASH], struct hash_stream *stream, bulla_program *program,
                      uint64_t *region_length, bulla_error *error)
{
    const struct model_region_header *header = part;
    if (length < MODEL_REGION_HEADER || length % MODEL_REGION_HEADER || (uintptr_t)part % 8 || proof_length > 64 * MERKLE_HASH)
        return bulla_fail(error, BULLA_E_INPUT, "a program part of %zu bytes with a proof of %zu, expected whole leaves of %d",
                          length, proof_length, MODEL_REGION_HEADER);
    int code = check_header(header, length, error);
    if (code)
        return code;
    *program = (bulla_program){.operations = (const void *)((const uint8_t *)part + header->operations_offset),
        .operation_count = header->operation_count,
        .tensors = (const void *)((const uint8_t *)part + header->tensors_offset), .tensor_count = header->tensor_count,
        .vocabulary = header->vocabulary, .context = header->context, .layers = header->layers,
        .logits_F = header->logits_F};
    const bulla_tensor *last = program->tensor_count ? &program->tensors[program->tensor_count - 1] : NULL;
    if (!last || last->offset > UINT64_C(1) << 56 || last->bytes > UINT64_C(1) << 56)
        return bulla_fail(error, BULLA_E_INPUT, "the program part has no last tensor, or one beyond any model file");
    *region_length = last->offset + last->bytes;
    code = check_proof(part, length, proof, proof_length, *region_length, model_root, stream, error);
    code = code ? code : bulla_program_check(program, error);
    return code ? code : check_tensors(program, *region_length, error);
}
