/* The compiled block, written: everything sorted, so that one tokenizer has one block. */
#include "model/tokenizer_compile.h"

#include "base/memory.h"

int compile_sort(uint32_t *items, size_t count, int (*compare)(const void *context, uint32_t a, uint32_t b),
                 const void *context, bulla_error *error)
{
    uint32_t *spare = memory_alloc(count, sizeof *spare, error);
    if (!spare)
        return error->code;
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t start = 0; start < count; start += 2 * width) {
            size_t middle = count - start > width ? start + width : count;
            size_t end = count - start > 2 * width ? start + 2 * width : count;
            size_t a = start, b = middle;
            for (size_t out = start; out < end; out++) {
                int take_b = a == middle || (b < end && compare(context, items[a], items[b]) > 0);
                spare[out] = take_b ? items[b++] : items[a++];
            }
        }
        memcpy(items, spare, count * sizeof *items);
    }
    memory_free(spare);
    return BULLA_OK;
}

static int compare_bytes(const char *a, size_t a_length, const char *b, size_t b_length)
{
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order ? order : a_length < b_length ? -1 : a_length > b_length;
}

static uint32_t merge_key(const struct compile_merge *merge, int by_left)
{
    return by_left ? merge->left : merge->right;
}

/* Stable counting sort of the merges by one of their two ids. */
static int sort_merges_by(struct compile *compile, int by_left, bulla_error *error)
{
    size_t count = compile->merge_count;
    size_t *places = memory_alloc((size_t)compile->vocabulary + 1, sizeof *places, error);
    struct compile_merge *sorted = memory_alloc(count, sizeof *sorted, error);
    if (!places || !sorted) {
        memory_free(places);
        memory_free(sorted);
        return error->code;
    }
    for (size_t i = 0; i < count; i++)
        places[merge_key(&compile->merges[i], by_left) + 1]++;
    for (size_t id = 1; id <= compile->vocabulary; id++)
        places[id] += places[id - 1];
    for (size_t i = 0; i < count; i++)
        sorted[places[merge_key(&compile->merges[i], by_left)]++] = compile->merges[i];
    memory_free(places);
    memory_free(compile->merges);
    compile->merges = sorted;
    compile->merge_capacity = count;
    return BULLA_OK;
}

/* By left id, then right id. Of equal pairs the last one counts, as in `tokenizers`. */
static int sort_merges(struct compile *compile, bulla_error *error)
{
    if (sort_merges_by(compile, 0, error) || sort_merges_by(compile, 1, error))
        return error->code;
    size_t kept = 0;
    for (size_t i = 0; i < compile->merge_count; i++) {
        const struct compile_merge *merge = &compile->merges[i];
        int same = kept > 0 && compile->merges[kept - 1].left == merge->left &&
                   compile->merges[kept - 1].right == merge->right;
        compile->merges[same ? kept - 1 : kept] = *merge;
        kept += !same;
    }
    compile->merge_count = kept;
    return BULLA_OK;
}

/* Two parts make what they spell together, and no control token: opening the block checks it. */
static int check_merges(const struct compile *compile, bulla_error *error)
{
    for (size_t i = 0; i < compile->merge_count; i++) {
        const struct compile_merge *merge = &compile->merges[i];
        const struct compile_token *left = &compile->tokens[merge->left], *right = &compile->tokens[merge->right];
        int kind = compile->tokens[merge->result].kind & TOKEN_KIND_MASK;
        if (kind != TOKEN_NORMAL && kind != TOKEN_USER)
            return bulla_fail(error, BULLA_E_UNSUPPORTED,
                              "a merge of tokens %u and %u gives token %u, a control token, which text must not make",
                              merge->left, merge->right, merge->result);
        if (left->length + right->length != compile->tokens[merge->result].length)
            return bulla_fail(error, BULLA_E_UNSUPPORTED,
                              "a merge of tokens %u and %u gives token %u, which is not what they spell together",
                              merge->left, merge->right, merge->result);
    }
    return BULLA_OK;
}

static void write_merges(const struct compile *compile, struct buffer *block)
{
    size_t at = 0;
    for (uint32_t id = 0; id <= compile->vocabulary; id++) {
        while (at < compile->merge_count && compile->merges[at].left < id)
            at++;
        buffer_append_u32(block, (uint32_t)at);
    }
    for (size_t i = 0; i < compile->merge_count; i++) {
        buffer_append_u32(block, compile->merges[i].right);
        buffer_append_u32(block, compile->merges[i].rank);
        buffer_append_u32(block, compile->merges[i].result);
    }
}

static int by_added_spelling(const void *context, uint32_t a, uint32_t b)
{
    const struct compile_added *added = context;
    return compare_bytes(added[a].spelling, added[a].length, added[b].spelling, added[b].length);
}

/* Sorts a list and drops all but the first entry of a spelling. */
static int sort_added(struct compile *compile, int list, bulla_error *error)
{
    uint32_t count = compile->added_count[list], kept = 0;
    const struct compile_added *added = compile->added[list];
    uint32_t *order = memory_alloc(count, sizeof *order, error);
    struct compile_added *sorted = memory_alloc(count, sizeof *sorted, error);
    for (uint32_t i = 0; order && i < count; i++)
        order[i] = i;
    if (!order || !sorted || compile_sort(order, count, by_added_spelling, added, error)) {
        memory_free(order);
        memory_free(sorted);
        return error->code;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (i == 0 || by_added_spelling(added, order[i - 1], order[i]) != 0)
            sorted[kept++] = added[order[i]];
    }
    memory_free(order);
    memory_free(compile->added[list]);
    compile->added[list] = sorted;
    compile->added_count[list] = compile->added_capacity[list] = kept;
    return BULLA_OK;
}

