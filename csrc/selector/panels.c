/* panels.c - the two products, for each kind of vector unit.
 *
 * The same C is compiled for what every x86-64 has, for AVX2 and for AVX-512;
 * which one runs is found at each call (a load and a test).  None of them
 * contracts a product and a sum, and it would not matter: see panels.h. */
#include "selector/panels.h"

#include "base/bytes.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef float lanes_f32 __attribute__((vector_size(4 * MDN_LANES)));
typedef double lanes_f64 __attribute__((vector_size(8 * MDN_LANES)));

#define INLINE static inline __attribute__((always_inline))

/* ---- rows in, rows out ---- */

static mdn_status
check_finite(const float *row, uint64_t number, uint32_t width, mdn_error *err)
{
    for (uint32_t t = 0; t < width; t++) {
        if (!isfinite(row[t]))
            return mdn_fail(err, MDN_INVALID,
                            "row %" PRIu64 " holds a number that is not "
                            "finite, at %" PRIu32,
                            number, t);
    }
    return MDN_OK;
}

mdn_status
mdn_panels_init(const float *rows, uint64_t count, uint32_t width,
                mdn_panels *out, mdn_error *err)
{
    uint64_t panels = count / MDN_LANES + (count % MDN_LANES != 0);
    uint64_t bytes;
    mdn_status st;

    *out = (mdn_panels){.count = count, .panels = panels, .width = width};
    if (mdn_mul_overflows(panels * MDN_LANES * sizeof(float), width, &bytes))
        return mdn_fail_nomem(err, UINT64_MAX);
    out->cells = calloc(bytes > 0 ? bytes : 1, 1);
    if (out->cells == NULL)
        return mdn_fail_nomem(err, bytes);
    for (uint64_t i = 0; i < count; i++) {
        const float *row = rows + i * width;
        float *to =
            out->cells + i / MDN_LANES * MDN_LANES * width + i % MDN_LANES;

        if ((st = check_finite(row, i, width, err)) != MDN_OK) {
            mdn_panels_free(out);
            return st;
        }
        for (uint32_t t = 0; t < width; t++)
            to[(uint64_t)t * MDN_LANES] = row[t];
    }
    return MDN_OK;
}

void
mdn_panels_free(mdn_panels *panels)
{
    free(panels->cells);
    panels->cells = NULL;
}

static const float *
panel_at(const mdn_panels *panels, uint64_t panel)
{
    return panels->cells + panel * MDN_LANES * panels->width;
}

void
mdn_panels_row(const mdn_panels *panels, uint64_t row, double *out,
               uint32_t stride)
{
    const float *from = panel_at(panels, row / MDN_LANES) + row % MDN_LANES;

    for (uint32_t t = 0; t < panels->width; t++)
        out[(uint64_t)t * stride] = (double)from[(uint64_t)t * MDN_LANES];
}

/* ---- products ---- */

INLINE void
load(const float *at, lanes_f64 *out)
{
    lanes_f32 floats;

    memcpy(&floats, at, sizeof floats);
    *out = __builtin_convertvector(floats, lanes_f64);
}

/* Eight columns at a time need 32 registers of a whole panel each. */
INLINE void
tile_of_8(const float *cells, uint32_t width, const double *vectors,
          double *out, uint64_t room)
{
    lanes_f64 sums[8] = {{0}}, x;

    for (uint32_t t = 0; t < width; t++) {
        load(cells + (uint64_t)t * MDN_LANES, &x);
        for (uint32_t c = 0; c < 8; c++)
            sums[c] += x * vectors[MDN_COLUMNS * t + c];
    }
    for (uint32_t c = 0; c < 8; c++)
        memcpy(out + c * room, &sums[c], sizeof sums[c]);
}

