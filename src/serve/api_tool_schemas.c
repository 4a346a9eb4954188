/* The parameters of tools, before a backend is asked: a schema that cannot be enforced is an error that names it, also
 * where a call is not forced and the tool says `strict`. Agents send the same tools with every request, so lists that were
 * good are remembered. */
#include <string.h>

#include "exec/grammar.h"
#include "serve/api_answer.h"
#include "serve/tools.h"

static int is_checked(const struct answer_request *request, const struct json *function)
{
    if (request->tool_choice == TOOLS_NAMED)
        return made_is_text(json_get(function, "name"), request->tool_name);
    return request->tool_choice == TOOLS_REQUIRED ||
           (request->tool_choice == TOOLS_AUTO && json_is(json_get(function, "strict"), JSON_TRUE));
}

static int compile(const struct buffer *specification, bulla_error *error)
{
    struct grammar *grammar = NULL;
    if (specification->error.code != BULLA_OK)
        return bulla_fail(error, specification->error.code, "%s", specification->error.text);
    int code = grammar_compile((const char *)specification->data, specification->length, &grammar, error);
    grammar_free(grammar);
    return code;
}

/* The arguments of tools `first` up to, not including, `end`. Returns how many of them are checked. */
static size_t write_arguments(const struct answer_request *request, size_t first, size_t end, struct buffer *out,
                              bulla_error *error)
{
    size_t count = 0;
    buffer_append_text(out, "{\"choice\":[");
    for (size_t i = first; i < end && error->code == BULLA_OK; i++) {
        const struct json *function = json_get(request->tools->items[i], "function");
        if (!is_checked(request, function))
            continue;
        if (count++)
            buffer_append_byte(out, ',');
        tool_arguments_grammar(function, out, error);
    }
    buffer_append_text(out, "]}");
    return count;
}

static int check_range(const struct answer_request *request, size_t first, size_t end, bulla_error *error)
{
    struct buffer specification = {0};
    if (write_arguments(request, first, end, &specification, error) > 0 && error->code == BULLA_OK)
        compile(&specification, error);
    buffer_free(&specification);
    return error->code;
}

/* Names the tool that is to blame. What is only too large together is nobody's fault alone, and is not looked into: the
 * time for all of them is spent. */
static int fail(struct api_request *request, int is_flat, const bulla_error *found, struct field_reader *reader)
{
    struct place tools = {NULL, "tools", 0};
    for (size_t i = 0; i < request->answer.tools->length && found->code != BULLA_E_LIMIT && found->code != BULLA_E_MEMORY; i++) {
        struct place tool = {&tools, NULL, i}, function = {&tool, "function", 0};
        bulla_error error = {0};
        if (check_range(&request->answer, i, i + 1, &error) != BULLA_OK)
            return request_fail_schema(reader, &(struct place){is_flat ? &tool : &function, "parameters", 0}, &error);
    }
    return request_fail_schema(reader, &tools, found);
}

static int is_known(const struct api *api, const uint8_t digest[HASH_SHA256_BYTES])
{
    for (unsigned i = 0; i < api->known_count && i < API_KNOWN_TOOLS; i++)
        if (memcmp(api->known_tools[i], digest, HASH_SHA256_BYTES) == 0)
            return 1;
    return 0;
}

int api_check_tool_schemas(struct api *api, struct api_request *request, int is_flat, struct answer_error *problem)
{
    struct field_reader reader = {&request->json, problem};
    struct buffer specification = {0};
    uint8_t digest[HASH_SHA256_BYTES];
    bulla_error error = {0};
    size_t count = request->answer.tools ? request->answer.tools->length : 0;
    if (write_arguments(&request->answer, 0, count, &specification, &error) == 0) {
        buffer_free(&specification);
        return BULLA_OK;
    }
    if (error.code == BULLA_OK && specification.error.code == BULLA_OK &&
        hash_sha256(specification.data, specification.length, digest, &error) == BULLA_OK && !is_known(api, digest) &&
        compile(&specification, &error) == BULLA_OK)
        memcpy(api->known_tools[api->known_count++ % API_KNOWN_TOOLS], digest, sizeof digest);
    if (error.code == BULLA_OK)
        error = specification.error;
    buffer_free(&specification);
    return error.code == BULLA_OK ? BULLA_OK : fail(request, is_flat, &error, &reader);
}
