/* From a specification to a grammar: what the parts of the compiler share. A schema is read in three steps:
 *
 * - Its nodes (every place that holds a schema) are found and named (grammar_schema_nodes.c).
 * - A node, or its negation, is written as cells (grammar_schema_cells.c and its neighbours): a value is accepted where
 *   one of the cells accepts it. A cell says which types are possible and, for each type, what a value of it must
 *   satisfy. And, or, not of schemas are operations on lists of cells.
 * - What a cell says of the values inside arrays and objects are expressions: conjunctions of nodes and negated nodes.
 *   Each expression that can be reached becomes a rule (grammar_schema_rules.c), so recursion is no obstacle.
 *
 * The compiler's error is kept: after the first one every function returns soon, with whatever it has. */
#ifndef EXEC_GRAMMAR_COMPILE_H
#define EXEC_GRAMMAR_COMPILE_H

#include "exec/grammar_internal.h"
#include "exec/grammar_number.h"

struct text {
    const char *bytes;
    size_t length;
};

/* A schema's place in the specification. */
struct node {
    const struct json *json;
    uint32_t parent;        /* GRAMMAR_ENDLESS: none */
    const char *key;        /* of the parent's member; NULL: the member's number is `index` */
    size_t key_length, index;
    struct text base;       /* the URI that references are relative to */
    struct cells *cells[2]; /* itself, and its negation, once known */
    uint8_t busy[2];
};

/* A name that references find: "base#anchor", or a base. */
struct anchor {
    struct text base, name;
    uint32_t node;
    int dynamic;
};

/* A conjunction of literals: node * 2, or node * 2 + 1 for its negation; ascending. */
struct expression {
    const uint32_t *literals;
    uint32_t count;
    uint32_t rule[2]; /* as it is; as an item that must differ from others. GRAMMAR_ENDLESS: none yet */
    struct cells *cells;
    uint8_t busy;
};
enum { EXPRESSION_TRUE, EXPRESSION_FALSE };

enum {
    TYPE_NULL = 1, TYPE_FALSE = 2, TYPE_TRUE = 4, TYPE_NUMBER = 8, TYPE_STRING = 16, TYPE_ARRAY = 32, TYPE_OBJECT = 64,
    TYPE_SCALAR = 31, TYPE_ANY = 127
};

/* Arrays in the compiler's arena, which only grow. */
#define LIST(type)      \
    struct {            \
        type *items;    \
        size_t count;   \
        size_t capacity;\
    }

/* Different texts, in the order in which they came. */
struct texts {
    struct text *items;
    size_t count, capacity;
    uint32_t *slots; /* of many texts: numbers + 1, by hash; a power of two */
    size_t slot_count;
};

struct number_word {
    struct decimal value;
    struct text text;
};
struct number_part {
    int integer, fractional, is_finite;
    LIST(struct number_limit) limits;
    LIST(struct number_multiple) multiples;
    LIST(struct number_word) words;
};

struct pattern_term {
    const struct automaton *automaton;
    int negated;
};
struct string_part {
    int is_finite;
    uint32_t minimum, maximum;
    LIST(struct pattern_term) patterns;
    struct texts words, excluded;
};

struct contains {
    uint32_t literal, from; /* items before `from` do not count */
    uint32_t minimum, maximum;
};
struct array_part {
    LIST(uint32_t) prefix; /* expressions */
    uint32_t rest;         /* of the items after them */
    uint32_t minimum, maximum;
    LIST(struct contains) contains;
    uint32_t unique; /* 0, or 1 + the node that says so */
};

/* A pattern of keys, as its least and its greatest reading. */
struct key_pattern {
    const struct automaton *lower, *upper;
};
struct properties {
    struct texts keys;
    LIST(uint32_t) expressions; /* of each key */
};
struct pattern_property {
    struct key_pattern pattern;
    uint32_t expression;
};
struct key_set {
    struct texts names;
    LIST(struct key_pattern) patterns;
};
struct additional { /* every member whose key is not in `except` */
    struct key_set except;
    uint32_t expression;
};
struct object_part {
    struct properties properties;
    LIST(struct pattern_property) patterns;
    LIST(struct additional) additional;
    LIST(uint32_t) names; /* expressions that every key satisfies */
    struct texts required;
    uint32_t minimum, maximum;
};

