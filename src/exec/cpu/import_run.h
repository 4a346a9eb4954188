/* model/import_executor.h in threads with the kernels of exec/cpu. */
#ifndef EXEC_CPU_IMPORT_RUN_H
#define EXEC_CPU_IMPORT_RUN_H

#include "bulla/error.h"
#include "model/import_executor.h"

/* threads 0: one a core. isa NULL: BULLA_ISA or the best that runs here. */
int cpu_import_executor_open(unsigned threads, const char *isa, struct import_executor *executor, bulla_error *error);
void cpu_import_executor_close(struct import_executor *executor);

#endif
