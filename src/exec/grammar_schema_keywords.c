/* Keywords of a schema that limit values of one type (JSON Schema 2020-12 validation section 6, core section 10.3). */
#include <string.h>

#include "exec/grammar_compile.h"

enum { MAX_CONTAINS_COUNT = 1000 };

static const struct json *node_get(const struct compiler *compiler, uint32_t node, const char *keyword)
{
    return json_get(compiler->nodes.items[node].json, keyword);
}

const struct json *read_keyword(struct compiler *compiler, uint32_t node, const char *keyword, enum json_type type)
{
    static const char *const names[] = {"null", "false", "true", "a number", "a string", "an array", "an object"};
    const struct json *value = node_get(compiler, node, keyword);
    if (value && value->type != type) {
        node_refuse(compiler, node, keyword, BULLA_E_INPUT, "it must be %s", names[type]);
        return NULL;
    }
    return value;
}

int read_decimal(struct compiler *compiler, const struct json *number, struct decimal *value)
{
    return decimal_read(&compiler->scratch, &compiler->work, number->text, number->length, value, compiler->error);
}

uint32_t read_count_keyword(struct compiler *compiler, uint32_t node, const char *keyword, uint32_t otherwise)
{
    const struct json *value = read_keyword(compiler, node, keyword, JSON_NUMBER);
    struct decimal decimal;
    if (!value)
        return otherwise;
    if (read_decimal(compiler, value, &decimal))
        return otherwise;
    if (decimal.negative || !decimal_is_integer(&decimal)) {
        node_refuse(compiler, node, keyword, BULLA_E_INPUT, "it must be a whole number that is not negative");
        return otherwise;
    }
    return value->number < (double)GRAMMAR_ENDLESS ? (uint32_t)value->number : GRAMMAR_ENDLESS - 1;
}

static unsigned type_named(const struct json *name, int *integer, int *number)
{
    static const struct {
        const char *name;
        unsigned type;
    } types[] = {{"null", TYPE_NULL}, {"boolean", TYPE_FALSE | TYPE_TRUE}, {"number", TYPE_NUMBER},
                 {"integer", TYPE_NUMBER}, {"string", TYPE_STRING}, {"array", TYPE_ARRAY}, {"object", TYPE_OBJECT}};
    for (size_t i = 0; json_is(name, JSON_STRING) && i < sizeof types / sizeof *types; i++)
        if (strlen(types[i].name) == name->length && memcmp(types[i].name, name->text, name->length) == 0) {
            *integer |= i == 3;
            *number |= i == 2;
            return types[i].type;
        }
    return 0;
}

unsigned read_types(struct compiler *compiler, uint32_t node, int *integer_only, int *with_integer)
{
    const struct json *value = node_get(compiler, node, "type");
    unsigned types = 0;
    int integer = 0, number = 0, wrong = 0;
    if (!value)
        return TYPE_ANY;
    if (value->type == JSON_ARRAY) {
        compiler_work(compiler, 100 * (uint64_t)value->length);
        for (size_t i = 0; i < value->length; i++) {
            unsigned type = type_named(value->items[i], &integer, &number);
            wrong |= type == 0;
            types |= type;
        }
    } else {
        types = type_named(value, &integer, &number);
        wrong = types == 0;
    }
    if (wrong)
        node_refuse(compiler, node, "type", BULLA_E_INPUT, "a type is null, boolean, number, integer, string, array or "
                    "object, or a list of these");
    *integer_only = integer && !number;
    *with_integer = integer;
    return types;
}

void number_limit_add(struct compiler *compiler, struct number_part *number, enum number_relation relation,
                      const struct json *value)
{
    struct number_limit limit = {.relation = relation};
    if (value && !read_decimal(compiler, value, &limit.value))
        LIST_ADD(compiler, number->limits, limit);
}

static void read_number(struct compiler *compiler, uint32_t node, struct number_part *number)
{
    number_limit_add(compiler, number, NUMBER_AT_LEAST, read_keyword(compiler, node, "minimum", JSON_NUMBER));
    number_limit_add(compiler, number, NUMBER_AT_MOST, read_keyword(compiler, node, "maximum", JSON_NUMBER));
    number_limit_add(compiler, number, NUMBER_ABOVE, read_keyword(compiler, node, "exclusiveMinimum", JSON_NUMBER));
    number_limit_add(compiler, number, NUMBER_BELOW, read_keyword(compiler, node, "exclusiveMaximum", JSON_NUMBER));
    const struct json *factor = read_keyword(compiler, node, "multipleOf", JSON_NUMBER);
    struct number_multiple multiple = {0};
    if (!factor || read_decimal(compiler, factor, &multiple.factor))
        return;
    if (multiple.factor.negative || multiple.factor.count == 0)
        node_refuse(compiler, node, "multipleOf", BULLA_E_INPUT, "it must be above 0");
    LIST_ADD(compiler, number->multiples, multiple);
}

