/* balance.h - a fair share of each class, in one reading, and mergeable.
 *
 * How many of a class will be wanted is known only at the end, when all sizes
 * are; but the level that no class exceeds (shares.h) only falls while samples
 * come.  So of each class its smallest draws up to the level of now are kept,
 * in one pool for all:
 *
 *     sum over classes of min(size, level) <= limit
 *
 * and a draw above the cut of its class is not even stored. */
#ifndef MDN_SELECTOR_BALANCE_H
#define MDN_SELECTOR_BALANCE_H

#include "base/error.h"
#include "metadata/stream.h"
#include "selector/classes.h"
#include "selector/shares.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    mdn_classes classes;
    uint64_t *cuts;    /* owned: no wanted draw of a class is above its cut */
    uint64_t *draws;   /* owned: the pool */
    uint64_t *scratch; /* owned: as long as the pool */
    uint32_t *numbers; /* owned: the class of each draw of the pool */
    uint64_t count, capacity;
    uint32_t cut_room; /* of cuts */
    uint64_t limit;
    mdn_shares_mode mode;
    uint64_t seed, start;
} mdn_balance;

void mdn_balance_init(mdn_balance *balance, uint64_t limit,
                      mdn_shares_mode mode, uint64_t seed);
void mdn_balance_free(mdn_balance *balance);

/* Read a stream from its start to its end.  MDN_INVALID without labels, or
 * with too many different ones. */
mdn_status mdn_balance_offer(mdn_balance *balance, mdn_metadata_stream *stream,
                             mdn_error *err);
mdn_status mdn_balance_merge(mdn_balance *balance, const mdn_balance *other,
                             mdn_error *err);

/* What another one kept: (label, size) of each class, and of each entry a draw
 * and the number of its class, `stride` words apart.  MDN_INVALID when they do
 * not fit each other. */
mdn_status mdn_balance_load(mdn_balance *balance, const uint64_t *classes,
                            uint64_t class_count, const uint64_t *entries,
                            uint64_t stride, uint64_t count, mdn_error *err);

/* The keys chosen, ascending (malloc'd).  MDN_INVALID names a key that would
 * be chosen twice. */
mdn_status mdn_balance_keys(mdn_balance *balance, uint64_t **keys,
                            uint64_t *count, mdn_error *err);

#endif
