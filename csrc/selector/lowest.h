/* lowest.h - the entries that come first of all that were put in.
 *
 * An entry is a key with an order, a word; a smaller order comes first, and of
 * equal ones the smaller key.  What is kept does not depend on the order in
 * which entries were put in.
 *
 *     entries kept  <= (cut_order, cut_key)     once `limit` have been seen
 *     count         <= capacity <= limit + slack
 *
 * As in bottom.h, a full buffer is trimmed to the `limit` first entries, and
 * what comes behind the last of those is not even stored afterwards. */
#ifndef MDN_SELECTOR_LOWEST_H
#define MDN_SELECTOR_LOWEST_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t *orders, *keys; /* owned */
    double *weights;         /* owned: a number beside each key, or NULL */
    uint64_t count, capacity;
    uint64_t limit;
    uint64_t cut_order, cut_key;
    bool weighted;
} mdn_lowest;

/* Needs no memory before something is put in. */
void mdn_lowest_init(mdn_lowest *lowest, uint64_t limit, bool weighted);
void mdn_lowest_free(mdn_lowest *lowest); /* leaves it empty */

/* Store an entry that is not behind the cut; MDN_NOMEM. */
mdn_status mdn_lowest_store(mdn_lowest *lowest, uint64_t order, uint64_t key,
                            double weight, mdn_error *err);

/* Keep the `limit` first entries, in any order. */
void mdn_lowest_trim(mdn_lowest *lowest);

/* Put in all entries of another. */
mdn_status mdn_lowest_merge(mdn_lowest *lowest, const mdn_lowest *other,
                            mdn_error *err);

/* Whether an entry may still be among the first. */
static inline bool
mdn_lowest_wants(const mdn_lowest *lowest, uint64_t order, uint64_t key)
{
    return order < lowest->cut_order
           || (order == lowest->cut_order && key <= lowest->cut_key);
}

static inline mdn_status
mdn_lowest_put(mdn_lowest *lowest, uint64_t order, uint64_t key, double weight,
               mdn_error *err)
{
    return mdn_lowest_wants(lowest, order, key)
               ? mdn_lowest_store(lowest, order, key, weight, err)
               : MDN_OK;
}

#endif
