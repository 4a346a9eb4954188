/* Conjunctions of schema nodes and of their negations, each once. */
#include <string.h>

#include "exec/grammar_compile.h"

enum { MAX_EXPRESSIONS = 1 << 18, MAX_LITERALS = 4096, MOST_PROBES = 3 };

static uint64_t hash_literals(const uint32_t *literals, uint32_t count)
{
    uint64_t hash = UINT64_C(0x9E3779B97F4A7C15) + count;
    for (uint32_t i = 0; i < count; i++) {
        hash = (hash ^ literals[i]) * UINT64_C(0xD6E8FEB86659FD93);
        hash ^= hash >> 32;
    }
    return hash;
}

static int same_literals(const struct expression *expression, const uint32_t *literals, uint32_t count)
{
    return expression->count == count &&
           (count == 0 || memcmp(expression->literals, literals, count * sizeof *literals) == 0);
}

static int grow_slots(struct compiler *compiler)
{
    size_t count = compiler->expression_slot_count ? 2 * compiler->expression_slot_count : 256;
    uint32_t *slots = compiler_alloc(compiler, count, sizeof *slots);
    if (!slots || !compiler_work(compiler, 30 * (uint64_t)compiler->expressions.count))
        return 0;
    for (uint32_t i = 0; i < compiler->expressions.count; i++) {
        const struct expression *expression = &compiler->expressions.items[i];
        size_t slot = hash_literals(expression->literals, expression->count) & (count - 1);
        while (slots[slot])
            slot = (slot + 1) & (count - 1);
        slots[slot] = i + 1;
    }
    compiler->expression_slots = slots;
    compiler->expression_slot_count = count;
    return 1;
}

static uint32_t intern(struct compiler *compiler, const uint32_t *literals, uint32_t count)
{
    if (2 * compiler->expressions.count >= compiler->expression_slot_count && !grow_slots(compiler))
        return EXPRESSION_FALSE;
    if (!compiler_work(compiler, 40 + 4 * (uint64_t)count))
        return EXPRESSION_FALSE;
    size_t mask = compiler->expression_slot_count - 1, slot = hash_literals(literals, count) & mask;
    for (; compiler->expression_slots[slot]; slot = (slot + 1) & mask)
        if (same_literals(&compiler->expressions.items[compiler->expression_slots[slot] - 1], literals, count))
            return compiler->expression_slots[slot] - 1;
    if (compiler->expressions.count > MAX_EXPRESSIONS || count > MAX_LITERALS)
        bulla_fail(compiler->error, BULLA_E_LIMIT, "the schema combines too many of its parts with one another");
    uint32_t *own = compiler_alloc(compiler, count, sizeof *own);
    if (!own || compiler->error->code)
        return EXPRESSION_FALSE;
    if (count > 0)
        memcpy(own, literals, count * sizeof *own);
    LIST_ADD(compiler, compiler->expressions,
             (struct expression){.literals = own, .count = count, .rule = {GRAMMAR_ENDLESS, GRAMMAR_ENDLESS}});
    if (compiler->error->code)
        return EXPRESSION_FALSE;
    compiler->expression_slots[slot] = (uint32_t)compiler->expressions.count;
    return (uint32_t)compiler->expressions.count - 1;
}

/* The two constants come first: "false" is a literal that no node has. */
static void add_constants(struct compiler *compiler)
{
    static const uint32_t never = UINT32_MAX;
    if (compiler->expressions.count == 0) {
        intern(compiler, NULL, 0);
        intern(compiler, &never, 1);
    }
}

uint32_t expression_of(struct compiler *compiler, uint32_t literal)
{
    add_constants(compiler);
    if (compiler->error->code)
        return EXPRESSION_FALSE;
    const struct json *json = compiler->nodes.items[literal / 2].json;
    int negated = literal & 1;
    if (json_is(json, negated ? JSON_FALSE : JSON_TRUE) || (!negated && json->type == JSON_OBJECT && json->length == 0))
        return EXPRESSION_TRUE;
    if (json_is(json, negated ? JSON_TRUE : JSON_FALSE))
        return EXPRESSION_FALSE;
    return intern(compiler, &literal, 1);
}

uint32_t expression_and(struct compiler *compiler, uint32_t a, uint32_t b)
{
    if (a == b || b == EXPRESSION_TRUE)
        return a;
    if (a == EXPRESSION_TRUE)
        return b;
    if (a == EXPRESSION_FALSE || b == EXPRESSION_FALSE || compiler->error->code)
        return EXPRESSION_FALSE;
    const struct expression *first = &compiler->expressions.items[a], *second = &compiler->expressions.items[b];
    uint32_t *merged = compiler_alloc(compiler, (size_t)first->count + second->count, sizeof *merged);
    uint32_t count = 0, i = 0, j = 0;
    while (merged && (i < first->count || j < second->count)) {
        int takes_first = j == second->count || (i < first->count && first->literals[i] <= second->literals[j]);
        uint32_t literal = takes_first ? first->literals[i++] : second->literals[j++];
        if (count > 0 && merged[count - 1] == literal)
            continue;
        if (count > 0 && (merged[count - 1] ^ 1) == literal)
            return EXPRESSION_FALSE; /* a node and its negation */
        merged[count++] = literal;
    }
    compiler_work(compiler, 6 * ((uint64_t)i + j));
    return merged ? intern(compiler, merged, count) : EXPRESSION_FALSE;
}

const struct cells *expression_cells(struct compiler *compiler, uint32_t number)
{
    static const struct cells none;
    if (compiler->error->code || number == EXPRESSION_FALSE)
        return &none;
    struct expression *expression = &compiler->expressions.items[number];
    if (expression->cells)
        return expression->cells;
    const uint32_t *literals = expression->literals; /* the list may move, its literals do not */
    uint32_t count = expression->count;
    const struct cells *cells = cells_universal(compiler);
    for (uint32_t i = 0; i < count && !compiler->probe_failed && !compiler->error->code; i++)
        cells = cells_and(compiler, cells, node_cells(compiler, literals[i]));
    if (compiler->error->code || compiler->probe_failed)
        return &none;
    compiler->expressions.items[number].cells = (struct cells *)cells;
    return cells;
}

int expression_is_empty(struct compiler *compiler, uint32_t number, int depth)
{
    if (number == EXPRESSION_FALSE)
        return 1;
    if (number == EXPRESSION_TRUE || depth <= 0 || !compiler_work(compiler, 20))
        return 0;
    struct expression *expression = &compiler->expressions.items[number];
    if (expression->busy || compiler->probing >= MOST_PROBES)
        return 0;
    expression->busy = 1;
    compiler->probing++;
    const struct cells *cells = expression_cells(compiler, number);
    int empty = !compiler->probe_failed && !compiler->error->code && cells->count == 0;
    if (--compiler->probing == 0)
        compiler->probe_failed = 0;
    compiler->expressions.items[number].busy = 0;
    return empty;
}
