/* Reads a tokenizer from tokenizer.json (the format of the library `tokenizers`). */
#ifndef MODEL_TOKENIZER_JSON_H
#define MODEL_TOKENIZER_JSON_H

#include "model/source.h"
#include "model/tokenizer_compile.h"

/* Starts `compile` and fills it; the caller ends it with compile_free, also after an error. */
int tokenizer_compile_json(const struct source *source, uint32_t vocabulary, struct compile *compile,
                           bulla_error *error);

#endif
