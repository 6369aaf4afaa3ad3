/* fit.h - non-negative least squares over columns that come one by one.
 *
 * The weights w >= 0 minimise norm(A w - b)^2 + ridge norm(w)^2, of which only
 * <a_i, a_j> and <a_i, b> are needed: the method of Lawson and Hanson (1974)
 * with the Cholesky factor of A^T A + ridge I over the columns with w > 0.
 * (That is not the non-negative solution of the normal equations, which is
 * another one as soon as some weight is 0.) */
#ifndef MDN_SELECTOR_FIT_H
#define MDN_SELECTOR_FIT_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    double *gram;    /* owned: A^T A + ridge I, row i has i + 1 numbers */
    double *factor;  /* owned: likewise, of its Cholesky factor */
    double *target;  /* owned: A^T b */
    double *weights; /* owned: all above 0 */
    double *wanted;  /* owned: the solution without w >= 0 */
    uint64_t *names; /* owned: what the caller calls each column */
    uint64_t count, room;
} mdn_fit;

void mdn_fit_free(mdn_fit *fit); /* of one that is all zeros too */

/* Room for one more column; names, gram and target of column number
 * fit->count are to be filled then.  MDN_NOMEM. */
mdn_status mdn_fit_grow(mdn_fit *fit, mdn_error *err);

/* Take that column in and fit all weights; columns whose weight becomes 0
 * leave.  False, and nothing has changed, when it depends on the others or its
 * own weight is not above 0. */
bool mdn_fit_add(mdn_fit *fit);

#endif
