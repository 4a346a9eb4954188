/* The formats of evidence, one file each in trust/evidence/; evidence.c lists them. */
#ifndef TRUST_FORMATS_H
#define TRUST_FORMATS_H

#include "trust/evidence.h"

extern const struct evidence_format evidence_cca;
extern const struct evidence_format evidence_nitro;
extern const struct evidence_format evidence_nvidia;
extern const struct evidence_format evidence_sim;
extern const struct evidence_format evidence_sgx;
extern const struct evidence_format evidence_snp;
extern const struct evidence_format evidence_tdx;
extern const struct evidence_format evidence_tpm;

#endif
