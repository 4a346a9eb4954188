#define _GNU_SOURCE
#include "cli/interrupt.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>

static const int caught[] = {SIGINT, SIGTERM, SIGHUP};
enum { CAUGHT = sizeof caught / sizeof caught[0] };

static volatile sig_atomic_t came;
static int depth;
static struct sigaction before[CAUGHT];

static void note(int number)
{
    came = number;
}

void interrupt_catch(void)
{
    if (depth++ > 0)
        return;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = note; /* without SA_RESTART: a waiting read or flock returns */
    sigemptyset(&action.sa_mask);
    came = 0;
    for (int i = 0; i < CAUGHT; i++) {
        sigaction(caught[i], NULL, &before[i]);
        if (before[i].sa_handler != SIG_IGN) /* nohup stays nohup */
            sigaction(caught[i], &action, NULL);
    }
}

void interrupt_release(void)
{
    if (--depth > 0)
        return;
    for (int i = 0; i < CAUGHT; i++)
        sigaction(caught[i], &before[i], NULL);
}

int interrupt_came(void)
{
    return came != 0;
}

void interrupt_forget(void)
{
    came = 0;
}
