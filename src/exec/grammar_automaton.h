/* Finite automata over code points (or bytes, as code points below 256): what patterns, names, numbers and finite
 * sets of texts are compiled to. All memory is an arena's; every construction is bounded, takes what it costs from
 * `work`, and says BULLA_E_LIMIT where it would pass its bound. */
#ifndef EXEC_GRAMMAR_AUTOMATON_H
#define EXEC_GRAMMAR_AUTOMATON_H

#include <stddef.h>
#include <stdint.h>

#include "exec/grammar_work.h"

#define AUTOMATON_DEAD UINT32_MAX
enum {
    AUTOMATON_MAX_STATES = 1 << 17,
    AUTOMATON_MAX_COMPONENTS = 60,
    AUTOMATON_MANY = 65535,   /* completions: this many or more, perhaps without end */
    AUTOMATON_LAST_CODE_POINT = 0x10FFFF
};

/* Deterministic. Surrogates lead nowhere. From every state that a transition names, an accepting one can be reached. */
struct automaton {
    uint32_t states, classes, intervals;
    uint32_t start;                /* AUTOMATON_DEAD: nothing is accepted */
    const uint32_t *lows;          /* [intervals] the first code point of each interval, ascending from 0 */
    const uint16_t *interval_class; /* [intervals] */
    uint16_t ascii_class[128];
    uint32_t *next;                /* [states * classes] */
    uint8_t *accepts;              /* [states] */
    uint16_t *completions;         /* [states] texts that lead from here to acceptance, at most AUTOMATON_MANY */
    int is_free;                   /* every character may follow in every state, and then again without end */
    const uint64_t *outputs;       /* [states] of a product: which components accept; else NULL */
};

/* Which of a product's states accept: all of `all` accept, none of `none` do, and one of `any` does unless it is 0. */
struct automaton_condition {
    uint64_t all, none, any;
};

struct text_range {
    uint32_t low, high;
};

/* A text as code points. */
struct code_points {
    const uint32_t *items;
    size_t count;
};

uint32_t automaton_class_of(const struct automaton *automaton, uint32_t code_point);
uint32_t automaton_interval_of(const struct automaton *automaton, uint32_t code_point);

static inline uint32_t automaton_step(const struct automaton *automaton, uint32_t state, uint32_t code_point)
{
    uint32_t class = code_point < 128 ? automaton->ascii_class[code_point] : automaton_class_of(automaton, code_point);
    return automaton->next[(size_t)state * automaton->classes + class];
}

int automaton_accepts(const struct automaton *automaton, const uint32_t *code_points, size_t count);

/* Room for `states` states over the intervals that begin at `boundaries` (ascending, from 0; at most `count`), which
 * have the classes `classes` (0 .. class_count - 1; NULL: each its own). All transitions are dead at first. */
struct automaton *automaton_new(struct arena *arena, struct work *work, uint32_t states, const uint32_t *boundaries,
                                const uint16_t *classes, uint32_t count, uint32_t class_count, bulla_error *error);
void automaton_set_ascii(struct automaton *automaton); /* ascii_class, from the intervals */
/* Removes what leads nowhere and counts completions. To be called when transitions and acceptance are set. */
int automaton_finish(struct arena *arena, struct work *work, struct automaton *automaton, bulla_error *error);

/* Every text. */
struct automaton *automaton_universal(struct arena *arena, struct work *work, bulla_error *error);
/* Exactly these texts. */
struct automaton *automaton_from_words(struct arena *arena, struct work *work, const struct code_points *words,
                                       size_t count, bulla_error *error);
/* Texts of `minimum` to `maximum` code points (UINT32_MAX: without end). */
struct automaton *automaton_from_length(struct arena *arena, struct work *work, uint32_t minimum, uint32_t maximum,
                                        bulla_error *error);
/* All automata at once. `components` may accept nothing. */
struct automaton *automaton_product(struct arena *arena, struct work *work, const struct automaton *const *components,
                                    size_t count, struct automaton_condition condition, uint32_t most_states,
                                    bulla_error *error);
/* Accepts where the state's outputs, all of them, are in `wanted` (a product's automaton, finished again). */
int automaton_select(struct arena *arena, struct work *work, struct automaton *automaton,
                     int (*is_wanted)(const void *context, uint64_t outputs), const void *context, bulla_error *error);

/* A regular expression (ECMA-262, what grammar_pattern.c lists), searched in the text. Where ECMA-262 and Python's `re`
 * differ in what they match: `upper` 0 gives texts that both match, 1 those that either does. A construct that is not
 * supported is BULLA_E_UNSUPPORTED, naming it. */
struct automaton *automaton_from_pattern(struct arena *arena, struct work *work, const char *pattern, size_t length,
                                         int upper, bulla_error *error);

#endif
