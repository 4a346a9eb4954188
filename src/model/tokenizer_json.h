/* Reads a tokenizer from tokenizer.json (the format of the library `tokenizers`). */
#ifndef MODEL_TOKENIZER_JSON_H
#define MODEL_TOKENIZER_JSON_H

#include "base/json.h"
#include "model/tokenizer_compile.h"

/* The files of a model's folder that say something on its tokenizer, parsed; NULL for one that is not there. */
struct tokenizer_files {
    const struct json *tokenizer;  /* tokenizer.json */
    const struct json *config;     /* tokenizer_config.json */
    const struct json *generation; /* generation_config.json */
    const struct json *model;      /* config.json */
};

/* Starts `compile` and fills it; the caller ends it with compile_free, also after an error. The files must stay. */
int tokenizer_compile_json(const struct tokenizer_files *files, uint32_t vocabulary, struct compile *compile,
                           bulla_error *error);

/* Sets algorithm, split and flags from the members normalizer, pre_tokenizer and decoder of `root`. */
int tokenizer_json_pipeline(const struct json *root, struct compile *compile, bulla_error *error);
/* Sets what is added around a text from post_processor: ids and TOKENIZER_ADD_START, TOKENIZER_ADD_END. */
int tokenizer_json_frame(const struct json *root, struct compile *compile, bulla_error *error);

/* Whether `value` is that string. */
int tokenizer_json_is_text(const struct json *value, const char *text);
/* `object`.`key` as a string, "" where it is missing or another type. */
const char *tokenizer_json_text(const struct json *object, const char *key);
/* `object`.`key` as a boolean, `otherwise` where it is missing or another type. */
int tokenizer_json_flag(const struct json *object, const char *key, int otherwise);

#endif
