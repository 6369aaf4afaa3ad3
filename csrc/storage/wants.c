/* wants.c - from keys to ranges of mappings.
 *
 *   (1) keys are sorted; so are then the places of what belongs to them
 *   (2) for each kind of content one walk over the keys: the range of a key, or
 *       of its whole block, is added to the spans, and the keys that it covers
 *       are passed over
 *
 * Sorting takes some 10 ns for each key, and a walk less; so both cost a third
 * of the time in which a disk of 1.6 GB/s reads records of 160 bytes. */
#include "storage/wants.h"

#include "base/file.h"
#include "storage/linked.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define DIGIT_BITS 11
#define DIGITS (1u << DIGIT_BITS)
#define SAMPLE UINT64_C(256) /* keys that tell whether all are in memory */
#define REQUESTS 32          /* for the columns that are needed first */
#define STOP_EVERY UINT64_C(65536)

/* What is walked over.  Of checksums, those of blocks that are not verified. */
typedef enum { RECORDS, TIMESTAMPS, LABELS, OFFSETS, CHECKSUMS } content;

/* Where what a key needs lies, and the first key that may need more. */
typedef struct {
    const uint8_t *home, *at;
    uint64_t size, next;
} range;

/* ----- (1) ----- */

static bool
ascends(const uint64_t *keys, uint64_t count)
{
    for (uint64_t i = 1; i < count; i++) {
        if (keys[i] < keys[i - 1])
            return false;
    }
    return true;
}

/* One stable pass by a digit; false if all keys have the same there. */
static bool
sort_digit(const uint64_t *from, uint64_t *to, uint64_t count, uint32_t shift)
{
    uint64_t places[DIGITS] = {0}, next = 0;

    for (uint64_t i = 0; i < count; i++)
        places[from[i] >> shift & (DIGITS - 1)]++;
    for (uint32_t d = 0; d < DIGITS; d++) {
        uint64_t here = places[d];

        if (here == count)
            return false;
        places[d] = next;
        next += here;
    }
    for (uint64_t i = 0; i < count; i++)
        to[places[from[i] >> shift & (DIGITS - 1)]++] = from[i];
    return true;
}

/* The keys in ascending order in one half of room, which has 2 * count. */
static const uint64_t *
sort_keys(const uint64_t *keys, uint64_t count, uint64_t *room)
{
    uint64_t *from = room, *to = room + count, all = 0;

    memcpy(from, keys, count * sizeof *keys);
    for (uint64_t i = 0; i < count; i++)
        all |= keys[i];
    for (uint32_t shift = 0; shift < 64 && all >> shift > 0;
         shift += DIGIT_BITS) {
        if (sort_digit(from, to, count, shift)) {
            uint64_t *moved = from;

            from = to;
            to = moved;
        }
    }
    return from;
}

/* ----- (2) ----- */

static uint64_t
least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Rows of a block which is read whole or not at all. */
static bool
range_of_column(mdn_view *view, mdn_kind kind, uint64_t key, range *out)
{
    mdn_store *store = view->store;
    uint64_t block = key >> MDN_COLUMN_BLOCK_SHIFT, first = key, rows = 1;

    if (mdn_store_map_columns(store, key >> store->layout.segment_shift, NULL)
        != MDN_OK)
        return false;
    if (!mdn_store_verified(store, kind, block)) {
        first = block << MDN_COLUMN_BLOCK_SHIFT;
        rows = least(UINT64_C(1) << MDN_COLUMN_BLOCK_SHIFT,
                     view->tail.count - first);
    }
    out->home = store->column[kind];
    out->at = (const uint8_t *)(mdn_store_column(store, kind) + first);
    out->size = 8 * rows;
    out->next = first + rows;
    return true;
}

static bool
range_of_checksum(mdn_view *view, uint64_t key, range *out)
{
    mdn_store *store = view->store;
    const mdn_layout *layout = &store->layout;
    uint64_t segment = key >> layout->segment_shift;
    uint32_t shift = layout->block_shift[MDN_RECORDS];
    uint64_t block = key >> shift;

    out->next = (block + 1) << shift;
    if (mdn_store_verified(store, MDN_RECORDS, block)
        || mdn_store_map_columns(store, segment, NULL) != MDN_OK)
        return false;
    out->home = (const uint8_t *)atomic_load_explicit(
        &store->segments[segment].checksums, memory_order_acquire);
    out->at = out->home + mdn_layout_checksum_at(layout, MDN_RECORDS, block)
              - layout->checksums_at;
    out->size = 4;
    return true;
}