/* What in-place applicators have looked at. */
struct evaluated {
    int all_members, all_items;
    uint32_t prefix;
    struct key_set members;
    LIST(uint32_t) contains; /* literals: items that satisfy one of them are evaluated */
};

struct cell {
    unsigned types;
    struct number_part number;
    struct string_part string;
    struct array_part array;
    struct object_part object;
    struct evaluated evaluated;
};
struct cells {
    struct cell **items;
    size_t count, capacity;
};

struct cached_number {
    const struct number_part *part;
    int tracked;
    uint32_t automaton;
};
struct cached_language {
    const struct string_part *part;
    uint32_t language;
};
struct cached_pattern {
    struct text text;
    struct key_pattern automata; /* NULL where a reading was not asked for yet */
};

struct compiler {
    struct arena scratch;
    struct grammar *grammar;
    bulla_error *error;
    LIST(struct node) nodes;
    LIST(struct anchor) anchors;
    LIST(struct expression) expressions;
    LIST(uint32_t) pending; /* expression * 2 + tracked, in the order of their rules */
    LIST(struct cached_pattern) patterns;
    LIST(struct cached_number) numbers;
    LIST(struct cached_language) languages;
    LIST(uint32_t) roots; /* rules of whole schemas */
    uint32_t *node_slots, *expression_slots;
    size_t node_slot_count, expression_slot_count;
    uint32_t root_node, loose_value;
    size_t pending_done;
    int probing; /* looking ahead: what is busy is taken to be possible */
    int probe_failed;
    struct work work;
    size_t rule_capacity, automaton_capacity, language_capacity, array_capacity, object_capacity;
};

/* grammar_compile_lists.c */
void *compiler_alloc(struct compiler *compiler, size_t count, size_t size); /* until it is compiled */
void *grammar_alloc(struct compiler *compiler, size_t count, size_t size);  /* the grammar's own */
/* Room for one more; 0 after an error. */
int list_grow(struct compiler *compiler, void *list, size_t size);
#define LIST_ADD(compiler, list, ...)                                        \
    do {                                                                     \
        if (list_grow((compiler), &(list), sizeof *(list).items))            \
            (list).items[(list).count++] = __VA_ARGS__;                      \
    } while (0)
/* Takes from what the compilation may cost; 0 after an error. */
int compiler_work(struct compiler *compiler, uint64_t amount);
int text_is(const struct text *a, const char *bytes, size_t length);
struct code_points text_code_points(struct compiler *compiler, const struct text *text);
struct code_points bytes_code_points(struct compiler *compiler, const void *bytes, size_t length);
/* grammar_compile_texts.c: the text's number, GRAMMAR_ENDLESS where it is not there. */
uint32_t texts_find(struct compiler *compiler, const struct texts *texts, const struct text *text);
/* 0: it is there already, or there is an error. */
int texts_add(struct compiler *compiler, struct texts *texts, const struct text *text);
void texts_join(struct compiler *compiler, struct texts *texts, const struct texts *other);
/* The member `key` must satisfy this too. */
void property_add(struct compiler *compiler, struct object_part *object, const struct text *key, uint32_t expression);

/* Numbers in the grammar's tables. */
uint32_t grammar_add_rule(struct compiler *compiler, struct rule rule);
uint32_t grammar_add_automaton(struct compiler *compiler, const struct automaton *automaton);
uint32_t grammar_add_language(struct compiler *compiler, const struct automaton *automaton, uint32_t minimum,
                              uint32_t maximum);
uint32_t grammar_add_array(struct compiler *compiler, const struct items *items);
uint32_t grammar_add_object(struct compiler *compiler, const struct members *members);

/* grammar_schema_nodes.c: places, references, errors that name them. */
uint32_t node_add(struct compiler *compiler, const struct json *json, uint32_t parent, const char *key,
                  size_t key_length, size_t index);
/* The node of a member's schema (an object or a boolean; else an error). */
uint32_t node_member(struct compiler *compiler, uint32_t parent, const char *key, const struct json *json);
uint32_t node_nested(struct compiler *compiler, uint32_t parent, const char *key, const char *inner,
                     size_t inner_length, size_t index, const struct json *json);
