/* The vocabulary, the merges and the added tokens of tokenizer.json, and the
 * special tokens that the files beside it name. */
#include "model/tokenizer_json.h"

#include "base/memory.h"

static int read_vocabulary(const struct json *model, struct compile *compile, bulla_error *error)
{
    const struct json *vocabulary = json_get(model, "vocab");
    if (!json_is(vocabulary, JSON_OBJECT))
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer.json: model.vocab is not an object");
    for (size_t i = 0; i < vocabulary->length; i++) {
        const struct json *value = vocabulary->items[i];
        if (!json_is(value, JSON_NUMBER) || !value->is_integer || value->integer < 0 ||
            value->integer >= compile->vocabulary)
            return bulla_fail(error, BULLA_E_INPUT,
                              "tokenizer.json: model.vocab[\"%.60s\"] is %.40s, expected an id below %u, the rows of "
                              "the model's embedding",
                              vocabulary->keys[i], json_is(value, JSON_NUMBER) ? value->text : "no number",
                              compile->vocabulary);
        struct compile_token *token = &compile->tokens[value->integer];
        if (token->text)
            return bulla_fail(error, BULLA_E_INPUT,
                              "tokenizer.json: model.vocab gives \"%.60s\" and \"%.60s\" the id %lld", token->text,
                              vocabulary->keys[i], (long long)value->integer);
        token->text = vocabulary->keys[i];
        token->text_length = vocabulary->key_lengths[i];
        token->kind = TOKEN_NORMAL;
    }
    return BULLA_OK;
}

/* The id of a spelling in model.vocab, or TOKENIZER_NONE. Ids were checked by read_vocabulary. */
static uint32_t vocabulary_id(const struct json *vocabulary, const char *text, size_t length)
{
    const struct json *value = json_get_bytes(vocabulary, text, length);
    return value ? (uint32_t)value->integer : TOKENIZER_NONE;
}

/* <0x00> to <0xFF> are bytes where the model falls back to them. */
static void mark_bytes(const struct json *model, struct compile *compile)
{
    static const char digits[] = "0123456789ABCDEF";
    if (!tokenizer_json_flag(model, "byte_fallback", 0) || compile->algorithm != TOKENIZER_SENTENCEPIECE)
        return;
    for (int byte = 0; byte < 256; byte++) {
        const char text[6] = {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
        uint32_t id = vocabulary_id(json_get(model, "vocab"), text, sizeof text);
        if (id != TOKENIZER_NONE)
            compile->tokens[id].kind = TOKEN_BYTE;
    }
}

struct merge_text {
    const char *left, *right;
    size_t left_length, right_length;
};

/* A merge is "left right", or ["left", "right"]. */
static int read_merge_text(const struct json *merge, struct merge_text *text)
{
    if (json_is(merge, JSON_ARRAY) && merge->length == 2 && json_is(merge->items[0], JSON_STRING) &&
        json_is(merge->items[1], JSON_STRING)) {
        *text = (struct merge_text){merge->items[0]->text, merge->items[1]->text, merge->items[0]->length,
                                    merge->items[1]->length};
        return 1;
    }
    const char *space = json_is(merge, JSON_STRING) ? memchr(merge->text, ' ', merge->length) : NULL;
    if (!space)
        return 0;
    size_t left = (size_t)(space - merge->text);
    *text = (struct merge_text){merge->text, space + 1, left, merge->length - left - 1};
    return 1;
}

static int read_merge(const struct json *model, size_t index, struct compile *compile, struct buffer *joined,
                      bulla_error *error)
{
    const struct json *vocabulary = json_get(model, "vocab");
    struct merge_text text;
    if (!read_merge_text(json_get(model, "merges")->items[index], &text))
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer.json: model.merges[%zu] is not two tokens", index);
    buffer_clear(joined);
    buffer_append(joined, text.left, text.left_length);
    buffer_append(joined, text.right, text.right_length);
    if (joined->error.code)
        return bulla_fail(error, joined->error.code, "%s", joined->error.text);
    struct compile_merge merge = {
        .left = vocabulary_id(vocabulary, text.left, text.left_length),
        .right = vocabulary_id(vocabulary, text.right, text.right_length),
        .rank = (uint32_t)index,
        .result = vocabulary_id(vocabulary, (const char *)joined->data, joined->length),
    };
    if (merge.left == TOKENIZER_NONE || merge.right == TOKENIZER_NONE || merge.result == TOKENIZER_NONE)
        return bulla_fail(error, BULLA_E_INPUT,
                          "tokenizer.json: model.merges[%zu] makes \"%.60s\": not both parts and it are in model.vocab",
                          index, joined->data ? (const char *)joined->data : "");
    return compile_add_merge(compile, merge, error);
}

static int read_merges(const struct json *model, struct compile *compile, bulla_error *error)
{
    const struct json *merges = json_get(model, "merges");
    struct buffer joined = {0};
    int code = BULLA_OK;
    if (!json_is(merges, JSON_ARRAY))
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer.json: model.merges is not an array");
    for (size_t i = 0; i < merges->length && code == BULLA_OK; i++)
        code = read_merge(model, i, compile, &joined, error);
    buffer_free(&joined);
    return code;
}

static int read_model(const struct json *root, struct compile *compile, bulla_error *error)
{
    const struct json *model = json_get(root, "model"), *type = json_get(model, "type");
    const struct json *dropout = json_get(model, "dropout"), *unknown = json_get(model, "unk_token");
    if (!json_is(model, JSON_OBJECT))
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer.json: model is not an object");
    if (type && !tokenizer_json_is_text(type, "BPE"))
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "tokenizer.json: model.type is \"%.60s\"; supported is BPE",
                          tokenizer_json_text(model, "type"));
    if (*tokenizer_json_text(model, "continuing_subword_prefix") || *tokenizer_json_text(model, "end_of_word_suffix"))
        return bulla_fail(error, BULLA_E_UNSUPPORTED,
                          "tokenizer.json: model.continuing_subword_prefix and end_of_word_suffix are not supported");
    if (json_is(dropout, JSON_NUMBER) && dropout->number > 0)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "tokenizer.json: model.dropout makes ids a matter of chance");
    if (read_vocabulary(model, compile, error))
        return error->code;
    if (json_is(unknown, JSON_STRING)) {
        compile->unknown = vocabulary_id(json_get(model, "vocab"), unknown->text, unknown->length);
        if (compile->unknown == TOKENIZER_NONE)
            return bulla_fail(error, BULLA_E_INPUT, "tokenizer.json: model.unk_token \"%.60s\" is not in model.vocab",
                              unknown->text);
    }
    compile->flags |= tokenizer_json_flag(model, "fuse_unk", 0) ? TOKENIZER_FUSE_UNKNOWN : 0;
    compile->flags |= tokenizer_json_flag(model, "ignore_merges", 0) ? TOKENIZER_WHOLE_WORDS : 0;
    mark_bytes(model, compile);
    return read_merges(model, compile, error);
}

