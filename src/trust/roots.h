/* The roots of trust of hardware vendors, pinned by the SHA-256 of the certificate (DER). The table is one object file of
 * its own (roots.c); test binaries are linked with another one instead (tests/trust_roots.c), so that no test root is in
 * anything that people run. */
#ifndef TRUST_ROOTS_H
#define TRUST_ROOTS_H

#include <stdint.h>

struct root {
    const char *vendor; /* "amd", "arm", "aws", "intel", "nvidia", "nvidia_rim", "tpm" */
    const char *name;   /* as people know it */
    uint8_t sha256[32]; /* of the certificate; "arm": of a platform's key (SubjectPublicKeyInfo) */
};

/* The root of this vendor with this digest, or NULL. */
const struct root *root_find(const char *vendor, const uint8_t sha256[32]);

#endif
