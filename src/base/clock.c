#define _GNU_SOURCE
#include "base/clock.h"

#include <time.h>

uint64_t clock_nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

double clock_seconds(void)
{
    return 1e-9 * (double)clock_nanoseconds();
}
