/* A regular expression as a nondeterministic automaton, between its parser and what makes it deterministic. */
#ifndef EXEC_GRAMMAR_PATTERN_H
#define EXEC_GRAMMAR_PATTERN_H

#include "exec/grammar_automaton.h"

enum { PATTERN_NONE = -1 };
enum pattern_node_type { PATTERN_SPLIT, PATTERN_SET, PATTERN_BEGIN, PATTERN_END, PATTERN_MATCH };

struct pattern_node {
    enum pattern_node_type type;
    int first, second; /* where it leads; PATTERN_NONE */
    const struct text_range *ranges; /* PATTERN_SET, ascending */
    size_t count;
};

struct pattern {
    struct arena scratch;
    const char *text;
    size_t length, at;
    int upper, depth;
    struct pattern_node *nodes;
    int node_count, node_capacity;
    bulla_error *error;
};

/* The automaton that begins at the node `start`, in `arena`; NULL after an error. */
struct automaton *pattern_determinize(struct pattern *pattern, struct arena *arena, int start);

#endif
