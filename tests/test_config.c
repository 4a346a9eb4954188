/* A server's configuration: every field, and every way to get one wrong. */
#include "test.h"

#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "ops/config.h"

static int parse(const char *text, struct config *config, bulla_error *error)
{
    return config_parse(text, strlen(text), "file.json", config, error);
}

static const char whole[] =
    "{\"listen\":\"0.0.0.0:443\",\"tls\":{\"certificate\":\"c.pem\",\"key\":\"k.pem\"},\"insecure_http\":false,"
    "\"open\":true,\"keys\":\"keys.db\",\"metrics_open\":true,\"take_over\":true,\"cors_origin\":\"*\",\"log\":\"a.log\","
    "\"log_level\":\"debug\",\"page\":false,\"drain_seconds\":5,\"hosts\":[\"box.example\",\"10.0.0.7\",\"[fd00::1]\"],"
    "\"limits\":{\"header_bytes\":2048,\"header_lines\":50,\"body_bytes\":4096,\"held_bytes\":8192,\"answer_bytes\":1048576,\"unsent_bytes\":100000,"
    "\"connections\":7,\"header_seconds\":1,\"body_seconds\":2,\"idle_seconds\":3,\"write_seconds\":4},"
    "\"models\":[{\"name\":\"a/b:1\",\"path\":\"a.gguf\",\"aliases\":[\"x\",\"y\"],\"max_tokens\":9,\"max_seconds\":70,"
    "\"max_waiting\":8,"
    "\"threads\":2,\"cache_positions\":4096,\"max_running\":16,\"speculate\":0,\"prefix_cache\":false,\"isa\":\"avx2\"},"
    "{\"name\":\"far\",\"upstream\":\"http://127.0.0.1:9\",\"upstream_model\":\"m\",\"upstream_key_file\":\"f\","
    "\"upstream_ca_file\":\"ca\",\"connect_seconds\":1,\"idle_seconds\":2}]}";

static void test_whole(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct config config;
    assert_ok(parse(whole, &config, &error), error);
    assert_string_equal(config.listen, "0.0.0.0:443");
    assert_string_equal(config.certificate, "c.pem");
    assert_string_equal(config.key, "k.pem");
    assert_string_equal(config.keys, "keys.db");
    assert_string_equal(config.cors_origin, "*");
    assert_string_equal(config.log, "a.log");
    assert_string_equal(config.log_level, "debug");
    assert_true(config.is_open && config.metrics_open && config.takes_over && !config.has_page && !config.insecure_http);
    assert_int_equal(config.drain_seconds, 5);
    assert_int_equal(config.host_count, 3);
    assert_string_equal(config.hosts[0], "box.example");
    assert_string_equal(config.hosts[2], "[fd00::1]");
    assert_int_equal(config.most_answer_bytes, 1 << 20);
    const struct http_limits *limits = &config.limits;
    assert_int_equal(limits->most_header_bytes, 2048);
    assert_int_equal(limits->most_header_lines, 50);
    assert_int_equal(limits->most_body_bytes, 4096);
    assert_int_equal(limits->most_held_bytes, 8192);
    assert_int_equal(limits->most_unsent, 100000);
    assert_int_equal(limits->most_connections, 7);
    assert_int_equal(limits->header_seconds * 1000 + limits->body_seconds * 100 + limits->idle_seconds * 10 +
                         limits->write_seconds,
                     1234);
    assert_int_equal(config.model_count, 2);
    const struct config_model *near = &config.models[0], *far = &config.models[1];
    assert_string_equal(near->name, "a/b:1");
    assert_string_equal(near->path, "a.gguf");
    assert_null(near->upstream);
    assert_int_equal(near->alias_count, 2);
    assert_string_equal(near->aliases[1], "y");
    assert_int_equal(near->most_tokens, 9);
    assert_int_equal(near->most_seconds, 70);
    assert_int_equal(near->most_waiting, 8);
    assert_int_equal(near->threads, 2);
    assert_int_equal(near->cache_positions, 4096);
    assert_int_equal(near->most_running, 16);
    assert_int_equal(near->speculate, 0);
    assert_int_equal(near->has_prefix_cache, 0);
    assert_string_equal(near->isa, "avx2");
    assert_string_equal(far->upstream, "http://127.0.0.1:9");
    assert_string_equal(far->upstream_model, "m");
    assert_string_equal(far->upstream_key_file, "f");
    assert_string_equal(far->upstream_ca_file, "ca");
    assert_int_equal(far->connect_seconds, 1);
    assert_int_equal(far->idle_seconds, 2);
    assert_int_equal(far->has_prefix_cache, 1);
    config_free(&config);
}

