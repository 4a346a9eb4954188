/* The operator's rules: who may do what, what is counted and logged, models that come and go. Backends are stand-ins. */
#define _GNU_SOURCE
#include "test.h"

#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "folder.h"
#include "ops/operator.h"
#include "serve/native.h"
#include "serve/upstream.h"

/* --- Stand-ins --- */

struct fake {
    struct backend head;
    struct backend_counters counters;
    struct backend_info info;
};

static struct native_options last_native;
static struct upstream_options last_upstream;
static char last_text[256]; /* the path or URL, key and model of the last one */
static struct fake fakes[CONFIG_MOST_MODELS], *last_fake; /* the first place that is free: a new one lies where one was */
static int open_fakes, fails_to_open;

static void describe_fake(const struct backend *backend, struct backend_info *info)
{
    *info = ((const struct fake *)backend)->info;
}

static void count_fake(const struct backend *backend, struct backend_counters *counters)
{
    *counters = ((const struct fake *)backend)->counters;
}

static void close_fake(struct backend *backend)
{
    open_fakes--;
    backend->class = NULL;
}

static const struct backend_class fake_class = {
    .name = "fake", .describe = describe_fake, .count = count_fake, .close = close_fake};

static int open_fake(struct backend **backend, bulla_error *error)
{
    if (fails_to_open)
        return bulla_fail(error, fails_to_open, "it does not open");
    last_fake = fakes;
    while (last_fake->head.class)
        last_fake++;
    *last_fake = (struct fake){.head.class = &fake_class, .info = {.kind = "fake", .state = BACKEND_READY}};
    *backend = &last_fake->head;
    open_fakes++;
    return BULLA_OK;
}

int native_open(struct event_base *base, const struct native_options *options, struct backend **backend, bulla_error *error)
{
    (void)base;
    last_native = *options;
    snprintf(last_text, sizeof last_text, "%s", options->path);
    return open_fake(backend, error);
}

int upstream_open(struct event_base *base, const struct upstream_options *options, struct backend **backend,
                  bulla_error *error)
{
    (void)base;
    last_upstream = *options;
    snprintf(last_text, sizeof last_text, "%s %s %s", options->url, options->key ? options->key : "-",
             options->model ? options->model : "-");
    return open_fake(backend, error);
}

unsigned http_server_connections(const struct http_server *server)
{
    (void)server;
    return 12;
}

/* --- A server's worth of operator --- */

struct setting {
    struct models *models;
    struct operator *operator;
    const struct serve_rules *rules;
};

static struct setting open_setting(const char *keys, int metrics_open, struct log *log)
{
    bulla_error error = {0};
    struct setting setting;
    assert_ok(models_open(&setting.models, &error), error);
    struct operator_options options = {
        .models = setting.models, .keys_path = keys, .metrics_open = metrics_open, .version = "1.2", .log = log};
    assert_ok(operator_open(&options, &setting.operator, &error), error);
    setting.rules = operator_rules(setting.operator);
    return setting;
}

static void close_setting(struct setting *setting)
{
    models_close(setting->models);
    operator_close(setting->operator);
    assert_int_equal(open_fakes, 0);
}

static int authorise_by(const struct setting *setting, enum rules_scope scope, const char *authorization,
                        const char *api_key, struct rules_identity *identity)
{
    struct answer_error problem = {0};
    int code = setting->rules->authorise(setting->rules->context, scope, authorization, api_key, identity, &problem);
    assert_true((code == BULLA_OK) == (problem.status == 0));
    assert_true(code == BULLA_OK || (problem.type && problem.code && problem.message[0]));
    return problem.status;
}

static int authorise(const struct setting *setting, enum rules_scope scope, const char *authorization,
                     struct rules_identity *identity)
{
    return authorise_by(setting, scope, authorization, NULL, identity);
}

static void test_without_keys(void **state)
{
    (void)state;
    struct rules_identity identity;
    struct setting setting = open_setting(NULL, 0, NULL);
    assert_int_equal(authorise(&setting, SCOPE_USE, NULL, &identity), 0);
    assert_string_equal(identity.tenant, "");
    assert_int_equal(identity.is_admin, 0);
    assert_int_equal(identity.most_tokens, 0);
    assert_int_equal(authorise(&setting, SCOPE_OPEN, "Bearer whatever", &identity), 0);
    assert_int_equal(authorise(&setting, SCOPE_METRICS, NULL, &identity), 0);
    assert_int_equal(authorise(&setting, SCOPE_ADMIN, NULL, &identity), 403);
    assert_int_equal(authorise(&setting, SCOPE_ADMIN, "Bearer whatever", &identity), 403);
    close_setting(&setting);
}

