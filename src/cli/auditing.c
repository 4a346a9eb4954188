#include "cli/auditing.h"

#include <string.h>

#include "cli/model_cache.h"

/* A file of the cache's that is damaged is made again. */
int auditing_open(const char *path, unsigned threads, struct auditor **auditor, bulla_error *error)
{
    struct buffer found = {0};
    bulla_error own = {0};
    int code = model_cache_find(path, threads, &found, error);
    struct native_replay_options options = {.path = (const char *)found.data, .threads = threads};
    if (code == BULLA_OK)
        code = auditor_open(&options, auditor, &own);
    if (own.code == BULLA_E_INPUT && strcmp(options.path, path) != 0) {
        bulla_model *checked = NULL;
        bulla_error_clear(&own);
        code = model_cache_open(path, &(struct model_opening){threads, 1}, &checked, &own);
        bulla_model_close(checked);
        if (code == BULLA_OK)
            code = auditor_open(&options, auditor, &own);
    }
    buffer_free(&found);
    return own.code == BULLA_OK ? code : bulla_fail(error, own.code, "%s", own.text);
}