/* Spellings that differ from their token's go behind the tokens' in the pool. */
static void write_added(const struct compile *compile, int list, const uint32_t *token_offsets, struct buffer *block,
                        struct buffer *pool)
{
    for (uint32_t i = 0; i < compile->added_count[list]; i++) {
        const struct compile_added *added = &compile->added[list][i];
        const struct compile_token *token = &compile->tokens[added->id];
        uint32_t offset = token_offsets[added->id];
        if (token->length != added->length || memcmp(token->spelling, added->spelling, added->length) != 0) {
            offset = (uint32_t)pool->length;
            buffer_append(pool, added->spelling, added->length);
        }
        buffer_append_u32(block, added->id);
        buffer_append_u32(block, added->flags);
        buffer_append_u32(block, offset);
        buffer_append_u32(block, (uint32_t)added->length);
    }
}

static int by_token_spelling(const void *context, uint32_t a, uint32_t b)
{
    const struct compile_token *tokens = context;
    return compare_bytes(tokens[a].spelling, tokens[a].length, tokens[b].spelling, tokens[b].length);
}

/* The ids of normal tokens sorted by spelling, the first of each spelling; 0 of them where words merge always. */
static int order_whole_words(const struct compile *compile, uint32_t **order, uint32_t *count, bulla_error *error)
{
    *count = 0;
    *order = memory_alloc(compile->vocabulary, sizeof **order, error);
    if (!*order)
        return error->code;
    for (uint32_t id = 0; compile->flags & TOKENIZER_WHOLE_WORDS && id < compile->vocabulary; id++) {
        const struct compile_token *token = &compile->tokens[id];
        if ((token->kind & TOKEN_KIND_MASK) == TOKEN_NORMAL && token->length > 0)
            (*order)[(*count)++] = id;
    }
    if (compile_sort(*order, *count, by_token_spelling, compile->tokens, error))
        return error->code;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < *count; i++) {
        if (i == 0 || by_token_spelling(compile->tokens, (*order)[kept - 1], (*order)[i]) != 0)
            (*order)[kept++] = (*order)[i];
    }
    *count = kept;
    return BULLA_OK;
}

static void write_header(const struct compile *compile, uint32_t whole_words, uint32_t pool_length, uint64_t total,
                         struct buffer *block)
{
    buffer_append(block, "BULLATOK", 8);
    const uint32_t words[] = {
        TOKENIZER_VERSION, compile->algorithm, compile->split, compile->flags, compile->vocabulary,
        (uint32_t)compile->merge_count, compile->added_count[0], compile->added_count[1], whole_words, compile->start,
        compile->end, compile->unknown, pool_length, 0,
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        buffer_append_u32(block, words[i]);
    buffer_append_u64(block, total);
    buffer_append_u64(block, 0);
}

/* Everything after the header, into `body`; the pool apart, into `pool`. */
static int write_body(const struct compile *compile, const uint32_t *whole_words, uint32_t whole_count,
                      struct buffer *body, struct buffer *pool, bulla_error *error)
{
    uint32_t *offsets = memory_alloc((size_t)compile->vocabulary + 1, sizeof *offsets, error);
    if (!offsets)
        return error->code;
    for (uint32_t id = 0; id < compile->vocabulary; id++) {
        offsets[id] = (uint32_t)pool->length;
        buffer_append_u32(body, offsets[id]);
        buffer_append(pool, compile->tokens[id].spelling, compile->tokens[id].length);
    }
    buffer_append_u32(body, (uint32_t)pool->length);
    write_merges(compile, body);
    write_added(compile, 0, offsets, body, pool);
    write_added(compile, 1, offsets, body, pool);
    for (uint32_t i = 0; i < whole_count; i++)
        buffer_append_u32(body, whole_words[i]);
    for (uint32_t id = 0; id < compile->vocabulary; id++)
        buffer_append_byte(body, compile->tokens[id].kind);
    memory_free(offsets);
    if (pool->length >= UINT32_MAX)
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "spellings of %zu bytes: less than 4 GiB are supported",
                          pool->length);
    return BULLA_OK;
}

int compile_write(struct compile *compile, struct buffer *block, bulla_error *error)
{
    struct buffer body = {0}, pool = {0};
    uint32_t *whole_words = NULL, whole_count = 0;
    int code = check_merges(compile, error) || sort_merges(compile, error) || sort_added(compile, 0, error) ||
               sort_added(compile, 1, error) || order_whole_words(compile, &whole_words, &whole_count, error) ||
               write_body(compile, whole_words, whole_count, &body, &pool, error);
    if (code == BULLA_OK) {
        write_header(compile, whole_count, (uint32_t)pool.length,
                     TOKENIZER_HEADER_BYTES + (uint64_t)body.length + pool.length, block);
        buffer_append(block, body.data, body.length);
        buffer_append(block, pool.data, pool.length);
    }
    const bulla_error *first = body.error.code ? &body.error : pool.error.code ? &pool.error : &block->error;
    if (code == BULLA_OK && first->code)
        bulla_fail(error, first->code, "%s", first->text);
    memory_free(whole_words);
    buffer_free(&body);
    buffer_free(&pool);
    return error->code;
}
