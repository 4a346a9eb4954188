/* What a browser says of where a request comes from: which pages may use the server, and under which names. */
#define _GNU_SOURCE
#include <string.h>
#include <strings.h>

#include "serve/api_answer.h"
#include "serve/host_name.h"

static void set_header(struct api_call *call, const char *name, const char *value)
{
    bulla_error error = {0}; /* a header that cannot be set is left out */
    http_reply_header(call->exchange, name, value, &error);
}

static int is_header_list(const char *text)
{
    return strlen(text) <= 1000 &&
           text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_, ")] == 0;
}

/* The question that browsers ask first (the Fetch standard's CORS preflight). */
void api_serve_preflight(struct api_call *call)
{
    const char *wanted = http_header(call->exchange, "access-control-request-headers");
    set_header(call, "Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
    set_header(call, "Access-Control-Allow-Headers",
               wanted && is_header_list(wanted) ? wanted : "authorization, content-type, x-api-key, x-request-id, "
                                                          "x-request-timeout, x-bulla-receipt");
    set_header(call, "Access-Control-Max-Age", "600");
    api_call_reply(call, 204, "text/plain", "", 0);
}

/* A page from elsewhere may send simple requests to a server on this machine without asking first, so what changes or
 * costs something is refused where the browser says that such a page asks. */
int api_is_foreign_origin(const struct api_call *call)
{
    const char *origin = http_header(call->exchange, "origin"), *host = http_header(call->exchange, "host");
    const char *allowed = call->api->cors_origin;
    if (origin && allowed && (strcmp(allowed, "*") == 0 || strcmp(allowed, origin) == 0))
        return 0;
    return host_name_is_foreign(origin, host);
}

/* A page whose name's owner lets it mean 127.0.0.1 after it was loaded (DNS rebinding) is of the server's own origin to
 * a browser. Where being on this machine is all that a client needs, the name that it asks for must mean this machine.
 * A request without Host (HTTP/1.0) is no browser's. */
int api_is_foreign_host(const struct api_call *call)
{
    const struct api *api = call->api;
    const char *host = http_header(call->exchange, "host");
    char name[API_MOST_HOST];
    if (!api->is_local || !host)
        return 0;
    if (!host_name_read(host, name, sizeof name))
        return 1;
    for (size_t i = 0; i < api->host_count; i++)
        if (strcasecmp(name, api->hosts[i]) == 0)
            return 0;
    return !host_name_is_loopback(name);
}
