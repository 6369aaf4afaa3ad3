/* check_segment.c - the files of one segment, block by block.
 *
 *     the header of .col is compared with the only right one
 *     each column block is read and held against its checksum; those of the
 *         offsets last, and with them the records that they place
 *     records of one size are read front to back
 *
 * Everything is read with pread, through a window of the file that moves
 * forward: what is truncated meanwhile is damage and no signal, and memory is
 * the same for every dataset.  A full block has its checksum in the .col file,
 * the last one in the commit.
 *
 * A view verifies the same when somebody touches a block (verify.c); here
 * nothing stops at the first damage, and nothing is mapped. */
#include "storage/check_segment.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "storage/columns.h"
#include "storage/linked.h"
#include "storage/manifest.h"
#include "storage/window.h"
#include "storage/zstd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMN_ROWS (UINT64_C(1) << MDN_COLUMN_BLOCK_SHIFT)
#define CHECKS 4096 /* held at a time */
#define TEXT_SIZE 256

typedef unsigned long long ull;

/* What can be wrong with a block, least telling first. */
typedef enum {
    FINE,
    WRONG,     /* checksum */
    UNCHECKED, /* its checksum cannot be read */
    UNREADABLE,
    UNPLACED, /* where the record begins is not known */
    BACKWARD, /* it ends before it begins, or is too short */
    LENGTHS,  /* of bytes fields do not add up */
} fault;

typedef struct {
    const mdn_subject *subject;
    const mdn_layout *layout;
    mdn_finding_visit visit;
    void *ctx;
    mdn_checked *checked;
    uint64_t segment, generation, first, rows;
    const mdn_tail *tail;
    const mdn_bits *erased; /* or NULL */
    mdn_file seg, col;      /* seg may be a file of the user: */
    const mdn_link *link;
    char our_seg_name[64], col_name[64];
    const char *seg_name;
    mdn_window records, columns;
    uint32_t *checks; /* CHECKS of one kind */
    uint64_t checks_at, check_count;
    mdn_kind checks_of;
    /* The damage that is not visited yet: blocks next to each other. */
    fault run;
    mdn_kind run_kind;
    uint64_t run_first, run_count;
} checking;

/* Findings. */

static const char *
describe(fault f)
{
    switch (f) { /* no default: -Wswitch rejects a missing case */
    case FINE: return "";
    case WRONG: return "the checksum is wrong";
    case UNCHECKED: return "the checksum of it cannot be read";
    case UNREADABLE: return "the file ends before it, or cannot be read there";
    case UNPLACED:
        return "where the record begins is said by an offset that is damaged";
    case BACKWARD: return "the record ends before its head does";
    case LENGTHS: return "the lengths of the record do not add up to its size";
    }
    return "?";
}

static mdn_status
flush_run(checking *c, mdn_error *err)
{
    uint32_t shift = c->layout->block_shift[c->run_kind];
    uint64_t key = c->run_first << shift, end = key + (c->run_count << shift);
    mdn_finding finding = {
        .what = MDN_FOUND_BLOCK,
        .file = c->run_kind == MDN_RECORDS ? c->seg_name : c->col_name,
        .kind = c->run_kind,
        .number = c->run_first,
        .number_count = c->run_count,
        .first_key = key,
        .text = describe(c->run),
    };

    if (c->run == FINE)
        return MDN_OK;
    c->run = FINE;
    if (end > c->first + c->rows)
        end = c->first + c->rows;
    finding.key_count = end - key;
    return c->visit(c->ctx, &finding, err);
}

/* A block was looked at. */
static mdn_status
put_block(checking *c, mdn_kind kind, uint64_t block, fault f, mdn_error *err)
{
    mdn_status st = MDN_OK;

    c->checked->blocks++;
    if (f == c->run && kind == c->run_kind
        && block == c->run_first + c->run_count) {
        c->run_count++;
        return MDN_OK;
    }
    if (c->run != FINE)
        st = flush_run(c, err);
    c->run = f;
    c->run_kind = kind;
    c->run_first = block;
    c->run_count = 1;
    return st;
}

