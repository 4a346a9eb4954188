/* `bulla serve`: an OpenAI-compatible server. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cli/serving.h"
#include "cli/verb.h"
#include "exec/speculate.h"

#define NO_NUMBER UINT64_MAX

/* As options_parse fills it; NULL, 0 and NO_NUMBER where an option was not given. */
struct serve_choice {
    const char *listen, *config, *keys, *name, *cors, *hosts, *log, *log_level, *certificate, *key, *upstream, *receipts,
        *receipts_origin;
    const char *attester, *policy, *collateral, *tpm_tcti, *tpm_key, *tpm_certificate, *tpm_pcrs;
    int ra_tls, http, insecure_http, is_open, takes_over, metrics_open, no_page, no_receipts;
    struct option_texts tls_names;
    uint64_t threads, cache_positions, max_running, max_tokens, max_seconds, speculate, drain_seconds;
};

#define TEXT(name_, field, value_, help_) \
    {name_, 0, OPTION_TEXT, offsetof(struct serve_choice, field), value_, help_, 0, 0}
#define FLAG(name_, field, help_) {name_, 0, OPTION_FLAG, offsetof(struct serve_choice, field), NULL, help_, 0, 0}
#define NUMBER(name_, field, help_, minimum_, maximum_) \
    {name_, 0, OPTION_INTEGER, offsetof(struct serve_choice, field), "N", help_, minimum_, maximum_}

static const struct option_spec options[] = {
    TEXT("listen", listen, "HOST:PORT", "where to listen; default 127.0.0.1:8080; port 0 takes a free one"),
    FLAG("http", http, "without TLS; only where nobody but this machine can connect"),
    FLAG("insecure-http", insecure_http, "without TLS, also where other machines connect: everyone on the way can read along"),
    TEXT("tls-certificate", certificate, "FILE",
         "PEM file of the certificate chain; default: a self-made one, kept in the state folder"),
    TEXT("tls-key", key, "FILE", "PEM file of its private key"),
    {"tls-name", 0, OPTION_TEXTS, offsetof(struct serve_choice, tls_names), "NAME",
     "one more host name or address by which clients reach the server, for the self-made certificate", 0, 0},
    TEXT("keys", keys, "FILE", "store of API keys (`bulla keys`); every request needs one then"),
    TEXT("attester", attester, "NAME",
         "what attests to the server: tsm, gramine, nsm, tpm, none; sim is SIMULATED; default: the one that this machine has"),
    TEXT("policy", policy, "FILE", "policy that is published, and whose resources this machine must have"),
    TEXT("collateral", collateral, "FILE", "JSON file with what evidence needs beside the hardware's word"),
    FLAG("ra-tls", ra_tls, "evidence in the TLS certificate too; clients that know the kept certificate as their CA do not take it"),
    TEXT("tpm-tcti", tpm_tcti, "TCTI", "how to reach the TPM; default device:/dev/tpmrm0"),
    TEXT("tpm-key", tpm_key, "HANDLE", "persistent attestation key of the TPM; default: one is made at each start"),
    TEXT("tpm-certificate", tpm_certificate, "INDEX", "NV index of that key's certificate"),
    TEXT("tpm-pcrs", tpm_pcrs, "LIST", "PCRs that are quoted, commas between; default 0 to 9, 11, 12, 14"),
    FLAG("open", is_open, "without keys also where other machines connect"),
    FLAG("take-over", takes_over, "start beside a server that listens there, to follow it: end that one when this one listens"),
    FLAG("metrics-open", metrics_open, "/metrics needs no key"),
    TEXT("config", config, "FILE", "JSON file with the settings and models; options here go before it"),
    TEXT("name", name, "NAME", "the model's name for clients; default: its file's"),
    TEXT("upstream", upstream, "URL", "serve a model of another OpenAI-compatible server instead of MODEL"),
    NUMBER("threads", threads, "threads that compute; default 0: one a core", 0, 256),
    NUMBER("context-cache", cache_positions,
           "positions that the key-value cache holds for all requests together; default 0: a quarter of the free memory, "
           "at least one full context and at most 256",
           0, UINT64_C(1) << 40),
    NUMBER("max-running", max_running, "requests computed at once; default 0: 256", 0, 4096),
    NUMBER("max-tokens", max_tokens, "most tokens of an answer; default 0: as many as the context holds", 0, UINT32_MAX),
    NUMBER("max-seconds", max_seconds, "longest time for an answer, waiting included; default 0: no limit", 0,
           CONFIG_MOST_SECONDS),
    NUMBER("speculate", speculate, "guess up to N tokens ahead where few requests run; default 15; 0: never", 0,
           SPECULATE_MOST),
    TEXT("receipts", receipts, "DIR", "folder of the log of receipts; default: receipts in the state folder"),
    TEXT("receipts-origin", receipts_origin, "NAME",
         "name of that log, such as example.com/log, where it is made; default: a random one"),
    FLAG("no-receipts", no_receipts, "answers have no receipts"),
    TEXT("cors", cors, "ORIGIN", "let pages of this origin use the server; \"*\": of any"),
    TEXT("hosts", hosts, "NAMES",
         "names of this machine beside localhost, commas between; where only it can connect and there are no keys, others "
         "are refused"),
    FLAG("no-page", no_page, "without the page at /"),
    TEXT("log", log, "FILE", "where a line a request goes; default -: standard error; none: nowhere"),
    TEXT("log-level", log_level, "LEVEL", "error, warning, info or debug; default info"),
    NUMBER("drain-seconds", drain_seconds, "time to finish answers after SIGTERM; default 30", 0, CONFIG_MOST_SECONDS),
};

