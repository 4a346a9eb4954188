/* How tokens are chosen and when an answer ends: the fields that all kinds of answers share. */
#include <string.h>

#include "serve/api_request.h"

enum { MILLION = 1000000 };

struct decimal_field {
    const char *key;
    int64_t least, most; /* millionths */
    size_t offset;       /* in bulla_sampling; each is 64 bits wide */
};

static const struct decimal_field decimal_fields[] = {
    {"temperature", 0, 100 * MILLION, offsetof(bulla_sampling, temperature)},
    {"top_p", 0, MILLION, offsetof(bulla_sampling, top_p)},
    {"min_p", 0, MILLION, offsetof(bulla_sampling, min_p)},
    {"presence_penalty", -100 * MILLION, 100 * MILLION, offsetof(bulla_sampling, presence)},
    {"frequency_penalty", -100 * MILLION, 100 * MILLION, offsetof(bulla_sampling, frequency)},
    {"repeat_penalty", MILLION / 100, 100 * MILLION, offsetof(bulla_sampling, repetition)}, /* llama.cpp's name for: */
    {"repetition_penalty", MILLION / 100, 100 * MILLION, offsetof(bulla_sampling, repetition)},
};

static int read_decimals(struct api_request *request, struct field_reader *reader)
{
    /* OpenAI's default, and vLLM's; the program's own is 0. */
    request->answer.sampling.temperature = MILLION;
    for (size_t i = 0; i < sizeof decimal_fields / sizeof decimal_fields[0]; i++) {
        const struct decimal_field *field = decimal_fields + i;
        int64_t value;
        char *slot = (char *)&request->answer.sampling + field->offset;
        memcpy(&value, slot, sizeof value);
        int code = field_millionths(reader, request->body, NULL, field->key, field->least, field->most, &value);
        if (code != BULLA_OK)
            return code;
        memcpy(slot, &value, sizeof value);
    }
    return BULLA_OK;
}

/* llama.cpp's window of tokens that the penalties count. Here they count all of them. */
static int check_window(struct api_request *request, struct field_reader *reader)
{
    const bulla_sampling *sampling = &request->answer.sampling;
    int64_t window = -1;
    if (field_integer(reader, request->body, NULL, "repeat_last_n", -1, INT32_MAX, &window) != BULLA_OK)
        return BULLA_E_INPUT;
    if (window == -1 || (sampling->repetition == MILLION && sampling->presence == 0 && sampling->frequency == 0))
        return BULLA_OK;
    return field_fail(reader, &(struct place){NULL, "repeat_last_n", 0}, "unsupported_parameter",
                      "is %lld, and penalties are given; here they count all tokens (-1)", (long long)window);
}

/* An unsigned 64-bit integer from a number that is none of 63 bits; 0 where it is none at all. */
static int read_unsigned(const struct json *number, uint64_t *value)
{
    *value = 0;
    for (size_t i = 0; i < number->length; i++) {
        if (number->text[i] < '0' || number->text[i] > '9' || __builtin_mul_overflow(*value, 10, value) ||
            __builtin_add_overflow(*value, (uint64_t)(number->text[i] - '0'), value))
            return 0;
    }
    return 1;
}

/* -1 is none, as vLLM and llama.cpp have it. */
static int read_seed(struct api_request *request, struct field_reader *reader)
{
    const struct json *seed = NULL;
    if (field_typed(reader, request->body, NULL, "seed", JSON_NUMBER, &seed) != BULLA_OK)
        return BULLA_E_INPUT;
    if (!seed || (seed->is_integer && seed->integer == -1))
        return BULLA_OK;
    request->answer.has_seed = 1;
    request->answer.sampling.seed = (uint64_t)seed->integer;
    if (!seed->is_integer && !read_unsigned(seed, &request->answer.sampling.seed))
        return field_fail(reader, &(struct place){NULL, "seed", 0}, "invalid_value",
                          "is %.40s; expected an integer of 64 bits", seed->text);
    return BULLA_OK;
}

static int add_stop(struct api_request *request, struct field_reader *reader, const struct json *stop,
                    const struct place *place)
{
    struct answer_request *answer = &request->answer;
    if (stop->type != JSON_STRING)
        return field_fail_type(reader, place, stop, "a string");
    if (stop->length == 0)
        return BULLA_OK; /* what forms send for "none" */
    if (stop->length > REQUEST_MOST_STOP_BYTES)
        return field_fail(reader, place, "invalid_value", "has %zu bytes; a stop string has at most %d", stop->length,
                          REQUEST_MOST_STOP_BYTES);
    const char *kept = request_keep_text(request, reader, stop->text, stop->length);
    if (!kept)
        return BULLA_E_MEMORY;
    answer->stops[answer->stop_count] = kept;
    answer->stop_lengths[answer->stop_count++] = stop->length;
    return BULLA_OK;
}

