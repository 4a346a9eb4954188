/* Options of the verbs that answer: `run` and `chat`. */
#ifndef CLI_ANSWER_OPTIONS_H
#define CLI_ANSWER_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "bulla/sampler.h"
#include "cli/options.h"
#include "exec/speculate.h"

/* As options_parse fills it; decimals in millionths. */
struct answer_options {
    uint64_t threads, max_tokens, temperature, top_p, top_k, min_p, repetition, presence, frequency, seed,
        speculate;
    const char *system;
};

/* The documented defaults: ANSWER_MAX_TOKENS and bulla_sampling_defaults'. */
void answer_options_defaults(struct answer_options *options);
void answer_options_sampling(const struct answer_options *options, bulla_sampling *sampling);

enum { ANSWER_MAX_TOKENS = 1024 };

/* Highest temperature, in millionths. */
#define ANSWER_TEMPERATURE_MAX UINT64_C(100000000)

/* Entries of an option table, for a struct `owner` with a struct answer_options `member`. */
#define ANSWER_AT(owner, member, field) (offsetof(owner, member) + offsetof(struct answer_options, field))
#define ANSWER_OPTIONS(owner, member)                                                                                \
    {"max-tokens", 'n', OPTION_INTEGER, ANSWER_AT(owner, member, max_tokens), "N",                                   \
     "end an answer after N tokens; default 1024; 0: as many as the context holds", 0, UINT32_MAX},                  \
    {"temperature", 't', OPTION_DECIMAL, ANSWER_AT(owner, member, temperature), "T",                                 \
     "0 takes the likeliest token each time, more draws at random; default 0", 0, ANSWER_TEMPERATURE_MAX},           \
    {"top-p", 0, OPTION_DECIMAL, ANSWER_AT(owner, member, top_p), "P",                                               \
     "draw from the likeliest tokens that make up P of the probability; default 1: all", 0, 1000000},                \
    {"top-k", 0, OPTION_INTEGER, ANSWER_AT(owner, member, top_k), "K",                                               \
     "draw from the K likeliest tokens; default 0: all", 0, UINT32_MAX},                                             \
    {"min-p", 0, OPTION_DECIMAL, ANSWER_AT(owner, member, min_p), "P",                                               \
     "draw from tokens at least P times as likely as the likeliest; default 0: all", 0, 1000000},                    \
    {"repetition-penalty", 0, OPTION_DECIMAL, ANSWER_AT(owner, member, repetition), "R",                             \
     "divide positive logits of tokens that were there before by R, multiply negative ones; default 1: none", 10000, \
     100000000},                                                                                                     \
    {"presence-penalty", 0, OPTION_DECIMAL, ANSWER_AT(owner, member, presence), "R",                                 \
     "subtract R from logits of tokens that the answer has; default 0", 0, 100000000},                               \
    {"frequency-penalty", 0, OPTION_DECIMAL, ANSWER_AT(owner, member, frequency), "R",                               \
     "subtract R for each time that the answer has a token; default 0", 0, 100000000},                               \
    {"seed", 's', OPTION_INTEGER, ANSWER_AT(owner, member, seed), "S",                                               \
     "what random draws follow from, a whole number below 2^64; default 0", 0, UINT64_MAX},                          \
    {"speculate", 0, OPTION_INTEGER, ANSWER_AT(owner, member, speculate), "N",                                       \
     "guess up to N tokens ahead where that saves time; default 15; 0: never. The answer does not depend on it", 0,  \
     SPECULATE_MOST},                                                                                                \
    {"system", 0, OPTION_TEXT, ANSWER_AT(owner, member, system), "TEXT",                                             \
     "a system message before the conversation; default: none, but templates may write one", 0, 0},                  \
    {"threads", 0, OPTION_INTEGER, ANSWER_AT(owner, member, threads), "N",                                           \
     "threads that compute; default 0: one a core. The answer does not depend on it", 0, 256}

#endif
