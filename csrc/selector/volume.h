/* volume.h - rows that span much: log determinants.
 *
 *     MDN_VOLUME_SIMILAR  f(S) = ln det(K + ridge I), K = (1 + cos) / 2 of the
 *                         rows chosen, as in facility.h
 *     MDN_VOLUME_LINEAR   f(S) = ln det(I + K / ridge), K = <G_i, G_j>: up to a
 *                         constant ln det(ridge I + sum of G G^T), D-optimal
 *
 * The gain of x is the logarithm of what is left of it beside those chosen:
 * ln((K_xx + ridge - K_xS (K_SS + ridge I)^-1 K_Sx) / unit), unit 1 or ridge.
 */
#ifndef MDN_SELECTOR_VOLUME_H
#define MDN_SELECTOR_VOLUME_H

#include "selector/features.h"
#include "selector/greedy.h"

typedef enum {
    MDN_VOLUME_SIMILAR,
    MDN_VOLUME_LINEAR,
} mdn_volume_kind;

/* Which of two ways to compute the same gains. */
typedef enum {
    MDN_VOLUME_AUTO,
    MDN_VOLUME_SPACE,  /* in the space of the features: not with embeddings */
    MDN_VOLUME_KERNEL, /* by a Cholesky factor of K_SS + ridge I */
} mdn_volume_way;

/* As mdn_greedy_choose.  MDN_INVALID too for a ridge that is not above 0, and
 * for MDN_VOLUME_SPACE with embeddings. */
mdn_status mdn_volume(const mdn_features *features, mdn_volume_kind kind,
                      double ridge, mdn_volume_way way,
                      const mdn_greedy_options *options, uint64_t count,
                      uint64_t *chosen, double *gains, mdn_error *err);

#endif
