/* One answer under a grammar: the masks of what may follow, and the steps taken. */
#include <string.h>

#include "base/memory.h"
#include "exec/grammar_run.h"
#include "exec/grammar_vocabulary.h"

enum {
    CACHE_BYTES = 512 << 10, /* of masks kept */
    CACHE_LEAST = 4,
    CACHE_MOST = 64,
    CACHED_CONFIGS = 8,      /* larger sets are not kept */
    COLLECT_ENTRIES = 1 << 14
};

/* A mask, by the set that it follows. */
struct cached_mask {
    struct config configs[CACHED_CONFIGS];
    size_t count; /* 0: free */
    uint64_t *mask;
    uint64_t used;
};

struct grammar_state {
    const struct grammar_vocabulary *vocabulary;
    struct run run;
    struct config_stack current, scratch;
    /* Of a walk: where the set of each depth begins on `scratch`, and the nodes and pairs before those of deeper sets.
     */
    size_t levels[GRAMMAR_MAX_TOKEN_BYTES + 2];
    struct run_mark marks[GRAMMAR_MAX_TOKEN_BYTES + 1];
    struct cached_mask cache[CACHE_MOST];
    size_t cache_count;
    uint64_t *masks, *fresh; /* of the cache, all in one block; for what is not kept */
    uint64_t clock;
    size_t collect_at; /* entries at which to drop what is no longer needed */
    int started;       /* text came out already */
    int ended;         /* an end token was taken */
};

static int is_complete(const struct config_stack *set)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->items[i].frame.kind == FRAME_END)
            return 1;
    return 0;
}

int grammar_state_is_complete(const struct grammar_state *state)
{
    return is_complete(&state->current);
}

int grammar_state_is_final(const struct grammar_state *state)
{
    for (size_t i = 0; i < state->current.count; i++)
        if (state->current.items[i].frame.kind != FRAME_END)
            return 0;
    return 1;
}

/* A set below the one at `from` .. `to` on the scratch stack; whether it has a member. */
static int step_set(struct grammar_state *state, size_t from, size_t to, uint8_t byte)
{
    run_begin_set(&state->run, &state->scratch);
    for (size_t i = from; i < to; i++)
        run_step(&state->run, &state->scratch.items[i], byte, &state->scratch);
    return state->scratch.count > to;
}

static void allow(uint64_t *mask, const uint32_t *tokens, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        mask[tokens[i] / 64] |= UINT64_C(1) << (tokens[i] & 63);
}

/* Depth first over the tries, with a set of configurations for each depth; what is dead is not entered. */
static void walk(struct grammar_state *state, const struct trie *trie, uint64_t *mask)
{
    size_t *levels = state->levels;
    int strips = state->vocabulary->strips_space && !state->started;
    levels[0] = 0;
    levels[1] = state->current.count;
    state->marks[0] = run_mark(&state->run);
    for (uint32_t i = 0; i < trie->count && !state->run.error.code;) {
        const struct trie_node *node = &trie->nodes[i];
        size_t from = levels[node->depth], to = levels[node->depth + 1];
        int alive, spelled = 1;
        state->scratch.count = to;
        run_rewind(&state->run, state->marks[node->depth]);
        if (strips && node->depth == 0 && node->byte == ' ') {
            run_begin_set(&state->run, &state->scratch);
            for (size_t j = from; j < to; j++)
                run_add(&state->run, &state->scratch, &(struct config){state->scratch.items[j].frame,
                                                                       state->scratch.items[j].parent});
            alive = 1;
            spelled = 0; /* nothing is left of it */
        } else {
            alive = step_set(state, from, to, node->byte);
        }
        if (!alive) {
            i = node->end;
            continue;
        }
        levels[node->depth + 2] = state->scratch.count;
        state->marks[node->depth + 1] = run_mark(&state->run);
        if (spelled)
            allow(mask, trie->tokens, node->first_token, trie->nodes[i + 1].first_token);
        i++;
    }
}

/* How many characters of any kind may follow inside the string that a configuration is in; 0 where not any kind may, or
 * in no string. */
static uint32_t free_characters(const struct grammar *grammar, const struct frame *frame)
{
    if (frame->phase != 0)
        return 0;
    if (frame->kind == FRAME_KEY)
        return grammar->automata[frame->id]->is_free ? GRAMMAR_ENDLESS : 0;
    if (frame->kind != FRAME_STRING || !grammar->languages[frame->id]->automaton->is_free)
        return 0;
    const struct text_language *language = grammar->languages[frame->id];
    if (language->maximum == GRAMMAR_ENDLESS)
        return GRAMMAR_ENDLESS;
    /* Where some texts are excepted, the last characters may matter. */
    return frame->content != 0 || language->completions ? 0 : language->maximum - frame->b;
}

/* Where one configuration is inside a string without patterns, all plain tokens are allowed that are not too long; 1
 * when no other plain token can be. */
