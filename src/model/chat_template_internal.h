/* Inside the chat template interpreter (include/bulla/chat_template.h): what its
 * files share. Their order, each using only those above it:
 *
 *   chat_template_value      values, equality, order, what they contain
 *   chat_template_container  lists, generators, dicts, JSON, sorting
 *   chat_template_case       upper, lower and title case as Python has them
 *   chat_template_text       text: strip, split, find, slices
 *   chat_template_print      str(), repr(), tojson
 *   chat_template_format     str.format and the % operator
 *   chat_template_operator   + - * / // % ** ~ and comparisons
 *   chat_template_attribute  a.b, a[b], slices, loop attributes
 *   chat_template_method*    methods of strings, lists and dicts
 *   chat_template_filter*    filters
 *   chat_template_test       tests ("is")
 *   chat_template_function   raise_exception, namespace, range, ...
 *   chat_template_evaluate   expressions, calls, macros
 *   chat_template_execute    statements
 *   chat_template_lexer      source to tokens
 *   chat_template_parser, _primary, _expression, _statement   tokens to a tree
 *   chat_template            the public calls
 *
 * The language is Jinja 3.1 as Hugging Face transformers sets it up for chat
 * templates (ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks,
 * loopcontrols, a generation block), values are Python's. Everything that is
 * made while rendering lives in one arena with a limit, and every loop over
 * data spends steps: see the limits below.
 */
#ifndef CHAT_TEMPLATE_INTERNAL_H
#define CHAT_TEMPLATE_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/json.h"
#include "bulla/error.h"

enum {
    TEMPLATE_MAX_SOURCE = 1 << 20,         /* bytes of a template */
    TEMPLATE_MAX_NESTING = 200,            /* of expressions and blocks in the source */
    TEMPLATE_MAX_DEPTH = 2000,             /* nodes being evaluated at once: macros that call themselves */
    TEMPLATE_MAX_STEPS = 20 * 1000 * 1000, /* nodes evaluated, values copied, 64 bytes of text handled */
    TEMPLATE_MAX_MEMORY = 256 << 20,       /* bytes of values in one rendering */
    TEMPLATE_MAX_OUTPUT = 16 << 20,        /* bytes of text rendered */
    TEMPLATE_MAX_PARAMETERS = 64,          /* of a macro */
    TEMPLATE_MAX_RANGE = 100000            /* numbers in a range, as jinja2's sandbox */
};

/* ---- Values ---- */

enum value_type {
    VALUE_MISSING, /* no value: an argument that was not given */
    VALUE_UNDEFINED,
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INTEGER,
    VALUE_BIG, /* an integer of the variables beyond 64 bits: only printed, its digits in `text` */
    VALUE_FLOAT,
    VALUE_TEXT,
    VALUE_LIST,
    VALUE_TUPLE,
    VALUE_RANGE,
    VALUE_VIEW,     /* dict.keys(), .values(), .items(): `list`, named by `detail` */
    VALUE_ITERATOR, /* Python's generators: read once */
    VALUE_DICT,
    VALUE_NAMESPACE,
    VALUE_LOOP,
    VALUE_MACRO,
    VALUE_METHOD,
    VALUE_FUNCTION,
    VALUE_JOINER
};

/* VALUE_UNDEFINED: what `text` says. */
enum undefined_kind { UNDEFINED_NAME, UNDEFINED_ATTRIBUTE, UNDEFINED_UNSAFE, UNDEFINED_REASON };
/* VALUE_VIEW */
enum view_kind { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS };

struct text {
    const char *bytes; /* valid UTF-8, not NUL-terminated */
    size_t length;
    size_t characters;
};

struct value {
    uint8_t type;   /* enum value_type */
    uint8_t detail; /* VALUE_TEXT: 1 for markup (|safe); enum undefined_kind, enum view_kind */
    union {
        int64_t integer; /* VALUE_BOOL too */
        double real;
        const struct text *text;
        struct list *list;
        struct range *range;
        struct iterator *iterator;
        struct dict *dict; /* VALUE_NAMESPACE too */
        struct loop *loop;
        struct macro *macro;
        struct method *method;
        const struct builtin *function;
        struct joiner *joiner;
    };
};

struct list {
    struct value *items;
    size_t count;
    size_t capacity;
};

