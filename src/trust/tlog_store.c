/* The log's database. The receipts and the tree are in it twice: as rows, and as the tiles' hashes, which the rows give. */
#include <inttypes.h>
#include <sqlite3.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "base/memory.h"
#include "trust/tlog_internal.h"

/* In the database's header, so that another program's is not taken for a log: "bult". */
#define APPLICATION 1651862644
#define VERSION 1
#define QUOTED(number) #number
#define TEXT_OF(number) QUOTED(number)

enum { BUSY_TRIES = 20000, BUSY_NANOSECONDS = 1500000 /* half a minute in all */ };

static const char schema[] =
    "CREATE TABLE log (one INTEGER PRIMARY KEY CHECK (one = 1), origin TEXT NOT NULL, key BLOB NOT NULL, "
    "size INTEGER NOT NULL, root BLOB NOT NULL, checkpoint TEXT NOT NULL, published INTEGER NOT NULL) STRICT;"
    "CREATE TABLE receipts (position INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, hash BLOB NOT NULL, "
    "body BLOB NOT NULL) STRICT;"
    "CREATE TABLE tiles (level INTEGER NOT NULL, position INTEGER NOT NULL, hashes BLOB NOT NULL, "
    "PRIMARY KEY (level, position)) STRICT, WITHOUT ROWID;"
    "PRAGMA application_id = " TEXT_OF(APPLICATION) "; PRAGMA user_version = " TEXT_OF(VERSION);

enum statement {
    READ_STATE, WRITE_STATE, CREATE_STATE, SET_PUBLISHED, READ_TILE, WRITE_TILE, INSERT, FIND, EACH, EACH_BODY, COUNT,
    STATEMENTS
};

static const char *const texts[STATEMENTS] = {
    [READ_STATE] = "SELECT origin, key, size, root, checkpoint, published FROM log",
    [WRITE_STATE] = "UPDATE log SET size = ?, root = ?, checkpoint = ?",
    [CREATE_STATE] = "INSERT INTO log VALUES (1, ?, ?, 0, ?, ?, 0)",
    [SET_PUBLISHED] = "UPDATE log SET published = ?",
    [READ_TILE] = "SELECT hashes FROM tiles WHERE level = ? AND position = ?",
    [WRITE_TILE] = "INSERT OR REPLACE INTO tiles VALUES (?, ?, ?)",
    [INSERT] = "INSERT INTO receipts VALUES (?, ?, ?, ?)",
    [FIND] = "SELECT position, id, hash, body FROM receipts WHERE id = ?",
    [EACH] = "SELECT position, id, hash FROM receipts WHERE position >= ? ORDER BY position LIMIT ?",
    [EACH_BODY] = "SELECT position, id, hash, body FROM receipts WHERE position >= ? ORDER BY position LIMIT ?",
    [COUNT] = "SELECT COALESCE(MAX(position) + 1, 0) FROM receipts"};

struct tlog_store {
    sqlite3 *database;
    char *path;
    sqlite3_stmt *statements[STATEMENTS];
};

static int fail(const struct tlog_store *store, int result, const char *what, bulla_error *error)
{
    const char *reason = store->database ? sqlite3_errmsg(store->database) : sqlite3_errstr(result);
    switch (result & 0xFF) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return bulla_fail(error, BULLA_E_INPUT,
                          "%s: the log's database is damaged (%s); put back a copy that has all its receipts: one that "
                          "has fewer would fork the log", store->path, reason);
    case SQLITE_NOMEM:
        return bulla_fail(error, BULLA_E_MEMORY, "%s: memory is short", store->path);
    case SQLITE_FULL:
        return bulla_fail(error, BULLA_E_IO, "%s: cannot %s: the disk is full", store->path, what);
    case SQLITE_BUSY:
        return bulla_fail(error, BULLA_E_IO, "%s: cannot %s: another process has held it for half a minute", store->path, what);
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return bulla_fail(error, BULLA_E_IO, "%s: cannot %s: it may not be written here (%s)", store->path, what, reason);
    default:
        return bulla_fail(error, BULLA_E_IO, "%s: cannot %s: %s", store->path, what, reason);
    }
}

static int fail_content(const struct tlog_store *store, const char *what, bulla_error *error)
{
    return bulla_fail(error, BULLA_E_INPUT, "%s: the log's database is damaged: %s", store->path, what);
}

