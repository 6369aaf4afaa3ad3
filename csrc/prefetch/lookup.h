/* lookup.h - the keys and weights of the rows of a pass. */
#ifndef MDN_PREFETCH_LOOKUP_H
#define MDN_PREFETCH_LOOKUP_H

#include "prefetch/pass.h"

#include <stdbool.h>
#include <stdint.h>

/* A training set: both arrays borrowed, of count items; weights may be NULL. */
typedef struct {
    const uint64_t *keys;
    const double *weights;
    uint64_t count;
    bool is_range; /* keys[i] is keys[0] + i: they need not be looked up */
} mdn_samples;

/* ascending: each key is greater than the one before it, so that the first and
 * the last tell whether they are a range.  Otherwise, where these two might be
 * of one, all keys are looked at. */
mdn_samples mdn_samples_of(const uint64_t *keys, const double *weights,
                           uint64_t count, bool ascending);

/* Of rows first .. first+rows-1 of a pass over these samples; weights NULL:
 * only the keys. */
void mdn_lookup_rows(const mdn_samples *samples, const mdn_pass *pass,
                     uint64_t first, uint64_t rows, uint64_t *keys,
                     double *weights);
/* Of samples at these positions, which may be in the memory of the keys. */
void mdn_lookup_at(const mdn_samples *samples, const uint64_t *positions,
                   uint64_t count, uint64_t *keys, double *weights);

#endif
