#define _GNU_SOURCE
#include "ops/preflight.h"

#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The number behind `prefix` on the first line that begins with it; 0 where there is none ("max", say). */
static uint64_t read_number(const char *path, const char *prefix)
{
    char line[256];
    uint64_t number = 0;
    FILE *file = fopen(path, "r");
    int is_found = 0;
    while (file && !is_found && fgets(line, sizeof line, file))
        is_found = strncmp(line, prefix, strlen(prefix)) == 0;
    if (file)
        fclose(file);
    if (!is_found || sscanf(line + strlen(prefix), "%" SCNu64, &number) != 1)
        return 0;
    return number;
}

uint64_t preflight_memory(void)
{
    uint64_t machine = read_number("/proc/meminfo", "MemTotal:") << 10;
    uint64_t group = read_number("/sys/fs/cgroup/memory.max", "");
    return group > 0 && (group < machine || machine == 0) ? group : machine;
}

uint64_t preflight_gpu_memory(void)
{
    glob_t found;
    uint64_t sum = 0;
    if (glob("/sys/class/drm/card*/device/mem_info_vram_total", 0, NULL, &found) != 0)
        return 0;
    for (size_t i = 0; i < found.gl_pathc; i++)
        sum += read_number(found.gl_pathv[i], "");
    globfree(&found);
    return sum;
}

static int demand(const char *what, uint64_t wanted, uint64_t there, const char *unknown, bulla_error *error)
{
    if (there >= wanted)
        return BULLA_OK;
    return bulla_fail(error, BULLA_E_LIMIT, "the policy demands %" PRIu64 " bytes of %s, and this machine has %" PRIu64 "%s",
                      wanted, what, there, there ? "" : unknown);
}

int preflight_check(const struct policy *policy, bulla_error *error)
{
    int code = demand("memory", policy_memory(policy), preflight_memory(), " that could be found", error);
    if (code != BULLA_OK)
        return code;
    return demand("GPU memory", policy_gpu_memory(policy), preflight_gpu_memory(),
                  " that its kernel tells of (NVIDIA's driver does not)", error);
}
