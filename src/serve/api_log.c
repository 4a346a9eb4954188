/* Receipts by their id, and the log's own files for whoever follows it (C2SP tlog-tiles). */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "serve/api_answer.h"
#include "serve/receipts.h"

enum { MOST_LOG_FILE = 1 << 20, MOST_PATH = 4096, HIGHEST_LEVEL = 63, TILE_WIDTH = 256 };

static void fail_not_found(struct api_call *call, const char *code, const char *what)
{
    api_call_fail_with(call, 404, "invalid_request_error", code, NULL, "%s", what);
}

static void fail_error(struct api_call *call, const bulla_error *error)
{
    api_call_fail_with(call, 500, "server_error", "internal_error", NULL, "%s", error->text);
}

void api_serve_receipt(struct api_call *call)
{
    struct receipts *receipts = call->api->receipts;
    uint8_t id[RECEIPT_ID];
    struct buffer out = {0};
    bulla_error error = {0};
    int is_found = 0, code = BULLA_OK, wants_evidence = strcmp(http_query(call->exchange), "evidence=1") == 0;
    if (!receipts)
        fail_not_found(call, "receipt_not_found", "this server issues no receipts");
    else if (!hex_decode(call->rest, strlen(call->rest), id, sizeof id) ||
             ((code = receipts_find(receipts, id, wants_evidence, &out, &is_found, &error)) == BULLA_OK && !is_found))
        fail_not_found(call, "receipt_not_found", "the log has no receipt of this id, which is 32 hex digits");
    else if (code != BULLA_OK)
        fail_error(call, &error);
    else
        api_call_reply_json(call, 200, &out);
    buffer_free(&out);
}

/* ---- Paths ---- */

/* A decimal number from `least` to `most` without leading zeros; *at moves behind it. */
static int take_number(const char **at, unsigned least, unsigned most)
{
    unsigned value = 0, digits = 0;
    const char *first = *at;
    for (; **at >= '0' && **at <= '9' && digits < 4; (*at)++, digits++)
        value = 10 * value + (unsigned)(**at - '0');
    return digits > 0 && (digits == 1 || *first != '0') && value >= least && value <= most;
}

static int take_text(const char **at, const char *text)
{
    size_t length = strlen(text);
    if (strncmp(*at, text, length) != 0)
        return 0;
    *at += length;
    return 1;
}

static int take_digits(const char **at)
{
    for (int i = 0; i < 3; i++, (*at)++)
        if (**at < '0' || **at > '9')
            return 0;
    return 1;
}

/* "x001/x234/067", and a partial tile's ".p/255" behind it, to the end. */
static int is_tile_number(const char *at)
{
    int groups = 1;
    for (; *at == 'x' && groups < 7; groups++) {
        at++;
        if (!take_digits(&at) || !take_text(&at, "/"))
            return 0;
    }
    if (!take_digits(&at))
        return 0;
    return *at == 0 || (take_text(&at, ".p/") && take_number(&at, 1, TILE_WIDTH - 1) && *at == 0);
}

/* "tile/<L>/<N>[.p/<W>]" or "tile/entries/<N>[.p/<W>]": nothing else is ever a path into the folder. */
static int is_tile(const char *path)
{
    const char *at = path;
    if (!take_text(&at, "tile/"))
        return 0;
    if (take_text(&at, "entries/"))
        return is_tile_number(at);
    return take_number(&at, 0, HIGHEST_LEVEL) && take_text(&at, "/") && is_tile_number(at);
}

static void serve_file(struct api_call *call, const char *folder, const char *path, const char *type, const char *caching)
{
    char whole[MOST_PATH];
    uint8_t *bytes;
    size_t length;
    enum file_kind kind;
    bulla_error error = {0};
    int size = snprintf(whole, sizeof whole, "%s/%s", folder, path);
    int code = size < (int)sizeof whole ? file_find_kind(whole, &kind, &error)
                                        : bulla_fail(&error, BULLA_E_LIMIT, "the log's folder has too long a path");
    if (code == BULLA_OK && kind != FILE_REGULAR) {
        fail_not_found(call, "not_found", "the log has no such file (yet)");
        return;
    }
    if (code == BULLA_OK)
        code = file_read(whole, MOST_LOG_FILE, &bytes, &length, &error);
    if (code != BULLA_OK) {
        fail_error(call, &error);
        return;
    }
    http_reply_header(call->exchange, "Cache-Control", caching, &error);
    api_call_reply(call, 200, type, bytes, length);
    memory_free(bytes);
}

void api_serve_log(struct api_call *call)
{
    const struct receipts_log *log = call->api->receipts ? receipts_log_of(call->api->receipts) : NULL;
    if (!log || !log->folder)
        fail_not_found(call, "not_found", "this server has no log of receipts");
    else if (strcmp(call->rest, "key") == 0)
        api_call_reply(call, 200, "text/plain; charset=utf-8", log->key, strlen(log->key));
    else if (strcmp(call->rest, "checkpoint") == 0)
        serve_file(call, log->folder, "checkpoint", "text/plain; charset=utf-8", "no-cache");
    else if (is_tile(call->rest))
        serve_file(call, log->folder, call->rest, "application/octet-stream", "public, max-age=31536000, immutable");
    else
        fail_not_found(call, "not_found", "there is no such file of a log");
}