int nodes_index(struct compiler *compiler, const struct json *schema);
/* What "$ref" or "$dynamicRef" leads to; GRAMMAR_ENDLESS after an error. */
uint32_t node_resolve(struct compiler *compiler, uint32_t node, const char *keyword, const struct json *reference);
/* Records BULLA_E_UNSUPPORTED (or `code`), naming the keyword and its place. */
void node_refuse(struct compiler *compiler, uint32_t node, const char *keyword, int code, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* grammar_schema_uri.c */
struct text uri_resolve(struct compiler *compiler, const struct text *base, const char *reference, size_t length);

/* grammar_schema_expressions.c */
uint32_t expression_of(struct compiler *compiler, uint32_t literal);
uint32_t expression_and(struct compiler *compiler, uint32_t a, uint32_t b);
/* The cells that satisfy all literals. */
const struct cells *expression_cells(struct compiler *compiler, uint32_t expression);
/* Whether it is certain, within `depth` levels, that nothing satisfies it. */
int expression_is_empty(struct compiler *compiler, uint32_t expression, int depth);

/* grammar_schema_cells.c */
struct cell *cell_new(struct compiler *compiler, unsigned types);
void cells_add(struct compiler *compiler, struct cells *cells, struct cell *cell);
void cells_join(struct compiler *compiler, struct cells *cells, const struct cells *other);
struct cells *cells_and(struct compiler *compiler, const struct cells *a, const struct cells *b);
struct cells *cells_universal(struct compiler *compiler);
/* Takes away types that nothing satisfies; 0 when none is left. */
int cell_is_possible(struct compiler *compiler, struct cell *cell, int depth);
/* What the cell says of the member `key`. */
uint32_t object_expression(struct compiler *compiler, const struct object_part *object, const struct text *key);

/* grammar_schema_read.c: keywords. */
const struct cells *node_cells(struct compiler *compiler, uint32_t literal);
/* grammar_schema_not.c */
struct cells *node_negate(struct compiler *compiler, uint32_t node);
/* grammar_schema_values.c: enum and const; a negation refuses what cannot be negated. */
struct cells *values_cells(struct compiler *compiler, uint32_t node, const struct json *const *values, size_t count,
                           int negated);
/* grammar_schema_keywords.c: what limits one type, without applicators, as one cell. */
struct cell *keywords_cell(struct compiler *compiler, uint32_t node);
uint32_t read_count_keyword(struct compiler *compiler, uint32_t node, const char *keyword, uint32_t otherwise);
int read_decimal(struct compiler *compiler, const struct json *number, struct decimal *value);
const struct json *read_keyword(struct compiler *compiler, uint32_t node, const char *keyword, enum json_type type);
unsigned read_types(struct compiler *compiler, uint32_t node, int *integer_only, int *with_integer);
/* The pattern's greatest reading, or its least; NULL after an error. */
const struct automaton *read_pattern(struct compiler *compiler, uint32_t node, const char *keyword, struct text text,
                                     int upper);
void number_limit_add(struct compiler *compiler, struct number_part *number, enum number_relation relation,
                      const struct json *value);
const char *format_pattern(const char *name);

/* grammar_schema_rules.c: the rule of an expression; the rules that are pending are written by rules_write. */
uint32_t rule_of(struct compiler *compiler, uint32_t expression, int tracked);
int rules_write(struct compiler *compiler);
/* grammar_schema_lower.c */
void cell_lower(struct compiler *compiler, const struct cell *cell, int tracked, struct alternative *alternative);
/* grammar_schema_lower_object.c */
uint32_t object_lower(struct compiler *compiler, const struct object_part *object);
/* grammar_schema_lower_array.c */
uint32_t array_lower(struct compiler *compiler, const struct array_part *array);
/* The texts that satisfy an expression, as code points; NULL after an error. */
const struct automaton *expression_texts(struct compiler *compiler, uint32_t expression);
/* The patterns of a string together; its length too where `with_length`. In `arena`. */
struct automaton *string_automaton(struct compiler *compiler, struct arena *arena, const struct string_part *string,
                                   int with_length);
/* grammar_depth.c: the least depth of every rule; members and items that cannot be completed are taken out. */
void grammar_find_depths(struct compiler *compiler);

/* grammar_schema.c: the rule of a schema. */
uint32_t schema_compile(struct compiler *compiler, const struct json *schema);
/* Any object, with free white space. */
uint32_t loose_rule(struct compiler *compiler);

#endif
