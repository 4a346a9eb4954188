#include "model/tokenizer_json.h"

int tokenizer_compile_json(const struct source *source, uint32_t vocabulary, struct compile *compile,
                           bulla_error *error)
{
    return bulla_fail(error, BULLA_E_UNSUPPORTED, "tokenizer.json is not read yet");
}
