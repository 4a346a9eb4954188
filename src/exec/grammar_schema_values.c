/* "enum" and "const": listed values. Arrays and objects among them are taken apart into what their items and members
 * must be, so that one comparison of values serves all: numbers by value, objects whatever their order. */
#include <string.h>

#include "exec/grammar_compile.h"

/* The literal of {"const": value}, a schema made up for this. */
static uint32_t const_literal(struct compiler *compiler, uint32_t node, const struct json *value)
{
    static const char *const key = "const";
    struct json *schema = compiler_alloc(compiler, 1, sizeof *schema);
    struct json **items = compiler_alloc(compiler, 1, sizeof *items);
    const char **keys = compiler_alloc(compiler, 1, sizeof *keys);
    size_t *lengths = compiler_alloc(compiler, 1, sizeof *lengths);
    if (!schema || !items || !keys || !lengths)
        return 0;
    items[0] = (struct json *)(uintptr_t)value; /* never changed through it */
    keys[0] = key;
    lengths[0] = strlen(key);
    *schema = (struct json){.type = JSON_OBJECT, .length = 1, .items = items, .keys = keys, .key_lengths = lengths};
    return 2 * node_add(compiler, schema, node, key, strlen(key), 0);
}

static struct text key_of(const struct json *object, size_t index)
{
    return (struct text){object->keys[index], object->key_lengths[index]};
}

static struct cell *compound_cell(struct compiler *compiler, uint32_t node, const struct json *value)
{
    int is_array = value->type == JSON_ARRAY;
    struct cell *cell = cell_new(compiler, is_array ? TYPE_ARRAY : TYPE_OBJECT);
    for (size_t i = 0; cell && i < value->length; i++) {
        uint32_t expression = expression_of(compiler, const_literal(compiler, node, value->items[i]));
        if (is_array) {
            LIST_ADD(compiler, cell->array.prefix, expression);
        } else {
            struct text key = key_of(value, i);
            property_add(compiler, &cell->object, &key, expression);
            texts_add(compiler, &cell->object.required, &key);
        }
    }
    if (cell) {
        cell->array.minimum = cell->array.maximum = (uint32_t)value->length;
        cell->object.minimum = cell->object.maximum = (uint32_t)value->length;
    }
    return cell;
}

/* Every value but this array. */
static struct cells *other_arrays(struct compiler *compiler, uint32_t node, const struct json *value)
{
    struct cells *cells = compiler_alloc(compiler, 1, sizeof *cells);
    uint32_t length = (uint32_t)value->length;
    cells_add(compiler, cells, cell_new(compiler, TYPE_ANY & ~TYPE_ARRAY));
    struct cell *longer = cell_new(compiler, TYPE_ARRAY), *shorter = cell_new(compiler, TYPE_ARRAY);
    if (!longer || !shorter)
        return cells;
    longer->array.minimum = length + 1;
    cells_add(compiler, cells, longer);
    if (length > 0) {
        shorter->array.maximum = length - 1;
        cells_add(compiler, cells, shorter);
    }
    for (uint32_t i = 0; i < length; i++) {
        struct cell *other = cell_new(compiler, TYPE_ARRAY);
        if (!other)
            return cells;
        other->array.minimum = i + 1;
        for (uint32_t j = 0; j < i; j++)
            LIST_ADD(compiler, other->array.prefix, EXPRESSION_TRUE);
        LIST_ADD(compiler, other->array.prefix,
                 expression_of(compiler, const_literal(compiler, node, value->items[i]) ^ 1));
        cells_add(compiler, cells, other);
    }
    return cells;
}

