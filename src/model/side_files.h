/* The small files beside safetensors: config.json and its like, mapped, parsed
 * where they are JSON, and looked up as settings. */
#ifndef MODEL_SIDE_FILES_H
#define MODEL_SIDE_FILES_H

#include "base/file.h"
#include "base/hash.h"
#include "model/source_format.h"

enum { SIDE_FILES = 9 };

/* Zero-initialise; side_files_close ends it, also after an error. */
struct side_files {
    struct side_file {
        struct file_map map;
        int present;
        int borrowed;
        struct json *json; /* in `arena` */
    } files[SIDE_FILES];
    struct arena arena;
};

/* Opens those that `folder` has. */
int side_files_open(struct side_files *files, const char *folder, bulla_error *error);
/* Takes the caller's bytes as config.json. */
int side_files_set_config(struct side_files *files, const void *config, size_t length, bulla_error *error);
void side_files_close(struct side_files *files);

/* NULL where the file is not there or is not one of the JSON files. */
const struct json *side_files_json(const struct side_files *files, const char *name);
/* Its bytes; NULL and 0 where it is not there. BULLA_E_USAGE for a name that is none of them. */
int side_files_bytes(const struct side_files *files, const char *name, const uint8_t **data, size_t *length,
                     bulla_error *error);

/* Adds each file that is there to a digest, in the order of the table in side_files.c. */
void side_files_hash(const struct side_files *files, struct hash_stream *stream);
/* A file's name, a NUL, its length and its bytes, as source_digest has them. */
void side_files_hash_one(struct hash_stream *stream, const char *name, const uint8_t *data, size_t length);

/* The member of `config` that `key` names, nested members joined by '.', or an
 * element of such an array, as source_format.h wants it. */
int side_files_setting(const struct json *config, const char *key, struct setting *setting, bulla_error *error);
int side_files_element(const struct json *config, const char *key, uint64_t index, struct setting *setting,
                       bulla_error *error);

#endif
