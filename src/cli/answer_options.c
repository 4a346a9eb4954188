#include "cli/answer_options.h"

void answer_options_defaults(struct answer_options *options)
{
    bulla_sampling sampling;
    bulla_sampling_defaults(&sampling);
    *options = (struct answer_options){.max_tokens = ANSWER_MAX_TOKENS,
                                       .temperature = sampling.temperature,
                                       .top_p = sampling.top_p,
                                       .top_k = sampling.top_k,
                                       .min_p = sampling.min_p,
                                       .repetition = sampling.repetition,
                                       .presence = (uint64_t)sampling.presence,
                                       .frequency = (uint64_t)sampling.frequency,
                                       .seed = sampling.seed,
                                       .speculate = SPECULATE_MOST};
}

void answer_options_sampling(const struct answer_options *options, bulla_sampling *sampling)
{
    bulla_sampling_defaults(sampling);
    sampling->temperature = options->temperature;
    sampling->top_p = options->top_p;
    sampling->top_k = (uint32_t)options->top_k;
    sampling->min_p = options->min_p;
    sampling->repetition = options->repetition;
    sampling->presence = (int64_t)options->presence;
    sampling->frequency = (int64_t)options->frequency;
    sampling->seed = options->seed;
}
