#include "serve/wire.h"

#include <string.h>


#define ABSENT UINT32_MAX /* a length that says that there is no text */

static const char *const names[WIRE_TYPES] = {NULL, "CONFIGURE", "SUBMIT", "CANCEL", "READY", "TOKEN", "EMBEDDING",
                                              "FINISH", "REFUSED"};

int wire_next(const uint8_t *data, size_t available, struct wire_frame *frame, size_t *taken, size_t *needed,
              bulla_error *error)
{
    struct reader reader = reader_over(data, available);
    *taken = 0;
    *needed = WIRE_HEAD_BYTES;
    if (available < WIRE_HEAD_BYTES)
        return BULLA_OK;
    uint32_t length = reader_u32(&reader), type = reader_u32(&reader);
    if (type == 0 || type >= WIRE_TYPES)
        return bulla_fail(error, BULLA_E_INPUT, "a frame has type %u, expected 1 to %d", type, WIRE_TYPES - 1);
    if (length > WIRE_MOST_BODY || length % 8 != 0)
        return bulla_fail(error, BULLA_E_INPUT, "a frame %s has %u bytes, expected a multiple of 8 up to %d",
                          names[type],
                          length, WIRE_MOST_BODY);
    *needed = WIRE_HEAD_BYTES + (size_t)length;
    if (available < *needed)
        return BULLA_OK;
    *frame = (struct wire_frame){.type = (enum wire_type)type, .body = data + WIRE_HEAD_BYTES, .length = length};
    *taken = *needed;
    return BULLA_OK;
}

/* ---- Writing ---- */

/* Room for a frame of `length` body bytes, filled with zeros; NULL after an error. */
static uint8_t *begin(struct buffer *out, enum wire_type type, size_t length)
{
    length = (length + 7) / 8 * 8;
    if (length > WIRE_MOST_BODY && out->error.code == BULLA_OK)
        bulla_fail(&out->error, BULLA_E_LIMIT, "a frame %s of %zu bytes is more than the %d that one may have",
                   names[type],
                   length, WIRE_MOST_BODY);
    uint8_t *frame = buffer_extend(out, WIRE_HEAD_BYTES + length);
    if (!frame)
        return NULL;
    const uint32_t head[2] = {(uint32_t)length, type};
    memcpy(frame, head, sizeof head);
    return frame + WIRE_HEAD_BYTES;
}

static uint8_t *put(uint8_t *at, const void *bytes, size_t length)
{
    if (length)
        memcpy(at, bytes, length);
    return at + length;
}

/* ---- Reading ---- */

static int fail_malformed(const struct wire_frame *frame, const char *what, bulla_error *error)
{
    return bulla_fail(error, BULLA_E_INPUT, "a frame %s of %zu bytes is malformed: %s", names[frame->type],
                      frame->length,
                      what);
}

/* The frame's fixed part into `fixed`; what follows is read by the reader. */
static int take_fixed(const struct wire_frame *frame, void *fixed, size_t length, struct reader *rest,
                      bulla_error *error)
{
    if ((uintptr_t)frame->body % 8 != 0)
        return bulla_fail(error, BULLA_E_INTERNAL, "a frame %s does not lie at a multiple of 8", names[frame->type]);
    if (frame->length < length)
        return fail_malformed(frame, "its fixed part is cut off", error);
    memcpy(fixed, frame->body, length);
    *rest = reader_over(frame->body + length, frame->length - length);
    return BULLA_OK;
}

/* That nothing is missing, and nothing but fewer than 8 zeros follows. */
static int check_end(const struct wire_frame *frame, struct reader *reader, bulla_error *error)
{
    if (reader->failed)
        return fail_malformed(frame, "a length in it goes beyond its end", error);
    if (reader_left(reader) >= 8)
        return fail_malformed(frame, "bytes follow what it should hold", error);
    while (reader_left(reader))
        if (reader_u8(reader) != 0)
            return fail_malformed(frame, "it is not padded with zeros", error);
    return BULLA_OK;
}

/* `length` bytes and the NUL after them, with none between; NULL, with the reader failed, where they are not there. */
static const char *take_text(struct reader *reader, uint32_t length)
{
    const uint8_t *text = reader_bytes(reader, (uint64_t)length + 1);
    if (text && (text[length] != 0 || memchr(text, 0, length))) {
        reader->failed = 1;
        return NULL;
    }
    return (const char *)text;
}

