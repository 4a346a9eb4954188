/* The set of served models: names, aliases, and backends that are closed when nobody needs them any more. */
#include "test.h"

#include "base/memory.h"
#include "serve/models.h"

struct fake {
    struct backend head;
    int closed;
    struct models *models; /* with `ends`: an answer ends while it is closed, as real ones fail theirs */
    struct served_model *ends;
};

static void close_fake(struct backend *backend)
{
    struct fake *fake = (struct fake *)backend;
    fake->closed++;
    if (fake->ends)
        models_end(fake->models, fake->ends);
}

static const struct backend_class fake_class = {.name = "fake", .close = close_fake};

static struct fake make_fake(void)
{
    return (struct fake){.head.class = &fake_class};
}

static int add(struct models *models, struct fake *fake, const char *name, const char *alias, bulla_error *error)
{
    struct served_model model = {.name = name, .backend = &fake->head, .most_tokens = 7, .created = 9};
    if (alias)
        model.aliases[model.alias_count++] = alias;
    return models_add(models, &model, error);
}

static void test_names(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct models *models;
    struct fake one = make_fake(), two = make_fake(), bad[5];
    assert_ok(models_open(&models, &error), error);
    assert_null(models_find(models, NULL));
    assert_null(models_at(models, 0));
    char text[8] = "one";
    assert_ok(add(models, &one, text, "uno", &error), error);
    strcpy(text, "xxx"); /* texts are copied */
    assert_string_equal(models_find(models, "")->name, "one");
    assert_ptr_equal(models_find(models, NULL), models_at(models, 0));
    assert_ok(add(models, &two, "two", NULL, &error), error);
    assert_null(models_find(models, NULL)); /* two by now */
    assert_ptr_equal(models_find(models, "uno")->backend, &one.head);
    assert_ptr_equal(models_find(models, "two")->backend, &two.head);
    assert_int_equal(models_find(models, "two")->most_tokens, 7);
    assert_int_equal(models_find(models, "two")->created, 9);
    assert_null(models_find(models, "On"));
    assert_string_equal(models_at(models, 1)->name, "two");
    assert_null(models_at(models, 2));
    const char *const names[5][2] = {{"one", NULL}, {"uno", NULL}, {"three", "two"}, {"three", "three"}, {"", NULL}};
    const char *const says[5] = {"\"one\" is taken", "\"uno\" is taken: model \"one\"", "\"two\" is taken",
                                 "\"three\" comes twice", "name is empty"};
    for (int i = 0; i < 5; i++) {
        bad[i] = make_fake();
        bulla_error_clear(&error);
        assert_int_equal(add(models, &bad[i], names[i][0], names[i][1], &error), BULLA_E_USAGE);
        assert_non_null(strstr(error.text, says[i]));
        assert_int_equal(bad[i].closed, 1); /* taken over, also where it fails */
    }
    models_close(models);
    assert_int_equal(one.closed, 1);
    assert_int_equal(two.closed, 1);
}

static void test_remove(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct models *models;
    struct fake one = make_fake(), two = make_fake(), three = make_fake();
    assert_ok(models_open(&models, &error), error);
    assert_ok(add(models, &one, "one", NULL, &error), error);
    assert_ok(add(models, &two, "two", NULL, &error), error);
    struct served_model *busy = models_find(models, "two");
    models_begin(busy);
    models_begin(busy);
    assert_ok(models_remove(models, "two", &error), error); /* the last of the list */
    assert_true(busy->is_removed);
    assert_null(models_find(models, "two"));
    assert_ok(add(models, &three, "two", NULL, &error), error); /* its name is free again */
    assert_ptr_equal(models_at(models, 1)->backend, &three.head);
    assert_ok(models_remove(models, "one", &error), error);
    assert_int_equal(one.closed, 1);
    models_end(models, busy);
    models_sweep(models);
    assert_int_equal(two.closed, 0);
    models_end(models, busy);
    assert_int_equal(two.closed, 0); /* not from inside a callback of its own */
    models_sweep(models);
    assert_int_equal(two.closed, 1);
    assert_int_equal(models_remove(models, "one", &error), BULLA_E_USAGE);
    assert_non_null(strstr(error.text, "no model \"one\""));
    bulla_error_clear(&error);
    assert_int_equal(models_remove(models, "", &error), BULLA_E_USAGE); /* nobody means the only one by this */
    models_close(models);
    assert_int_equal(three.closed, 1);
    models_close(NULL);
}

static void test_close_with_answers(void **state)
{
    (void)state;
    bulla_error error = {0};
    struct models *models;
    struct fake one = make_fake(), two = make_fake();
    assert_ok(models_open(&models, &error), error);
    assert_ok(add(models, &one, "one", NULL, &error), error);
    assert_ok(add(models, &two, "two", NULL, &error), error);
    one.models = two.models = models;
    models_begin(one.ends = models_find(models, "one"));
    models_begin(two.ends = models_find(models, "two"));
    assert_ok(models_remove(models, "two", &error), error);
    models_close(models);
    assert_int_equal(one.closed, 1);
    assert_int_equal(two.closed, 1);
}

static void test_memory(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        bulla_error error = {0};
        struct models *models = NULL;
        struct fake one = make_fake();
        memory_inject_failure(n, 0);
        int code = models_open(&models, &error);
        int opened = code == BULLA_OK;
        if (opened)
            code = add(models, &one, "one", "uno", &error);
        memory_inject_failure(0, 0);
        models_close(models);
        assert_int_equal(one.closed, opened);
        if (code == BULLA_OK) {
            assert_true(n > 3);
            return;
        }
        assert_int_equal(code, BULLA_E_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_remove),
        cmocka_unit_test(test_close_with_answers),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
