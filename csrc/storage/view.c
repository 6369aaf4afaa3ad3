/* view.c - life and facts of a view, and its columns. */
#include "storage/linked.h"
#include "storage/wants.h"

#include <stdlib.h>
#include <string.h>

#define WARM_REQUESTS 32

/* One pointer per segment, for the gather. */
static mdn_status
list_erased(mdn_view *view, mdn_error *err)
{
    const mdn_history *history = view->history;
    uint32_t shift = view->store->layout.segment_shift;
    uint64_t segments = (view->tail.count >> shift) + 1;

    if (history->erased_count == 0)
        return MDN_OK;
    view->erased = calloc(segments, sizeof *view->erased);
    view->shown = calloc(view->tail.count / 64 + 1, sizeof *view->shown);
    if (view->erased == NULL || view->shown == NULL)
        return mdn_fail_nomem(err, view->tail.count / 8);
    for (uint64_t s = 0; s < segments && s < history->segment_count; s++) {
        if (history->fates[s].erased != NULL)
            view->erased[s] = history->fates[s].erased->words;
    }
    return MDN_OK;
}

void
mdn_view_show_block(mdn_view *view, uint64_t key)
{
    const mdn_layout *layout = &view->store->layout;
    const uint64_t rows = UINT64_C(1) << layout->block_shift[MDN_RECORDS];
    uint64_t first = key & ~(rows - 1), end = first + rows;

    if (view->shown == NULL)
        return;
    if (end > view->tail.count)
        end = view->tail.count;
    while (first < end) {
        uint64_t n =
            64 - first % 64 < end - first ? 64 - first % 64 : end - first;
        uint64_t word = (n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1)
                        << (first % 64);
        const uint64_t *erased = view->erased[first >> layout->segment_shift];

        if (erased != NULL)
            word &= ~erased[mdn_layout_row(layout, first) / 64];
        atomic_fetch_or_explicit(&view->shown[first / 64], word,
                                 memory_order_release);
        first += n;
    }
}

mdn_status
mdn_view_new(mdn_store *store, mdn_history *history, const mdn_tail *tail,
             mdn_view **out, mdn_error *err)
{
    mdn_view *view = calloc(1, sizeof *view);
    mdn_status st;

    *out = NULL;
    if (view == NULL)
        return mdn_fail_nomem(err, sizeof *view);
    view->store = mdn_store_retain(store);
    view->history = mdn_history_retain(history);
    view->tail = *tail;
    atomic_init(&view->references, 1);
    if ((st = list_erased(view, err)) != MDN_OK) {
        mdn_view_release(view);
        return st;
    }
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
    free(view->erased);
    free(view->shown);
    mdn_history_release(view->history);
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

uint64_t
mdn_view_erased_count(const mdn_view *view)
{
    return view->history->erased_count;
}

bool
mdn_view_is_erased(const mdn_view *view, uint64_t key)
{
    return mdn_view_erased(view, key);
}

uint64_t
mdn_view_erased_in(const mdn_view *view, uint64_t first, uint64_t count,
                   uint8_t *out)
{
    uint64_t erased = 0;

    memset(out, 0, count);
    for (uint64_t i = 0; i < count && view->erased != NULL; i++) {
        out[i] = mdn_view_erased(view, first + i);
        erased += out[i];
    }
    return erased;
}

uint64_t
mdn_view_erased_between(const mdn_view *view, uint64_t first, uint64_t count)
{
    const mdn_layout *layout = &view->store->layout;
    uint64_t erased = 0, key = first, end = first + count;

    while (view->erased != NULL && key < end) {
        const uint64_t *words = view->erased[key >> layout->segment_shift];
        uint64_t row = mdn_layout_row(layout, key), word;
        uint64_t n = 64 - row % 64 < end - key ? 64 - row % 64 : end - key;

        if (words != NULL) {
            word = words[row / 64] >> (row % 64);
            if (n < 64)
                word &= (UINT64_C(1) << n) - 1;
            erased += (uint64_t)__builtin_popcountll(word);
        }
        key += n;
    }
    return erased;
}

uint64_t
mdn_view_link_count(const mdn_view *view)
{
    return view->history->link_count;
}

mdn_linked_file
mdn_view_link(const mdn_view *view, uint64_t index)
{
    const mdn_link *link = view->history->links[index];
    const mdn_link_event *what = &link->what;
    uint32_t shift = view->store->layout.segment_shift;
    mdn_linked_file out = {
        .path = link->path,
        .offset = what->offset + what->first_row * what->stride,
        .stride = what->stride,
        .first_key = what->first_segment << shift,
        .samples = what->segments << shift,
    };

    for (uint64_t i = 0; i < what->segments; i++) {
        const mdn_fate *fate =
            mdn_history_fate(view->history, what->first_segment + i);

        out.erased += fate->erased != NULL ? fate->erased->count : 0;
    }
    return out;
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

void
mdn_view_warm(mdn_view *view)
{
    uint32_t shift = view->store->layout.segment_shift;

    for (uint64_t s = 0; s << shift < view->tail.count; s++) {
        mdn_spans spans = {0};

        if (mdn_wants_segment(view, s, &spans, NULL) == MDN_OK)
            mdn_spans_bring(&spans, 0, spans.count, view->store->io,
                            WARM_REQUESTS, NULL);
        mdn_spans_free(&spans);
    }
}