static const void *take_array(struct reader *reader, uint32_t count, size_t size)
{
    return reader_bytes(reader, (uint64_t)count * size);
}

/* A name in a fixed field, filled up with zeros. */
static int is_name(const char *name, size_t size)
{
    size_t length = strnlen(name, size);
    for (size_t i = length; i < size; i++)
        if (name[i])
            return 0;
    for (size_t i = 0; i < length; i++)
        if (name[i] <= ' ' || name[i] > '~')
            return 0;
    return length < size;
}

/* ---- CONFIGURE, READY, CANCEL ---- */

struct configure_body {
    uint32_t version, threads, most_running, speculate;
    uint32_t has_prefix_cache, reserved;
    uint64_t pages;
    char isa[WIRE_MOST_ISA + 1];
};

/* A frame that is one fixed body, which begins with the version of the wire that its sender speaks. */
static int take_versioned(const struct wire_frame *frame, void *body, size_t size, bulla_error *error)
{
    struct reader rest;
    uint32_t version;
    int code = take_fixed(frame, body, size, &rest, error);
    if (code == BULLA_OK)
        code = check_end(frame, &rest, error);
    if (code != BULLA_OK)
        return code;
    memcpy(&version, body, sizeof version);
    if (version != WIRE_VERSION)
        return bulla_fail(error, BULLA_E_INPUT,
                          "the other end speaks version %u of the wire, this one %d: server and worker are not of the "
                          "same build", version, WIRE_VERSION);
    return BULLA_OK;
}

void wire_write_configure(struct buffer *out, const struct wire_configure *configure)
{
    struct configure_body body = {.version = WIRE_VERSION, .threads = configure->threads,
                                  .most_running = configure->most_running, .speculate = configure->speculate,
                                  .has_prefix_cache = configure->has_prefix_cache != 0, .pages = configure->pages};
    memcpy(body.isa, configure->isa, strnlen(configure->isa, WIRE_MOST_ISA));
    uint8_t *at = begin(out, WIRE_CONFIGURE, sizeof body);
    if (at)
        put(at, &body, sizeof body);
}

int wire_read_configure(const struct wire_frame *frame, struct wire_configure *configure, bulla_error *error)
{
    struct configure_body body;
    int code = take_versioned(frame, &body, sizeof body, error);
    if (code != BULLA_OK)
        return code;
    if (body.has_prefix_cache > 1 || !is_name(body.isa, sizeof body.isa))
        return fail_malformed(frame, "a field is out of its range", error);
    *configure = (struct wire_configure){.threads = body.threads, .most_running = body.most_running,
                                         .speculate = body.speculate, .has_prefix_cache = (int)body.has_prefix_cache,
                                         .pages = body.pages};
    memcpy(configure->isa, body.isa, sizeof body.isa);
    return BULLA_OK;
}

struct ready_body {
    uint32_t version, threads, context, vocabulary;
    uint64_t pages;
    uint8_t root[32];
    char isa[WIRE_MOST_ISA + 1];
};

void wire_write_ready(struct buffer *out, const struct wire_ready *ready)
{
    struct ready_body body = {.version = WIRE_VERSION, .threads = ready->threads, .context = ready->context,
                              .vocabulary = ready->vocabulary, .pages = ready->pages};
    memcpy(body.root, ready->root, sizeof body.root);
    memcpy(body.isa, ready->isa, strnlen(ready->isa, WIRE_MOST_ISA));
    uint8_t *at = begin(out, WIRE_READY, sizeof body);
    if (at)
        put(at, &body, sizeof body);
}

int wire_read_ready(const struct wire_frame *frame, struct wire_ready *ready, bulla_error *error)
{
    struct ready_body body;
    int code = take_versioned(frame, &body, sizeof body, error);
    if (code != BULLA_OK)
        return code;
    if (!is_name(body.isa, sizeof body.isa))
        return fail_malformed(frame, "a field is out of its range", error);
    *ready = (struct wire_ready){.threads = body.threads, .context = body.context, .vocabulary = body.vocabulary,
                                 .pages = body.pages};
    memcpy(ready->root, body.root, sizeof body.root);
    memcpy(ready->isa, body.isa, sizeof body.isa);
    return BULLA_OK;
}

void wire_write_cancel(struct buffer *out, uint64_t request)
{
    uint8_t *at = begin(out, WIRE_CANCEL, sizeof request);
    if (at)
        put(at, &request, sizeof request);
}

