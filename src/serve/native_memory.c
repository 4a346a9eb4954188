#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "bulla/engine.h"
#include "exec/cpu/plan.h"
#include "serve/native_internal.h"

enum { MOST_CONTEXTS = 256 }; /* more than as many full ones as run at once are never used */

/* The number in the first line of a small file that begins with `name`; UINT64_MAX where there is none. Files of /proc
 * and /sys have no size, so base/file.h does not read them. */
static uint64_t read_number(const char *path, const char *name)
{
    uint64_t number = UINT64_MAX;
    char line[200];
    FILE *file = fopen(path, "re");
    if (!file)
        return number;
    while (number == UINT64_MAX && fgets(line, sizeof line, file))
        if (strncmp(line, name, strlen(name)) == 0) {
            char *end;
            unsigned long long found = strtoull(line + strlen(name), &end, 10);
            if (end != line + strlen(name))
                number = found;
        }
    fclose(file);
    return number;
}

/* Bytes that new allocations may take: what the system calls available, and no more than the control group leaves. */
static uint64_t free_bytes(void)
{
    uint64_t kibibytes = read_number("/proc/meminfo", "MemAvailable:"), bytes;
    if (kibibytes < UINT64_MAX / 1024) {
        bytes = 1024 * kibibytes;
    } else {
        long pages = sysconf(_SC_AVPHYS_PAGES), size = sysconf(_SC_PAGESIZE);
        bytes = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
    }
    uint64_t most = read_number("/sys/fs/cgroup/memory.max", ""), used = read_number("/sys/fs/cgroup/memory.current",
                                                                                     "");
    if (most != UINT64_MAX && used != UINT64_MAX) {
        uint64_t left = most > used ? most - used : 0;
        bytes = left < bytes ? left : bytes;
    }
    return bytes;
}

static uint64_t pages_of(uint64_t positions)
{
    return positions / BULLA_PAGE_POSITIONS + (positions % BULLA_PAGE_POSITIONS != 0);
}

int native_memory_pages(const bulla_program *program, uint64_t positions, uint64_t model_bytes, uint64_t *pages,
                        bulla_error *error)
{
    struct plan plan;
    uint64_t one = pages_of(program->context);
    *pages = pages_of(positions);
    if (positions)
        return BULLA_OK;
    int code = plan_make(program, 1, &plan, error);
    if (code != BULLA_OK)
        return code;
    uint64_t page_bytes = plan.page_bytes ? plan.page_bytes : 64, bytes = free_bytes();
    plan_free(&plan);
    bytes = bytes > model_bytes ? bytes - model_bytes : 0; /* the worker packs the weights anew */
    *pages = bytes / 4 / page_bytes;
    if (*pages > MOST_CONTEXTS * one)
        *pages = MOST_CONTEXTS * one;
    if (*pages < one)
        *pages = one;
    return BULLA_OK;
}