INLINE void
tile_of_4(const float *cells, uint32_t width, const double *vectors,
          double *out, uint64_t room)
{
    lanes_f64 a = {0}, b = {0}, c = {0}, d = {0}, x;

    for (uint32_t t = 0; t < width; t++) {
        const double *v = vectors + MDN_COLUMNS * t;

        load(cells + (uint64_t)t * MDN_LANES, &x);
        a += x * v[0];
        b += x * v[1];
        c += x * v[2];
        d += x * v[3];
    }
    memcpy(out, &a, sizeof a);
    memcpy(out + room, &b, sizeof b);
    memcpy(out + 2 * room, &c, sizeof c);
    memcpy(out + 3 * room, &d, sizeof d);
}

INLINE void
tile(const float *cells, uint32_t width, uint64_t count, bool wide,
     const double *vectors, double *out, uint64_t room)
{
    for (uint64_t p = 0; p < count; p++) {
        const float *from = cells + p * MDN_LANES * width;
        double *to = out + p * MDN_LANES;

        if (wide) {
            tile_of_8(from, width, vectors, to, room);
        } else {
            tile_of_4(from, width, vectors, to, room);
            tile_of_4(from, width, vectors + 4, to + 4 * room, room);
        }
    }
}

/* Two panels at a time: neither waits for the other's sum. */
INLINE void
times(const float *cells, uint32_t width, uint64_t count, const double *vector,
      double *out)
{
    uint64_t size = (uint64_t)MDN_LANES * width;
    uint64_t p = 0;

    for (; p + 2 <= count; p += 2, cells += 2 * size) {
        lanes_f64 a = {0}, b = {0}, x, y;

        for (uint32_t t = 0; t < width; t++) {
            load(cells + (uint64_t)t * MDN_LANES, &x);
            load(cells + size + (uint64_t)t * MDN_LANES, &y);
            a += x * vector[t];
            b += y * vector[t];
        }
        memcpy(out + p * MDN_LANES, &a, sizeof a);
        memcpy(out + (p + 1) * MDN_LANES, &b, sizeof b);
    }
    if (p < count) {
        lanes_f64 a = {0}, x;

        for (uint32_t t = 0; t < width; t++) {
            load(cells + (uint64_t)t * MDN_LANES, &x);
            a += x * vector[t];
        }
        memcpy(out + p * MDN_LANES, &a, sizeof a);
    }
}

typedef void tile_function(const float *, uint32_t, uint64_t, const double *,
                           double *, uint64_t);
typedef void times_function(const float *, uint32_t, uint64_t, const double *,
                            double *);

#define FOR_TARGET(name, attribute, wide)                                      \
    attribute static void tile_##name(const float *cells, uint32_t width,      \
                                      uint64_t count, const double *vectors,   \
                                      double *out, uint64_t room)              \
    {                                                                          \
        tile(cells, width, count, wide, vectors, out, room);                   \
    }                                                                          \
    attribute static void times_##name(const float *cells, uint32_t width,     \
                                       uint64_t count, const double *vector,   \
                                       double *out)                            \
    {                                                                          \
        times(cells, width, count, vector, out);                               \
    }

FOR_TARGET(plain, , false)
#if defined(__x86_64__)
FOR_TARGET(avx2, __attribute__((target("avx2"))), false)
FOR_TARGET(avx512, __attribute__((target("avx512f,avx512dq"))), true)

static tile_function *
best_tile(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        return tile_avx512;
    return __builtin_cpu_supports("avx2") ? tile_avx2 : tile_plain;
}

static times_function *
best_times(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        return times_avx512;
    return __builtin_cpu_supports("avx2") ? times_avx2 : times_plain;
}
#else
static tile_function *
best_tile(void)
{
    return tile_plain;
}

static times_function *
best_times(void)
{
    return times_plain;
}
#endif

void
mdn_panels_tile(const mdn_panels *panels, uint64_t first, uint64_t count,
                const double *vectors, double *out, uint64_t room)
{
    best_tile()(panel_at(panels, first), panels->width, count, vectors, out,
                room);
}

void
mdn_panels_times(const mdn_panels *panels, uint64_t first, uint64_t count,
                 const double *vector, double *out)
{
    best_times()(panel_at(panels, first), panels->width, count, vector, out);
}
