/* What the parts of NVIDIA's format share. */
#ifndef TRUST_EVIDENCE_NVIDIA_H
#define TRUST_EVIDENCE_NVIDIA_H

#include <stddef.h>
#include <stdint.h>

#include "trust/evidence.h"

enum { NVIDIA_MEASUREMENTS = 64, NVIDIA_MEASUREMENT_BYTES = 48 };

/* What a report says. Measurements are numbered from 0, as NVIDIA's reference manifests do: SPDM's index less one. */
struct nvidia_report {
    const uint8_t *measurements[NVIDIA_MEASUREMENTS];
    size_t measurement_count;
    const char *driver_version, *vbios_version; /* NULL: not said */
    int has_no_decoder; /* NVDEC0 is switched off: its measurement stands for nothing */
};

/* "nvidia.driver_rim.*", "nvidia.vbios_rim.*": the document's reference manifests against the report. Whether both vouch
 * for it. */
int nvidia_check_rims(struct evidence *evidence, const struct nvidia_report *report);

#endif
