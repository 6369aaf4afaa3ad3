/* rewrite.c - a segment's files anew, block by block.
 *
 *     records of one size    a block without erased rows goes from the mapping
 *                            into the file as it is; one with some of them
 *                            through a buffer; one with nothing else is a hole
 *     records with bytes     a block is a record: it is copied or left out
 *     columns                through a buffer
 *
 * Checksums are those of what is written.  The last, not full block of each
 * kind has its checksum in the commit, and so in the tail. */
#include "storage/rewrite.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "storage/columns.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define PIECE (UINT64_C(4) << 20) /* bytes between two questions */
#define PAGE UINT64_C(4096)

static const uint8_t ZEROS[PAGE];

typedef struct {
    mdn_view *view; /* borrowed */
    const mdn_layout *layout;
    const mdn_pulse *pulse;
    uint64_t segment, first, rows; /* its number, first key, rows in the view */
    bool linked;
    mdn_file seg, col;
    uint64_t bytes;      /* of records, written or left out */
    uint64_t since;      /* bytes since the pulse was asked */
    uint8_t *buffer;     /* PIECE bytes */
    int64_t *ends;       /* of the records, with bytes fields */
    uint32_t *checks;    /* of one kind, of the full blocks */
    uint32_t last_check; /* of one kind, of the block that is not full */
} rewriting;

/* How many rows of the block that begins at row are in the view. */
static uint64_t
block_rows(const rewriting *w, mdn_kind kind, uint64_t row)
{
    uint64_t all = UINT64_C(1) << w->layout->block_shift[kind];

    return w->rows - row < all ? w->rows - row : all;
}

static mdn_status
ask(rewriting *w, uint64_t bytes, mdn_error *err)
{
    w->since += bytes;
    if (w->since < PIECE)
        return MDN_OK;
    w->since = 0;
    return mdn_pulse_ask(w->pulse, err);
}

/* The checksum of a block: kept for later, full blocks in their order. */
static void
put_check(rewriting *w, mdn_kind kind, uint64_t row, uint64_t count,
          uint32_t check)
{
    uint32_t shift = w->layout->block_shift[kind];

    if (count == UINT64_C(1) << shift)
        w->checks[row >> shift] = check;
    else
        w->last_check = check;
}

static uint32_t
seed_of(const rewriting *w, mdn_kind kind, uint64_t row)
{
    uint64_t block = (w->first + row) >> w->layout->block_shift[kind];

    return mdn_layout_seed(w->layout, kind, block);
}

/* All of one kind is known: its checksums into the file and the tail. */
static mdn_status
write_checks(rewriting *w, mdn_kind kind, mdn_tail *tail, mdn_error *err)
{
    uint32_t shift = w->layout->block_shift[kind];
    bool open = w->rows < UINT64_C(1) << w->layout->segment_shift;
    uint64_t full = w->rows >> shift, block = w->first >> shift;

    if (open)
        tail->crc[kind] = (full << shift) < w->rows ? w->last_check : 0;
    return mdn_file_write(&w->col, w->checks, 4 * full,
                          mdn_layout_checksum_at(w->layout, kind, block), err);
}

/* Records of one size. */

static uint32_t
continue_zeros(uint32_t crc, uint64_t size)
{
    for (; size > PAGE; size -= PAGE)
        crc = mdn_crc32c(crc, ZEROS, PAGE);
    return mdn_crc32c(crc, ZEROS, size);
}

/* Write what is not a page of zeros; those stay holes. */
static mdn_status
write_sparse(rewriting *w, const uint8_t *data, uint64_t size, uint64_t at,
             mdn_error *err)
{
    uint64_t begin = 0, done = 0;
    mdn_status st = MDN_OK;

    while (st == MDN_OK && done < size) {
        uint64_t n = PAGE - (at + done) % PAGE;

        if (n > size - done)
            n = size - done;
        if (n == PAGE && memcmp(data + done, ZEROS, PAGE) == 0) {
            st = mdn_file_write(&w->seg, data + begin, done - begin, at + begin,
                                err);
            begin = done + n;
        }
        done += n;
    }
    if (st == MDN_OK)
        st = mdn_file_write(&w->seg, data + begin, size - begin, at + begin,
                            err);
    return st;
}

/* A block with living and with erased rows; it is smaller than the buffer,
 * since blocks of more than one row are. */
static mdn_status
mixed_block(rewriting *w, uint64_t row, uint64_t count, const uint8_t *from,
            uint32_t *crc, mdn_error *err)
{
    uint64_t size = w->layout->record_size;

    memcpy(w->buffer, from, count * size);
    for (uint64_t i = 0; i < count; i++) {
        if (mdn_view_erased(w->view, w->first + row + i))
            memset(w->buffer + i * size, 0, size);
    }
    *crc = mdn_crc32c(*crc, w->buffer, count * size);
    return write_sparse(w, w->buffer, count * size, row * size, err);
}

