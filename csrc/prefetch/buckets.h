/* buckets.h - rows of like lengths next to each other. */
#ifndef MDN_PREFETCH_BUCKETS_H
#define MDN_PREFETCH_BUCKETS_H

#include "prefetch/lookup.h"
#include "storage/view.h"

#define MDN_BUCKET_ROWS_MAX (UINT64_C(1) << 32)

/* The positions of rows first .. first+rows-1 of a pass, malloc'd, by the
 * length of bytes field `field` of their samples; equal lengths in the order of
 * the rows.  1 <= rows <= MDN_BUCKET_ROWS_MAX.  MDN_NO_KEY, MDN_CORRUPT as
 * mdn_view_offsets. */
mdn_status mdn_buckets_sort(mdn_view *view, const mdn_samples *samples,
                            const mdn_pass *pass, uint32_t field,
                            uint64_t first, uint64_t rows, uint64_t **out,
                            mdn_error *err);

#endif
