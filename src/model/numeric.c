#include "model/numeric.h"

#include <string.h>

/* One body, compiled for several instruction sets; the widest that runs here is
 * taken. Inlining a plain body into a function of a wider target is what makes
 * the compiler vectorise it for that target. `wide_body` is the one for 32 wide
 * registers: the same arithmetic in other pieces. */
#if defined(__x86_64__)
#if defined(__clang__) /* takes the width of the vectors as written */
#define WIDE_TARGET "avx512f,avx512bw,avx512vl,avx512dq"
#else
#define WIDE_TARGET "avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512"
#endif
#define FOR_EACH_TARGET(name, wide_body, body, parameters, arguments)                                          \
    __attribute__((target(WIDE_TARGET))) static void name##_avx512 parameters                                  \
    {                                                                                                          \
        wide_body arguments;                                                                                   \
    }                                                                                                          \
    __attribute__((target("avx2"))) static void name##_avx2 parameters                                         \
    {                                                                                                          \
        body arguments;                                                                                        \
    }                                                                                                          \
    static void name##_plain parameters                                                                        \
    {                                                                                                          \
        body arguments;                                                                                        \
    }                                                                                                          \
    static void name##_best parameters                                                                         \
    {                                                                                                          \
        if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&                        \
            __builtin_cpu_supports("avx512dq"))                                                                \
            name##_avx512 arguments;                                                                           \
        else if (__builtin_cpu_supports("avx2"))                                                               \
            name##_avx2 arguments;                                                                             \
        else                                                                                                   \
            name##_plain arguments;                                                                            \
    }
#else
#define FOR_EACH_TARGET(name, wide_body, body, parameters, arguments)                                          \
    static void name##_best parameters                                                                         \
    {                                                                                                          \
        body arguments;                                                                                        \
    }
#endif
#define INLINE static inline __attribute__((always_inline))

enum { MOMENT_TILE = 4 };

/* A tile of 4 x 4 dot products. */
INLINE void moment_tile_body(const int16_t *x, const int16_t *y, uint64_t stride, uint64_t count,
                             int32_t result[MOMENT_TILE][MOMENT_TILE])
{
    const int16_t *x0 = x, *x1 = x + stride, *x2 = x + 2 * stride, *x3 = x + 3 * stride;
    for (int j = 0; j < MOMENT_TILE; j++) {
        const int16_t *b = y + (uint64_t)j * stride;
        int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        for (uint64_t t = 0; t < count; t++) {
            s0 += x0[t] * b[t];
            s1 += x1[t] * b[t];
            s2 += x2[t] * b[t];
            s3 += x3[t] * b[t];
        }
        result[0][j] = s0;
        result[1][j] = s1;
        result[2][j] = s2;
        result[3][j] = s3;
    }
}

FOR_EACH_TARGET(moment_tile, moment_tile_body, moment_tile_body,
                (const int16_t *x, const int16_t *y, uint64_t stride, uint64_t count,
                 int32_t result[MOMENT_TILE][MOMENT_TILE]),
                (x, y, stride, count, result))

struct moments {
    const int16_t *a;
    uint64_t stride, count;
    uint32_t n;
    int64_t *sums;
};

static void moment_row(void *context, uint64_t index)
{
    struct moments *job = context;
    uint32_t tiles = (job->n + MOMENT_TILE - 1) / MOMENT_TILE;
    uint32_t tile = tiles - 1 - (uint32_t)index, first = tile * MOMENT_TILE; /* longest rows first */
    for (uint32_t other = 0; other <= tile; other++) {
        int32_t result[MOMENT_TILE][MOMENT_TILE];
        moment_tile_best(job->a + first * job->stride, job->a + (uint64_t)other * MOMENT_TILE * job->stride, job->stride,
                         job->count, result);
        for (uint32_t i = 0; i < MOMENT_TILE && first + i < job->n; i++)
            for (uint32_t j = 0; j < MOMENT_TILE; j++) {
                uint32_t column = other * MOMENT_TILE + j;
                if (column <= first + i && column < job->n)
                    job->sums[(uint64_t)(first + i) * job->n + column] += result[i][j];
            }
    }
}

void numeric_add_moments(const int16_t *a, uint64_t stride, uint64_t count, uint32_t n, int64_t *sums,
                         struct thread_team *team)
{
    struct moments job = {a, stride, count, n, sums};
    thread_team_each(team, (n + MOMENT_TILE - 1) / MOMENT_TILE, moment_row, &job);
}

typedef double four_lanes __attribute__((vector_size(32), aligned(8)));
typedef double eight_lanes __attribute__((vector_size(64), aligned(8)));
enum { PANEL_ROWS = 4, PANEL_VECTORS = 2 };

