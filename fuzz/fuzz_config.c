/* The configuration of a server, and a store of keys in lines, from any bytes: refused with a sentence, or within what
 * the headers promise. The first byte says which. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buffer.h"
#include "ops/config.h"
#include "ops/keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_model(const struct config_model *model)
{
    if (!model->name || !model->path == !model->upstream || model->alias_count > MODEL_MOST_ALIASES ||
        model->threads > 256 || config_check_name(model->name, "", NULL) != BULLA_OK)
        abort();
}

static void try_config(const char *text, size_t length)
{
    bulla_error error = {0};
    struct config config;
    int code = config_parse(text, length, "input", &config, &error);
    if ((code == BULLA_OK) != (error.code == BULLA_OK) || (code != BULLA_OK && !error.text[0]))
        abort();
    for (size_t i = 0; code == BULLA_OK && i < config.model_count; i++)
        check_model(&config.models[i]);
    config_free(&config);
}

static void try_keys(const char *text, size_t length)
{
    char path[64];
    bulla_error error = {0};
    struct key_set *set;
    int descriptor = memfd_create("keys", MFD_CLOEXEC);
    if (descriptor < 0 || write(descriptor, text, length) != (ssize_t)length)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    int code = key_store_read(path, &set, &error);
    if ((code == BULLA_OK) != (set != NULL) || (code != BULLA_OK && !error.text[0]))
        abort();
    for (size_t i = 0; set && i < key_set_count(set); i++)
        if (key_check(key_set_at(set, i), "", NULL) != BULLA_OK)
            abort();
    key_set_free(set);
    close(descriptor);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] == 'k')
        try_keys((const char *)data + 1, size - 1);
    else
        try_config((const char *)data + 1, size - 1);
    return 0;
}
