/* Where the program keeps what must outlive it: $BULLA_STATE, or ${XDG_STATE_HOME:-$HOME/.local/state}/bulla. */
#ifndef CLI_STATE_FOLDER_H
#define CLI_STATE_FOLDER_H

#include "base/buffer.h"

/* A folder below that, `name` ("tls"), into an empty buffer; made where it is not there. `what` is kept there, and
 * `instead` says how to name another place, both for the sentence of an error. */
int state_folder_find(const char *name, const char *what, const char *instead, struct buffer *folder, bulla_error *error);
/* The path's folder with those above it that are not there; only its owner may look into those that are made. One that is
 * there must pass state_folder_check. */
int state_folder_make(struct buffer *folder, bulla_error *error);
/* Whether what is kept in the folder is safe from others: it must belong to whoever runs the program, and nobody else may
 * write into it. One that is not there passes. */
int state_folder_check(const char *path, bulla_error *error);

#endif
