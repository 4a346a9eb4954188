/* The shared nodes and pairs of a run: each content once, so that equal stacks have equal numbers; what a look ahead
 * made is forgotten again. */
#include <string.h>

#include "base/memory.h"
#include "exec/grammar_run.h"

enum { FIRST_CAPACITY = 64, MAX_ENTRIES = 1 << 21 };

static size_t hash_bytes(const void *data, size_t length)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    const uint8_t *bytes = data;
    for (size_t i = 0; i + 4 <= length; i += 4) {
        uint32_t word;
        memcpy(&word, bytes + i, sizeof word);
        hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 29;
    }
    return (size_t)hash;
}

static size_t hash_pair(uint32_t list, uint32_t item)
{
    uint64_t hash = ((uint64_t)list << 32 | item) * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(hash >> 24);
}

static size_t node_slot(const struct run *run, const struct config *config)
{
    return hash_bytes(config, sizeof *config) & (run->node_capacity - 1);
}

static size_t pair_slot(const struct run *run, uint32_t list, uint32_t item)
{
    return hash_pair(list, item) & (run->pair_capacity - 1);
}

static void link_node(struct run *run, size_t index)
{
    size_t slot = node_slot(run, &run->nodes[index].config);
    run->nodes[index].next = run->node_buckets[slot];
    run->node_buckets[slot] = (uint32_t)index + 1;
}

static void link_pair(struct run *run, size_t index)
{
    size_t slot = pair_slot(run, run->pairs[index].list, run->pairs[index].item);
    run->pairs[index].next = run->pair_buckets[slot];
    run->pair_buckets[slot] = (uint32_t)index;
}

/* As many buckets as entries. Buckets are filled in ascending order, so that the newest entry is always first. */
static int grow_nodes(struct run *run)
{
    size_t capacity = run->node_capacity ? 2 * run->node_capacity : FIRST_CAPACITY;
    if (capacity > MAX_ENTRIES)
        return bulla_fail(&run->error, BULLA_E_LIMIT, "grammar: the answer's state needs more than %d entries",
                          MAX_ENTRIES);
    uint32_t *buckets = memory_alloc(capacity, sizeof *buckets, &run->error);
    struct run_node *nodes = buckets ? memory_resize(run->nodes, capacity, sizeof *nodes, &run->error) : NULL;
    if (!nodes) {
        memory_free(buckets);
        return run->error.code;
    }
    memory_free(run->node_buckets);
    run->nodes = nodes;
    run->node_buckets = buckets;
    run->node_capacity = capacity;
    for (size_t i = 0; i < run->node_count; i++)
        link_node(run, i);
    return BULLA_OK;
}

static int grow_pairs(struct run *run)
{
    size_t capacity = run->pair_capacity ? 2 * run->pair_capacity : FIRST_CAPACITY;
    if (capacity > MAX_ENTRIES)
        return bulla_fail(&run->error, BULLA_E_LIMIT, "grammar: the keys of an answer need more than %d entries",
                          MAX_ENTRIES);
    uint32_t *buckets = memory_alloc(capacity, sizeof *buckets, &run->error);
    struct run_pair *pairs = buckets ? memory_resize(run->pairs, capacity, sizeof *pairs, &run->error) : NULL;
    if (!pairs) {
        memory_free(buckets);
        return run->error.code;
    }
    memory_free(run->pair_buckets);
    run->pairs = pairs;
    run->pair_buckets = buckets;
    run->pair_capacity = capacity;
    for (size_t i = RUN_ROOT_BYTES + 1; i < run->pair_count; i++)
        link_pair(run, i);
    return BULLA_OK;
}

int run_open(struct run *run, const struct grammar *grammar, bulla_error *error)
{
    *run = (struct run){.grammar = grammar};
    if (grow_nodes(run) || grow_pairs(run))
        return bulla_fail(error, run->error.code, "%s", run->error.text);
    memset(run->pairs, 0, (RUN_ROOT_BYTES + 1) * sizeof *run->pairs);
    run->pair_count = RUN_ROOT_BYTES + 1;
    return BULLA_OK;
}

