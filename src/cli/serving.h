/* A server from its configuration: everything joined, run until it is told to stop. */
#ifndef CLI_SERVING_H
#define CLI_SERVING_H

#include "base/buffer.h"
#include "ops/config.h"

/* Serves until SIGTERM or SIGINT, then finishes the answers under way; BULLA_E_CANCELLED where a second signal cut that
 * short. Prints "listening on URL" once all models are ready. A model's path may be a source of model_cache.h. */
int serving_run(const struct config *config, bulla_error *error);

/* The folder of the certificate that the server makes itself: $BULLA_STATE/tls, or
 * ${XDG_STATE_HOME:-$HOME/.local/state}/bulla/tls. It is made where it is not there. */
int serving_find_tls_folder(struct buffer *folder, bulla_error *error);

#endif
