/* Import-time half of the tokenizer: from a source to the compiled block that
 * bulla/tokenizer.h opens. Deterministic: same source, same bytes. */
#ifndef MODEL_TOKENIZER_BUILD_H
#define MODEL_TOKENIZER_BUILD_H

#include "base/buffer.h"
#include "model/source.h"

/* Appends the compiled tokenizer to `block`. Reads GGUF's tokenizer.ggml.* or
 * tokenizer.json + tokenizer_config.json (+ generation_config.json for end
 * tokens). `vocabulary` is the number of rows of the model's embedding: ids
 * between the tokenizer's own count and it are filled as unused control tokens;
 * fewer rows than tokens is an error. A model or pre-tokenizer that is not
 * supported is BULLA_E_UNSUPPORTED, naming it and what is supported. */
int tokenizer_build(const struct source *source, uint32_t vocabulary, struct buffer *block, bulla_error *error);

#endif