void run_close(struct run *run)
{
    memory_free(run->nodes);
    memory_free(run->pairs);
    memory_free(run->node_buckets);
    memory_free(run->pair_buckets);
}

uint32_t run_push(struct run *run, const struct config *config)
{
    for (uint32_t at = run->node_buckets[node_slot(run, config)]; at; at = run->nodes[at - 1].next)
        if (memcmp(&run->nodes[at - 1].config, config, sizeof *config) == 0)
            return at;
    if (run->node_count == run->node_capacity && grow_nodes(run))
        return 0;
    run->nodes[run->node_count].config = *config;
    link_node(run, run->node_count);
    return (uint32_t)++run->node_count;
}

uint32_t run_pair(struct run *run, uint32_t list, uint32_t item)
{
    for (uint32_t at = run->pair_buckets[pair_slot(run, list, item)]; at; at = run->pairs[at].next)
        if (run->pairs[at].list == list && run->pairs[at].item == item)
            return at;
    if (run->pair_count == run->pair_capacity && grow_pairs(run))
        return 0;
    run->pairs[run->pair_count] = (struct run_pair){.list = list, .item = item, .count = run->pairs[list].count + 1};
    link_pair(run, run->pair_count);
    return (uint32_t)run->pair_count++;
}

struct run_mark run_mark(const struct run *run)
{
    return (struct run_mark){run->node_count, run->pair_count};
}

void run_rewind(struct run *run, struct run_mark mark)
{
    while (run->node_count > mark.nodes) {
        run->node_count--;
        run->node_buckets[node_slot(run, &run->nodes[run->node_count].config)] = run->nodes[run->node_count].next;
    }
    while (run->pair_count > mark.pairs) {
        run->pair_count--;
        const struct run_pair *pair = &run->pairs[run->pair_count];
        run->pair_buckets[pair_slot(run, pair->list, pair->item)] = pair->next;
    }
}

uint32_t run_use(struct run *run, uint32_t used, uint32_t content)
{
    return run_pair(run, used, content | RUN_USED);
}

int run_is_used(const struct run *run, uint32_t used, uint32_t content)
{
    for (; used; used = run->pairs[used].list)
        if (run->pairs[used].item == (content | RUN_USED))
            return 1;
    return 0;
}

/* The character number `index` of a text. */
static uint32_t character_at(const struct run *run, uint32_t text, uint32_t index)
{
    while (run->pairs[text].count > index + 1)
        text = run->pairs[text].list;
    return run->pairs[text].item;
}

/* Whether `text` is `content` and then an accepted rest. Long rests are walked anew for each character. */
static int continues(const struct run *run, uint32_t text, uint32_t content, const struct automaton *automaton,
                     uint32_t state, uint32_t low, uint32_t high, int itself)
{
    enum { KEPT = 64 };
    uint32_t rest[KEPT];
    uint32_t length = run->pairs[text].count, prefix = run->pairs[content].count, at = text;
    if (length < prefix || length - prefix > automaton->states)
        return 0;
    for (uint32_t i = length - prefix; i-- > 0; at = run->pairs[at].list)
        if (i < KEPT)
            rest[i] = run->pairs[at].item;
    if (at != content)
        return 0;
    if (length == prefix)
        return itself && automaton->accepts[state];
    if (rest[0] < low || rest[0] > high)
        return 0;
    for (uint32_t i = 0; i < length - prefix && state != AUTOMATON_DEAD; i++)
        state = automaton_step(automaton, state, i < KEPT ? rest[i] : character_at(run, text, prefix + i));
    return state != AUTOMATON_DEAD && automaton->accepts[state];
}

