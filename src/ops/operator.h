/* What an operator decides and sees: implements the server's rules (serve/rules.h) with keys, metrics, the log, and
 * models that come and go. One thread, the event base's. */
#ifndef OPS_OPERATOR_H
#define OPS_OPERATOR_H

#include "ops/config.h"
#include "ops/keys.h"
#include "ops/log.h"
#include "serve/rules.h"

struct event_base;
struct http_server;
struct operator;

struct operator_options {
    struct event_base *base;   /* for backends of models that are loaded later */
    struct models *models;
    const char *keys_path;     /* NULL: no keys; everyone may use, nobody may administer */
    int metrics_open;          /* /metrics needs no key */
    struct log *log;           /* NULL: none */
    const char *version;
};

/* Reads the keys. */
int operator_open(const struct operator_options *options, struct operator **operator, bulla_error *error);
void operator_close(struct operator *operator); /* NULL is fine */
/* Valid while the operator is. */
const struct serve_rules *operator_rules(struct operator *operator);

/* Reads the keys anew. After an error the old ones stay in force. */
int operator_reload_keys(struct operator *operator, bulla_error *error);
/* The same where their store has changed since it was last read; to be called every second or so. *has_changed: there are
 * other keys now. An error is told once: the next one is of another change. */
int operator_notice_keys(struct operator *operator, int *has_changed, bulla_error *error);
/* Opens a model's backend and adds it, as one that the server waits for before it is ready. `model->name` is set, a path is
 * of a model file. */
int operator_add_model(struct operator *operator, const struct config_model *model, bulla_error *error);
/* Takes up what the backends have counted since the last call; now and then, and before one goes. */
void operator_sample(struct operator *operator);
/* Whose connections are counted; NULL: none. */
void operator_watch(struct operator *operator, const struct http_server *server);

/* The parts below are in files of their own. */

/* operator_metrics.c */
struct metrics;
int operator_metrics_open(const char *version, struct metrics **metrics, bulla_error *error);
void operator_metrics_record(struct metrics *metrics, const struct rules_record *record, const char *model);
void operator_metrics_first_token(struct metrics *metrics, const char *model, uint64_t nanoseconds);
void operator_metrics_next_token(struct metrics *metrics, const char *model, uint64_t nanoseconds, uint32_t tokens);
/* Counters went from `before` to `now`; gauges are at `now`. */
void operator_metrics_sample(struct metrics *metrics, const char *model, const struct backend_counters *before,
                             const struct backend_counters *now, int is_ready);
void operator_metrics_forget_models(struct metrics *metrics); /* their gauges: those still there are set again */
void operator_metrics_process(struct metrics *metrics, const struct http_server *server, uint64_t log_dropped);
/* operator_log.c */
void operator_log_record(struct log *log, const struct rules_record *record);

#endif
