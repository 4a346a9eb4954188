/* Command-line options: one parser, driven by a constant table a verb.
 *
 * An option is `--name`, `--name VALUE`, `--name=VALUE`, or with its letter
 * `-n VALUE`, `-nVALUE`. Options and other arguments may mix; after `--`
 * nothing is an option. A name is written in full. An option that is given
 * twice is an error, since one of the two would be ignored in silence, unless
 * it takes several texts. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "bulla/error.h"

/* What an option's value is, and what the verb's struct holds at `offset`. */
enum option_type {
    OPTION_FLAG,    /* no value; int, set to 1 */
    OPTION_INTEGER, /* a whole number from minimum to maximum; uint64_t */
    OPTION_DECIMAL, /* a decimal number kept exactly in millionths (docs/canonical.md counts so), which minimum and
                       maximum are in too; uint64_t */
    OPTION_TEXT,    /* any text; const char *, the argument itself */
    OPTION_TEXTS    /* any text, each time it is given; struct option_texts */
};

enum { OPTION_MOST_TEXTS = 16 };

struct option_texts {
    const char *texts[OPTION_MOST_TEXTS];
    size_t count;
};

struct option_spec {
    const char *name;   /* without the dashes */
    char letter;        /* 0, or the one-letter form */
    enum option_type type;
    size_t offset;      /* offsetof in the struct that options_parse fills */
    const char *value;  /* what help calls the value, in capitals: "N", "FILE" */
    const char *help;   /* one sentence; says the default */
    uint64_t minimum, maximum; /* OPTION_INTEGER, OPTION_DECIMAL */
};

/* Longest table of options a verb may have. */
enum { OPTIONS_MAX = 64 };

/* Reads argv[0..argc) by the table into `values`, a struct whose fields hold
 * their defaults before the call. The arguments that are no options move to the
 * front of argv in order, and their count to *others. BULLA_E_USAGE with a
 * sentence that names the option, what was found and what is expected. */
int options_parse(const struct option_spec *options, size_t count, int argc, char **argv, void *values, int *others,
                  bulla_error *error);

/* Appends one help entry an option, indented, in columns, folded at 100. */
void options_describe(const struct option_spec *options, size_t count, struct buffer *out);

/* Whether `word` is likely meant as `name`: the number of letters inserted,
 * dropped, replaced or swapped with a neighbour between them. */
size_t options_distance(const char *word, const char *name);

#endif
