/* A compiled grammar, as grammar_schema*.c and grammar_specification.c make it and grammar_step.c runs it.
 *
 * Rules say what a place of the text may hold; a rule for a JSON value is a list of alternatives. Every alternative
 * that is kept can be completed, and knows how deep arrays and objects must be nested for that: a run never starts what
 * it could not end. */
#ifndef EXEC_GRAMMAR_INTERNAL_H
#define EXEC_GRAMMAR_INTERNAL_H

#include "base/json.h"
#include "exec/grammar.h"
#include "exec/grammar_automaton.h"

enum {
    GRAMMAR_MAX_SPECIFICATION = 1 << 20, /* bytes */
    GRAMMAR_MAX_RULES = 1 << 15,
    GRAMMAR_MAX_DEPTH = 64,         /* arrays and objects inside one another */
    GRAMMAR_MAX_LOOSE_DEPTH = 32,   /* the same for {"object": true} */
    GRAMMAR_MAX_BLANKS = 20,        /* in a row, where white space is free */
    GRAMMAR_MAX_OTHERS = 1024,      /* undeclared keys of one object; different items of one array */
    GRAMMAR_MAX_ITEMS = 65535,
    GRAMMAR_MAX_COMPILE_BYTES = 192 << 20,
    GRAMMAR_MAX_BYTES = 96 << 20,
    GRAMMAR_MAX_TOKEN_BYTES = 256   /* longer tokens are never allowed */
};
#define GRAMMAR_ENDLESS UINT32_MAX
#define GRAMMAR_NO_DEPTH UINT8_MAX /* cannot be completed */

/* Texts of an automaton with a length in code points. */
struct text_language {
    const struct automaton *automaton;
    uint32_t minimum, maximum; /* GRAMMAR_ENDLESS: none */
    uint32_t levels;           /* rows of `completions`: lengths that are told apart */
    const uint16_t *completions; /* [levels * states]; NULL: the automaton accepts every text */
};

struct item_edge {
    uint32_t rule, target;
};

/* An array: a state for each count of items that is told apart. */
struct items {
    uint32_t states;
    const uint32_t *first_edge; /* [states + 1] */
    const struct item_edge *edges;
    const uint8_t *accepts;
    uint8_t *depths; /* [states] the least depth of what must still come */
    const uint16_t *indexes; /* [states] how many items there are; NULL unless `unique` */
    int unique, loose;
};

struct member {
    const uint8_t *text; /* with its quotes */
    uint32_t length, rule;
    uint8_t required;
};

struct members {
    struct member *list; /* in the order in which they are written */
    uint32_t count;
    const uint32_t *order;          /* [count] numbers of `list`, by their texts */
    const uint32_t *required_after; /* [count + 1] required ones from here on */
    uint8_t *depth_after;           /* [count + 1] the depth that those need */
    uint32_t minimum, maximum;
    uint32_t others;                /* automaton of all other keys; GRAMMAR_ENDLESS: there are none */
    const uint32_t *other_rules;    /* [states of it] */
    uint8_t others_depth;
    int loose;
};

/* One way to write a value; numbers in the grammar's tables, GRAMMAR_ENDLESS where there is none. */
struct alternative {
    uint32_t words;    /* automaton of bytes: null, true, false, listed numbers and strings */
    uint32_t number;   /* automaton of bytes */
    uint32_t language; /* of a string's characters */
    uint32_t array, object;
    uint8_t array_depth, object_depth; /* of the whole, at least 1; GRAMMAR_NO_DEPTH */
};

enum rule_kind { RULE_VALUE, RULE_LITERAL, RULE_SEQUENCE, RULE_CHOICE, RULE_REPEAT, RULE_TEXT };

struct rule {
    enum rule_kind kind;
    uint8_t depth; /* RULE_VALUE */
    uint8_t tracked; /* RULE_VALUE: an item that must differ from those before it */
    uint8_t loose;   /* RULE_VALUE: with free white space before it */
    uint32_t count;
    const struct alternative *alternatives; /* RULE_VALUE [count] */
    const uint32_t *children;               /* RULE_SEQUENCE, RULE_CHOICE [count]; RULE_REPEAT: one */
    const uint8_t *bytes;                   /* RULE_LITERAL [count] */
    uint32_t minimum, maximum;              /* RULE_REPEAT */
    uint32_t language;                      /* RULE_TEXT */
};

struct grammar {
    struct arena arena;
    struct rule *rules;
    const struct automaton **automata;
    const struct text_language **languages;
    const struct items **arrays;
    const struct members **objects;
    uint32_t rule_count, automaton_count, language_count, array_count, object_count;
    uint32_t root;
};

/* The texts that lead from `state` after `length` code points to acceptance, at most AUTOMATON_MANY. */
static inline uint32_t text_language_completions(const struct text_language *language, uint32_t state, uint32_t length)
{
    if (!language->completions) {
        if (language->maximum == GRAMMAR_ENDLESS || length < language->maximum)
            return AUTOMATON_MANY;
        return length == language->maximum;
    }
    if (language->maximum != GRAMMAR_ENDLESS && length > language->maximum)
        return 0;
    uint32_t level = length < language->levels ? length : language->levels - 1;
    return language->completions[(size_t)level * language->automaton->states + state];
}

/* The depth that an item by this edge, and what must come after it, needs; GRAMMAR_NO_DEPTH where it cannot be: the
 * items before it may be all that it could differ from. */
uint8_t items_edge_depth(const struct grammar *grammar, const struct items *items, uint32_t state,
                         const struct item_edge *edge);

/* Whether an object with `count` members written, all declared ones before `position` decided, can be completed
 * within `depth`; `others` undeclared ones are written. */
int members_can_finish(const struct grammar *grammar, const struct members *members, uint32_t position, uint32_t count,
                       uint32_t others, uint32_t depth);

#endif
