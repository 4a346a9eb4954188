/* An object's machine: the keys that the schema names, in its order, and an automaton of all other keys, which knows
 * for each what its value must satisfy. */
#include <stdlib.h>
#include <string.h>

#include "exec/grammar_compile.h"

enum { MAX_MEMBERS = 20000, MOST_KEY_STATES = 30000 };

const struct automaton *expression_texts(struct compiler *compiler, uint32_t expression)
{
    const struct automaton *parts[AUTOMATON_MAX_COMPONENTS];
    const struct cells *cells = expression_cells(compiler, expression);
    struct automaton_condition condition = {0};
    size_t count = 0;
    for (size_t i = 0; i < cells->count && !compiler->error->code; i++) {
        if (!(cells->items[i]->types & TYPE_STRING))
            continue;
        if (count == AUTOMATON_MAX_COMPONENTS) {
            bulla_fail(compiler->error, BULLA_E_LIMIT, "schema: \"propertyNames\" has more than %d alternatives",
                       AUTOMATON_MAX_COMPONENTS);
            return NULL;
        }
        condition.any |= UINT64_C(1) << count;
        parts[count++] = string_automaton(compiler, &compiler->scratch, &cells->items[i]->string, 1);
    }
    if (compiler->error->code)
        return NULL;
    if (count == 0)
        return automaton_from_words(&compiler->scratch, &compiler->work, NULL, 0, compiler->error);
    return automaton_product(&compiler->scratch, &compiler->work, parts, count, condition, MOST_KEY_STATES,
                             compiler->error);
}

struct object_builder {
    struct compiler *compiler;
    const struct object_part *object;
    struct texts names;                          /* keys that the schema names */
    LIST(const struct automaton *) limits;       /* of every key */
    LIST(struct key_pattern) patterns;           /* each once */
    const struct automaton *parts[AUTOMATON_MAX_COMPONENTS]; /* names, limits, both readings of each pattern */
    size_t part_count, first_limit, first_pattern;
};

static void add_name(struct object_builder *builder, const struct text *name)
{
    if (builder->names.count >= MAX_MEMBERS)
        bulla_fail(builder->compiler->error, BULLA_E_LIMIT, "schema: an object of more than %d \"properties\"",
                   MAX_MEMBERS);
    texts_add(builder->compiler, &builder->names, name);
}

static void add_pattern(struct object_builder *builder, struct key_pattern pattern)
{
    compiler_work(builder->compiler, 10 + 3 * (uint64_t)builder->patterns.count);
    for (size_t i = 0; i < builder->patterns.count; i++)
        if (builder->patterns.items[i].lower == pattern.lower)
            return;
    LIST_ADD(builder->compiler, builder->patterns, pattern);
}

static void collect(struct object_builder *builder)
{
    const struct object_part *object = builder->object;
    for (size_t i = 0; i < object->properties.keys.count; i++)
        add_name(builder, &object->properties.keys.items[i]);
    for (size_t i = 0; i < object->required.count; i++)
        add_name(builder, &object->required.items[i]);
    for (size_t i = 0; i < object->patterns.count; i++)
        add_pattern(builder, object->patterns.items[i].pattern);
    for (size_t i = 0; i < object->additional.count; i++) {
        const struct key_set *except = &object->additional.items[i].except;
        for (size_t j = 0; j < except->names.count; j++)
            add_name(builder, &except->names.items[j]);
        for (size_t j = 0; j < except->patterns.count; j++)
            add_pattern(builder, except->patterns.items[j]);
    }
    for (size_t i = 0; i < object->names.count; i++)
        if (object->names.items[i] != EXPRESSION_TRUE)
            LIST_ADD(builder->compiler, builder->limits, expression_texts(builder->compiler, object->names.items[i]));
    builder->first_limit = 1;
    builder->first_pattern = 1 + builder->limits.count;
}

static int is_allowed_name(struct object_builder *builder, const struct text *name)
{
    struct code_points code_points = text_code_points(builder->compiler, name);
    if (!compiler_work(builder->compiler, builder->limits.count * (10 + 4 * (uint64_t)name->length)))
        return 0;
    for (size_t i = 0; i < builder->limits.count; i++)
        if (!automaton_accepts(builder->limits.items[i], code_points.items, code_points.count))
            return 0;
    return 1;
}