static void make_key(const char *path, const char *tenant, int is_admin, char header[128])
{
    bulla_error error = {0};
    char text[KEY_TEXT];
    struct key_entry entry = {.is_admin = is_admin, .priority = 3, .most_tokens = 50};
    snprintf(entry.tenant, sizeof entry.tenant, "%s", tenant);
    assert_ok(key_store_add(path, &entry, text, &error), error);
    snprintf(header, 128, "Bearer %s", text);
}

static void test_with_keys(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct rules_identity identity;
    char user[128], admin[128], late[128], other[200];
    const char *path = in_folder("keys.db");
    make_key(path, "acme", 0, user);
    make_key(path, "", 1, admin);
    struct setting setting = open_setting(path, 0, NULL);
    static const enum rules_scope guarded[] = {SCOPE_USE, SCOPE_ADMIN, SCOPE_METRICS};
    static const char *const wrong[] = {NULL, "", "Bearer", "Bearer ", "Basic dTpw", "Bearer sk-1", "bulla-00"};
    for (size_t s = 0; s < 3; s++)
        for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
            assert_int_equal(authorise(&setting, guarded[s], wrong[i], &identity), 401);
            assert_string_equal(identity.key_id, "");
            assert_int_equal(identity.is_admin, 0);
        }
    assert_int_equal(authorise(&setting, SCOPE_OPEN, NULL, &identity), 0);
    const char *key = user + strlen("Bearer ");
    assert_int_equal(authorise_by(&setting, SCOPE_USE, NULL, key, &identity), 0);
    assert_true(identity.key_id[0]);
    assert_int_equal(authorise_by(&setting, SCOPE_USE, NULL, user, &identity), 401);
    assert_int_equal(authorise_by(&setting, SCOPE_USE, NULL, " ", &identity), 401);
    assert_int_equal(authorise_by(&setting, SCOPE_USE, "Bearer x", key, &identity), 401);
    assert_int_equal(authorise_by(&setting, SCOPE_ADMIN, NULL, key, &identity), 403);
    assert_int_equal(authorise(&setting, SCOPE_USE, user, &identity), 0);
    assert_string_equal(identity.tenant, "acme");
    assert_int_equal(strlen(identity.key_id), 16);
    assert_null(strstr(user, identity.key_id));
    assert_int_equal(identity.priority, 3);
    assert_int_equal(identity.most_tokens, 50);
    assert_int_equal(authorise(&setting, SCOPE_METRICS, user, &identity), 0);
    assert_int_equal(authorise(&setting, SCOPE_ADMIN, user, &identity), 403);
    assert_int_equal(authorise(&setting, SCOPE_ADMIN, admin, &identity), 0);
    assert_int_equal(identity.is_admin, 1);
    assert_int_equal(authorise(&setting, SCOPE_USE, admin, &identity), 0);
    snprintf(other, sizeof other, "bEARER   %s  ", user + 7);
    assert_int_equal(authorise(&setting, SCOPE_USE, other, &identity), 0);
    snprintf(other, sizeof other, "%sx", user);
    assert_int_equal(authorise(&setting, SCOPE_USE, other, &identity), 401);
    /* The store changes, and the server looks at it again. */
    authorise(&setting, SCOPE_USE, user, &identity);
    assert_ok(key_store_disable(path, identity.key_id, &error), error);
    make_key(path, "late", 0, late);
    assert_int_equal(authorise(&setting, SCOPE_USE, user, &identity), 0);
    assert_int_equal(authorise(&setting, SCOPE_USE, late, &identity), 401);
    assert_ok(operator_reload_keys(setting.operator, &error), error);
    assert_int_equal(authorise(&setting, SCOPE_USE, user, &identity), 401);
    assert_string_equal(identity.tenant, "");
    assert_int_equal(authorise(&setting, SCOPE_USE, late, &identity), 0);
    /* One that cannot be read leaves the old keys in force. */
    assert_ok(file_write(path, "broken", 6, &error), error);
    assert_int_equal(operator_reload_keys(setting.operator, &error), BULLA_E_INPUT);
    assert_int_equal(authorise(&setting, SCOPE_USE, late, &identity), 0);
    close_setting(&setting);
}