/* Every value but this object. */
static struct cells *other_objects(struct compiler *compiler, uint32_t node, const struct json *value)
{
    struct cells *cells = compiler_alloc(compiler, 1, sizeof *cells);
    struct cell *larger = cell_new(compiler, TYPE_OBJECT);
    cells_add(compiler, cells, cell_new(compiler, TYPE_ANY & ~TYPE_OBJECT));
    if (!larger)
        return cells;
    larger->object.minimum = (uint32_t)value->length + 1;
    cells_add(compiler, cells, larger);
    for (size_t i = 0; i < value->length; i++) {
        struct cell *without = cell_new(compiler, TYPE_OBJECT), *other = cell_new(compiler, TYPE_OBJECT);
        if (!without || !other)
            return cells;
        struct text key = key_of(value, i);
        property_add(compiler, &without->object, &key, EXPRESSION_FALSE);
        property_add(compiler, &other->object, &key,
                     expression_of(compiler, const_literal(compiler, node, value->items[i]) ^ 1));
        texts_add(compiler, &other->object.required, &key);
        cells_add(compiler, cells, without);
        cells_add(compiler, cells, other);
    }
    return cells;
}

static unsigned word_type(const struct json *value)
{
    return value->type == JSON_NULL ? TYPE_NULL : value->type == JSON_FALSE ? TYPE_FALSE
           : value->type == JSON_TRUE ? TYPE_TRUE : 0;
}

static void add_number(struct compiler *compiler, struct number_part *number, const struct json *value)
{
    struct number_word word = {.text = {value->text, value->length}};
    if (read_decimal(compiler, value, &word.value))
        return;
    if (!compiler_work(compiler, 10 + 50 * (uint64_t)number->words.count))
        return;
    for (size_t i = 0; i < number->words.count; i++)
        if (decimal_compare(&number->words.items[i].value, &word.value) == 0)
            return;
    LIST_ADD(compiler, number->words, word);
}

static struct cells *listed(struct compiler *compiler, uint32_t node, const struct json *const *values, size_t count)
{
    struct cells *cells = compiler_alloc(compiler, 1, sizeof *cells);
    struct cell *scalar = cell_new(compiler, 0);
    if (!scalar)
        return cells;
    scalar->number.is_finite = scalar->string.is_finite = 1;
    for (size_t i = 0; i < count; i++) {
        const struct json *value = values[i];
        struct text text = {value->text, value->length};
        compiler_work(compiler, 20);
        scalar->types |= word_type(value);
        if (value->type == JSON_NUMBER) {
            scalar->types |= TYPE_NUMBER;
            add_number(compiler, &scalar->number, value);
        } else if (value->type == JSON_STRING) {
            scalar->types |= TYPE_STRING;
            texts_add(compiler, &scalar->string.words, &text);
        } else if (value->type == JSON_ARRAY || value->type == JSON_OBJECT) {
            cells_add(compiler, cells, compound_cell(compiler, node, value));
        }
    }
    if (scalar->types)
        cells_add(compiler, cells, scalar);
    return cells;
}

static struct cells *not_listed(struct compiler *compiler, uint32_t node, const struct json *const *values,
                                size_t count)
{
    struct cells *cells = cells_universal(compiler);
    struct cell *cell = cells && cells->count ? cells->items[0] : NULL;
    for (size_t i = 0; cell && i < count; i++) {
        const struct json *value = values[i];
        cell->types &= ~word_type(value);
        if (value->type == JSON_NUMBER)
            number_limit_add(compiler, &cell->number, NUMBER_NOT, value);
        else if (value->type == JSON_STRING)
            texts_add(compiler, &cell->string.excluded, &(struct text){value->text, value->length});
    }
    for (size_t i = 0; i < count; i++)
        if (values[i]->type == JSON_ARRAY)
            cells = cells_and(compiler, cells, other_arrays(compiler, node, values[i]));
        else if (values[i]->type == JSON_OBJECT)
            cells = cells_and(compiler, cells, other_objects(compiler, node, values[i]));
    return cells;
}

struct cells *values_cells(struct compiler *compiler, uint32_t node, const struct json *const *values, size_t count,
                           int negated)
{
    return negated ? not_listed(compiler, node, values, count) : listed(compiler, node, values, count);
}
