/* The two forms of a key store (keys.h), each a table of functions. */
#ifndef OPS_KEYS_INTERNAL_H
#define OPS_KEYS_INTERNAL_H

#include "ops/keys.h"

/* A growing list of keys while a store is read. */
struct key_list {
    struct key_entry *entries;
    size_t count, capacity;
};

int key_list_add(struct key_list *list, const struct key_entry *entry, bulla_error *error);

struct key_store_class {
    int (*read)(const char *path, struct key_list *list, bulla_error *error);
    int (*add)(const char *path, const struct key_entry *entry, bulla_error *error);
    int (*disable)(const char *path, const char *id, bulla_error *error);
};

extern const struct key_store_class key_store_lines, key_store_sqlite;

#endif