static uint64_t other_cost(const struct object_builder *builder)
{
    const struct object_part *object = builder->object;
    uint64_t cost = 20 + 3 * (uint64_t)builder->limits.count;
    cost += builder->patterns.count * (10 + 5 * (uint64_t)object->patterns.count);
    for (size_t i = 0; i < object->additional.count; i++)
        cost += 10 + 5 * (uint64_t)object->additional.items[i].except.patterns.count * builder->patterns.count;
    return cost;
}

/* What another key's value must satisfy, by the automata that accept the key. */
static uint32_t other_expression(const struct object_builder *builder, uint64_t outputs)
{
    struct compiler *compiler = builder->compiler;
    const struct object_part *object = builder->object;
    uint32_t expression = EXPRESSION_TRUE;
    if (outputs & 1 || !compiler_work(compiler, other_cost(builder))) /* a name */
        return EXPRESSION_FALSE;
    for (size_t i = 0; i < builder->limits.count; i++)
        if (!(outputs >> (builder->first_limit + i) & 1))
            return EXPRESSION_FALSE;
    for (size_t i = 0; i < builder->patterns.count; i++) {
        size_t bit = builder->first_pattern + 2 * i;
        if ((outputs >> bit & 1) != (outputs >> (bit + 1) & 1)) /* readers differ about this key */
            return EXPRESSION_FALSE;
        for (size_t j = 0; outputs >> bit & 1 && j < object->patterns.count; j++)
            if (object->patterns.items[j].pattern.lower == builder->patterns.items[i].lower)
                expression = expression_and(compiler, expression, object->patterns.items[j].expression);
    }
    for (size_t i = 0; i < object->additional.count; i++) {
        const struct key_set *except = &object->additional.items[i].except;
        int excepted = 0;
        for (size_t j = 0; j < except->patterns.count; j++)
            for (size_t k = 0; k < builder->patterns.count; k++)
                excepted |= builder->patterns.items[k].lower == except->patterns.items[j].lower &&
                            (outputs >> (builder->first_pattern + 2 * k) & 1);
        if (!excepted)
            expression = expression_and(compiler, expression, object->additional.items[i].expression);
    }
    return expression;
}

static int other_is_wanted(const void *context, uint64_t outputs)
{
    return other_expression(context, outputs) != EXPRESSION_FALSE;
}

static int collect_parts(struct object_builder *builder)
{
    struct compiler *compiler = builder->compiler;
    struct code_points *words = compiler_alloc(compiler, builder->names.count, sizeof *words);
    for (size_t i = 0; words && i < builder->names.count; i++)
        words[i] = text_code_points(compiler, &builder->names.items[i]);
    if (compiler->error->code)
        return compiler->error->code;
    builder->parts[builder->part_count++] =
        automaton_from_words(&compiler->scratch, &compiler->work, words, builder->names.count, compiler->error);
    for (size_t i = 0; i < builder->limits.count; i++)
        builder->parts[builder->part_count++] = builder->limits.items[i];
    for (size_t i = 0; i < builder->patterns.count; i++) {
        builder->parts[builder->part_count++] = builder->patterns.items[i].lower;
        builder->parts[builder->part_count++] = builder->patterns.items[i].upper;
    }
    return compiler->error->code;
}

static void write_others(struct object_builder *builder, struct members *members)
{
    struct compiler *compiler = builder->compiler;
    struct arena *arena = &compiler->grammar->arena;
    bulla_error detail = {0};
    if (builder->first_pattern + 2 * builder->patterns.count > AUTOMATON_MAX_COMPONENTS) {
        bulla_fail(compiler->error, BULLA_E_LIMIT,
                   "schema: more than %d \"patternProperties\" and \"propertyNames\" apply "
                   "to one object",
                   AUTOMATON_MAX_COMPONENTS / 2 - 1);
        return;
    }
    /* Nothing else allowed, the common case: no automaton. */
    if (builder->patterns.count == 0 && other_expression(builder, ~UINT64_C(1)) == EXPRESSION_FALSE)
        return;
    if (collect_parts(builder))
        return;
    struct automaton *automaton = automaton_product(arena, &compiler->work, builder->parts, builder->part_count,
                                                    (struct automaton_condition){0}, MOST_KEY_STATES, &detail);
    if (!automaton || automaton_select(arena, &compiler->work, automaton, other_is_wanted, builder, &detail)) {
        bulla_fail(compiler->error, detail.code,
                   "schema: \"patternProperties\" and \"propertyNames\" of one object: %s", detail.text);
        return;
    }
    compiler_work(compiler, 10 * (uint64_t)automaton->states);
    uint32_t *rules = grammar_alloc(compiler, automaton->states, sizeof *rules);
    if (!rules || automaton->start == AUTOMATON_DEAD)
        return;
    uint64_t last = 0;
    uint32_t last_rule = GRAMMAR_ENDLESS;
    for (uint32_t state = 0; state < automaton->states && !compiler->error->code; state++) {
        rules[state] = GRAMMAR_ENDLESS;
        if (!automaton->accepts[state])
            continue;
        if (last_rule == GRAMMAR_ENDLESS || last != automaton->outputs[state]) {
            last = automaton->outputs[state];
            last_rule = rule_of(compiler, other_expression(builder, last), 0);
        }
        rules[state] = last_rule;
    }
    members->others = grammar_add_automaton(compiler, automaton);
    members->other_rules = rules;
}