static int run_sql(struct tlog_store *store, const char *sql, const char *what, bulla_error *error)
{
    int result = sqlite3_exec(store->database, sql, NULL, NULL, NULL);
    return result == SQLITE_OK ? BULLA_OK : fail(store, result, what, error);
}

/* ---- Opening ---- */

/* Short waits: SQLite's own grow to a tenth of a second, in which another process would take many turns. */
static int wait_busy(void *context, int tries)
{
    const struct timespec pause = {.tv_nsec = BUSY_NANOSECONDS};
    (void)context;
    nanosleep(&pause, NULL);
    return tries < BUSY_TRIES;
}

/* Where a file system cannot have a write-ahead log SQLite goes on without one, and durable would mean something else. */
static int check_journal(struct tlog_store *store, bulla_error *error)
{
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(store->database, "PRAGMA journal_mode", -1, &statement, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    const char *mode = result == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    int code = result != SQLITE_ROW ? fail(store, result, "use it", error)
               : !mode || strcmp(mode, "wal") != 0
                   ? bulla_fail(error, BULLA_E_IO, "%s: its file system cannot have SQLite's write-ahead log", store->path)
                   : BULLA_OK;
    sqlite3_finalize(statement);
    return code;
}

static int open_database(struct tlog_store *store, enum tlog_access access, bulla_error *error)
{
    int flags = access == TLOG_READ ? SQLITE_OPEN_READONLY
                                    : SQLITE_OPEN_READWRITE | (access == TLOG_CREATE ? SQLITE_OPEN_CREATE : 0);
    int result = sqlite3_open_v2(store->path, &store->database, flags | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_FULLMUTEX, NULL);
    if (result != SQLITE_OK)
        return fail(store, result, "open it", error);
    sqlite3_extended_result_codes(store->database, 1);
    sqlite3_busy_handler(store->database, wait_busy, NULL);
    if (access == TLOG_READ)
        return BULLA_OK;
    int code = run_sql(store, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 16777216",
                       "use it", error);
    return code == BULLA_OK ? check_journal(store, error) : code;
}

int tlog_store_open(const char *folder, enum tlog_access access, struct tlog_store **store, bulla_error *error)
{
    struct tlog_store *made = memory_alloc(1, sizeof *made, error);
    *store = NULL;
    if (!made)
        return BULLA_E_MEMORY;
    made->path = tlog_path(folder, "log.db", error);
    int code = made->path ? open_database(made, access, error) : BULLA_E_MEMORY;
    if (code == BULLA_OK)
        *store = made;
    else
        tlog_store_close(made);
    return code;
}

void tlog_store_close(struct tlog_store *store)
{
    if (!store)
        return;
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(store->statements[i]);
    sqlite3_close(store->database);
    memory_free(store->path);
    memory_free(store);
}

/* A number that a statement outside the table gives. */
static int read_number(struct tlog_store *store, const char *sql, int64_t *number, bulla_error *error)
{
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(store->database, sql, -1, &statement, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    int code = result == SQLITE_ROW ? BULLA_OK : fail(store, result, "read it", error);
    *number = code == BULLA_OK ? sqlite3_column_int64(statement, 0) : 0;
    sqlite3_finalize(statement);
    return code;
}

int tlog_store_is_empty(struct tlog_store *store, int *is_empty, bulla_error *error)
{
    int64_t tables = 0, application = 0, version = 0;
    int code = read_number(store, "SELECT COUNT(*) FROM sqlite_schema", &tables, error);
    if (code == BULLA_OK)
        code = read_number(store, "PRAGMA application_id", &application, error);
    if (code == BULLA_OK)
        code = read_number(store, "PRAGMA user_version", &version, error);
    *is_empty = tables == 0;
    if (code != BULLA_OK || *is_empty)
        return code;
    if (application == APPLICATION && version == VERSION)
        return BULLA_OK;
    return bulla_fail(error, BULLA_E_UNSUPPORTED,
                      "%s: not a log's database of version %d (its application is %" PRId64 ", its version %" PRId64 ")",
                      store->path, VERSION, application, version);
}

int tlog_store_check(struct tlog_store *store, bulla_error *error)
{
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(store->database, "PRAGMA quick_check(1)", -1, &statement, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    const char *says = result == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    int code = result != SQLITE_ROW ? fail(store, result, "check it", error) : BULLA_OK;
    if (code == BULLA_OK && (!says || strcmp(says, "ok") != 0))
        code = fail_content(store, says ? says : "its check gives nothing", error);
    sqlite3_finalize(statement);
    return code;
}

/* ---- Statements ---- */

/* A prepared statement, ready to bind; NULL with the error recorded. */
static sqlite3_stmt *use(struct tlog_store *store, enum statement number, bulla_error *error)
{
    sqlite3_stmt **statement = &store->statements[number];
    if (!*statement) {
        int result = sqlite3_prepare_v3(store->database, texts[number], -1, SQLITE_PREPARE_PERSISTENT, statement, NULL);
        if (result != SQLITE_OK) {
            fail(store, result, "use it", error);
            return NULL;
        }
    }
    return *statement;
}

static void finish(sqlite3_stmt *statement)
{
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
}

static int run(struct tlog_store *store, sqlite3_stmt *statement, bulla_error *error)
{
    int result = sqlite3_step(statement);
    int code = result == SQLITE_DONE ? BULLA_OK : fail(store, result, "write to it", error);
    finish(statement);
    return code;
}

int tlog_store_begin(struct tlog_store *store, int is_for_writing, bulla_error *error)
{
    int code = run_sql(store, is_for_writing ? "BEGIN IMMEDIATE" : "BEGIN", is_for_writing ? "write to it" : "read it", error);
    int has_moved = 0;
    /* Another file under its name would be another log with the same key: the two would fork. */
    if (code == BULLA_OK && is_for_writing &&
        (sqlite3_file_control(store->database, "main", SQLITE_FCNTL_HAS_MOVED, &has_moved) != SQLITE_OK || has_moved)) {
        tlog_store_rollback(store);
        code = bulla_fail(error, BULLA_E_IO, "%s: was moved or replaced while it was open", store->path);
    }
    return code;
}

int tlog_store_commit(struct tlog_store *store, bulla_error *error)
{
    int code = run_sql(store, "COMMIT", "write to it", error);
    if (code != BULLA_OK)
        tlog_store_rollback(store);
    return code;
}

void tlog_store_rollback(struct tlog_store *store)
{
    if (!sqlite3_get_autocommit(store->database))
        sqlite3_exec(store->database, "ROLLBACK", NULL, NULL, NULL);
}

/* ---- The state ---- */

int tlog_store_create(struct tlog_store *store, const struct tlog_state *state, bulla_error *error)
{
    sqlite3_stmt *statement = NULL;
    int code = tlog_store_begin(store, 1, error);
    if (code == BULLA_OK)
        code = run_sql(store, schema, "write to it", error);
    if (code == BULLA_OK && !(statement = use(store, CREATE_STATE, error)))
        code = BULLA_E_IO;
    if (code == BULLA_OK) {
        sqlite3_bind_text(statement, 1, state->key.name, -1, SQLITE_STATIC);
        sqlite3_bind_blob(statement, 2, state->key.key, NOTE_KEY_BYTES, SQLITE_STATIC);
        sqlite3_bind_blob(statement, 3, state->root, MERKLE_HASH, SQLITE_STATIC);
        sqlite3_bind_text(statement, 4, state->checkpoint, (int)state->checkpoint_length, SQLITE_STATIC);
        code = run(store, statement, error);
    }
    if (code == BULLA_OK)
        return tlog_store_commit(store, error);
    tlog_store_rollback(store);
    return code;
}

static int take_blob(sqlite3_stmt *row, int column, void *out, size_t length)
{
    const void *blob = sqlite3_column_blob(row, column);
    if (!blob || sqlite3_column_bytes(row, column) != (int)length)
        return 0;
    memcpy(out, blob, length);
    return 1;
}

/* Its length where it fits into `capacity` with a NUL; 0 otherwise. */
static size_t take_text(sqlite3_stmt *row, int column, char *out, size_t capacity)
{
    const char *text = (const char *)sqlite3_column_text(row, column);
    size_t length = (size_t)sqlite3_column_bytes(row, column);
    if (!text || length >= capacity || strlen(text) != length)
        return 0;
    memcpy(out, text, length + 1);
    return length;
}

int tlog_store_read_state(struct tlog_store *store, struct tlog_state *state, bulla_error *error)
{
    sqlite3_stmt *statement = use(store, READ_STATE, error);
    if (!statement)
        return BULLA_E_IO;
    int result = sqlite3_step(statement), code = BULLA_OK;
    *state = (struct tlog_state){.key.algorithm = NOTE_ED25519};
    if (result != SQLITE_ROW && result != SQLITE_DONE) {
        code = fail(store, result, "read it", error);
    } else if (result == SQLITE_DONE || take_text(statement, 0, state->key.name, sizeof state->key.name) == 0 ||
               !take_blob(statement, 1, state->key.key, NOTE_KEY_BYTES) ||
               !take_blob(statement, 3, state->root, MERKLE_HASH) || sqlite3_column_int64(statement, 2) < 0 ||
               sqlite3_column_int64(statement, 5) < 0) {
        code = fail_content(store, "its state is malformed", error);
    } else {
        state->size = (uint64_t)sqlite3_column_int64(statement, 2);
        state->published = (uint64_t)sqlite3_column_int64(statement, 5);
        state->checkpoint_length = take_text(statement, 4, state->checkpoint, sizeof state->checkpoint);
        if (state->checkpoint_length == 0 || state->published > state->size)
            code = fail_content(store, "its state is malformed", error);
    }
    finish(statement);
    return code;
}

int tlog_store_write_state(struct tlog_store *store, const struct tlog_state *state, bulla_error *error)
{
    sqlite3_stmt *statement = use(store, WRITE_STATE, error);
    if (!statement)
        return BULLA_E_IO;
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)state->size);
    sqlite3_bind_blob(statement, 2, state->root, MERKLE_HASH, SQLITE_STATIC);
    sqlite3_bind_text(statement, 3, state->checkpoint, (int)state->checkpoint_length, SQLITE_STATIC);
    return run(store, statement, error);
}

int tlog_store_set_published(struct tlog_store *store, uint64_t published, bulla_error *error)
{
    sqlite3_stmt *statement = use(store, SET_PUBLISHED, error);
    if (!statement)
        return BULLA_E_IO;
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)published);
    return run(store, statement, error);
}

