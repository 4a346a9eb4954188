#include "exec/grammar_work.h"

int work_take(struct work *work, uint64_t amount, bulla_error *error)
{
    if (amount > work->left) {
        work->left = 0;
        return bulla_fail(error, BULLA_E_LIMIT, "the schema is too complex: compiling it would take too long");
    }
    work->left -= amount;
    return BULLA_OK;
}

void *work_alloc(struct work *work, struct arena *arena, size_t count, size_t size, bulla_error *error)
{
    const uint64_t most = UINT64_MAX / 2; /* far beyond any budget */
    uint64_t bytes;
    if (__builtin_mul_overflow((uint64_t)count, (uint64_t)size, &bytes) || bytes > most)
        bytes = most;
    return work_take(work, 16 + bytes / 2, error) ? NULL : arena_alloc(arena, count, size, error);
}

uint64_t work_to_sort(uint64_t count)
{
    uint64_t rounds = 1;
    for (uint64_t i = count; i > 1; i /= 2)
        rounds++;
    return 8 * count * rounds;
}
