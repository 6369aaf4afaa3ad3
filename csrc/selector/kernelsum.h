/* kernelsum.h - sums over all pairs of rows, of a function of their distance.
 *
 * What a maximum mean discrepancy and an energy distance consist of.  Memory is
 * two blocks of 1 MiB (or eight rows) for each thread, however many rows there
 * are. */
#ifndef MDN_SELECTOR_KERNELSUM_H
#define MDN_SELECTOR_KERNELSUM_H

#include "base/error.h"
#include "base/pulse.h"
#include "selector/pairtile.h"

typedef struct {
    uint32_t threads; /* at least 1; the answer does not depend on it */
    mdn_beat *beat;   /* borrowed: asked all along whether to go on, or NULL */
} mdn_pair_options;

/* The sum of the kernel over all pairs of a row and another; without others
 * (NULL), over all ordered pairs of different rows.  0 without pairs.  Numbers
 * are finite, and gamma is; the norm has no gamma.  Both of one width, at least
 * 1.  MDN_NOMEM, and what the beat says. */
mdn_status mdn_kernelsum(const mdn_pair_rows *rows, const mdn_pair_rows *others,
                         mdn_pair_kernel kernel, double gamma,
                         const mdn_pair_options *options, double *out,
                         mdn_error *err);

/* The squared distances of the count (count - 1) / 2 pairs of different rows,
 * (0, 1), (0, 2), ..., (1, 2), ...; exactly 0 for equal rows. */
mdn_status mdn_pair_squares(const mdn_pair_rows *rows,
                            const mdn_pair_options *options, double *out,
                            mdn_error *err);

#endif
