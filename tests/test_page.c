#include "test.h"

#include "serve/page.h"

static void test_files(void **state)
{
    (void)state;
    static const char *const paths[][2] = {
        {"/", "index.html"},        {"/page/chat.css", "chat.css"}, {"/page/chat.js", "chat.js"},
        {"/page/dom.js", "dom.js"}, {"/page/key.js", "key.js"},     {"/page/markdown.js", "markdown.js"},
        {"/page/settings.js", "settings.js"}, {"/page/state.js", "state.js"}, {"/page/stream.js", "stream.js"}};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        const struct page_file *file = page_find(paths[i][0]);
        assert_non_null(file);
        char path[4096];
        snprintf(path, sizeof path, "%s/web/chat/%s", getenv("BULLA_SOURCE_ROOT"), paths[i][1]);
        FILE *source = fopen(path, "rb");
        assert_non_null(source);
        char *bytes = malloc(file->length + 1);
        assert_int_equal(fread(bytes, 1, file->length + 1, source), file->length);
        assert_memory_equal(bytes, file->data, file->length);
        assert_int_equal(file->data[file->length], 0);
        assert_null(memchr(file->data, 0, file->length));
        free(bytes);
        fclose(source);
    }
    assert_string_equal(page_find("/")->content_type, "text/html; charset=utf-8");
    assert_string_equal(page_find("/page/chat.js")->content_type, "text/javascript; charset=utf-8");
    assert_null(page_find(""));
    assert_null(page_find("/page/"));
    assert_null(page_find("/page/chat.js/"));
    assert_null(page_find("/page/../page/chat.js"));
    assert_null(page_find("/index.html"));
}

/* Every file that the page names is there. */
static void test_references(void **state)
{
    (void)state;
    int found = 0;
    for (const char *at = page_find("/")->data; (at = strstr(at, "\"page/")); found++) {
        char path[100] = "/";
        at++;
        size_t length = strcspn(at, "\"");
        assert_true(length < sizeof path - 1);
        memcpy(path + 1, at, length);
        assert_non_null(page_find(path));
    }
    assert_int_equal(found, 2);
    assert_null(strstr(page_security_policy, "unsafe"));
    assert_memory_equal(page_security_policy, "default-src 'none'; script-src 'self'; ", 39);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_files), cmocka_unit_test(test_references)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