static void write_member(struct object_builder *builder, struct member *member, const struct text *name)
{
    struct compiler *compiler = builder->compiler;
    struct buffer text = {0};
    uint32_t expression = is_allowed_name(builder, name) ? object_expression(compiler, builder->object, name)
                                                         : EXPRESSION_FALSE;
    json_write_string(&text, name->bytes, name->length);
    char *bytes = text.error.code ? NULL
                                  : arena_copy_text(&compiler->grammar->arena, (char *)text.data, text.length,
                                                    compiler->error);
    if (text.error.code)
        bulla_fail(compiler->error, text.error.code, "%s", text.error.text);
    compiler_work(compiler, 100 + 4 * (uint64_t)name->length);
    *member = (struct member){.text = (const uint8_t *)bytes, .length = (uint32_t)text.length,
                              .rule = rule_of(compiler, expression, 0),
                              .required = texts_find(compiler, &builder->object->required, name) != GRAMMAR_ENDLESS};
    buffer_free(&text);
}

static int compare_members(const struct member *a, const struct member *b)
{
    uint32_t common = a->length < b->length ? a->length : b->length;
    int order = memcmp(a->text, b->text, common);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

static uint64_t sort_cost(const struct member *list, uint32_t count)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += list[i].length;
    return 3 * work_to_sort(count) + 4 * bytes;
}

static void sort_members(uint32_t *order, const struct member *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
    for (uint32_t gap = count / 2; gap > 0; gap = gap == 2 ? 1 : gap * 5 / 11)
        for (uint32_t i = gap; i < count; i++) {
            uint32_t item = order[i], j = i;
            for (; j >= gap && compare_members(&list[order[j - gap]], &list[item]) > 0; j -= gap)
                order[j] = order[j - gap];
            order[j] = item;
        }
}

uint32_t object_lower(struct compiler *compiler, const struct object_part *object)
{
    struct object_builder builder = {.compiler = compiler, .object = object};
    collect(&builder);
    if (compiler->error->code)
        return GRAMMAR_ENDLESS;
    uint32_t count = (uint32_t)builder.names.count;
    struct members *members = grammar_alloc(compiler, 1, sizeof *members);
    struct member *list = grammar_alloc(compiler, count, sizeof *list);
    uint32_t *order = grammar_alloc(compiler, count, sizeof *order);
    uint32_t *required = grammar_alloc(compiler, (size_t)count + 1, sizeof *required);
    uint8_t *depths = grammar_alloc(compiler, (size_t)count + 1, 1);
    for (uint32_t i = 0; i < count && !compiler->error->code; i++)
        write_member(&builder, &list[i], &builder.names.items[i]);
    if (compiler->error->code)
        return GRAMMAR_ENDLESS;
    if (!compiler_work(compiler, sort_cost(list, count)))
        return GRAMMAR_ENDLESS;
    sort_members(order, list, count);
    for (uint32_t i = count; i-- > 0;)
        required[i] = required[i + 1] + list[i].required;
    *members = (struct members){.list = list, .count = count, .order = order, .required_after = required,
                                .depth_after = depths, .minimum = object->minimum, .maximum = object->maximum,
                                .others = GRAMMAR_ENDLESS, .others_depth = GRAMMAR_NO_DEPTH};
    write_others(&builder, members);
    return compiler->error->code ? GRAMMAR_ENDLESS : grammar_add_object(compiler, members);
}
