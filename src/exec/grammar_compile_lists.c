/* The compiler's memory, lists and tables. */
#include <string.h>

#include "base/utf8.h"
#include "exec/grammar_compile.h"

void *compiler_alloc(struct compiler *compiler, size_t count, size_t size)
{
    return work_alloc(&compiler->work, &compiler->scratch, count, size, compiler->error);
}

void *grammar_alloc(struct compiler *compiler, size_t count, size_t size)
{
    return work_alloc(&compiler->work, &compiler->grammar->arena, count, size, compiler->error);
}

/* All lists look like this one; the items move as bytes. */
struct any_list {
    void *items;
    size_t count, capacity;
};

int list_grow(struct compiler *compiler, void *list, size_t size)
{
    struct any_list any;
    memcpy(&any, list, sizeof any);
    if (!compiler_work(compiler, 10))
        return 0;
    if (any.count < any.capacity)
        return 1;
    size_t capacity = any.capacity ? 2 * any.capacity : 4;
    void *items = compiler_alloc(compiler, capacity, size);
    if (!items)
        return 0;
    if (any.count > 0)
        memcpy(items, any.items, any.count * size);
    any.items = items;
    any.capacity = capacity;
    memcpy(list, &any, sizeof any);
    return 1;
}

int compiler_work(struct compiler *compiler, uint64_t amount)
{
    return !compiler->error->code && !work_take(&compiler->work, amount, compiler->error);
}

int text_is(const struct text *a, const char *bytes, size_t length)
{
    return a->length == length && (length == 0 || memcmp(a->bytes, bytes, length) == 0);
}

struct code_points text_code_points(struct compiler *compiler, const struct text *text)
{
    uint32_t *items = compiler_alloc(compiler, text->length + 1, sizeof *items);
    struct code_points result = {.items = items};
    compiler_work(compiler, 4 * (uint64_t)text->length);
    for (size_t at = 0; items && at < text->length;) {
        size_t bytes = utf8_decode(text->bytes + at, text->length - at, &items[result.count++]);
        at += bytes ? bytes : 1;
    }
    return result;
}

struct code_points bytes_code_points(struct compiler *compiler, const void *bytes, size_t length)
{
    uint32_t *items = compiler_alloc(compiler, length + 1, sizeof *items);
    for (size_t i = 0; items && i < length; i++)
        items[i] = ((const uint8_t *)bytes)[i];
    return (struct code_points){items, items ? length : 0};
}

/* Room in one of the grammar's tables, which live in its own arena. */
static void *table_grow(struct compiler *compiler, void *table, uint32_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return table;
    if (count >= GRAMMAR_MAX_RULES) {
        bulla_fail(compiler->error, BULLA_E_LIMIT, "the specification has more than %d rules", GRAMMAR_MAX_RULES);
        return NULL;
    }
    size_t wanted = *capacity ? 2 * *capacity : 16;
    void *grown = grammar_alloc(compiler, wanted, size);
    if (!grown)
        return NULL;
    if (count > 0)
        memcpy(grown, table, count * size);
    *capacity = wanted;
    return grown;
}

uint32_t grammar_add_rule(struct compiler *compiler, struct rule rule)
{
    struct grammar *grammar = compiler->grammar;
    compiler_work(compiler, 50);
    void *rules = table_grow(compiler, grammar->rules, grammar->rule_count, &compiler->rule_capacity, sizeof rule);
    if (!rules)
        return 0;
    grammar->rules = rules;
    grammar->rules[grammar->rule_count] = rule;
    return grammar->rule_count++;
}

uint32_t grammar_add_automaton(struct compiler *compiler, const struct automaton *automaton)
{
    struct grammar *grammar = compiler->grammar;
    void *automata = table_grow(compiler, grammar->automata, grammar->automaton_count, &compiler->automaton_capacity,
                                sizeof *grammar->automata);
    if (!automata)
        return GRAMMAR_ENDLESS;
    grammar->automata = automata;
    grammar->automata[grammar->automaton_count] = automaton;
    return grammar->automaton_count++;
}

uint32_t grammar_add_array(struct compiler *compiler, const struct items *items)
{
    struct grammar *grammar = compiler->grammar;
    void *arrays = table_grow(compiler, grammar->arrays, grammar->array_count, &compiler->array_capacity,
                              sizeof *grammar->arrays);
    if (!arrays)
        return GRAMMAR_ENDLESS;
    grammar->arrays = arrays;
    grammar->arrays[grammar->array_count] = items;
    return grammar->array_count++;
}

