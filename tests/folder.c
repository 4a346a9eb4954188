#define _GNU_SOURCE
#include "folder.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char folder[64];

int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/bulla-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

const char *in_folder(const char *name)
{
    static char path[4][512];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

void empty_folder(void)
{
    DIR *listing = opendir(folder);
    for (struct dirent *entry; listing && (entry = readdir(listing));)
        if (entry->d_name[0] != '.')
            remove(in_folder(entry->d_name));
    if (listing)
        closedir(listing);
}

int remove_folder(void **state)
{
    (void)state;
    empty_folder();
    return rmdir(folder);
}
