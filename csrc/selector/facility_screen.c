/* facility_screen.c - scaled rows, their products, and what is above a level.
 *
 * As in panels.c the same C is compiled for each kind of vector unit, and none
 * of them contracts a product and a sum: so that a screen has the same bits on
 * every machine, and the work is the same too. */
#include "selector/facility_screen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define LANES MDN_SCREEN_LANES
#define STRIP MDN_SCREEN_STRIP
#define ROUNDING 0x1p-24
#define WIDTH_MOST 100000u /* numbers in a row: then the slack is 0.006 */

typedef float lanes_f32 __attribute__((vector_size(4 * LANES)));
typedef uint32_t bits_function(const float *, const float *);
typedef int32_t lanes_i32 __attribute__((vector_size(4 * LANES)));

#define INLINE static inline __attribute__((always_inline))

/* ---- rows ---- */

static bool
is_by_cosine(const mdn_facility_screen *screen)
{
    return screen->rule.similarity == MDN_SIMILAR_COSINE;
}

static float *
cell(float *cells, uint32_t width, uint64_t row)
{
    return cells + row / LANES * LANES * width + row % LANES;
}

/* The norm of an embedding with a 1 before it, which goes into `more`. */
static double
scale_embedding(mdn_facility_screen *screen, uint64_t row, const double *h)
{
    float *to = cell(screen->more, screen->depth, row);
    double norm = 1.0;

    for (uint32_t t = 0; t + 1 < screen->depth; t++)
        norm += h[t] * h[t];
    norm = sqrt(norm);
    to[0] = (float)(1.0 / norm);
    for (uint32_t t = 0; t + 1 < screen->depth; t++)
        to[(uint64_t)(t + 1) * LANES] = (float)(h[t] / norm);
    return norm;
}

static void
scale_row(mdn_facility_screen *screen, const mdn_features *features,
          uint64_t row, double *column)
{
    float *to = cell(screen->rows, screen->width, row);
    double square = features->squares[row];
    double scale = 1.0 / screen->unit;

    mdn_features_one(features, row, column);
    if (is_by_cosine(screen))
        scale = square > 0 ? 1.0 / sqrt(square) : 0;
    else
        screen->square[row] = (float)(square * scale * scale);
    if (screen->more != NULL)
        scale *= scale_embedding(screen, row, column + screen->width);
    for (uint32_t t = 0; t < screen->width; t++)
        to[(uint64_t)t * LANES] = (float)(column[t] * scale);
}

static void
set_units(mdn_facility_screen *screen)
{
    double numbers = (double)screen->width + screen->depth + 16.0;
    double far = screen->rule.far;

    screen->slack = 1.02 * numbers * ROUNDING;
    screen->unit = screen->shift = 0.5;
    if (!is_by_cosine(screen)) {
        screen->near = (float)(2.0 * screen->slack);
        screen->slack = 16.0 * ROUNDING;
        screen->unit = 0.5 * far;
        screen->shift = far;
    }
}

static bool
allocate(mdn_facility_screen *screen)
{
    uint64_t room = screen->panels * LANES;

    screen->rows = calloc(room * screen->width + 1, sizeof(float));
    screen->level = malloc(room * sizeof(float));
    if (screen->depth > 0)
        screen->more = calloc(room * screen->depth, sizeof(float));
    if (!is_by_cosine(screen))
        screen->square = calloc(room, sizeof(float));
    return screen->rows != NULL && screen->level != NULL
           && (screen->depth == 0 || screen->more != NULL)
           && (is_by_cosine(screen) || screen->square != NULL);
}

bool
mdn_facility_screen_init(mdn_facility_screen *screen,
                         const mdn_features *features,
                         const mdn_facility_rule *rule)
{
    uint64_t n = features->count;
    uint32_t depth = features->embeddings.width;
    double *column;

    *screen = (mdn_facility_screen){.rule = *rule,
                                    .count = n,
                                    .panels = n / LANES + (n % LANES != 0),
                                    .width = features->rows.width,
                                    .depth = depth > 0 ? depth + 1 : 0};
    if (mdn_features_numbers(features) > WIDTH_MOST || !(rule->far > 0))
        return false;
    set_units(screen);
    column = malloc((mdn_features_numbers(features) + 1) * sizeof *column);
    if (column == NULL || !allocate(screen)) {
        free(column);
        mdn_facility_screen_free(screen);
        return false;
    }
    for (uint64_t i = 0; i < n; i++)
        scale_row(screen, features, i, column);
    for (uint64_t i = 0; i < screen->panels * LANES; i++)
        mdn_facility_screen_set(screen, i, i < n ? 0 : INFINITY);
    free(column);
    return true;
}