int wire_read_cancel(const struct wire_frame *frame, uint64_t *request, bulla_error *error)
{
    struct reader rest;
    int code = take_fixed(frame, request, sizeof *request, &rest, error);
    return code == BULLA_OK ? check_end(frame, &rest, error) : code;
}

/* ---- SUBMIT ---- */

enum { SUBMIT_SHARES_PREFIX = 1, SUBMIT_IGNORES_END = 2, SUBMIT_EMBEDS = 4, SUBMIT_FLAGS = 7 };

/* Followed by choices and biases (16 bytes each), prompt ids, and texts with a NUL each (a stop string may hold NULs):
 * tenant, grammar, stops. */
struct submit_body {
    uint64_t max_tokens, deadline;
    uint64_t temperature, top_p, min_p, repetition;
    int64_t presence, frequency;
    uint32_t top_k;
    int32_t priority, logprobs;
    uint32_t flags;
    uint32_t prompt_count, bias_count;
    uint32_t tenant_length, grammar_length; /* ABSENT: NULL */
    uint32_t stop_count, choice_count;
    uint32_t stop_lengths[SCHEDULER_MOST_STOPS];
};

_Static_assert(sizeof(bulla_logit_bias) == 16 && sizeof(struct scheduler_logprob) == 16 &&
                   sizeof(struct wire_choice) == 16,
               "the wire has these as they are");

static uint64_t submit_bytes(const struct scheduler_request *request, size_t choice_count)
{
    uint64_t bytes = sizeof(struct submit_body) + choice_count * sizeof(struct wire_choice);
    bytes += (uint64_t)request->sampling.bias_count * sizeof(bulla_logit_bias);
    bytes += (uint64_t)request->prompt_count * sizeof *request->prompt;
    bytes += request->tenant ? strlen(request->tenant) + 1 : 0;
    bytes += request->grammar ? (uint64_t)request->grammar_length + 1 : 0;
    for (size_t i = 0; i < request->stop_count; i++)
        bytes += (uint64_t)request->stops[i].length + 1;
    return bytes;
}

int wire_check_submit(const struct scheduler_request *request, size_t choice_count, bulla_error *error)
{
    const size_t most = WIRE_MOST_BODY / 2; /* of any one part, so that their sum is small enough to be one */
    if (choice_count == 0 || choice_count > WIRE_MOST_CHOICES)
        return bulla_fail(error, BULLA_E_LIMIT, "%zu choices, expected 1 to %d", choice_count, WIRE_MOST_CHOICES);
    if (request->stop_count > SCHEDULER_MOST_STOPS)
        return bulla_fail(error, BULLA_E_LIMIT, "%zu stop strings are more than the %d that a request may have",
                          request->stop_count, SCHEDULER_MOST_STOPS);
    if (request->tenant && strlen(request->tenant) > WIRE_MOST_TENANT)
        return bulla_fail(error, BULLA_E_LIMIT, "the tenant's name is longer than %d bytes", WIRE_MOST_TENANT);
    int is_small = request->prompt_count <= most / 4 && request->sampling.bias_count <= most / 16 &&
                   request->grammar_length <= most;
    for (size_t i = 0; i < request->stop_count; i++)
        is_small = is_small && request->stops[i].length <= most;
    if (!is_small || submit_bytes(request, choice_count) > WIRE_MOST_BODY)
        return bulla_fail(error, BULLA_E_LIMIT,
                          "prompt, grammar, stop strings and biases of a request are together larger "
                          "than %d bytes", WIRE_MOST_BODY);
    return BULLA_OK;
}

