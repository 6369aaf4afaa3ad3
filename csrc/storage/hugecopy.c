/* hugecopy.c - from a mapping of a file to memory, under the same addresses.
 *
 * A new view with a store of its own maps the files as any does.  Then, segment
 * by segment,
 *
 *   (1) the huge pages in which records of the range lie are allocated
 *   (2) the bytes of the file there are copied to them
 *   (3) they replace the mapping of the file, at its place
 *   (4) the records in them are verified, as if they were read for the first
 *       time: so what is verified is the copy
 *
 * Nobody else has the view meanwhile.  Whoever reads it later cannot tell: the
 * records are where the mapping was, at the same stride.  Bytes of others that
 * happen to lie in these pages are copied, too, and verified when they are
 * touched. */
#include "storage/hugecopy.h"

#include "base/parallel.h"
#include "storage/linked.h"

#include <string.h>

#define HUGE_SIZE UINT64_C(0x200000)
#define CHUNK (UINT64_C(4) << 20) /* copied by a thread between looks */
#define VERIFY_ROWS UINT64_C(8192)

/* What of a segment's mapping is to be replaced: whole huge pages; and how much
 * of it can be read. */
typedef struct {
    uint8_t *at;
    uint64_t size, readable;
} extent;

/* ----- where records lie ----- */

static mdn_status
locate_linked(mdn_view *view, uint64_t segment, const mdn_link *link,
              const uint8_t **end, mdn_error *err)
{
    mdn_status st = mdn_linked_map(view->store, segment, link, err);

    if (st == MDN_OK)
        *end = mdn_store_records(view->store, segment)
               + mdn_linked_span(view->store, link);
    return st;
}

/* Map columns and records of the segment of a key so that `bytes` of these can
 * be read; *end is that of what can be. */
static mdn_status
map_segment(mdn_view *view, uint64_t key, uint64_t bytes, const uint8_t **end,
            mdn_error *err)
{
    mdn_store *store = view->store;
    uint64_t segment = key >> store->layout.segment_shift;
    const mdn_link *link = mdn_history_link(view->history, segment);
    mdn_status st = mdn_store_map_columns(store, segment, err);

    if (st != MDN_OK)
        return st;
    if (link != NULL)
        return locate_linked(view, segment, link, end, err);
    st = mdn_store_map_records(store, segment, bytes, err);
    if (st == MDN_OK)
        *end = mdn_store_records(store, segment)
               + atomic_load(&store->segments[segment].readable);
    return st;
}

/* Bytes of its segment's records up to and with that of a key. */
static mdn_status
bytes_up_to(mdn_view *view, uint64_t key, uint64_t *bytes, mdn_error *err)
{
    const mdn_layout *layout = &view->store->layout;
    mdn_status st;

    *bytes = (mdn_layout_row(layout, key) + 1) * layout->record_size;
    if (!layout->has[MDN_OFFSETS])
        return MDN_OK;
    st = mdn_verify_column(view, MDN_OFFSETS, key, err);
    if (st == MDN_OK)
        *bytes = (uint64_t)mdn_store_column(view->store, MDN_OFFSETS)[key];
    return st;
}

/* Of keys first .. last of one segment. */
static mdn_status
locate(mdn_view *view, uint64_t first, uint64_t last, extent *out,
       mdn_error *err)
{
    const mdn_layout *layout = &view->store->layout;
    const mdn_place *place =
        &view->store->places[first >> layout->segment_shift];
    const uint8_t *end = NULL, *from, *to;
    uint64_t before = 0, bytes = 0;
    mdn_status st = MDN_OK;

    if (mdn_layout_row(layout, first) > 0)
        st = bytes_up_to(view, first - 1, &before, err);
    if (st == MDN_OK)
        st = bytes_up_to(view, last, &bytes, err);
    if (st == MDN_OK)
        st = map_segment(view, first, bytes, &end, err);
    if (st != MDN_OK)
        return st;
    from = mdn_store_records(view->store, first >> layout->segment_shift);
    to = from + bytes;
    if (!layout->has[MDN_OFFSETS]) {
        to = from + mdn_layout_row(layout, last) * place->stride
             + layout->record_size;
        before = mdn_layout_row(layout, first) * place->stride;
    }
    from += before;
    out->at = (uint8_t *)((uintptr_t)from & ~(uintptr_t)(HUGE_SIZE - 1));
    out->size =
        (uint64_t)(to - out->at + (int64_t)HUGE_SIZE - 1) & ~(HUGE_SIZE - 1);
    out->readable = (uint64_t)(end - out->at);
    if (out->readable > out->size)
        out->readable = out->size;
    return MDN_OK;
}

/* The last key of the range that is in the same segment. */
static uint64_t
last_in_segment(const mdn_view *view, uint64_t key, uint64_t end)
{
    uint32_t shift = view->store->layout.segment_shift;
    uint64_t last = ((key >> shift) + 1) << shift;

    return (last < end ? last : end) - 1;
}

mdn_status
mdn_hugecopy_size(mdn_view *view, uint64_t first, uint64_t end, uint64_t *bytes,
                  mdn_error *err)
{
    mdn_status st = MDN_OK;

    *bytes = 0;
    for (uint64_t key = first, last; key < end && st == MDN_OK;
         key = last + 1) {
        extent found = {0};

        last = last_in_segment(view, key, end);
        st = locate(view, key, last, &found, err);
        *bytes += found.size;
    }
    return st;
}

/* ----- parts by threads ----- */

