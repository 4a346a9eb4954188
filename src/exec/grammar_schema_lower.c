/* From a cell to what is run: automata of its scalar values, and the machines of its arrays and objects. */
#include <string.h>

#include "exec/grammar_compile.h"

enum { MOST_STRING_STATES = 30000, PLAIN_DIGITS = 60 };

struct automaton *string_automaton(struct compiler *compiler, struct arena *arena, const struct string_part *string,
                                   int with_length)
{
    const struct automaton *parts[AUTOMATON_MAX_COMPONENTS];
    struct automaton_condition condition = {0};
    bulla_error detail = {0};
    size_t count = 0;
    if (string->is_finite) {
        struct code_points *words = compiler_alloc(compiler, string->words.count, sizeof *words);
        for (size_t i = 0; words && i < string->words.count; i++)
            words[i] = text_code_points(compiler, &string->words.items[i]);
        return compiler->error->code ? NULL
                                     : automaton_from_words(arena, &compiler->work, words, string->words.count,
                                                            compiler->error);
    }
    if (string->patterns.count + 2 > AUTOMATON_MAX_COMPONENTS) {
        bulla_fail(compiler->error, BULLA_E_LIMIT, "schema: more than %d \"pattern\" apply to one string",
                   AUTOMATON_MAX_COMPONENTS - 2);
        return NULL;
    }
    for (size_t i = 0; i < string->patterns.count; i++) {
        *(string->patterns.items[i].negated ? &condition.none : &condition.all) |= UINT64_C(1) << count;
        parts[count++] = string->patterns.items[i].automaton;
    }
    if (string->excluded.count > 0) {
        struct code_points *words = compiler_alloc(compiler, string->excluded.count, sizeof *words);
        for (size_t i = 0; words && i < string->excluded.count; i++)
            words[i] = text_code_points(compiler, &string->excluded.items[i]);
        condition.none |= UINT64_C(1) << count;
        parts[count++] =
            words ? automaton_from_words(&compiler->scratch, &compiler->work, words, string->excluded.count, &detail)
                  : NULL;
    }
    if (with_length && (string->minimum > 0 || string->maximum != GRAMMAR_ENDLESS) && !detail.code) {
        condition.all |= UINT64_C(1) << count;
        parts[count++] = automaton_from_length(&compiler->scratch, &compiler->work, string->minimum, string->maximum,
                                               &detail);
    }
    struct automaton *result = NULL;
    if (!detail.code && !compiler->error->code)
        result = automaton_product(arena, &compiler->work, parts, count, condition, MOST_STRING_STATES, &detail);
    if (!result)
        bulla_fail(compiler->error, detail.code,
                   "schema: \"pattern\", \"format\", \"minLength\" and \"maxLength\" of one "
                   "string: %s",
                   detail.text);
    return result;
}

/* A number's one spelling, where items are compared by their texts. */
static void append_plain(struct compiler *compiler, struct buffer *out, const struct decimal *value)
{
    int last = value->exponent > (int)value->count ? value->exponent : (int)value->count;
    if (value->exponent > PLAIN_DIGITS || value->exponent < -PLAIN_DIGITS || value->count > PLAIN_DIGITS) {
        bulla_fail(compiler->error, BULLA_E_UNSUPPORTED, "schema: \"uniqueItems\" with a number of more than %d digits",
                   PLAIN_DIGITS);
        return;
    }
    if (value->negative)
        buffer_append_byte(out, '-');
    if (value->exponent <= 0)
        buffer_append_text(out, value->count ? "0." : "0");
    for (int i = value->exponent; i < 0; i++)
        buffer_append_byte(out, '0');
    for (int i = 0; i < last; i++) {
        if (i == value->exponent && i > 0)
            buffer_append_byte(out, '.');
        buffer_append_byte(out, i < (int)value->count ? (uint8_t)value->digits[i] : '0');
    }
}

struct word_list {
    LIST(struct code_points) words;
};

static void add_bytes(struct compiler *compiler, struct word_list *list, struct buffer *bytes)
{
    if (bytes->error.code)
        bulla_fail(compiler->error, bytes->error.code, "%s", bytes->error.text);
    else
        LIST_ADD(compiler, list->words, bytes_code_points(compiler, bytes->data, bytes->length));
    buffer_clear(bytes);
}

/* All of the cell's values that are a few fixed texts. Strings that must differ from others are left out: they are
 * written as characters, since those may be spelled in several ways. */
static uint32_t lower_words(struct compiler *compiler, const struct cell *cell, int tracked)
{
    static const char *const names[] = {"null", "false", "true"};
    struct word_list list = {0};
    struct buffer bytes = {0};
    for (size_t i = 0; i < 3; i++)
        if (cell->types >> i & 1)
            LIST_ADD(compiler, list.words, bytes_code_points(compiler, names[i], strlen(names[i])));
    for (size_t i = 0; cell->types & TYPE_NUMBER && cell->number.is_finite && i < cell->number.words.count; i++) {
        const struct number_word *word = &cell->number.words.items[i];
        if (tracked)
            append_plain(compiler, &bytes, &word->value);
        else
            buffer_append(&bytes, word->text.bytes, word->text.length);
        add_bytes(compiler, &list, &bytes);
    }
    for (size_t i = 0; cell->types & TYPE_STRING && cell->string.is_finite && !tracked && i < cell->string.words.count;
         i++) {
        json_write_string(&bytes, cell->string.words.items[i].bytes, cell->string.words.items[i].length);
        add_bytes(compiler, &list, &bytes);
    }
    buffer_free(&bytes);
    if (list.words.count == 0 || compiler->error->code)
        return GRAMMAR_ENDLESS;
    const struct automaton *automaton = automaton_from_words(&compiler->grammar->arena, &compiler->work,
                                                             list.words.items, list.words.count, compiler->error);
    return automaton ? grammar_add_automaton(compiler, automaton) : GRAMMAR_ENDLESS;
}