static void test_tls_names(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct config config;
    assert_ok(parse("{\"tls\":{\"names\":[\"llm.example\",\"10.0.0.1\"]}}", &config, &error), error);
    assert_null(config.certificate);
    assert_int_equal(config.tls_name_count, 2);
    assert_string_equal(config.tls_names[0], "llm.example");
    assert_string_equal(config.tls_names[1], "10.0.0.1");
    config_free(&config);
}

static void test_defaults(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct config config;
    assert_ok(parse("{}", &config, &error), error);
    assert_string_equal(config.listen, "127.0.0.1:8080");
    assert_true(!config.http && !config.insecure_http && !config.is_open && !config.metrics_open && !config.takes_over && config.has_page);
    assert_null(config.keys);
    assert_null(config.certificate);
    assert_int_equal(config.drain_seconds, 30);
    assert_int_equal(config.model_count, 0);
    config_free(&config);
}

static void test_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "file.json"},
        {"[]", "file.json: must be an object"},
        {"{\"lisen\":\"x\"}", "file.json: there is no field \"lisen\""},
        {"{\"listen\":8080}", "\"listen\" must be a string"},
        {"{\"listen\":\"\"}", "\"listen\" must be a string that is not empty"},
        {"{\"log\":\"a\\u0000b\"}", "\"log\" must be a string"},
        {"{\"page\":1}", "\"page\" must be true or false"},
        {"{\"drain_seconds\":1.5}", "\"drain_seconds\" must be a whole number from 0 to 86400"},
        {"{\"drain_seconds\":-1}", "\"drain_seconds\" must be"},
        {"{\"drain_seconds\":86401}", "\"drain_seconds\" must be"},
        {"{\"drain_seconds\":1e2}", "\"drain_seconds\" must be"},
        {"{\"tls\":\"x\"}", "file.json, tls: must be an object"},
        {"{\"tls\":{\"certificate\":\"c\"}}", "needs both"},
        {"{\"tls\":{\"certificate\":\"c\",\"key\":\"k\"},\"insecure_http\":true}", "exclude each other"},
        {"{\"tls\":{\"names\":\"a\"}}", "file.json, tls: \"names\" must be an array of at most 16 strings"},
        {"{\"tls\":{\"names\":[\"a\",\"\"]}}", "\"names\" must hold strings that are not empty"},
        {"{\"tls\":{\"certificate\":\"c\",\"key\":\"k\",\"names\":[\"a\"]}}", "so not with \"certificate\""},
        {"{\"tls\":{\"names\":[\"a\"]},\"insecure_http\":true}", "exclude each other"},
        {"{\"tls\":{\"names\":[\"a\"]},\"http\":true}", "\"tls\" and \"http\" exclude each other"},
        {"{\"http\":\"yes\"}", "\"http\" must be true or false"},
        {"{\"tls\":{\"ca\":\"x\"}}", "file.json, tls: there is no field \"ca\""},
        {"{\"limits\":{\"body_bytes\":99999999999}}", "limits: \"body_bytes\" must be"},
        {"{\"limits\":{\"connections\":0}}", "limits: \"connections\" must be"},
        {"{\"limits\":{\"answer_bytes\":1}}", "limits: \"answer_bytes\" must be"},
        {"{\"hosts\":\"a\"}", "file.json: \"hosts\" must be an array"},
        {"{\"hosts\":[7]}", "\"hosts\" must hold strings"},
        {"{\"hosts\":[\"a:80\"]}", "file.json: \"a:80\" is no host's name"},
        {"{\"hosts\":[\"[fd00::1]:80\"]}", "is no host's name"},
        {"{\"hosts\":[\"http://a\"]}", "is no host's name"},
        {"{\"hosts\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\","
         "\"i\",\"j\",\"k\",\"l\",\"m\",\"n\",\"o\",\"p\",\"q\",\"r\",\"s\",\"t\",\"u\",\"v\",\"w\",\"x\"]}",
         "more than 32 names"},
        {"{\"limits\":{\"body\":1}}", "limits: there is no field \"body\""},
        {"{\"models\":{}}", "\"models\" must be an array"},
        {"{\"models\":[1]}", "file.json, models[0]: must be an object"},
        {"{\"models\":[{\"name\":\"a\"}]}", "models[0]: needs either \"path\""},
        {"{\"models\":[{\"name\":\"a\",\"path\":\"p\",\"upstream\":\"u\"}]}", "not both"},
        {"{\"models\":[{\"path\":\"p\"}]}", "models[0]: \"name\" is missing"},
        {"{\"models\":[{\"name\":\"a b\",\"path\":\"p\"}]}", "is no name for a model"},
        {"{\"models\":[{\"name\":\"a\\\"\",\"path\":\"p\"}]}", "is no name for a model"},
        {"{\"models\":[{\"name\":\"a\",\"path\":\"p\"},{\"name\":\"a\",\"path\":\"p\"}]}", "\"a\" is given to models more"},
        {"{\"models\":[{\"name\":\"a\",\"path\":\"p\",\"aliases\":[\"a\"]}]}", "\"a\" is given to models more"},
        {"{\"models\":[{\"name\":\"a\",\"path\":\"p\",\"aliases\":[7]}]}", "\"aliases\" must hold strings"},
        {"{\"models\":[{\"name\":\"a\",\"path\":\"p\",\"aliases\":\"x\"}]}", "\"aliases\" must be an array"},
        {"{\"models\":[{\"name\":\"a\",\"path\":\"p\",\"aliases\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\","
         "\"10\",\"11\",\"12\",\"13\",\"14\",\"15\",\"16\",\"17\"]}]}",
         "at most 16"},
        {"{\"models\":[{\"name\":\"a\",\"path\":\"p\",\"upstream_model\":\"x\"}]}",
         "\"upstream_model\" is only for models with \"upstream\""},
        {"{\"models\":[{\"name\":\"a\",\"upstream\":\"u\",\"threads\":1}]}", "\"threads\" is only for models with \"path\""},
        {"{\"models\":[{\"name\":\"a\",\"path\":\"p\",\"threads\":257}]}", "\"threads\" must be"},
        {"{\"models\":[{\"name\":\"a\",\"path\":\"p\",\"threads\":\"2\"}]}", "\"threads\" must be"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bulla_error error = {0};
        struct config config;
        int code = parse(cases[i].text, &config, &error);
        if (code != BULLA_E_INPUT || !strstr(error.text, cases[i].says))
            fail_msg("case %zu: %d, \"%s\" does not say \"%s\"", i, code, error.text, cases[i].says);
        config_free(&config);
    }
}

