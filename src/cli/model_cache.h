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
 * to be digested. Everything there can be removed at any time. */
#ifndef CLI_MODEL_CACHE_H
#define CLI_MODEL_CACHE_H

#include "bulla/error.h"
#include "bulla/model.h"

/* Opens what `path` names: a model file itself, or the import of a GGUF file or safetensors folder,
 * which is made now where the cache does not have it (said on standard error). An import that
 * turns out to be damaged is made again. */
int model_cache_open(const char *path, unsigned threads, bulla_model **model, bulla_error *error);

#endif
