/* Roots of certificate hierarchies that tests make themselves. */
#ifndef TESTS_TRUST_ROOTS_H
#define TESTS_TRUST_ROOTS_H

#include "trust/roots.h"

enum { MOST_TEST_ROOTS = 32 };

/* From now on the certificate of that SHA-256 (DER) is a root of the vendor, whose name must live as long. */
void test_root_add(const char *vendor, const uint8_t sha256[32]);
void test_roots_forget(void);

#endif
