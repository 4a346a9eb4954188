/* What the processor says against what the kernel says of it. */
#include "test.h"

#include "base/cpu_features.h"

/* How /proc/cpuinfo's line of features starts. */
#if defined(__aarch64__)
#define FEATURES "Features"
#else
#define FEATURES "flags"
#endif

static void test_agrees_with_kernel(void **state)
{
    (void)state;
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[8192] = "";
    while (file && fgets(line, sizeof line, file) && strncmp(line, FEATURES, strlen(FEATURES)) != 0)
        line[0] = 0;
    if (file)
        fclose(file);
    if (!line[0])
        skip();
    line[strcspn(line, "\n")] = ' ';
    uint32_t features = cpu_features();
    for (int f = 0; f < CPU_FEATURE_COUNT; f++) {
        char word[32];
        const char *name = cpu_feature_name((enum cpu_feature)f);
        snprintf(word, sizeof word, " %s ", f == CPU_SHA ? "sha_ni" : name);
        if (!strstr(line, word) != !(features >> f & 1))
            fail_msg("%s: found %u, /proc/cpuinfo %s", name, features >> f & 1, line);
    }
}

static void test_names(void **state)
{
    (void)state;
    char brand[49];
    cpu_brand(brand);
    assert_true(strlen(brand) <= 48);
    assert_true(brand[0] != ' ');
    assert_string_equal(cpu_feature_name(CPU_AVX512_VNNI), "avx512_vnni");
    assert_string_equal(cpu_feature_name(CPU_SHA), "sha");
    assert_string_equal(cpu_feature_name(CPU_ASIMDDP), "asimddp");
    assert_string_equal(cpu_feature_name(CPU_I8MM), "i8mm");
    assert_string_equal(cpu_feature_name(CPU_FEATURE_COUNT), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_kernel),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