/* ---- Tiles ---- */

int tlog_store_read_tile(struct tlog_store *store, unsigned level, uint64_t index, uint8_t (*hashes)[MERKLE_HASH],
                         unsigned *width, bulla_error *error)
{
    sqlite3_stmt *statement = use(store, READ_TILE, error);
    if (!statement)
        return BULLA_E_IO;
    sqlite3_bind_int(statement, 1, (int)level);
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)index);
    int result = sqlite3_step(statement), code = BULLA_OK;
    const void *bytes = result == SQLITE_ROW ? sqlite3_column_blob(statement, 0) : NULL;
    int length = bytes ? sqlite3_column_bytes(statement, 0) : 0;
    *width = (unsigned)length / MERKLE_HASH;
    if (result != SQLITE_ROW && result != SQLITE_DONE)
        code = fail(store, result, "read it", error);
    else if (length % MERKLE_HASH != 0 || length > TLOG_TILE_BYTES)
        code = fail_content(store, "a tile's length is wrong", error);
    else if (length > 0)
        memcpy(hashes, bytes, (size_t)length);
    finish(statement);
    return code;
}

int tlog_store_write_tile(struct tlog_store *store, unsigned level, uint64_t index, uint8_t (*hashes)[MERKLE_HASH],
                          unsigned width, bulla_error *error)
{
    sqlite3_stmt *statement = use(store, WRITE_TILE, error);
    if (!statement)
        return BULLA_E_IO;
    sqlite3_bind_int(statement, 1, (int)level);
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)index);
    sqlite3_bind_blob(statement, 3, hashes, (int)width * MERKLE_HASH, SQLITE_STATIC);
    return run(store, statement, error);
}

