/* What the parts of the TPM's format share: the PCR values that a quote vouches for. */
#ifndef TRUST_EVIDENCE_TPM_H
#define TRUST_EVIDENCE_TPM_H

#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "trust/evidence.h"

enum { TPM_PCRS = 24, TPM_ALGORITHMS = 4, TPM_LONGEST_DIGEST = 64, TPM_MOST_LOG = 4 << 20 /* bytes of an event log */ };

/* The hashes of PCR banks: TPM 2.0 Library, Part 2, table "TPM_ALG_ID". */
struct tpm_algorithm {
    uint16_t id;
    const char *name;   /* in documents: "sha256" */
    const char *digest; /* libcrypto's */
    size_t size;
};

extern const struct tpm_algorithm tpm_algorithms[TPM_ALGORITHMS];
int tpm_algorithm_find(uint16_t id); /* the index, or -1 */

/* The values by bank, in the order of tpm_algorithms. Bit n of `given` stands for PCR n. */
struct tpm_pcrs {
    uint32_t given[TPM_ALGORITHMS];
    uint8_t values[TPM_ALGORITHMS][TPM_PCRS][TPM_LONGEST_DIGEST];
};

/* The structures of the TPM are big-endian; TPM2B: 16 bits of size and as many bytes. */
uint16_t tpm_read_u16(struct reader *reader);
uint32_t tpm_read_u32(struct reader *reader);
uint64_t tpm_read_u64(struct reader *reader);
const uint8_t *tpm_read_sized(struct reader *reader, size_t *length);
/* Over a structure that comes bare, or as the TPM answers it, with its size before it. */
struct reader tpm_reader_over(const uint8_t *bytes, size_t length);

/* "tpm.log.*": the document's event log against the quoted values; claims what its events say. */
void tpm_check_event_log(struct evidence *evidence, const struct tpm_pcrs *pcrs);
/* "tpm.ak_public.*": the document's public area of the key that signed with `scheme` and `hash` (TPM_ALG_ID). */
void tpm_check_public_area(struct evidence *evidence, EVP_PKEY *key, uint16_t scheme, uint16_t hash);

#endif
