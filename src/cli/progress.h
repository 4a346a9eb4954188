/* Progress of long work on standard error: a bar on a terminal, plain lines elsewhere. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

struct progress {
    const char *what; /* "import" */
    int is_terminal;
    int shown; /* a bar stands on the terminal's line */
    double start, last;
    double last_fraction;
    char stage[64];
};

void progress_begin(struct progress *progress, const char *what);
/* `context` is a struct progress. Fits import_options.progress; non-zero once an interrupt came. */
int progress_show(void *context, const char *stage, double fraction);
/* Takes the bar away. Returns the seconds since progress_begin. */
double progress_end(struct progress *progress);

#endif
