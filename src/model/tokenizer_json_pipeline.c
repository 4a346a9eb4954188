/* The steps around the merges: tokenizer.json describes them as a small
 * pipeline; the ones that the supported families use are recognised, anything
 * else is refused by name. */
#include "model/tokenizer_json.h"

#define META "\xE2\x96\x81" /* U+2581, SentencePiece's sign for a space */

int tokenizer_json_is_text(const struct json *value, const char *text)
{
    return json_is(value, JSON_STRING) && value->length == strlen(text) &&
           memcmp(value->text, text, value->length) == 0;
}

const char *tokenizer_json_text(const struct json *object, const char *key)
{
    const struct json *value = json_get(object, key);
    return json_is(value, JSON_STRING) ? value->text : "";
}

int tokenizer_json_flag(const struct json *object, const char *key, int otherwise)
{
    const struct json *value = json_get(object, key);
    return json_is_bool(value) ? value->type == JSON_TRUE : otherwise;
}

static int is_missing(const struct json *value)
{
    return !value || value->type == JSON_NULL;
}

static int unsupported(bulla_error *error, const char *part, const char *type, const char *supported)
{
    return bulla_fail(error, BULLA_E_UNSUPPORTED, "tokenizer.json: %s \"%.60s\" is not supported; supported are %s",
                      part, type, supported);
}

/* A part is missing, one step, or a Sequence of steps under `list`; steps[] gets at most `most` of them. */
static int flatten(const struct json *part, const char *name, const char *list, const struct json **steps,
                   size_t most, size_t *count, bulla_error *error)
{
    if (is_missing(part))
        return BULLA_OK;
    const struct json *items = json_get(part, list);
    if (!tokenizer_json_is_text(json_get(part, "type"), "Sequence")) {
        if (*count == most)
            return bulla_fail(error, BULLA_E_UNSUPPORTED, "tokenizer.json: %s has more than %zu steps", name, most);
        steps[(*count)++] = part;
        return BULLA_OK;
    }
    if (!json_is(items, JSON_ARRAY))
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer.json: %s is a Sequence without %s", name, list);
    for (size_t i = 0; i < items->length; i++) { /* JSON's own depth limit bounds the recursion */
        if (flatten(items->items[i], name, list, steps, most, count, error))
            return error->code;
    }
    return BULLA_OK;
}

enum { MOST_STEPS = 16 };

struct pipeline {
    const struct json *steps[MOST_STEPS];
    size_t count;
    int spaces_replaced; /* " " became U+2581 */
    int metaspace;
};

static int is_space_replace(const struct json *step, const char *from, const char *to)
{
    return tokenizer_json_is_text(json_get(json_get(step, "pattern"), "String"), from) &&
           tokenizer_json_is_text(json_get(step, "content"), to);
}

static int read_normalizer(const struct json *root, struct compile *compile, struct pipeline *pipeline,
                           bulla_error *error)
{
    static const char supported[] = "NFC, Prepend of U+2581, Replace of a space by U+2581, and sequences of them";
    pipeline->count = 0;
    if (flatten(json_get(root, "normalizer"), "normalizer", "normalizers", pipeline->steps, MOST_STEPS,
                &pipeline->count, error))
        return error->code;
    for (size_t i = 0; i < pipeline->count; i++) {
        const struct json *step = pipeline->steps[i];
        const char *type = tokenizer_json_text(step, "type");
        if (strcmp(type, "NFC") == 0)
            compile->flags |= TOKENIZER_NFC;
        else if (strcmp(type, "Prepend") == 0 && tokenizer_json_is_text(json_get(step, "prepend"), META))
            compile->flags |= TOKENIZER_PREFIX;
        else if (strcmp(type, "Replace") == 0 && is_space_replace(step, " ", META))
            pipeline->spaces_replaced = 1;
        else
            return unsupported(error, "normalizer", type, supported);
    }
    return BULLA_OK;
}

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define PREFIX "[^\\r\\n\\p{L}\\p{N}]?"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define SYMBOLS "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define SYMBOLS_SLASH "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*"
#define REST "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct {
    const char *expression;
    uint32_t split;
} known_expressions[] = {
    {CONTRACTIONS "|" PREFIX "\\p{L}+|\\p{N}{1,3}" SYMBOLS REST, TOKENIZER_SPLIT_LLAMA3},
    {CONTRACTIONS "|" PREFIX "\\p{L}+|\\p{N}" SYMBOLS REST, TOKENIZER_SPLIT_QWEN2},
    {CONTRACTIONS "|" PREFIX "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" REST,
     TOKENIZER_SPLIT_QWEN35},
    {PREFIX UPPER "*" LOWER "+|" PREFIX UPPER "+" LOWER "*|\\p{N}" SYMBOLS_SLASH REST, TOKENIZER_SPLIT_TEKKEN},
    {PREFIX UPPER "*" LOWER "+" CONTRACTIONS "?|" PREFIX UPPER "+" LOWER "*" CONTRACTIONS "?|\\p{N}{1,3}" SYMBOLS_SLASH
     REST, TOKENIZER_SPLIT_GPT4O},
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", TOKENIZER_SPLIT_GPT2},
};