static void test_hosts_of_an_option(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "a,", ",a", "a b", "a:80", "[::1", "a,,b"};
    bulla_error error = {0};
    struct config config;
    assert_ok(parse("{\"hosts\":[\"old\"]}", &config, &error), error);
    assert_ok(config_set_hosts(&config, "a.example,[::1],b", &error), error);
    assert_int_equal(config.host_count, 3);
    assert_string_equal(config.hosts[0], "a.example");
    assert_string_equal(config.hosts[1], "[::1]");
    assert_string_equal(config.hosts[2], "b");
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        bulla_error_clear(&error);
        assert_int_equal(config_set_hosts(&config, wrong[i], &error), BULLA_E_USAGE);
        assert_non_null(strstr(error.text, "is no host's name"));
    }
    config_free(&config);
}

static void test_many_models(void **state)
{
    (void)state;
    for (int count = CONFIG_MOST_MODELS; count <= CONFIG_MOST_MODELS + 1; count++) {
        bulla_error error = {0};
        struct config config;
        struct buffer text = {0};
        buffer_append_text(&text, "{\"models\":[");
        for (int i = 0; i < count; i++)
            buffer_append_format(&text, "%s{\"name\":\"m%d\",\"path\":\"p\"}", i ? "," : "", i);
        buffer_append_text(&text, "]}");
        int code = parse((const char *)text.data, &config, &error);
        assert_int_equal(code, count == CONFIG_MOST_MODELS ? BULLA_OK : BULLA_E_INPUT);
        assert_true(code != BULLA_OK || config.model_count == CONFIG_MOST_MODELS);
        config_free(&config);
        buffer_free(&text);
    }
}

static void test_failures(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct config config;
    char path[] = "/tmp/bulla-test-config-XXXXXX";
    close(mkstemp(path));
    assert_ok(file_write(path, whole, sizeof whole - 1, &error), error);
    for (int is_file = 0; is_file < 2; is_file++)
        for (uint64_t n = 1;; n++) {
            bulla_error_clear(&error);
            (is_file ? file_inject_failure : memory_inject_failure)(n, 0);
            int code = config_read(path, &config, &error);
            (is_file ? file_inject_failure : memory_inject_failure)(0, 0);
            config_free(&config);
            if (code == BULLA_OK) {
                assert_true(n > 2);
                break;
            }
            assert_int_equal(code, is_file ? BULLA_E_IO : BULLA_E_MEMORY);
        }
    unlink(path);
    assert_int_equal(config_read(path, &config, &error), BULLA_E_IO);
    assert_non_null(strstr(error.text, path));
    config_free(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_tls_names),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_hosts_of_an_option),
        cmocka_unit_test(test_many_models),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
