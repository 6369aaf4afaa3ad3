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

/* Of one panel: excess[l] = max(0, products[l] - current[l]), to sums[l].
 * Returns whether any is above 0, which it looks for only if asked. */
bool mdn_facility_add(const double *similar, const double *current, bool ask,
                      double *excess, double *sums);

#endif
