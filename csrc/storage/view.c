/* view.c - life and facts of a view, and its columns. */
#include "storage/verify.h"

#include <stdlib.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14; earlier ones answer EINVAL */
#endif

mdn_status
mdn_view_new(mdn_store *store, const mdn_tail *tail, mdn_view **out,
             mdn_error *err)
{
    mdn_view *view = calloc(1, sizeof *view);

    *out = NULL;
    if (view == NULL)
        return mdn_fail_nomem(err, sizeof *view);
    view->store = mdn_store_retain(store);
    view->tail = *tail;
    atomic_init(&view->references, 1);
    *out = view;
    return MDN_OK;
}

mdn_view *
mdn_view_retain(mdn_view *view)
{
    atomic_fetch_add_explicit(&view->references, 1, memory_order_relaxed);
    return view;
}

void
mdn_view_release(mdn_view *view)
{
    if (view == NULL
        || atomic_fetch_sub_explicit(&view->references, 1, memory_order_acq_rel)
               != 1)
        return;
    mdn_store_release(view->store);
    free(view);
}

const mdn_schema *
mdn_view_schema(const mdn_view *view)
{
    return view->store->schema;
}

uint64_t
mdn_view_count(const mdn_view *view)
{
    return view->tail.count;
}

mdn_time_unit
mdn_view_time_unit(const mdn_view *view)
{
    return view->store->layout.time_unit;
}

bool
mdn_view_has_labels(const mdn_view *view)
{
    return view->store->layout.has[MDN_LABELS];
}

const uint8_t *
mdn_view_uuid(const mdn_view *view)
{
    return view->store->layout.uuid;
}

const char *
mdn_view_path(const mdn_view *view)
{
    return view->store->path;
}

static mdn_status
verify_rows(mdn_view *view, mdn_kind kind, uint64_t first, uint64_t count,
            mdn_error *err)
{
    const uint64_t rows = UINT64_C(1) << MDN_COLUMN_BLOCK_SHIFT;
    mdn_status st = MDN_OK;

    for (uint64_t key = first; key < first + count && st == MDN_OK;
         key = (key & ~(rows - 1)) + rows)
        st = mdn_verify_column(view, kind, key, err);
    return st;
}

mdn_status
mdn_view_columns(mdn_view *view, uint64_t first, uint64_t count,
                 const int64_t **timestamps, const int64_t **labels,
                 mdn_error *err)
{
    uint64_t have = view->tail.count;
    mdn_status st;

    *timestamps = *labels = NULL;
    if (first > have || count > have - first)
        return mdn_fail(err, MDN_NO_KEY,
                        "keys %llu to %llu (exclusive) are not all there; the "
                        "dataset has %llu samples",
                        (unsigned long long)first,
                        (unsigned long long)(first + count),
                        (unsigned long long)have);
    st = verify_rows(view, MDN_TIMESTAMPS, first, count, err);
    if (st == MDN_OK && mdn_view_has_labels(view))
        st = verify_rows(view, MDN_LABELS, first, count, err);
    if (st != MDN_OK)
        return st;
    *timestamps = mdn_store_column(view->store, MDN_TIMESTAMPS) + first;
    if (mdn_view_has_labels(view))
        *labels = mdn_store_column(view->store, MDN_LABELS) + first;
    return MDN_OK;
}

/* Records of this view in a segment, in bytes; 0 when that is not known
 * without reading (a full segment with bytes fields). */
static uint64_t
committed_bytes(const mdn_view *view, uint64_t segment)
{
    const mdn_layout *layout = &view->store->layout;

    if (segment == view->tail.count >> layout->segment_shift)
        return view->tail.segment_bytes;
    if (!layout->has[MDN_OFFSETS])
        return layout->record_size << layout->segment_shift;
    return 0;
}

void
mdn_view_warm(mdn_view *view)
{
    mdn_store *store = view->store;
    const mdn_layout *layout = &store->layout;
    uint64_t rows = UINT64_C(1) << layout->segment_shift;

    for (uint64_t s = 0; s << layout->segment_shift < view->tail.count; s++) {
        uint64_t bytes = committed_bytes(view, s);
        void *base;

        if (bytes == 0
            && mdn_verify_column(view, MDN_OFFSETS, (s + 1) * rows - 1, NULL)
                   == MDN_OK)
            bytes = (uint64_t)mdn_store_column(store,
                                               MDN_OFFSETS)[(s + 1) * rows - 1];
        if (bytes == 0
            || mdn_store_map_records(store, s, bytes, NULL) != MDN_OK)
            continue;
        base = (void *)(uintptr_t)mdn_store_records(store, s);
        madvise(base, bytes, MADV_HUGEPAGE);
        madvise(base, bytes, MADV_POPULATE_READ);
    }
}
