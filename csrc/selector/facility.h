/* facility.h - facility location: every row is served by the most similar one
 * of those chosen,
 *
 *     f(S) = sum over all rows i of the largest s(i, j), j in S
 *
 * Two similarities: of directions, (1 + cos) / 2, where the cosine with a row
 * of zeros is 0 and that of a row with itself 1; and of places, far - distance,
 * with far = twice the largest norm, no less than any distance (CRAIG). */
#ifndef MDN_SELECTOR_FACILITY_H
#define MDN_SELECTOR_FACILITY_H

#include "selector/features.h"
#include "selector/greedy.h"

typedef enum {
    MDN_SIMILAR_COSINE,
    MDN_SIMILAR_PLACE,
} mdn_similarity;

/* Choose `count` rows.  chosen, gains: as mdn_greedy_choose.  served (count):
 * how many rows each of them serves, itself included; they sum to the number of
 * rows.  A row that two serve equally well stays with the one chosen first. */
mdn_status mdn_facility(const mdn_features *features, mdn_similarity similarity,
                        const mdn_greedy_options *options, uint64_t count,
                        uint64_t *chosen, double *gains, uint64_t *served,
                        uint64_t *evaluations, mdn_error *err);

#endif
