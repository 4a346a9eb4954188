#include "serve/native.h"

#include <event2/event.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "model/model_file.h"
#include "model/tokenizer.h"
#include "serve/native_internal.h"

enum {
    MOST_RUNNING = 256, /* the scheduler's default */
    MOST_WAITING = 4096,
    STUCK_SECONDS = 120,
    MOST_TOKENIZED = 1 << 20 /* bytes of text that are only tokenized, on the thread that serves all */
};

static struct native *native_of(struct backend *backend)
{
    return (struct native *)(void *)backend;
}

void native_free(struct native *native)
{
    native_run_close(&native->run);
    native_answers_close(native);
    bulla_chat_template_free(native->chat_template);
    bulla_model_close(native->model);
    if (native->model_file >= 0)
        close(native->model_file);
    memory_free(native->slots);
    memory_free(native->path);
    memory_free(native->program);
    memory_free(native);
}

void native_enter(void *context)
{
    ((struct native *)context)->depth++;
}

void native_leave(void *context)
{
    struct native *native = context;
    if (--native->depth == 0 && native->is_closed)
        native_free(native);
}

static void close_backend(struct backend *backend)
{
    struct native *native = native_of(backend);
    const struct answer_error problem = {.status = 503, .type = "server_error", .code = "model_unloaded",
                                         .message = "the model is being unloaded"};
    if (native->is_closed)
        return;
    native_enter(native);
    native->is_closed = 1;
    native_answers_end(native, &problem);
    native_run_close(&native->run);
    native_leave(native);
}

static struct answer *start(struct backend *backend, const struct answer_request *request,
                            const struct answer_sink *sink,
                            struct answer_error *problem)
{
    if (!native_of(backend)->is_closed)
        return native_answer_start(backend, request, sink, problem);
    *problem = (struct answer_error){.status = 503, .type = "server_error", .code = "model_unloaded",
                                     .message = "the model is being unloaded"};
    return NULL;
}

static void describe(const struct backend *backend, struct backend_info *info)
{
    const struct native *native = (const struct native *)(const void *)backend;
    const struct native_run *run = &native->run;
    *info = (struct backend_info){.kind = "native", .model_root = native->root, .is_verified = 1,
                                  .root = bulla_model_root(native->model), .tokenizer = native->tokenizer_hash,
                                  .chat_template = native->chat_template ? native->template_hash : NULL,
                                  .program_version = BULLA_PROGRAM_VERSION,
                                  .context = bulla_model_program(native->model)->context,
                                  .vocabulary = bulla_model_program(native->model)->vocabulary,
                                  .spellings = bulla_tokenizer_vocabulary(bulla_model_tokenizer(native->model))};
    info->state = run->has_failed ? BACKEND_FAILED : run->is_ready ? BACKEND_READY : BACKEND_STARTING;
    info->was_ready = run->ready_at > 0;
    info->trouble = run->trouble[0] && !run->is_ready ? run->trouble : NULL;
}

static void count(const struct backend *backend, struct backend_counters *counters)
{
    const struct native *native = (const struct native *)(const void *)backend;
    native_run_count(&native->run, counters);
    counters->waiting += native->waiting_choices;
}

static int tokenize(struct backend *backend, const struct answer_request *request, int adds_special, uint32_t **ids,
                    size_t *id_count, bulla_error *error)
{
    static const struct native_limits limits = {.bytes = MOST_TOKENIZED, .ids = SIZE_MAX};
    struct native_prompt prompt;
    const char *param;
    int code = native_prompt_make(native_of(backend), request, adds_special, &limits, &prompt, &param, error);
    if (code != BULLA_OK)
        return code;
    *ids = prompt.ids;
    *id_count = prompt.count;
    prompt.ids = NULL;
    native_prompt_free(&prompt);
    return BULLA_OK;
}

static int detokenize(struct backend *backend, const uint32_t *ids, size_t id_count, size_t most, char **text,
                      size_t *length, bulla_error *error)
{
    const bulla_tokenizer *tokenizer = bulla_model_tokenizer(native_of(backend)->model);
    const uint8_t *bytes;
    size_t left = most, size;
    for (size_t i = 0; i < id_count; i++, left -= size) {
        if (bulla_tokenizer_token_bytes(tokenizer, ids[i], &bytes, &size) != BULLA_OK)
            return bulla_fail(error, BULLA_E_INPUT, "token %zu is %u; the model's vocabulary ends at %u", i, ids[i],
                              bulla_tokenizer_vocabulary(tokenizer) - 1);
        if (size > left)
            return bulla_fail(error, BULLA_E_LIMIT, "the text of %zu tokens is longer than %zu bytes, the most that is "
                              "given at once; send fewer", id_count, most);
    }
    return bulla_tokenizer_decode(tokenizer, ids, id_count, 1, text, length, error);
}

static int spell(const struct backend *backend, uint32_t id, const char **bytes, size_t *length, bulla_error *error)
{
    const struct native *native = (const struct native *)(const void *)backend;
    const uint8_t *spelling = NULL;
    int code = bulla_tokenizer_token_bytes(bulla_model_tokenizer(native->model), id, &spelling, length);
    *bytes = (const char *)spelling;
    return code == BULLA_OK ? BULLA_OK : bulla_fail(error, code, "the model has no token %u", id);
}