static int notice(const struct setting *setting)
{
    bulla_error error = {0};
    int has_changed = -1;
    assert_ok(operator_notice_keys(setting->operator, &has_changed, &error), error);
    return has_changed;
}

/* The server sees by itself that its store has changed. */
static void check_noticed(const char *path)
{
    bulla_error error = {0};
    struct rules_identity identity;
    char first[128], second[128];
    int has_changed;
    make_key(path, "", 0, first);
    struct setting setting = open_setting(path, 0, NULL);
    assert_int_equal(notice(&setting), 0);
    make_key(path, "", 0, second);
    assert_int_equal(authorise(&setting, SCOPE_USE, second, &identity), 401);
    assert_int_equal(notice(&setting), 1);
    assert_int_equal(authorise(&setting, SCOPE_USE, second, &identity), 0);
    assert_int_equal(notice(&setting), 0);
    assert_ok(key_store_disable(path, identity.key_id, &error), error);
    assert_int_equal(notice(&setting), 1);
    assert_int_equal(authorise(&setting, SCOPE_USE, second, &identity), 401);
    assert_int_equal(authorise(&setting, SCOPE_USE, first, &identity), 0);
    /* What cannot be read is told once, and read as soon as it can be. */
    char aside[300];
    snprintf(aside, sizeof aside, "%s.aside", path);
    assert_int_equal(rename(path, aside), 0);
    assert_int_equal(operator_notice_keys(setting.operator, &has_changed, &error), BULLA_E_IO);
    assert_int_equal(notice(&setting), 0);
    assert_int_equal(authorise(&setting, SCOPE_USE, first, &identity), 0);
    assert_int_equal(rename(aside, path), 0);
    assert_int_equal(notice(&setting), 0); /* the same keys */
    assert_ok(key_store_disable(path, identity.key_id, &error), error);
    bulla_error_clear(&error);
    memory_inject_failure(1, 0);
    assert_int_equal(operator_notice_keys(setting.operator, &has_changed, &error), BULLA_E_MEMORY);
    memory_inject_failure(0, 0);
    assert_int_equal(notice(&setting), 1);
    assert_int_equal(authorise(&setting, SCOPE_USE, first, &identity), 401);
    close_setting(&setting);
}

static void test_noticed_keys(void **state)
{
    (void)state;
    check_noticed(in_folder("noticed.db"));
    check_noticed(in_folder("noticed.json"));
}

/* A change that shows neither in size nor, clocks being coarse, in time. */
static void test_noticed_at_once(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct rules_identity identity;
    char key[128], path[128];
    uint8_t *data;
    size_t length;
    snprintf(path, sizeof path, "%s/at_once.json", folder);
    make_key(path, "", 0, key);
    struct setting setting = open_setting(path, 0, NULL);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(authorise(&setting, SCOPE_USE, key, &identity), 0);
        assert_string_equal(identity.tenant, "");
        assert_int_equal(identity.priority, i % 10 == 0 ? 3 : i % 10);
        assert_ok(file_read(path, 1 << 20, &data, &length, &error), error);
        char *priority = strstr((char *)data, "\"priority\":") + strlen("\"priority\":");
        *priority = (char)('0' + (i % 10 == 9 ? 3 : i % 10 + 1));
        FILE *file = fopen(path, "r+b");
        assert_int_equal(fwrite(data, 1, length, file), length);
        fclose(file);
        memory_free(data);
        assert_int_equal(notice(&setting), 1);
    }
    close_setting(&setting);
}

static void test_metrics_open(void **state)
{
    (void)state;
    char user[128];
    struct rules_identity identity;
    make_key(in_folder("open.json"), "", 0, user);
    struct setting setting = open_setting(in_folder("open.json"), 1, NULL);
    assert_int_equal(authorise(&setting, SCOPE_METRICS, NULL, &identity), 0);
    assert_int_equal(authorise(&setting, SCOPE_USE, NULL, &identity), 401);
    close_setting(&setting);
}

/* --- Models --- */

static int load(const struct setting *setting, const char *text, struct answer_error *problem)
{
    struct arena arena = {0};
    bulla_error error = {0};
    *problem = (struct answer_error){0};
    struct json *value = json_parse(text, strlen(text), "request", &arena, &error);
    assert_non_null(value);
    int code = setting->rules->load_model(setting->rules->context, value, problem);
    assert_true((code == BULLA_OK) == (problem->status == 0));
    arena_free(&arena);
    return problem->status;
}

