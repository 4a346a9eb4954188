#include "ops/dispute_store.h"

#include <string.h>

int dispute_store_open(const char *place, struct dispute_store **store, bulla_error *error)
{
    int is_postgres = strncmp(place, "postgresql://", 13) == 0 || strncmp(place, "postgres://", 11) == 0;
    *store = NULL;
    return (is_postgres ? dispute_store_postgres : dispute_store_sqlite).open(place, store, error);
}

void dispute_store_close(struct dispute_store *store)
{
    if (store)
        store->class->close(store);
}

int dispute_store_append(struct dispute_store *store, uint64_t number, int64_t time, const void *bytes, size_t length,
                         bulla_error *error)
{
    return store->class->append(store, number, time, bytes, length, error);
}

int dispute_store_read(struct dispute_store *store, uint64_t number, struct buffer *out, int *is_there, bulla_error *error)
{
    int code = store->class->read(store, number, out, is_there, error);
    return code == BULLA_OK && out->error.code != BULLA_OK ? bulla_fail(error, out->error.code, "%s", out->error.text) : code;
}
