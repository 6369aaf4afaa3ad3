/* mend.c - how much of a segment is there, and what can be put right of it.
 *
 * Sizes say how many rows may be there.  Whether they are right is said by
 * their checksums, which this does not ask: what is wrong in the middle of a
 * file stays, and is refused block by block by whoever reads it. */
#include "storage/mend.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "storage/columns.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE (UINT64_C(1) << 20)

typedef unsigned long long ull;

static mdn_status
open_records(const mdn_mending *p, int flags, mdn_file *out, mdn_error *err)
{
    char *path = mdn_layout_path(p->path, p->segment, p->generation, "seg");
    mdn_status st;

    *out = MDN_FILE_CLOSED;
    if (path == NULL)
        return mdn_fail_nomem(err, 64);
    st = mdn_file_open(p->io, path, flags | O_NOFOLLOW | O_NONBLOCK, out, err);
    free(path);
    return st;
}

/* Whether a file could be opened; only its absence is no failure. */
static mdn_status
is_there(mdn_status st, const mdn_error *why, bool *there, mdn_error *err)
{
    *there = st == MDN_OK;
    if (st == MDN_OK || (st == MDN_IO && why->sys_errno == ENOENT))
        return MDN_OK;
    if (err != NULL)
        *err = *why;
    return st;
}

static void
name_files(const mdn_mending *p, mdn_condition *out)
{
    char generation[32] = "";

    if (p->generation > 0)
        snprintf(generation, sizeof generation, "-%llu", (ull)p->generation);
    snprintf(out->seg_name, sizeof out->seg_name, "%06llu%s.seg",
             (ull)p->segment, generation);
    snprintf(out->col_name, sizeof out->col_name, "%06llu%s.col",
             (ull)p->segment, generation);
}

/* Rows whose columns are in the file. */
static uint64_t
rows_of_columns(const mdn_mending *p, uint64_t size)
{
    uint64_t rows = p->rows;

    for (int kind = MDN_TIMESTAMPS; kind < MDN_KINDS; kind++) {
        uint64_t at = p->layout->column_at[kind];
        uint64_t have = size > at ? (size - at) / 8 : 0;

        if (p->layout->has[kind] && have < rows)
            rows = have;
    }
    return rows;
}

static uint64_t
end_of(const mdn_mending *p, const mdn_file *col, uint64_t row)
{
    uint8_t end[8];

    if (mdn_file_read(col, end, 8, p->layout->column_at[MDN_OFFSETS] + 8 * row,
                      NULL)
        != MDN_OK)
        return UINT64_MAX;
    return mdn_load_u64(end);
}

/* The checksum of the offsets that place the last row, in a full segment. */
static bool
last_offsets_are_right(const mdn_mending *p, const mdn_file *col)
{
    uint64_t step = UINT64_C(1) << MDN_COLUMN_BLOCK_SHIFT;
    uint64_t row = p->rows - step;
    uint64_t block = ((p->segment << p->layout->segment_shift) + row)
                     >> MDN_COLUMN_BLOCK_SHIFT;
    uint32_t crc = mdn_layout_seed(p->layout, MDN_OFFSETS, block);
    uint8_t *ends = malloc(8 * step), right[4];
    bool good =
        ends != NULL
        && mdn_file_read(col, ends, 8 * step,
                         p->layout->column_at[MDN_OFFSETS] + 8 * row, NULL)
               == MDN_OK
        && mdn_file_read(col, right, 4,
                         mdn_layout_checksum_at(p->layout, MDN_OFFSETS, block),
                         NULL)
               == MDN_OK
        && mdn_crc32c(crc, ends, 8 * step) == mdn_load_u32(right);

    free(ends);
    return good;
}

/* Bytes of records; 0 where the offsets that say so are damaged: nothing is to
 * be concluded from those. */
static uint64_t
bytes_needed(const mdn_mending *p, const mdn_file *col, uint64_t rows)
{
    if (p->linked)
        return 0;
    if (!p->layout->has[MDN_OFFSETS])
        return p->rows * p->layout->record_size;
    if (p->bytes > 0)
        return p->bytes;
    if (rows < p->rows || p->rows < UINT64_C(1) << p->layout->segment_shift
        || !last_offsets_are_right(p, col))
        return 0;
    return end_of(p, col, p->rows - 1);
}