static int read_edge_tile(void *context, unsigned level, uint64_t index, unsigned width, uint8_t (*hashes)[MERKLE_HASH],
                          bulla_error *error)
{
    struct tlog_store *store = context;
    uint8_t found[TLOG_TILE_WIDTH][MERKLE_HASH];
    unsigned found_width;
    int code = tlog_store_read_tile(store, level, index, found, &found_width, error);
    if (code == BULLA_OK && found_width < width)
        code = fail_content(store, "a tile at the edge of its tree is not there", error);
    if (code == BULLA_OK)
        memcpy(hashes, found, width * sizeof *found);
    return code;
}

int tlog_store_edge(struct tlog_store *store, const struct tlog_state *state, struct tlog_edge *edge, bulla_error *error)
{
    uint8_t root[MERKLE_HASH];
    int code = tlog_edge_load(edge, state->size, read_edge_tile, store, error);
    const struct tlog_nodes nodes = tlog_edge_nodes(edge);
    if (code == BULLA_OK)
        code = tlog_tree_root(&nodes, state->size, root, error);
    if (code == BULLA_OK && memcmp(root, state->root, MERKLE_HASH) != 0)
        code = fail_content(store, "the tree does not give the root that was signed", error);
    return code;
}

static int get_tile(void *context, const struct tlog_tile *tile, size_t most, struct buffer *out, bulla_error *error)
{
    uint8_t hashes[TLOG_TILE_WIDTH][MERKLE_HASH];
    unsigned width;
    int code = tlog_store_read_tile(context, (unsigned)tile->level, tile->index, hashes, &width, error);
    (void)most;
    if (code == BULLA_OK && width >= tile->width)
        buffer_append(out, hashes, tile->width * sizeof *hashes);
    return code;
}