/* NAME_tile: 4 rows x 2 vectors held in registers while m runs. NAME: a panel by such tiles. */
#define PANEL(name, lanes)                                                                                     \
    INLINE void name##_tile(double *C, uint64_t ldc, const double *X, uint64_t ldx, const double *B,           \
                            uint64_t ldb, uint32_t depth)                                                      \
    {                                                                                                          \
        enum { LANES = sizeof(lanes) / sizeof(double) };                                                       \
        lanes c[PANEL_ROWS][PANEL_VECTORS];                                                                    \
        for (int r = 0; r < PANEL_ROWS; r++)                                                                   \
            for (int v = 0; v < PANEL_VECTORS; v++)                                                            \
                memcpy(&c[r][v], C + r * ldc + v * LANES, sizeof(lanes));                                      \
        for (uint32_t m = 0; m < depth; m++) {                                                                 \
            lanes b0, b1;                                                                                      \
            memcpy(&b0, B + m * ldb, sizeof b0);                                                               \
            memcpy(&b1, B + m * ldb + LANES, sizeof b1);                                                       \
            for (int r = 0; r < PANEL_ROWS; r++) {                                                             \
                double x = X[r * ldx + m];                                                                     \
                c[r][0] = c[r][0] + x * b0;                                                                    \
                c[r][1] = c[r][1] + x * b1;                                                                    \
            }                                                                                                  \
        }                                                                                                      \
        for (int r = 0; r < PANEL_ROWS; r++)                                                                   \
            for (int v = 0; v < PANEL_VECTORS; v++)                                                            \
                memcpy(C + r * ldc + v * LANES, &c[r][v], sizeof(lanes));                                      \
    }                                                                                                          \
    INLINE void name(double *C, uint64_t ldc, const double *X, uint64_t ldx, const double *B, uint64_t ldb,    \
                     uint32_t rows, uint32_t columns, uint32_t depth)                                          \
    {                                                                                                          \
        enum { WIDTH = PANEL_VECTORS * sizeof(lanes) / sizeof(double) };                                       \
        uint32_t k = 0;                                                                                        \
        for (; k + WIDTH <= columns; k += WIDTH) {                                                             \
            uint32_t r = 0;                                                                                    \
            for (; r + PANEL_ROWS <= rows; r += PANEL_ROWS)                                                    \
                name##_tile(C + r * ldc + k, ldc, X + r * ldx, ldx, B + k, ldb, depth);                        \
            for (; r < rows; r++)                                                                              \
                for (uint32_t m = 0; m < depth; m++)                                                           \
                    for (uint32_t i = 0; i < WIDTH; i++)                                                       \
                        C[r * ldc + k + i] += X[r * ldx + m] * B[m * ldb + k + i];                             \
        }                                                                                                      \
        for (uint32_t r = 0; r < rows && k < columns; r++)                                                     \
            for (uint32_t m = 0; m < depth; m++)                                                               \
                for (uint32_t i = k; i < columns; i++)                                                         \
                    C[r * ldc + i] += X[r * ldx + m] * B[m * ldb + i];                                         \
    }
PANEL(panel_body, four_lanes)
PANEL(panel_wide, eight_lanes)

FOR_EACH_TARGET(panel, panel_wide, panel_body,
                (double *C, uint64_t ldc, const double *X, uint64_t ldx, const double *B, uint64_t ldb, uint32_t rows,
                 uint32_t columns, uint32_t depth),
                (C, ldc, X, ldx, B, ldb, rows, columns, depth))

void numeric_panel(double *C, uint64_t ldc, const double *X, uint64_t ldx, const double *B, uint64_t ldb, uint32_t rows,
                   uint32_t columns, uint32_t depth)
{
    panel_best(C, ldc, X, ldx, B, ldb, rows, columns, depth);
}

enum { FACTOR_BLOCK = 64 };

struct factor {
    double *H;
    uint32_t n, begin, end; /* the block of columns in work */
    double *left;           /* [rows above begin][block]: -D_m * A_im */
    double *right;          /* [block][columns below begin]: A_jm, transposed */
    uint64_t right_stride;
};

/* Columns [begin, end) from the last to the first: divides, and updates the
 * columns before them inside the block, for the rows of the block and above. */
static int factor_block(struct factor *f)
{
    double *H = f->H;
    uint64_t n = f->n;
    for (uint32_t k = f->end; k-- > f->begin;) {
        double pivot = H[k * n + k];
        if (!(pivot > 0))
            return 0;
        for (uint32_t i = 0; i < k; i++)
            H[i * n + k] = H[i * n + k] / pivot;
        for (uint32_t i = 0; i < k; i++) {
            double scaled = pivot * H[i * n + k];
            uint32_t first = i > f->begin ? i : f->begin;
            for (uint32_t j = first; j < k; j++)
                H[i * n + j] -= scaled * H[j * n + k];
        }
    }
    return 1;
}

/* Rows of the leading part: H[i][j] -= sum over m of D_m A_im A_jm, j >= i, with m
 * from the last column of the block to the first, as the plain algorithm has it. */
