#include <sqlite3.h>
#include <string.h>

#include "base/memory.h"
#include "ops/dispute_store.h"

/* In the database's header, so that another program's is not taken for a referee's: "bulr". */
#define SCHEMA "CREATE TABLE IF NOT EXISTS entries (number INTEGER PRIMARY KEY, time INTEGER NOT NULL, bytes BLOB NOT NULL) STRICT;" \
               "PRAGMA application_id = 1651862642"

enum { BUSY_WAIT = 10000 };

struct store {
    struct dispute_store base;
    sqlite3 *database;
    sqlite3_stmt *append, *read;
    char *path;
};

static int fail(const struct store *store, int result, const char *what, bulla_error *error)
{
    const char *reason = store->database ? sqlite3_errmsg(store->database) : sqlite3_errstr(result);
    int code = (result & 0xFF) == SQLITE_NOMEM ? BULLA_E_MEMORY
               : (result & 0xFF) == SQLITE_CORRUPT || (result & 0xFF) == SQLITE_NOTADB ? BULLA_E_INPUT : BULLA_E_IO;
    return bulla_fail(error, code, "%s: the referee's store: cannot %s: %s", store->path, what, reason);
}

static void close_store(struct dispute_store *base)
{
    struct store *store = (struct store *)base;
    sqlite3_finalize(store->append);
    sqlite3_finalize(store->read);
    sqlite3_close(store->database);
    memory_free(store->path);
    memory_free(store);
}

static int prepare(struct store *store, bulla_error *error)
{
    int result = sqlite3_exec(store->database, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;" SCHEMA, NULL, NULL, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_prepare_v2(store->database, "INSERT INTO entries VALUES (?, ?, ?)", -1, &store->append, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_prepare_v2(store->database, "SELECT bytes FROM entries WHERE number = ?", -1, &store->read, NULL);
    return result == SQLITE_OK ? BULLA_OK : fail(store, result, "use it", error);
}

static int open_store(const char *place, struct dispute_store **result, bulla_error *error)
{
    struct store *store = memory_alloc(1, sizeof *store, error);
    if (!store)
        return BULLA_E_MEMORY;
    store->base.class = &dispute_store_sqlite;
    store->path = memory_copy_text(place, strlen(place), error);
    int code = BULLA_E_MEMORY;
    if (store->path) {
        int opened = sqlite3_open_v2(place, &store->database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_PRIVATECACHE, NULL);
        if (opened == SQLITE_OK)
            sqlite3_busy_timeout(store->database, BUSY_WAIT);
        code = opened == SQLITE_OK ? prepare(store, error) : fail(store, opened, "open it", error);
    }
    if (code == BULLA_OK)
        *result = &store->base;
    else
        close_store(&store->base);
    return code;
}

static int append(struct dispute_store *base, uint64_t number, int64_t time, const void *bytes, size_t length, bulla_error *error)
{
    struct store *store = (struct store *)base;
    sqlite3_bind_int64(store->append, 1, (sqlite3_int64)number);
    sqlite3_bind_int64(store->append, 2, time);
    int result = sqlite3_bind_blob64(store->append, 3, bytes, length, SQLITE_STATIC);
    if (result == SQLITE_OK)
        result = sqlite3_step(store->append);
    int code = result == SQLITE_DONE ? BULLA_OK : fail(store, result, "append to it", error);
    sqlite3_reset(store->append);
    sqlite3_clear_bindings(store->append);
    return code;
}

static int read_entry(struct dispute_store *base, uint64_t number, struct buffer *out, int *is_there, bulla_error *error)
{
    struct store *store = (struct store *)base;
    sqlite3_bind_int64(store->read, 1, (sqlite3_int64)number);
    int result = sqlite3_step(store->read);
    *is_there = result == SQLITE_ROW;
    int code = result == SQLITE_ROW || result == SQLITE_DONE ? BULLA_OK : fail(store, result, "read it", error);
    if (*is_there)
        buffer_append(out, sqlite3_column_blob(store->read, 0), (size_t)sqlite3_column_bytes(store->read, 0));
    sqlite3_reset(store->read);
    return code;
}

const struct dispute_store_class dispute_store_sqlite = {"SQLite", open_store, close_store, append, read_entry};
