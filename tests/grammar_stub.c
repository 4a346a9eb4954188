/* exec/grammar.h for one kind of grammar: m to n bytes, each one of a few.
 *
 *     {"repeat": {"choice": [{"literal": "a"}, ...]}, "min": m, "max": n}
 */
#include "exec/grammar.h"

#include "base/arena.h"
#include "base/json.h"
#include "base/memory.h"

struct grammar_vocabulary {
    const bulla_tokenizer *tokenizer;
    uint32_t count;
};

struct grammar {
    int allowed[256];
    int64_t least, most;
};

struct grammar_state {
    const struct grammar *grammar;
    const struct grammar_vocabulary *vocabulary;
    int64_t length;
    int has_ended;
    uint64_t *allowed;
};

int grammar_vocabulary_open(const bulla_tokenizer *tokenizer, uint32_t vocabulary, struct grammar_vocabulary **result,
                            bulla_error *error)
{
    *result = memory_alloc(1, sizeof **result, error);
    if (!*result)
        return BULLA_E_MEMORY;
    **result = (struct grammar_vocabulary){tokenizer, vocabulary};
    return BULLA_OK;
}

void grammar_vocabulary_close(struct grammar_vocabulary *vocabulary)
{
    memory_free(vocabulary);
}

int grammar_compile(const char *specification, size_t length, struct grammar **result, bulla_error *error)
{
    struct arena arena = {0};
    *result = NULL;
    const struct json *json = json_parse(specification, length, "grammar", &arena, error);
    const struct json *choice = json_get(json_get(json, "repeat"), "choice");
    const struct json *least = json_get(json, "min"), *most = json_get(json, "max");
    int code = BULLA_OK;
    if (!json)
        code = error && error->code ? error->code : BULLA_E_INPUT;
    else if (!json_is(choice, JSON_ARRAY) || !least || !most)
        code = bulla_fail(error, BULLA_E_UNSUPPORTED, "the grammar is not a repeated choice of bytes");
    if (code == BULLA_OK && !(*result = memory_alloc(1, sizeof **result, error)))
        code = BULLA_E_MEMORY;
    for (size_t i = 0; code == BULLA_OK && i < choice->length; i++)
        (*result)->allowed[(uint8_t)json_get(choice->items[i], "literal")->text[0]] = 1;
    if (code == BULLA_OK) {
        (*result)->least = least->integer;
        (*result)->most = most->integer;
    }
    arena_free(&arena);
    return code;
}

void grammar_free(struct grammar *grammar)
{
    memory_free(grammar);
}

int grammar_state_open(const struct grammar *grammar, const struct grammar_vocabulary *vocabulary,
                       struct grammar_state **result, bulla_error *error)
{
    struct grammar_state *state = *result = memory_alloc(1, sizeof *state, error);
    if (!state)
        return BULLA_E_MEMORY;
    *state = (struct grammar_state){.grammar = grammar, .vocabulary = vocabulary};
    state->allowed = memory_alloc(vocabulary->count / 64 + 1, sizeof *state->allowed, error);
    if (state->allowed)
        return BULLA_OK;
    grammar_state_close(state);
    *result = NULL;
    return BULLA_E_MEMORY;
}

void grammar_state_close(struct grammar_state *state)
{
    if (!state)
        return;
    memory_free(state->allowed);
    memory_free(state);
}

static int is_allowed(const struct grammar_state *state, uint32_t id)
{
    const uint8_t *bytes;
    size_t length;
    if (bulla_tokenizer_is_end(state->vocabulary->tokenizer, id))
        return grammar_state_is_complete(state);
    return !state->has_ended && state->length < state->grammar->most &&
           bulla_tokenizer_token_bytes(state->vocabulary->tokenizer, id, &bytes, &length) == BULLA_OK && length == 1 &&
           state->grammar->allowed[bytes[0]];
}

int grammar_state_allowed(struct grammar_state *state, const uint64_t **allowed, bulla_error *error)
{
    for (uint32_t i = 0; i <= state->vocabulary->count / 64; i++)
        state->allowed[i] = 0;
    for (uint32_t id = 0; id < state->vocabulary->count; id++)
        state->allowed[id / 64] |= (uint64_t)is_allowed(state, id) << (id & 63);
    *allowed = state->allowed;
    return BULLA_OK;
}

int grammar_state_accept(struct grammar_state *state, uint32_t token, bulla_error *error)
{
    if (!is_allowed(state, token))
        return bulla_fail(error, BULLA_E_USAGE, "token %u is not allowed", token);
    state->has_ended = bulla_tokenizer_is_end(state->vocabulary->tokenizer, token);
    state->length += !state->has_ended;
    return BULLA_OK;
}

int grammar_state_is_complete(const struct grammar_state *state)
{
    return state->length >= state->grammar->least;
}

int grammar_state_is_final(const struct grammar_state *state)
{
    return state->has_ended || state->length == state->grammar->most;
}
