/* Attesters: what has a machine's hardware vouch for 64 bytes of report data. A const table with a row each; each is a
 * file in trust/attester/, which turns one kernel interface (or a TPM's) into the members of an evidence document
 * (docs/evidence.md), less the binding. docs/attesters.md says what each reads and writes.
 *
 * One attester is used by one thread at a time. A quote may take seconds. */
#ifndef TRUST_ATTESTER_H
#define TRUST_ATTESTER_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "bulla/error.h"

enum { ATTESTER_DATA = 64 };

/* Where an attester looks, and what it is told. NULL: the system's own. */
struct attester_options {
    /* Of a TPM: texts of the configuration. */
    const char *tpm_tcti;        /* how to reach it, as tpm2-tss names it; "device:/dev/tpmrm0" */
    const char *tpm_key;         /* persistent handle of the attestation key, "0x81010001"; NULL: one is made */
    const char *tpm_certificate; /* NV index of its certificate, "0x01c10000"; NULL: none is read */
    const char *tpm_pcrs;        /* "0,1,7" of the bank SHA-256 */
    /* Tests put others in place of the kernel's interfaces. */
    const char *tsm;             /* "/sys/kernel/config/tsm/report" */
    const char *gramine;         /* "/dev/attestation" */
    const char *nsm;             /* "/dev/nsm" */
    const char *tpm_device;      /* "/dev/tpmrm0": whether there is a TPM */
    const char *tpm_event_log;   /* "/sys/kernel/security/tpm0/binary_bios_measurements" */
    int (*nsm_call)(int descriptor, unsigned long request, void *message); /* ioctl */
};

struct attester {
    const char *name;  /* "tsm" */
    const char *title; /* "Linux configfs-tsm (AMD SEV-SNP, Intel TDX, Arm CCA)" */
    int is_simulated;
    int (*is_there)(const struct attester_options *options); /* NULL: never found, only named */
    /* What evidence of this machine will lack, and what to do about it, as an error; NULL: nothing ever. */
    int (*find_lack)(const struct attester_options *options, bulla_error *error);
    /* *state is whatever the attester keeps between quotes; it is NULL before, and close ends it. The options outlive it. */
    int (*open)(const struct attester_options *options, void **state, bulla_error *error);
    /* Appends an object of JSON with the document's members: "type" and those of that format. */
    int (*quote)(void *state, const uint8_t report_data[ATTESTER_DATA], struct buffer *document, bulla_error *error);
    void (*close)(void *state);
};

/* In the order in which they are looked for. */
const struct attester *const *attesters(size_t *count);
const struct attester *attester_named(const char *name); /* NULL: there is none */
/* The first that this machine has; NULL: none. A simulated one is never found. */
const struct attester *attester_find(const struct attester_options *options);

extern const struct attester attester_tsm, attester_gramine, attester_nsm, attester_tpm, attester_sim;

#endif