static void test_models_come_and_go(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct answer_error problem;
    struct setting setting = open_setting(NULL, 0, NULL);
    assert_int_equal(load(&setting,
                          "{\"name\":\"a\",\"path\":\"a.bulla\",\"aliases\":[\"x\"],\"threads\":2,\"max_tokens\":5,\"max_seconds\":7,"
                          "\"cache_positions\":640,\"max_waiting\":9}",
                          &problem),
                     0);
    assert_string_equal(last_text, "a.bulla");
    assert_int_equal(last_native.threads, 2);
    assert_int_equal(last_native.cache_positions, 640);
    assert_int_equal(last_native.most_waiting, 9);
    assert_int_equal(last_native.has_prefix_cache, 1);
    assert_int_equal(models_find(setting.models, "x")->most_tokens, 5);
    assert_int_equal(models_find(setting.models, "x")->most_seconds, 7);
    assert_false(models_find(setting.models, "x")->is_awaited);
    assert_ok(file_write(in_folder("upstream.key"), "sk-secret\n", 10, &error), error);
    char text[300];
    snprintf(text, sizeof text, "{\"name\":\"b\",\"upstream\":\"http://u\",\"upstream_model\":\"m\",\"upstream_key_file\":\"%s\"}",
             in_folder("upstream.key"));
    assert_int_equal(load(&setting, text, &problem), 0);
    assert_string_equal(last_text, "http://u sk-secret m");
    assert_ok(file_write(in_folder("upstream.key"), "two words\n", 10, &error), error);
    assert_int_equal(load(&setting, text, &problem), 409);
    text[9] = 'c';
    assert_int_equal(load(&setting, text, &problem), 400);
    assert_non_null(strstr(problem.message, "one key without spaces"));
    assert_int_equal(load(&setting, "{\"name\":\"x\",\"path\":\"p\"}", &problem), 409);
    assert_string_equal(problem.code, "model_exists");
    assert_int_equal(load(&setting, "{\"name\":\"c\"}", &problem), 400);
    assert_int_equal(load(&setting, "{\"path\":\"p\"}", &problem), 400);
    assert_non_null(strstr(problem.message, "\"name\" is missing"));
    assert_int_equal(load(&setting, "[]", &problem), 400);
    fails_to_open = BULLA_E_IO;
    assert_int_equal(load(&setting, "{\"name\":\"c\",\"path\":\"p\"}", &problem), 400);
    assert_string_equal(problem.message, "it does not open");
    fails_to_open = BULLA_E_MEMORY;
    assert_int_equal(load(&setting, "{\"name\":\"c\",\"path\":\"p\"}", &problem), 500);
    fails_to_open = 0;
    assert_int_equal(open_fakes, 2);
    void *context = setting.rules->context;
    assert_int_equal(setting.rules->unload_model(context, "nobody", &problem), BULLA_E_USAGE);
    assert_int_equal(problem.status, 404);
    assert_int_equal(setting.rules->unload_model(context, "", &problem), BULLA_E_USAGE);
    assert_int_equal(setting.rules->unload_model(context, NULL, &problem), BULLA_E_USAGE);
    assert_int_equal(setting.rules->unload_model(context, "a", &problem), BULLA_OK);
    assert_int_equal(open_fakes, 1);
    close_setting(&setting);
}

static void test_as_many_as_fit(void **state)
{
    (void)state;
    struct answer_error problem;
    char text[100];
    struct setting setting = open_setting(NULL, 0, NULL);
    for (int i = 0; i <= CONFIG_MOST_MODELS; i++) {
        snprintf(text, sizeof text, "{\"name\":\"m%d\",\"path\":\"p\"}", i);
        assert_int_equal(load(&setting, text, &problem), i < CONFIG_MOST_MODELS ? 0 : 400);
    }
    assert_int_equal(open_fakes, CONFIG_MOST_MODELS);
    close_setting(&setting);
}

/* --- Metrics --- */

static char *metrics_text(const struct setting *setting)
{
    bulla_error error = {0};
    struct buffer out = {0};
    assert_ok(setting->rules->write_metrics(setting->rules->context, &out, &error), error);
    return (char *)out.data;
}