void wire_write_submit(struct buffer *out, const struct scheduler_request *request, const struct wire_choice *choices,
                       size_t choice_count)
{
    const bulla_sampling *sampling = &request->sampling;
    if (out->error.code == BULLA_OK)
        wire_check_submit(request, choice_count, &out->error);
    if (out->error.code != BULLA_OK)
        return;
    struct submit_body body = {
        .max_tokens = request->max_tokens, .deadline = request->deadline, .choice_count = (uint32_t)choice_count,
        .temperature = sampling->temperature, .top_p = sampling->top_p, .min_p = sampling->min_p,
        .repetition = sampling->repetition, .presence = sampling->presence, .frequency = sampling->frequency,
        .top_k = sampling->top_k, .priority = request->priority,
        .logprobs = request->logprobs, .prompt_count = (uint32_t)request->prompt_count,
        .bias_count = (uint32_t)sampling->bias_count, .stop_count = (uint32_t)request->stop_count,
        .flags = (request->shares_prefix ? SUBMIT_SHARES_PREFIX : 0u) |
                 (request->ignores_end ? SUBMIT_IGNORES_END : 0u) | (request->embeds ? SUBMIT_EMBEDS : 0u),
        .tenant_length = request->tenant ? (uint32_t)strlen(request->tenant) : ABSENT,
        .grammar_length = request->grammar ? (uint32_t)request->grammar_length : ABSENT,
    };
    for (size_t i = 0; i < request->stop_count; i++)
        body.stop_lengths[i] = (uint32_t)request->stops[i].length;
    uint8_t *at = begin(out, WIRE_SUBMIT, submit_bytes(request, choice_count));
    if (!at)
        return;
    at = put(at, &body, sizeof body);
    at = put(at, choices, choice_count * sizeof *choices);
    for (size_t i = 0; i < sampling->bias_count; i++, at += sizeof *sampling->biases) { /* by member: no padding */
        memcpy(at + offsetof(bulla_logit_bias, id), &sampling->biases[i].id, sizeof sampling->biases[i].id);
        memcpy(at + offsetof(bulla_logit_bias, bias), &sampling->biases[i].bias, sizeof sampling->biases[i].bias);
    }
    at = put(at, request->prompt, request->prompt_count * sizeof *request->prompt);
    if (request->tenant)
        at = put(at, request->tenant, body.tenant_length) + 1;
    if (request->grammar)
        at = put(at, request->grammar, body.grammar_length) + 1;
    for (size_t i = 0; i < request->stop_count; i++)
        at = put(at, request->stops[i].text, request->stops[i].length) + 1;
}

/* A text that may hold NULs, with one after it. */
static const char *take_bytes(struct reader *reader, uint32_t length)
{
    const uint8_t *text = reader_bytes(reader, (uint64_t)length + 1);
    if (text && text[length] != 0)
        reader->failed = 1;
    return (const char *)text;
}

static void take_request(const struct submit_body *body, struct reader *reader, struct wire_submit *submit)
{
    struct scheduler_request *request = &submit->request;
    *request = (struct scheduler_request){
        .max_tokens = body->max_tokens, .deadline = body->deadline, .priority = body->priority,
        .logprobs = body->logprobs, .shares_prefix = (body->flags & SUBMIT_SHARES_PREFIX) != 0,
        .ignores_end = (body->flags & SUBMIT_IGNORES_END) != 0, .embeds = (body->flags & SUBMIT_EMBEDS) != 0,
        .prompt_count = body->prompt_count, .stop_count = body->stop_count, .stops = submit->stops,
        .sampling = {.temperature = body->temperature, .top_k = body->top_k, .top_p = body->top_p, .min_p = body->min_p,
                     .repetition = body->repetition, .presence = body->presence, .frequency = body->frequency,
                     .bias_count = body->bias_count},
    };
    submit->choices = take_array(reader, body->choice_count, sizeof *submit->choices);
    submit->choice_count = body->choice_count;
    if (submit->choices) {
        request->id = submit->choices[0].id;
        request->sampling.seed = submit->choices[0].seed;
    }
    request->sampling.biases = take_array(reader, body->bias_count, sizeof(bulla_logit_bias));
    request->prompt = take_array(reader, body->prompt_count, sizeof *request->prompt);
    if (body->tenant_length != ABSENT)
        request->tenant = take_text(reader, body->tenant_length);
    if (body->grammar_length != ABSENT) {
        request->grammar = take_bytes(reader, body->grammar_length);
        request->grammar_length = body->grammar_length;
    }
    for (uint32_t i = 0; i < body->stop_count; i++)
        submit->stops[i] = (struct scheduler_text){take_bytes(reader, body->stop_lengths[i]), body->stop_lengths[i]};
}

