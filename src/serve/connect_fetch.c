#include <string.h>

#include "base/memory.h"
#include "serve/connect_parts.h"

static void on_head(void *context, const struct upstream_response *response)
{
    ((struct connect_fetch *)context)->status = response->status;
}

static void on_body(void *context, const uint8_t *bytes, size_t length)
{
    struct connect_fetch *fetch = context;
    if (length <= fetch->most - fetch->body.length) {
        buffer_append(&fetch->body, bytes, length);
        return;
    }
    struct connect_problem problem = {0};
    connect_fail(&problem, "server.answer", "a document of the server's is longer than %zu bytes", fetch->most);
    connect_ask_close(fetch->ask);
    fetch->ask = NULL;
    fetch->done(fetch, &problem);
}

static void on_done(void *context)
{
    struct connect_fetch *fetch = context;
    struct connect_problem problem = {0};
    if (fetch->body.error.code != BULLA_OK)
        connect_fail(&problem, "memory", "%s", fetch->body.error.text);
    fetch->done(fetch, problem.check[0] ? &problem : NULL);
}

static void on_failed(void *context, int status, const struct connect_problem *problem)
{
    struct connect_fetch *fetch = context;
    fetch->done(fetch, problem);
}

int connect_fetch_open(struct connect *connect, const char *path, size_t most,
                       void (*done)(struct connect_fetch *fetch, const struct connect_problem *problem), void *context,
                       struct connect_fetch **result)
{
    struct connect_fetch *fetch = memory_alloc(1, sizeof *fetch, NULL);
    *result = NULL;
    if (!fetch)
        return BULLA_E_MEMORY;
    const struct connect_ask_sink sink = {fetch, on_head, on_body, on_done, on_failed};
    const struct connect_ask_request request = {.method = "GET", .path = path, .accept = "*/*"};
    fetch->connect = connect;
    fetch->most = most;
    fetch->done = done;
    fetch->context = context;
    if (connect_ask_open(connect->link, &request, &sink, &fetch->ask, NULL) != BULLA_OK) {
        memory_free(fetch);
        return BULLA_E_MEMORY;
    }
    *result = fetch;
    return BULLA_OK;
}

void connect_fetch_close(struct connect_fetch *fetch)
{
    if (!fetch)
        return;
    connect_ask_close(fetch->ask);
    buffer_free(&fetch->body);
    memory_free(fetch);
}
