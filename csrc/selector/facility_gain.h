/* facility_gain.h - inside facility: from inner products to gains. */
#ifndef MDN_SELECTOR_FACILITY_GAIN_H
#define MDN_SELECTOR_FACILITY_GAIN_H

#include "selector/facility.h"

/* What a similarity needs of each row besides inner products: 1 / norm (0 for
 * norm 0), or norm squared. */
typedef struct {
    mdn_similarity similarity;
    double far; /* of places */
} mdn_facility_rule;

static inline double
mdn_facility_own(const mdn_facility_rule *rule)
{
    return rule->similarity == MDN_SIMILAR_COSINE ? 1.0 : rule->far;
}

/* Similarities of `count` rows (a multiple of MDN_LANES), of which `own` says
 * what is needed, to a row of which `other` does; in place of products. */
void mdn_facility_similar(const mdn_facility_rule *rule, const double *own,
                          double other, uint64_t count, double *products);

/* Add max(0, similar - current) of `count` panels to the sums of the lanes.
 * With `found`: a bit for each panel of which a row has more than 0. */
void mdn_facility_add(const double *similar, const double *current,
                      uint64_t count, double *sums, uint32_t *found);

#endif