/* What is known of the pattern so far; NULL after an error. */
static struct cached_pattern *find_pattern(struct compiler *compiler, struct text text)
{
    compiler_work(compiler, compiler->patterns.count * (10 + (uint64_t)text.length / 8));
    for (size_t i = 0; i < compiler->patterns.count; i++)
        if (text_is(&compiler->patterns.items[i].text, text.bytes, text.length))
            return &compiler->patterns.items[i];
    LIST_ADD(compiler, compiler->patterns, (struct cached_pattern){.text = text});
    return compiler->error->code ? NULL : &compiler->patterns.items[compiler->patterns.count - 1];
}

const struct automaton *read_pattern(struct compiler *compiler, uint32_t node, const char *keyword, struct text text,
                                     int upper)
{
    bulla_error detail = {0};
    struct cached_pattern *cached = find_pattern(compiler, text);
    if (!cached)
        return NULL;
    const struct automaton **automaton = upper ? &cached->automata.upper : &cached->automata.lower;
    if (!*automaton)
        *automaton = automaton_from_pattern(&compiler->scratch, &compiler->work, text.bytes, text.length, upper,
                                            &detail);
    if (!*automaton)
        node_refuse(compiler, node, keyword, detail.code, "%s", detail.text);
    return *automaton;
}

static void add_pattern(struct compiler *compiler, uint32_t node, const char *keyword, struct text text,
                        struct string_part *string)
{
    const struct automaton *automaton = read_pattern(compiler, node, keyword, text, 0);
    if (automaton)
        LIST_ADD(compiler, string->patterns, (struct pattern_term){automaton, 0});
}

static void read_string(struct compiler *compiler, uint32_t node, struct string_part *string)
{
    const struct json *pattern = read_keyword(compiler, node, "pattern", JSON_STRING);
    const struct json *format = read_keyword(compiler, node, "format", JSON_STRING);
    const char *known = format ? format_pattern(format->text) : NULL;
    string->minimum = read_count_keyword(compiler, node, "minLength", 0);
    string->maximum = read_count_keyword(compiler, node, "maxLength", GRAMMAR_ENDLESS);
    if (pattern)
        add_pattern(compiler, node, "pattern", (struct text){pattern->text, pattern->length}, string);
    if (known)
        add_pattern(compiler, node, "format", (struct text){known, strlen(known)}, string);
}

/* "prefixItems", or the list that "items" was up to draft 2019-09; *keyword is which. */
static const struct json *read_prefix(struct compiler *compiler, uint32_t node, const char **keyword)
{
    const struct json *items = node_get(compiler, node, "items");
    *keyword = json_is(items, JSON_ARRAY) ? "items" : "prefixItems";
    return read_keyword(compiler, node, *keyword, JSON_ARRAY);
}

static void read_contains(struct compiler *compiler, uint32_t node, struct cell *cell)
{
    const struct json *contains = node_get(compiler, node, "contains");
    if (!contains)
        return;
    uint32_t child = node_member(compiler, node, "contains", contains);
    struct contains item = {.literal = 2 * child, .minimum = read_count_keyword(compiler, node, "minContains", 1),
                            .maximum = read_count_keyword(compiler, node, "maxContains", GRAMMAR_ENDLESS)};
    if (item.minimum > MAX_CONTAINS_COUNT)
        node_refuse(compiler, node, "minContains", BULLA_E_LIMIT, "at most %d", MAX_CONTAINS_COUNT);
    if (item.maximum != GRAMMAR_ENDLESS && item.maximum > MAX_CONTAINS_COUNT)
        node_refuse(compiler, node, "maxContains", BULLA_E_LIMIT, "at most %d", MAX_CONTAINS_COUNT);
    if (item.minimum > 0 || item.maximum != GRAMMAR_ENDLESS)
        LIST_ADD(compiler, cell->array.contains, item);
    LIST_ADD(compiler, cell->evaluated.contains, item.literal);
}