static mdn_status
put_file(checking *c, mdn_found what, const char *name, const char *text,
         bool all_keys, mdn_error *err)
{
    mdn_finding finding = {.what = what, .file = name, .text = text};

    if (all_keys) {
        finding.first_key = c->first;
        finding.key_count = c->rows;
    }
    return c->visit(c->ctx, &finding, err);
}

/* Reading. */

static mdn_status
check_cancelled(const checking *c, mdn_error *err)
{
    if (atomic_load_explicit(c->subject->cancelled, memory_order_relaxed))
        return mdn_fail(err, MDN_CANCELLED, "%s: the check was stopped",
                        c->subject->path);
    return MDN_OK;
}

/* Continue *crc over a part of the file; *f says if it is not there. */
static mdn_status
sum(checking *c, mdn_window *w, uint64_t at, uint64_t size, uint32_t *crc,
    fault *f, mdn_error *err)
{
    while (size > 0) {
        uint64_t n = size;
        const uint8_t *bytes = mdn_window_look(w, at, &n);

        if (bytes == NULL) {
            *f = UNREADABLE;
            return MDN_OK;
        }
        *crc = mdn_crc32c(*crc, bytes, n);
        c->checked->bytes += n;
        at += n;
        size -= n;
        if (n >= MDN_WINDOW_SIZE / 2 && check_cancelled(c, err) != MDN_OK)
            return MDN_CANCELLED;
    }
    return MDN_OK;
}

/* The checksum that a block must have: false if it cannot be read. */
static bool
right_check(checking *c, mdn_kind kind, uint64_t block, bool full,
            uint32_t *out)
{
    uint64_t at;

    if (!full) {
        *out = c->tail->crc[kind];
        return true;
    }
    at = mdn_layout_checksum_at(c->layout, kind, block);
    if (c->checks_of != kind || at < c->checks_at
        || at >= c->checks_at + 4 * c->check_count) {
        uint64_t left = c->layout->col_size - at;
        mdn_file_facts facts;

        c->checks_of = kind;
        c->checks_at = at;
        c->check_count = 0;
        if (mdn_file_facts_of(&c->col, &facts, NULL) != MDN_OK)
            return false;
        if (left > 4 * CHECKS)
            left = 4 * CHECKS;
        if (at >= facts.size)
            return false;
        if (left > facts.size - at)
            left = facts.size - at;
        if (left < 4
            || mdn_file_read(&c->col, c->checks, left / 4 * 4, at, NULL)
                   != MDN_OK)
            return false;
        c->check_count = left / 4;
    }
    *out = c->checks[(at - c->checks_at) / 4];
    return true;
}

static uint64_t
block_rows(const checking *c, mdn_kind kind, uint64_t row)
{
    uint64_t all = UINT64_C(1) << c->layout->block_shift[kind];

    return c->rows - row < all ? c->rows - row : all;
}

/* Hold a checksum that was computed against the right one. */
static fault
compare(checking *c, mdn_kind kind, uint64_t row, uint32_t crc)
{
    uint32_t shift = c->layout->block_shift[kind], right;
    bool full = block_rows(c, kind, row) == UINT64_C(1) << shift;

    if (!right_check(c, kind, (c->first + row) >> shift, full, &right))
        return UNCHECKED;
    return crc == right ? FINE : WRONG;
}

static uint32_t
seed_of(const checking *c, mdn_kind kind, uint64_t row)
{
    return mdn_layout_seed(c->layout, kind,
                           (c->first + row) >> c->layout->block_shift[kind]);
}

/* Columns, and records of one size. */

