/* How deep arrays and objects must be nested for each rule, and with it, what can be completed at all: the least fixed
 * point over the rules. Depths beyond GRAMMAR_MAX_DEPTH count as none. */
#include "exec/grammar_compile.h"

static uint8_t larger(uint8_t a, uint8_t b)
{
    return a > b ? a : b;
}

int members_can_finish(const struct grammar *grammar, const struct members *members, uint32_t position, uint32_t count,
                       uint32_t others, uint32_t depth)
{
    uint32_t least = count + members->required_after[position];
    if (least > members->maximum || members->depth_after[position] > depth)
        return 0;
    for (uint32_t i = position; least < members->minimum && i < members->count; i++)
        least += !members->list[i].required && grammar->rules[members->list[i].rule].depth <= depth;
    if (least >= members->minimum)
        return 1;
    if (members->others == GRAMMAR_ENDLESS || members->others_depth > depth || others >= GRAMMAR_MAX_OTHERS)
        return 0;
    const struct automaton *keys = grammar->automata[members->others];
    uint32_t supply = keys->completions[keys->start];
    uint32_t left = supply == AUTOMATON_MANY ? GRAMMAR_MAX_OTHERS - others : supply > others ? supply - others : 0;
    return members->minimum - least <= (left < GRAMMAR_MAX_OTHERS - others ? left : GRAMMAR_MAX_OTHERS - others);
}

/* How many different values the rule has at least, at most AUTOMATON_MANY. */
static uint32_t rule_supply(const struct grammar *grammar, const struct rule *rule)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < rule->count; i++) {
        const struct alternative *way = &rule->alternatives[i];
        uint32_t supplies[3] = {0};
        for (int j = 0; j < 2; j++) {
            uint32_t number = j == 0 ? way->words : way->number;
            const struct automaton *automaton = number == GRAMMAR_ENDLESS ? NULL : grammar->automata[number];
            supplies[j] =
                automaton && automaton->start != AUTOMATON_DEAD ? automaton->completions[automaton->start] : 0;
        }
        if (way->language != GRAMMAR_ENDLESS) {
            const struct text_language *language = grammar->languages[way->language];
            supplies[2] = text_language_completions(language, language->automaton->start, 0);
        }
        for (int j = 0; j < 3; j++)
            most = supplies[j] > most ? supplies[j] : most;
    }
    return most;
}

uint8_t items_edge_depth(const struct grammar *grammar, const struct items *items, uint32_t state,
                         const struct item_edge *edge)
{
    const struct rule *rule = &grammar->rules[edge->rule];
    if (items->unique && rule_supply(grammar, rule) <= items->indexes[state])
        return GRAMMAR_NO_DEPTH;
    return larger(rule->depth, items->depths[edge->target]);
}

/* What one walk over an array's states costs: where items must differ, the supply of each is looked up. */
static uint64_t walk_cost(const struct grammar *grammar, const struct items *items)
{
    uint64_t cost = 10 * (uint64_t)items->states + 10 * (uint64_t)items->first_edge[items->states];
    for (uint32_t i = 0; items->unique && i < items->first_edge[items->states]; i++)
        cost += 15 * (uint64_t)grammar->rules[items->edges[i].rule].count;
    return cost;
}

static uint8_t array_depth(struct compiler *compiler, const struct items *items)
{
    const struct grammar *grammar = compiler->grammar;
    uint64_t cost = walk_cost(grammar, items);
    for (int changed = 1; changed && compiler_work(compiler, cost);) {
        changed = 0;
        for (uint32_t state = items->states; state-- > 0;) {
            uint8_t depth = items->accepts[state] ? 0 : items->depths[state];
            for (uint32_t i = items->first_edge[state]; i < items->first_edge[state + 1]; i++) {
                uint8_t through = items_edge_depth(grammar, items, state, &items->edges[i]);
                if (through < depth)
                    depth = through;
            }
            changed |= depth != items->depths[state];
            items->depths[state] = depth;
        }
    }
    return items->depths[0];
}

/* Depths of what the object's members need now; the others count once each of them can be completed. */
static void refresh_members(const struct grammar *grammar, struct members *members)
{
    members->depth_after[members->count] = 0;
    for (uint32_t i = members->count; i-- > 0;) {
        uint8_t own = members->list[i].required ? grammar->rules[members->list[i].rule].depth : 0;
        members->depth_after[i] = larger(own, members->depth_after[i + 1]);
    }
    members->others_depth = GRAMMAR_NO_DEPTH;
    if (members->others == GRAMMAR_ENDLESS)
        return;
    const struct automaton *keys = grammar->automata[members->others];
    members->others_depth = keys->start == AUTOMATON_DEAD ? GRAMMAR_NO_DEPTH : 0;
    for (uint32_t state = 0; state < keys->states; state++)
        if (keys->accepts[state])
            members->others_depth = larger(members->others_depth, grammar->rules[members->other_rules[state]].depth);
}