static void assert_line(const struct setting *setting, const char *line)
{
    char *text = metrics_text(setting), whole[300];
    snprintf(whole, sizeof whole, "\n%s\n", line);
    if (!strstr(text, whole))
        fail_msg("no line \"%s\" in\n%s", line, text);
    memory_free(text);
}

static void assert_no_line(const struct setting *setting, const char *part)
{
    char *text = metrics_text(setting);
    if (strstr(text, part))
        fail_msg("\"%s\" is in\n%s", part, text);
    memory_free(text);
}

static struct rules_record answer_record(void)
{
    return (struct rules_record){.request_id = "r1",
                                 .method = "POST",
                                 .route = "/v1/chat/completions",
                                 .model = "x",
                                 .peer = "127.0.0.1:1",
                                 .status = 200,
                                 .finish = "stop",
                                 .usage = {.prompt_tokens = 30,
                                           .cached_tokens = 10,
                                           .output_tokens = 5,
                                           .queued_nanoseconds = 125000000,
                                           .first_token_nanoseconds = 375000000,
                                           .total_nanoseconds = 1375000000},
                                 .received_nanoseconds = 1000000000,
                                 .ended_nanoseconds = 2250000000,
                                 .most_tokens = 64,
                                 .choices = 1,
                                 .most_output_tokens = 3};
}

static void test_metrics_of_answers(void **state)
{
    (void)state;
    struct answer_error problem;
    struct setting setting = open_setting(NULL, 0, NULL);
    void *context = setting.rules->context;
    load(&setting, "{\"name\":\"a\",\"path\":\"p\",\"aliases\":[\"x\"]}", &problem);
    struct rules_record record = answer_record();
    record.front_nanoseconds = 250000000;
    setting.rules->record(context, &record);
    record.front_nanoseconds = 0;
    record.finish = "length";
    setting.rules->record(context, &record);
    record.finish = "tool_calls";
    setting.rules->record(context, &record);
    record.status = 499;
    setting.rules->record(context, &record);
    record.status = 200;
    record.finish = "range";
    setting.rules->record(context, &record);
    record.model = "made up by a client";
    setting.rules->record(context, &record);
    setting.rules->first_token(context, "x", 50000000);
    setting.rules->next_token(context, "x", 40000000, 4);
    setting.rules->next_token(context, "x", 40000000, 0);
    setting.rules->next_token(context, "nobody", 40000000, 1);
    assert_line(&setting, "vllm:request_success_total{model_name=\"a\",finished_reason=\"stop\"} 2");
    assert_line(&setting, "vllm:request_success_total{model_name=\"a\",finished_reason=\"length\"} 1");
    assert_line(&setting, "vllm:request_success_total{model_name=\"a\",finished_reason=\"abort\"} 1");
    assert_line(&setting, "vllm:request_success_total{model_name=\"a\",finished_reason=\"error\"} 1");
    assert_line(&setting, "vllm:e2e_request_latency_seconds_sum{model_name=\"a\"} 6.25");
    assert_line(&setting, "vllm:request_queue_time_seconds_sum{model_name=\"a\"} 0.625");
    assert_line(&setting, "vllm:request_prefill_time_seconds_sum{model_name=\"a\"} 1.25");
    assert_line(&setting, "vllm:request_decode_time_seconds_sum{model_name=\"a\"} 5");
    assert_line(&setting, "vllm:request_prompt_tokens_bucket{model_name=\"a\",le=\"20\"} 0");
    assert_line(&setting, "vllm:request_prompt_tokens_bucket{model_name=\"a\",le=\"50\"} 5");
    assert_line(&setting, "vllm:request_generation_tokens_sum{model_name=\"a\"} 25");
    assert_line(&setting, "vllm:request_max_num_generation_tokens_sum{model_name=\"a\"} 15");
    assert_line(&setting, "vllm:request_time_per_output_token_seconds_sum{model_name=\"a\"} 1.25");
    assert_line(&setting, "vllm:time_to_first_token_seconds_bucket{model_name=\"a\",le=\"0.06\"} 1");
    assert_line(&setting, "vllm:inter_token_latency_seconds_count{model_name=\"a\"} 4");
    assert_line(&setting, "vllm:inter_token_latency_seconds_bucket{model_name=\"a\",le=\"0.01\"} 4");
    assert_line(&setting, "vllm:time_per_output_token_seconds_count{model_name=\"a\"} 4");
    assert_line(&setting, "bulla_http_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 5");
    assert_line(&setting, "bulla_http_requests_total{route=\"/v1/chat/completions\",status=\"499\"} 1");
    assert_line(&setting, "bulla_front_seconds_total 0.25");
    assert_line(&setting, "bulla_build_info{version=\"1.2\"} 1");
    assert_no_line(&setting, "made up");
    assert_no_line(&setting, "nobody");
    close_setting(&setting);
}