static mdn_status
check_column_block(checking *c, mdn_kind kind, uint64_t row, fault *f,
                   mdn_error *err)
{
    uint32_t crc = seed_of(c, kind, row);
    mdn_status st;

    *f = FINE;
    st = sum(c, &c->columns, c->layout->column_at[kind] + 8 * row,
             8 * block_rows(c, kind, row), &crc, f, err);
    if (st == MDN_OK && *f == FINE)
        *f = compare(c, kind, row, crc);
    if (st == MDN_OK)
        st = put_block(c, kind, (c->first + row) >> MDN_COLUMN_BLOCK_SHIFT, *f,
                       err);
    return st;
}

static mdn_status
check_column(checking *c, mdn_kind kind, mdn_error *err)
{
    mdn_status st = MDN_OK;
    fault f;

    for (uint64_t row = 0; row < c->rows && st == MDN_OK; row += COLUMN_ROWS) {
        st = check_column_block(c, kind, row, &f, err);
        if (st == MDN_OK)
            st = check_cancelled(c, err);
    }
    return st == MDN_OK ? flush_run(c, err) : st;
}

/* The rows of a block, from a file in which they have a stride. */
static mdn_status
sum_linked(checking *c, uint64_t row, uint64_t rows, uint32_t *crc, fault *f,
           mdn_error *err)
{
    const mdn_link_event *what = &c->link->what;
    uint64_t at =
        what->first_row + row
        + ((c->segment - what->first_segment) << c->layout->segment_shift);
    mdn_status st = MDN_OK;

    at = what->offset + at * what->stride;
    if (what->stride == c->layout->record_size)
        return sum(c, &c->records, at, rows * what->stride, crc, f, err);
    for (uint64_t i = 0; i < rows && st == MDN_OK && *f == FINE; i++)
        st = sum(c, &c->records, at + i * what->stride, c->layout->record_size,
                 crc, f, err);
    return st;
}

static mdn_status
check_fixed(checking *c, mdn_error *err)
{
    uint32_t shift = c->layout->block_shift[MDN_RECORDS];
    uint64_t size = c->layout->record_size;
    mdn_status st = MDN_OK;

    for (uint64_t row = 0; row < c->rows && st == MDN_OK;
         row += UINT64_C(1) << shift) {
        uint32_t crc = seed_of(c, MDN_RECORDS, row);
        fault f = FINE;

        if (c->link != NULL)
            st = sum_linked(c, row, block_rows(c, MDN_RECORDS, row), &crc, &f,
                            err);
        else
            st = sum(c, &c->records, row * size,
                     block_rows(c, MDN_RECORDS, row) * size, &crc, &f, err);
        if (st == MDN_OK && f == FINE)
            f = compare(c, MDN_RECORDS, row, crc);
        if (st == MDN_OK)
            st = put_block(c, MDN_RECORDS, (c->first + row) >> shift, f, err);
        if (st == MDN_OK)
            st = check_cancelled(c, err);
    }
    return st == MDN_OK ? flush_run(c, err) : st;
}

/* Records with bytes fields. */

/* Do the lengths in its head add up to its size, or to what its frame says it
 * holds? */
static fault
check_lengths(checking *c, uint64_t start, uint64_t size)
{
    const mdn_schema *schema = c->subject->schema;
    uint64_t total = schema->head_size, frame_size = size - schema->head_size;
    uint8_t length[4], frame[64];

    for (uint32_t i = 0; i < schema->bytes_count; i++) {
        if (!mdn_window_copy(&c->records, start + schema->fixed_size + 4 * i, 4,
                             length))
            return UNREADABLE;
        total += mdn_load_u32(length);
    }
    if (total == size)
        return FINE;
    if (c->layout->compressed && size < total && frame_size > 0) {
        if (frame_size > sizeof frame)
            frame_size = sizeof frame; /* how much it holds is said first */
        if (!mdn_window_copy(&c->records, start + schema->head_size, frame_size,
                             frame))
            return UNREADABLE;
        if (mdn_zstd_holds(frame, frame_size, total - schema->head_size))
            return FINE;
    }
    return LENGTHS;
}

