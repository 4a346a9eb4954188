/* From names to indices: an open-addressed hash table over names that stay
 * where they are. Looking a name up takes a bounded number of steps even where
 * the names were chosen to collide. Zero-initialise; name_table_free ends it. */
#ifndef MODEL_NAME_TABLE_H
#define MODEL_NAME_TABLE_H

#include <stddef.h>

#include "bulla/error.h"

struct name_table {
    struct name_slot *slots;
    size_t capacity; /* a power of two, at most half full; 0 while empty */
    size_t count;
};

/* Adds a name that is not there yet (look first). BULLA_E_LIMIT when more names
 * than chance allows want the same place. */
int name_table_add(struct name_table *table, const char *name, size_t length, size_t index, bulla_error *error);
/* 1 with the name's index, or 0. */
int name_table_find(const struct name_table *table, const char *name, size_t length, size_t *index);
void name_table_free(struct name_table *table);

#endif