/* Split by a regular expression that covers every text: the matches are the words. */
static int read_split(const struct json *step, uint32_t *split, bulla_error *error)
{
    const char *behavior = tokenizer_json_text(step, "behavior");
    int invert = tokenizer_json_flag(step, "invert", 0);
    const struct json *expression = json_get(json_get(step, "pattern"), "Regex");
    if (!(strcmp(behavior, "Isolated") == 0 && !invert) && !(strcmp(behavior, "Removed") == 0 && invert))
        return unsupported(error, "pre_tokenizer Split with behavior", behavior, "Isolated, or Removed inverted");
    for (size_t i = 0; i < sizeof known_expressions / sizeof *known_expressions; i++) {
        if (tokenizer_json_is_text(expression, known_expressions[i].expression)) {
            *split = known_expressions[i].split;
            return BULLA_OK;
        }
    }
    return bulla_fail(error, BULLA_E_UNSUPPORTED,
                      "tokenizer.json: pre_tokenizer splits by \"%.300s\"; supported are the expressions of GPT-2, "
                      "Llama 3, Qwen 2, Qwen 3.5, tekken and gpt-4o",
                      expression && expression->type == JSON_STRING ? expression->text : "(no expression)");
}

/* [ByteLevel], [Digits, ByteLevel] or [Split, ByteLevel without its own expression]. */
static int read_byte_level(const struct pipeline *pipeline, struct compile *compile, bulla_error *error)
{
    const struct json *last = pipeline->steps[pipeline->count - 1];
    const struct json *first = pipeline->count > 1 ? pipeline->steps[0] : NULL;
    const char *type = tokenizer_json_text(first, "type");
    int own = tokenizer_json_flag(last, "use_regex", 1);
    compile->algorithm = TOKENIZER_BYTE_LEVEL;
    if (tokenizer_json_flag(last, "add_prefix_space", 1))
        return unsupported(error, "pre_tokenizer ByteLevel with", "add_prefix_space", "those without it");
    if (pipeline->count > 2)
        return unsupported(error, "pre_tokenizer Sequence with", "three steps",
                           "ByteLevel alone, or after Digits or Split");
    if (!first && own) {
        compile->split = TOKENIZER_SPLIT_GPT2;
        return BULLA_OK;
    }
    if (first && own && strcmp(type, "Digits") == 0 && tokenizer_json_flag(first, "individual_digits", 0)) {
        compile->split = TOKENIZER_SPLIT_SMOLLM;
        return BULLA_OK;
    }
    if (first && !own && strcmp(type, "Split") == 0)
        return read_split(first, &compile->split, error);
    return unsupported(error, "pre_tokenizer with the steps", type,
                       "ByteLevel with its own expression alone or after Digits, or without it after Split");
}

static int read_metaspace(const struct json *step, struct compile *compile, bulla_error *error)
{
    const char *scheme = tokenizer_json_text(step, "prepend_scheme");
    if (!tokenizer_json_is_text(json_get(step, "replacement"), META))
        return unsupported(error, "Metaspace with", tokenizer_json_text(step, "replacement"), "U+2581");
    if (*scheme == 0) /* as it was written before prepend_scheme */
        scheme = tokenizer_json_flag(step, "add_prefix_space", 1) ? "always" : "never";
    if (strcmp(scheme, "always") == 0)
        compile->flags |= TOKENIZER_PREFIX | TOKENIZER_PREFIX_UNLESS;
    else if (strcmp(scheme, "first") == 0)
        compile->flags |= TOKENIZER_PREFIX | TOKENIZER_PREFIX_UNLESS | TOKENIZER_PREFIX_FIRST;
    else if (strcmp(scheme, "never") != 0)
        return unsupported(error, "Metaspace with prepend_scheme", scheme, "always, first and never");
    if (tokenizer_json_flag(step, "split", 1))
        compile->split = TOKENIZER_SPLIT_SPACES;
    return BULLA_OK;
}

static int read_pre_tokenizer(const struct json *root, struct compile *compile, struct pipeline *pipeline,
                              bulla_error *error)
{
    pipeline->count = 0;
    compile->split = TOKENIZER_SPLIT_NONE;
    compile->algorithm = TOKENIZER_SENTENCEPIECE;
    if (flatten(json_get(root, "pre_tokenizer"), "pre_tokenizer", "pretokenizers", pipeline->steps, MOST_STEPS,
                &pipeline->count, error))
        return error->code;
    if (pipeline->count > 0 &&
        strcmp(tokenizer_json_text(pipeline->steps[pipeline->count - 1], "type"), "ByteLevel") == 0)
        return read_byte_level(pipeline, compile, error);
    for (size_t i = 0; i < pipeline->count; i++) {
        const struct json *step = pipeline->steps[i];
        const char *type = tokenizer_json_text(step, "type");
        int spaces = tokenizer_json_is_text(json_get(json_get(step, "pattern"), "String"), " ");
        if (strcmp(type, "Metaspace") == 0 && !(compile->flags & TOKENIZER_PREFIX)) {
            pipeline->metaspace = 1;
            if (read_metaspace(step, compile, error))
                return error->code;
        } else if (!(strcmp(type, "Split") == 0 && spaces && pipeline->spaces_replaced)) {
            /* Split at spaces where none is left (Gemma) does nothing. */
            return unsupported(error, "pre_tokenizer", type, "ByteLevel, Split and Digits before it, and Metaspace");
        }
    }
    return BULLA_OK;
}