static void read_array(struct compiler *compiler, uint32_t node, struct cell *cell)
{
    struct array_part *array = &cell->array;
    const char *keyword;
    const struct json *prefix = read_prefix(compiler, node, &keyword);
    const char *rest_keyword = strcmp(keyword, "items") == 0 ? "additionalItems" : "items";
    const struct json *rest = node_get(compiler, node, rest_keyword);
    const struct json *unique = node_get(compiler, node, "uniqueItems");
    for (size_t i = 0; prefix && i < prefix->length; i++)
        LIST_ADD(compiler, array->prefix,
                 expression_of(compiler, 2 * node_nested(compiler, node, keyword, NULL, 0, i, prefix->items[i])));
    if (rest)
        array->rest = expression_of(compiler, 2 * node_member(compiler, node, rest_keyword, rest));
    cell->evaluated.prefix = (uint32_t)array->prefix.count;
    cell->evaluated.all_items = rest != NULL;
    array->minimum = read_count_keyword(compiler, node, "minItems", 0);
    array->maximum = read_count_keyword(compiler, node, "maxItems", GRAMMAR_ENDLESS);
    if (unique && !json_is_bool(unique))
        node_refuse(compiler, node, "uniqueItems", BULLA_E_INPUT, "it must be a boolean");
    array->unique = json_is(unique, JSON_TRUE) ? node + 1 : 0;
    read_contains(compiler, node, cell);
}

static void read_properties(struct compiler *compiler, uint32_t node, struct cell *cell)
{
    const struct json *properties = read_keyword(compiler, node, "properties", JSON_OBJECT);
    const struct json *patterns = read_keyword(compiler, node, "patternProperties", JSON_OBJECT);
    for (size_t i = 0; properties && i < properties->length; i++) {
        struct text key = {properties->keys[i], properties->key_lengths[i]};
        uint32_t child = node_nested(compiler, node, "properties", key.bytes, key.length, i, properties->items[i]);
        property_add(compiler, &cell->object, &key, expression_of(compiler, 2 * child));
        texts_add(compiler, &cell->evaluated.members.names, &key);
    }
    for (size_t i = 0; patterns && i < patterns->length; i++) {
        struct text key = {patterns->keys[i], patterns->key_lengths[i]};
        uint32_t child = node_nested(compiler, node, "patternProperties", key.bytes, key.length, i, patterns->items[i]);
        struct key_pattern pattern = {.lower = read_pattern(compiler, node, "patternProperties", key, 0),
                                      .upper = read_pattern(compiler, node, "patternProperties", key, 1)};
        LIST_ADD(compiler, cell->object.patterns,
                 (struct pattern_property){pattern, expression_of(compiler, 2 * child)});
        LIST_ADD(compiler, cell->evaluated.members.patterns, pattern);
    }
}

/* Needs read_properties first: "additionalProperties" is for what those two did not name. */
static void read_object(struct compiler *compiler, uint32_t node, struct cell *cell)
{
    struct object_part *object = &cell->object;
    const struct json *additional = node_get(compiler, node, "additionalProperties");
    const struct json *names = node_get(compiler, node, "propertyNames");
    const struct json *required = read_keyword(compiler, node, "required", JSON_ARRAY);
    if (additional) {
        uint32_t child = node_member(compiler, node, "additionalProperties", additional);
        struct additional rule = {.expression = expression_of(compiler, 2 * child)};
        texts_join(compiler, &rule.except.names, &cell->evaluated.members.names);
        for (size_t i = 0; i < cell->evaluated.members.patterns.count; i++)
            LIST_ADD(compiler, rule.except.patterns, cell->evaluated.members.patterns.items[i]);
        LIST_ADD(compiler, object->additional, rule);
        cell->evaluated.all_members = 1;
    }
    if (names)
        LIST_ADD(compiler, object->names,
                 expression_of(compiler, 2 * node_member(compiler, node, "propertyNames", names)));
    for (size_t i = 0; required && i < required->length; i++) {
        struct text key = {required->items[i]->text, required->items[i]->length};
        if (required->items[i]->type != JSON_STRING)
            node_refuse(compiler, node, "required", BULLA_E_INPUT, "it must be a list of strings");
        else
            texts_add(compiler, &object->required, &key);
    }
    object->minimum = read_count_keyword(compiler, node, "minProperties", 0);
    object->maximum = read_count_keyword(compiler, node, "maxProperties", GRAMMAR_ENDLESS);
}

struct cell *keywords_cell(struct compiler *compiler, uint32_t node)
{
    int integer_only = 0, with_integer = 0;
    struct cell *cell = cell_new(compiler, read_types(compiler, node, &integer_only, &with_integer));
    if (!cell)
        return NULL;
    cell->number.integer = integer_only;
    read_number(compiler, node, &cell->number);
    read_string(compiler, node, &cell->string);
    read_array(compiler, node, cell);
    read_properties(compiler, node, cell);
    read_object(compiler, node, cell);
    return cell;
}