int tlog_store_reader(struct tlog_store *store, const struct tlog_state *state, struct tlog_reader **reader,
                      bulla_error *error)
{
    const struct tlog_source source = {store, get_tile};
    int code = tlog_reader_open(&source, state->size, state->root, reader, error);
    return code == BULLA_OK ? code : bulla_fail_prefix(error, "%s", store->path);
}

/* ---- Receipts ---- */

int tlog_store_insert(struct tlog_store *store, const struct tlog_row *row, int *is_there, bulla_error *error)
{
    sqlite3_stmt *statement = use(store, INSERT, error);
    if (!statement)
        return BULLA_E_IO;
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)row->index);
    sqlite3_bind_blob(statement, 2, row->id, TLOG_ID, SQLITE_STATIC);
    sqlite3_bind_blob(statement, 3, row->hash, MERKLE_HASH, SQLITE_STATIC);
    sqlite3_bind_blob64(statement, 4, row->length ? row->body : "", row->length, SQLITE_STATIC);
    int result = sqlite3_step(statement);
    finish(statement);
    *is_there = result == SQLITE_CONSTRAINT_UNIQUE;
    if (result == SQLITE_DONE || *is_there)
        return BULLA_OK;
    if (result == SQLITE_CONSTRAINT_ROWID || result == SQLITE_CONSTRAINT_PRIMARYKEY)
        return fail_content(store, "it has more receipts than its tree has leaves", error);
    return fail(store, result, "write to it", error);
}

/* `with_body`: the row has the column. */
static int take_row(struct tlog_store *store, sqlite3_stmt *statement, int with_body, struct tlog_row *row, bulla_error *error)
{
    *row = (struct tlog_row){.index = (uint64_t)sqlite3_column_int64(statement, 0)};
    if (sqlite3_column_int64(statement, 0) < 0 || !take_blob(statement, 1, row->id, TLOG_ID) ||
        !take_blob(statement, 2, row->hash, MERKLE_HASH))
        return fail_content(store, "a receipt's row is malformed", error);
    if (with_body) {
        row->body = sqlite3_column_blob(statement, 3);
        row->length = row->body ? (size_t)sqlite3_column_bytes(statement, 3) : 0;
    }
    return BULLA_OK;
}

int tlog_store_find(struct tlog_store *store, const uint8_t id[TLOG_ID], struct tlog_row *row, bulla_error *error)
{
    char hex[2 * TLOG_ID + 1];
    sqlite3_stmt *statement = use(store, FIND, error);
    if (!statement)
        return BULLA_E_IO;
    finish(statement);
    sqlite3_bind_blob(statement, 1, id, TLOG_ID, SQLITE_STATIC);
    int result = sqlite3_step(statement);
    hex_encode(id, TLOG_ID, hex);
    if (result == SQLITE_ROW)
        return take_row(store, statement, 1, row, error); /* its bytes stay until the statement is used again */
    finish(statement);
    if (result == SQLITE_DONE)
        return bulla_fail(error, BULLA_E_USAGE, "the log has no receipt with the id %s", hex);
    return fail(store, result, "read it", error);
}

