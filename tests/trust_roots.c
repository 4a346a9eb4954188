/* In place of src/trust/roots.c, in tests only: the vendors' roots as they are, and roots that a test has made. */
#include "trust_roots.h"

#include <string.h>

/* The product's table under another name. */
const struct root *vendor_root_find(const char *vendor, const uint8_t sha256[32]);
#define root_find vendor_root_find
#include "../src/trust/roots.c"
#undef root_find

static struct root made[MOST_TEST_ROOTS];
static size_t made_count;

void test_root_add(const char *vendor, const uint8_t sha256[32])
{
    struct root *root = &made[made_count < MOST_TEST_ROOTS ? made_count++ : MOST_TEST_ROOTS - 1];
    root->vendor = vendor;
    root->name = "a test's root";
    memcpy(root->sha256, sha256, 32);
}

void test_roots_forget(void)
{
    made_count = 0;
}

const struct root *root_find(const char *vendor, const uint8_t sha256[32])
{
    for (size_t i = 0; i < made_count; i++)
        if (strcmp(made[i].vendor, vendor) == 0 && memcmp(made[i].sha256, sha256, 32) == 0)
            return &made[i];
    return vendor_root_find(vendor, sha256);
}
