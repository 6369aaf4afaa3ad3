/* order.h - the samples of a view in the order of their timestamps.
 *
 * Time order is by timestamp, then key.  It costs one sort, is kept in a file
 * of the dataset's directory (orderfile.h), and is extended by a merge when the
 * dataset has grown.  It is about the timestamps as they are stored: that a
 * sample was erased does not change its place.  (A compaction
 * takes the timestamps of erased samples away, and the order is made anew.)
 *
 * An order is right or there is none: whatever is wrong with the file makes
 * the order cost a sort again, and where the file cannot be written it is in
 * memory. */
#ifndef MDN_STORAGE_ORDER_H
#define MDN_STORAGE_ORDER_H

#include "storage/view.h"

typedef struct mdn_order mdn_order;

/* The order of all samples of a view, on up to that many threads; the result
 * does not depend on their number.  MDN_CORRUPT when timestamps are damaged. */
mdn_status mdn_view_time_order(mdn_view *view, uint32_t threads,
                               mdn_order **out, mdn_error *err);
void mdn_order_free(mdn_order *order); /* accepts NULL */

/* All keys of the view in time order; valid as long as the order is.  NULL
 * when that is 0, 1, 2, ...: arrival order is time order. */
const uint64_t *mdn_order_keys(const mdn_order *order);
uint64_t mdn_order_count(const mdn_order *order);

/* How many of count keys in time order are of samples before a moment, by the
 * timestamps as they are stored, those of erased samples too. */
mdn_status mdn_view_time_position(mdn_view *view, const uint64_t *keys,
                                  uint64_t count, int64_t moment, uint64_t *out,
                                  mdn_error *err);

#endif