/* The last part of the path without its ending. */
static int name_by_path(const char *path, char name[CONFIG_NAME_BYTES], bulla_error *error)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    size_t start = length;
    while (start > 0 && path[start - 1] != '/')
        start--;
    static const char *const endings[] = {".bulla", ".gguf", ".safetensors", ".index.json"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        size_t ending = strlen(endings[i]);
        if (length - start > ending && memcmp(path + length - ending, endings[i], ending) == 0)
            length -= ending;
    }
    snprintf(name, CONFIG_NAME_BYTES, "%.*s", (int)(length - start < CONFIG_NAME_BYTES ? length - start : CONFIG_NAME_BYTES - 1),
             path + start);
    bulla_error own = {0};
    if (config_check_name(name, "its file", &own) == BULLA_OK)
        return BULLA_OK;
    return bulla_fail(error, BULLA_E_USAGE, "the model cannot be named after its file (%s); --name NAME names it", own.text);
}

/* The model of the command line. `name` holds its name where none was given. */
static int add_model(const struct serve_choice *chosen, const char *path, struct config *config,
                     char name[CONFIG_NAME_BYTES], bulla_error *error)
{
    if (config->model_count > 0)
        return bulla_fail(error, BULLA_E_USAGE, "%s names models already; name the other one there too", chosen->config);
    struct config_model *model = &config->models[0];
    config_model_defaults(model);
    model->path = path;
    model->upstream = chosen->upstream;
    model->name = chosen->name ? chosen->name : name;
    model->threads = chosen->threads;
    model->cache_positions = chosen->cache_positions;
    model->most_running = chosen->max_running;
    model->most_tokens = chosen->max_tokens;
    model->most_seconds = chosen->max_seconds;
    if (chosen->speculate != NO_NUMBER)
        model->speculate = chosen->speculate;
    config->model_count = 1;
    if (chosen->name)
        return config_check_name(chosen->name, "--name", error);
    if (!path)
        return bulla_fail(error, BULLA_E_USAGE, "--upstream needs --name NAME: what clients call the model");
    return name_by_path(path, name, error);
}

static int choose_models(const struct serve_choice *chosen, const char *path, struct config *config,
                         char name[CONFIG_NAME_BYTES], bulla_error *error)
{
    if (path && chosen->upstream)
        return bulla_fail(error, BULLA_E_USAGE, "either MODEL or --upstream, not both");
    if (path || chosen->upstream)
        return add_model(chosen, path, config, name, error);
    if (chosen->name || chosen->threads || chosen->cache_positions || chosen->max_running || chosen->max_tokens ||
        chosen->max_seconds || chosen->speculate != NO_NUMBER)
        return bulla_fail(error, BULLA_E_USAGE,
                          "--name, --threads, --context-cache, --max-running, --max-tokens, --max-seconds and --speculate "
                          "are for a MODEL on the command line");
    if (!chosen->config)
        return bulla_fail(error, BULLA_E_USAGE,
                          "which model? `bulla serve MODEL`, or --config FILE with models (it may have none: an admin key "
                          "loads them later)");
    return BULLA_OK;
}

