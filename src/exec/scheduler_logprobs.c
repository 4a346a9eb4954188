#include <math.h>

#include "exec/scheduler_internal.h"

/* Keeps the likeliest `most` seen so far, ids rising; returns how many there are. */
static size_t keep_likeliest(const int32_t *logits, uint32_t id, struct scheduler_logprob *top, size_t count,
                             size_t most)
{
    size_t at = count;
    while (at > 0 && logits[top[at - 1].token] < logits[id])
        at--;
    if (at == most)
        return count;
    count += count < most;
    for (size_t i = count - 1; i > at; i--)
        top[i] = top[i - 1];
    top[at].token = id;
    return count;
}

double logprobs_find(const int32_t *logits, uint32_t vocabulary, int F, uint32_t token, struct scheduler_logprob *top,
                     size_t most)
{
    double unit = ldexp(1, -F), sum = 0;
    int32_t largest = logits[0];
    size_t count = 0;
    for (uint32_t id = 0; id < vocabulary; id++) {
        largest = logits[id] > largest ? logits[id] : largest;
        if (most && (count < most || logits[id] > logits[top[count - 1].token]))
            count = keep_likeliest(logits, id, top, count, most);
    }
    for (uint32_t id = 0; id < vocabulary; id++)
        sum += exp(((double)logits[id] - largest) * unit);
    double logarithm = log(sum);
    for (size_t i = 0; i < count; i++)
        top[i].logprob = ((double)logits[top[i].token] - largest) * unit - logarithm;
    return ((double)logits[token] - largest) * unit - logarithm;
}
