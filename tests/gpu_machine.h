/* GPUs that tests make themselves, in the shape of NVIDIA's: report, chain, reference manifests. A case changes one thing. */
#ifndef TESTS_GPU_MACHINE_H
#define TESTS_GPU_MACHINE_H

#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

enum { REQUEST = 37, BLOCKS = 64, NONCE = 32, NUMBERS = 96 };

/* A field of the opaque data. */
struct opaque {
    int type;
    const char *bytes;
    size_t length;
};

enum { MOST_OPAQUE = 16, FWID_NONE, FWID_HOPPER, FWID_BLACKWELL, FWID_OF_SHA256, FWID_SHORT, FWID_UNTAGGED };
/* How the chain is given. */
enum { ORDER_RIGHT, ORDER_SWAPPED, ORDER_TRUNCATED, ORDER_EXTENDED, ORDER_SHORT };

/* A reference manifest. */
struct rim {
    int is_given, is_forged, is_of_other_key, leaf_is_small;
    const char *version;
    int index, alternatives;  /* of the one measurement that counts */
    uint8_t value;            /* its bytes */
    const char *active, *type, *more;
    int64_t leaf_until;
    int is_root_pinned, is_short;
};

struct gpu {
    uint8_t request[REQUEST], response[4];
    int block_count;
    struct {
        uint8_t index, specification, type;
        uint16_t size, value_size;
    } blocks[BLOCKS + 1];
    size_t blocks_written, record_more;
    struct opaque opaque[MOST_OPAQUE];
    size_t opaque_count, opaque_cut;
    const char *report_more;
    int report_zeros; /* behind it */
    int fwid;                 /* the leaf's */
    const char *leaf_name, *leaf_curve;
    int order, is_root_pinned, signs_with_other_key, is_revoked;
    int64_t leaf_until;
    struct rim rims[2];
    const char *left_out, *more, *policy, *gpu_policy;
};

#define DATA(text) text, sizeof text - 1
#define FWID_BYTES "firmware identity of forty-eight bytes, exactly.."

/* make_keys is a cmocka set-up, free_keys ends it. The P-256 key is a test's to use. */
extern EVP_PKEY *gpu_small_key;
int make_keys(void **state);
int free_keys(void **state);

/* A GPU whose report is right, whose nonce is of bytes 0xd1, with both manifests. */
struct gpu new_gpu(void);
/* Its document; its roots become roots of this test binary. */
void write_gpu(const struct gpu *gpu, struct buffer *document);

#endif