/* Bytes of its own records that a segment has mapped, and where. */
static uint64_t
mapped_records(mdn_view *view, uint64_t segment, uint64_t need,
               const uint8_t **home)
{
    mdn_store *store = view->store;
    uint64_t readable;

    if (mdn_store_map_records(store, segment, need, NULL) != MDN_OK)
        return 0;
    readable = atomic_load_explicit(&store->segments[segment].readable,
                                    memory_order_acquire);
    *home = mdn_store_records(store, segment);
    return readable;
}

/* Records of one size: the rows of a block, or one of them. */
static bool
range_of_rows(mdn_view *view, uint64_t key, range *out)
{
    mdn_store *store = view->store;
    const mdn_layout *layout = &store->layout;
    uint64_t segment = key >> layout->segment_shift;
    uint32_t shift = layout->block_shift[MDN_RECORDS];
    const mdn_link *link = mdn_history_link(view->history, segment);
    uint64_t first = key, rows = 1, row, stride = layout->record_size;
    uint64_t readable;

    if (!mdn_store_verified(store, MDN_RECORDS, key >> shift)) {
        first = key >> shift << shift;
        rows = least(UINT64_C(1) << shift, view->tail.count - first);
    }
    row = mdn_layout_row(layout, first);
    if (link != NULL) {
        if (mdn_linked_map(store, segment, link, NULL) != MDN_OK)
            return false;
        stride = link->what.stride;
        readable = mdn_linked_span(store, link);
        out->home = mdn_store_records(store, segment);
    } else
        readable =
            mapped_records(view, segment, (row + rows) * stride, &out->home);
    out->at = out->home + row * stride;
    out->size = (rows - 1) * stride + layout->record_size;
    out->next = first + rows;
    return row * stride + out->size <= readable;
}

/* A record with bytes fields: its block is itself. */
static bool
range_of_record(mdn_view *view, uint64_t key, range *out)
{
    mdn_store *store = view->store;
    const mdn_layout *layout = &store->layout;
    const int64_t *ends = mdn_store_column(store, MDN_OFFSETS);
    int64_t start = 0;

    out->next = key + 1;
    if (mdn_verify_column(view, MDN_OFFSETS, key, NULL) != MDN_OK)
        return false;
    if (mdn_layout_row(layout, key) > 0) {
        if (mdn_verify_column(view, MDN_OFFSETS, key - 1, NULL) != MDN_OK)
            return false;
        start = ends[key - 1];
    }
    if (start < 0 || ends[key] <= start
        || (uint64_t)ends[key]
               > mapped_records(view, key >> layout->segment_shift,
                                (uint64_t)ends[key], &out->home))
        return false;
    out->at = out->home + start;
    out->size = (uint64_t)(ends[key] - start);
    return true;
}

static bool
range_of(mdn_view *view, content what, uint64_t key, range *out)
{
    out->next = key + 1; /* of what has no range */
    switch (what) {      /* no default: -Wswitch rejects a missing case */
    case TIMESTAMPS: return range_of_column(view, MDN_TIMESTAMPS, key, out);
    case LABELS: return range_of_column(view, MDN_LABELS, key, out);
    case OFFSETS: return range_of_column(view, MDN_OFFSETS, key, out);
    case CHECKSUMS: return range_of_checksum(view, key, out);
    case RECORDS:
        return view->store->layout.has[MDN_OFFSETS]
                   ? range_of_record(view, key, out)
                   : range_of_rows(view, key, out);
    }
    return false;
}

static bool
is_stopped(const atomic_bool *stop)
{
    return stop != NULL && atomic_load_explicit(stop, memory_order_relaxed);
}

/* Keys ascend. */
static mdn_status
walk(mdn_view *view, content what, const uint64_t *keys, uint64_t count,
     const atomic_bool *stop, mdn_spans *spans, mdn_error *err)
{
    uint64_t next = 0;
    mdn_status st = MDN_OK;

    for (uint64_t i = 0; i < count && st == MDN_OK; i++) {
        range found;

        if (i % STOP_EVERY == 0 && is_stopped(stop))
            return mdn_fail(err, MDN_CANCELLED, "reading ahead was stopped");
        if (keys[i] < next)
            continue;
        if (keys[i] >= view->tail.count)
            break;
        if (range_of(view, what, keys[i], &found))
            st = mdn_spans_add(spans, found.home, found.at, found.size, err);
        next = found.next;
    }
    return st;
}

/* Where records with bytes fields lie is said by a column. */
static mdn_status
read_offsets(mdn_view *view, const uint64_t *keys, uint64_t count,
             const atomic_bool *stop, mdn_error *err)
{
    mdn_spans spans = {0};
    mdn_status st = walk(view, OFFSETS, keys, count, stop, &spans, err);

    if (st == MDN_OK)
        mdn_spans_bring(&spans, 0, spans.count, view->store->io, REQUESTS,
                        stop);
    mdn_spans_free(&spans);
    return st;
}