static int allow_plain(const struct grammar_state *state, uint64_t *mask)
{
    const struct grammar_vocabulary *vocabulary = state->vocabulary;
    uint32_t left = 0;
    if (vocabulary->strips_space && !state->started)
        return 0;
    for (size_t i = 0; i < state->current.count; i++) {
        uint32_t characters = free_characters(state->run.grammar, &state->current.items[i].frame);
        left = characters > left ? characters : left;
    }
    if (left == GRAMMAR_ENDLESS || (left >= vocabulary->most_characters && vocabulary->most_characters < UINT8_MAX)) {
        for (uint32_t i = 0; i < vocabulary->words; i++)
            mask[i] |= vocabulary->plain_mask[i];
        return 1;
    }
    if (left == 0 || state->current.count > 1)
        return 0;
    for (uint32_t i = 0; i < vocabulary->plain.token_count; i++)
        if (vocabulary->plain_characters[i] < UINT8_MAX && vocabulary->plain_characters[i] <= left)
            allow(mask, vocabulary->plain.tokens, i, i + 1);
    return 1;
}

static int is_empty(const uint64_t *mask, uint32_t words)
{
    for (uint32_t i = 0; i < words; i++)
        if (mask[i])
            return 0;
    return 1;
}

static int fail_empty(struct grammar_state *state, bulla_error *error)
{
    if (is_complete(&state->current))
        return bulla_fail(error, BULLA_E_UNSUPPORTED,
                          "grammar: the answer is complete, and the vocabulary has no token "
                          "that ends one");
    for (unsigned byte = 0; byte < 256; byte++) {
        struct run_mark mark = run_mark(&state->run);
        state->scratch.count = state->current.count;
        int alive = step_set(state, 0, state->current.count, (uint8_t)byte);
        run_rewind(&state->run, mark);
        if (alive)
            return bulla_fail(error, BULLA_E_UNSUPPORTED, "grammar: byte 0x%02x may follow, or others after it, but no "
                              "token of the vocabulary begins with one of them", byte);
    }
    return bulla_fail(error, BULLA_E_INTERNAL, "grammar: nothing can follow");
}

static int make_mask(struct grammar_state *state, uint64_t *mask, bulla_error *error)
{
    const struct grammar_vocabulary *vocabulary = state->vocabulary;
    struct run_mark mark = run_mark(&state->run);
    memset(mask, 0, vocabulary->words * sizeof *mask);
    state->scratch.count = 0;
    run_begin_set(&state->run, &state->scratch);
    for (size_t i = 0; i < state->current.count; i++)
        run_add(&state->run, &state->scratch, &state->current.items[i]);
    if (!allow_plain(state, mask))
        walk(state, &vocabulary->plain, mask);
    walk(state, &vocabulary->special, mask);
    if (is_complete(&state->current))
        for (uint32_t i = 0; i < vocabulary->words; i++)
            mask[i] |= vocabulary->end_mask[i];
    run_rewind(&state->run, mark);
    if (state->run.error.code)
        return bulla_fail(error, state->run.error.code, "%s", state->run.error.text);
    return is_empty(mask, vocabulary->words) ? fail_empty(state, error) : BULLA_OK;
}

/* The cache's entry of the current set, or the one to write it to; *found says which. NULL: it is not kept. */
static struct cached_mask *find_cached(struct grammar_state *state, int *found)
{
    size_t count = state->current.count;
    struct cached_mask *oldest = &state->cache[0];
    *found = 0;
    if (count > CACHED_CONFIGS || (state->vocabulary->strips_space && !state->started))
        return NULL;
    for (size_t i = 0; i < state->cache_count; i++) {
        struct cached_mask *entry = &state->cache[i];
        if (entry->count == count &&
            memcmp(entry->configs, state->current.items, count * sizeof *entry->configs) == 0) {
            *found = 1;
            return entry;
        }
        if (entry->used < oldest->used)
            oldest = entry;
    }
    return oldest;
}

int grammar_state_allowed(struct grammar_state *state, const uint64_t **allowed, bulla_error *error)
{
    int found;
    *allowed = NULL;
    if (state->ended) {
        *allowed = state->vocabulary->end_mask;
        return BULLA_OK;
    }
    struct cached_mask *entry = find_cached(state, &found);
    uint64_t *mask = entry ? entry->mask : state->fresh;
    if (entry && !found)
        entry->count = 0;
    int code = found ? BULLA_OK : make_mask(state, mask, error);
    if (code)
        return code;
    if (entry) {
        entry->used = ++state->clock;
        entry->count = state->current.count;
        memcpy(entry->configs, state->current.items, state->current.count * sizeof *entry->configs);
    }
    *allowed = mask;
    return BULLA_OK;
}

static void forget_masks(struct grammar_state *state)
{
    for (size_t i = 0; i < state->cache_count; i++) {
        state->cache[i].count = 0;
        state->cache[i].used = 0;
    }
}

