#define _GNU_SOURCE
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/interrupt.h"
#include "cli/output.h"

enum { BAR_CELLS = 24, LINE_COLUMNS = 80 };
static const double BAR_SECONDS = 0.1, LINE_SECONDS = 5;

void progress_begin(struct progress *progress, const char *what)
{
    const double now = clock_seconds();
    *progress = (struct progress){.what = what, .is_terminal = output_is_terminal(stderr), .start = now};
}

/* Seconds still to go, from the pace so far; negative while there is no telling. */
static double estimate(const struct progress *progress, double now, double fraction)
{
    double elapsed = now - progress->start;
    return fraction < 0.01 || elapsed < 0.5 ? -1 : elapsed * (1 - fraction) / fraction;
}

static void show_bar(struct progress *progress, double now, double fraction)
{
    struct winsize window;
    int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col ? window.ws_col : LINE_COLUMNS;
    int full = (int)(fraction * BAR_CELLS);
    char bar[BAR_CELLS + 1], left[32] = "", line[256];
    memset(bar, '.', BAR_CELLS);
    memset(bar, '#', (size_t)full);
    bar[BAR_CELLS] = 0;
    double seconds = estimate(progress, now, fraction);
    if (seconds >= 0)
        snprintf(left, sizeof left, "  ETA %d:%02d", (int)seconds / 60, (int)seconds % 60);
    snprintf(line, sizeof line, "%s [%s] %3d %%  %s%s", progress->what, bar, (int)(fraction * 100), progress->stage,
             left);
    fprintf(stderr, "\r\x1b[K%.*s", columns - 1, line); /* the last column stays free: no wrapping */
    fflush(stderr);
    progress->shown = 1;
}

int progress_show(void *context, const char *stage, double fraction)
{
    struct progress *progress = context;
    double now = clock_seconds();
    fraction = fraction >= 0 ? fraction <= 1 ? fraction : 1 : 0;
    int is_new = strncmp(stage, progress->stage, sizeof progress->stage - 1) != 0;
    if (is_new)
        snprintf(progress->stage, sizeof progress->stage, "%s", stage);
    if (is_new || now - progress->last >= (progress->is_terminal ? BAR_SECONDS : LINE_SECONDS)) {
        if (progress->is_terminal)
            show_bar(progress, now, fraction);
        else
            fprintf(stderr, "%s: %d %%, %s\n", progress->what, (int)(fraction * 100), progress->stage);
        progress->last = now;
        progress->last_fraction = fraction;
    }
    return interrupt_came();
}

double progress_end(struct progress *progress)
{
    if (progress->shown)
        fputs("\r\x1b[K", stderr);
    fflush(stderr);
    progress->shown = 0;
    return clock_seconds() - progress->start;
}