struct range {
    struct list list; /* first: a range is used as the list of its numbers */
    int64_t start, stop, step;
};

struct iterator {
    struct list list;
    size_t position;
    const char *failure; /* NULL, or why there are no more items: an error when they are asked for */
};

struct dict_entry {
    struct value key;
    struct value value;
    uint32_t hash;
};

struct dict {
    struct dict_entry *entries; /* in order of insertion */
    size_t count;
    size_t capacity;
    uint32_t *slots; /* open addressing over entry numbers + 1; NULL while there are few */
    size_t mask;
};

struct joiner {
    struct value separator;
    struct list items; /* cycler */
    size_t position;
    int is_cycler;
};

struct loop {
    struct list items; /* those that the loop's condition let through so far */
    size_t index;
    struct list source; /* all of them; position: how many were looked at */
    size_t position;
    const struct node *node;
    struct scope *scope; /* around the loop */
    int has_changed_value;
    struct value changed_value; /* of loop.changed() */
};

struct scope {
    int is_kept; /* a macro refers to it */
    struct scope *parent;
    struct variable {
        uint32_t name;
        struct value value;
    } *variables;
    uint32_t count;
    uint32_t capacity;
};

struct macro {
    const struct node *node; /* NODE_MACRO or NODE_CALL_BLOCK */
    struct scope *scope;     /* where it was defined */
};

struct method {
    struct value receiver;
    const struct builtin *function;
};

struct arguments {
    size_t count;
    struct value *values;
    size_t keyword_count;
    const struct text **keywords;
    struct value *keyword_values;
};

struct render;

/* A filter, test, method or global function. `self` is what it is applied to.
 * `slots` holds the arguments in the order of `parameters`, VALUE_MISSING where
 * not given; a BUILTIN_VARIADIC one reads `arguments` itself. Returns 1, or 0
 * with the error recorded. */
typedef int builtin_call(struct render *render, struct value self, const struct arguments *arguments,
                         const struct value *slots, struct value *result);

enum { BUILTIN_PARAMETERS = 5 };
enum builtin_flags {
    BUILTIN_VARIADIC = 1,
    BUILTIN_UNSAFE = 2,     /* changes its receiver: jinja2's sandbox refuses it when it is called */
    BUILTIN_UNSUPPORTED = 4, /* Python has it, this interpreter does not */
    BUILTIN_POSITIONAL = 8  /* takes no keyword arguments */
};

struct builtin {
    const char *name;
    builtin_call *call;
    uint8_t required;
    uint8_t flags;
    const char *parameters[BUILTIN_PARAMETERS];
};

/* ---- The tree ---- */

enum node_type {
    /* expressions */
    NODE_CONSTANT,
    NODE_NAME,      /* name */
    NODE_TUPLE,     /* children */
    NODE_LIST,      /* children */
    NODE_DICT,      /* children: key, value, key, value, ... */
    NODE_ATTRIBUTE, /* a, value: its name */
    NODE_ITEM,      /* a, b */
    NODE_SLICE,     /* a, children: start, stop, step, each maybe NULL */
    NODE_CALL,      /* a, call */
    NODE_FILTER,    /* a (NULL in a block), builtin, call */
    NODE_TEST,      /* a, builtin, call */
    NODE_CONDITION, /* a if b else c; c maybe NULL */
    NODE_OR,
    NODE_AND,
    NODE_NOT,
    NODE_COMPARE, /* children: operands; operators */
    NODE_BINARY,  /* a, b, operator */
    NODE_CONCAT,  /* children */
    NODE_NEGATIVE,
    NODE_POSITIVE,
    /* statements */
    NODE_DATA,       /* value */
    NODE_OUTPUT,     /* a */
    NODE_IF,         /* a, body, otherwise */
    NODE_FOR,        /* a: target, b: iterable, c: condition or NULL, body, otherwise */
    NODE_SET,        /* a: target, b: value */
    NODE_SET_BLOCK,  /* a: target, b: chain of filters or NULL, body */
    NODE_MACRO,      /* name, parameters, children: defaults, body */
    NODE_CALL_BLOCK, /* a: the call or NULL (generation), parameters, children: defaults, body */
    NODE_FILTER_BLOCK, /* b: chain of filters, body */
    NODE_WITH,       /* children: target, value, ...; body */
    NODE_BREAK,
    NODE_CONTINUE,
    /* targets beside NODE_NAME and NODE_TUPLE */
    NODE_NAMESPACE_ATTRIBUTE /* name, value: the attribute's name */
};

