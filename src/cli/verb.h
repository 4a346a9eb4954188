/* A verb of the program: `bulla VERB ...`. One file a verb, verb_NAME.c, which
 * defines one `const struct verb` that main.c lists. */
#ifndef CLI_VERB_H
#define CLI_VERB_H

#include <stddef.h>

#include "bulla/error.h"
#include "cli/options.h"

struct verb {
    const char *name;
    const char *summary;   /* one line, for `bulla --help` */
    const char *arguments; /* what follows the name, for the usage line: "FILE [QUESTION]"; "" for none */
    const char *details;   /* for `bulla VERB --help`: what it does, in lines of up to 100 columns, or NULL */
    const struct option_spec *options;
    size_t option_count;
    int minimum_arguments, maximum_arguments; /* besides options */

    /* Does it. argv[0..argc) are the arguments after the verb's name; main has
     * already answered --help. Call verb_parse first. The result goes to
     * standard output, everything else to standard error. Returns BULLA_OK, or a
     * code with its sentence in `error`, which main prints. */
    int (*run)(const struct verb *verb, int argc, char **argv, bulla_error *error);
};

/* options_parse by the verb's table, and the count of other arguments checked:
 * they are argv[0..*others) afterwards. */
int verb_parse(const struct verb *verb, int argc, char **argv, void *values, int *others, bulla_error *error);

extern const struct verb verb_audit;
extern const struct verb verb_bench;
extern const struct verb verb_chat;
extern const struct verb verb_connect;
extern const struct verb verb_detokenize;
extern const struct verb verb_doctor;
extern const struct verb verb_import;
extern const struct verb verb_inspect;
extern const struct verb verb_keys;
extern const struct verb verb_log;
extern const struct verb verb_policy;
extern const struct verb verb_run;
extern const struct verb verb_serve;
extern const struct verb verb_tokenize;
extern const struct verb verb_verify;
extern const struct verb verb_watch;
extern const struct verb verb_worker;

#endif
