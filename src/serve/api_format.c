/* response_format: what an answer's text must look like, as a grammar's specification (exec/grammar.h). */
#include <string.h>

#include "serve/api_request.h"

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
        request->answer.grammar = arena_copy_text(&request->arena, text, length, &error);
    request->answer.grammar_length = length;
    if (error.code == BULLA_OK)
        return BULLA_OK;
    field_fail_error(reader, place, &error);
    if (error.code == BULLA_E_UNSUPPORTED)
        reader->problem->code = "unsupported_schema";
    else if (reader->problem->status == 400)
        reader->problem->code = "invalid_schema";
    return error.code;
}

int request_set_schema(struct api_request *request, struct field_reader *reader, const struct json *schema,
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

int request_set_any_object(struct api_request *request, struct field_reader *reader)
{
    struct buffer specification = {0};
    buffer_append_text(&specification, "{\"object\":true}");
    int code = set_grammar(request, reader, &specification, NULL);
    buffer_free(&specification);
    return code;
}

static int read_schema(struct api_request *request, struct field_reader *reader, const struct json *format,
                       const struct place *place)
{
    const struct json *outer = NULL;
    struct place inside = {place, "json_schema", 0}, schema_place = {&inside, "schema", 0};
    if (field_needed(reader, format, place, "json_schema", JSON_OBJECT, &outer) != BULLA_OK)
        return BULLA_E_INPUT;
    const struct json *schema = field_find(outer, "schema");
    int is_strict = 0;
    if (field_flag(reader, outer, &inside, "strict", &is_strict) != BULLA_OK) /* enforced either way */
        return BULLA_E_INPUT;
    if (!schema)
        return field_fail(reader, &schema_place, "missing_required_parameter", "is missing; expected a JSON schema");
    if (schema->type != JSON_OBJECT && !json_is_bool(schema))
        return field_fail_type(reader, &schema_place, schema, "a JSON schema, an object");
    return request_set_schema(request, reader, schema, &schema_place);
}

int request_read_format(struct api_request *request, struct field_reader *reader, const struct json *format,
                        const struct place *place)
{
    const struct json *type = NULL;
    if (!format)
        return BULLA_OK;
    if (field_needed(reader, format, place, "type", JSON_STRING, &type) != BULLA_OK)
        return BULLA_E_INPUT;
    request->answer.response_format = format;
    if (made_is_text(type, "text"))
        return BULLA_OK;
    if (made_is_text(type, "json_object"))
        return request_set_any_object(request, reader);
    if (made_is_text(type, "json_schema"))
        return read_schema(request, reader, format, place);
    return field_fail(reader, &(struct place){place, "type", 0}, "invalid_value",
                      "is \"%.40s\"; expected \"text\", \"json_object\" or \"json_schema\"", type->text);
}
