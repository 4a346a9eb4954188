/* Machines with a TPM that tests make themselves: a boot with its event log, a quote of it, a key with its public area and
 * its certificates. A case changes one thing of it. */
#ifndef TESTS_TPM_MACHINE_H
#define TESTS_TPM_MACHINE_H

#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

enum { PCRS = 24, SHA_1 = 4, SHA_256 = 0xb, SHA_384 = 0xc, SHA_512 = 0xd, RSASSA = 0x14, RSAPSS = 0x16, ECDSA = 0x18 };

/* An event of the log. */
struct logged {
    uint32_t pcr, type;
    const char *data;
    size_t length;
    int is_of_other_data; /* the digest */
};

enum { MOST_LOGGED = 24, MOST_UNLOGGED = 5, BOOT_EVENTS = 10, NO_ACTION = 3, SEPARATOR = 4, CRTM_VERSION = 8, IPL = 13 };

#define GLOBAL "\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c"
#define SECURE_BOOT_HEAD GLOBAL "\x0a\0\0\0\0\0\0\0"
#define SECURE_BOOT_NAME "S\0e\0c\0u\0r\0e\0B\0o\0o\0t\0"
#define SECURE_BOOT(length, value) SECURE_BOOT_HEAD length "\0\0\0\0\0\0\0" SECURE_BOOT_NAME value
#define DATA(text) text, sizeof text - 1
#define SECURE_BOOT_IS_ON SECURE_BOOT("\x01", "\x01")
#define SECURE_BOOT_IS_OFF SECURE_BOOT("\x01", "\x00")

struct machine {
    uint32_t magic;
    uint16_t type;
    uint64_t firmware;
    uint8_t nonce[32], safe;
    struct {
        uint16_t bank;
        uint32_t pcrs;
        uint8_t select_bytes;
    } selections[4];
    size_t selection_count;
    uint32_t more_given, less_given; /* of SHA-256, in the document */
    int value_changed, value_signed; /* a PCR, or -1: in the document alone; in the quote too */
    int digest_hash;                 /* 0: the signature's */
    EVP_PKEY *key, *signer;          /* signer NULL: the key */
    int scheme, hash, said_scheme;   /* said_scheme 0: the scheme */
    int salt;
    const char *quote_more, *signature_more; /* bytes behind */
    int is_sized, cut;
    const char *left_out;            /* a member of the document */
    const char *more;                /* members of it */
    /* The chain; without it the document has "ak". */
    int is_certified, order, is_root_pinned;
    int64_t leaf_until, revoked;
    EVP_PKEY *certified;
    const char *use;                 /* keyUsage */
    /* The public area */
    int has_public;
    uint32_t attributes, exponent;
    uint16_t name_algorithm, public_scheme, public_hash, symmetric, public_type;
    EVP_PKEY *public_of;
    /* The log */
    struct logged log[MOST_LOGGED];
    struct logged unlogged[MOST_UNLOGGED]; /* extended behind those of the log */
    size_t log_count, log_cut;
    int spec_major, spec_size, log_bank, log_bank_twice, has_no_log, digest_bank_twice;
    int bank_left_out;          /* of the event `left_out_at` */
    size_t left_out_at;
    const char *signature_of_log;
    const char *policy;              /* NULL: names the key; "": nothing of it */
    const char *policy_more;
    int asks_another_nonce;
};

/* How the chain is given. */
enum { ORDER_RIGHT, ORDER_SWAPPED, ORDER_TRUNCATED, ORDER_EXTENDED, ORDER_EMPTY };

/* Made by make_keys, a cmocka set-up; free_keys ends them. */
extern EVP_PKEY *rsa, *other_rsa, *small_rsa, *p256, *p384, *p224;
int make_keys(void **state);
int free_keys(void **state);

/* A machine whose quote is right; its boot has the events of `boot`, secure boot is on. */
struct machine new_machine(void);
extern const struct logged boot[BOOT_EVENTS];
/* The document, and a policy that accepts it. */
void write_machine(const struct machine *machine, struct buffer *document, char policy[2048]);
/* The SHA-256 of a key, in hex. */
void hash_key(EVP_PKEY *key, char hex[65]);

#endif