void
mdn_facility_screen_free(mdn_facility_screen *screen)
{
    free(screen->rows);
    free(screen->more);
    free(screen->square);
    free(screen->level);
    *screen = (mdn_facility_screen){0};
}

void
mdn_facility_screen_set(mdn_facility_screen *screen, uint64_t row,
                        double current)
{
    screen->level[row] =
        (float)((current - screen->shift) / screen->unit - screen->slack);
}

uint64_t
mdn_facility_screen_numbers(const mdn_facility_screen *screen)
{
    return ((uint64_t)screen->width + screen->depth) * MDN_COLUMNS;
}

static void
gather(const float *cells, uint32_t width, uint64_t row, float *column)
{
    const float *from = cells + row / LANES * LANES * width + row % LANES;

    for (uint32_t t = 0; t < width; t++)
        column[(uint64_t)t * MDN_COLUMNS] = from[(uint64_t)t * LANES];
}

void
mdn_facility_screen_gather(const mdn_facility_screen *screen,
                           const uint32_t *rows, uint32_t count, float *columns)
{
    float *more = columns + (uint64_t)screen->width * MDN_COLUMNS;

    for (uint32_t c = 0; c < MDN_COLUMNS; c++) {
        uint32_t row = rows[c < count ? c : count - 1];

        gather(screen->rows, screen->width, row, columns + c);
        if (screen->more != NULL)
            gather(screen->more, screen->depth, row, more + c);
    }
}

/* ---- products ---- */

INLINE void
tile_of_8(const float *cells, uint32_t width, const float *columns, float *out)
{
    lanes_f32 x, a = {0}, b = {0}, c = {0}, d = {0};
    lanes_f32 e = {0}, f = {0}, g = {0}, h = {0};

    for (uint32_t t = 0; t < width; t++, columns += MDN_COLUMNS) {
        memcpy(&x, cells + (uint64_t)t * LANES, sizeof x);
        a += x * columns[0];
        b += x * columns[1];
        c += x * columns[2];
        d += x * columns[3];
        e += x * columns[4];
        f += x * columns[5];
        g += x * columns[6];
        h += x * columns[7];
    }
    memcpy(out, &a, sizeof a);
    memcpy(out + STRIP, &b, sizeof b);
    memcpy(out + 2 * STRIP, &c, sizeof c);
    memcpy(out + 3 * STRIP, &d, sizeof d);
    memcpy(out + 4 * STRIP, &e, sizeof e);
    memcpy(out + 5 * STRIP, &f, sizeof f);
    memcpy(out + 6 * STRIP, &g, sizeof g);
    memcpy(out + 7 * STRIP, &h, sizeof h);
}

INLINE void
tile_of_4(const float *cells, uint32_t width, const float *columns, float *out)
{
    lanes_f32 x, a = {0}, b = {0}, c = {0}, d = {0};

    for (uint32_t t = 0; t < width; t++, columns += MDN_COLUMNS) {
        memcpy(&x, cells + (uint64_t)t * LANES, sizeof x);
        a += x * columns[0];
        b += x * columns[1];
        c += x * columns[2];
        d += x * columns[3];
    }
    memcpy(out, &a, sizeof a);
    memcpy(out + STRIP, &b, sizeof b);
    memcpy(out + 2 * STRIP, &c, sizeof c);
    memcpy(out + 3 * STRIP, &d, sizeof d);
}

INLINE void
tile(const float *cells, uint32_t width, uint64_t count, bool wide,
     const float *columns, float *out)
{
    for (uint64_t p = 0; p < count; p++, cells += (uint64_t)LANES * width) {
        if (wide) {
            tile_of_8(cells, width, columns, out + p * LANES);
        } else {
            tile_of_4(cells, width, columns, out + p * LANES);
            tile_of_4(cells, width, columns + 4, out + 4 * STRIP + p * LANES);
        }
    }
}

/* From inner products to minus distances that are rather too short. */
INLINE void
places(const float *square, float other, float near, uint64_t count, float *out)
{
    for (uint64_t i = 0; i < count; i++) {
        float away = (square[i] + other - 2.0f * out[i]) - near;

        out[i] = -sqrtf(away > 0 ? away : 0);
    }
}