static uint32_t added_flags(const struct json *entry)
{
    return (tokenizer_json_flag(entry, "special", 0) ? ADDED_SPECIAL : 0u) |
           (tokenizer_json_flag(entry, "normalized", 0) ? ADDED_NORMALIZED : 0u) |
           (tokenizer_json_flag(entry, "lstrip", 0) ? ADDED_LEFT_STRIP : 0u) |
           (tokenizer_json_flag(entry, "rstrip", 0) ? ADDED_RIGHT_STRIP : 0u) |
           (tokenizer_json_flag(entry, "single_word", 0) ? ADDED_SINGLE_WORD : 0u);
}

static int read_added_token(const struct json *entry, size_t index, struct compile *compile, bulla_error *error)
{
    const struct json *id = json_get(entry, "id"), *content = json_get(entry, "content");
    if (!json_is(content, JSON_STRING) || !json_is(id, JSON_NUMBER) || !id->is_integer || id->integer < 0 ||
        id->integer >= compile->vocabulary)
        return bulla_fail(error, BULLA_E_INPUT,
                          "tokenizer.json: added_tokens[%zu] has no content, or no id below %u, the rows of the "
                          "model's embedding",
                          index, compile->vocabulary);
    struct compile_token *token = &compile->tokens[id->integer];
    if (token->text && !tokenizer_json_is_text(content, token->text))
        return bulla_fail(error, BULLA_E_INPUT,
                          "tokenizer.json: added_tokens[%zu] is \"%.60s\", but id %lld is \"%.60s\"", index,
                          content->text, (long long)id->integer, token->text);
    token->text = content->text;
    token->text_length = content->length;
    token->kind = added_flags(entry) & ADDED_SPECIAL ? TOKEN_CONTROL : TOKEN_USER;
    return compile_add_added(compile, (uint32_t)id->integer, added_flags(entry), content->text, content->length,
                             error);
}