static int read_decoder(const struct json *root, struct compile *compile, struct pipeline *pipeline,
                        bulla_error *error)
{
    pipeline->count = 0;
    if (flatten(json_get(root, "decoder"), "decoder", "decoders", pipeline->steps, MOST_STEPS, &pipeline->count, error))
        return error->code;
    for (size_t i = 0; i < pipeline->count; i++) {
        const struct json *step = pipeline->steps[i], *start = json_get(step, "start");
        const char *type = tokenizer_json_text(step, "type"), *scheme = tokenizer_json_text(step, "prepend_scheme");
        int strips = strcmp(type, "Strip") == 0 && tokenizer_json_is_text(json_get(step, "content"), " ") && start &&
                     start->is_integer && start->integer == 1;
        if (strcmp(type, "Metaspace") == 0)
            strips = strcmp(scheme, "never") != 0 && tokenizer_json_flag(step, "add_prefix_space", 1);
        if (strips)
            compile->flags |= TOKENIZER_STRIP_FIRST;
    }
    return BULLA_OK;
}

int tokenizer_json_pipeline(const struct json *root, struct compile *compile, bulla_error *error)
{
    struct pipeline pipeline = {.count = 0};
    if (read_normalizer(root, compile, &pipeline, error) || read_pre_tokenizer(root, compile, &pipeline, error))
        return error->code;
    if (compile->algorithm == TOKENIZER_BYTE_LEVEL) {
        if (pipeline.spaces_replaced || compile->flags & TOKENIZER_PREFIX)
            return unsupported(error, "normalizer", "Prepend or Replace", "NFC before ByteLevel");
        return BULLA_OK;
    }
    if (!pipeline.spaces_replaced && !pipeline.metaspace)
        return bulla_fail(error, BULLA_E_UNSUPPORTED,
                          "tokenizer.json: neither ByteLevel nor a step that makes spaces U+2581: only byte-level and "
                          "SentencePiece-style BPE are supported");
    return read_decoder(root, compile, &pipeline, error);
}

/* {"SpecialToken": {"id": "<s>"}} by post_processor.special_tokens. */
static int template_token(const struct json *processor, const struct json *piece, struct compile *compile,
                          uint32_t *id, bulla_error *error)
{
    const char *name = tokenizer_json_text(json_get(piece, "SpecialToken"), "id");
    const struct json *ids = json_get(json_get(json_get(processor, "special_tokens"), name), "ids");
    const struct json *first = json_is(ids, JSON_ARRAY) && ids->length == 1 ? ids->items[0] : NULL;
    if (!first || !first->is_integer || first->integer < 0 || first->integer >= compile->vocabulary)
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer.json: post_processor names \"%.60s\", which is no one token",
                          name);
    *id = (uint32_t)first->integer;
    return BULLA_OK;
}

static int read_template(const struct json *processor, struct compile *compile, bulla_error *error)
{
    const struct json *single = json_get(processor, "single");
    int seen_text = 0;
    if (!json_is(single, JSON_ARRAY))
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer.json: post_processor.single is not an array");
    for (size_t i = 0; i < single->length; i++) {
        const struct json *piece = single->items[i];
        if (json_get(piece, "Sequence")) {
            seen_text = 1;
            continue;
        }
        uint32_t flag = seen_text ? TOKENIZER_ADD_END : TOKENIZER_ADD_START;
        if (compile->flags & flag)
            return unsupported(error, "post_processor", "with two tokens on one side", "one before and one after");
        if (template_token(processor, piece, compile, seen_text ? &compile->end : &compile->start, error))
            return error->code;
        compile->flags |= flag;
    }
    return BULLA_OK;
}

int tokenizer_json_frame(const struct json *root, struct compile *compile, bulla_error *error)
{
    struct pipeline pipeline = {.count = 0};
    if (flatten(json_get(root, "post_processor"), "post_processor", "processors", pipeline.steps, MOST_STEPS,
                &pipeline.count, error))
        return error->code;
    for (size_t i = 0; i < pipeline.count; i++) {
        const char *type = tokenizer_json_text(pipeline.steps[i], "type");
        if (strcmp(type, "TemplateProcessing") == 0) {
            if (read_template(pipeline.steps[i], compile, error))
                return error->code;
        } else if (strcmp(type, "ByteLevel") != 0) {
            return unsupported(error, "post_processor", type, "TemplateProcessing and ByteLevel");
        }
    }
    return BULLA_OK;
}
