#include "model/safetensors.h"

int safetensors_open_folder(struct source *source, bulla_error *error)
{
    return bulla_fail(error, BULLA_E_UNSUPPORTED, "%s: folders are not read yet", source->path);
}

int safetensors_open_index(struct source *source, bulla_error *error)
{
    return safetensors_open_folder(source, error);
}

int safetensors_open_file(struct source *source, const struct file_map *map, bulla_error *error)
{
    struct file_map unused = *map;
    file_map_close(&unused);
    return safetensors_open_folder(source, error);
}

int safetensors_open_bytes(struct source *source, const struct file_map *map, const void *config,
                           size_t config_length, bulla_error *error)
{
    return safetensors_open_folder(source, error);
}
