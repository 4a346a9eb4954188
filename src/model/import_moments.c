/* The second moments of a matrix's input over the calibration text, for error feedback (import_weights.c). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/import_state.h"
#include "model/numeric.h"

enum {
    MOMENT_COUNT = 480, /* positions a piece (numeric_add_moments takes 511) */
    COLUMNS_A_PIECE = 64,
    SPREAD = 4,
};

/* Of the mean diagonal. 1 % gave Gemma-3-270M's chat turns a KL of 0.0051, 0.1 % 0.0045. */
static const double DAMPING = 0.003;

/* A piece of a quantised value as a = q * s * 2^-shift, a row a column of the value. */
struct columns {
    const struct import_value *value;
    uint64_t start, count;
    uint32_t n;
    int64_t most; /* scales above it count as this */
    int shift;
    int16_t *a; /* [n][MOMENT_COUNT] */
};

static void take_columns(void *context, uint64_t piece)
{
    const struct columns *c = context;
    uint32_t first = (uint32_t)piece * COLUMNS_A_PIECE;
    uint32_t last = c->n - first < COLUMNS_A_PIECE ? c->n : first + COLUMNS_A_PIECE;
    int64_t half = c->shift ? INT64_C(1) << (c->shift - 1) : 0;
    for (uint64_t t = 0; t < c->count; t++) {
        const int8_t *q = c->value->bytes + (c->start + t) * c->n;
        int64_t s = c->value->scale[c->start + t];
        s = s < c->most ? s : c->most;
        for (uint32_t i = first; i < last; i++)
            c->a[(uint64_t)i * MOMENT_COUNT + t] = (int16_t)((q[i] * s + half) >> c->shift);
    }
}

static int compare_scales(const void *one, const void *other)
{
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

/* SPREAD times the median of a quantised value's scales over the text, at most the largest. Few
 * positions (often a sequence's first) are hundreds of times larger than all others before the
 * last matrix of a branch, and so is the residual stream there, so that their errors hardly
 * matter. Unbounded they would be all that the moments hold. */
static int scale_bound(const struct importing *im, const struct import_value *value, int64_t *bound, bulla_error *error)
{
    uint64_t count = im->text_positions;
    int64_t *scales = memory_alloc(count, sizeof *scales, error);
    if (!scales)
        return BULLA_E_MEMORY;
    memcpy(scales, value->scale, count * sizeof *scales);
    qsort(scales, count, sizeof *scales, compare_scales);
    int64_t largest = count ? scales[count - 1] : 0, median = count ? scales[count / 2] : 0;
    *bound = median < largest / SPREAD ? SPREAD * median : largest;
    *bound = *bound < 1 ? 1 : *bound;
    memory_free(scales);
    return BULLA_OK;
}

int import_make_factor(struct importing *im, int32_t input, bulla_error *error)
{
    uint32_t n = im->list.drafts[input].operation.outputs, padded = (n + 3) & ~3u;
    const struct import_value *value = &im->values[input];
    int64_t most = 1;
    if (scale_bound(im, value, &most, error))
        return BULLA_E_MEMORY;
    int exponent, shift;
    frexp((double)most * 127, &exponent);
    shift = exponent > 11 ? exponent - 11 : 0; /* a = q * s * 2^-shift, |a| <= 2^11 */
    memory_free(im->factor);
    im->factor = NULL;
    im->factor_input = -1;
    int16_t *a = memory_alloc((uint64_t)padded * MOMENT_COUNT, sizeof *a, error);
    int64_t *sums = memory_alloc((uint64_t)n * n, sizeof *sums, error);
    double *scratch = memory_alloc(numeric_factor_scratch(n), sizeof *scratch, error);
    int code = a && sums && scratch ? BULLA_OK : BULLA_E_MEMORY;
    for (uint64_t start = 0; start < im->text_positions && code == BULLA_OK; start += MOMENT_COUNT) {
        uint64_t count = im->text_positions - start < MOMENT_COUNT ? im->text_positions - start : MOMENT_COUNT;
        struct columns columns = {value, start, count, n, most, shift, a};
        thread_team_each(im->team, (n + COLUMNS_A_PIECE - 1) / COLUMNS_A_PIECE, take_columns, &columns);
        numeric_add_moments(a, MOMENT_COUNT, count, n, sums, im->team);
    }
    memory_free(a);
    if (code == BULLA_OK) {
        double *H = (double *)(void *)sums; /* in place: sums are exact below 2^53 */
        double diagonal = 0;
        for (uint64_t i = 0; i < n; i++)
            for (uint64_t j = 0; j <= i; j++)
                H[i * n + j] = (double)sums[i * n + j];
        for (uint64_t i = 0; i < n; i++)
            diagonal += H[i * n + i];
        double damping = diagonal / n * DAMPING + 1;
        for (uint64_t i = 0; i < n; i++) {
            H[i * n + i] += damping;
            for (uint64_t j = 0; j < i; j++)
                H[j * n + i] = H[i * n + j];
        }
        if (!numeric_factor(H, n, scratch, im->team))
            code = bulla_fail(error, BULLA_E_INTERNAL, "%s: the input moments could not be factored",
                              im->list.drafts[input].name);
        im->factor = H;
        im->factor_input = input;
        sums = NULL;
    }
    memory_free(sums);
    memory_free(scratch);
    return code;
}
