/* kcenter.h - k-center greedy: always the sample farthest from those chosen.
 *
 * The largest distance of a sample to the nearest one chosen is at most twice
 * what any choice of that size could reach (Gonzalez 1985). */
#ifndef MDN_SELECTOR_KCENTER_H
#define MDN_SELECTOR_KCENTER_H

#include "selector/features.h"

/* Choose `count` rows, beside the start_count different ones in start, which
 * are there already (at least one).  chosen (count) has them in the order of
 * choice; distances (features->count) those to the nearest of all; radii
 * (count) how far away each was when it was chosen.  Ties go to the lowest row.
 * MDN_INVALID when there are fewer rows, or for a start that is none. */
mdn_status mdn_kcenter(const mdn_features *features, const uint64_t *start,
                       uint64_t start_count, uint64_t count, uint64_t *chosen,
                       double *radii, double *distances, mdn_error *err);

#endif
