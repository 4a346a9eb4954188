/* What a browser says of where a request comes from: which pages may use the server. */
#define _GNU_SOURCE
#include <string.h>
#include <strings.h>

#include "serve/api_answer.h"

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
               wanted && is_header_list(wanted) ? wanted : "authorization, content-type, x-request-id");
    set_header(call, "Access-Control-Max-Age", "600");
    api_call_reply(call, 204, "text/plain", "", 0);
}

/* A page from elsewhere may send simple requests to a server on this machine without asking first, so what changes or
 * costs something is refused where the browser says that such a page asks. */
int api_is_foreign_origin(const struct api_call *call)
{
    const char *origin = http_header(call->exchange, "origin"), *host = http_header(call->exchange, "host");
    const char *allowed = call->api->cors_origin;
    if (!origin || (allowed && (strcmp(allowed, "*") == 0 || strcmp(allowed, origin) == 0)))
        return 0;
    const char *name = strstr(origin, "://");
    return !name || !host || strcasecmp(name + 3, host) != 0;
}
