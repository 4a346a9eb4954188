#define _GNU_SOURCE
#include "ops/preflight.h"

#include <dlfcn.h>
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

/* NVIDIA's Management Library comes with its driver, and only there: it is asked where it is. */
static uint64_t nvidia_memory(void)
{
    struct {
        unsigned long long total, free, used;
    } memory;
    union {
        void *symbol;
        int (*start)(void);
        int (*count)(unsigned *count);
        int (*find)(unsigned index, void **device);
        int (*measure)(void *device, void *memory);
    } start, count, find, measure, end;
    unsigned devices = 0;
    uint64_t sum = 0;
    void *device, *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return 0;
    start.symbol = dlsym(library, "nvmlInit_v2");
    count.symbol = dlsym(library, "nvmlDeviceGetCount_v2");
    find.symbol = dlsym(library, "nvmlDeviceGetHandleByIndex_v2");
    measure.symbol = dlsym(library, "nvmlDeviceGetMemoryInfo");
    end.symbol = dlsym(library, "nvmlShutdown");
    if (start.symbol && count.symbol && find.symbol && measure.symbol && end.symbol && start.start() == 0) {
        if (count.count(&devices) != 0)
            devices = 0;
        for (unsigned i = 0; i < devices; i++)
            if (find.find(i, &device) == 0 && measure.measure(device, &memory) == 0)
                sum += memory.total;
        end.start();
    }
    dlclose(library);
    return sum;
}

/* As AMD's driver tells it. */
static uint64_t amd_memory(void)
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

uint64_t preflight_gpu_memory(void)
{
    return amd_memory() + nvidia_memory();
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
    uint64_t wanted = policy_gpu_memory(policy);
    return wanted ? demand("GPU memory", wanted, preflight_gpu_memory(), " that its drivers tell of", error) : BULLA_OK;
}
