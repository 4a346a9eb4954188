/* model/import_executor.h by the reference operations, in one thread: for tests,
 * and the operations at one position for faster executors to fall back on. */
#ifndef EXEC_REF_IMPORT_RUN_H
#define EXEC_REF_IMPORT_RUN_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/error.h"
#include "model/import_executor.h"

int reference_import_executor_open(struct import_executor *executor, bulla_error *error);
void reference_import_executor_close(struct import_executor *executor);

/* Bytes of scratch that reference_import_row needs for this step, aligned to 8. */
size_t reference_import_scratch(const struct import_step *step);
/* The step's operation at one position (of all sequences); 1 for RANGE. */
int reference_import_row(const struct import_step *step, uint64_t row, void *scratch);

/* The sequence that holds `row`. */
uint64_t import_step_sequence(const struct import_step *step, uint64_t row);
/* BULLA_E_RANGE for the first row that is marked in `range` [positions], or BULLA_OK. */
int import_step_range(const struct import_step *step, const uint8_t *range, bulla_error *error);

#endif