static mdn_status
fixed_block(rewriting *w, uint64_t row, mdn_error *err)
{
    uint64_t count = block_rows(w, MDN_RECORDS, row);
    uint64_t erased = mdn_view_erased_between(w->view, w->first + row, count);
    uint64_t size = count * w->layout->record_size;
    uint32_t crc = seed_of(w, MDN_RECORDS, row);
    const uint8_t *from;
    mdn_status st = MDN_OK;

    if (erased == count) {
        crc = continue_zeros(crc, size);
    } else {
        st = mdn_verify_record(w->view, w->first + row, err);
        if (st != MDN_OK)
            return st;
        from = mdn_view_record(w->view, w->first + row);
        if (erased > 0) {
            st = mixed_block(w, row, count, from, &crc, err);
        } else {
            crc = mdn_crc32c(crc, from, size);
            st = mdn_file_write(&w->seg, from, size,
                                row * w->layout->record_size, err);
        }
    }
    put_check(w, MDN_RECORDS, row, count, crc);
    return st == MDN_OK ? ask(w, size, err) : st;
}

static mdn_status
fixed_records(rewriting *w, mdn_error *err)
{
    uint64_t step = UINT64_C(1) << w->layout->block_shift[MDN_RECORDS];
    mdn_status st;

    w->bytes = w->rows * w->layout->record_size;
    st = mdn_file_truncate(&w->seg, w->bytes, err);
    for (uint64_t row = 0; row < w->rows && st == MDN_OK; row += step)
        st = fixed_block(w, row, err);
    return st;
}

/* Records that are linked: nothing but their checksums, as they are. */
static mdn_status
linked_records(rewriting *w, mdn_error *err)
{
    const mdn_store *store = w->view->store;
    uint32_t shift = w->layout->block_shift[MDN_RECORDS];
    const uint32_t *checks;
    mdn_status st = mdn_store_map_columns(w->view->store, w->segment, err);

    if (st != MDN_OK)
        return st;
    checks = atomic_load(&store->segments[w->segment].checksums)
             + w->layout->checksum_of[MDN_RECORDS] / 4;
    memcpy(w->checks, checks, 4 * (w->rows >> shift));
    w->bytes = w->rows * w->layout->record_size;
    return MDN_OK;
}

/* Records with bytes fields. */

static mdn_status
flush(rewriting *w, uint64_t *filled, mdn_error *err)
{
    mdn_status st =
        mdn_file_write(&w->seg, w->buffer, *filled, w->bytes - *filled, err);

    *filled = 0;
    return st;
}

static mdn_status
ragged_record(rewriting *w, uint64_t row, uint64_t *filled, mdn_error *err)
{
    uint64_t key = w->first + row, size;
    const int64_t *ends = mdn_store_column(w->view->store, MDN_OFFSETS);
    const uint8_t *from;
    mdn_status st = mdn_verify_record(w->view, key, err);

    if (st != MDN_OK)
        return st;
    from = mdn_view_record(w->view, key);
    size = (uint64_t)(ends[key] - (row == 0 ? 0 : ends[key - 1]));
    w->checks[row] = mdn_crc32c(seed_of(w, MDN_RECORDS, row), from, size);
    if (size > PIECE - *filled && (st = flush(w, filled, err)) != MDN_OK)
        return st;
    if (size > PIECE) {
        st = mdn_file_write(&w->seg, from, size, w->bytes, err);
    } else {
        memcpy(w->buffer + *filled, from, size);
        *filled += size;
    }
    w->bytes += size;
    return st == MDN_OK ? ask(w, size, err) : st;
}

static mdn_status
ragged_records(rewriting *w, mdn_error *err)
{
    uint64_t filled = 0;
    mdn_status st = MDN_OK;

    for (uint64_t row = 0; row < w->rows && st == MDN_OK; row++) {
        if (mdn_view_erased(w->view, w->first + row))
            w->checks[row] = seed_of(w, MDN_RECORDS, row);
        else
            st = ragged_record(w, row, &filled, err);
        w->ends[row] = (int64_t)w->bytes;
    }
    return st == MDN_OK ? flush(w, &filled, err) : st;
}

/* Columns. */

/* The rows of a block of a column as they are to be, in the buffer. */
static mdn_status
load_rows(rewriting *w, mdn_kind kind, uint64_t row, uint64_t count,
          int64_t *out, mdn_error *err)
{
    uint64_t key = w->first + row;
    const int64_t *from;
    mdn_status st;

    if (kind == MDN_OFFSETS) {
        memcpy(out, w->ends + row, 8 * count);
        return MDN_OK;
    }
    memset(out, 0, 8 * count);
    if (mdn_view_erased_between(w->view, key, count) == count)
        return MDN_OK;
    if ((st = mdn_verify_column(w->view, kind, key, err)) != MDN_OK)
        return st;
    from = mdn_store_column(w->view->store, kind) + key;
    for (uint64_t i = 0; i < count; i++) {
        if (!mdn_view_erased(w->view, key + i))
            out[i] = from[i];
    }
    return MDN_OK;
}

