/* Models as published, imported once: GGUF files and safetensors folders stand
 * for a model file in
 *
 *     ${BULLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bulla}/models/
 *         DIGEST-rREVISION.bulla        what the source with this digest imports to
 *         DIGEST-rREVISION.bulla.lock   held by the one process that imports it
 *         known/SIGNATURE               the digest of files with this signature
 *
 * A source's signature is the SHA-256 of the paths, sizes, times, inodes and
 * devices of its files, so that a source that was seen before is not read again
 * to be digested. The same goes for the root of a model file, which is computed
 * once for the file as it is where nothing that is signed depends on it. Everything there can be removed at any time. */
#ifndef CLI_MODEL_CACHE_H
#define CLI_MODEL_CACHE_H

#include "base/buffer.h"
#include "bulla/error.h"
#include "bulla/model.h"

struct model_opening {
    unsigned threads;  /* 0: one a core */
    int always_rooted; /* the root is computed although it is known: what is signed, judged or shown depends on it */
};

/* Opens what `path` names: a model file itself, or the import of a GGUF file or safetensors folder,
 * which is made now where the cache does not have it (said on standard error). An import that
 * turns out to be damaged is made again. */
int model_cache_open(const char *path, const struct model_opening *opening, bulla_model **model, bulla_error *error);

/* Appends the path of the model file that model_cache_open would open, for someone else to open: nothing of it is read
 * or checked here but whether it is there. A source that the cache does not have is imported now. Whoever finds the file
 * damaged calls model_cache_open, which makes it again. */
int model_cache_find(const char *path, unsigned threads, struct buffer *found, bulla_error *error);

#endif
