/* The specification's own forms (exec/grammar.h), and the compiler's frame. */
#include <string.h>

#include "base/memory.h"
#include "exec/grammar_compile.h"

enum {
    MAX_REPEAT = 1 << 20,
    PARSE_COST = 40 /* of a byte */
};

static uint32_t form_compile(struct compiler *compiler, const struct json *form);

static uint32_t fail(struct compiler *compiler, const char *what)
{
    bulla_fail(compiler->error, BULLA_E_INPUT, "grammar: %s", what);
    return 0;
}

static uint32_t literal_compile(struct compiler *compiler, const struct json *text)
{
    if (!json_is(text, JSON_STRING))
        return fail(compiler, "\"literal\" must be a string");
    compiler_work(compiler, text->length);
    char *bytes = arena_copy_text(&compiler->grammar->arena, text->text, text->length, compiler->error);
    if (!bytes)
        return 0;
    return grammar_add_rule(compiler, (struct rule){.kind = RULE_LITERAL, .bytes = (const uint8_t *)bytes,
                                                    .count = (uint32_t)text->length});
}

static uint32_t list_compile(struct compiler *compiler, const struct json *list, enum rule_kind kind)
{
    if (!json_is(list, JSON_ARRAY))
        return fail(compiler, "\"sequence\" and \"choice\" must be arrays");
    if (kind == RULE_CHOICE && list->length == 0)
        return fail(compiler, "\"choice\" must list at least one form");
    uint32_t *children = grammar_alloc(compiler, list->length, sizeof *children);
    for (size_t i = 0; children && i < list->length && !compiler->error->code; i++)
        children[i] = form_compile(compiler, list->items[i]);
    return grammar_add_rule(compiler, (struct rule){.kind = kind, .children = children,
                                                    .count = (uint32_t)list->length});
}

/* Whether the rule may be empty text. Repeating that could go on for ever without a byte. */
static int is_nullable(const struct grammar *grammar, uint32_t number)
{
    const struct rule *rule = &grammar->rules[number];
    int all = 1, any = 0;
    for (uint32_t i = 0; i < rule->count && (rule->kind == RULE_SEQUENCE || rule->kind == RULE_CHOICE); i++) {
        int child = is_nullable(grammar, rule->children[i]);
        all &= child;
        any |= child;
    }
    switch (rule->kind) {
    case RULE_LITERAL: return rule->count == 0;
    case RULE_SEQUENCE: return all;
    case RULE_CHOICE: return any;
    case RULE_REPEAT: return rule->minimum == 0;
    default: return rule->kind == RULE_TEXT;
    }
}

static int read_bound(struct compiler *compiler, const struct json *form, const char *name, uint32_t *bound)
{
    const struct json *value = json_get(form, name);
    if (!value)
        return 1;
    if (!json_is(value, JSON_NUMBER) || !value->is_integer || value->integer < 0 || value->integer > MAX_REPEAT) {
        bulla_fail(compiler->error, BULLA_E_INPUT, "grammar: \"%s\" of \"repeat\" must be from 0 to %d", name,
                   MAX_REPEAT);
        return 0;
    }
    *bound = (uint32_t)value->integer;
    return 1;
}

static uint32_t repeat_compile(struct compiler *compiler, const struct json *form, const struct json *inner)
{
    struct rule rule = {.kind = RULE_REPEAT, .maximum = GRAMMAR_ENDLESS};
    uint32_t *child = grammar_alloc(compiler, 1, sizeof *child);
    if (!child || !read_bound(compiler, form, "min", &rule.minimum) ||
        !read_bound(compiler, form, "max", &rule.maximum))
        return 0;
    if (rule.minimum > rule.maximum)
        return fail(compiler, "\"min\" of \"repeat\" is above its \"max\"");
    *child = form_compile(compiler, inner);
    if (!compiler->error->code && is_nullable(compiler->grammar, *child))
        return fail(compiler, "what \"repeat\" repeats may not be empty text");
    rule.children = child;
    rule.count = 1;
    return grammar_add_rule(compiler, rule);
}

/* A regular expression of one text. */
static void append_quoted(struct buffer *out, const struct json *text)
{
    for (size_t i = 0; i < text->length; i++) {
        uint8_t byte = (uint8_t)text->text[i];
        if (byte < 0x80)
            buffer_append_format(out, "\\x%02x", byte);
        else
            buffer_append_byte(out, byte);
    }
}

