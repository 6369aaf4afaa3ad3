/* panels.h - products of rows of floats, with sums in double.
 *
 * Rows stand in panels of eight, transposed: the t-th numbers of eight rows lie
 * side by side, so that a vector unit works on eight rows at once and each sum
 * runs over t from 0 upwards.  The product of two floats is exact in double: so
 * every sum has the same bits on every machine, with fused multiply-add or
 * without, and as a plain loop over one row would have. */
#ifndef MDN_SELECTOR_PANELS_H
#define MDN_SELECTOR_PANELS_H

#include "base/error.h"

#include <stdint.h>

#define MDN_LANES 8u   /* rows in a panel */
#define MDN_COLUMNS 8u /* products at a time in mdn_panels_tile */

typedef struct {
    float *cells;   /* owned: [panel][t][lane]; rows behind the last are 0 */
    uint64_t count; /* rows */
    uint64_t panels;
    uint32_t width; /* numbers of a row */
} mdn_panels;

/* From count rows of width numbers, row after row.  MDN_INVALID for a number
 * that is not finite, MDN_NOMEM. */
mdn_status mdn_panels_init(const float *rows, uint64_t count, uint32_t width,
                           mdn_panels *out, mdn_error *err);
void mdn_panels_free(mdn_panels *panels);

/* Row number `row`, each number in every stride-th place of out. */
void mdn_panels_row(const mdn_panels *panels, uint64_t row, double *out,
                    uint32_t stride);

/* Inner products of the rows of `count` panels, from `first` on, with
 * MDN_COLUMNS vectors, interleaved as mdn_panels_row writes them with that
 * stride: out[column * room + row], where row 0 is the first of those. */
void mdn_panels_tile(const mdn_panels *panels, uint64_t first, uint64_t count,
                     const double *vectors, double *out, uint64_t room);

/* Inner products of the rows of `count` panels, from `first` on, with one
 * vector: out[0] is the first of those rows. */
void mdn_panels_times(const mdn_panels *panels, uint64_t first, uint64_t count,
                      const double *vector, double *out);

#endif
