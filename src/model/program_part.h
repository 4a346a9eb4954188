/* The program part of a model file (docs/model-file.md): the rooted region up to its tensors' data. It is all of a model that
 * a referee needs, and comes with a proof that the model root covers it. */
#ifndef MODEL_PROGRAM_PART_H
#define MODEL_PROGRAM_PART_H

#include <stddef.h>
#include <stdint.h>

#include "base/merkle_range.h"
#include "bulla/error.h"
#include "bulla/program.h"

/* `part`: `length` bytes from the region's start, 8-byte aligned, kept by the caller as long as `program`, which points into
 * it and gets operations, tensor records and sizes; its tensors have no data. `proof`: that they are the first leaves under
 * the model root. *region_length: bytes under the root. BULLA_E_INPUT where the proof, which is looked at before the program
 * is, does not hold, or the program is none. */
int program_part_read(const void *part, size_t length, const uint8_t *proof, size_t proof_length,
                      const uint8_t model_root[MERKLE_HASH], struct hash_stream *stream, bulla_program *program,
                      uint64_t *region_length, bulla_error *error);

#endif