INLINE uint32_t
bits_plain(const float *values, const float *level)
{
    uint32_t bits = 0;

    for (uint32_t i = 0; i < LANES; i++)
        bits |= (uint32_t)(values[i] > level[i]) << i;
    return bits;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) INLINE uint32_t
bits_avx2(const float *values, const float *level)
{
    uint32_t bits = 0;

    for (uint32_t i = 0; i < LANES; i += 8)
        bits |= (uint32_t)_mm256_movemask_ps(
                    _mm256_cmp_ps(_mm256_loadu_ps(values + i),
                                  _mm256_loadu_ps(level + i), _CMP_GT_OQ))
                << i;
    return bits;
}

__attribute__((target("avx512f,avx512dq"))) INLINE uint32_t
bits_avx512(const float *values, const float *level)
{
    return _mm512_cmp_ps_mask(_mm512_loadu_ps(values), _mm512_loadu_ps(level),
                              _CMP_GT_OQ);
}
#endif

INLINE double
add(const float *values, const float *level, uint64_t count,
    bits_function *bits_of, uint32_t *above)
{
    lanes_f32 total = {0}, v, l;
    double sum = 0;

    for (uint64_t p = 0; p < count; p++) {
        memcpy(&v, values + p * LANES, sizeof v);
        memcpy(&l, level + p * LANES, sizeof l);
        above[p] = bits_of(values + p * LANES, level + p * LANES);
        if (above[p] != 0)
            total += (lanes_f32)((lanes_i32)(v - l) & (v > l));
    }
    for (uint32_t i = 0; i < LANES; i++)
        sum += (double)total[i];
    return sum;
}

typedef void tile_function(const float *, uint32_t, uint64_t, const float *,
                           float *);
typedef void places_function(const float *, float, float, uint64_t, float *);
typedef double add_function(const float *, const float *, uint64_t, uint32_t *);

typedef struct {
    tile_function *tile;
    places_function *places;
    add_function *add;
} functions;

#define FOR_TARGET(name, attribute, wide)                                      \
    attribute static void tile_##name(const float *cells, uint32_t width,      \
                                      uint64_t count, const float *columns,    \
                                      float *out)                              \
    {                                                                          \
        tile(cells, width, count, wide, columns, out);                         \
    }                                                                          \
    attribute static void places_##name(const float *square, float other,      \
                                        float near, uint64_t count,            \
                                        float *out)                            \
    {                                                                          \
        places(square, other, near, count, out);                               \
    }                                                                          \
    attribute static double add_##name(const float *values,                    \
                                       const float *level, uint64_t count,     \
                                       uint32_t *above)                        \
    {                                                                          \
        return add(values, level, count, bits_##name, above);                  \
    }                                                                          \
    static const functions on_##name = {tile_##name, places_##name, add_##name};

FOR_TARGET(plain, , false)
#if defined(__x86_64__)
FOR_TARGET(avx2, __attribute__((target("avx2"))), false)
FOR_TARGET(avx512, __attribute__((target("avx512f,avx512dq"))), true)
#endif

static const functions *
best(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        return &on_avx512;
    if (__builtin_cpu_supports("avx2"))
        return &on_avx2;
#endif
    return &on_plain;
}

static void
multiply(float *values, const float *by, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        values[i] *= by[i];
}

void
mdn_facility_screen_values(const mdn_facility_screen *screen, uint64_t first,
                           uint64_t count, const uint32_t *rows,
                           uint32_t columns_count, const float *columns,
                           float *out)
{
    const functions *on = best();
    uint64_t at = first * LANES, size = count * LANES;
    float more[MDN_COLUMNS * STRIP];

    on->tile(screen->rows + at * screen->width, screen->width, count, columns,
             out);
    if (screen->more != NULL)
        on->tile(screen->more + at * screen->depth, screen->depth, count,
                 columns + (uint64_t)screen->width * MDN_COLUMNS, more);
    for (uint32_t c = 0; c < columns_count; c++) {
        float *values = out + (uint64_t)c * STRIP;

        if (screen->more != NULL)
            multiply(values, more + (uint64_t)c * STRIP, size);
        if (screen->square != NULL)
            on->places(screen->square + at, screen->square[rows[c]],
                       screen->near, size, values);
        if (rows[c] >= at && rows[c] - at < size)
            values[rows[c] - at] = is_by_cosine(screen) ? 1.0f : 0.0f;
    }
}

double
mdn_facility_screen_add(const mdn_facility_screen *screen, uint64_t first,
                        uint64_t count, const float *values, uint32_t *above)
{
    return best()->add(values, screen->level + first * LANES, count, above);
}
