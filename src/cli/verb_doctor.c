/* `bulla doctor`: what a report of a problem needs to know about a machine. */
#define _GNU_SOURCE
#include <openssl/crypto.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <utf8proc.h>

#include "base/buffer.h"
#include "base/cpu_features.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/verb.h"
#include "exec/cpu/isa.h"
#include "ops/preflight.h"
#include "trust/attester.h"

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

enum { LINE_BYTES = 512, POLICY_BYTES = 1 << 20 };

struct doctor_choice {
    const char *policy;
};

static const struct option_spec options[] = {
    {"policy", 'p', OPTION_TEXT, offsetof(struct doctor_choice, policy), "FILE",
     "whether this machine has what the policy's \"resources\" demand", 0, 0},
};

/* One fact, aligned. */
#define FACT "  %-14s "

/* The first line of a file, or of those that start with `prefix`, without the
 * prefix, blanks around it and quotes; 0 when there is none. */
static int read_line(const char *path, const char *prefix, char line[LINE_BYTES])
{
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    size_t skip = strlen(prefix);
    int found = 0;
    while (!found && fgets(line, LINE_BYTES, file))
        found = strncmp(line, prefix, skip) == 0;
    fclose(file);
    if (!found)
        return 0;
    size_t start = skip + strspn(line + skip, " \t\"");
    size_t end = strlen(line);
    while (end > start && strchr(" \t\"\n", line[end - 1]))
        end--;
    memmove(line, line + start, end - start);
    line[end - start] = 0;
    return end > start;
}

static void describe_software(struct buffer *out)
{
    char line[LINE_BYTES];
    struct utsname system;
    const char *name = read_line("/etc/os-release", "PRETTY_NAME=", line) ? line : "unknown system";
    const char *kernel = uname(&system) == 0 ? system.release : "unknown";
    buffer_append_format(out, FACT "%s\n", "bulla", BULLA_VERSION);
    buffer_append_format(out, FACT "%s, kernel %s\n", "system", name, kernel);
    buffer_append_format(out, FACT "%s\n", "compiler", COMPILER);
    buffer_append_format(out, FACT "%s\n", "libcrypto", OpenSSL_version(OPENSSL_VERSION_STRING));
    buffer_append_format(out, FACT "%s (Unicode %s)\n", "utf8proc", utf8proc_version(), utf8proc_unicode_version());
}

static void describe_processor(struct buffer *out)
{
    char brand[49];
    cpu_brand(brand);
    buffer_append_format(out, FACT "%s\n", "processor", brand[0] ? brand : "unnamed");
    buffer_append_format(out, FACT, "features");
    uint32_t features = cpu_features();
    for (int f = 0; f < CPU_FEATURE_COUNT; f++)
        if (features >> f & 1)
            buffer_append_format(out, "%s ", cpu_feature_name((enum cpu_feature)f));
    buffer_append_text(out, features ? "\n" : "none that Bulla uses\n");

    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    int usable = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : (int)online;
    buffer_append_format(out, FACT "%d usable of %ld\n", "cores", usable, online);
    char line[LINE_BYTES], period[32] = "";
    unsigned long long quota, every;
    if (read_line("/sys/fs/cgroup/cpu.max", "", line) && sscanf(line, "%llu %llu", &quota, &every) == 2 && every > 0)
        snprintf(period, sizeof period, "%.2f", (double)quota / (double)every);
    if (period[0])
        buffer_append_format(out, FACT "%s cores' time (control group)\n", "limit", period);
}

/* The kernels that will run; which BULLA_ISA could name, and why not the others. */
static int describe_kernels(struct buffer *out, bulla_error *error)
{
    const struct kernels *kernels;
    const char *forced = getenv("BULLA_ISA");
    int code = isa_choose(NULL, &kernels, error);
    if (code == BULLA_OK)
        buffer_append_format(out, FACT "%s (%s), %s\n", "kernels", kernels->name, kernels->description,
                             forced && *forced ? "as BULLA_ISA says" : "the best that run here");
    else
        buffer_append_format(out, FACT "none: BULLA_ISA is %.40s\n", "kernels", forced ? forced : "not set");
    struct isa_state state;
    buffer_append_format(out, FACT "can be", "BULLA_ISA");
    for (size_t i = 0; isa_describe(i, &state); i++)
        if (state.runs)
            buffer_append_format(out, " %s", state.name);
    buffer_append_text(out, "\n");
    for (size_t i = 0; isa_describe(i, &state); i++)
        if (!state.runs)
            buffer_append_format(out, "  not %-10s %s\n", state.name, state.reason);
    return code;
}

