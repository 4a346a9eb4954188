/* A grammar being run over bytes: sets of configurations, each a stack of frames of which the top one is held by value
 * and the rest are shared nodes. Everything is deterministic but the set; what cannot be completed is never in it. */
#ifndef EXEC_GRAMMAR_RUN_H
#define EXEC_GRAMMAR_RUN_H

#include "exec/grammar_internal.h"

enum frame_kind {
    FRAME_END,      /* nothing more */
    FRAME_VALUE,    /* a value begins: id = rule, a = blanks so far */
    FRAME_BYTES,    /* inside of an automaton of bytes: id = automaton, a = state */
    FRAME_STRING,   /* inside of a string: id = language, a = state, b = length, c = what is read of a character */
    FRAME_KEY,      /* the same of an undeclared key: id = automaton */
    FRAME_TEXT,     /* the same of free text, without quotes and escapes */
    FRAME_ARRAY,    /* id = array, a = state, d = blanks so far */
    FRAME_OBJECT,   /* id = object, a = first declared key still possible, b = members so far; c, d by phase */
    FRAME_LITERAL,  /* id = rule, a = bytes so far */
    FRAME_SEQUENCE, /* id = rule, a = the next child */
    FRAME_REPEAT    /* id = rule, a = times so far */
};

enum value_phase { VALUE_AT_ONCE, VALUE_AFTER_SPACE, VALUE_LOOSE };
enum array_phase { ARRAY_FIRST, ARRAY_AFTER };
enum object_phase {
    OBJECT_FIRST, OBJECT_AFTER, OBJECT_COMMA, /* d = blanks so far */
    OBJECT_NAME,  /* c = first and last + 1 of the names in order that begin so (16 bits each), d = bytes so far */
    OBJECT_KEY,   /* under a FRAME_KEY */
    OBJECT_COLON  /* d = the value's rule */
};

/* Zeroed before it is filled, so that frames can be compared as bytes. */
struct frame {
    uint8_t kind, phase;
    uint16_t depth; /* arrays and objects around it */
    uint32_t id, a, b, c, d;
    uint32_t content; /* characters so far of what must differ from others (a pair); 0: not followed */
    uint32_t used;    /* those others (a pair); 0: none */
};

struct config {
    struct frame frame;
    uint32_t parent; /* node + 1; 0: none */
};

/* Sets of configurations one after the other; the last one is being written. */
struct config_stack {
    struct config *items;
    size_t count, capacity;
    size_t level; /* where the last set begins */
};

struct run_node {
    struct config config;
    uint32_t next; /* of its bucket: node + 1 */
};
/* A text, as a character after a text; or a list of texts, as a text after a list. */
struct run_pair {
    uint32_t list, item, count, next;
};

struct run {
    const struct grammar *grammar;
    struct run_node *nodes;
    struct run_pair *pairs;
    uint32_t *node_buckets, *pair_buckets;
    size_t node_count, node_capacity, pair_count, pair_capacity;
    uint32_t resumed[256]; /* nodes resumed in this step already */
    size_t resumed_count;
    bulla_error error;
};

/* To be closed whether it succeeds or not. */
int run_open(struct run *run, const struct grammar *grammar, bulla_error *error);
void run_close(struct run *run);
/* Where nodes and pairs are now; going back forgets those made since. */
struct run_mark {
    size_t nodes, pairs;
};
struct run_mark run_mark(const struct run *run);
void run_rewind(struct run *run, struct run_mark mark);
/* Drops nodes and pairs that `configs` do not need, renumbering. */
int run_collect(struct run *run, struct config *configs, size_t count);

/* Begins a new set on `out`. */
void run_begin_set(struct run *run, struct config_stack *out);
/* The first set. */
void run_start(struct run *run, struct config_stack *out);
/* Adds what `config` becomes by `byte` to the last set of `out`. */
void run_step(struct run *run, const struct config *config, uint8_t byte, struct config_stack *out);

/* For grammar_run*.c. */
void run_add(struct run *run, struct config_stack *out, const struct config *config);
uint32_t run_push(struct run *run, const struct config *config); /* node + 1 */
uint32_t run_pair(struct run *run, uint32_t list, uint32_t item);
void run_resume(struct run *run, struct config_stack *out, uint32_t parent, uint32_t content);
enum { RUN_ROOT_STRING = 1, RUN_ROOT_BYTES = 2 }; /* empty texts */
#define RUN_USED UINT32_C(0x80000000)              /* of an item: it is a text, not a character */
uint32_t run_use(struct run *run, uint32_t used, uint32_t content);
int run_is_used(const struct run *run, uint32_t used, uint32_t content);
/* How many of the used are `content` and then a text of one or more characters, the first from `low` to `high`, or
 * (with `itself`) nothing, that leads `automaton` from `state` to acceptance. */
uint32_t run_count_used(const struct run *run, uint32_t used, uint32_t content, const struct automaton *automaton,
                        uint32_t state, uint32_t low, uint32_t high, int itself);
void run_step_characters(struct run *run, const struct config *config, uint8_t byte, struct config_stack *out);
void run_step_container(struct run *run, const struct config *config, uint8_t byte, struct config_stack *out);
void run_start_array(struct run *run, const struct config *value, uint32_t array, struct config_stack *out);
void run_start_object(struct run *run, const struct config *value, uint32_t object, struct config_stack *out);
/* A string's first character is to come; whether there is one that is not used. */
int run_start_characters(struct run *run, struct frame *frame);

#endif
