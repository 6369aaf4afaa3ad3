/* facility_screen.h - inside facility: bounds of similarities, in float.
 *
 * For every row i and a candidate x an upper bound of s(i, x) - current[i],
 * from inner products of rows that were scaled to a norm of at most 1 and
 * rounded to float: that is twice the rows in a vector, and half the bytes.
 * Each bound has room for all roundings, of which those of an inner product of
 * d numbers are the largest, (d + 4) 2^-24; so a row without a positive one
 * adds nothing to the gain of x, and the sum of the positive ones is no less
 * than the gain.
 *
 * In units of the screen: cosines, or distances over the largest norm.  The
 * same bits on every machine. */
#ifndef MDN_SELECTOR_FACILITY_SCREEN_H
#define MDN_SELECTOR_FACILITY_SCREEN_H

#include "selector/facility_gain.h"

#define MDN_SCREEN_LANES 16u
#define MDN_SCREEN_PANELS 16u /* in a strip */
#define MDN_SCREEN_STRIP (MDN_SCREEN_LANES * MDN_SCREEN_PANELS)

typedef struct {
    float *rows;   /* owned: [panel][t][lane] */
    float *more;   /* owned: of [1, embedding] over its norm; or NULL */
    float *square; /* owned: of places: norm squared; or NULL */
    float *level;  /* owned: below it a row adds nothing */
    uint64_t count, panels;
    uint32_t width, depth; /* depth: of more */
    mdn_facility_rule rule;
    double unit, shift, slack; /* similarity < shift + unit (value + slack) */
    float near;                /* of places: taken from squared distances */
} mdn_facility_screen;

/* False without memory, or when rows are too long for a float to be of use: no
 * screen then.  All levels are those of current = 0. */
bool mdn_facility_screen_init(mdn_facility_screen *screen,
                              const mdn_features *features,
                              const mdn_facility_rule *rule);
void mdn_facility_screen_free(mdn_facility_screen *screen);

/* current[row] is now this. */
void mdn_facility_screen_set(mdn_facility_screen *screen, uint64_t row,
                             double current);

/* Numbers that mdn_facility_screen_gather writes. */
uint64_t mdn_facility_screen_numbers(const mdn_facility_screen *screen);

/* Up to MDN_COLUMNS rows, as mdn_facility_screen_values reads them. */
void mdn_facility_screen_gather(const mdn_facility_screen *screen,
                                const uint32_t *rows, uint32_t count,
                                float *columns);

/* Values of the rows of up to MDN_SCREEN_PANELS panels from `first` on:
 * out[column * MDN_SCREEN_STRIP + i]. */
void mdn_facility_screen_values(const mdn_facility_screen *screen,
                                uint64_t first, uint64_t count,
                                const uint32_t *rows, uint32_t columns_count,
                                const float *columns, float *out);

/* The sum of what is above the levels, and which rows of each panel are. */
double mdn_facility_screen_add(const mdn_facility_screen *screen,
                               uint64_t first, uint64_t count,
                               const float *values, uint32_t *above);

/* An upper bound of the similarity behind a value. */
static inline double
mdn_facility_screen_similarity(const mdn_facility_screen *screen, float value)
{
    return screen->shift + screen->unit * ((double)value + screen->slack);
}

/* An upper bound of the gain behind a sum over strips. */
static inline double
mdn_facility_screen_gain(const mdn_facility_screen *screen, double sum)
{
    return screen->unit * sum * (1.0 + 1e-5);
}

#endif
