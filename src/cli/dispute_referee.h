/* `bulla dispute referee`, `replay` and `log`. */
#ifndef CLI_DISPUTE_REFEREE_H
#define CLI_DISPUTE_REFEREE_H

#include "cli/options.h"

struct dispute_choice {
    const char *store, *listen, *folder, *key, *certificate, *certificate_key, *tls_folder; /* the referee */
    struct option_texts programs, proposers;
    uint64_t window, turn;
    int http;
    const char *model, *referee, *ca, *referee_key, *proposer, *stake, *about, *out; /* the parties */
    uint64_t choice, threads;
    int has_choice, unaudited;
};

int dispute_referee(const struct dispute_choice *chosen, bulla_error *error);
int dispute_replay(const struct dispute_choice *chosen, const char *log, bulla_error *error);
int dispute_log(const struct dispute_choice *chosen, bulla_error *error);

#endif
