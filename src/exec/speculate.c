#include "exec/speculate.h"

/* A guess is worth as much as the last MEMORY of its kind were. */
static const double MEMORY = 32;
/* Before anything is known each kind counts as so many guesses, right as often as in answers of SmolLM2-135M. */
static const double PRIOR = 4;
static const double PRIOR_RIGHT[SPECULATE_LENGTHS] = {0.55, 0.7, 0.8, 0.9};
/* What a further row costs, in steps of one row, before it is measured: dear, so that only good guesses try. */
static const double PRIOR_ROW = 0.5;
/* What further rows are likely to win has to be so many times what they cost: measured, both are a little off. */
static const double WORTH = 1.2;
/* What a step of so many rows took counts for so many steps: it may have changed, or been a mishap. */
enum { STALE_STEPS = 128 };

int speculation_open(struct speculation *speculation, size_t capacity, uint32_t most, int is_always,
                     bulla_error *error)
{
    *speculation = (struct speculation){.most = most < SPECULATE_MOST ? most : SPECULATE_MOST, .is_always = is_always};
    for (int i = 0; i < SPECULATE_LENGTHS; i++)
        speculation->chances[i] = (struct chance){PRIOR * PRIOR_RIGHT[i], PRIOR};
    return speculation->most ? lookup_open(&speculation->lookup, capacity, error) : BULLA_OK;
}

void speculation_close(struct speculation *speculation)
{
    lookup_close(&speculation->lookup);
}

/* --- guesses --- */

static int length_class(size_t match)
{
    int class = 0;
    while (class + 1 < SPECULATE_LENGTHS && match >> (class + 2))
        class++;
    return class;
}

void speculation_prompt(struct speculation *speculation, uint32_t token)
{
    if (speculation->most)
        lookup_append(&speculation->lookup, token);
}

void speculation_drawn(struct speculation *speculation, uint32_t token)
{
    size_t match = speculation->most ? lookup_match(&speculation->lookup) : 0;
    if (match) {
        struct chance *chance = &speculation->chances[length_class(match)];
        double kept = 1 - 1 / MEMORY;
        chance->seen = chance->seen * kept + 1;
        chance->right = chance->right * kept + (lookup_guess(&speculation->lookup, 0) == token);
    }
    speculation_prompt(speculation, token);
}

/* --- times --- */

static double median_seconds(const struct step_times *times)
{
    double sorted[SPECULATE_TIMES];
    uint32_t count = times->count < SPECULATE_TIMES ? times->count : SPECULATE_TIMES;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = i;
        for (; at > 0 && sorted[at - 1] > times->seconds[i]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = times->seconds[i];
    }
    return sorted[(count - 1) / 2];
}

static int is_stale(const struct speculation *speculation, const struct step_times *times)
{
    return times->count == 0 || speculation->steps - times->latest > STALE_STEPS;
}

void speculation_took(struct speculation *speculation, uint32_t rows, double seconds)
{
    struct step_times *times = &speculation->times[rows];
    if (is_stale(speculation, times))
        times->count = 0;
    times->seconds[times->count++ % SPECULATE_TIMES] = seconds;
    times->latest = speculation->steps++;
}

void speculation_forget_times(struct speculation *speculation)
{
    for (size_t i = 0; i < sizeof speculation->times / sizeof speculation->times[0]; i++)
        speculation->times[i].count = 0;
}

/* Costs of steps by rows, that of one row being 1: measured, or on the line between those that are; beyond
 * them, on the line on which they lie. One row has been measured, and counts however long ago that was. */
static void find_costs(const struct speculation *speculation, double costs[SPECULATE_MOST + 2])
{
    double one = median_seconds(&speculation->times[1]), slope = PRIOR_ROW;
    uint32_t known = 1;
    costs[1] = 1;
    for (uint32_t rows = 2; rows <= speculation->most + 1; rows++) {
        costs[rows] = costs[known] + (rows - known) * slope;
        if (is_stale(speculation, &speculation->times[rows]))
            continue;
        costs[rows] = median_seconds(&speculation->times[rows]) / one;
        for (uint32_t between = known + 1; between < rows; between++)
            costs[between] = costs[known] + (costs[rows] - costs[known]) * (between - known) / (rows - known);
        slope = costs[rows] > 1 ? (costs[rows] - 1) / (rows - 1) : 0;
        known = rows;
    }
}

/* The number of proposals, up to `room`, with the most tokens for the time. */
static uint32_t best_count(const struct speculation *speculation, uint32_t room)
{
    double costs[SPECULATE_MOST + 2], likely = 1, tokens = 1, best = 1;
    uint32_t chosen = 0;
    if (speculation->times[1].count == 0)
        return 0;
    find_costs(speculation, costs);
    for (uint32_t count = 1; count <= room; count++) {
        size_t match = lookup_match(&speculation->lookup) + count - 1;
        const struct chance *chance = &speculation->chances[length_class(match)];
        likely *= chance->right / chance->seen;
        tokens += likely;
        double cost = costs[count + 1];
        if (tokens / cost > best && tokens - 1 > WORTH * (cost - 1)) {
            best = tokens / cost;
            chosen = count;
        }
    }
    return chosen;
}

uint32_t speculation_propose(struct speculation *speculation, uint64_t room, uint32_t *ids)
{
    if (speculation->most == 0 || lookup_match(&speculation->lookup) == 0)
        return 0;
    uint32_t most = room < speculation->most ? (uint32_t)room : speculation->most;
    uint32_t count = speculation->is_always ? most : best_count(speculation, most);
    for (uint32_t i = 0; i < count; i++)
        ids[i] = lookup_guess(&speculation->lookup, i);
    return count;
}
