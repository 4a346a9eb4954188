#include "serve/api_fields.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/decimal.h"

enum { MOST_PLACE = 200, MILLION = 1000000 };

/* "messages[2].content"; what does not fit is left out. */
static size_t write_place(const struct place *place, char text[MOST_PLACE])
{
    if (!place)
        return 0;
    size_t used = write_place(place->outer, text);
    if (used + 1 >= MOST_PLACE)
        return used;
    size_t left = MOST_PLACE - used;
    int more = place->key ? snprintf(text + used, left, "%s%s", used ? "." : "", place->key)
                          : snprintf(text + used, left, "[%zu]", place->item);
    return more < 0 ? used : (size_t)more < left ? used + (size_t)more : MOST_PLACE - 1;
}

const char *field_name(struct field_reader *reader, const struct place *place)
{
    char text[MOST_PLACE] = "";
    size_t length = write_place(place, text);
    return length ? arena_copy_text(reader->arena, text, length, NULL) : NULL;
}

static void set_problem(struct field_reader *reader, const struct place *place, int status, const char *type,
                        const char *code)
{
    struct answer_error *problem = reader->problem;
    problem->status = status;
    problem->type = type;
    problem->code = code;
    problem->param = field_name(reader, place);
    problem->retry_after = status == 503 ? 1 : 0;
}