int wire_read_submit(const struct wire_frame *frame, struct wire_submit *submit, bulla_error *error)
{
    struct submit_body body;
    struct reader reader;
    int code = take_fixed(frame, &body, sizeof body, &reader, error);
    if (code != BULLA_OK)
        return code;
    if (body.flags & ~(uint32_t)SUBMIT_FLAGS || body.stop_count > SCHEDULER_MOST_STOPS ||
        body.choice_count == 0 || body.choice_count > WIRE_MOST_CHOICES ||
        body.logprobs < -1 || body.logprobs > SCHEDULER_MOST_LOGPROBS ||
        (body.tenant_length != ABSENT && body.tenant_length > WIRE_MOST_TENANT))
        return fail_malformed(frame, "a field is out of its range", error);
    for (uint32_t i = body.stop_count; i < SCHEDULER_MOST_STOPS; i++)
        if (body.stop_lengths[i])
            return fail_malformed(frame, "it has a length of a stop string that it does not have", error);
    take_request(&body, &reader, submit);
    return check_end(frame, &reader, error);
}

/* ---- TOKEN, EMBEDDING, FINISH, REFUSED ---- */

/* Followed by the likeliest (16 bytes each) and the text. */
struct token_body {
    uint64_t request;
    uint32_t token, text_length;
    double logprob;
    uint32_t top_count, reserved;
};

void wire_write_token(struct buffer *out, const struct scheduler_token *token)
{
    size_t top_bytes = token->top_count * sizeof *token->top;
    struct token_body body = {.request = token->request, .token = token->token, .text_length = (uint32_t)token->length,
                              .logprob = token->logprob, .top_count = (uint32_t)token->top_count};
    if (token->length > WIRE_MOST_BODY || token->top_count > SCHEDULER_MOST_LOGPROBS) {
        bulla_fail(&out->error, BULLA_E_LIMIT, "a token with a text of %zu bytes and %zu others beside it is too large",
                   token->length, token->top_count);
        return;
    }
    uint8_t *at = begin(out, WIRE_TOKEN, sizeof body + top_bytes + token->length);
    if (!at)
        return;
    at = put(at, &body, sizeof body);
    for (size_t i = 0; i < token->top_count; i++, at += sizeof *token->top) { /* member by member: no padding */
        memcpy(at + offsetof(struct scheduler_logprob, token), &token->top[i].token, sizeof token->top[i].token);
        memcpy(at + offsetof(struct scheduler_logprob, logprob), &token->top[i].logprob, sizeof token->top[i].logprob);
    }
    put(at, token->text, token->length);
}

int wire_read_token(const struct wire_frame *frame, struct scheduler_token *token, bulla_error *error)
{
    struct token_body body;
    struct reader reader;
    int code = take_fixed(frame, &body, sizeof body, &reader, error);
    if (code != BULLA_OK)
        return code;
    if (body.top_count > SCHEDULER_MOST_LOGPROBS || body.reserved)
        return fail_malformed(frame, "a field is out of its range", error);
    *token = (struct scheduler_token){.request = body.request, .token = body.token, .length = body.text_length,
                                      .logprob = body.logprob, .top_count = body.top_count};
    token->top = take_array(&reader, body.top_count, sizeof *token->top);
    token->text = take_array(&reader, body.text_length, 1);
    return check_end(frame, &reader, error);
}

struct embedding_body {
    uint64_t request;
    uint32_t count, reserved;
};

void wire_write_embedding(struct buffer *out, uint64_t request, const float *values, size_t count)
{
    struct embedding_body body = {.request = request, .count = (uint32_t)count};
    if (count > WIRE_MOST_BODY / sizeof *values) {
        bulla_fail(&out->error, BULLA_E_LIMIT, "an embedding of %zu numbers is too large", count);
        return;
    }
    uint8_t *at = begin(out, WIRE_EMBEDDING, sizeof body + count * sizeof *values);
    if (at)
        put(put(at, &body, sizeof body), values, count * sizeof *values);
}

int wire_read_embedding(const struct wire_frame *frame, uint64_t *request, const float **values, size_t *count,
                        bulla_error *error)
{
    struct embedding_body body;
    struct reader reader;
    int code = take_fixed(frame, &body, sizeof body, &reader, error);
    if (code != BULLA_OK)
        return code;
    if (body.reserved)
        return fail_malformed(frame, "a field is out of its range", error);
    *request = body.request;
    *count = body.count;
    *values = take_array(&reader, body.count, sizeof **values);
    return check_end(frame, &reader, error);
}

/* Followed by texts: the stop string and the error's sentence, each with a NUL, and the rest. */
struct finish_body {
    uint64_t request;
    uint32_t reason, range_operation;
    uint64_t prompt_tokens, cached_tokens, output_tokens, range_position;
    uint64_t queued_nanoseconds, prefill_nanoseconds, decode_nanoseconds;
    uint32_t stop_length, error_length; /* ABSENT: none */
    uint32_t error_code, rest_length;
};