static int read_stops(struct api_request *request, struct field_reader *reader)
{
    const struct json *stops = field_find(request->body, "stop");
    struct place place = {NULL, "stop", 0};
    if (!stops)
        return BULLA_OK;
    if (stops->type == JSON_STRING)
        return add_stop(request, reader, stops, &place);
    if (stops->type != JSON_ARRAY)
        return field_fail_type(reader, &place, stops, "a string or a list of strings");
    if (stops->length > ANSWER_MOST_STOPS)
        return field_fail(reader, &place, "invalid_value", "has %zu strings; at most %d are taken", stops->length,
                          ANSWER_MOST_STOPS);
    int code = BULLA_OK;
    for (size_t i = 0; i < stops->length && code == BULLA_OK; i++)
        code = add_stop(request, reader, stops->items[i], &(struct place){&place, NULL, i});
    return code;
}

/* A token id as JSON keys write it: digits without a leading zero, so that no two keys mean the same id. */
static int read_bias_id(const char *key, size_t length, uint32_t *id)
{
    uint64_t value = 0;
    if (length == 0 || length > 10 || (key[0] == '0' && length > 1))
        return 0;
    for (size_t i = 0; i < length; i++) {
        if (key[i] < '0' || key[i] > '9')
            return 0;
        value = 10 * value + (uint64_t)(key[i] - '0');
    }
    *id = (uint32_t)value;
    return value <= UINT32_MAX;
}

static int read_biases(struct api_request *request, struct field_reader *reader)
{
    const struct json *object = NULL;
    struct place place = {NULL, "logit_bias", 0};
    bulla_error error = {0};
    if (field_typed(reader, request->body, NULL, "logit_bias", JSON_OBJECT, &object) != BULLA_OK)
        return BULLA_E_INPUT;
    if (!object || object->length == 0)
        return BULLA_OK;
    if (object->length > REQUEST_MOST_BIASES)
        return field_fail(reader, &place, "invalid_value", "names %zu tokens; at most %d are taken", object->length,
                          REQUEST_MOST_BIASES);
    bulla_logit_bias *biases = arena_alloc(&request->kept, object->length, sizeof *biases, &error);
    if (!biases)
        return field_fail_error(reader, NULL, &error);
    for (size_t i = 0; i < object->length; i++) {
        const struct json *bias = object->items[i];
        struct place member = {&place, object->keys[i], 0};
        if (!read_bias_id(object->keys[i], object->key_lengths[i], &biases[i].id))
            return field_fail(reader, &place, "invalid_value", "has the key \"%.40s\"; expected token ids",
                              object->keys[i]);
        if (bias->type != JSON_NUMBER)
            return field_fail_type(reader, &member, bias, "a number");
        int code = field_millionths(reader, object, &place, object->keys[i], -1000 * (int64_t)MILLION,
                                    1000 * (int64_t)MILLION, &biases[i].bias);
        if (code != BULLA_OK)
            return code;
    }
    request->answer.sampling.biases = biases;
    request->answer.sampling.bias_count = object->length;
    return BULLA_OK;
}

/* max_completion_tokens before max_tokens before llama.cpp's n_predict; -1 is "as many as fit" to its clients. */
static int read_most_tokens(struct api_request *request, struct field_reader *reader)
{
    static const char *const keys[] = {"n_predict", "max_tokens", "max_completion_tokens"};
    for (size_t i = 0; i < 3; i++) {
        int64_t most = -2;
        if (field_integer(reader, request->body, NULL, keys[i], -1, INT64_MAX, &most) != BULLA_OK)
            return BULLA_E_INPUT;
        if (most == 0)
            return field_fail(reader, &(struct place){NULL, keys[i], 0}, "invalid_value",
                              "is 0; expected at least 1, or -1 for as many as the context holds");
        if (most >= -1)
            request->answer.max_tokens = most < 0 ? 0 : (uint64_t)most;
    }
    return BULLA_OK;
}

int request_read_sampling(struct api_request *request, struct field_reader *reader)
{
    struct answer_request *answer = &request->answer;
    int64_t top_k = 0, choices = 1;
    int code = read_decimals(request, reader);
    if (code == BULLA_OK)
        code = check_window(request, reader);
    if (code == BULLA_OK)
        code = field_integer(reader, request->body, NULL, "top_k", -1, INT32_MAX, &top_k);
    if (code == BULLA_OK)
        code = field_integer(reader, request->body, NULL, "n", 1, ANSWER_MOST_CHOICES, &choices);
    if (code == BULLA_OK)
        code = field_flag(reader, request->body, NULL, "ignore_eos", &answer->ignores_end);
    if (code == BULLA_OK)
        code = field_flag(reader, request->body, NULL, "cache_prompt", &answer->shares_prefix);
    if (code == BULLA_OK)
        code = read_seed(request, reader);
    if (code == BULLA_OK)
        code = read_stops(request, reader);
    if (code == BULLA_OK)
        code = read_biases(request, reader);
    answer->sampling.top_k = top_k < 0 ? 0 : (uint32_t)top_k;
    answer->choices = (uint32_t)choices;
    return code == BULLA_OK ? read_most_tokens(request, reader) : code;
}
