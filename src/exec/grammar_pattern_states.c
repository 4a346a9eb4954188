/* A regular expression's sets of nodes, numbered: its deterministic automaton. */
#include <stdlib.h>
#include <string.h>

#include "exec/grammar_pattern.h"

enum { MAX_STATES = 8192, MAX_WORK = 1 << 26, MAX_RANGES = 1 << 20 };

/* A state is the ascending list of the nodes of types SET, END and MATCH that it is at. */
struct subsets {
    struct pattern *pattern;
    int **lists;
    int *counts;
    uint32_t *hashes;
    uint32_t count;
    int *stack, *marks; /* [node_count]; a node is visited in round marks[node] */
    int round;
    int *found; /* [node_count] */
    size_t work;
};

static int compare_ints(const void *a, const void *b)
{
    int first = *(const int *)a, second = *(const int *)b;
    return (first > second) - (first < second);
}

/* What can be reached from the found nodes without reading; those that read stay. */
static int close_over(struct subsets *subsets, int count, int at_begin, int at_end)
{
    const struct pattern_node *nodes = subsets->pattern->nodes;
    int depth = 0, kept = 0;
    subsets->round++;
    for (int i = 0; i < count; i++)
        if (subsets->marks[subsets->found[i]] != subsets->round) {
            subsets->marks[subsets->found[i]] = subsets->round;
            subsets->stack[depth++] = subsets->found[i];
        }
    while (depth > 0) {
        int at = subsets->stack[--depth];
        const struct pattern_node *node = &nodes[at];
        int passes = node->type == PATTERN_SPLIT || (node->type == PATTERN_BEGIN && at_begin) ||
                     (node->type == PATTERN_END && at_end);
        if (node->type == PATTERN_SET || node->type == PATTERN_MATCH || (node->type == PATTERN_END && !at_end))
            subsets->found[kept++] = at;
        for (int side = 0; passes && side < 2; side++) {
            int target = side == 0 ? node->first : node->second;
            if (target != PATTERN_NONE && subsets->marks[target] != subsets->round) {
                subsets->marks[target] = subsets->round;
                subsets->stack[depth++] = target;
            }
        }
    }
    qsort(subsets->found, (size_t)kept, sizeof *subsets->found, compare_ints);
    subsets->work += (size_t)kept + 1;
    return kept;
}

static uint32_t subset_add(struct subsets *subsets, int count)
{
    struct pattern *pattern = subsets->pattern;
    uint32_t hash = 2166136261u;
    for (int i = 0; i < count; i++)
        hash = (hash ^ (uint32_t)subsets->found[i]) * 16777619u;
    for (uint32_t i = 0; i < subsets->count; i++)
        if (subsets->hashes[i] == hash && subsets->counts[i] == count &&
            (count == 0 || memcmp(subsets->lists[i], subsets->found, (size_t)count * sizeof(int)) == 0))
            return i;
    subsets->work += subsets->count / 16;
    if (subsets->count == MAX_STATES || subsets->work > MAX_WORK) {
        bulla_fail(pattern->error, BULLA_E_LIMIT, "the regular expression needs an automaton of more than %d states",
                   MAX_STATES);
        return AUTOMATON_DEAD;
    }
    int *list = arena_alloc(&pattern->scratch, (size_t)count + 1, sizeof *list, pattern->error);
    if (!list)
        return AUTOMATON_DEAD;
    memcpy(list, subsets->found, (size_t)count * sizeof *list);
    subsets->lists[subsets->count] = list;
    subsets->counts[subsets->count] = count;
    subsets->hashes[subsets->count] = hash;
    return subsets->count++;
}

static int set_holds(const struct pattern_node *node, uint32_t code_point)
{
    size_t low = 0, high = node->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (node->ranges[middle].high < code_point)
            low = middle + 1;
        else
            high = middle;
    }
    return low < node->count && node->ranges[low].low <= code_point;
}

static uint32_t subset_step(struct subsets *subsets, uint32_t state, uint32_t code_point)
{
    const struct pattern_node *nodes = subsets->pattern->nodes;
    int count = 0;
    for (int i = 0; i < subsets->counts[state]; i++) {
        const struct pattern_node *node = &nodes[subsets->lists[state][i]];
        if (node->type == PATTERN_MATCH) { /* found already: whatever follows */
            subsets->found[0] = subsets->lists[state][i];
            return subset_add(subsets, 1);
        }
        if (node->type == PATTERN_SET && set_holds(node, code_point))
            subsets->found[count++] = node->first;
    }
    subsets->work += (size_t)subsets->counts[state];
    return subset_add(subsets, close_over(subsets, count, 0, 0));
}