typedef struct {
    mdn_view *view;
    const mdn_pulse *pulse;
    uint64_t first, last; /* keys of the segment */
    const extent *what;
    uint8_t *memory;
    /* Piece after piece, by whoever comes. */
    mdn_status (*do_piece)(void *ctx, uint64_t piece, mdn_error *err);
    uint64_t piece_count;
    _Atomic uint64_t next;
    atomic_bool failed;
    atomic_flag lock;
    uint64_t worst; /* guarded: the first piece that failed */
    mdn_status status;
    mdn_error error;
} work;

static void
note_failure(work *w, uint64_t piece, mdn_status status, const mdn_error *err)
{
    while (atomic_flag_test_and_set(&w->lock)) {
    }
    if (w->status == MDN_OK || piece < w->worst) {
        w->status = status;
        w->worst = piece;
        w->error = *err;
    }
    atomic_flag_clear(&w->lock);
    atomic_store(&w->failed, true);
}

/* The first thread is the caller's, which may ask whether to go on. */
static void
do_pieces(void *ctx, uint32_t part)
{
    work *w = ctx;

    while (!atomic_load(&w->failed)) {
        uint64_t piece = atomic_fetch_add(&w->next, 1);
        mdn_status st = MDN_OK;
        mdn_error err;

        if (piece >= w->piece_count)
            return;
        if (part == 0)
            st = mdn_pulse_ask(w->pulse, &err);
        if (st == MDN_OK)
            st = w->do_piece(w, piece, &err);
        if (st != MDN_OK)
            note_failure(w, piece, st, &err);
    }
}

static mdn_status
do_all(work *w, uint64_t pieces, uint32_t threads,
       mdn_status (*do_piece)(void *ctx, uint64_t piece, mdn_error *err),
       mdn_error *err)
{
    w->do_piece = do_piece;
    w->piece_count = pieces;
    atomic_store(&w->next, 0);
    mdn_parallel(mdn_parallel_parts(pieces, 1, threads), do_pieces, w);
    if (w->status != MDN_OK && err != NULL)
        *err = w->error;
    return w->status;
}

/* ----- (2) ----- */

typedef struct {
    uint8_t *to;
    const uint8_t *from;
    uint64_t size;
} move;

static void
do_move(void *arg)
{
    const move *m = arg;

    memcpy(m->to, m->from, m->size);
}

/* Guarded: the file may be the user's, who may cut it. */
static mdn_status
copy_piece(void *ctx, uint64_t piece, mdn_error *err)
{
    const work *w = ctx;
    uint64_t at = piece * CHUNK, left = w->what->readable - at;
    move m = {w->memory + at, w->what->at + at, left < CHUNK ? left : CHUNK};

    if (w->view->history->link_count > 0)
        return mdn_linked_read(w->view->store, do_move, &m, err);
    do_move(&m);
    return MDN_OK;
}

/* ----- (4) ----- */

/* A row that was erased in the meantime and removed stays unverified, and is
 * refused to who asks for it; as is one that was erased before, of which
 * nothing may be left where a block is one record. */
static mdn_status
verify_piece(void *ctx, uint64_t piece, mdn_error *err)
{
    const work *w = ctx;
    uint32_t shift = w->view->store->layout.block_shift[MDN_RECORDS];
    uint64_t key = w->first + piece * VERIFY_ROWS, end = key + VERIFY_ROWS;
    mdn_status st = MDN_OK;

    for (; key < end && key <= w->last; key = ((key >> shift) + 1) << shift) {
        if (shift == 0 && mdn_view_erased(w->view, key))
            continue;
        st = mdn_verify_record(w->view, key, err);
        if (st != MDN_OK && st != MDN_NO_KEY)
            return st;
    }
    return MDN_OK;
}

/* ----- a segment ----- */

static mdn_status
copy_segment(mdn_view *view, uint64_t first, uint64_t last, uint32_t threads,
             const mdn_pulse *pulse, mdn_error *err)
{
    extent what = {0};
    work w = {.view = view,
              .pulse = pulse,
              .first = first,
              .last = last,
              .what = &what,
              .lock = ATOMIC_FLAG_INIT};
    mdn_status st = locate(view, first, last, &what, err);

    if (st == MDN_OK)
        st = mdn_reserve_memory(what.size, &w.memory, err);
    if (st != MDN_OK)
        return st;
    st = do_all(&w, (what.readable + CHUNK - 1) / CHUNK, threads, copy_piece,
                err);
    if (st == MDN_OK)
        st = mdn_reserve_replace(what.at, w.memory, what.size, err);
    if (st != MDN_OK) {
        mdn_reserve_return(w.memory, what.size);
        return st;
    }
    return do_all(&w, (last - first) / VERIFY_ROWS + 1, threads, verify_piece,
                  err);
}

mdn_status
mdn_hugecopy_new(mdn_view *view, uint64_t first, uint64_t end, uint32_t threads,
                 const mdn_pulse *pulse, mdn_view **out, mdn_error *err)
{
    const mdn_store *of = view->store;
    mdn_store *store = NULL;
    mdn_view *copy = NULL;
    mdn_status st;

    *out = NULL;
    st = mdn_store_new(of->io, of->path, of->schema, &of->layout, view->history,
                       of->capacity, &store, err);
    if (st == MDN_OK)
        st = mdn_view_new(store, view->history, &view->tail, &copy, err);
    mdn_store_release(store);
    for (uint64_t key = first, last; key < end && st == MDN_OK;
         key = last + 1) {
        last = last_in_segment(view, key, end);
        st = copy_segment(copy, key, last, threads, pulse, err);
    }
    if (st != MDN_OK) {
        mdn_view_release(copy);
        return st;
    }
    *out = copy;
    return MDN_OK;
}
