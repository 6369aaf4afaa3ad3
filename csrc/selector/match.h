/* match.h - few weighted rows whose sum is that of all: orthogonal matching
 * pursuit with non-negative weights (GradMatch). */
#ifndef MDN_SELECTOR_MATCH_H
#define MDN_SELECTOR_MATCH_H

#include "selector/features.h"

typedef struct {
    uint64_t *rows;     /* owned, ascending */
    double *weights;    /* owned; all above 0 */
    uint64_t count;     /* at most as many as asked for */
    double *objectives; /* owned: one for each step, never ascending */
    uint64_t steps;
    double residual; /* norm(sum of weights G - target) */
} mdn_matching;

void mdn_matching_free(mdn_matching *matching);

/* Minimise norm(sum over S of w_j G_j - target)^2 + ridge norm(w)^2 over w >= 0
 * with at most `count` of them above 0.  Each step takes the row, of those
 * left, with the largest inner product with the residual (ties: the lowest),
 * and fits all weights; a row whose weight becomes 0 is left again.  It ends
 * when no row points along the residual, which may be before there are `count`.
 *
 * target: mdn_moment_numbers of them, or NULL: the mean of all rows.  ridge is
 * in units of the mean of norm(G)^2, so that the choice does not depend on the
 * scale of the features.  MDN_INVALID when there are fewer rows, for a ridge
 * below 0, and for a target that is not finite. */
mdn_status mdn_match(const mdn_features *features, const double *target,
                     double ridge, uint64_t count, mdn_matching *out,
                     mdn_error *err);

#endif