/* start < 0: not known.  A compaction leaves erased records empty. */
static mdn_status
check_record(checking *c, uint64_t row, int64_t start, int64_t end,
             mdn_error *err)
{
    uint32_t crc = seed_of(c, MDN_RECORDS, row);
    bool empty = start >= 0 && start == end && c->erased != NULL
                 && mdn_bits_has(c->erased, row);
    fault f = FINE;
    mdn_status st = MDN_OK;

    if (start < 0)
        f = UNPLACED;
    else if (!empty
             && (end < start
                 || (uint64_t)(end - start) < c->layout->record_size))
        f = BACKWARD;
    else if (!empty)
        f = check_lengths(c, (uint64_t)start, (uint64_t)(end - start));
    if (f == FINE)
        st = sum(c, &c->records, (uint64_t)start, (uint64_t)(end - start), &crc,
                 &f, err);
    if (st == MDN_OK && f == FINE)
        f = compare(c, MDN_RECORDS, row, crc);
    if (st != MDN_OK)
        return st;
    return put_block(c, MDN_RECORDS, c->first + row, f, err);
}

/* First which offsets are good, and then the records between them, so that
 * findings come kind by kind.  A record whose own offset is damaged has its
 * finding there. */
static mdn_status
check_ragged_records(checking *c, mdn_error *err)
{
    int64_t *ends = malloc(8 * COLUMN_ROWS), start = 0;
    const mdn_layout *layout = c->layout;
    mdn_status st = MDN_OK;

    if (ends == NULL)
        return mdn_fail_nomem(err, 8 * COLUMN_ROWS);
    for (uint64_t row = 0; row < c->rows && st == MDN_OK; row += COLUMN_ROWS) {
        uint64_t count = block_rows(c, MDN_OFFSETS, row);
        uint32_t crc = seed_of(c, MDN_OFFSETS, row);

        if (!mdn_window_copy(&c->columns,
                             layout->column_at[MDN_OFFSETS] + 8 * row,
                             8 * count, ends)
            || compare(c, MDN_OFFSETS, row, mdn_crc32c(crc, ends, 8 * count))
                   != FINE) {
            start = -1;
            continue;
        }
        for (uint64_t i = 0; i < count && st == MDN_OK; i++) {
            st = check_record(c, row + i, start, ends[i], err);
            start = ends[i];
            if (st == MDN_OK && i % 256 == 0)
                st = check_cancelled(c, err);
        }
    }
    free(ends);
    return st == MDN_OK ? flush_run(c, err) : st;
}

/* Files. */

static mdn_status
open_records(checking *c, mdn_error *err)
{
    char *path;
    mdn_status st;

    if (c->link != NULL)
        return mdn_file_open(c->subject->io, c->link->path,
                             O_RDONLY | O_NONBLOCK | O_NOCTTY, &c->seg, err);
    path = mdn_layout_path(c->subject->path, c->segment, c->generation, "seg");
    if (path == NULL)
        return mdn_fail_nomem(err, 64);
    st = mdn_file_open(c->subject->io, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK,
                       &c->seg, err);
    free(path);
    return st;
}

/* Open both files.  *gone: at least one is not there. */
static mdn_status
open_files(checking *c, mdn_status *seg, mdn_status *col, bool *gone,
           mdn_error seg_err[1], mdn_error col_err[1])
{
    const mdn_subject *s = c->subject;

    *seg = open_records(c, seg_err);
    *col = mdn_columns_open_any(s->io, s->path, c->segment, c->generation,
                                false, &c->col, col_err);
    *gone = (*seg == MDN_IO && seg_err->sys_errno == ENOENT)
            || (*col == MDN_IO && col_err->sys_errno == ENOENT);
    if (*seg == MDN_NOMEM || *col == MDN_NOMEM)
        return MDN_NOMEM;
    return MDN_OK;
}