/* With more depth no less can be finished. */
static uint8_t object_depth(struct compiler *compiler, struct members *members)
{
    const struct grammar *grammar = compiler->grammar;
    uint64_t keys = members->others == GRAMMAR_ENDLESS ? 0 : grammar->automata[members->others]->states;
    if (!compiler_work(compiler, 100 + 50 * (uint64_t)members->count + 5 * keys))
        return GRAMMAR_NO_DEPTH;
    refresh_members(grammar, members);
    uint32_t least = 0, most = GRAMMAR_MAX_DEPTH;
    while (least < most) {
        uint32_t middle = least + (most - least) / 2;
        if (members_can_finish(grammar, members, 0, 0, 0, middle))
            most = middle;
        else
            least = middle + 1;
    }
    return least < GRAMMAR_MAX_DEPTH ? (uint8_t)least : GRAMMAR_NO_DEPTH;
}

static uint8_t one_deeper(uint8_t depth)
{
    return depth < GRAMMAR_MAX_DEPTH ? (uint8_t)(depth + 1) : GRAMMAR_NO_DEPTH;
}

static int refresh_rule(struct compiler *compiler, struct rule *rule)
{
    const struct grammar *grammar = compiler->grammar;
    uint8_t depth = GRAMMAR_NO_DEPTH;
    int changed = 0;
    compiler_work(compiler, 10);
    for (uint32_t i = 0; i < rule->count; i++) {
        struct alternative *way = (struct alternative *)(uintptr_t)&rule->alternatives[i]; /* ours until compiled */
        if (way->words != GRAMMAR_ENDLESS || way->number != GRAMMAR_ENDLESS || way->language != GRAMMAR_ENDLESS)
            depth = 0;
        uint8_t array = way->array == GRAMMAR_ENDLESS ? GRAMMAR_NO_DEPTH
                                                      : one_deeper(array_depth(compiler, grammar->arrays[way->array]));
        uint8_t object =
            way->object == GRAMMAR_ENDLESS
                ? GRAMMAR_NO_DEPTH
                : one_deeper(object_depth(compiler, (struct members *)(uintptr_t)grammar->objects[way->object]));
        changed |= array != way->array_depth || object != way->object_depth;
        way->array_depth = array;
        way->object_depth = object;
        depth = depth < array ? depth : array;
        depth = depth < object ? depth : object;
        if (!compiler_work(compiler, 20))
            return 0;
    }
    changed |= depth != rule->depth;
    rule->depth = depth;
    return changed;
}

/* Keys whose value cannot be completed are none; 1 when some were taken out. */
static int remove_others(struct compiler *compiler, const struct members *members)
{
    const struct grammar *grammar = compiler->grammar;
    int removed = 0;
    if (members->others == GRAMMAR_ENDLESS)
        return 0;
    struct automaton *keys =
        (struct automaton *)(uintptr_t)grammar->automata[members->others]; /* ours until compiled */
    if (!compiler_work(compiler, 5 * (uint64_t)keys->states))
        return 0;
    for (uint32_t state = 0; state < keys->states; state++)
        if (keys->accepts[state] && grammar->rules[members->other_rules[state]].depth == GRAMMAR_NO_DEPTH) {
            keys->accepts[state] = 0;
            removed = 1;
        }
    if (removed)
        automaton_finish(&compiler->grammar->arena, &compiler->work, keys, compiler->error);
    return removed;
}

void grammar_find_depths(struct compiler *compiler)
{
    struct grammar *grammar = compiler->grammar;
    for (int again = 1; again && !compiler->error->code;) {
        for (int changed = 1; changed && !compiler->error->code;) {
            changed = 0;
            compiler_work(compiler, 2 * (uint64_t)grammar->rule_count);
            for (uint32_t i = 0; i < grammar->rule_count && !compiler->error->code; i++)
                if (grammar->rules[i].kind == RULE_VALUE)
                    changed |= refresh_rule(compiler, &grammar->rules[i]);
        }
        again = 0;
        for (uint32_t i = 0; i < grammar->object_count && !compiler->error->code; i++)
            again |= remove_others(compiler, grammar->objects[i]);
    }
}