static const struct backend_class native_class = {
    .name = "native",
    .start = start,
    .cancel = native_answer_cancel,
    .describe = describe,
    .count = count,
    .tokenize = tokenize,
    .detokenize = detokenize,
    .spell = spell,
    .close = close_backend,
};

/* What receipts name of the model beside its root. */
static int hash_parts(struct native *native, const char *path, const char *source, size_t length, bulla_error *error)
{
    struct model_region_header header;
    struct file_map map;
    int code = file_map_descriptor(native->model_file, path, &map, error);
    if (code != BULLA_OK)
        return code;
    memcpy(&header, map.data + MODEL_FILE_HEADER, sizeof header); /* checked when the model was opened */
    code = hash_sha256(map.data + MODEL_FILE_HEADER + header.tokenizer_offset, header.tokenizer_length,
                       native->tokenizer_hash, error);
    file_map_close(&map);
    return code == BULLA_OK ? hash_sha256(source, length, native->template_hash, error) : code;
}

/* The worker computes the root, and is ready only with the one that the header claims here (native_run.c): the event
 * thread never waits for hundreds of megabytes to be hashed. */
static int open_model(struct native *native, int has_worker, bulla_error *error)
{
    int code = file_open(native->path, &native->model_file, error);
    if (code == BULLA_OK && has_worker)
        code = bulla_model_open_unrooted(native->model_file, native->path, &native->model, error);
    else if (code == BULLA_OK)
        code = bulla_model_open_descriptor(native->model_file, native->path, 0, &native->model, error);
    if (code != BULLA_OK)
        return code;
    hex_encode(bulla_model_root(native->model), 32, native->root);
    native->limits.ids = bulla_model_program(native->model)->context;
    native->limits.bytes = tokenizer_most_bytes(bulla_model_tokenizer(native->model), native->limits.ids);
    size_t length;
    const char *source = bulla_model_chat_template(native->model, &length);
    code = hash_parts(native, native->path, source, length, error);
    if (code != BULLA_OK || length == 0)
        return code;
    native->format = tool_format_detect(source, length);
    code = bulla_chat_template_compile(source, length, &native->chat_template, error);
    return code ? bulla_fail_prefix(error, "%s: its chat template", native->path) : BULLA_OK;
}

static int is_busy(void *context)
{
    return ((struct native *)context)->choices > 0;
}

static int configure(struct native *native, struct event_base *base, const struct native_options *options,
                     bulla_error *error)
{
    struct native_run *run = &native->run;
    run->base = base;
    run->program = native->program;
    run->model_file = native->model_file;
    run->root = bulla_model_root(native->model);
    run->context = native;
    run->events = (struct native_run_events){.ready = native_answers_ready, .frame = native_answers_frame,
                                             .lost = native_answers_lost, .failed = native_answers_failed,
                                             .is_busy = is_busy, .enter = native_enter, .leave = native_leave};
    run->stuck_seconds = options->stuck_seconds ? options->stuck_seconds : STUCK_SECONDS;
    run->configure = (struct wire_configure){.threads = options->threads, .most_running = options->most_running,
                                             .speculate = options->speculate,
                                             .has_prefix_cache = options->has_prefix_cache};
    if (options->isa && strlen(options->isa) > WIRE_MOST_ISA)
        return bulla_fail(error, BULLA_E_USAGE, "there is no instruction set \"%s\"", options->isa);
    if (options->isa)
        memcpy(run->configure.isa, options->isa, strlen(options->isa));
    uint64_t most_waiting = options->most_waiting ? options->most_waiting : MOST_WAITING;
    native->most_choices = (options->most_running ? options->most_running : MOST_RUNNING) +
                           (most_waiting < UINT32_MAX / 4 ? most_waiting : UINT32_MAX / 4);
    off_t size = lseek(native->model_file, 0, SEEK_END);
    return native_memory_pages(bulla_model_program(native->model), options->cache_positions,
                               size > 0 ? (uint64_t)size : 0, &run->configure.pages, error);
}

int native_new(const char *path, int has_worker, struct native **result, bulla_error *error)
{
    struct native *native = memory_alloc(1, sizeof *native, error);
    *result = NULL;
    if (!native)
        return BULLA_E_MEMORY;
    native->backend.class = &native_class;
    native->model_file = -1;
    native->run.process.handle = -1;
    native->run.socket = native->run.errors = -1;
    native->path = memory_copy_text(path, strlen(path), error);
    int code = native->path ? open_model(native, has_worker, error) : BULLA_E_MEMORY;
    if (code == BULLA_OK)
        *result = native;
    else
        native_free(native);
    return code;
}

int native_open(struct event_base *base, const struct native_options *options, struct backend **backend,
                bulla_error *error)
{
    bulla_error own = {0};
    struct native *native;
    *backend = NULL;
    int code = native_new(options->path, 1, &native, &own);
    if (code == BULLA_OK && options->program)
        native->program = memory_copy_text(options->program, strlen(options->program), &own);
    if (code == BULLA_OK)
        code = own.code;
    if (code == BULLA_OK)
        code = configure(native, base, options, &own);
    if (code == BULLA_OK)
        code = native_answers_open(native, base, &own);
    if (code == BULLA_OK)
        code = native_run_open(&native->run, &own);
    if (code == BULLA_OK)
        *backend = &native->backend;
    else if (native)
        native_free(native);
    return code == BULLA_OK ? BULLA_OK : bulla_fail(error, own.code, "%s", own.text);
}
