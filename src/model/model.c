#include "bulla/model.h"

#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/merkle_data.h"
#include "model/model_file.h"
#include "model/program_names.h"

struct bulla_model {
    struct file_map map;
    const struct model_file_header *header;
    const uint8_t *region;
    const struct model_region_header *region_header;
    const void **data; /* [tensor_count] */
    bulla_program program;
    bulla_tokenizer *tokenizer;
};

static int is_zero(const uint8_t *bytes, uint64_t length)
{
    uint8_t any = 0;
    for (uint64_t i = 0; i < length; i++)
        any |= bytes[i];
    return any == 0;
}

static int check_header(bulla_model *model, bulla_error *error)
{
    uint64_t length = model->map.length;
    const struct model_file_header *header = (const void *)model->map.data;
    if (length < MODEL_FILE_HEADER + MODEL_REGION_HEADER)
        return bulla_fail(error, BULLA_E_INPUT, "the file has %llu bytes, a model file at least %d",
                          (unsigned long long)length, MODEL_FILE_HEADER + MODEL_REGION_HEADER);
    if (memcmp(header->magic, MODEL_FILE_MAGIC, 16) != 0)
        return bulla_fail(error, BULLA_E_INPUT, "this is not a Bulla model file, or its import was cut short; import it "
                          "with `bulla import SRC -o FILE`");
    if (header->file_version != MODEL_FILE_VERSION || header->program_version != BULLA_PROGRAM_VERSION)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "file version %u with program version %u; this build reads %d and "
                          "%d: import the source again", header->file_version, header->program_version,
                          MODEL_FILE_VERSION, BULLA_PROGRAM_VERSION);
    if (!is_zero(header->reserved, sizeof header->reserved))
        return bulla_fail(error, BULLA_E_INPUT, "a reserved byte of the header is not zero");
    uint64_t rest = length - MODEL_FILE_HEADER;
    if (header->region_offset != MODEL_FILE_HEADER || header->region_length < MODEL_REGION_HEADER ||
        header->region_length > rest || header->description_offset != MODEL_FILE_HEADER + header->region_length ||
        header->description_length != rest - header->region_length)
        return bulla_fail(error, BULLA_E_INPUT, "the header's parts do not fill the file's %llu bytes exactly",
                          (unsigned long long)length);
    uint8_t digest[32];
    int code = model_file_header_digest(header, (const char *)model->map.data + header->description_offset,
                                        header->description_length, digest, error);
    if (code == BULLA_OK && memcmp(digest, header->header_digest, 32) != 0)
        code = bulla_fail(error, BULLA_E_INPUT, "the header's digest does not match: the file was changed or damaged");
    model->header = header;
    model->region = model->map.data + header->region_offset;
    return code;
}

static int check_root(const bulla_model *model, unsigned threads, bulla_error *error)
{
    struct thread_team *team = NULL;
    uint8_t root[32];
    int code = thread_team_start(threads ? threads : thread_cores(), &team, error);
    if (code == BULLA_OK)
        code = merkle_data_root(model->region, model->header->region_length, team, root, error);
    thread_team_stop(team);
    if (code == BULLA_OK && memcmp(root, model->header->model_root, 32) != 0) {
        char found[65], expected[65];
        hex_encode(root, 32, found);
        hex_encode(model->header->model_root, 32, expected);
        code = bulla_fail(error, BULLA_E_INPUT, "the model root is %s, the header says %s: the file was changed or damaged",
                          found, expected);
    }
    return code;
}

/* The region's parts follow one another, each at the next multiple of its
 * alignment, zeros between: one program has one file. */
struct layout {
    const uint8_t *region;
    uint64_t length;
    uint64_t at; /* end of the part before */
};