/* Numbers change, so masks that were kept by them are forgotten. */
static int collect(struct grammar_state *state, bulla_error *error)
{
    if (state->run.node_count + state->run.pair_count < state->collect_at)
        return BULLA_OK;
    forget_masks(state);
    if (run_collect(&state->run, state->current.items, state->current.count))
        return bulla_fail(error, state->run.error.code, "%s", state->run.error.text);
    state->collect_at = 2 * (state->run.node_count + state->run.pair_count) + COLLECT_ENTRIES;
    return BULLA_OK;
}

static int refuse(uint32_t token, bulla_error *error)
{
    return bulla_fail(error, BULLA_E_USAGE, "grammar: token %u is not allowed here", token);
}

/* Steps over the bytes on the scratch stack: its last set replaces the current one. */
static int take_bytes(struct grammar_state *state, uint32_t token, const uint8_t *bytes, size_t length,
                      bulla_error *error)
{
    struct run_mark mark = run_mark(&state->run);
    size_t from = 0, to;
    state->scratch.count = 0;
    run_begin_set(&state->run, &state->scratch);
    for (size_t i = 0; i < state->current.count; i++)
        run_add(&state->run, &state->scratch, &state->current.items[i]);
    to = state->scratch.count;
    for (size_t i = 0; i < length; i++) {
        if (!step_set(state, from, to, bytes[i]) || state->run.error.code) {
            run_rewind(&state->run, mark);
            return state->run.error.code ? bulla_fail(error, state->run.error.code, "%s", state->run.error.text)
                                         : refuse(token, error);
        }
        from = to;
        to = state->scratch.count;
    }
    state->current.count = 0;
    run_begin_set(&state->run, &state->current);
    for (size_t i = from; i < to; i++)
        run_add(&state->run, &state->current, &state->scratch.items[i]);
    state->started = 1;
    return state->run.error.code ? bulla_fail(error, state->run.error.code, "%s", state->run.error.text)
                                 : collect(state, error);
}

int grammar_state_accept(struct grammar_state *state, uint32_t token, bulla_error *error)
{
    const struct grammar_vocabulary *vocabulary = state->vocabulary;
    const uint8_t *bytes;
    size_t length;
    int is_end = token < vocabulary->size && vocabulary->end_mask[token / 64] >> (token & 63) & 1;
    if (state->run.error.code)
        return bulla_fail(error, state->run.error.code, "%s", state->run.error.text);
    if (is_end) {
        if (!state->ended && !is_complete(&state->current))
            return refuse(token, error);
        state->ended = 1;
        return BULLA_OK;
    }
    if (state->ended || token >= vocabulary->size || bulla_tokenizer_is_control(vocabulary->tokenizer, token) ||
        bulla_tokenizer_token_bytes(vocabulary->tokenizer, token, &bytes, &length) || length == 0 ||
        length > GRAMMAR_MAX_TOKEN_BYTES)
        return refuse(token, error);
    if (vocabulary->strips_space && !state->started && bytes[0] == ' ') {
        bytes++;
        length--;
    }
    return length > 0 ? take_bytes(state, token, bytes, length, error) : refuse(token, error);
}

int grammar_state_open(const struct grammar *grammar, const struct grammar_vocabulary *vocabulary,
                       struct grammar_state **result, bulla_error *error)
{
    *result = NULL;
    struct grammar_state *state = memory_alloc(1, sizeof *state, error);
    if (!state)
        return BULLA_E_MEMORY;
    state->vocabulary = vocabulary;
    state->collect_at = COLLECT_ENTRIES;
    size_t bytes = vocabulary->words * sizeof(uint64_t);
    state->cache_count = CACHE_BYTES / bytes;
    state->cache_count = state->cache_count < CACHE_LEAST ? CACHE_LEAST
                         : state->cache_count > CACHE_MOST ? CACHE_MOST : state->cache_count;
    int code = run_open(&state->run, grammar, error);
    state->fresh = code ? NULL : memory_alloc(vocabulary->words, sizeof(uint64_t), error);
    state->masks = state->fresh ? memory_alloc(state->cache_count * vocabulary->words, sizeof(uint64_t), error) : NULL;
    if (!state->masks) {
        grammar_state_close(state);
        return code ? code : BULLA_E_MEMORY;
    }
    for (size_t i = 0; i < state->cache_count; i++)
        state->cache[i].mask = state->masks + i * vocabulary->words;
    run_start(&state->run, &state->current);
    if (state->run.error.code) {
        code = bulla_fail(error, state->run.error.code, "%s", state->run.error.text);
        grammar_state_close(state);
        return code;
    }
    *result = state;
    return BULLA_OK;
}

void grammar_state_close(struct grammar_state *state)
{
    if (!state)
        return;
    run_close(&state->run);
    memory_free(state->current.items);
    memory_free(state->scratch.items);
    memory_free(state->masks);
    memory_free(state->fresh);
    memory_free(state);
}
