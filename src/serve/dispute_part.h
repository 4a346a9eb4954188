/* A model's program part as a file: all that a referee needs of a model (docs/dispute.md, "The program part"). It is the
 * beginning of the model's rooted region (docs/model-file.md) up to the first tensor, so operations, tokenizer and chat
 * template, with the proof that leads from it to the model root.
 *
 *     0      16   "bulla-part-1", a line feed, zeros
 *     16     32   model root
 *     48     u64  bytes of the region
 *     56     u64  bytes of the part, a multiple of 1,024
 *     64     u64  bytes of the proof
 *     128         the part; behind it the proof */
#ifndef SERVE_DISPUTE_PART_H
#define SERVE_DISPUTE_PART_H

#include "bulla/model.h"
#include "check/step.h"
#include "check/trace.h"

struct dispute_part {
    void *bytes;                 /* the file */
    struct step_program program; /* without operations of step_program_open */
};

int dispute_part_write(const struct trace_model *model, const char *path, bulla_error *error);
/* BULLA_E_INPUT where the part does not lead to its root. */
int dispute_part_open(const char *path, struct dispute_part *part, bulla_error *error);
void dispute_part_close(struct dispute_part *part); /* a zeroed one is fine */
/* A descriptor of a model file in memory whose tensors are holes: for whoever reads its program, tokenizer and template. */
int dispute_part_model(const struct dispute_part *part, int *descriptor, bulla_error *error);

#endif
