/* deal.h - a keyed permutation of 0 .. count-1, also of few elements.
 *
 * The network of permutation.h looks for each element of a small count in a
 * square of 1,024, which takes 1,024 / count rounds.  Here up to MDN_DEAL_MAX
 * elements are a list, and only more are a network.  A word means the same
 * order in every version. */
#ifndef MDN_BASE_DEAL_H
#define MDN_BASE_DEAL_H

#include "base/permutation.h"

#include <stdint.h>

#define MDN_DEAL_MAX 512 /* elements of a list */

typedef struct {
    mdn_permutation network; /* its count is that of the list, too */
    uint16_t list[MDN_DEAL_MAX];
} mdn_deal;

/* 1 <= count <= MDN_PERMUTATION_MAX.  Then a word gives an order, and another
 * word another one. */
void mdn_deal_init(mdn_deal *deal, uint64_t count);
void mdn_deal_by(mdn_deal *deal, uint64_t word);

/* As mdn_permutation_at, find and range. */
uint64_t mdn_deal_at(const mdn_deal *deal, uint64_t index);
uint64_t mdn_deal_find(const mdn_deal *deal, uint64_t element);
void mdn_deal_range(const mdn_deal *deal, uint64_t first, uint64_t size,
                    uint64_t *out);

#endif
