/* A store of keys as an SQLite database: many can change it at once, and it survives a kill or a loss of power at any
 * moment (write-ahead log, synchronous=FULL). */
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "ops/keys_internal.h"

/* Milliseconds for which a database that another process has locked is waited for. */
enum { BUSY_WAIT = 10000, WHERE = 600 };

static const char schema[] = "CREATE TABLE IF NOT EXISTS keys (id TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, "
                             "tenant TEXT NOT NULL, scope TEXT NOT NULL, priority INTEGER NOT NULL, "
                             "most_tokens INTEGER NOT NULL, created INTEGER NOT NULL, disabled INTEGER NOT NULL) STRICT";

static int fail(sqlite3 *database, int result, const char *path, const char *what, bulla_error *error)
{
    const char *reason = database ? sqlite3_errmsg(database) : sqlite3_errstr(result);
    switch (result & 0xFF) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return bulla_fail(error, BULLA_E_INPUT,
                          "%s: the database of keys is damaged (%s); put a copy back, or `bulla keys add` to a new one",
                          path, reason);
    case SQLITE_NOMEM:
        return bulla_fail(error, BULLA_E_MEMORY, "%s: memory is short", path);
    default:
        return bulla_fail(error, BULLA_E_IO, "%s: cannot %s: %s", path, what, reason);
    }
}

static int run_sql(sqlite3 *database, const char *path, const char *sql, bulla_error *error)
{
    int result = sqlite3_exec(database, sql, NULL, NULL, NULL);
    return result == SQLITE_OK ? BULLA_OK : fail(database, result, path, "use it", error);
}

