/* `bulla worker`: a server's process for one model, started by `bulla serve` and listed nowhere. */
#include <stddef.h>

#include "cli/verb.h"
#include "serve/native.h"

struct worker_options {
    uint64_t socket, model, counters;
};

static const struct option_spec options[] = {
    {"socket", 0, OPTION_INTEGER, offsetof(struct worker_options, socket), "N", "descriptor of the server's socket", 0,
     1023},
    {"model", 0, OPTION_INTEGER, offsetof(struct worker_options, model), "N", "descriptor of the model's file", 0,
     1023},
    {"counters", 0, OPTION_INTEGER, offsetof(struct worker_options, counters), "N", "descriptor of the shared counters",
     0,
     1023},
};

static int run(const struct verb *verb, int argc, char **argv, bulla_error *error)
{
    struct worker_options chosen = {0};
    int others;
    int code = verb_parse(verb, argc, argv, &chosen, &others, error);
    if (code != BULLA_OK)
        return code;
    if (!chosen.socket || !chosen.model || !chosen.counters)
        return bulla_fail(error, BULLA_E_USAGE,
                          "a worker needs --socket, --model and --counters; `bulla serve` starts it");
    return native_worker_run((int)chosen.socket, (int)chosen.model, (int)chosen.counters, error);
}

const struct verb verb_worker = {
    .name = "worker",
    .summary = "a server's process for one model; `bulla serve` starts it",
    .arguments = "",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .minimum_arguments = 0,
    .maximum_arguments = 0,
    .run = run,
};