static mdn_status
walk_all(mdn_view *view, const uint64_t *keys, uint64_t count, unsigned what,
         const atomic_bool *stop, mdn_spans *spans, mdn_error *err)
{
    mdn_status st = MDN_OK;

    if (what & MDN_WANT_TIMESTAMPS)
        st = walk(view, TIMESTAMPS, keys, count, stop, spans, err);
    if (st == MDN_OK && (what & MDN_WANT_LABELS) && mdn_view_has_labels(view))
        st = walk(view, LABELS, keys, count, stop, spans, err);
    if (!(what & MDN_WANT_RECORDS))
        return st;
    if (st == MDN_OK && view->store->layout.has[MDN_OFFSETS])
        st = read_offsets(view, keys, count, stop, err);
    if (st == MDN_OK)
        st = walk(view, CHECKSUMS, keys, count, stop, spans, err);
    if (st == MDN_OK)
        st = walk(view, RECORDS, keys, count, stop, spans, err);
    return st;
}

mdn_status
mdn_wants_of(mdn_view *view, const uint64_t *keys, uint64_t count,
             unsigned what, const atomic_bool *stop, mdn_spans *spans,
             mdn_error *err)
{
    uint64_t *room = NULL;
    mdn_status st;

    if (!ascends(keys, count)) {
        room = malloc(2 * count * sizeof *room);
        if (room == NULL)
            return mdn_fail_nomem(err, 2 * count * sizeof *room);
        keys = sort_keys(keys, count, room);
    }
    st = walk_all(view, keys, count, what, stop, spans, err);
    free(room);
    if (st != MDN_OK)
        mdn_spans_free(spans);
    return st;
}

/* ----- all of a segment ----- */

/* Its records as one range, however large they are. */
static void
records_of_segment(mdn_view *view, uint64_t first, uint64_t last,
                   mdn_spans *spans)
{
    range begin, end;

    if (range_of(view, RECORDS, first, &begin)
        && range_of(view, RECORDS, last - 1, &end) && begin.home == end.home
        && end.at >= begin.at)
        mdn_spans_add(spans, begin.home, begin.at,
                      (uint64_t)(end.at - begin.at) + end.size, NULL);
}

mdn_status
mdn_wants_segment(mdn_view *view, uint64_t segment, mdn_spans *spans,
                  mdn_error *err)
{
    const mdn_layout *layout = &view->store->layout;
    uint64_t first = segment << layout->segment_shift;
    uint64_t last =
        least(first + (UINT64_C(1) << layout->segment_shift), view->tail.count);
    mdn_status st = MDN_OK;
    range found;

    for (int kind = TIMESTAMPS; kind <= CHECKSUMS && st == MDN_OK; kind++) {
        if (kind != CHECKSUMS && !layout->has[kind])
            continue;
        for (uint64_t key = first; key < last && st == MDN_OK;
             key = found.next) {
            if (range_of(view, (content)kind, key, &found))
                st =
                    mdn_spans_add(spans, found.home, found.at, found.size, err);
        }
    }
    if (st == MDN_OK)
        records_of_segment(view, first, last, spans);
    if (st != MDN_OK)
        mdn_spans_free(spans);
    return st;
}

/* ----- is it there? ----- */

/* The kernel calls every page of a file resident to those who neither own nor
 * may write it.  It also lets only owners open without a time of access. */
static bool
is_told(mdn_view *view)
{
    mdn_store *store = view->store;
    char *path =
        mdn_layout_path(store->path, 0, store->segments[0].generation, "col");
    int fd = -1;

    if (path != NULL)
        fd = store->io->open(store->io->self, path,
                             O_RDONLY | O_NOATIME | O_NOFOLLOW, 0);
    free(path);
    if (fd < 0)
        return false;
    store->io->close(store->io->self, fd);
    return true;
}

bool
mdn_wants_resident(mdn_view *view, const uint64_t *keys, uint64_t count,
                   unsigned what)
{
    uint64_t some[SAMPLE], taken = least(count, SAMPLE);
    mdn_spans spans = {0};
    bool all;

    if (count == 0)
        return true;
    for (uint64_t i = 0; i < taken; i++)
        some[i] = keys[count / taken * i + count % taken * i / taken];
    if (mdn_wants_of(view, some, taken, what, NULL, &spans, NULL) != MDN_OK)
        return false;
    all = mdn_spans_resident(&spans, view->store->io) == spans.bytes
          && is_told(view);
    mdn_spans_free(&spans);
    return all;
}