enum operator_type {
    OPERATOR_ADD,
    OPERATOR_SUBTRACT,
    OPERATOR_MULTIPLY,
    OPERATOR_DIVIDE,
    OPERATOR_FLOOR_DIVIDE,
    OPERATOR_MODULO,
    OPERATOR_POWER,
    OPERATOR_EQUAL,
    OPERATOR_UNEQUAL,
    OPERATOR_LESS,
    OPERATOR_LESS_EQUAL,
    OPERATOR_GREATER,
    OPERATOR_GREATER_EQUAL,
    OPERATOR_IN,
    OPERATOR_NOT_IN
};

struct node_list {
    struct node **nodes;
    size_t count;
    size_t capacity;
};

struct call {
    struct node_list values;
    struct node_list keyword_values;
    const struct text **keywords;
    struct node *spread;          /* *values, or NULL */
    struct node *spread_keywords; /* **values, or NULL */
};

struct node {
    enum node_type type;
    uint32_t line;
    uint32_t name; /* a name's number */
    uint8_t operator;
    uint8_t uses_varargs, uses_kwargs, uses_caller; /* NODE_MACRO, NODE_CALL_BLOCK */
    struct node *a, *b, *c;
    struct node_list children;
    struct value value;
    const struct builtin *builtin;
    struct call *call;
    uint8_t *operators;
    uint32_t *parameters;
    size_t parameter_count;
    struct node_list body;
    struct node_list otherwise;
};

/* Names that the interpreter itself gives a meaning: their numbers. */
enum { NAME_LOOP, NAME_CALLER, NAME_VARARGS, NAME_KWARGS, NAME_COUNT };

struct bulla_chat_template {
    struct arena arena;
    struct dict names; /* text to number */
    const struct text **name_texts;
    size_t name_capacity;
    struct node_list body;
};

/* ---- Rendering ---- */

struct render {
    const struct bulla_chat_template *chat_template; /* NULL while compiling */
    struct arena *arena;
    bulla_error *error;
    struct buffer out;
    struct value *globals; /* by name's number: a variable, a function or VALUE_MISSING */
    struct scope *scope;
    uint64_t steps; /* left */
    uint32_t depth;
    uint32_t line;
    long long now;
};