/* How many of the first rows end within size bytes. */
static uint64_t
rows_within(const mdn_mending *p, const mdn_file *col, uint64_t rows,
            uint64_t size)
{
    uint64_t low = 0, high = rows;

    if (!p->layout->has[MDN_OFFSETS]) {
        uint64_t have = size / p->layout->record_size;

        return have < rows ? have : rows;
    }
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;

        if (end_of(p, col, middle) <= size)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static mdn_status
look_at_columns(const mdn_mending *p, const mdn_file *col, mdn_condition *out,
                mdn_error *err)
{
    mdn_status st = mdn_file_size(col, &out->col_size, err);

    if (st != MDN_OK)
        return st;
    st = mdn_columns_check_header(col, p->layout, p->segment, p->generation,
                                  err);
    if (st != MDN_OK && st != MDN_CORRUPT && st != MDN_UNSUPPORTED)
        return st;
    out->foreign =
        st != MDN_OK
        && mdn_columns_is_foreign(col, p->layout, p->segment, p->generation);
    out->header_damaged = st != MDN_OK && !out->foreign;
    return MDN_OK;
}

mdn_status
mdn_mend_look(const mdn_mending *place, mdn_condition *out, mdn_error *err)
{
    mdn_file seg, col;
    mdn_error why = {.status = MDN_OK};
    mdn_status st;

    *out = (mdn_condition){.seg_size = 0};
    name_files(place, out);
    seg = MDN_FILE_CLOSED;
    out->seg_there = place->linked;
    if (!place->linked) {
        st = open_records(place, O_RDONLY, &seg, &why);
        st = is_there(st, &why, &out->seg_there, err);
        if (st != MDN_OK)
            return st;
    }
    st = mdn_columns_open_any(place->io, place->path, place->segment,
                              place->generation, false, &col, &why);
    st = is_there(st, &why, &out->col_there, err);
    if (st == MDN_OK && seg.fd >= 0)
        st = mdn_file_size(&seg, &out->seg_size, err);
    if (st == MDN_OK && out->col_there)
        st = look_at_columns(place, &col, out, err);
    if (st == MDN_OK && out->col_there) {
        uint64_t rows = rows_of_columns(place, out->col_size);

        out->needed = bytes_needed(place, &col, rows);
        out->rows_there = out->seg_there ? rows : 0;
        if (out->seg_size < out->needed)
            out->rows_there =
                rows_within(place, &col, out->rows_there, out->seg_size);
    }
    if (!out->col_there)
        out->needed = bytes_needed(place, &col, 0);
    mdn_file_close(&seg);
    mdn_file_close(&col);
    return st;
}

static mdn_status
mend_columns(const mdn_mending *p, const mdn_condition *c, bool create,
             mdn_error *err)
{
    bool is_short = c->col_size < p->layout->col_size;
    mdn_file col = MDN_FILE_CLOSED;
    mdn_status st;

    if (!c->col_there) {
        if (!create)
            return MDN_OK;
        st = mdn_columns_create(p->io, p->path, p->layout, p->segment,
                                p->generation, &col, err);
    } else {
        if (c->foreign || (!c->header_damaged && !is_short))
            return MDN_OK;
        st = mdn_columns_open_any(p->io, p->path, p->segment, p->generation,
                                  true, &col, err);
        if (st == MDN_OK && is_short)
            st = mdn_file_truncate(&col, p->layout->col_size, err);
        if (st == MDN_OK && c->header_damaged)
            st = mdn_columns_write_header(&col, p->layout, p->segment,
                                          p->generation, err);
    }
    if (st == MDN_OK)
        st = mdn_file_sync_all(&col, err);
    mdn_file_close(&col);
    return st;
}

mdn_status
mdn_mend_files(const mdn_mending *place, const mdn_condition *condition,
               bool create, mdn_error *err)
{
    mdn_file seg = MDN_FILE_CLOSED;
    mdn_status st = mend_columns(place, condition, create, err);

    if (st != MDN_OK || condition->seg_size >= condition->needed
        || (!condition->seg_there && !create))
        return st;
    st = open_records(place, O_RDWR | (create ? O_CREAT : 0), &seg, err);
    if (st == MDN_OK)
        st = mdn_file_truncate(&seg, condition->needed, err);
    if (st == MDN_OK)
        st = mdn_file_sync_all(&seg, err);
    mdn_file_close(&seg);
    return st;
}

/* Continue *crc over a part of a file. */
static mdn_status
sum(const mdn_file *file, uint64_t at, uint64_t size, uint32_t *crc,
    mdn_error *err)
{
    uint8_t *buffer = malloc(PIECE);
    mdn_status st = MDN_OK;

    if (buffer == NULL)
        return mdn_fail_nomem(err, PIECE);
    while (st == MDN_OK && size > 0) {
        uint64_t n = size < PIECE ? size : PIECE;

        st = mdn_file_read(file, buffer, n, at, err);
        *crc = mdn_crc32c(*crc, buffer, n);
        at += n;
        size -= n;
    }
    free(buffer);
    return st;
}

mdn_status
mdn_mend_tail(const mdn_mending *place, mdn_tail *tail, mdn_error *err)
{
    const mdn_layout *layout = place->layout;
    uint64_t first = place->segment << layout->segment_shift;
    mdn_file seg, col = MDN_FILE_CLOSED;
    mdn_status st = open_records(place, O_RDONLY, &seg, err);

    if (st == MDN_OK)
        st = mdn_columns_open(place->io, place->path, layout, place->segment,
                              place->generation, false, &col, err);
    for (int kind = 0; kind < MDN_KINDS && st == MDN_OK; kind++) {
        uint64_t row = place->rows >> layout->block_shift[kind]
                                          << layout->block_shift[kind];
        uint64_t size = kind == MDN_RECORDS ? layout->record_size : 8;
        uint64_t at = kind == MDN_RECORDS ? 0 : layout->column_at[kind];

        tail->crc[kind] = 0;
        if (!layout->has[kind] || row == place->rows)
            continue;
        tail->crc[kind] = mdn_layout_seed(
            layout, (mdn_kind)kind, (first + row) >> layout->block_shift[kind]);
        st = sum(kind == MDN_RECORDS ? &seg : &col, at + row * size,
                 (place->rows - row) * size, &tail->crc[kind], err);
    }
    tail->segment_bytes = place->rows * layout->record_size;
    if (st == MDN_OK && layout->has[MDN_OFFSETS]) {
        tail->segment_bytes = end_of(place, &col, place->rows - 1);
        if (tail->segment_bytes > INT64_MAX)
            st = mdn_fail(err, MDN_CORRUPT, "%s: the last offset is damaged",
                          col.path);
    }
    mdn_file_close(&seg);
    mdn_file_close(&col);
    return st;
}
