#include "cli/importing.h"

#include <stddef.h>

#include "cli/interrupt.h"
#include "cli/progress.h"
#include "exec/cpu/import_run.h"

int importing_run(const char *source, const char *path, const struct import_options *options, uint8_t model_root[32],
                  double *seconds, bulla_error *error)
{
    struct import_executor executor;
    int code = cpu_import_executor_open(options->threads, NULL, &executor, error);
    if (code != BULLA_OK)
        return code;
    struct progress progress;
    struct import_options own = *options;
    own.progress = progress_show;
    own.progress_context = &progress;
    interrupt_catch();
    progress_begin(&progress, "import");
    code = import_model(source, path, &own, &executor, model_root, error);
    double took = progress_end(&progress);
    interrupt_release();
    cpu_import_executor_close(&executor);
    if (seconds)
        *seconds = took;
    return code;
}
