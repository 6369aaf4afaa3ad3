/* pairtile.c - tiles of eight rows and eight columns, for each kind of vector
 * unit.
 *
 * As in panels.c, the same C is compiled for what every x86-64 has, for AVX2
 * and for AVX-512, and none of them contracts a product and a sum. */
#include "selector/pairtile.h"

#include "base/bytes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF /* as is GCC's way with -std=c11 */
#endif

#define LANES MDN_PAIR_LANES

typedef double lanes_f64 __attribute__((vector_size(8 * MDN_PAIR_LANES)));
typedef uint64_t lanes_u64 __attribute__((vector_size(8 * MDN_PAIR_LANES)));

#define INLINE static inline __attribute__((always_inline))

/* ---- blocks ---- */

mdn_status
mdn_pair_block_init(uint32_t room, uint32_t width, mdn_pair_block *out,
                    mdn_error *err)
{
    uint64_t bytes;

    *out = (mdn_pair_block){.room = room, .width = width};
    if (mdn_mul_overflows((uint64_t)room * sizeof(double), width, &bytes))
        return mdn_fail_nomem(err, UINT64_MAX);
    out->cells = calloc(bytes > 0 ? bytes : 1, 1);
    out->norms = calloc(room, sizeof *out->norms);
    if (out->cells != NULL && out->norms != NULL)
        return MDN_OK;
    mdn_pair_block_free(out);
    return mdn_fail_nomem(err, bytes);
}

void
mdn_pair_block_free(mdn_pair_block *block)
{
    free(block->cells);
    free(block->norms);
    block->cells = block->norms = NULL;
}

/* The number at a place of the rows. */
static inline double
number_at(const mdn_pair_rows *rows, uint64_t at)
{
    return rows->is_double ? ((const double *)rows->cells)[at]
                           : (double)((const float *)rows->cells)[at];
}

/* `count` rows into the lanes of a panel, all of them column by column, so that
 * the panel is written from front to back; and their squared lengths. */
static void
fill_panel(const mdn_pair_rows *rows, uint64_t first, uint32_t count,
           const double *center, double *cells, double *norms)
{
    uint64_t width = rows->width;

    memset(norms, 0, LANES * sizeof *norms);
    if (count < LANES)
        memset(cells, 0, width * LANES * sizeof *cells);
    for (uint64_t t = 0; t < width; t++) {
        for (uint32_t lane = 0; lane < count; lane++) {
            double x = number_at(rows, (first + lane) * width + t) - center[t];

            cells[t * LANES + lane] = x;
            norms[lane] += x * x;
        }
    }
}

void
mdn_pair_block_fill(mdn_pair_block *block, const mdn_pair_rows *rows,
                    uint64_t first, const double *center)
{
    uint64_t left = rows->count - first;

    block->first = first;
    block->count = left < block->room ? (uint32_t)left : block->room;
    for (uint32_t i = 0; i < block->count; i += LANES) {
        uint32_t count = block->count - i < LANES ? block->count - i : LANES;

        fill_panel(rows, first + i, count, center,
                   block->cells + (uint64_t)i * block->width, block->norms + i);
    }
}

/* ---- tiles: eight rows and `columns` columns ---- */

INLINE void
load(const double *at, lanes_f64 *out)
{
    memcpy(out, at, sizeof *out);
}

INLINE void
store(double *at, const lanes_f64 *from)
{
    memcpy(at, from, sizeof *from);
}

INLINE void
products(const double *cells, const double *others, uint32_t width,
         uint32_t columns, double *out, uint32_t room)
{
    lanes_f64 sums[LANES] = {{0}}, x;

    for (uint32_t t = 0; t < width; t++) {
        load(cells + (uint64_t)t * LANES, &x);
        for (uint32_t c = 0; c < columns; c++)
            sums[c] += x * others[(uint64_t)t * LANES + c];
    }
    for (uint32_t c = 0; c < columns; c++)
        store(out + (uint64_t)c * room, &sums[c]);
}

INLINE void
differences(const double *cells, const double *others, uint32_t width,
            uint32_t columns, double *out, uint32_t room)
{
    lanes_f64 sums[LANES] = {{0}}, x;

    for (uint32_t t = 0; t < width; t++) {
        load(cells + (uint64_t)t * LANES, &x);
        for (uint32_t c = 0; c < columns; c++) {
            lanes_f64 apart = x - others[(uint64_t)t * LANES + c];

            sums[c] += apart * apart;
        }
    }
    for (uint32_t c = 0; c < columns; c++)
        store(out + (uint64_t)c * room, &sums[c]);
}

