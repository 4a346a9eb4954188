#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "serve/native_internal.h"

enum { FIRST_COPY = 10, DESCRIPTORS = 4, MOST_VARIABLES = 16 };

/* Nothing else of the environment reaches a worker: there may be keys in it. */
static const char *const WORKER_VARIABLES[] = {"BULLA_ISA=", "LD_LIBRARY_PATH=", "LANG=", "ASAN_OPTIONS=",
                                               "LSAN_OPTIONS=",
                                               "UBSAN_OPTIONS=", "QEMU_LD_PREFIX=", "QEMU_CPU="};

extern char **environ;

static void choose_variables(char *chosen[MOST_VARIABLES + 1])
{
    size_t count = 0;
    for (char **variable = environ; variable && *variable && count < MOST_VARIABLES; variable++)
        for (size_t i = 0; i < sizeof WORKER_VARIABLES / sizeof *WORKER_VARIABLES; i++)
            if (strncmp(*variable, WORKER_VARIABLES[i], strlen(WORKER_VARIABLES[i])) == 0) {
                chosen[count++] = *variable;
                break;
            }
    chosen[count] = NULL;
}

static int fail_with_number(int number, const char *what, const char *name, bulla_error *error)
{
    char text[128];
    return bulla_fail(error, BULLA_E_IO, "%s%s: %s", what, name, strerror_r(number, text, sizeof text));
}

/* Copies beyond all numbers that the worker's may have: no move of one to its number then overwrites another. */
static int copy_descriptors(const int from[DESCRIPTORS], int copies[DESCRIPTORS], bulla_error *error)
{
    int code = BULLA_OK;
    for (int i = 0; i < DESCRIPTORS; i++) {
        copies[i] = code == BULLA_OK ? fcntl(from[i], F_DUPFD_CLOEXEC, FIRST_COPY) : -1;
        if (code == BULLA_OK && copies[i] < 0)
            code = fail_with_number(errno, "a descriptor for the worker cannot be copied", "", error);
    }
    return code;
}

static int plan_descriptors(posix_spawn_file_actions_t *actions, const int copies[DESCRIPTORS])
{
    static const int numbers[DESCRIPTORS] = {3, 4, 5, 2};
    int number = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
    if (number == 0)
        number = posix_spawn_file_actions_addopen(actions, 1, "/dev/null", O_WRONLY, 0);
    for (int i = 0; i < DESCRIPTORS && number == 0; i++)
        number = posix_spawn_file_actions_adddup2(actions, copies[i], numbers[i]);
    return number ? number : posix_spawn_file_actions_addclosefrom_np(actions, 6);
}

static int plan_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int number = posix_spawnattr_setflags(attributes,
                                          POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (number == 0)
        number = posix_spawnattr_setsigmask(attributes, &none);
    return number ? number : posix_spawnattr_setsigdefault(attributes, &all);
}

static int spawn(const char *program, const int copies[DESCRIPTORS], pid_t *pid)
{
    char *variables[MOST_VARIABLES + 1];
    char *const arguments[] = {(char *)(uintptr_t)(program ? program : "bulla"),
                               (char *)(uintptr_t)"worker", (char *)(uintptr_t)"--socket", (char *)(uintptr_t)"3",
                               (char *)(uintptr_t)"--model", (char *)(uintptr_t)"4", (char *)(uintptr_t)"--counters",
                               (char *)(uintptr_t)"5", NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int number = posix_spawn_file_actions_init(&actions);
    if (number)
        return number;
    number = posix_spawnattr_init(&attributes);
    if (number == 0) {
        choose_variables(variables);
        number = plan_descriptors(&actions, copies);
        if (number == 0)
            number = plan_attributes(&attributes);
        if (number == 0)
            number = posix_spawn(pid, program ? program : "/proc/self/exe", &actions, &attributes, arguments,
                                 variables);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return number;
}

int native_process_start(const char *program, int socket, int model_file, int counters, int errors,
                         struct native_process *process, bulla_error *error)
{
    const int from[DESCRIPTORS] = {socket, model_file, counters, errors};
    int copies[DESCRIPTORS];
    *process = (struct native_process){.handle = -1};
    int code = copy_descriptors(from, copies, error);
    if (code == BULLA_OK) {
        int number = spawn(program, copies, &process->pid);
        if (number) {
            process->pid = 0;
            code = fail_with_number(number, "the worker cannot be started from ", program ? program : "/proc/self/exe",
                                    error);
        }
    }
    for (int i = 0; i < DESCRIPTORS; i++)
        if (copies[i] >= 0)
            close(copies[i]);
    if (code == BULLA_OK)
        process->handle = (int)syscall(SYS_pidfd_open, process->pid, 0);
    return code;
}

/* Until it was waited for, the pid is nobody else's either. */
void native_process_kill(const struct native_process *process)
{
    if (process->pid <= 0)
        return;
    if (process->handle < 0 || syscall(SYS_pidfd_send_signal, process->handle, SIGKILL, NULL, 0) != 0)
        kill(process->pid, SIGKILL);
}

int native_process_has_ended(struct native_process *process, int *status)
{
    *status = 0;
    if (process->pid > 0) {
        pid_t ended;
        do
            ended = waitpid(process->pid, status, WNOHANG);
        while (ended < 0 && errno == EINTR);
        if (ended == 0)
            return 0;
    }
    if (process->handle >= 0)
        close(process->handle);
    *process = (struct native_process){.handle = -1};
    return 1;
}
