/* verify.c - is a block what was written?
 *
 * A full block is checked against its checksum in the .col file, once per
 * process; the last, not full one against the commit, once per view.  With
 * bytes fields a block of records is one record: where it lies is said by the
 * offsets column, which is checked first, and then held against the file.  What
 * is linked is read by linked.c. */
#include "storage/verify.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "storage/linked.h"
#include "storage/zstd.h"

typedef unsigned long long ull;

/* Rows of the view in this block. */
static uint64_t
rows_in_block(const mdn_view *view, mdn_kind kind, uint64_t block)
{
    uint32_t shift = view->store->layout.block_shift[kind];
    uint64_t rows = UINT64_C(1) << shift;
    uint64_t left = view->tail.count - (block << shift);

    return rows < left ? rows : left;
}

/* The checksum that the rows of the view in this block must have. */
static uint32_t
right_checksum(const mdn_view *view, mdn_kind kind, uint64_t block, bool full)
{
    const mdn_store *store = view->store;
    const mdn_layout *layout = &store->layout;
    uint32_t shift = layout->block_shift[kind];
    uint64_t segment = block >> (layout->segment_shift - shift);
    uint64_t at =
        mdn_layout_checksum_at(layout, kind, block) - layout->checksums_at;
    const uint32_t *checksums = atomic_load_explicit(
        &store->segments[segment].checksums, memory_order_acquire);

    return full ? checksums[at / 4] : view->tail.crc[kind];
}

static mdn_status
fail_checksum(const mdn_view *view, mdn_kind kind, uint64_t block,
              uint64_t rows, mdn_error *err)
{
    const mdn_layout *layout = &view->store->layout;
    uint64_t key = block << layout->block_shift[kind];
    const mdn_link *link =
        mdn_history_link(view->history, key >> layout->segment_shift);

    if (kind == MDN_RECORDS && link != NULL)
        return mdn_fail(err, MDN_CORRUPT,
                        "%s: was changed since it was linked: the checksum of "
                        "records block %llu (keys %llu to %llu of %s) is wrong",
                        link->path, (ull)block, (ull)key, (ull)(key + rows - 1),
                        view->store->path);
    return mdn_fail(err, MDN_CORRUPT,
                    "%s/%06llu.%s: damaged: the checksum of %s block %llu "
                    "(keys %llu to %llu) is wrong",
                    view->store->path, (ull)(key >> layout->segment_shift),
                    kind == MDN_RECORDS ? "seg" : "col", mdn_kind_name(kind),
                    (ull)block, (ull)key, (ull)(key + rows - 1));
}

/* Is this the checksum that the rows of a block have to have?  Remember. */
static mdn_status
check_sum(mdn_view *view, mdn_kind kind, uint64_t block, uint32_t crc,
          mdn_error *err)
{
    mdn_store *store = view->store;
    uint32_t shift = store->layout.block_shift[kind];
    uint64_t rows = rows_in_block(view, kind, block);
    bool full = rows == UINT64_C(1) << shift;

    if (crc != right_checksum(view, kind, block, full))
        return fail_checksum(view, kind, block, rows, err);
    if (full)
        mdn_store_set_verified(store, kind, block);
    else
        atomic_store_explicit(&view->tail_verified[kind], true,
                              memory_order_release);
    return MDN_OK;
}

/* Check size bytes at data as the rows of a block, and remember. */
static mdn_status
check_block(mdn_view *view, mdn_kind kind, uint64_t block, const void *data,
            uint64_t size, mdn_error *err)
{
    uint32_t seed = mdn_layout_seed(&view->store->layout, kind, block);

    return check_sum(view, kind, block, mdn_crc32c(seed, data, size), err);
}

/* Whether the block is known to be good already. */
static bool
is_verified(const mdn_view *view, mdn_kind kind, uint64_t block)
{
    uint32_t shift = view->store->layout.block_shift[kind];

    if (mdn_store_verified(view->store, kind, block))
        return true;
    return block == view->tail.count >> shift
           && atomic_load_explicit(&view->tail_verified[kind],
                                   memory_order_acquire);
}

mdn_status
mdn_verify_column(mdn_view *view, mdn_kind kind, uint64_t key, mdn_error *err)
{
    mdn_store *store = view->store;
    uint64_t block = key >> MDN_COLUMN_BLOCK_SHIFT;
    mdn_status st;

    if (is_verified(view, kind, block))
        return MDN_OK;
    st = mdn_store_map_columns(store, key >> store->layout.segment_shift, err);
    if (st != MDN_OK)
        return st;
    return check_block(view, kind, block,
                       mdn_store_column(store, kind)
                           + (block << MDN_COLUMN_BLOCK_SHIFT),
                       8 * rows_in_block(view, kind, block), err);
}

