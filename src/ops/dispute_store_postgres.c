#include "ops/dispute_store.h"

#ifdef HAS_POSTGRES

#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

enum { NUMBER = 24, BINARY = 1 };

struct store {
    struct dispute_store base;
    PGconn *connection;
};

/* The connection string may have a password: it is not repeated. */
static int fail(const struct store *store, const char *what, bulla_error *error)
{
    return bulla_fail(error, BULLA_E_IO, "the referee's store in PostgreSQL: cannot %s: %s", what,
                      PQerrorMessage(store->connection));
}

static void close_store(struct dispute_store *base)
{
    struct store *store = (struct store *)base;
    PQfinish(store->connection);
    memory_free(store);
}

/* A session of its own says what it needs of the server: commits that are on disk. */
static int prepare(struct store *store, bulla_error *error)
{
    static const char *const commands[] = {
        "SET client_min_messages = warning", "SET synchronous_commit = on",
        "CREATE TABLE IF NOT EXISTS bulla_dispute_entries (number BIGINT PRIMARY KEY, time BIGINT NOT NULL, bytes BYTEA NOT NULL)"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        PGresult *result = PQexec(store->connection, commands[i]);
        int is_done = PQresultStatus(result) == PGRES_COMMAND_OK;
        PQclear(result);
        if (!is_done)
            return fail(store, "use it", error);
    }
    return BULLA_OK;
}

static int open_store(const char *place, struct dispute_store **result, bulla_error *error)
{
    struct store *store = memory_alloc(1, sizeof *store, error);
    if (!store)
        return BULLA_E_MEMORY;
    store->base.class = &dispute_store_postgres;
    store->connection = PQconnectdb(place);
    int code = PQstatus(store->connection) == CONNECTION_OK ? prepare(store, error) : fail(store, "connect", error);
    if (code == BULLA_OK)
        *result = &store->base;
    else
        close_store(&store->base);
    return code;
}

static int append(struct dispute_store *base, uint64_t number, int64_t time, const void *bytes, size_t length, bulla_error *error)
{
    struct store *store = (struct store *)base;
    char first[NUMBER], second[NUMBER];
    const char *const values[] = {first, second, bytes};
    const int lengths[] = {0, 0, (int)length}, formats[] = {0, 0, BINARY};
    snprintf(first, sizeof first, "%" PRIu64, number);
    snprintf(second, sizeof second, "%" PRId64, time);
    PGresult *result = PQexecParams(store->connection, "INSERT INTO bulla_dispute_entries VALUES ($1, $2, $3)", 3, NULL, values,
                                    lengths, formats, 0);
    int code = PQresultStatus(result) == PGRES_COMMAND_OK ? BULLA_OK : fail(store, "append to it", error);
    PQclear(result);
    return code;
}

static int read_entry(struct dispute_store *base, uint64_t number, struct buffer *out, int *is_there, bulla_error *error)
{
    struct store *store = (struct store *)base;
    char first[NUMBER];
    const char *const values[] = {first};
    snprintf(first, sizeof first, "%" PRIu64, number);
    PGresult *result = PQexecParams(store->connection, "SELECT bytes FROM bulla_dispute_entries WHERE number = $1", 1, NULL, values,
                                    NULL, NULL, BINARY);
    int code = PQresultStatus(result) == PGRES_TUPLES_OK ? BULLA_OK : fail(store, "read it", error);
    *is_there = code == BULLA_OK && PQntuples(result) == 1;
    if (*is_there)
        buffer_append(out, PQgetvalue(result, 0, 0), (size_t)PQgetlength(result, 0, 0));
    PQclear(result);
    return code;
}

const struct dispute_store_class dispute_store_postgres = {"PostgreSQL", open_store, close_store, append, read_entry};

#else

static int open_store(const char *place, struct dispute_store **store, bulla_error *error)
{
    return bulla_fail(error, BULLA_E_UNSUPPORTED, "this build of Bulla has no PostgreSQL: libpq was not there when it was made");
}

const struct dispute_store_class dispute_store_postgres = {.name = "PostgreSQL", .open = open_store};

#endif
