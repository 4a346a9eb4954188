/* Which specifications were found compilable lately, by their SHA-256. */
#include <string.h>

#include "base/hash.h"
#include "exec/grammar.h"

_Static_assert((int)GRAMMAR_DIGEST_BYTES == (int)HASH_SHA256_BYTES, "digests are those of SHA-256");

static int is_known(const struct grammar_memory *memory, const uint8_t *digest)
{
    for (size_t i = 0; i < memory->count; i++)
        if (memcmp(memory->digests[i], digest, GRAMMAR_DIGEST_BYTES) == 0)
            return 1;
    return 0;
}

static void remember(struct grammar_memory *memory, const uint8_t *digest)
{
    memcpy(memory->digests[memory->next], digest, GRAMMAR_DIGEST_BYTES);
    memory->next = (memory->next + 1) % GRAMMAR_REMEMBERED;
    memory->count += memory->count < GRAMMAR_REMEMBERED;
}

int grammar_check(struct grammar_memory *memory, const char *specification, size_t length, uint64_t *work,
                  bulla_error *error)
{
    uint8_t digest[GRAMMAR_DIGEST_BYTES];
    struct grammar *grammar;
    int code = memory ? hash_sha256(specification, length, digest, error) : BULLA_OK;
    if (code != BULLA_OK || (memory && is_known(memory, digest)))
        return code;
    code = grammar_compile_within(specification, length, work, &grammar, error);
    grammar_free(grammar);
    if (code == BULLA_OK && memory)
        remember(memory, digest);
    return code;
}
