/* A regular expression's sets of nodes, numbered: its deterministic automaton. */
#include <stdlib.h>
#include <string.h>

#include "exec/grammar_pattern.h"

enum { MAX_STATES = 8192, MAX_RANGES = 1 << 20 };

/* A state: the ascending list of the nodes of types SET, END and MATCH that it is at. */
struct subset {
    const int *nodes;
    int count;
    uint32_t hash;
    uint32_t *next; /* by class */
};

struct subsets {
    struct pattern *pattern;
    struct subset *items; /* [capacity] */
    uint32_t *slots;      /* [2 * capacity]: numbers + 1 */
    uint32_t count, capacity;
    int *stack, *marks; /* [node_count]; a node is visited in round marks[node] */
    int round;
    int *found; /* [node_count] */
};

static int compare_ints(const void *a, const void *b)
{
    int first = *(const int *)a, second = *(const int *)b;
    return (first > second) - (first < second);
}

/* What can be reached from the found nodes without reading; those that read stay. PATTERN_NONE where it may not be
 * found out any more. */
static int close_over(struct subsets *subsets, int count, int at_begin, int at_end)
{
    const struct pattern_node *nodes = subsets->pattern->nodes;
    int depth = 0, kept = 0, visited = 0;
    subsets->round++;
    for (int i = 0; i < count; i++)
        if (subsets->marks[subsets->found[i]] != subsets->round) {
            subsets->marks[subsets->found[i]] = subsets->round;
            subsets->stack[depth++] = subsets->found[i];
        }
    for (; depth > 0; visited++) {
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
    uint64_t cost = 40 + 4 * (uint64_t)count + 10 * (uint64_t)visited + work_to_sort((uint64_t)kept);
    return pattern_work(subsets->pattern, cost) ? kept : PATTERN_NONE;
}

static int grow(struct subsets *subsets)
{
    struct pattern *pattern = subsets->pattern;
    uint32_t capacity = subsets->capacity ? 2 * subsets->capacity : 32;
    struct subset *items = pattern_alloc(pattern, capacity, sizeof *items);
    uint32_t *slots = pattern_alloc(pattern, 2 * (size_t)capacity, sizeof *slots);
    if (!items || !slots || !pattern_work(pattern, 20 * (uint64_t)subsets->count))
        return 0;
    if (subsets->count > 0)
        memcpy(items, subsets->items, subsets->count * sizeof *items);
    for (uint32_t i = 1; i < subsets->count; i++) { /* without the start */
        uint32_t slot = items[i].hash & (2 * capacity - 1);
        while (slots[slot])
            slot = (slot + 1) & (2 * capacity - 1);
        slots[slot] = i + 1;
    }
    subsets->items = items;
    subsets->slots = slots;
    subsets->capacity = capacity;
    return 1;
}

static uint32_t hash_nodes(const int *nodes, int count)
{
    uint64_t hash = UINT64_C(0x9E3779B97F4A7C15);
    for (int i = 0; i < count; i++) {
        hash = (hash ^ (uint64_t)nodes[i]) * UINT64_C(0xD6E8FEB86659FD93);
        hash ^= hash >> 32;
    }
    return (uint32_t)hash;
}

/* The number of the state that is at the `count` found nodes. */
static uint32_t subset_add(struct subsets *subsets, int count)
{
    struct pattern *pattern = subsets->pattern;
    if (count < 0 || !pattern_work(pattern, 30 + 3 * (uint64_t)count) ||
        (subsets->count == subsets->capacity && !grow(subsets)))
        return AUTOMATON_DEAD;
    uint32_t hash = hash_nodes(subsets->found, count), mask = 2 * subsets->capacity - 1, slot = hash & mask;
    size_t bytes = (size_t)count * sizeof *subsets->found;
    for (; subsets->slots[slot]; slot = (slot + 1) & mask) {
        const struct subset *item = &subsets->items[subsets->slots[slot] - 1];
        if (item->hash == hash && item->count == count &&
            (count == 0 || memcmp(item->nodes, subsets->found, bytes) == 0))
            return subsets->slots[slot] - 1;
    }
    if (subsets->count == MAX_STATES) {
        bulla_fail(pattern->error, BULLA_E_LIMIT, "the regular expression needs an automaton of more than %d states",
                   MAX_STATES);
        return AUTOMATON_DEAD;
    }
    int *nodes = pattern_alloc(pattern, (size_t)count + 1, sizeof *nodes);
    if (!nodes)
        return AUTOMATON_DEAD;
    memcpy(nodes, subsets->found, bytes);
    subsets->items[subsets->count] = (struct subset){.nodes = nodes, .count = count, .hash = hash};
    subsets->slots[slot] = ++subsets->count;
    return subsets->count - 1;
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
    const struct subset *from = &subsets->items[state];
    int count = 0;
    if (!pattern_work(subsets->pattern, 15 * (uint64_t)from->count))
        return AUTOMATON_DEAD;
    for (int i = 0; i < from->count; i++) {
        const struct pattern_node *node = &nodes[from->nodes[i]];
        if (node->type == PATTERN_MATCH) { /* found already: whatever follows */
            subsets->found[0] = from->nodes[i];
            return subset_add(subsets, 1);
        }
        if (node->type == PATTERN_SET && set_holds(node, code_point))
            subsets->found[count++] = node->first;
    }
    return subset_add(subsets, close_over(subsets, count, 0, 0));
}

/* The end of the text may satisfy a $; in the first state the text is empty and ^ holds as well. */
static int subset_accepts(struct subsets *subsets, uint32_t state, int at_begin)
{
    const struct subset *subset = &subsets->items[state];
    memcpy(subsets->found, subset->nodes, (size_t)subset->count * sizeof(int));
    int count = close_over(subsets, subset->count, at_begin, 1);
    for (int i = 0; i < count; i++)
        if (subsets->pattern->nodes[subsets->found[i]].type == PATTERN_MATCH)
            return 1;
    return 0;
}

struct character_class {
    uint32_t size;    /* intervals that are of it */
    uint32_t example; /* a code point of it */
    uint32_t round, inside, part; /* dividing by a set: which one; how many intervals it has inside; what those get */
};

/* The characters in classes: those of one are in the same sets. */
struct alphabet {
    struct pattern *pattern;
    uint32_t *lows; /* [count] first code points of the intervals that no set divides, ascending */
    uint16_t *interval_class;
    uint32_t count, class_count;
    struct character_class *classes; /* [class_count], room for `count` */
};

static int compare_code_points(const void *a, const void *b)
{
    uint32_t first = *(const uint32_t *)a, second = *(const uint32_t *)b;
    return (first > second) - (first < second);
}

static int find_intervals(struct alphabet *alphabet)
{
    struct pattern *pattern = alphabet->pattern;
    size_t ranges = 0, used = 0;
    for (int i = 0; i < pattern->set_count; i++)
        ranges += pattern->sets[i].count;
    if (ranges > MAX_RANGES)
        return bulla_fail(pattern->error, BULLA_E_LIMIT, "the regular expression has too many characters");
    uint32_t *lows = pattern_alloc(pattern, 2 * ranges + 1, sizeof *lows);
    if (!lows || !pattern_work(pattern, work_to_sort(2 * ranges + 1)))
        return pattern->error->code;
    lows[used++] = 0;
    for (int i = 0; i < pattern->set_count; i++)
        for (size_t j = 0; j < pattern->sets[i].count; j++) {
            lows[used++] = pattern->sets[i].ranges[j].low;
            if (pattern->sets[i].ranges[j].high < AUTOMATON_LAST_CODE_POINT)
                lows[used++] = pattern->sets[i].ranges[j].high + 1;
        }
    qsort(lows, used, sizeof *lows, compare_code_points);
    for (size_t i = 0; i < used; i++)
        if (alphabet->count == 0 || lows[alphabet->count - 1] != lows[i])
            lows[alphabet->count++] = lows[i];
    alphabet->lows = lows;
    return BULLA_OK;
}

static uint32_t interval_at(const struct alphabet *alphabet, uint32_t low)
{
    uint32_t first = 0, last = alphabet->count;
    while (last - first > 1) {
        uint32_t middle = first + (last - first) / 2;
        if (alphabet->lows[middle] <= low)
            first = middle;
        else
            last = middle;
    }
    return first;
}

/* Counts (`divides` 0), then divides: a class that has intervals outside of the set too loses those inside to a new
 * one. */
static int walk_set(struct alphabet *alphabet, const struct text_set *set, uint32_t round, int divides)
{
    uint64_t walked = 0;
    for (size_t i = 0; i < set->count; i++) {
        uint32_t interval = interval_at(alphabet, set->ranges[i].low);
        for (; interval < alphabet->count && alphabet->lows[interval] <= set->ranges[i].high; interval++, walked++) {
            uint32_t number = alphabet->interval_class[interval];
            struct character_class *class = &alphabet->classes[number];
            if (!divides) {
                class->inside = class->round == round ? class->inside + 1 : 1;
                class->round = round;
                class->part = number;
                continue;
            }
            if (class->part == number && class->inside < class->size)
                class->part = alphabet->class_count++;
            if (class->part == number)
                continue;
            alphabet->interval_class[interval] = (uint16_t)class->part;
            alphabet->classes[class->part].size++;
            class->size--;
        }
    }
    return pattern_work(alphabet->pattern, 20 + 30 * (uint64_t)set->count + 8 * walked);
}

static int make_alphabet(struct pattern *pattern, struct alphabet *alphabet)
{
    *alphabet = (struct alphabet){.pattern = pattern, .class_count = 1};
    if (find_intervals(alphabet))
        return pattern->error->code;
    if (alphabet->count >= UINT16_MAX)
        return bulla_fail(pattern->error, BULLA_E_LIMIT, "more than %d kinds of characters are told apart", UINT16_MAX);
    alphabet->interval_class = pattern_alloc(pattern, alphabet->count, sizeof *alphabet->interval_class);
    alphabet->classes = pattern_alloc(pattern, alphabet->count, sizeof *alphabet->classes);
    if (!alphabet->interval_class || !alphabet->classes)
        return pattern->error->code;
    alphabet->classes[0].size = alphabet->count;
    for (int i = 0; i < pattern->set_count; i++)
        for (int divides = 0; divides < 2; divides++)
            if (!walk_set(alphabet, &pattern->sets[i], (uint32_t)i + 1, divides))
                return pattern->error->code;
    for (uint32_t i = 0; i < alphabet->count; i++)
        alphabet->classes[alphabet->interval_class[i]].example = alphabet->lows[i];
    return BULLA_OK;
}

static struct automaton *write_automaton(struct subsets *subsets, struct arena *arena, const struct alphabet *alphabet)
{
    struct pattern *pattern = subsets->pattern;
    struct automaton *automaton =
        automaton_new(arena, pattern->work, subsets->count, alphabet->lows, alphabet->interval_class, alphabet->count,
                      alphabet->class_count, pattern->error);
    if (!automaton)
        return NULL;
    for (uint32_t state = 0; state < subsets->count; state++) {
        automaton->accepts[state] = (uint8_t)subset_accepts(subsets, state, state == 0);
        memcpy(automaton->next + (size_t)state * automaton->classes, subsets->items[state].next,
               alphabet->class_count * sizeof *automaton->next);
    }
    return automaton_finish(arena, pattern->work, automaton, pattern->error) ? NULL : automaton;
}

/* The start is a state of its own that nothing leads back to, because it alone sees ^ hold at the text's end. */
static void add_start(struct subsets *subsets, int start)
{
    subsets->found[0] = start;
    if (subset_add(subsets, close_over(subsets, 1, 1, 0)) == AUTOMATON_DEAD)
        return;
    memset(subsets->slots, 0, 2 * (size_t)subsets->capacity * sizeof *subsets->slots);
}

struct automaton *pattern_determinize(struct pattern *pattern, struct arena *arena, int start)
{
    size_t nodes = (size_t)pattern->node_count + 1;
    struct alphabet alphabet;
    struct subsets subsets = {.pattern = pattern};
    if (make_alphabet(pattern, &alphabet))
        return NULL;
    subsets.stack = pattern_alloc(pattern, nodes, sizeof *subsets.stack);
    subsets.marks = pattern_alloc(pattern, nodes, sizeof *subsets.marks);
    subsets.found = pattern_alloc(pattern, nodes, sizeof *subsets.found);
    if (pattern->error->code)
        return NULL;
    add_start(&subsets, start);
    for (uint32_t state = 0; !pattern->error->code && state < subsets.count; state++) {
        uint32_t *next = pattern_alloc(pattern, alphabet.class_count, sizeof *next);
        for (uint32_t i = 0; !pattern->error->code && i < alphabet.class_count; i++)
            next[i] = subset_step(&subsets, state, alphabet.classes[i].example);
        subsets.items[state].next = next;
    }
    return pattern->error->code ? NULL : write_automaton(&subsets, arena, &alphabet);
}
