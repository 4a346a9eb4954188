#include "cli/state_folder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

int state_folder_check(const char *path, bulla_error *error)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return BULLA_OK;
    if (status.st_uid != geteuid())
        return bulla_fail(error, BULLA_E_USAGE,
                          "%s: belongs to another user (%lu), who could change what is kept there; name a folder of your own, "
                          "or make it yours (chown)", path, (unsigned long)status.st_uid);
    if (status.st_mode & (S_IWGRP | S_IWOTH))
        return bulla_fail(error, BULLA_E_USAGE,
                          "%s: others may write into it (mode %04o), and could change what is kept there; take that away: "
                          "chmod go-w %s", path, (unsigned)(status.st_mode & 07777), path);
    return BULLA_OK;
}

int state_folder_make(struct buffer *folder, bulla_error *error)
{
    if (folder->error.code != BULLA_OK)
        return bulla_fail(error, folder->error.code, "%s", folder->error.text);
    char *path = (char *)folder->data;
    for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash)
            *slash = 0;
        int result = mkdir(path, 0700), number = errno;
        struct stat status;
        int is_there = result == 0 || (stat(path, &status) == 0 && S_ISDIR(status.st_mode));
        if (!is_there)
            return bulla_fail(error, BULLA_E_IO, "%s: cannot make this folder: %s (BULLA_STATE names another place for what the "
                                                 "program keeps)", path, strerror(number));
        if (!slash)
            return state_folder_check(path, error);
        *slash = '/';
    }
}

int state_folder_find(const char *name, const char *what, const char *instead, struct buffer *folder, bulla_error *error)
{
    const char *own = variable("BULLA_STATE"), *shared = variable("XDG_STATE_HOME"), *home = variable("HOME");
    if (own)
        buffer_append_format(folder, "%s/%s", own, name);
    else if (shared)
        buffer_append_format(folder, "%s/bulla/%s", shared, name);
    else if (home)
        buffer_append_format(folder, "%s/.local/state/bulla/%s", home, name);
    else
        return bulla_fail(error, BULLA_E_USAGE, "there is no place for %s: neither BULLA_STATE nor HOME is set; set one, or %s",
                          what, instead);
    return state_folder_make(folder, error);
}
