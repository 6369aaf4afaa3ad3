/* buckets.h - batches of samples of like lengths.
 *
 * A window is window_batches batches.  Its rows are sorted by the length of a
 * bytes field and then cut into batches as all rows are, the shortest first.
 * Unless the samples come as given, the whole batches of a window then come in
 * an order drawn for (epoch, window); one of fewer rows stays the last. */
#ifndef MDN_PREFETCH_BUCKETS_H
#define MDN_PREFETCH_BUCKETS_H

#include "prefetch/cut.h"
#include "prefetch/lookup.h"
#include "storage/view.h"

#define MDN_BUCKET_ROWS_MAX (UINT64_C(1) << 32) /* of a window */

/* All borrowed. */
typedef struct {
    mdn_view *view;
    const mdn_samples *samples;
    const mdn_cut *cut;
    uint32_t field;          /* a bytes field */
    uint64_t window_batches; /* >= 1; of at most MDN_BUCKET_ROWS_MAX rows */
} mdn_buckets;

/* Which window a batch is in, and the rows of the pass that are in one. */
uint64_t mdn_buckets_window(const mdn_buckets *buckets, uint64_t batch);
uint64_t mdn_buckets_first_row(const mdn_buckets *buckets, uint64_t window);
uint64_t mdn_buckets_rows(const mdn_buckets *buckets, uint64_t window);

/* Which batch of the sorted rows comes as batch number `batch` of the pass. */
uint64_t mdn_buckets_batch(const mdn_buckets *buckets, const mdn_pass *pass,
                           uint64_t batch);

/* The positions of the rows of a window, malloc'd, by length; equal lengths in
 * the order of the rows.  MDN_NO_KEY, MDN_CORRUPT as mdn_view_offsets. */
mdn_status mdn_buckets_plan(const mdn_buckets *buckets, const mdn_pass *pass,
                            uint64_t window, uint64_t **out, mdn_error *err);

#endif