/* Eight columns at a time need 32 registers of a whole panel each. */
#define EIGHT_COLUMNS(function, cells, others, width, wide, out, room)         \
    do {                                                                       \
        if (wide) {                                                            \
            function(cells, others, width, 8, out, room);                      \
        } else {                                                               \
            function(cells, others, width, 4, out, room);                      \
            function(cells, (others) + 4, width, 4, (out) + 4 * (room), room); \
        }                                                                      \
    } while (0)

/* ---- functions of eight numbers ---- */

#define LOG2_E 0x1.71547652b82fep+0
#define LN2_HIGH 0x1.62e42fee00000p-1 /* times a small integer: exact */
#define LN2_LOW 0x1.a39ef35793c76p-33
#define ROUNDER 0x1.8p+52 /* added and taken off: the nearest integer */
#define LEAST (-708.0)    /* below it, e^x counts as 0 */

/* e^x for x <= 0: 2^k e^r with |r| <= ln(2) / 2, by its series; the terms from
 * r^14 on are below 2^-57.  Right to about one unit in the last place. */
INLINE void
exponential(lanes_f64 *x)
{
    static const double terms[] = {1.0 / 6227020800,
                                   1.0 / 479001600,
                                   1.0 / 39916800,
                                   1.0 / 3628800,
                                   1.0 / 362880,
                                   1.0 / 40320,
                                   1.0 / 5040,
                                   1.0 / 720,
                                   1.0 / 120,
                                   1.0 / 24,
                                   1.0 / 6,
                                   1.0 / 2,
                                   1.0,
                                   1.0};
    lanes_f64 k = *x * LOG2_E + ROUNDER, r, sum = {0};
    lanes_u64 power, bits, kept = (lanes_u64)(*x >= LEAST);

    memcpy(&power, &k, sizeof power);
    k -= ROUNDER;
    r = *x - k * LN2_HIGH;
    r -= k * LN2_LOW;
    for (uint32_t i = 0; i < sizeof terms / sizeof *terms; i++)
        sum = sum * r + terms[i];
    memcpy(&bits, &sum, sizeof bits);
    bits = (bits + (power << 52)) & kept;
    memcpy(x, &bits, sizeof bits);
}

/* From inner products with one column to values of the kernel. */
INLINE void
gaussian(double *values, const double *norms, double norm, uint32_t panels,
         double gamma)
{
    for (uint32_t p = 0; p < panels; p++) {
        lanes_f64 product, x;
        lanes_u64 bits;

        load(values + p * LANES, &product);
        load(norms + p * LANES, &x);
        x = (x + norm) - (product + product);
        memcpy(&bits, &x, sizeof bits);
        bits &= (lanes_u64)(x > 0); /* what was rounded below 0 is 0 */
        memcpy(&x, &bits, sizeof bits);
        x *= -gamma;
        exponential(&x);
        store(values + p * LANES, &x);
    }
}

INLINE void
roots(double *values, uint32_t panels)
{
    for (uint32_t i = 0; i < panels * LANES; i++)
        values[i] = sqrt(values[i]);
}

/* The first `count` values, by lanes and then in order. */
INLINE double
sum_of(const double *values, uint32_t count)
{
    lanes_f64 lanes = {0}, x;
    double total = 0;
    uint32_t whole = count / LANES * LANES;

    for (uint32_t i = 0; i < whole; i += LANES) {
        load(values + i, &x);
        lanes += x;
    }
    for (uint32_t i = 0; i < LANES; i++)
        total += lanes[i];
    for (uint32_t i = whole; i < count; i++)
        total += values[i];
    return total;
}

/* ---- blocks with blocks ---- */