static const void *take_part(struct layout *layout, const char *name, uint64_t alignment, uint64_t offset,
                             uint64_t length, bulla_error *error)
{
    uint64_t expected = (layout->at + alignment - 1) / alignment * alignment;
    if (offset != expected || offset > layout->length || length > layout->length - offset) {
        bulla_fail(error, BULLA_E_INPUT, "%s: %llu bytes at %llu of the region's %llu, expected them at %llu", name,
                   (unsigned long long)length, (unsigned long long)offset, (unsigned long long)layout->length,
                   (unsigned long long)expected);
        return NULL;
    }
    if (!is_zero(layout->region + layout->at, offset - layout->at)) {
        bulla_fail(error, BULLA_E_INPUT, "%s: the bytes before it are not zero", name);
        return NULL;
    }
    layout->at = offset + length;
    return layout->region + offset;
}

int model_region_check(const struct model_region_header *header, bulla_error *error)
{
    if (memcmp(header->magic, MODEL_REGION_MAGIC, 16) != 0 || header->version != BULLA_PROGRAM_VERSION)
        return bulla_fail(error, BULLA_E_INPUT, "the rooted region does not start with a program of version %d",
                          BULLA_PROGRAM_VERSION);
    if (header->reserved_word || !is_zero(header->reserved, sizeof header->reserved))
        return bulla_fail(error, BULLA_E_INPUT, "a reserved byte of the region's header is not zero");
    if (header->operation_count > 1 << 20 || header->tensor_count > 1 << 20)
        return bulla_fail(error, BULLA_E_INPUT, "%u operations and %u tensors are more than a program has",
                          header->operation_count, header->tensor_count);
    return BULLA_OK;
}

static int find_tensors(bulla_model *model, struct layout *layout, bulla_error *error)
{
    bulla_program *program = &model->program;
    model->data = memory_alloc(program->tensor_count, sizeof *model->data, error);
    if (!model->data)
        return BULLA_E_MEMORY;
    program->data = model->data;
    for (uint32_t i = 0; i < program->tensor_count; i++) {
        const bulla_tensor *tensor = &program->tensors[i];
        model->data[i] = take_part(layout, "a tensor", MODEL_ALIGNMENT, tensor->offset, tensor->bytes, error);
        if (!model->data[i]) {
            bulla_fail_prefix(error, "tensor %u", i);
            return BULLA_E_INPUT;
        }
    }
    if (layout->at != layout->length)
        return bulla_fail(error, BULLA_E_INPUT, "the tensors end at %llu of the region's %llu bytes",
                          (unsigned long long)layout->at, (unsigned long long)layout->length);
    return BULLA_OK;
}

/* With `reads_tensors` 0 they are where their records say, and nothing is said of what is there. */
static int read_region(bulla_model *model, int reads_tensors, bulla_error *error)
{
    const struct model_region_header *header = (const void *)model->region;
    int code = model_region_check(header, error);
    if (code)
        return code;
    model->region_header = header;
    bulla_program *program = &model->program;
    *program = (bulla_program){.operation_count = header->operation_count, .tensor_count = header->tensor_count,
                               .vocabulary = header->vocabulary, .context = header->context,
                               .layers = header->layers, .logits_F = header->logits_F};
    struct layout layout = {model->region, model->header->region_length, sizeof *header};
    program->operations = take_part(&layout, "operations", MODEL_ALIGNMENT, header->operations_offset,
                                    header->operation_count * sizeof(bulla_operation), error);
    if (program->operations)
        program->tensors = take_part(&layout, "tensor records", MODEL_ALIGNMENT, header->tensors_offset,
                                     header->tensor_count * sizeof(bulla_tensor), error);
    if (!program->tensors ||
        !take_part(&layout, "tokenizer", MODEL_ALIGNMENT, header->tokenizer_offset, header->tokenizer_length, error) ||
        !take_part(&layout, "chat template", MODEL_ALIGNMENT, header->template_offset, header->template_length, error) ||
        !take_part(&layout, "tensors", MERKLE_LEAF, header->data_offset, 0, error))
        return BULLA_E_INPUT;
    code = find_tensors(model, &layout, error);
    if (!reads_tensors)
        program->data = NULL;
    code = code ? code : bulla_program_check(program, error);
    program->data = model->data;
    return code;
}