_Static_assert((int)OPTION_MOST_TEXTS <= (int)CONFIG_MOST_TLS_NAMES, "a configuration holds what the options give");

/* TLS or not: the options' word goes before the file's. */
static int choose_tls(const struct serve_choice *chosen, struct config *config, bulla_error *error)
{
    if (!chosen->certificate != !chosen->key)
        return bulla_fail(error, BULLA_E_USAGE, "--tls-certificate and --tls-key belong together");
    if (chosen->certificate && (chosen->http || chosen->insecure_http))
        return bulla_fail(error, BULLA_E_USAGE, "--tls-certificate and --%s exclude each other",
                          chosen->http ? "http" : "insecure-http");
    if (chosen->certificate) {
        config->certificate = chosen->certificate;
        config->key = chosen->key;
        config->tls_name_count = 0;
        config->http = config->insecure_http = 0;
    }
    config->http |= chosen->http;
    config->insecure_http |= chosen->insecure_http;
    if (chosen->tls_names.count > 0 && (config->certificate || config->http || config->insecure_http))
        return bulla_fail(error, BULLA_E_USAGE, "--tls-name is for the certificate that the server makes itself, and there "
                                                "is none with another one or without TLS");
    for (size_t i = 0; i < chosen->tls_names.count; i++)
        config->tls_names[i] = chosen->tls_names.texts[i];
    if (chosen->tls_names.count > 0)
        config->tls_name_count = chosen->tls_names.count;
    return BULLA_OK;
}

static void choose(const char **setting, const char *given)
{
    if (given)
        *setting = given;
}

static int apply(const struct serve_choice *chosen, struct config *config, bulla_error *error)
{
    choose(&config->listen, chosen->listen);
    choose(&config->keys, chosen->keys);
    choose(&config->cors_origin, chosen->cors);
    choose(&config->receipts, chosen->no_receipts ? "none" : chosen->receipts);
    choose(&config->receipts_origin, chosen->receipts_origin);
    choose(&config->attester, chosen->attester);
    choose(&config->policy, chosen->policy);
    choose(&config->collateral, chosen->collateral);
    choose(&config->attesting.tpm_tcti, chosen->tpm_tcti);
    choose(&config->attesting.tpm_key, chosen->tpm_key);
    choose(&config->attesting.tpm_certificate, chosen->tpm_certificate);
    choose(&config->attesting.tpm_pcrs, chosen->tpm_pcrs);
    choose(&config->log, chosen->log);
    choose(&config->log_level, chosen->log_level);
    config->ra_tls |= chosen->ra_tls;
    config->is_open |= chosen->is_open;
    config->takes_over |= chosen->takes_over;
    config->metrics_open |= chosen->metrics_open;
    config->has_page &= !chosen->no_page;
    if (chosen->drain_seconds != NO_NUMBER)
        config->drain_seconds = chosen->drain_seconds;
    int code = chosen->hosts ? config_set_hosts(config, chosen->hosts, error) : BULLA_OK;
    return code == BULLA_OK ? choose_tls(chosen, config, error) : code;
}

static int run(const struct verb *verb, int argc, char **argv, bulla_error *error)
{
    struct serve_choice chosen = {.speculate = NO_NUMBER, .drain_seconds = NO_NUMBER};
    struct config config;
    char name[CONFIG_NAME_BYTES];
    int others;
    int code = verb_parse(verb, argc, argv, &chosen, &others, error);
    if (code != BULLA_OK)
        return code;
    if (chosen.config)
        code = config_read(chosen.config, &config, error);
    else
        config_defaults(&config);
    if (code == BULLA_OK)
        code = choose_models(&chosen, others > 0 ? argv[0] : NULL, &config, name, error);
    if (code == BULLA_OK)
        code = apply(&chosen, &config, error);
    if (code == BULLA_OK)
        code = serving_run(&config, error);
    config_free(&config);
    return code;
}

const struct verb verb_serve = {
    .name = "serve",
    .summary = "serve models to OpenAI's clients, over TLS",
    .arguments = "[MODEL]",
    .details = "MODEL is a model file, a GGUF file or a safetensors folder. Prints \"listening on URL\" when requests\n"
               "are answered. SIGTERM and Ctrl-C finish the answers under way first; SIGHUP reads the keys and opens\n"
               "the log anew. docs/serving.md says all of it.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .minimum_arguments = 0,
    .maximum_arguments = 1,
    .run = run,
};