static mdn_status
column(rewriting *w, mdn_kind kind, mdn_error *err)
{
    uint64_t step = UINT64_C(1) << MDN_COLUMN_BLOCK_SHIFT;
    int64_t *rows = (int64_t *)(void *)w->buffer;
    mdn_status st = MDN_OK;

    for (uint64_t row = 0; row < w->rows && st == MDN_OK; row += step) {
        uint64_t count = block_rows(w, kind, row);

        st = load_rows(w, kind, row, count, rows, err);
        if (st != MDN_OK)
            return st;
        put_check(w, kind, row, count,
                  mdn_crc32c(seed_of(w, kind, row), rows, 8 * count));
        st = mdn_file_write(&w->col, rows, 8 * count,
                            w->layout->column_at[kind] + 8 * row, err);
        if (st == MDN_OK)
            st = ask(w, 8 * count, err);
    }
    return st;
}

/* All of it. */

static mdn_status
open_files(rewriting *w, uint64_t generation, mdn_error *err)
{
    const mdn_store *store = w->view->store;
    char *path;
    mdn_status st;

    if (w->linked)
        return mdn_columns_create(store->io, store->path, w->layout, w->segment,
                                  generation, &w->col, err);
    path = mdn_layout_path(store->path, w->segment, generation, "seg");
    if (path == NULL)
        return mdn_fail_nomem(err, strlen(store->path) + 32);
    st = mdn_file_open(store->io, path,
                       O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK,
                       &w->seg, err);
    free(path);
    if (st == MDN_OK)
        st = mdn_columns_create(store->io, store->path, w->layout, w->segment,
                                generation, &w->col, err);
    return st;
}

static mdn_status
allocate(rewriting *w, mdn_error *err)
{
    w->buffer = malloc(PIECE);
    w->checks = malloc(4 * (w->rows + 1));
    w->ends = malloc(w->layout->has[MDN_OFFSETS] ? 8 * (w->rows + 1) : 8);
    if (!w->buffer || !w->checks || !w->ends)
        return mdn_fail_nomem(err, PIECE + 12 * w->rows);
    return MDN_OK;
}

static mdn_status
rewrite(rewriting *w, uint64_t generation, mdn_tail *tail, mdn_error *err)
{
    bool ragged = w->layout->has[MDN_OFFSETS];
    bool open = w->rows < UINT64_C(1) << w->layout->segment_shift;
    mdn_status st;

    if ((st = allocate(w, err)) != MDN_OK
        || (st = open_files(w, generation, err)) != MDN_OK)
        return st;
    st = w->linked ? linked_records(w, err)
         : ragged  ? ragged_records(w, err)
                   : fixed_records(w, err);
    if (st == MDN_OK)
        st = write_checks(w, MDN_RECORDS, tail, err);
    for (int kind = MDN_TIMESTAMPS; kind < MDN_KINDS && st == MDN_OK; kind++) {
        if (!w->layout->has[kind])
            continue;
        st = column(w, (mdn_kind)kind, err);
        if (st == MDN_OK)
            st = write_checks(w, (mdn_kind)kind, tail, err);
    }
    if (st == MDN_OK && !w->linked)
        st = mdn_file_sync_all(&w->seg, err);
    if (st == MDN_OK)
        st = mdn_file_sync_all(&w->col, err);
    if (open)
        tail->segment_bytes = w->bytes;
    return st;
}

mdn_status
mdn_rewrite_segment(mdn_view *view, uint64_t segment, uint64_t generation,
                    const mdn_pulse *pulse, mdn_tail *tail, uint64_t *bytes,
                    mdn_error *err)
{
    const mdn_layout *layout = &view->store->layout;
    uint64_t first = segment << layout->segment_shift;
    uint64_t rows = UINT64_C(1) << layout->segment_shift;
    rewriting w = {
        .view = view,
        .layout = layout,
        .pulse = pulse,
        .segment = segment,
        .first = first,
        .linked = mdn_history_link(view->history, segment) != NULL,
        .rows =
            view->tail.count - first < rows ? view->tail.count - first : rows,
        .seg = MDN_FILE_CLOSED,
        .col = MDN_FILE_CLOSED,
    };
    mdn_tail next = *tail;
    mdn_status st = rewrite(&w, generation, &next, err);

    mdn_file_close(&w.seg);
    mdn_file_close(&w.col);
    free(w.buffer);
    free(w.checks);
    free(w.ends);
    if (st == MDN_OK) {
        *tail = next;
        *bytes = w.bytes;
    }
    return st;
}