/* Eight columns: values of the kernel for the rows of `panels` panels. */
INLINE void
strip(const mdn_pair_block *rows, const mdn_pair_block *columns, uint32_t group,
      uint32_t panels, mdn_pair_kernel kernel, double gamma, bool wide,
      double *scratch)
{
    uint32_t width = rows->width, room = rows->room;
    uint64_t size = (uint64_t)width * LANES;
    const double *others = columns->cells + group * size;

    for (uint32_t p = 0; p < panels; p++) {
        const double *cells = rows->cells + p * size;
        double *out = scratch + p * LANES;

        if (kernel == MDN_PAIR_GAUSSIAN)
            EIGHT_COLUMNS(products, cells, others, width, wide, out, room);
        else
            EIGHT_COLUMNS(differences, cells, others, width, wide, out, room);
    }
    for (uint32_t c = 0; c < LANES; c++) {
        if (kernel == MDN_PAIR_GAUSSIAN)
            gaussian(scratch + c * room, rows->norms,
                     columns->norms[group * LANES + c], panels, gamma);
        else
            roots(scratch + c * room, panels);
    }
}

INLINE double
sum_of_blocks(const mdn_pair_block *rows, const mdn_pair_block *columns,
              bool same, mdn_pair_kernel kernel, double gamma, bool wide,
              double *scratch)
{
    uint32_t all = (rows->count + LANES - 1) / LANES;
    double total = 0;

    for (uint32_t first = 0; first < columns->count; first += LANES) {
        uint32_t group = first / LANES, panels = same ? group + 1 : all;

        strip(rows, columns, group, panels, kernel, gamma, wide, scratch);
        for (uint32_t c = 0; c < LANES && first + c < columns->count; c++)
            total += sum_of(scratch + c * rows->room,
                            same ? first + c : rows->count);
    }
    return total;
}

INLINE void
squares_of_blocks(const mdn_pair_block *rows, const mdn_pair_block *columns,
                  uint32_t group, bool wide, double *out)
{
    uint32_t panels = (rows->count + LANES - 1) / LANES, width = rows->width;
    uint64_t size = (uint64_t)width * LANES;
    const double *others = columns->cells + group * size;

    for (uint32_t p = 0; p < panels; p++)
        EIGHT_COLUMNS(differences, rows->cells + p * size, others, width, wide,
                      out + p * LANES, rows->room);
}

typedef double sum_function(const mdn_pair_block *, const mdn_pair_block *,
                            bool, mdn_pair_kernel, double, double *);
typedef void squares_function(const mdn_pair_block *, const mdn_pair_block *,
                              uint32_t, double *);

#define FOR_TARGET(name, attribute, wide)                                      \
    attribute static double sum_##name(                                        \
        const mdn_pair_block *rows, const mdn_pair_block *columns, bool same,  \
        mdn_pair_kernel kernel, double gamma, double *scratch)                 \
    {                                                                          \
        if (kernel == MDN_PAIR_GAUSSIAN)                                       \
            return sum_of_blocks(rows, columns, same, MDN_PAIR_GAUSSIAN,       \
                                 gamma, wide, scratch);                        \
        return sum_of_blocks(rows, columns, same, MDN_PAIR_NORM, gamma, wide,  \
                             scratch);                                         \
    }                                                                          \
    attribute static void squares_##name(const mdn_pair_block *rows,           \
                                         const mdn_pair_block *columns,        \
                                         uint32_t group, double *out)          \
    {                                                                          \
        squares_of_blocks(rows, columns, group, wide, out);                    \
    }

FOR_TARGET(plain, , false)
#if defined(__x86_64__)
FOR_TARGET(avx2, __attribute__((target("avx2"))), false)
FOR_TARGET(avx512, __attribute__((target("avx512f,avx512dq"))), true)

static sum_function *
best_sum(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        return sum_avx512;
    return __builtin_cpu_supports("avx2") ? sum_avx2 : sum_plain;
}

static squares_function *
best_squares(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        return squares_avx512;
    return __builtin_cpu_supports("avx2") ? squares_avx2 : squares_plain;
}
#else
static sum_function *
best_sum(void)
{
    return sum_plain;
}

static squares_function *
best_squares(void)
{
    return squares_plain;
}
#endif

double
mdn_pair_sum_of_blocks(const mdn_pair_block *rows,
                       const mdn_pair_block *columns, bool same,
                       mdn_pair_kernel kernel, double gamma, double *scratch)
{
    return best_sum()(rows, columns, same, kernel, gamma, scratch);
}

void
mdn_pair_squares_of_blocks(const mdn_pair_block *rows,
                           const mdn_pair_block *columns, uint32_t group,
                           double *out)
{
    best_squares()(rows, columns, group, out);
}
