/* verify.h - a view from the inside, and the check of blocks at first touch. */
#ifndef MDN_STORAGE_VERIFY_H
#define MDN_STORAGE_VERIFY_H

#include "storage/store.h"
#include "storage/view.h"

#include <stddef.h>

struct mdn_view {
    /* Written before anybody shares the view. */
    mdn_store *store; /* one reference */
    mdn_tail tail;
    mdn_history *history; /* one reference */
    /* Per segment the erased rows, 64 in a word, or NULL; NULL altogether as
     * long as nothing is erased.  In the history. */
    const uint64_t **erased;
    /* With erased samples a bit per key, set when it may be read without
     * further questions: verified, and not erased.  NULL as long as nothing is
     * erased: then the verified bits of the store say as much. */
    _Atomic uint64_t *shown;

    atomic_uint references;
    /* The last, not full block of each kind was checked against the tail.  It
     * belongs to the view: a later view has more rows in that block. */
    atomic_bool tail_verified[MDN_KINDS];
};

/* One reference; retains store and history. */
mdn_status mdn_view_new(mdn_store *store, mdn_history *history,
                        const mdn_tail *tail, mdn_view **out, mdn_error *err);

/* The slow path behind mdn_store_verified: on MDN_OK the record of key (and
 * its neighbours in the block) may be read.  key < count. */
mdn_status mdn_verify_record(mdn_view *view, uint64_t key, mdn_error *err);

/* The same for the rows of a column in the block of key. */
mdn_status mdn_verify_column(mdn_view *view, mdn_kind kind, uint64_t key,
                             mdn_error *err);

/* Set the bits of `shown`, if there are any, in the block of a key whose record
 * was verified. */
void mdn_view_show_block(mdn_view *view, uint64_t key);

/* key < count. */
static inline bool
mdn_view_erased(const mdn_view *view, uint64_t key)
{
    const mdn_layout *layout = &view->store->layout;
    const uint64_t *words;
    uint64_t row;

    if (view->erased == NULL)
        return false;
    words = view->erased[key >> layout->segment_shift];
    row = mdn_layout_row(layout, key);
    return words != NULL && ((words[row / 64] >> (row % 64)) & 1);
}

/* Where the record of a verified key begins. */
static inline const uint8_t *
mdn_view_record(const mdn_view *view, uint64_t key)
{
    const mdn_layout *layout = &view->store->layout;
    uint64_t row = mdn_layout_row(layout, key);
    const mdn_place *place = &view->store->places[key >> layout->segment_shift];
    const uint8_t *base =
        atomic_load_explicit(&place->base, memory_order_acquire);

    if (!layout->has[MDN_OFFSETS])
        return base + row * place->stride;
    return row == 0
               ? base
               : base + mdn_store_column(view->store, MDN_OFFSETS)[key - 1];
}

/* Bytes of the record of a verified key, with bytes fields. */
static inline uint64_t
mdn_view_record_size(const mdn_view *view, uint64_t key)
{
    const int64_t *ends = mdn_store_column(view->store, MDN_OFFSETS);
    bool first = mdn_layout_row(&view->store->layout, key) == 0;

    return (uint64_t)(ends[key] - (first ? 0 : ends[key - 1]));
}

#endif
