/* pairtile.h - blocks of rows, and functions of the distances of two blocks.
 *
 * A block holds rows as doubles in panels of eight, transposed, so that a
 * vector unit works on eight rows at once.  No product is contracted with a sum
 * and the exponential function is our own: sums have the same bits on every
 * machine. */
#ifndef MDN_SELECTOR_PAIRTILE_H
#define MDN_SELECTOR_PAIRTILE_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define MDN_PAIR_LANES 8u

typedef enum {
    MDN_PAIR_GAUSSIAN, /* exp(-gamma |a - b|^2) */
    MDN_PAIR_NORM,     /* |a - b| */
} mdn_pair_kernel;

/* Rows as they come, one after the other. */
typedef struct {
    const void *cells; /* borrowed */
    uint64_t count;
    uint32_t width; /* numbers of a row */
    bool is_double; /* or float */
} mdn_pair_rows;

typedef struct {
    double *cells;  /* owned: [panel][t][lane]; rows behind the last are 0 */
    double *norms;  /* owned: their squared lengths */
    uint64_t first; /* which row comes first */
    uint32_t count, room, width;
} mdn_pair_block;

/* room is a multiple of MDN_PAIR_LANES.  MDN_NOMEM. */
mdn_status mdn_pair_block_init(uint32_t room, uint32_t width,
                               mdn_pair_block *out, mdn_error *err);
void mdn_pair_block_free(mdn_pair_block *block);

/* The rows from `first` on, as many as there is room for, less the center. */
void mdn_pair_block_fill(mdn_pair_block *block, const mdn_pair_rows *rows,
                         uint64_t first, const double *center);

/* The sum over all pairs of a row and a column; of the same block with itself,
 * over the pairs of different rows, each once.  scratch: MDN_PAIR_LANES times
 * the room of the rows.  Squared distances are |a|^2 + |b|^2 - 2 ab for the
 * Gaussian, and sums of squared differences for the norm, whose root would
 * show what was rounded. */
double mdn_pair_sum_of_blocks(const mdn_pair_block *rows,
                              const mdn_pair_block *columns, bool same,
                              mdn_pair_kernel kernel, double gamma,
                              double *scratch);

/* Sums of squared differences of all rows and eight columns, from column
 * 8 * group on: out[column * room of the rows + row]. */
void mdn_pair_squares_of_blocks(const mdn_pair_block *rows,
                                const mdn_pair_block *columns, uint32_t group,
                                double *out);

#endif
