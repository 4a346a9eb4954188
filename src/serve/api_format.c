/* response_format: what an answer's text must look like, as a grammar's specification (exec/grammar.h). */
#include <string.h>

#include "serve/api_request.h"

int request_fail_schema(struct field_reader *reader, const struct place *place, const bulla_error *error)
{
    int code = field_fail_error(reader, place, error);
    if (error->code == BULLA_E_UNSUPPORTED)
        reader->problem->code = "unsupported_schema";
    else if (reader->problem->status == 400)
        reader->problem->code = "invalid_schema";
    return code;
}

/* Keeps the specification if it compiles; what cannot be enforced is refused here, before a backend is asked. */
static int set_grammar(struct api_request *request, struct field_reader *reader, struct buffer *specification,
                       const struct place *place)
{
    const char *text = (const char *)specification->data;
    size_t length = specification->length;
    bulla_error error = {0};
    if (specification->error.code != BULLA_OK)
        error = specification->error;
    else if (grammar_check(request->grammars, text, length, &request->grammar_work, &error) == BULLA_OK)
        request->answer.grammar = arena_copy_text(&request->kept, text, length, &error);
    request->answer.grammar_length = length;
    return error.code == BULLA_OK ? BULLA_OK : request_fail_schema(reader, place, &error);
}

static int set_schema(struct api_request *request, struct field_reader *reader, const struct json *schema,
                       const struct place *place)
{
    struct buffer specification = {0};
    buffer_append_text(&specification, "{\"schema\":");
    json_write(&specification, schema);
    buffer_append_byte(&specification, '}');
    int code = set_grammar(request, reader, &specification, place);
    buffer_free(&specification);
    return code;
}

static int set_any_object(struct api_request *request, struct field_reader *reader)
{
    struct buffer specification = {0};
    buffer_append_text(&specification, "{\"object\":true}");
    int code = set_grammar(request, reader, &specification, NULL);
    buffer_free(&specification);
    return code;
}

/* As upstreams get it. */
static int keep_format(struct api_request *request, struct field_reader *reader, const struct json *format)
{
    struct answer_request *answer = &request->answer;
    struct buffer text = {0};
    json_write(&text, format);
    if (text.error.code == BULLA_OK)
        answer->response_format = request_keep_text(request, reader, (const char *)text.data, text.length);
    else
        field_fail_error(reader, NULL, &text.error);
    answer->response_format_length = text.length;
    buffer_free(&text);
    return answer->response_format ? BULLA_OK : BULLA_E_MEMORY;
}

/* A format's `schema`, beside its `type`, is enforced and kept in the form that upstreams know: inside "json_schema". */
static int take_schema(struct api_request *request, struct field_reader *reader, const struct json *format,
                       const struct place *outer)
{
    const struct json *schema = field_find(format, "schema"), *name = NULL, *description = NULL;
    struct place at = {outer, "schema", 0}, *place = &at;
    int is_strict = 0; /* enforced either way */
    if (field_typed(reader, format, outer, "name", JSON_STRING, &name) ||
        field_typed(reader, format, outer, "description", JSON_STRING, &description) ||
        field_flag(reader, format, outer, "strict", &is_strict))
        return BULLA_E_INPUT;
    if (schema->type != JSON_OBJECT && !json_is_bool(schema))
        return field_fail_type(reader, place, schema, "a JSON schema, an object");
    int code = set_schema(request, reader, schema, place);
    if (code != BULLA_OK)
        return code;
    struct json *inner = made_add(made_object(reader, 4), "name", name ? name : made_text(reader, "answer", 6));
    if (description)
        inner = made_add(inner, "description", description);
    if (field_find(format, "strict"))
        inner = made_add(inner, "strict", field_find(format, "strict"));
    inner = made_add(inner, "schema", schema);
    struct json *nested = made_add(made_object(reader, 2), "type", made_text(reader, "json_schema", 11));
    nested = made_add(nested, "json_schema", inner);
    return nested ? keep_format(request, reader, nested) : BULLA_E_MEMORY;
}

/* OpenAI's {"json_schema": {"schema"}}, or llama.cpp's and /v1/responses' {"schema"}. */
static int read_schema(struct api_request *request, struct field_reader *reader, const struct json *format,
                       const struct place *place)
{
    const struct json *outer = NULL;
    struct place inside = {place, "json_schema", 0};
    if (field_find(format, "schema") && field_find(format, "json_schema"))
        return field_fail(reader, &(struct place){place, "schema", 0}, "invalid_value",
                          "and `json_schema` are both given; one of them says the schema");
    if (field_find(format, "schema"))
        return take_schema(request, reader, format, place);
    if (field_needed(reader, format, place, "json_schema", JSON_OBJECT, &outer) != BULLA_OK)
        return BULLA_E_INPUT;
    if (!field_find(outer, "schema"))
        return field_fail(reader, &(struct place){&inside, "schema", 0}, "missing_required_parameter",
                          "is missing; expected a JSON schema");
    return take_schema(request, reader, outer, &inside);
}

/* Any object, or with llama.cpp's `schema`, one that it accepts. An empty schema says nothing beyond the type. */
static int read_object(struct api_request *request, struct field_reader *reader, const struct json *format,
                       const struct place *place)
{
    const struct json *schema = field_find(format, "schema");
    int is_any = !schema || schema->type == JSON_TRUE || (schema->type == JSON_OBJECT && schema->length == 0);
    if (!is_any)
        return take_schema(request, reader, format, place);
    int code = set_any_object(request, reader);
    return code == BULLA_OK ? keep_format(request, reader, format) : code;
}

int request_read_format(struct api_request *request, struct field_reader *reader, const struct json *format,
                        const struct place *place)
{
    const struct json *type = NULL;
    if (!format)
        return BULLA_OK;
    if (field_needed(reader, format, place, "type", JSON_STRING, &type) != BULLA_OK)
        return BULLA_E_INPUT;
    if (made_is_text(type, "text"))
        return keep_format(request, reader, format);
    if (made_is_text(type, "json_object"))
        return read_object(request, reader, format, place);
    if (made_is_text(type, "json_schema"))
        return read_schema(request, reader, format, place);
    return field_fail(reader, &(struct place){place, "type", 0}, "invalid_value",
                      "is \"%.40s\"; expected \"text\", \"json_object\" or \"json_schema\"", type->text);
}
