/* A running `bulla connect`: the proxy with its listener, files and signals. */
#ifndef CLI_CONNECTING_H
#define CLI_CONNECTING_H

#include <stddef.h>

#include "bulla/error.h"

struct connecting {
    const char *url, *policy; /* policy: a file */
    const char *listen;       /* "127.0.0.1:8081"; loopback only */
    const char *state;        /* folder; NULL: bulla/connect below the state folder */
    const char *receipts;     /* folder; NULL: `receipts` in the state's */
    const char *local_key_file, *server_key_file; /* NULL: `key` in the state's; none */
    int is_open, is_strict, needs_no_log, leaves_texts_out;
    const char *log_key;      /* verifier keys, or NULL */
    const char *const *witnesses;
    size_t witness_count, witnesses_needed;
    unsigned renew_seconds, idle_seconds;
};

/* Runs until SIGTERM or SIGINT, then finishes the answers under way; BULLA_E_CANCELLED where a second signal cut that
 * short. Prints "listening on URL". */
int connecting_run(const struct connecting *options, bulla_error *error);

#endif
