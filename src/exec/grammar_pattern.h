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

/* A set of code points that stands in the expression. */
struct text_set {
    const struct text_range *ranges; /* ascending, with something between each two */
    size_t count;
};

struct pattern {
    struct arena scratch;
    struct work *work;
    const char *text;
    size_t length, at;
    int upper, depth;
    struct pattern_node *nodes;
    int node_count, node_capacity;
    struct text_set *sets;
    int set_count, set_capacity;
    bulla_error *error;
};

void *pattern_alloc(struct pattern *pattern, size_t count, size_t size);
/* Takes work; 0 after an error. */
int pattern_work(struct pattern *pattern, uint64_t amount);
/* The automaton that begins at the node `start`, in `arena`; NULL after an error. */
struct automaton *pattern_determinize(struct pattern *pattern, struct arena *arena, int start);

#endif
