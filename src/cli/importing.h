/* Import as the program does it: with the engine's executor, progress on
 * standard error, and Ctrl-C leaving nothing behind. */
#ifndef CLI_IMPORTING_H
#define CLI_IMPORTING_H

#include <stdint.h>

#include "bulla/error.h"
#include "model/import.h"

/* import_model with `options` (whose progress members are set here). `seconds` gets what it took;
 * may be NULL. An interrupt is BULLA_E_CANCELLED. */
int importing_run(const char *source, const char *path, const struct import_options *options, uint8_t model_root[32],
                  double *seconds, bulla_error *error);

#endif