/* Checks the file in `map`, which the model takes over, also where this fails. */
static int open_mapped(struct file_map map, const char *name, int checks_root, int reads_tensors, unsigned threads,
                       bulla_model **result, bulla_error *error)
{
    bulla_model *model = memory_alloc(1, sizeof *model, error);
    if (!model) {
        file_map_close(&map);
        return BULLA_E_MEMORY;
    }
    model->map = map;
    int code = check_header(model, error);
    if (code == BULLA_OK && checks_root)
        code = check_root(model, threads, error);
    if (code == BULLA_OK)
        code = read_region(model, reads_tensors, error);
    if (code == BULLA_OK)
        code = bulla_tokenizer_open(model->region + model->region_header->tokenizer_offset,
                                    model->region_header->tokenizer_length, &model->tokenizer, error);
    if (code == BULLA_OK && bulla_tokenizer_vocabulary(model->tokenizer) != model->program.vocabulary)
        code = bulla_fail(error, BULLA_E_INPUT, "the tokenizer has %u ids, the program %u",
                          bulla_tokenizer_vocabulary(model->tokenizer), model->program.vocabulary);
    if (code != BULLA_OK) {
        bulla_model_close(model);
        bulla_fail_prefix(error, "%s", name);
        return code;
    }
    *result = model;
    return BULLA_OK;
}

int bulla_model_open(const char *path, unsigned threads, bulla_model **result, bulla_error *error)
{
    struct file_map map;
    *result = NULL;
    int code = file_map_open(path, &map, error);
    return code == BULLA_OK ? open_mapped(map, path, 1, 1, threads, result, error) : code;
}

int bulla_model_open_descriptor(int descriptor, const char *name, unsigned threads, bulla_model **result,
                                bulla_error *error)
{
    struct file_map map;
    *result = NULL;
    int code = file_map_descriptor(descriptor, name, &map, error);
    return code == BULLA_OK ? open_mapped(map, name, 1, 1, threads, result, error) : code;
}

int bulla_model_open_unrooted(int descriptor, const char *name, bulla_model **result, bulla_error *error)
{
    struct file_map map;
    *result = NULL;
    int code = file_map_descriptor(descriptor, name, &map, error);
    return code == BULLA_OK ? open_mapped(map, name, 0, 1, 1, result, error) : code;
}

int bulla_model_open_program(int descriptor, const char *name, bulla_model **result, bulla_error *error)
{
    struct file_map map;
    *result = NULL;
    int code = file_map_descriptor(descriptor, name, &map, error);
    return code == BULLA_OK ? open_mapped(map, name, 0, 0, 1, result, error) : code;
}

void bulla_model_close(bulla_model *model)
{
    if (!model)
        return;
    bulla_tokenizer_close(model->tokenizer);
    memory_free(model->data);
    file_map_close(&model->map);
    memory_free(model);
}

const bulla_program *bulla_model_program(const bulla_model *model)
{
    return &model->program;
}

const bulla_tokenizer *bulla_model_tokenizer(const bulla_model *model)
{
    return model->tokenizer;
}

const char *bulla_model_chat_template(const bulla_model *model, size_t *length)
{
    *length = model->region_header->template_length;
    return (const char *)model->region + model->region_header->template_offset;
}

const uint8_t *bulla_model_root(const bulla_model *model)
{
    return model->header->model_root;
}

const uint8_t *bulla_model_source_digest(const bulla_model *model)
{
    return model->header->source_digest;
}

const char *bulla_model_description(const bulla_model *model, size_t *length)
{
    *length = model->header->description_length;
    return (const char *)model->map.data + model->header->description_offset;
}

void bulla_model_release(const bulla_model *model)
{
    file_map_release(&model->map, model->header->region_offset, model->header->region_length);
}