static void factor_rows(void *context, uint64_t index)
{
    struct factor *f = context;
    uint32_t first = (uint32_t)index * FACTOR_BLOCK, rows = f->begin - first < FACTOR_BLOCK ? f->begin - first : FACTOR_BLOCK;
    numeric_panel(f->H + (uint64_t)first * f->n + first, f->n, f->left + (uint64_t)first * FACTOR_BLOCK, FACTOR_BLOCK,
                  f->right + first, f->right_stride, rows, f->begin - first, f->end - f->begin);
}

uint64_t numeric_factor_scratch(uint32_t n)
{
    return 2 * (uint64_t)n * FACTOR_BLOCK;
}

int numeric_factor(double *H, uint32_t n, double *scratch, struct thread_team *team)
{
    struct factor f = {.H = H, .n = n, .left = scratch, .right = scratch + (uint64_t)n * FACTOR_BLOCK, .right_stride = n};
    for (f.end = n; f.end > 0; f.end = f.begin) {
        f.begin = (f.end - 1) / FACTOR_BLOCK * FACTOR_BLOCK;
        if (!factor_block(&f))
            return 0;
        uint32_t width = f.end - f.begin;
        for (uint32_t i = 0; i < f.begin; i++)
            for (uint32_t m = 0; m < width; m++) {
                uint32_t k = f.end - 1 - m;
                double a = H[(uint64_t)i * n + k];
                f.left[(uint64_t)i * FACTOR_BLOCK + m] = -(H[(uint64_t)k * n + k] * a);
                f.right[(uint64_t)m * n + i] = a;
            }
        thread_team_each(team, (f.begin + FACTOR_BLOCK - 1) / FACTOR_BLOCK, factor_rows, &f);
    }
    for (uint32_t i = 0; i < n; i++)
        memset(H + (uint64_t)i * n, 0, i * sizeof *H);
    return 1;
}

/* --- rows --- */

INLINE void hadamard_body(double *x, uint32_t n, uint32_t block)
{
    uint32_t step = 1;
    if (block >= 4) { /* the first two steps at once, four elements at a time */
        for (uint32_t i = 0; i < n; i += 4) {
            double a = x[i] + x[i + 1], b = x[i] - x[i + 1], c = x[i + 2] + x[i + 3], d = x[i + 2] - x[i + 3];
            x[i] = a + c;
            x[i + 1] = b + d;
            x[i + 2] = a - c;
            x[i + 3] = b - d;
        }
        step = 4;
    }
    for (; step < block; step *= 2)
        for (uint32_t start = 0; start < n; start += 2 * step) {
            double *restrict lows = x + start, *restrict highs = x + start + step;
            for (uint32_t i = 0; i < step; i++) {
                double low = lows[i], high = highs[i];
                lows[i] = low + high;
                highs[i] = low - high;
            }
        }
    double share = 1.0 / block; /* a power of two: exact */
    for (uint32_t i = 0; i < n; i++)
        x[i] *= share;
}

FOR_EACH_TARGET(hadamard, hadamard_body, hadamard_body, (double *x, uint32_t n, uint32_t block), (x, n, block))

void numeric_hadamard(double *x, uint32_t n, uint32_t block)
{
    hadamard_best(x, n, block);
}

INLINE void round_body(const double *restrict x, uint32_t n, double scale, int8_t *restrict q)
{
    for (uint32_t i = 0; i < n; i++) {
        double rounded = __builtin_floor(x[i] / scale + 0.5);
        rounded = rounded > 127 ? 127 : rounded;
        rounded = rounded < -127 ? -127 : rounded;
        q[i] = (int8_t)(int32_t)rounded;
    }
}

FOR_EACH_TARGET(round, round_body, round_body, (const double *x, uint32_t n, double scale, int8_t *q), (x, n, scale, q))

void numeric_round(const double *x, uint32_t n, double scale, int8_t *q)
{
    round_best(x, n, scale, q);
}

enum { PEAKS = 8 };

INLINE void largest_body(const double *restrict x, uint32_t n, double *restrict result)
{
    double peaks[PEAKS] = {0};
    uint32_t i = 0;
    for (; i + PEAKS <= n; i += PEAKS)
        for (int j = 0; j < PEAKS; j++) {
            double size = __builtin_fabs(x[i + j]);
            peaks[j] = size > peaks[j] ? size : peaks[j];
        }
    for (; i < n; i++)
        peaks[0] = __builtin_fabs(x[i]) > peaks[0] ? __builtin_fabs(x[i]) : peaks[0];
    for (int j = 1; j < PEAKS; j++)
        peaks[0] = peaks[j] > peaks[0] ? peaks[j] : peaks[0];
    *result = peaks[0];
}

FOR_EACH_TARGET(largest, largest_body, largest_body, (const double *x, uint32_t n, double *result), (x, n, result))

double numeric_largest(const double *x, uint32_t n)
{
    double result;
    largest_best(x, n, &result);
    return result;
}