static int read_added(const struct json *root, struct compile *compile, bulla_error *error)
{
    const struct json *added = json_get(root, "added_tokens");
    if (!added || added->type == JSON_NULL)
        return BULLA_OK;
    if (added->type != JSON_ARRAY)
        return bulla_fail(error, BULLA_E_INPUT, "tokenizer.json: added_tokens is not an array");
    for (size_t i = 0; i < added->length; i++) {
        if (read_added_token(added->items[i], i, compile, error))
            return error->code;
    }
    return BULLA_OK;
}

/* tokenizer_config.json names a special token as "<s>" or {"content": "<s>"}. */
static uint32_t named_token(const struct json *config, const char *key, const struct compile *compile)
{
    const struct json *value = json_get(config, key);
    if (json_is(value, JSON_OBJECT))
        value = json_get(value, "content");
    if (!json_is(value, JSON_STRING))
        return TOKENIZER_NONE;
    for (uint32_t id = 0; id < compile->vocabulary; id++) {
        const struct compile_token *token = &compile->tokens[id];
        if (token->text && token->text_length == value->length && memcmp(token->text, value->text, value->length) == 0)
            return id;
    }
    return TOKENIZER_NONE;
}

/* eos_token_id of generation_config.json or config.json: an id or a list of them. The first becomes the end token
 * where none is named yet. */
static int read_ends(const struct json *config, const char *file, struct compile *compile, bulla_error *error)
{
    const struct json *value = json_get(config, "eos_token_id");
    if (!value || value->type == JSON_NULL)
        return BULLA_OK;
    int is_list = value->type == JSON_ARRAY;
    size_t count = is_list ? value->length : 1;
    for (size_t i = 0; i < count; i++) {
        const struct json *id = is_list ? value->items[i] : value;
        if (!json_is(id, JSON_NUMBER) || !id->is_integer || id->integer < 0 || id->integer >= compile->vocabulary)
            return bulla_fail(error, BULLA_E_INPUT, "%s: eos_token_id holds something that is no id below %u", file,
                              compile->vocabulary);
        compile_mark_end(compile, id->integer);
        if (compile->end == TOKENIZER_NONE)
            compile->end = (uint32_t)id->integer;
    }
    return BULLA_OK;
}

/* Llama's and Gemma's tokenizer classes take add_bos_token and add_eos_token over the post-processor. */
static void apply_class(const struct json *config, struct compile *compile)
{
    const char *class = tokenizer_json_text(config, "tokenizer_class");
    if (strncmp(class, "Llama", 5) != 0 && strncmp(class, "Gemma", 5) != 0 && strncmp(class, "CodeLlama", 9) != 0)
        return;
    if (json_is_bool(json_get(config, "add_bos_token")))
        compile->flags = (compile->flags & ~(uint32_t)TOKENIZER_ADD_START) |
                         (tokenizer_json_flag(config, "add_bos_token", 0) ? TOKENIZER_ADD_START : 0);
    if (json_is_bool(json_get(config, "add_eos_token")))
        compile->flags = (compile->flags & ~(uint32_t)TOKENIZER_ADD_END) |
                         (tokenizer_json_flag(config, "add_eos_token", 0) ? TOKENIZER_ADD_END : 0);
}

static int read_special(const struct tokenizer_files *files, struct compile *compile, bulla_error *error)
{
    compile->start = named_token(files->config, "bos_token", compile);
    compile->end = named_token(files->config, "eos_token", compile);
    if (tokenizer_json_frame(files->tokenizer, compile, error))
        return error->code;
    apply_class(files->config, compile);
    if (read_ends(files->generation, "generation_config.json", compile, error) ||
        read_ends(files->model, "config.json", compile, error))
        return error->code;
    if (compile->end != TOKENIZER_NONE)
        compile_mark_end(compile, compile->end);
    compile_mark_known_ends(compile);
    return BULLA_OK;
}

int tokenizer_compile_json(const struct tokenizer_files *files, uint32_t vocabulary, struct compile *compile,
                           bulla_error *error)
{
    const struct json *root = files->tokenizer;
    if (!root)
        return bulla_fail(error, BULLA_E_INPUT,
                          "tokenizer.json is missing beside the model (other tokenizer files are not read)");
    if (compile_start(compile, vocabulary, error) || tokenizer_json_pipeline(root, compile, error) ||
        read_model(root, compile, error) || read_added(root, compile, error) ||
        read_special(files, compile, error))
        return error->code;
    return compile_spellings(compile, error);
}
