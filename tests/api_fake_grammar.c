#define _GNU_SOURCE
/* Stands for the grammar compiler in tests of the API alone: what it refuses is a schema with the word "refused". */
#include <string.h>

#include "exec/grammar.h"

int grammar_compile(const char *specification, size_t length, struct grammar **grammar, bulla_error *error)
{
    *grammar = NULL;
    if (memmem(specification, length, "\"refused\"", strlen("\"refused\"")))
        return bulla_fail(error, BULLA_E_UNSUPPORTED, "the keyword \"refused\" at /properties/a cannot be enforced");
    return BULLA_OK;
}

int grammar_check(struct grammar_memory *memory, const char *specification, size_t length, uint64_t *work,
                  bulla_error *error)
{
    struct grammar *grammar;
    return grammar_compile(specification, length, &grammar, error);
}

void grammar_free(struct grammar *grammar)
{
}