uint32_t grammar_add_object(struct compiler *compiler, const struct members *members)
{
    struct grammar *grammar = compiler->grammar;
    void *objects = table_grow(compiler, grammar->objects, grammar->object_count, &compiler->object_capacity,
                               sizeof *grammar->objects);
    if (!objects)
        return GRAMMAR_ENDLESS;
    grammar->objects = objects;
    grammar->objects[grammar->object_count] = members;
    return grammar->object_count++;
}

static int is_universal(const struct automaton *automaton)
{
    uint32_t surrogates = automaton_class_of(automaton, 0xD800);
    if (automaton->states != 1 || automaton->start != 0 || !automaton->accepts[0])
        return 0;
    for (uint32_t class = 0; class < automaton->classes; class++)
        if (class != surrogates && automaton->next[class] != 0)
            return 0;
    return 1;
}

/* How many code points each class has. */
static uint32_t *class_sizes(struct compiler *compiler, const struct automaton *automaton)
{
    uint32_t *sizes = compiler_alloc(compiler, automaton->classes, sizeof *sizes);
    for (uint32_t i = 0; sizes && i < automaton->intervals; i++) {
        uint32_t end = i + 1 < automaton->intervals ? automaton->lows[i + 1] : AUTOMATON_LAST_CODE_POINT + 1;
        sizes[automaton->interval_class[i]] += end - automaton->lows[i];
    }
    return sizes;
}

/* One level from the next longer one (NULL: nothing longer is accepted). */
static void count_level(const struct automaton *automaton, const uint32_t *sizes, int may_end, const uint16_t *longer,
                        uint16_t *level)
{
    for (uint32_t state = 0; state < automaton->states; state++) {
        uint64_t count = may_end && automaton->accepts[state];
        for (uint32_t class = 0; longer && class < automaton->classes; class++) {
            uint32_t target = automaton->next[(size_t)state * automaton->classes + class];
            if (target != AUTOMATON_DEAD)
                count += (uint64_t)sizes[class] * longer[target];
        }
        level[state] = count < AUTOMATON_MANY ? (uint16_t)count : AUTOMATON_MANY;
    }
}

static int count_lengths(struct compiler *compiler, struct text_language *language)
{
    const struct automaton *automaton = language->automaton;
    uint32_t last = language->maximum == GRAMMAR_ENDLESS ? language->minimum : language->maximum;
    uint64_t cells = ((uint64_t)last + 1) * automaton->states;
    if (cells > 1 << 22 || !compiler_work(compiler, cells * (4 + 3 * (uint64_t)automaton->classes)))
        return bulla_fail(compiler->error, BULLA_E_LIMIT, "a pattern of %u states with lengths up to %u is too large",
                          automaton->states, last);
    uint32_t *sizes = class_sizes(compiler, automaton);
    uint16_t *levels = grammar_alloc(compiler, cells, sizeof *levels);
    if (!sizes || !levels)
        return compiler->error->code;
    for (uint32_t level = last + 1; level-- > 0;) {
        uint16_t *row = levels + (size_t)level * automaton->states;
        if (level == last && language->maximum == GRAMMAR_ENDLESS)
            memcpy(row, automaton->completions, automaton->states * sizeof *row);
        else
            count_level(automaton, sizes, level >= language->minimum, level == last ? NULL : row + automaton->states,
                        row);
    }
    language->completions = levels;
    language->levels = last + 1;
    return BULLA_OK;
}

uint32_t grammar_add_language(struct compiler *compiler, const struct automaton *automaton, uint32_t minimum,
                              uint32_t maximum)
{
    struct grammar *grammar = compiler->grammar;
    struct text_language *language = grammar_alloc(compiler, 1, sizeof *language);
    void *languages = table_grow(compiler, grammar->languages, grammar->language_count, &compiler->language_capacity,
                                 sizeof *grammar->languages);
    if (!language || !languages || automaton->start == AUTOMATON_DEAD || minimum > maximum)
        return GRAMMAR_ENDLESS;
    *language = (struct text_language){.automaton = automaton, .minimum = minimum, .maximum = maximum};
    if (!is_universal(automaton) && count_lengths(compiler, language))
        return GRAMMAR_ENDLESS;
    if (text_language_completions(language, automaton->start, 0) == 0)
        return GRAMMAR_ENDLESS;
    grammar->languages = languages;
    grammar->languages[grammar->language_count] = language;
    return grammar->language_count++;
}