int tlog_store_each(struct tlog_store *store, uint64_t first, uint64_t count, int with_bodies,
                    int (*each)(void *context, const struct tlog_row *row, bulla_error *error), void *context,
                    bulla_error *error)
{
    struct tlog_row row;
    int result = SQLITE_DONE, code = BULLA_OK;
    sqlite3_stmt *statement = use(store, with_bodies ? EACH_BODY : EACH, error);
    if (!statement)
        return BULLA_E_IO;
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)first);
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)count);
    while (code == BULLA_OK && (result = sqlite3_step(statement)) == SQLITE_ROW) {
        code = take_row(store, statement, with_bodies, &row, error);
        if (code == BULLA_OK)
            code = each(context, &row, error);
    }
    if (code == BULLA_OK && result != SQLITE_DONE)
        code = fail(store, result, "read it", error);
    finish(statement);
    return code;
}

static int append_entry(void *context, const struct tlog_row *row, bulla_error *error)
{
    static const uint8_t length[TLOG_BUNDLE_ENTRY - MERKLE_HASH] = {0, MERKLE_HASH};
    buffer_append(context, length, sizeof length);
    buffer_append(context, row->hash, MERKLE_HASH);
    return BULLA_OK;
}

int tlog_store_read_bundle(struct tlog_store *store, uint64_t index, unsigned width, struct buffer *out, bulla_error *error)
{
    int code = tlog_store_each(store, index * TLOG_TILE_WIDTH, width, 0, append_entry, out, error);
    return code == BULLA_OK && out->error.code != BULLA_OK ? bulla_fail(error, out->error.code, "%s", out->error.text) : code;
}

int tlog_store_count(struct tlog_store *store, uint64_t *count, bulla_error *error)
{
    sqlite3_stmt *statement = use(store, COUNT, error);
    if (!statement)
        return BULLA_E_IO;
    int result = sqlite3_step(statement);
    int code = result == SQLITE_ROW ? BULLA_OK : fail(store, result, "read it", error);
    *count = code == BULLA_OK ? (uint64_t)sqlite3_column_int64(statement, 0) : 0;
    finish(statement);
    return code;
}

/* ---- A proof ---- */

static int prove(struct tlog_store *store, const uint8_t id[TLOG_ID], struct buffer *receipt,
                 struct tlog_inclusion *inclusion, bulla_error *error)
{
    struct tlog_state state;
    struct tlog_row row = {0};
    struct tlog_reader *reader = NULL;
    uint8_t hash[MERKLE_HASH], leaf[MERKLE_HASH], known[MERKLE_HASH];
    int code = tlog_store_read_state(store, &state, error);
    if (code == BULLA_OK)
        code = tlog_store_find(store, id, &row, error);
    if (code == BULLA_OK && row.index >= state.size)
        code = fail_content(store, "it has more receipts than its tree has leaves", error);
    if (code == BULLA_OK)
        code = hash_sha256(row.body, row.length, hash, error);
    if (code == BULLA_OK)
        code = merkle_leaf_hash(hash, sizeof hash, leaf, error);
    if (code == BULLA_OK)
        code = tlog_store_reader(store, &state, &reader, error);
    if (code == BULLA_OK)
        code = tlog_reader_leaf(reader, row.index, known, error);
    if (code == BULLA_OK && memcmp(known, leaf, MERKLE_HASH) != 0)
        code = fail_content(store, "a receipt is not the one whose hash the tree has", error);
    if (code == BULLA_OK)
        code = tlog_reader_inclusion(reader, row.index, inclusion->path, &inclusion->length, error);
    if (code == BULLA_OK && !(inclusion->checkpoint = memory_copy_text(state.checkpoint, state.checkpoint_length, error)))
        code = BULLA_E_MEMORY;
    tlog_reader_close(reader);
    if (code != BULLA_OK)
        return code;
    inclusion->index = row.index;
    inclusion->size = state.size;
    inclusion->checkpoint_length = state.checkpoint_length;
    if (receipt)
        buffer_append(receipt, row.body, row.length);
    return receipt && receipt->error.code != BULLA_OK ? bulla_fail(error, receipt->error.code, "%s", receipt->error.text)
                                                      : BULLA_OK;
}

int tlog_store_prove(struct tlog_store *store, const uint8_t id[TLOG_ID], struct buffer *receipt,
                     struct tlog_inclusion *inclusion, bulla_error *error)
{
    memset(inclusion, 0, sizeof *inclusion);
    int code = tlog_store_begin(store, 0, error);
    if (code == BULLA_OK)
        code = prove(store, id, receipt, inclusion, error);
    if (store->statements[FIND])
        finish(store->statements[FIND]);
    tlog_store_rollback(store);
    if (code != BULLA_OK)
        tlog_inclusion_free(inclusion);
    return code;
}