/* Records "chat template, line N: ..." and returns 0. */
int template_fail(struct render *render, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* bulla_chat_template_render with limits of one's own (for fuzzing). */
int template_render(const struct bulla_chat_template *chat_template, const char *variables, size_t variables_length,
                    long long now, uint64_t most_steps, size_t most_memory, char **text, size_t *length,
                    bulla_error *error);
/* Spends steps; 0 with the error recorded when there are none left. */
int template_spend(struct render *render, size_t steps);
/* One level deeper, for everything that can call itself; leave by render->depth--.
 * 0 with the error recorded when that is too deep. */
int template_enter(struct render *render);

/* ---- chat_template_value.c ---- */

struct value value_none(void);
struct value value_bool(int truth);
struct value value_integer(int64_t integer);
struct value value_float(double real);
struct value value_list(struct list *list);
struct value value_undefined(enum undefined_kind kind, const struct text *text);
/* Undefined with a reason: a static text. */
int value_undefined_reason(struct render *render, const char *reason, struct value *result);
/* Text of `length` bytes that stay valid as long as the arena; 0 on error. */
int value_text(struct render *render, const char *bytes, size_t length, struct value *result);
/* The same with the bytes copied. */
int value_text_copy(struct render *render, const char *bytes, size_t length, struct value *result);
/* Python's name of the type: "str", "NoneType", ... */
const char *value_type_name(struct value value);

/* ---- chat_template_container.c ---- */

int list_new(struct render *render, size_t capacity, struct list **list);
int list_append(struct render *render, struct list *list, struct value value);
int dict_new(struct render *render, struct dict **dict);
/* Equal values have equal hashes: 1, 1.0 and true too. 0 with a TypeError for lists and dicts. */
int value_hash(struct render *render, struct value value, uint32_t *hash);
/* Sets *value to the member, VALUE_MISSING where there is none; 0 on error (an unhashable key). */
int dict_get(struct render *render, const struct dict *dict, struct value key, struct value *value);
int dict_set(struct render *render, struct dict *dict, struct value key, struct value value);
int value_from_json(struct render *render, const struct json *json, struct value *result);
/* An iterator over `list`. */
int value_iterator(struct render *render, struct list *list, struct value *result);
/* A generator's items, computed at once though Python computes each when it is
 * asked for: where that failed (`done` 0) because of the values themselves, the
 * error is kept for whoever asks. `depth` is render->depth before. */
int value_generator(struct render *render, struct list *list, int done, uint32_t depth, struct value *result);
/* Sorts stably by keys (the same count of values); `reverse` as Python's sorted. */
int list_sort(struct render *render, struct list *values, const struct value *keys, int reverse);

/* ---- chat_template_value.c, again: questions ---- */

int value_truth(struct value value);
/* Whether the value is one of Python's numbers (bool too). */
int value_is_number(struct value value);
int value_is_integer(struct value value); /* VALUE_INTEGER or VALUE_BOOL */
double value_as_double(struct value value);
int value_equal(struct render *render, struct value left, struct value right, int *equal);
/* *order < 0, 0 or > 0; 2 where a NaN has no order. 0 with a TypeError where Python has none. */
int value_order(struct render *render, const char *operator, struct value left, struct value right, int *order);
/* The items that iterating gives; consumes an iterator. */
int value_iterate(struct render *render, struct value value, struct list *items);
int value_is_iterable(struct value value);
/* len(); -1 where Python has none. */
int64_t value_length(struct value value);
int value_contains(struct render *render, struct value container, struct value item, int *contains);
/* Fails because `value` is undefined, saying what. */
int value_fail_undefined(struct render *render, struct value value);

/* ---- chat_template_case.c and chat_template_text.c ---- */

enum text_case { TEXT_UPPER, TEXT_LOWER, TEXT_TITLE, TEXT_FOLD };
int text_is_space(uint32_t code_point); /* Python's str.isspace */
int text_is_alphabetic(uint32_t code_point);
int text_is_printable(uint32_t code_point);
int text_is_cased(uint32_t code_point);
int text_is_upper(uint32_t code_point);
int text_is_lower(uint32_t code_point);
int text_is_title(uint32_t code_point);
enum text_digit { TEXT_DECIMAL, TEXT_DIGIT, TEXT_NUMERIC };
int text_is_digit(uint32_t code_point, enum text_digit kind);
/* Appends the mapping of the character at `at` of `text`. */
void text_append_case(struct buffer *out, const struct text *text, size_t at, enum text_case mapping);
int text_change_case(struct render *render, const struct text *text, enum text_case mapping, struct value *result);
int text_capitalize(struct render *render, const struct text *text, struct value *result);
int text_title(struct render *render, const struct text *text, struct value *result);

uint32_t text_character(const struct text *text, size_t at, size_t *size); /* at a byte offset below length */
size_t text_previous(const struct text *text, size_t at);                  /* start of the character before `at` */
int text_equals(const struct text *text, const char *other);
/* Byte offset of `part` in text from `from` on; SIZE_MAX when it is not there. */
size_t text_find(const struct text *text, const struct text *part, size_t from);
/* The last one that ends at or before byte `end`; 0 on error (no steps left). */
int text_find_last(struct render *render, const struct text *text, const struct text *part, size_t end, size_t *at);
/* Byte offset of character number `index` (0..characters). */
size_t text_offset(const struct text *text, size_t index);
int text_part(struct render *render, const struct text *text, size_t start, size_t end, int markup,
              struct value *result);
enum { STRIP_LEFT = 1, STRIP_RIGHT = 2 };
/* Without `characters` (NULL) white space. */
int text_strip(struct render *render, struct value text, const struct text *characters, int sides,
               struct value *result);
int text_split(struct render *render, struct value text, const struct text *separator, int64_t most, int from_right,
               struct value *result);
int text_split_lines(struct render *render, struct value text, int keep_ends, struct value *result);
int text_replace(struct render *render, const struct text *text, const struct text *old, const struct text *new,
                 int64_t most, struct value *result);
/* & < > ' " as markupsafe escapes them. */
int text_escape(struct render *render, const struct text *text, struct value *result);
/* The contents of a temporary buffer as a text; frees the buffer. */
int text_from_buffer(struct render *render, struct buffer *buffer, struct value *result);

/* ---- chat_template_print.c ---- */

int value_print(struct render *render, struct buffer *out, struct value value);          /* str() */
int value_print_repr(struct render *render, struct buffer *out, struct value value);     /* repr() */
int value_to_text(struct render *render, struct value value, struct value *result);      /* str() as a value */
void print_float(struct buffer *out, double value);
struct json_style {
    int ascii, sort_keys;
    const struct text *indent; /* or NULL */
    struct text item_separator, key_separator;
};
int value_print_json(struct render *render, struct buffer *out, struct value value, const struct json_style *style,
                     unsigned level);

/* ---- chat_template_format.c ---- */

int format_percent(struct render *render, struct value format, struct value arguments, struct value *result);
int format_braces(struct render *render, struct value format, const struct arguments *arguments,
                  struct value *result);

/* ---- chat_template_operator.c ---- */

int operator_apply(struct render *render, enum operator_type operator, struct value left, struct value right,
                   struct value *result);
int operator_compare(struct render *render, enum operator_type operator, struct value left, struct value right,
                     int *truth);
int operator_negate(struct render *render, struct value value, struct value *result);
/* int() and float() of a text; 0 when it is none (no error recorded). */
int number_from_text(const struct text *text, int base, struct value *result);
int float_from_text(const struct text *text, double *result);

/* ---- chat_template_attribute.c ---- */

int value_attribute(struct render *render, struct value object, const struct text *name, struct value *result);
/* getattr() alone, without items: the filter attr. */
int value_only_attribute(struct render *render, struct value object, const struct text *name, struct value *result);
int value_item(struct render *render, struct value object, struct value key, struct value *result);
int value_slice(struct render *render, struct value object, const struct value bounds[3], struct value *result);
/* "a.b.0" as filters take it; the default where it is undefined and one is given. */
int value_path(struct render *render, struct value object, struct value path, struct value otherwise,
               struct value *result);
/* Whether `name` is an attribute that some kind of value has. */
int attribute_is_known(const struct text *name);

/* ---- tables ---- */

extern const struct builtin text_methods[], list_methods[], tuple_methods[], dict_methods[], loop_methods[];
extern const struct builtin joiner_call, cycler_next;
extern const struct builtin text_filters[], sequence_filters[], choice_filters[];
extern const struct builtin test_table[], function_table[];
/* In a table that ends with a NULL name; NULL when it is not there. */
const struct builtin *builtin_find(const struct builtin *table, const char *name, size_t length);
const struct builtin *filter_find(const struct text *name);
const struct builtin *test_find(const struct text *name);
/* Binds arguments to parameters and calls. */
int builtin_invoke(struct render *render, const struct builtin *builtin, struct value self,
                   const struct arguments *arguments, struct value *result);
int dict_builtin(struct render *render, struct value self, const struct arguments *arguments,
                 const struct value *slots, struct value *result);

/* Reading a slot; the default where it is missing. 0 with the error recorded for another type. */
int slot_integer(struct render *render, struct value slot, int64_t otherwise,
                 int64_t *integer);

/* ---- chat_template_evaluate.c, chat_template_execute.c ---- */

int evaluate(struct render *render, const struct node *node, struct value *result);
int evaluate_arguments(struct render *render, const struct call *call, struct arguments *arguments);
int evaluate_filters(struct render *render, const struct node *node, struct value input, struct value *result);
int value_call(struct render *render, struct value callee, const struct arguments *arguments, struct value *result);
int scope_set(struct render *render, struct scope *scope, uint32_t name, struct value value);
int scope_push(struct render *render, struct scope *parent);
enum flow { FLOW_FAILED, FLOW_NORMAL, FLOW_BREAK, FLOW_CONTINUE };
enum flow execute_body(struct render *render, const struct node_list *body);
/* Looks at the loop's source until `count` items are let through, or none are left. */
int loop_pull(struct render *render, struct loop *loop, size_t count);
/* Runs a body in render->scope and gives its text instead of writing it. */
int execute_captured(struct render *render, const struct node_list *body, struct value *result);
int macro_call(struct render *render, const struct macro *macro, const struct arguments *arguments,
               struct value *result);

/* ---- chat_template_lexer.c ---- */

enum token_type {
    TOKEN_END,
    TOKEN_DATA,
    TOKEN_OUTPUT_BEGIN,
    TOKEN_OUTPUT_END,
    TOKEN_BLOCK_BEGIN,
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_STRING,
    TOKEN_INTEGER,
    TOKEN_FLOAT,
    TOKEN_OPERATOR
};

struct token {
    enum token_type type;
    uint32_t line;
    const char *start; /* TOKEN_DATA, TOKEN_NAME, TOKEN_OPERATOR: as written */
    size_t length;
    struct value value; /* TOKEN_STRING, TOKEN_INTEGER, TOKEN_FLOAT, TOKEN_DATA */
};

struct token_list {
    struct token *tokens;
    size_t count;
    size_t capacity;
};

/* Tokens of normalised source, ending with TOKEN_END; memory_free the tokens. */
int template_tokenize(struct render *render, const char *source, size_t length, struct token_list *tokens);

/* ---- chat_template_expression.c, chat_template_statement.c ---- */

struct mention {
    const struct text *name;
    uint32_t line;
    uint32_t number;
};

struct mention_list {
    struct mention *mentions;
    size_t count;
    size_t capacity;
};

struct template_parser {
    struct render *render; /* arena, error, line */
    struct bulla_chat_template *chat_template;
    struct token_list tokens;
    size_t at;
    int nesting;
    int loops; /* open for loops, for break and continue */
    struct node *macro; /* the innermost open macro, or NULL */
    struct dict assigned;   /* names that the template gives a value, or asks whether they have one */
    struct dict attributes; /* keys and attributes that the template itself makes */
    struct mention_list called;         /* functions called by name */
    struct mention_list called_methods; /* x.method() */
};

const struct token *parser_token(const struct template_parser *parser);
const struct token *parser_next(const struct template_parser *parser); /* the one after it */
void parser_advance(struct template_parser *parser);
int parser_at_operator(const struct template_parser *parser, const char *operator);
int parser_at_name(const struct template_parser *parser, const char *name);
int parser_skip_operator(struct template_parser *parser, const char *operator);
int parser_skip_name(struct template_parser *parser, const char *name);
int parser_expect_operator(struct template_parser *parser, const char *operator);
void *parser_fail_unexpected(struct template_parser *parser, const char *expected);
struct node *parser_node(struct template_parser *parser, enum node_type type);
int parser_append(struct template_parser *parser, struct node_list *list, struct node *node);
/* The number of the name at the parser, which it steps over; 0 on error. */
int parser_name(struct template_parser *parser, uint32_t *number);
int parser_assigns(struct template_parser *parser, struct dict *set, const struct text *name);
int parser_text(struct template_parser *parser, struct value *text); /* the token's, copied */
/* Remembers a call, to be checked when the whole template is known. */
int parser_remember(struct template_parser *parser, struct mention_list *list, struct mention mention);
int parser_enter(struct template_parser *parser); /* one level deeper; leave by parser->nesting-- */
int token_is(const struct token *token, enum token_type type, const char *text);

struct node *parse_primary(struct template_parser *parser, int with_namespace);
struct node *parse_postfix(struct template_parser *parser, struct node *node);
struct node *parse_call(struct template_parser *parser, struct node *callee);
struct call *parse_arguments(struct template_parser *parser);
struct node *parse_filter_expression(struct template_parser *parser, struct node *node);
struct node *parse_tuple(struct template_parser *parser, int with_condition, const char *end_name,
                         int in_parentheses, int simple, int with_namespace);

struct node *parse_expression(struct template_parser *parser);
struct node *parse_expression_or_tuple(struct template_parser *parser, int with_condition, const char *end_name);
struct node *parse_target(struct template_parser *parser, const char *end_name, int with_namespace);
/* |filter|filter(...) ; `first_inline`: the first without its bar. NULL with no error where there is none. */
struct node *parse_filters(struct template_parser *parser, struct node *input, int first_inline);
/* The whole template into chat_template->body. */
int parse_template(struct template_parser *parser);

#endif
