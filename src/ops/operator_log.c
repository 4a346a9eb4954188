/* The log's line of a request: who, what, how much and how long; nothing of what was said. */
#include "ops/operator.h"

#include <string.h>

static uint64_t difference(uint64_t later, uint64_t earlier)
{
    return later > earlier ? later - earlier : 0;
}

static void write_answer(struct log_line *line, const struct rules_record *record)
{
    const struct answer_usage *usage = &record->usage;
    log_line_text(line, "finish", record->finish);
    log_line_bool(line, "stream", record->is_stream);
    log_line_number(line, "prompt_tokens", usage->prompt_tokens);
    log_line_number(line, "cached_tokens", usage->cached_tokens);
    log_line_number(line, "output_tokens", usage->output_tokens);
    log_line_number(line, "reasoning_tokens", usage->reasoning_tokens);
    log_line_number(line, "max_tokens", record->most_tokens);
    log_line_number(line, "choices", record->choices);
    log_line_seconds(line, "queued_seconds", usage->queued_nanoseconds);
    log_line_seconds(line, "first_token_seconds", usage->first_token_nanoseconds);
}

/* What probes, scrapers and an open page ask again and again: such a line tells nothing where all is well. */
static int is_routine(const struct rules_record *record)
{
    static const char *const routes[] = {"/health", "/ready", "/version", "/metrics", "/v1/models", "/", "/page/{file}"};
    if (record->status >= 400 || (strcmp(record->method, "GET") != 0 && strcmp(record->method, "HEAD") != 0))
        return 0;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
        if (strcmp(record->route, routes[i]) == 0)
            return 1;
    return 0;
}

static enum log_level choose_level(const struct rules_record *record)
{
    if (record->status >= 500)
        return LOG_LEVEL_ERROR;
    return is_routine(record) ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
}

void operator_log_record(struct log *log, const struct rules_record *record)
{
    struct log_line line;
    log_line_begin(&line, log, choose_level(record), "request");
    log_line_text(&line, "request_id", record->request_id);
    log_line_text(&line, "method", record->method);
    log_line_text(&line, "route", record->route);
    log_line_number(&line, "status", (uint64_t)(record->status > 0 ? record->status : 0));
    log_line_text(&line, "error", record->error_code);
    log_line_text(&line, "peer", record->peer);
    if (record->identity) {
        log_line_text(&line, "tenant", record->identity->tenant[0] ? record->identity->tenant : NULL);
        log_line_text(&line, "key", record->identity->key_id[0] ? record->identity->key_id : NULL);
    }
    log_line_number(&line, "request_bytes", record->request_bytes);
    log_line_number(&line, "reply_bytes", record->reply_bytes);
    log_line_seconds(&line, "seconds", difference(record->ended_nanoseconds, record->received_nanoseconds));
    log_line_text(&line, "model", record->model);
    if (record->model && record->usage.prompt_tokens > 0)
        write_answer(&line, record);
    log_line_end(&line);
}