int field_fail(struct field_reader *reader, const struct place *place, const char *code, const char *format, ...)
{
    struct answer_error *problem = reader->problem;
    bulla_error sentence = {0};
    char text[sizeof sentence.text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    set_problem(reader, place, 400, "invalid_request_error", code);
    if (problem->param)
        bulla_fail(&sentence, BULLA_E_INPUT, "`%s` %s", problem->param, text);
    else
        bulla_fail(&sentence, BULLA_E_INPUT, "%s", text);
    snprintf(problem->message, sizeof problem->message, "%s", sentence.text);
    return BULLA_E_INPUT;
}

int field_fail_error(struct field_reader *reader, const struct place *place, const bulla_error *error)
{
    static const int statuses[] = {[BULLA_E_INPUT] = 400, [BULLA_E_UNSUPPORTED] = 400, [BULLA_E_RANGE] = 400,
                                   [BULLA_E_LIMIT] = 400, [BULLA_E_USAGE] = 400, [BULLA_E_MEMORY] = 503,
                                   [BULLA_E_INTERNAL] = 500};
    int code = error->code, status = code > 0 && code <= BULLA_E_INTERNAL ? statuses[code] : 500;
    set_problem(reader, place, status ? status : 500, status == 400 ? "invalid_request_error" : "server_error",
                status == 503                 ? "out_of_memory"
                : code == BULLA_E_UNSUPPORTED ? "unsupported"
                : code == BULLA_E_LIMIT       ? "limit_exceeded"
                : status == 400               ? "invalid_value"
                                              : "internal_error");
    const char *param = reader->problem->param;
    snprintf(reader->problem->message, sizeof reader->problem->message, "%s%s%s%.700s", param ? "`" : "",
             param ? param : "", param ? "`: " : "", error->text);
    return code == BULLA_OK ? BULLA_E_INTERNAL : code;
}

const char *field_type_name(const struct json *value)
{
    static const char *const names[] = {"null",     "a boolean", "a boolean", "a number",
                                        "a string", "a list",    "an object"};
    return names[value->type];
}

int field_fail_type(struct field_reader *reader, const struct place *place, const struct json *found,
                    const char *expected)
{
    return field_fail(reader, place, "invalid_type", "is %s; expected %s", field_type_name(found), expected);
}

const struct json *field_find(const struct json *object, const char *key)
{
    const struct json *value = json_get(object, key);
    return json_is(value, JSON_NULL) ? NULL : value;
}

int field_flag(struct field_reader *reader, const struct json *object, const struct place *outer, const char *key,
               int *value)
{
    const struct json *found = field_find(object, key);
    if (!found)
        return BULLA_OK;
    if (!json_is_bool(found))
        return field_fail_type(reader, &(struct place){outer, key, 0}, found, "true or false");
    *value = found->type == JSON_TRUE;
    return BULLA_OK;
}

int field_integer(struct field_reader *reader, const struct json *object, const struct place *outer, const char *key,
                  int64_t least, int64_t most, int64_t *value)
{
    const struct json *found = field_find(object, key);
    struct place place = {outer, key, 0};
    if (!found)
        return BULLA_OK;
    if (found->type != JSON_NUMBER)
        return field_fail_type(reader, &place, found, "an integer");
    if (!found->is_integer || found->integer < least || found->integer > most)
        return field_fail(reader, &place, "invalid_value", "is %.40s; expected an integer from %" PRId64 " to %" PRId64,
                          found->text, least, most);
    *value = found->integer;
    return BULLA_OK;
}

int field_millionths(struct field_reader *reader, const struct json *object, const struct place *outer,
                     const char *key, int64_t least, int64_t most, int64_t *value)
{
    const struct json *found = field_find(object, key);
    struct place place = {outer, key, 0};
    int64_t number;
    if (!found)
        return BULLA_OK;
    if (found->type != JSON_NUMBER)
        return field_fail_type(reader, &place, found, "a number");
    if (!decimal_millionths(found->text, found->length, &number) || number < least || number > most)
        return field_fail(reader, &place, "invalid_value", "is %.40s; expected a number from %g to %g", found->text,
                          (double)least / MILLION, (double)most / MILLION);
    *value = number;
    return BULLA_OK;
}

int field_typed(struct field_reader *reader, const struct json *object, const struct place *outer, const char *key,
                enum json_type type, const struct json **value)
{
    const struct json *found = field_find(object, key);
    if (!found)
        return BULLA_OK;
    if (found->type != type)
        return field_fail_type(reader, &(struct place){outer, key, 0}, found,
                               field_type_name(&(struct json){.type = type}));
    *value = found;
    return BULLA_OK;
}

int field_needed(struct field_reader *reader, const struct json *object, const struct place *outer, const char *key,
                 enum json_type type, const struct json **value)
{
    if (!field_find(object, key))
        return field_fail(reader, &(struct place){outer, key, 0}, "missing_required_parameter",
                          "is missing; expected %s", field_type_name(&(struct json){.type = type}));
    return field_typed(reader, object, outer, key, type, value);
}

static struct json *new_value(struct field_reader *reader, enum json_type type, size_t room)
{
    bulla_error error = {0};
    struct json *value = arena_alloc(reader->arena, 1, sizeof *value, &error);
    if (value && (type == JSON_ARRAY || type == JSON_OBJECT))
        value->items = arena_alloc(reader->arena, room, sizeof *value->items, &error);
    if (value && type == JSON_OBJECT) {
        value->keys = arena_alloc(reader->arena, room, sizeof *value->keys, &error);
        value->key_lengths = arena_alloc(reader->arena, room, sizeof *value->key_lengths, &error);
    }
    if (error.code != BULLA_OK) {
        field_fail_error(reader, NULL, &error);
        return NULL;
    }
    value->type = type;
    return value;
}

struct json *made_text(struct field_reader *reader, const char *text, size_t length)
{
    struct json *value = new_value(reader, JSON_STRING, 0);
    bulla_error error = {0};
    if (!value)
        return NULL;
    value->length = length;
    value->text = arena_copy_text(reader->arena, text, length, &error);
    if (!value->text) {
        field_fail_error(reader, NULL, &error);
        return NULL;
    }
    return value;
}

struct json *made_object(struct field_reader *reader, size_t room)
{
    return new_value(reader, JSON_OBJECT, room);
}

struct json *made_list(struct field_reader *reader, size_t room)
{
    return new_value(reader, JSON_ARRAY, room);
}

struct json *made_add(struct json *object, const char *key, const struct json *value)
{
    if (!object || !value)
        return NULL;
    object->keys[object->length] = key;
    object->key_lengths[object->length] = strlen(key);
    /* Values are never written through this pointer: what was read may be a member of what is made. */
    object->items[object->length++] = (struct json *)(uintptr_t)value;
    return object;
}

struct json *made_push(struct json *list, const struct json *value)
{
    if (!list || !value)
        return NULL;
    list->items[list->length++] = (struct json *)(uintptr_t)value;
    return list;
}

struct json *made_copy(struct field_reader *reader, const struct json *object, size_t more)
{
    struct json *copy = made_object(reader, object->length + more);
    if (!copy)
        return NULL;
    copy->length = object->length;
    if (object->length) {
        memcpy(copy->keys, object->keys, object->length * sizeof *copy->keys);
        memcpy(copy->key_lengths, object->key_lengths, object->length * sizeof *copy->key_lengths);
        memcpy(copy->items, object->items, object->length * sizeof *copy->items);
    }
    return copy;
}

void made_exchange(struct json *object, const char *key, const struct json *value)
{
    size_t length = strlen(key);
    for (size_t i = 0; i < object->length; i++)
        if (object->key_lengths[i] == length && memcmp(object->keys[i], key, length) == 0)
            object->items[i] = (struct json *)(uintptr_t)value;
}

int made_is_text(const struct json *value, const char *text)
{
    return json_is(value, JSON_STRING) && value->length == strlen(text) && memcmp(value->text, text, value->length) == 0;
}
