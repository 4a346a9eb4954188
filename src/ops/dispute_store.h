/* Where a referee keeps its log: numbered entries that are only ever appended, each durable before it counts. A SQLite file,
 * or a PostgreSQL database where the place is its connection string (postgresql://...). The state is not kept: it follows
 * from the entries (check/referee.h). */
#ifndef OPS_DISPUTE_STORE_H
#define OPS_DISPUTE_STORE_H

#include "base/buffer.h"

struct dispute_store {
    const struct dispute_store_class *class;
};

struct dispute_store_class {
    const char *name;
    int (*open)(const char *place, struct dispute_store **store, bulla_error *error);
    void (*close)(struct dispute_store *store);
    int (*append)(struct dispute_store *store, uint64_t number, int64_t time, const void *bytes, size_t length, bulla_error *error);
    int (*read)(struct dispute_store *store, uint64_t number, struct buffer *out, int *is_there, bulla_error *error);
};
extern const struct dispute_store_class dispute_store_sqlite;
extern const struct dispute_store_class dispute_store_postgres; /* fails to open where it was not built in */

int dispute_store_open(const char *place, struct dispute_store **store, bulla_error *error);
void dispute_store_close(struct dispute_store *store); /* NULL is fine */
/* Durable when this returns BULLA_OK. An entry of that number that is there already, by another process, is an error. */
int dispute_store_append(struct dispute_store *store, uint64_t number, int64_t time, const void *bytes, size_t length,
                         bulla_error *error);
/* Appends the entry to `out`. */
int dispute_store_read(struct dispute_store *store, uint64_t number, struct buffer *out, int *is_there, bulla_error *error);

#endif