static void test_metrics_of_backends(void **state)
{
    (void)state;
    struct answer_error problem;
    struct setting setting = open_setting(NULL, 0, NULL);
    load(&setting, "{\"name\":\"a\",\"path\":\"p\"}", &problem);
    struct fake *fake = last_fake;
    fake->counters = (struct backend_counters){.running = 3,
                                               .waiting = 2,
                                               .pages_used = 1,
                                               .pages_total = 4,
                                               .prefix_queried = 100,
                                               .prefix_reused = 60,
                                               .prompt_tokens = 200,
                                               .output_tokens = 50,
                                               .preemptions = 1,
                                               .restarts = 1};
    assert_line(&setting, "vllm:num_requests_running{model_name=\"a\"} 3");
    assert_line(&setting, "vllm:num_requests_waiting{model_name=\"a\"} 2");
    assert_line(&setting, "vllm:kv_cache_usage_perc{model_name=\"a\"} 0.25");
    assert_line(&setting, "vllm:gpu_cache_usage_perc{model_name=\"a\"} 0.25");
    assert_line(&setting, "vllm:prefix_cache_queries_total{model_name=\"a\"} 100");
    assert_line(&setting, "vllm:prefix_cache_hits_total{model_name=\"a\"} 60");
    assert_line(&setting, "vllm:prompt_tokens_total{model_name=\"a\"} 200");
    assert_line(&setting, "vllm:num_preemptions_total{model_name=\"a\"} 1");
    assert_line(&setting, "bulla_worker_restarts_total{model_name=\"a\"} 1");
    assert_line(&setting, "bulla_model_ready{model_name=\"a\"} 1");
    /* A worker that died counts from 0: what it had counted is kept. */
    fake->counters = (struct backend_counters){.output_tokens = 7, .restarts = 2};
    fake->info.state = BACKEND_STARTING;
    assert_line(&setting, "vllm:generation_tokens_total{model_name=\"a\"} 57");
    assert_line(&setting, "bulla_model_ready{model_name=\"a\"} 0");
    /* What was counted between the last look and the unloading is kept, and the gauges go. */
    fake->counters.output_tokens = 10;
    setting.rules->unload_model(setting.rules->context, "a", &problem);
    load(&setting, "{\"name\":\"a\",\"path\":\"p\"}", &problem);
    last_fake->counters.output_tokens = 25; /* more than the one before it had counted */
    assert_line(&setting, "vllm:generation_tokens_total{model_name=\"a\"} 85");
    setting.rules->unload_model(setting.rules->context, "a", &problem);
    assert_line(&setting, "vllm:generation_tokens_total{model_name=\"a\"} 85");
    assert_no_line(&setting, "vllm:num_requests_running{");
    assert_line(&setting, "bulla_http_connections 0");
    operator_watch(setting.operator, (struct http_server *)&setting);
    assert_line(&setting, "bulla_http_connections 12");
    close_setting(&setting);
}

/* --- The log --- */