/* `flags` of sqlite3_open_v2. *database is to be closed also after an error. */
static int open_database(const char *path, int flags, sqlite3 **database, bulla_error *error)
{
    int result = sqlite3_open_v2(path, database, flags | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_FULLMUTEX, NULL);
    if (result != SQLITE_OK)
        return fail(*database, result, path, "open it", error);
    sqlite3_busy_timeout(*database, BUSY_WAIT);
    if (flags & SQLITE_OPEN_READONLY)
        return BULLA_OK;
    int code = run_sql(*database, path, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL", error);
    return code == BULLA_OK ? run_sql(*database, path, schema, error) : code;
}

static int prepare(sqlite3 *database, const char *path, const char *sql, sqlite3_stmt **statement, bulla_error *error)
{
    int result = sqlite3_prepare_v2(database, sql, -1, statement, NULL);
    return result == SQLITE_OK ? BULLA_OK : fail(database, result, path, "read it", error);
}

/* --- Reading --- */

/* PRAGMA quick_check says "ok", or what is wrong. */
static int check_database(sqlite3 *database, const char *path, bulla_error *error)
{
    sqlite3_stmt *statement = NULL;
    int code = prepare(database, path, "PRAGMA quick_check(1)", &statement, error);
    if (code == BULLA_OK) {
        int result = sqlite3_step(statement);
        const char *says = result == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : NULL;
        if (result != SQLITE_ROW && result != SQLITE_DONE)
            code = fail(database, result, path, "check it", error);
        else if (!says || strcmp(says, "ok") != 0)
            code = bulla_fail(error, BULLA_E_INPUT,
                              "%s: the database of keys is damaged (%.200s); put a copy back, or `bulla keys add` to a "
                              "new one",
                              path, says ? says : "its check gives nothing");
    }
    sqlite3_finalize(statement);
    return code;
}

static int take_text(sqlite3_stmt *row, int column, const char *name, char *out, size_t capacity, const char *where,
                     bulla_error *error)
{
    const char *text = (const char *)sqlite3_column_text(row, column);
    size_t length = (size_t)sqlite3_column_bytes(row, column);
    if (!text || sqlite3_column_type(row, column) != SQLITE_TEXT || length >= capacity || strlen(text) != length)
        return bulla_fail(error, BULLA_E_INPUT, "%s: \"%s\" must be a text of at most %zu characters", where, name,
                          capacity - 1);
    memcpy(out, text, length + 1);
    return BULLA_OK;
}

/* A row of id, hash, tenant, scope, priority, most_tokens, created, disabled. */
static int read_row(sqlite3_stmt *row, const char *where, struct key_entry *entry, bulla_error *error)
{
    char scope[8];
    int code = take_text(row, 0, "id", entry->id, sizeof entry->id, where, error);
    if (code == BULLA_OK)
        code = take_text(row, 2, "tenant", entry->tenant, sizeof entry->tenant, where, error);
    if (code == BULLA_OK)
        code = take_text(row, 3, "scope", scope, sizeof scope, where, error);
    if (code != BULLA_OK)
        return code;
    const void *hash = sqlite3_column_blob(row, 1);
    if (!hash || sqlite3_column_bytes(row, 1) != KEY_BYTES)
        return bulla_fail(error, BULLA_E_INPUT, "%s: \"hash\" must be a blob of %d bytes", where, KEY_BYTES);
    memcpy(entry->hash, hash, KEY_BYTES);
    entry->is_admin = strcmp(scope, "admin") == 0;
    if (!entry->is_admin && strcmp(scope, "use") != 0)
        return bulla_fail(error, BULLA_E_INPUT, "%s: \"scope\" is \"%s\", expected \"use\" or \"admin\"", where, scope);
    sqlite3_int64 priority = sqlite3_column_int64(row, 4), tokens = sqlite3_column_int64(row, 5);
    entry->priority = priority < 0 || priority > KEY_MOST_PRIORITY ? -1 : (int)priority;
    entry->most_tokens = (uint64_t)tokens; /* a negative one is out of key_check's range */
    entry->created = sqlite3_column_int64(row, 6);
    entry->is_disabled = sqlite3_column_int64(row, 7) != 0;
    return key_check(entry, where, error);
}

static int read_rows(sqlite3 *database, const char *path, struct key_list *list, bulla_error *error)
{
    char where[WHERE];
    sqlite3_stmt *statement = NULL;
    int code = prepare(database, path,
                       "SELECT id, hash, tenant, scope, priority, most_tokens, created, disabled FROM keys ORDER BY rowid",
                       &statement, error);
    int result = SQLITE_DONE;
    while (code == BULLA_OK && (result = sqlite3_step(statement)) == SQLITE_ROW) {
        struct key_entry entry = {0};
        snprintf(where, sizeof where, "%.500s, key %zu", path, list->count + 1);
        code = read_row(statement, where, &entry, error);
        if (code == BULLA_OK)
            code = key_list_add(list, &entry, error);
    }
    if (code == BULLA_OK && result != SQLITE_DONE)
        code = fail(database, result, path, "read it", error);
    sqlite3_finalize(statement);
    return code;
}

static int sqlite_read(const char *path, struct key_list *list, bulla_error *error)
{
    sqlite3 *database = NULL;
    int code = open_database(path, SQLITE_OPEN_READONLY, &database, error);
    if (code == BULLA_OK)
        code = check_database(database, path, error);
    if (code == BULLA_OK)
        code = read_rows(database, path, list, error);
    sqlite3_close(database);
    return code;
}

/* --- Changing --- */

static int step_to_end(sqlite3 *database, sqlite3_stmt *statement, const char *path, bulla_error *error)
{
    int result = sqlite3_step(statement);
    return result == SQLITE_DONE ? BULLA_OK : fail(database, result, path, "write to it", error);
}

static int sqlite_add(const char *path, const struct key_entry *entry, bulla_error *error)
{
    sqlite3 *database = NULL;
    sqlite3_stmt *statement = NULL;
    int code = open_database(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &database, error);
    if (code == BULLA_OK)
        code = prepare(database, path, "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?)", &statement, error);
    if (code == BULLA_OK) {
        sqlite3_bind_text(statement, 1, entry->id, -1, SQLITE_STATIC);
        sqlite3_bind_blob(statement, 2, entry->hash, KEY_BYTES, SQLITE_STATIC);
        sqlite3_bind_text(statement, 3, entry->tenant, -1, SQLITE_STATIC);
        sqlite3_bind_text(statement, 4, entry->is_admin ? "admin" : "use", -1, SQLITE_STATIC);
        sqlite3_bind_int(statement, 5, entry->priority);
        sqlite3_bind_int64(statement, 6, (sqlite3_int64)entry->most_tokens);
        sqlite3_bind_int64(statement, 7, entry->created);
        sqlite3_bind_int(statement, 8, entry->is_disabled);
        code = step_to_end(database, statement, path, error);
    }
    sqlite3_finalize(statement);
    sqlite3_close(database);
    return code;
}

static int sqlite_disable(const char *path, const char *id, bulla_error *error)
{
    sqlite3 *database = NULL;
    sqlite3_stmt *statement = NULL;
    int code = open_database(path, SQLITE_OPEN_READWRITE, &database, error);
    if (code == BULLA_OK)
        code = prepare(database, path, "UPDATE keys SET disabled = 1 WHERE id = ?", &statement, error);
    if (code == BULLA_OK) {
        sqlite3_bind_text(statement, 1, id, -1, SQLITE_STATIC);
        code = step_to_end(database, statement, path, error);
    }
    if (code == BULLA_OK && sqlite3_changes(database) == 0)
        code = bulla_fail(error, BULLA_E_USAGE, "%s: there is no key with the id \"%s\"; `bulla keys list` shows them",
                          path, id);
    sqlite3_finalize(statement);
    sqlite3_close(database);
    return code;
}

const struct key_store_class key_store_sqlite = {.read = sqlite_read, .add = sqlite_add, .disable = sqlite_disable};
