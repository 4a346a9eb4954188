/* Lossless speculation: how many tokens to propose after the latest one, so that
 * one step of the engine gives the logits of several. What is accepted is up to
 * the sampler alone (exec/generate.c): the answer has the same bits whatever is
 * proposed, so times may decide here.
 *
 * Proposals come from exec/lookup.h. A step of k + 1 rows pays when it takes less
 * time a token than a step of one row. Both halves are measured as the answer
 * goes: how often guesses were right, by the length of the match that they came
 * from, whether they were proposed or not; and what steps took, by their rows. */
#ifndef EXEC_SPECULATE_H
#define EXEC_SPECULATE_H

#include "exec/lookup.h"

enum {
    SPECULATE_MOST = 15,    /* proposals: with the latest token a tile of 16 rows */
    SPECULATE_LENGTHS = 4,  /* match lengths 2-3, 4-7, 8-15, more */
    SPECULATE_TIMES = 5     /* latest times kept, of which the median counts */
};

/* How often guesses were right, of late. */
struct chance {
    double right, seen;
};

/* Wall times of the latest steps of so many rows. */
struct step_times {
    double seconds[SPECULATE_TIMES]; /* the latest at count % SPECULATE_TIMES */
    uint32_t count;
    uint64_t latest; /* the number of the step that took the latest */
};

struct speculation {
    struct lookup lookup;
    struct chance chances[SPECULATE_LENGTHS];
    struct step_times times[SPECULATE_MOST + 2]; /* by rows, from 1 */
    uint32_t most;      /* proposals */
    int is_always;      /* all that the lookup guesses, whether it pays or not */
    uint64_t steps;     /* so far */
};

/* Proposes up to `most` (at most SPECULATE_MOST) tokens for a text of up to `capacity`. speculation_close
 * ends it, also after an error. */
int speculation_open(struct speculation *speculation, size_t capacity, uint32_t most, int is_always,
                     bulla_error *error);
void speculation_close(struct speculation *speculation); /* a zeroed one is fine */

/* The text so far: a token of the prompt, or one that was drawn. */
void speculation_prompt(struct speculation *speculation, uint32_t token);
void speculation_drawn(struct speculation *speculation, uint32_t token);
/* Up to `room` tokens that may follow, into `ids`; returns how many. */
uint32_t speculation_propose(struct speculation *speculation, uint64_t room, uint32_t *ids);
/* What steps took so far no longer counts: they will be others, with more or fewer answers in them. */
void speculation_forget_times(struct speculation *speculation);
/* A step of the latest token and what was proposed, `rows` together, took so long. */
void speculation_took(struct speculation *speculation, uint32_t rows, double seconds);

#endif