static uint32_t text_compile(struct compiler *compiler, const struct json *text)
{
    const struct json *until = json_get(text, "until");
    struct buffer pattern = {0};
    bulla_error detail = {0};
    if (!json_is(until, JSON_ARRAY))
        return fail(compiler, "\"text\" must have a list \"until\"");
    for (size_t i = 0; i < until->length; i++) {
        if (!json_is(until->items[i], JSON_STRING) || until->items[i]->length == 0) {
            buffer_free(&pattern);
            return fail(compiler, "\"until\" must list strings that are not empty");
        }
        buffer_append_text(&pattern, i ? "|" : "");
        append_quoted(&pattern, until->items[i]);
    }
    const struct automaton *found = NULL, *without = NULL;
    if (pattern.error.code)
        bulla_fail(&detail, pattern.error.code, "%s", pattern.error.text);
    else if (until->length > 0)
        found = automaton_from_pattern(&compiler->scratch, &compiler->work, (char *)pattern.data, pattern.length, 0,
                                       &detail);
    buffer_free(&pattern);
    if (!detail.code)
        without = automaton_product(&compiler->grammar->arena, &compiler->work, &found, until->length > 0,
                                    (struct automaton_condition){.none = 1}, AUTOMATON_MAX_STATES, &detail);
    if (!without) {
        bulla_fail(compiler->error, detail.code, "grammar: \"until\": %s", detail.text);
        return 0;
    }
    return grammar_add_rule(compiler, (struct rule){.kind = RULE_TEXT, .language = grammar_add_language(
                                                        compiler, without, 0, GRAMMAR_ENDLESS)});
}

static uint32_t form_compile(struct compiler *compiler, const struct json *form)
{
    static const char *const names[] = {"schema", "object", "literal", "sequence", "choice", "repeat", "text"};
    const struct json *found = NULL;
    size_t kind = 0;
    compiler_work(compiler, 400);
    for (size_t i = 0; i < sizeof names / sizeof *names && !found; i++) {
        found = json_get(form, names[i]);
        kind = i;
    }
    if (compiler->error->code || !found)
        return fail(compiler, "a form is an object with one of \"schema\", \"object\", \"literal\", \"sequence\", "
                              "\"choice\", \"repeat\" and \"text\"");
    switch (kind) {
    case 0: return schema_compile(compiler, found);
    case 1: return json_is(found, JSON_TRUE) ? loose_rule(compiler) : fail(compiler, "\"object\" must be true");
    case 2: return literal_compile(compiler, found);
    case 3: return list_compile(compiler, found, RULE_SEQUENCE);
    case 4: return list_compile(compiler, found, RULE_CHOICE);
    case 5: return repeat_compile(compiler, form, found);
    default: return text_compile(compiler, found);
    }
}

static void check_roots(struct compiler *compiler)
{
    for (size_t i = 0; i < compiler->roots.count && !compiler->error->code; i++)
        if (compiler->grammar->rules[compiler->roots.items[i]].depth > GRAMMAR_MAX_DEPTH)
            bulla_fail(compiler->error, BULLA_E_UNSUPPORTED, "schema: no value satisfies it, or none that is nested at "
                       "most %d deep: a schema that is false, or keywords that contradict one another",
                       GRAMMAR_MAX_DEPTH);
}

int grammar_compile_within(const char *specification, size_t length, uint64_t *work, struct grammar **result,
                           bulla_error *error)
{
    bulla_error own = {0};
    uint64_t budget = *work < GRAMMAR_MOST_WORK ? GRAMMAR_MOST_WORK - *work : 0;
    struct compiler compiler = {.scratch = {.limit = GRAMMAR_MAX_COMPILE_BYTES}, .work = {budget}, .error = &own,
                                .loose_value = GRAMMAR_ENDLESS};
    *result = NULL;
    if (length > GRAMMAR_MAX_SPECIFICATION)
        return bulla_fail(error, BULLA_E_LIMIT, "grammar: a specification of %zu bytes; at most %d are read", length,
                          GRAMMAR_MAX_SPECIFICATION);
    compiler.grammar = memory_alloc(1, sizeof *compiler.grammar, error);
    if (!compiler.grammar)
        return BULLA_E_MEMORY;
    compiler.grammar->arena.limit = GRAMMAR_MAX_BYTES;
    compiler_work(&compiler, PARSE_COST * (uint64_t)length + 5000);
    struct json *form = own.code ? NULL : json_parse(specification, length, "grammar", &compiler.scratch, &own);
    if (form)
        compiler.grammar->root = form_compile(&compiler, form);
    if (!own.code)
        grammar_find_depths(&compiler);
    check_roots(&compiler);
    *work += budget - compiler.work.left;
    arena_free(&compiler.scratch);
    if (own.code) {
        grammar_free(compiler.grammar);
        return bulla_fail(error, own.code, "%s", own.text);
    }
    *result = compiler.grammar;
    return BULLA_OK;
}

int grammar_compile(const char *specification, size_t length, struct grammar **grammar, bulla_error *error)
{
    uint64_t work = 0;
    return grammar_compile_within(specification, length, &work, grammar, error);
}

size_t grammar_bytes(const struct grammar *grammar)
{
    return sizeof *grammar + grammar->arena.total;
}

void grammar_free(struct grammar *grammar)
{
    if (!grammar)
        return;
    arena_free(&grammar->arena);
    memory_free(grammar);
}
