/* Import: from a model as published to a canonical program in a model file
 * (docs/canonical.md, "Import"). Deterministic: the same source with the same
 * options gives the same bytes, whatever the machine, compiler, threads or executor. */
#ifndef MODEL_IMPORT_H
#define MODEL_IMPORT_H

#include <stddef.h>
#include <stdint.h>

#include "base/threads.h"
#include "bulla/error.h"
#include "model/import_executor.h"

/* Raised by every change after which some source imports to other bytes. */
enum { IMPORT_REVISION = 6 };

struct import_options {
    int fast;          /* rows rounded to nearest: no error feedback */
    uint64_t context;  /* 0: the model's own; less makes a shorter program (LongRoPE: chooses the divisors) */
    const char *chat_template; /* Jinja source instead of the model's own; NULL: the model's */
    size_t chat_template_length;
    unsigned threads;  /* 0: one a core; an executor with threads of its own says how many */
    /* Called from the importing thread, at most some hundred times; `fraction` rises
     * from 0 to 1. Returning non-zero cancels (BULLA_E_CANCELLED). May be NULL. */
    int (*progress)(void *context, const char *stage, double fraction);
    void *progress_context;
};

/* Reads the GGUF or safetensors at `source` and writes the model file `path`,
 * which appears only when it is whole. `model_root` gets its root. */
int import_model(const char *source, const char *path, const struct import_options *options,
                 const struct import_executor *executor, uint8_t model_root[32], bulla_error *error);

#endif