static void describe_memory(struct buffer *out)
{
    char line[LINE_BYTES];
    unsigned long long total = 0, available = 0, limit, pages = 0, page_kib = 0;
    if (read_line("/proc/meminfo", "MemTotal:", line))
        sscanf(line, "%llu", &total);
    if (read_line("/proc/meminfo", "MemAvailable:", line))
        sscanf(line, "%llu", &available);
    buffer_append_format(out, FACT "%llu MiB, %llu MiB available\n", "memory", total >> 10, available >> 10);
    if (read_line("/sys/fs/cgroup/memory.max", "", line) && sscanf(line, "%llu", &limit) == 1)
        buffer_append_format(out, FACT "%llu MiB (control group)\n", "limit", limit >> 20);
    if (read_line("/proc/meminfo", "HugePages_Total:", line))
        sscanf(line, "%llu", &pages);
    if (read_line("/proc/meminfo", "Hugepagesize:", line))
        sscanf(line, "%llu", &page_kib);
    buffer_append_format(out, FACT "%llu reserved of %llu KiB; transparent: %s\n", "huge pages", pages, page_kib,
                         read_line("/sys/kernel/mm/transparent_hugepage/enabled", "", line) ? line : "not there");
}

/* What could attest to a server here, in the order in which `bulla serve` looks. */
static void describe_attesters(struct buffer *out)
{
    const struct attester_options machine = {0};
    const char *before = "";
    size_t count;
    const struct attester *const *all = attesters(&count);
    buffer_append_format(out, FACT, "attesters");
    for (size_t i = 0; i < count; i++)
        if (all[i]->is_there && all[i]->is_there(&machine)) {
            buffer_append_format(out, "%s%s (%s)", before, all[i]->name, all[i]->title);
            before = ", ";
        }
    buffer_append_text(out, *before ? "\n" : "none: servers on this machine have no evidence\n");
    for (size_t i = 0; i < count; i++) {
        bulla_error lack = {0};
        if (all[i]->is_there && all[i]->is_there(&machine) && all[i]->find_lack &&
            all[i]->find_lack(&machine, &lack) != BULLA_OK)
            buffer_append_format(out, FACT "%s\n", all[i]->name, lack.text);
    }
}

/* Fails where the machine has less than the policy demands. */
static int describe_policy(const char *path, struct buffer *out, bulla_error *error)
{
    uint8_t *text = NULL;
    size_t length;
    struct policy *policy = NULL;
    if (!path)
        return BULLA_OK;
    int code = file_read(path, POLICY_BYTES, &text, &length, error);
    if (code == BULLA_OK)
        code = policy_parse((const char *)text, length, path, &policy, error);
    if (code == BULLA_OK)
        code = preflight_check(policy, error);
    if (code == BULLA_OK)
        buffer_append_format(out, FACT "%s: this machine has what it demands\n", "policy", path);
    policy_free(policy);
    memory_free(text);
    return code;
}

static int run_doctor(const struct verb *verb, int argc, char **argv, bulla_error *error)
{
    struct doctor_choice chosen = {0};
    int others;
    int code = verb_parse(verb, argc, argv, &chosen, &others, error);
    if (code != BULLA_OK)
        return code;
    struct buffer out = {0};
    describe_software(&out);
    describe_processor(&out);
    code = describe_kernels(&out, error);
    describe_memory(&out);
    describe_attesters(&out);
    if (code == BULLA_OK)
        code = describe_policy(chosen.policy, &out, error);
    if (out.error.code != BULLA_OK)
        code = bulla_fail(error, out.error.code, "%s", out.error.text);
    else
        fwrite(out.data, 1, out.length, stdout);
    buffer_free(&out);
    return code;
}

const struct verb verb_doctor = {
    .name = "doctor",
    .summary = "say what this machine offers, and which kernels and libraries run",
    .arguments = "",
    .details = "For a report of a problem, and to see what a model will run on. Looks only at this machine. Fails\n"
               "where BULLA_ISA asks for kernels that do not run here, and where a policy demands more than\n"
               "there is.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run_doctor,
};
