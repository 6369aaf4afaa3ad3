/* cut.h - graph cut: rows that are similar to all, and not to each other,
 *
 *     f(S) = coverage * sum of s(i, j) over all i and j in S
 *            - sum of s(i, j) over i and j in S
 *
 * with s of directions, as in facility.h.  Submodular; for coverage of at least
 * 2 a further row never makes f smaller. */
#ifndef MDN_SELECTOR_CUT_H
#define MDN_SELECTOR_CUT_H

#include "selector/features.h"
#include "selector/greedy.h"

/* As mdn_greedy_choose.  The gains of all rows are brought up to date at each
 * choice, in one pass over the features. */
mdn_status mdn_cut(const mdn_features *features, double coverage,
                   const mdn_greedy_options *options, uint64_t count,
                   uint64_t *chosen, double *gains, mdn_error *err);

#endif
