/* Compiled grammars, shared by all answers that have the same specification: it is held once, and compiled once. The
 * last few that nobody uses any more are kept for who comes next. What all of them take is bounded. One thread. */
#ifndef EXEC_GRAMMAR_TABLE_H
#define EXEC_GRAMMAR_TABLE_H

#include "exec/grammar.h"

enum { GRAMMAR_TABLE_BUCKETS = 256 };

struct grammar_entry;

struct grammar_table {
    size_t most_bytes;  /* the caller's: of specifications and grammars together; 0: 512 MiB */
    size_t bytes;
    size_t unused_bytes, unused_count; /* of entries that nobody uses */
    struct grammar_entry *first_unused, *last_unused; /* the longest unused first */
    struct grammar_entry *buckets[GRAMMAR_TABLE_BUCKETS];
};

void grammar_table_free(struct grammar_table *table); /* with all entries, also those in use; a zeroed one is fine */

/* A use of the entry of that specification, which is copied where it is new; given back by grammar_table_give.
 * BULLA_E_MEMORY where the table would hold too much. */
int grammar_table_take(struct grammar_table *table, const char *specification, size_t length,
                       struct grammar_entry **entry, bulla_error *error);
void grammar_table_give(struct grammar_table *table, struct grammar_entry *entry); /* NULL is fine */
/* Its grammar, which lives as long as the use. Compiled now where it was not before; *work: what that cost, else 0 (of
 * GRAMMAR_MOST_WORK). BULLA_E_MEMORY where the table would hold too much. */
int grammar_table_compile(struct grammar_table *table, struct grammar_entry *entry, const struct grammar **grammar,
                          uint64_t *work, bulla_error *error);
int grammar_entry_is_compiled(const struct grammar_entry *entry);

#endif