static int same_numbers(const struct number_part *a, const struct number_part *b)
{
    if (a->integer != b->integer || a->fractional != b->fractional || a->limits.count != b->limits.count ||
        a->multiples.count != b->multiples.count)
        return 0;
    for (size_t i = 0; i < a->limits.count; i++)
        if (a->limits.items[i].relation != b->limits.items[i].relation ||
            decimal_compare(&a->limits.items[i].value, &b->limits.items[i].value) != 0)
            return 0;
    for (size_t i = 0; i < a->multiples.count; i++)
        if (a->multiples.items[i].negated != b->multiples.items[i].negated ||
            decimal_compare(&a->multiples.items[i].factor, &b->multiples.items[i].factor) != 0)
            return 0;
    return 1;
}

static uint32_t lower_number(struct compiler *compiler, const struct number_part *number, int tracked)
{
    bulla_error detail = {0};
    compiler_work(compiler, (10 + 20 * (uint64_t)number->limits.count) * compiler->numbers.count);
    for (size_t i = 0; i < compiler->numbers.count; i++)
        if (compiler->numbers.items[i].tracked == tracked && same_numbers(compiler->numbers.items[i].part, number))
            return compiler->numbers.items[i].automaton;
    struct number_rules rules = {.integer = number->integer, .fractional = number->fractional, .canonical = tracked,
                                 .limits = number->limits.items, .limit_count = number->limits.count,
                                 .multiples = number->multiples.items, .multiple_count = number->multiples.count};
    const struct automaton *automaton = automaton_from_number(&compiler->grammar->arena, &compiler->work, &rules,
                                                              &detail);
    if (!automaton) {
        bulla_fail(compiler->error, detail.code, "schema: %s: %s", number->multiples.count ? "\"multipleOf\""
                   : "\"minimum\", \"maximum\", \"enum\" or \"const\"", detail.text);
        return GRAMMAR_ENDLESS;
    }
    struct cached_number cached = {number, tracked, GRAMMAR_ENDLESS};
    if (automaton->start != AUTOMATON_DEAD)
        cached.automaton = grammar_add_automaton(compiler, automaton);
    LIST_ADD(compiler, compiler->numbers, cached);
    return cached.automaton;
}

static int same_strings(const struct string_part *a, const struct string_part *b)
{
    if (a->minimum != b->minimum || a->maximum != b->maximum || a->patterns.count != b->patterns.count)
        return 0;
    for (size_t i = 0; i < a->patterns.count; i++)
        if (a->patterns.items[i].automaton != b->patterns.items[i].automaton ||
            a->patterns.items[i].negated != b->patterns.items[i].negated)
            return 0;
    return 1;
}

/* Of strings limited by their lengths and by patterns only, each language is made once. */
static uint32_t lower_string(struct compiler *compiler, const struct string_part *string)
{
    int is_shared = !string->is_finite && string->excluded.count == 0;
    compiler_work(compiler, (10 + 5 * (uint64_t)string->patterns.count) * compiler->languages.count);
    for (size_t i = 0; is_shared && i < compiler->languages.count; i++)
        if (same_strings(compiler->languages.items[i].part, string))
            return compiler->languages.items[i].language;
    const struct automaton *automaton = string_automaton(compiler, &compiler->grammar->arena, string, 0);
    if (!automaton)
        return GRAMMAR_ENDLESS;
    uint32_t language = grammar_add_language(compiler, automaton, string->is_finite ? 0 : string->minimum,
                                             string->is_finite ? GRAMMAR_ENDLESS : string->maximum);
    if (is_shared && !compiler->error->code)
        LIST_ADD(compiler, compiler->languages, (struct cached_language){string, language});
    return language;
}

void cell_lower(struct compiler *compiler, const struct cell *cell, int tracked, struct alternative *alternative)
{
    *alternative = (struct alternative){.words = GRAMMAR_ENDLESS,
                                        .number = GRAMMAR_ENDLESS,
                                        .language = GRAMMAR_ENDLESS,
                                        .array = GRAMMAR_ENDLESS,
                                        .object = GRAMMAR_ENDLESS,
                                        .array_depth = GRAMMAR_NO_DEPTH,
                                        .object_depth = GRAMMAR_NO_DEPTH};
    alternative->words = lower_words(compiler, cell, tracked);
    if (cell->types & TYPE_NUMBER && !cell->number.is_finite)
        alternative->number = lower_number(compiler, &cell->number, tracked);
    if (cell->types & TYPE_STRING && (tracked || !cell->string.is_finite))
        alternative->language = lower_string(compiler, &cell->string);
    if (cell->types & TYPE_ARRAY && !tracked)
        alternative->array = array_lower(compiler, &cell->array);
    if (cell->types & TYPE_OBJECT && !tracked)
        alternative->object = object_lower(compiler, &cell->object);
}