/* Records in a file of the user; all its blocks are full. */
static mdn_status
verify_linked(mdn_view *view, uint64_t key, const mdn_link *link,
              mdn_error *err)
{
    mdn_store *store = view->store;
    const mdn_layout *layout = &store->layout;
    uint64_t segment = key >> layout->segment_shift;
    uint64_t block = key >> layout->block_shift[MDN_RECORDS];
    uint64_t first = block << layout->block_shift[MDN_RECORDS];
    uint32_t crc = mdn_layout_seed(layout, MDN_RECORDS, block);
    mdn_status st = mdn_store_map_columns(store, segment, err);

    if (st == MDN_OK)
        st = mdn_linked_map(store, segment, link, err);
    if (st == MDN_OK)
        st = mdn_linked_verify(
            store, first, rows_in_block(view, MDN_RECORDS, block), &crc, err);
    return st == MDN_OK ? check_sum(view, MDN_RECORDS, block, crc, err) : st;
}

/* Records of one size. */
static mdn_status
verify_fixed(mdn_view *view, uint64_t key, mdn_error *err)
{
    mdn_store *store = view->store;
    const mdn_layout *layout = &store->layout;
    uint64_t segment = key >> layout->segment_shift;
    uint64_t block = key >> layout->block_shift[MDN_RECORDS];
    uint64_t first = block << layout->block_shift[MDN_RECORDS];
    uint64_t committed = layout->record_size << layout->segment_shift;
    const mdn_link *link = mdn_history_link(view->history, segment);
    mdn_status st;

    if (link != NULL)
        return verify_linked(view, key, link, err);
    if (segment == view->tail.count >> layout->segment_shift)
        committed = view->tail.segment_bytes;
    st = mdn_store_map_columns(store, segment, err);
    if (st == MDN_OK)
        st = mdn_store_map_records(store, segment, committed, err);
    if (st != MDN_OK)
        return st;
    return check_block(
        view, MDN_RECORDS, block, mdn_view_record(view, first),
        rows_in_block(view, MDN_RECORDS, block) * layout->record_size, err);
}

/* A record with bytes fields whose place has been verified: do the lengths in
 * its head add up to its size, or to what its frame says it holds? */
static mdn_status
check_lengths(const mdn_view *view, uint64_t key, const uint8_t *record,
              uint64_t size, mdn_error *err)
{
    const mdn_schema *schema = view->store->schema;
    uint64_t sum = schema->head_size;

    for (uint32_t i = 0; i < schema->bytes_count; i++)
        sum += mdn_load_u32(record + schema->fixed_size + 4 * i);
    if (sum == size
        || (view->store->layout.compressed && size < sum
            && mdn_zstd_holds(record + schema->head_size,
                              size - schema->head_size,
                              sum - schema->head_size)))
        return MDN_OK;
    return mdn_fail(err, MDN_CORRUPT,
                    "%s: the record of key %llu has %llu bytes, its fields "
                    "have %llu",
                    view->store->path, (ull)key, (ull)size, (ull)sum);
}

static mdn_status
verify_ragged(mdn_view *view, uint64_t key, mdn_error *err)
{
    mdn_store *store = view->store;
    const mdn_layout *layout = &store->layout;
    const int64_t *ends = mdn_store_column(store, MDN_OFFSETS);
    uint64_t segment = key >> layout->segment_shift;
    int64_t start = 0, end;
    mdn_status st = mdn_verify_column(view, MDN_OFFSETS, key, err);

    if (st == MDN_OK && mdn_layout_row(layout, key) > 0) {
        st = mdn_verify_column(view, MDN_OFFSETS, key - 1, err);
        start = st == MDN_OK ? ends[key - 1] : 0;
    }
    if (st != MDN_OK)
        return st;
    end = ends[key];
    if (start < 0 || end < start
        || (uint64_t)(end - start) < layout->record_size)
        return mdn_fail(err, MDN_CORRUPT,
                        "%s: the record of key %llu reaches from %lld to %lld",
                        store->path, (ull)key, (long long)start,
                        (long long)end);
    st = mdn_store_map_records(store, segment, (uint64_t)end, err);
    if (st == MDN_OK)
        st = check_lengths(view, key, mdn_view_record(view, key),
                           (uint64_t)(end - start), err);
    if (st != MDN_OK)
        return st;
    return check_block(view, MDN_RECORDS, key, mdn_view_record(view, key),
                       (uint64_t)(end - start), err);
}

mdn_status
mdn_verify_record(mdn_view *view, uint64_t key, mdn_error *err)
{
    const mdn_layout *layout = &view->store->layout;
    const mdn_segment *segment =
        &view->store->segments[key >> layout->segment_shift];
    uint64_t generation;
    mdn_status st;

    if (is_verified(view, MDN_RECORDS, key >> layout->block_shift[MDN_RECORDS]))
        return MDN_OK;
    do { /* again, if the segment was found in other files halfway through */
        generation = atomic_load(&segment->generation);
        st = mdn_store_check_late(view->store, &key, 1, err);
        if (st == MDN_OK)
            st = layout->has[MDN_OFFSETS] ? verify_ragged(view, key, err)
                                          : verify_fixed(view, key, err);
    } while (st == MDN_CORRUPT
             && atomic_load(&segment->generation) != generation);
    return st;
}