static void test_log_of_requests(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct answer_error problem;
    struct log *log;
    char path[128];
    snprintf(path, sizeof path, "%s/requests.log", folder);
    assert_ok(log_open(&(struct log_options){.path = path, .level = LOG_LEVEL_INFO}, &log, &error), error);
    struct setting setting = open_setting(NULL, 0, log);
    void *context = setting.rules->context;
    load(&setting, "{\"name\":\"a\",\"path\":\"p\",\"aliases\":[\"x\"]}", &problem);
    struct rules_record record = answer_record();
    struct rules_identity identity = {.tenant = "acme", .key_id = "0123"};
    record.identity = &identity;
    record.is_stream = 1;
    setting.rules->record(context, &record);
    static const char *const routine[] = {"/health", "/ready", "/version", "/metrics", "/v1/models", "/", "/page/{file}"};
    for (size_t i = 0; i < sizeof routine / sizeof routine[0]; i++) {
        record = (struct rules_record){.request_id = "often", .method = i ? "GET" : "HEAD", .route = routine[i], .status = 200};
        setting.rules->record(context, &record);
    }
    record = (struct rules_record){.request_id = "refused", .method = "GET", .route = "/v1/models", .status = 401};
    setting.rules->record(context, &record);
    record = (struct rules_record){.request_id = "one", .method = "GET", .route = "/v1/models/{id}", .status = 200};
    setting.rules->record(context, &record);
    record = answer_record();
    record.model = "secret words of a client";
    record.status = 404;
    record.error_code = "model_not_found";
    record.usage = (struct answer_usage){0};
    setting.rules->record(context, &record);
    last_fake->counters.restarts = 1;
    last_fake->info.trouble = "it died";
    operator_sample(setting.operator);
    setting.rules->unload_model(context, "x", &problem);
    close_setting(&setting);
    log_close(log, 5000);
    uint8_t *data;
    size_t length;
    assert_ok(file_read(path, 1 << 20, &data, &length, &error), error);
    const char *text = (const char *)data;
    static const char *const parts[] = {
        "\"event\":\"model_loaded\",\"model\":\"a\"}\n",
        "\"event\":\"request\",\"request_id\":\"r1\",\"method\":\"POST\",\"route\":\"/v1/chat/completions\",\"status\":200,"
        "\"peer\":\"127.0.0.1:1\",\"tenant\":\"acme\",\"key\":\"0123\",",
        "\"seconds\":1.250000,\"model\":\"a\",\"finish\":\"stop\",\"stream\":true,\"prompt_tokens\":30,\"cached_tokens\":10,"
        "\"output_tokens\":5,",
        "\"status\":404,\"error\":\"model_not_found\",",
        "\"level\":\"error\",\"event\":\"model_restarted\",\"model\":\"a\",\"reason\":\"it died\"}\n",
        "\"event\":\"model_ready\",\"model\":\"a\"}\n",
        "\"event\":\"model_unloaded\",\"model\":\"a\"}\n",
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (!strstr(text, parts[i]))
            fail_msg("no %s in\n%s", parts[i], text);
    assert_null(strstr(text, "secret words"));
    assert_null(strstr(text, "often"));
    assert_non_null(strstr(text, "\"level\":\"info\",\"event\":\"request\",\"request_id\":\"refused\""));
    assert_non_null(strstr(text, "\"level\":\"info\",\"event\":\"request\",\"request_id\":\"one\""));
    memory_free(data);
}

static void test_memory(void **state)
{
    (void)state;
    bulla_error error = {0};
    char header[128];
    char path[128];
    snprintf(path, sizeof path, "%s/memory.json", folder);
    make_key(path, "", 0, header);
    for (uint64_t n = 1;; n++) {
        struct models *models;
        struct operator *operator = NULL;
        bulla_error_clear(&error);
        assert_ok(models_open(&models, &error), error);
        struct operator_options options = {.models = models, .keys_path = path};
        struct config_model model = {.name = "a", .path = "p"};
        memory_inject_failure(n, 0);
        int code = operator_open(&options, &operator, &error);
        if (code == BULLA_OK)
            code = operator_add_model(operator, &model, &error);
        memory_inject_failure(0, 0);
        assert_true(code != BULLA_OK || models_at(models, 0)->is_awaited);
        models_close(models);
        operator_close(operator);
        assert_int_equal(open_fakes, 0);
        if (code == BULLA_OK)
            return;
        assert_int_equal(code, BULLA_E_MEMORY);
    }
}

/* Fails where a test left a file that none is meant to leave. */
static int remove_known_files(void **state)
{
    (void)state;
    static const char *const names[] = {"keys.db",       "keys.db-wal",    "keys.db-shm", "open.json",       "open.json.lock",
                                        "noticed.db", "noticed.db-wal", "noticed.db-shm", "noticed.json",
                                        "noticed.json.lock", "at_once.json", "at_once.json.lock", "upstream.key", "requests.log", "memory.json", "memory.json.lock"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        remove(in_folder(names[i]));
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_keys),
        cmocka_unit_test(test_with_keys),
        cmocka_unit_test(test_noticed_keys),
        cmocka_unit_test(test_noticed_at_once),
        cmocka_unit_test(test_metrics_open),
        cmocka_unit_test(test_models_come_and_go),
        cmocka_unit_test(test_as_many_as_fit),
        cmocka_unit_test(test_metrics_of_answers),
        cmocka_unit_test(test_metrics_of_backends),
        cmocka_unit_test(test_log_of_requests),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_known_files);
}