void wire_write_finish(struct buffer *out, const struct scheduler_finish *finish)
{
    size_t stop_length = finish->stop ? strlen(finish->stop) : 0;
    size_t error_length = finish->error ? strnlen(finish->error->text, sizeof finish->error->text - 1) : 0;
    struct finish_body body = {
        .request = finish->request, .reason = finish->reason, .range_operation = finish->range_operation,
        .prompt_tokens = finish->prompt_tokens, .cached_tokens = finish->cached_tokens,
        .output_tokens = finish->output_tokens, .range_position = finish->range_position,
        .queued_nanoseconds = finish->queued_nanoseconds, .prefill_nanoseconds = finish->prefill_nanoseconds,
        .decode_nanoseconds = finish->decode_nanoseconds, .stop_length = finish->stop ? (uint32_t)stop_length : ABSENT,
        .error_length = finish->error ? (uint32_t)error_length : ABSENT,
        .error_code = finish->error ? (uint32_t)finish->error->code : 0, .rest_length = (uint32_t)finish->rest_length,
    };
    if (stop_length > WIRE_MOST_BODY / 2 || finish->rest_length > WIRE_MOST_BODY / 2) {
        bulla_fail(&out->error, BULLA_E_LIMIT, "the end of an answer, with a text of %zu bytes, is too large",
                   finish->rest_length);
        return;
    }
    size_t texts = (finish->stop ? stop_length + 1 : 0) + (finish->error ? error_length + 1 : 0);
    uint8_t *at = begin(out, WIRE_FINISH, sizeof body + texts + finish->rest_length);
    if (!at)
        return;
    at = put(at, &body, sizeof body);
    if (finish->stop)
        at = put(at, finish->stop, stop_length) + 1;
    if (finish->error)
        at = put(at, finish->error->text, error_length) + 1;
    put(at, finish->rest, finish->rest_length);
}

int wire_read_finish(const struct wire_frame *frame, struct wire_finish *result, bulla_error *error)
{
    struct finish_body body;
    struct reader reader;
    int code = take_fixed(frame, &body, sizeof body, &reader, error);
    if (code != BULLA_OK)
        return code;
    if (body.reason > SCHEDULER_FAILED || body.error_code > BULLA_E_INTERNAL)
        return fail_malformed(frame, "a field is out of its range", error);
    *result = (struct wire_finish){
        .finish = {.request = body.request, .reason = (enum scheduler_finish_reason)body.reason,
                   .range_operation = body.range_operation, .prompt_tokens = body.prompt_tokens,
                   .cached_tokens = body.cached_tokens, .output_tokens = body.output_tokens,
                   .range_position = body.range_position, .queued_nanoseconds = body.queued_nanoseconds,
                   .prefill_nanoseconds = body.prefill_nanoseconds, .decode_nanoseconds = body.decode_nanoseconds,
                   .rest_length = body.rest_length},
        .error_code = (int)body.error_code};
    if (body.stop_length != ABSENT)
        result->finish.stop = take_text(&reader, body.stop_length);
    if (body.error_length != ABSENT)
        result->error_text = take_text(&reader, body.error_length);
    result->finish.rest = take_array(&reader, body.rest_length, 1);
    return check_end(frame, &reader, error);
}

struct refused_body {
    uint64_t request;
    uint32_t code, length;
};

void wire_write_refused(struct buffer *out, uint64_t request, const bulla_error *reason)
{
    size_t length = strnlen(reason->text, sizeof reason->text - 1);
    struct refused_body body = {.request = request, .code = (uint32_t)reason->code, .length = (uint32_t)length};
    uint8_t *at = begin(out, WIRE_REFUSED, sizeof body + length + 1);
    if (at)
        put(put(at, &body, sizeof body), reason->text, length);
}

int wire_read_refused(const struct wire_frame *frame, uint64_t *request, int *refusal, const char **text,
                      bulla_error *error)
{
    struct refused_body body;
    struct reader reader;
    int code = take_fixed(frame, &body, sizeof body, &reader, error);
    if (code != BULLA_OK)
        return code;
    if (body.code == BULLA_OK || body.code > BULLA_E_INTERNAL)
        return fail_malformed(frame, "a field is out of its range", error);
    *request = body.request;
    *refusal = (int)body.code;
    *text = take_text(&reader, body.length);
    return check_end(frame, &reader, error);
}
