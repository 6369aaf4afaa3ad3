/* shares.h - how many samples each group gives when a total is to be shared.
 *
 * Water-filling: one level for all groups, as high as the capacity allows; a
 * group smaller than the level gives all it has. */
#ifndef MDN_SELECTOR_SHARES_H
#define MDN_SELECTOR_SHARES_H

#include "base/error.h"

#include <stdint.h>

typedef enum {
    /* Group i gives min(sizes[i], s), s the largest level whose sum does not
     * exceed the capacity.  Less than one sample per group that gives s is
     * left over. */
    MDN_SHARES_LEVEL,
    /* The same, and what is left over goes one each to groups that have more
     * than s, chosen at random by the seed: the sum is exactly
     * min(capacity, sum of sizes). */
    MDN_SHARES_EXACT,
    /* Every group gives min(smallest size, capacity / group_count), rounded
     * down: equal counts, even if the total shrinks. */
    MDN_SHARES_EQUAL,
} mdn_shares_mode;

/* shares[i] for every group, independent of how sizes are arranged but for the
 * random choice of MDN_SHARES_EXACT, where group i has draw i of stream
 * MDN_STREAM_SHARES and the smallest draws win.  Fails with MDN_NOMEM, in that
 * mode only; shares is unspecified then. */
mdn_status mdn_shares_fill(const uint64_t *sizes, uint64_t group_count,
                           uint64_t capacity, mdn_shares_mode mode,
                           uint64_t seed, uint64_t *shares, mdn_error *err);

/* The level of the first two modes while the groups still grow: no group gives
 * more than it, or one more with what is left over.  It only falls when groups
 * grow or are added; UINT64_MAX as long as all samples fit. */
uint64_t mdn_shares_level(const uint64_t *sizes, uint64_t group_count,
                          uint64_t capacity);

#endif