static void
name_files(checking *c)
{
    for (int i = 0; i < 2; i++) {
        char *name = i == 0 ? c->our_seg_name : c->col_name;
        const char *suffix = i == 0 ? "seg" : "col";

        if (c->generation == 0)
            snprintf(name, sizeof c->our_seg_name, "%06llu.%s", (ull)c->segment,
                     suffix);
        else
            snprintf(name, sizeof c->our_seg_name, "%06llu-%llu.%s",
                     (ull)c->segment, (ull)c->generation, suffix);
    }
    c->seg_name = c->link ? c->link->path : c->our_seg_name;
}

static mdn_status
check_col_file(checking *c, mdn_error *err)
{
    const char *where;
    char text[TEXT_SIZE];
    mdn_error inner = {.status = MDN_OK};
    uint64_t size;
    mdn_status st = mdn_file_size(&c->col, &size, &inner);

    if (st == MDN_OK && size < c->layout->col_size) {
        snprintf(text, sizeof text, "truncated: %llu bytes, of %llu", (ull)size,
                 (ull)c->layout->col_size);
        st = put_file(c, MDN_FOUND_TRUNCATED, c->col_name, text, false, err);
        if (st != MDN_OK)
            return st;
    }
    if (st == MDN_OK)
        st = mdn_columns_check_header(&c->col, c->layout, c->segment,
                                      c->generation, &inner);
    if (st == MDN_OK)
        return MDN_OK;
    where = strstr(inner.message, ".col: ");
    return put_file(c, MDN_FOUND_HEADER, c->col_name,
                    where ? where + 6 : inner.message, false, err);
}

/* A file of the user must be the one that was linked. */
static mdn_status
check_link(checking *c, mdn_error *err)
{
    mdn_error inner = {.status = MDN_OK};
    mdn_file_facts facts;
    mdn_status st = mdn_file_facts_of(&c->seg, &facts, &inner);

    if (st == MDN_OK)
        st = mdn_link_compare(c->link, &facts, &inner);
    if (st == MDN_OK)
        return MDN_OK;
    return put_file(c, MDN_FOUND_LINK, c->seg_name,
                    strncmp(inner.message, c->seg_name, strlen(c->seg_name))
                            == 0
                        ? inner.message + strlen(c->seg_name) + 2
                        : inner.message,
                    true, err);
}

/* A file that could not be opened is a finding; without .col nothing can be
 * held against anything. */
static mdn_status
report_unopened(checking *c, const char *name, mdn_status st,
                const mdn_error *why, mdn_error *err)
{
    const char *text;
    char buffer[TEXT_SIZE];

    if (st == MDN_OK)
        return MDN_OK;
    if (st != MDN_IO || why->sys_errno != ENOENT) {
        snprintf(buffer, sizeof buffer, "cannot be opened: %s",
                 strerror(why->sys_errno));
        text = buffer;
    } else if (c->subject->blind) {
        text = "not there, or under a name that the damaged events would tell";
    } else {
        text = "missing";
    }
    return put_file(c, MDN_FOUND_MISSING, name, text, !c->subject->blind, err);
}

static mdn_status
check_files(checking *c, mdn_status seg, mdn_status col,
            const mdn_error *seg_err, const mdn_error *col_err, mdn_error *err)
{
    mdn_status st = report_unopened(c, c->col_name, col, col_err, err);

    if (st == MDN_OK)
        st = report_unopened(c, c->seg_name, seg, seg_err, err);
    if (st != MDN_OK || col != MDN_OK)
        return st;
    c->columns.file = &c->col;
    c->records.file = &c->seg;
    st = check_col_file(c, err);
    for (int kind = MDN_TIMESTAMPS; kind < MDN_KINDS && st == MDN_OK; kind++) {
        if (c->layout->has[kind])
            st = check_column(c, (mdn_kind)kind, err);
    }
    if (st != MDN_OK || seg != MDN_OK)
        return st;
    if (c->link != NULL && (st = check_link(c, err)) != MDN_OK)
        return st;
    return c->layout->has[MDN_OFFSETS] ? check_ragged_records(c, err)
                                       : check_fixed(c, err);
}

