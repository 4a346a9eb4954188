/* The larger of the verbs of `bulla log`; verb_log.c has the others. */
#ifndef CLI_LOG_VERBS_H
#define CLI_LOG_VERBS_H

#include <stdint.h>

#include "bulla/error.h"

struct log_choice {
    const char *log, *key, *name, *state, *out, *ca, *receipt;
    int once, first;
    uint64_t every, timeout; /* seconds */
};

int log_witness(const struct log_choice *chosen, const char *place, bulla_error *error);
int log_monitor(const struct log_choice *chosen, const char *place, bulla_error *error);

#endif