/* The end of the text may satisfy a $; in the first state the text is empty and ^ holds as well. */
static int subset_accepts(struct subsets *subsets, uint32_t state, int at_begin)
{
    int count = subsets->counts[state];
    memcpy(subsets->found, subsets->lists[state], (size_t)count * sizeof(int));
    count = close_over(subsets, count, at_begin, 1);
    for (int i = 0; i < count; i++)
        if (subsets->pattern->nodes[subsets->found[i]].type == PATTERN_MATCH)
            return 1;
    return 0;
}

static int compare_boundaries(const void *a, const void *b)
{
    uint32_t first = *(const uint32_t *)a, second = *(const uint32_t *)b;
    return (first > second) - (first < second);
}

/* First code points of the intervals that no set divides, ascending. */
static uint32_t *find_boundaries(struct pattern *pattern, size_t *count)
{
    size_t ranges = 0, used = 0, kept = 0;
    for (int i = 0; i < pattern->node_count; i++)
        ranges += pattern->nodes[i].count;
    if (ranges > MAX_RANGES) {
        bulla_fail(pattern->error, BULLA_E_LIMIT, "the regular expression has too many characters");
        return NULL;
    }
    uint32_t *boundaries = arena_alloc(&pattern->scratch, 2 * ranges + 1, sizeof *boundaries, pattern->error);
    if (!boundaries)
        return NULL;
    boundaries[used++] = 0;
    for (int i = 0; i < pattern->node_count; i++)
        for (size_t j = 0; j < pattern->nodes[i].count; j++) {
            boundaries[used++] = pattern->nodes[i].ranges[j].low;
            if (pattern->nodes[i].ranges[j].high < AUTOMATON_LAST_CODE_POINT)
                boundaries[used++] = pattern->nodes[i].ranges[j].high + 1;
        }
    qsort(boundaries, used, sizeof *boundaries, compare_boundaries);
    for (size_t i = 0; i < used; i++)
        if (kept == 0 || boundaries[kept - 1] != boundaries[i])
            boundaries[kept++] = boundaries[i];
    *count = kept;
    return boundaries;
}

static struct automaton *write_automaton(struct subsets *subsets, struct arena *arena, const uint32_t *boundaries,
                                         size_t boundary_count, uint32_t **next)
{
    bulla_error *error = subsets->pattern->error;
    struct automaton *automaton =
        automaton_new(arena, subsets->count, boundaries, (uint32_t)boundary_count, error);
    if (!automaton)
        return NULL;
    for (uint32_t state = 0; state < subsets->count; state++) {
        automaton->accepts[state] = (uint8_t)subset_accepts(subsets, state, state == 0);
        for (size_t i = 0; i < boundary_count; i++)
            automaton->next[(size_t)state * automaton->classes + automaton_class_of(automaton, boundaries[i])] =
                next[state][i];
    }
    /* automaton_new may have cut an interval at the surrogates. */
    uint32_t after = automaton_class_of(automaton, 0xE000);
    size_t holder = 0;
    while (holder + 1 < boundary_count && boundaries[holder + 1] <= 0xE000)
        holder++;
    for (uint32_t state = 0; state < subsets->count; state++)
        automaton->next[(size_t)state * automaton->classes + after] = next[state][holder];
    return automaton_finish(arena, automaton, error) ? NULL : automaton;
}

struct automaton *pattern_determinize(struct pattern *pattern, struct arena *arena, int start)
{
    bulla_error *error = pattern->error;
    size_t nodes = (size_t)pattern->node_count + 1, boundary_count = 0;
    uint32_t *boundaries = find_boundaries(pattern, &boundary_count);
    struct subsets subsets = {.pattern = pattern};
    struct arena *scratch = &pattern->scratch;
    subsets.lists = arena_alloc(scratch, MAX_STATES, sizeof *subsets.lists, error);
    subsets.counts = arena_alloc(scratch, MAX_STATES, sizeof *subsets.counts, error);
    subsets.hashes = arena_alloc(scratch, MAX_STATES, sizeof *subsets.hashes, error);
    subsets.stack = arena_alloc(scratch, nodes, sizeof *subsets.stack, error);
    subsets.marks = arena_alloc(scratch, nodes, sizeof *subsets.marks, error);
    subsets.found = arena_alloc(scratch, nodes, sizeof *subsets.found, error);
    uint32_t **next = arena_alloc(scratch, MAX_STATES, sizeof *next, error);
    if (error->code)
        return NULL;
    /* State 0 is the start and nothing else, because it alone sees ^ hold at the text's end. */
    subsets.found[0] = start;
    if (subset_add(&subsets, close_over(&subsets, 1, 1, 0)) == AUTOMATON_DEAD)
        return NULL;
    subsets.hashes[0]++;
    for (uint32_t state = 0; state < subsets.count; state++) {
        next[state] = arena_alloc(scratch, boundary_count, sizeof **next, error);
        for (size_t i = 0; !error->code && i < boundary_count; i++)
            next[state][i] = subset_step(&subsets, state, boundaries[i]);
        if (error->code)
            return NULL;
    }
    return write_automaton(&subsets, arena, boundaries, boundary_count, next);
}