/* What the dataset has become while we read. */
typedef struct {
    mdn_manifest manifest;
    mdn_layout layout;
    mdn_schema *schema;
    mdn_history *nothing, *history;
} now;

static void
forget(now *n)
{
    mdn_history_release(n->history);
    mdn_history_release(n->nothing);
    mdn_schema_free(n->schema);
    mdn_manifest_close(&n->manifest);
}

/* Files were not there: has a compaction moved them since?  Then go on with
 * what is there now; *moved. */
static void
follow(checking *c, now *n, bool *moved)
{
    const mdn_subject *s = c->subject;
    mdn_status st;

    *moved = false;
    *n = (now){.manifest = MDN_MANIFEST_CLOSED};
    st = mdn_manifest_open(s->io, s->path, false, &n->manifest, &n->layout,
                           &n->schema, NULL);
    if (st == MDN_OK)
        st = mdn_manifest_advance(&n->manifest, &n->layout, NULL);
    if (st == MDN_OK)
        st = mdn_history_new(&n->nothing, NULL);
    if (st == MDN_OK)
        st = mdn_history_extend(n->nothing, s->io, s->path, &n->layout,
                                &n->manifest.tail, &n->history, NULL);
    if (st != MDN_OK
        || mdn_history_generation(n->history, c->segment) == c->generation)
        return;
    *moved = true;
}

static void
set_subject(checking *c, const mdn_history *history, const mdn_tail *tail)
{
    const mdn_fate *fate = mdn_history_fate(history, c->segment);
    uint64_t rows = UINT64_C(1) << c->layout->segment_shift;

    c->tail = tail;
    c->generation = fate ? fate->generation : 0;
    c->erased = fate ? fate->erased : NULL;
    c->link = fate ? fate->link : NULL;
    c->rows = tail->count - c->first < rows ? tail->count - c->first : rows;
    name_files(c);
}

static mdn_status
check(checking *c, mdn_error *err)
{
    mdn_status seg, col, st;
    mdn_error seg_err, col_err;
    now since = {.manifest = MDN_MANIFEST_CLOSED};
    bool gone, moved = false;

    st = open_files(c, &seg, &col, &gone, &seg_err, &col_err);
    if (st == MDN_OK && gone) {
        follow(c, &since, &moved);
        if (moved) {
            mdn_file_close(&c->seg);
            mdn_file_close(&c->col);
            set_subject(c, since.history, &since.manifest.tail);
            st = open_files(c, &seg, &col, &gone, &seg_err, &col_err);
        }
    }
    if (st == MDN_OK)
        st = check_files(c, seg, col, &seg_err, &col_err, err);
    else
        mdn_fail_nomem(err, 64);
    forget(&since);
    return st;
}

mdn_status
mdn_check_segment(const mdn_subject *subject, uint64_t segment,
                  mdn_finding_visit visit, void *ctx, mdn_checked *checked,
                  mdn_error *err)
{
    checking c = {
        .subject = subject,
        .layout = subject->layout,
        .visit = visit,
        .ctx = ctx,
        .checked = checked,
        .segment = segment,
        .first = segment << subject->layout->segment_shift,
        .seg = MDN_FILE_CLOSED,
        .col = MDN_FILE_CLOSED,
        .records.bytes = malloc(MDN_WINDOW_SIZE),
        .columns.bytes = malloc(MDN_WINDOW_SIZE),
        .checks = malloc(4 * CHECKS),
    };
    mdn_status st = MDN_OK;

    set_subject(&c, subject->history, subject->tail);
    if (!c.records.bytes || !c.columns.bytes || !c.checks)
        st = mdn_fail_nomem(err, 2 * MDN_WINDOW_SIZE + 4 * CHECKS);
    if (st == MDN_OK)
        st = check(&c, err);
    mdn_file_close(&c.seg);
    mdn_file_close(&c.col);
    free(c.records.bytes);
    free(c.columns.bytes);
    free(c.checks);
    return st;
}
