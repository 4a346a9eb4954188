/* The configuration of a server, as `bulla serve --config FILE` reads it: JSON, strict. A field that is not known is an
 * error that names it, because a limit with a misspelt name would be no limit. docs/serving.md tables the fields. */
#ifndef OPS_CONFIG_H
#define OPS_CONFIG_H

#include <stdint.h>

#include "base/arena.h"
#include "base/json.h"
#include "bulla/error.h"
#include "serve/http.h"
#include "serve/models.h"
#include "trust/attester.h"

enum {
    CONFIG_MOST_MODELS = 64,
    CONFIG_MOST_HOSTS = 32,
    CONFIG_NAME_BYTES = 128,
    CONFIG_DRAIN_SECONDS = 30,
    CONFIG_MOST_SECONDS = 86400,
    CONFIG_MOST_TLS_NAMES = 16
};

/* A model to serve: of a file (`path`), or of another server (`upstream`, its URL). Texts are the JSON's. */
struct config_model {
    const char *name, *path, *upstream;
    const char *aliases[MODEL_MOST_ALIASES];
    size_t alias_count;
    uint64_t most_tokens, most_seconds, most_waiting;                /* 0: no limit, the backend's default */
    uint64_t threads, cache_positions, most_running, speculate;      /* of a file */
    int has_prefix_cache;
    const char *isa;
    const char *upstream_model, *upstream_key_file, *upstream_ca_file; /* of another server */
    uint64_t connect_seconds, idle_seconds;
};

struct config {
    const char *listen;                       /* "HOST:PORT" */
    const char *certificate, *key;            /* both or none */
    const char *tls_names[CONFIG_MOST_TLS_NAMES]; /* more names of the self-made certificate */
    size_t tls_name_count;
    int http;                                 /* no TLS; only where nobody but this machine can connect */
    int insecure_http;                        /* no TLS, at any address */
    int is_open;                              /* without keys at an address that is not loopback */
    const char *keys;                         /* path of the store */
    int takes_over;                           /* listens beside a server that is about to end */
    int metrics_open;
    const char *cors_origin, *log, *log_level; /* log: a path, "-" for standard error, "none" */
    const char *receipts, *receipts_origin;   /* folder of the log of receipts, "none", NULL: in the state folder; its name */
    const char *hosts[CONFIG_MOST_HOSTS];     /* names of this machine, without a port */
    size_t host_count;
    int has_page;
    uint64_t drain_seconds;
    struct http_limits limits;
    const char *attester;                     /* NULL: the one that the machine has, or none */
    struct attester_options attesting;        /* what it is told of its TPM */
    const char *policy, *collateral;          /* files; NULL: none */
    int ra_tls;                               /* evidence in the TLS certificate */
    size_t most_answer_bytes;                 /* held by answers under way together; 0: the API's default */
    struct config_model models[CONFIG_MOST_MODELS];
    size_t model_count;
    struct arena arena; /* holds the texts */
};

/* What holds without a configuration. */
void config_defaults(struct config *config);
/* Defaults, then the JSON's fields. config_free ends it, also after an error. `name` starts error sentences. */
int config_parse(const char *text, size_t length, const char *name, struct config *config, bulla_error *error);
int config_read(const char *path, struct config *config, bulla_error *error);
void config_free(struct config *config);

/* Names with commas between them instead of the configuration's `hosts`. BULLA_E_USAGE where one is no host's name. */
int config_set_hosts(struct config *config, const char *names, bulla_error *error);

/* One model from its object; its texts live as long as `value` does. Without "name" `model->name` is NULL. */
int config_read_model(const struct json *value, const char *where, struct config_model *model, bulla_error *error);
void config_model_defaults(struct config_model *model);
/* BULLA_E_INPUT where `name` is no name for a model: 1 to 127 printable characters of ASCII without quotes and
 * backslashes, as they go into paths and labels. */
int config_check_name(const char *name, const char *where, bulla_error *error);

#endif