uint32_t run_count_used(const struct run *run, uint32_t used, uint32_t content, const struct automaton *automaton,
                        uint32_t state, uint32_t low, uint32_t high, int itself)
{
    uint32_t count = 0;
    for (; used; used = run->pairs[used].list)
        count +=
            (uint32_t)continues(run, run->pairs[used].item & ~RUN_USED, content, automaton, state, low, high, itself);
    return count;
}

/* Collecting: what is reachable is copied in ascending order, so that what an entry refers to is copied before it. */

static void mark_text(const struct run *run, uint8_t *marks, uint32_t text)
{
    for (; text > RUN_ROOT_BYTES && !marks[text]; text = run->pairs[text].list)
        marks[text] = 1;
}

static void mark_used(const struct run *run, uint8_t *marks, uint32_t used)
{
    for (; used && !marks[used]; used = run->pairs[used].list) {
        marks[used] = 1;
        mark_text(run, marks, run->pairs[used].item & ~RUN_USED);
    }
}

static void mark_config(const struct run *run, uint8_t *nodes, uint8_t *pairs, const struct config *config)
{
    for (;;) {
        mark_text(run, pairs, config->frame.content);
        mark_used(run, pairs, config->frame.used);
        uint32_t parent = config->parent;
        if (parent == 0 || nodes[parent - 1])
            return;
        nodes[parent - 1] = 1;
        config = &run->nodes[parent - 1].config;
    }
}

static void renumber(struct config *config, const uint32_t *nodes, const uint32_t *pairs)
{
    config->frame.content = pairs[config->frame.content];
    config->frame.used = pairs[config->frame.used];
    config->parent = config->parent ? nodes[config->parent - 1] : 0;
}

static void compact(struct run *run, const uint8_t *node_marks, const uint8_t *pair_marks, uint32_t *nodes,
                    uint32_t *pairs)
{
    size_t kept = RUN_ROOT_BYTES + 1;
    for (uint32_t i = 0; i < kept; i++)
        pairs[i] = i;
    for (size_t i = kept; i < run->pair_count; i++) {
        if (!pair_marks[i])
            continue;
        struct run_pair pair = run->pairs[i];
        pair.list = pairs[pair.list];
        if (pair.item & RUN_USED)
            pair.item = pairs[pair.item & ~RUN_USED] | RUN_USED;
        pairs[i] = (uint32_t)kept;
        run->pairs[kept++] = pair;
    }
    run->pair_count = kept;
    kept = 0;
    for (size_t i = 0; i < run->node_count; i++) {
        if (!node_marks[i])
            continue;
        struct config config = run->nodes[i].config;
        renumber(&config, nodes, pairs);
        nodes[i] = (uint32_t)kept + 1;
        run->nodes[kept++].config = config;
    }
    run->node_count = kept;
    memset(run->node_buckets, 0, run->node_capacity * sizeof *run->node_buckets);
    memset(run->pair_buckets, 0, run->pair_capacity * sizeof *run->pair_buckets);
    for (size_t i = 0; i < run->node_count; i++)
        link_node(run, i);
    for (size_t i = RUN_ROOT_BYTES + 1; i < run->pair_count; i++)
        link_pair(run, i);
}

int run_collect(struct run *run, struct config *configs, size_t count)
{
    uint8_t *node_marks = memory_alloc(run->node_count, 1, &run->error);
    uint8_t *pair_marks = memory_alloc(run->pair_count, 1, &run->error);
    uint32_t *nodes = memory_alloc(run->node_count, sizeof *nodes, &run->error);
    uint32_t *pairs = memory_alloc(run->pair_count, sizeof *pairs, &run->error);
    if (!run->error.code) {
        for (size_t i = 0; i < count; i++)
            mark_config(run, node_marks, pair_marks, &configs[i]);
        compact(run, node_marks, pair_marks, nodes, pairs);
        for (size_t i = 0; i < count; i++)
            renumber(&configs[i], nodes, pairs);
    }
    memory_free(node_marks);
    memory_free(pair_marks);
    memory_free(nodes);
    memory_free(pairs);
    return run->error.code;
}
