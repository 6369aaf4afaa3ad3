/* link_scan.c - the .col files of segments whose records stay where they are.
 *
 * A .col file holds the columns, and the checksums of the blocks of records.
 * Threads share the rows of a segment in units of one block of columns, which
 * is some blocks of records, and write each unit in its place. */
#include "storage/linking.h"

#include "base/crc32c.h"
#include "storage/columns.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define PIECE (UINT64_C(1) << 20)          /* bytes read at once, by a thread */
#define THREAD_BYTES (UINT64_C(256) << 20) /* of rows read, all threads */
#define THREADS_MAX 64u
#define UNIT (UINT64_C(1) << MDN_COLUMN_BLOCK_SHIFT) /* rows */

typedef struct {
    const mdn_linking *l;
    mdn_file *col;
    uint64_t segment;
    _Atomic uint64_t next; /* unit to be claimed */
    _Atomic bool stop;
} scan;

typedef struct {
    scan *s;
    pthread_t thread;
    bool started;
    bool asks; /* the calling thread, with the pulse */
    uint64_t unit;
    uint64_t step; /* rows read at once */
    uint8_t *records;
    int64_t timestamps[UNIT], labels[UNIT];
    uint32_t checks[UNIT]; /* of blocks of records */
    mdn_status status;
    mdn_error error;
} scanner;

static uint64_t
file_row(const mdn_linking *l, uint64_t segment, uint64_t row)
{
    return l->first_row
           + ((segment - l->first_segment) << l->layout->segment_shift) + row;
}

/* Continue the checksums of blocks over rows of the unit. */
static void
sum_rows(scanner *t, uint64_t in_unit, uint64_t count)
{
    const mdn_linking *l = t->s->l;
    uint32_t shift = l->layout->block_shift[MDN_RECORDS];
    uint64_t size = l->layout->record_size, stride = l->opt->record_size;
    uint64_t first =
        (t->s->segment << l->layout->segment_shift) + t->unit * UNIT;

    for (uint64_t i = 0; i < count;) {
        uint64_t row = in_unit + i, block = row >> shift;
        uint64_t n = ((block + 1) << shift) - row;
        const uint8_t *at = t->records + i * stride + l->opt->fields_at;
        uint32_t crc = t->checks[block];

        if (row == block << shift)
            crc =
                mdn_layout_seed(l->layout, MDN_RECORDS, (first + row) >> shift);
        if (n > count - i)
            n = count - i;
        if (stride == size)
            crc = mdn_crc32c(crc, at, n * size);
        for (uint64_t k = 0; k < n && stride != size; k++)
            crc = mdn_crc32c(crc, at + k * stride, size);
        t->checks[block] = crc;
        i += n;
    }
}

static mdn_status
scan_rows(scanner *t, mdn_error *err)
{
    const mdn_linking *l = t->s->l;
    mdn_status st = MDN_OK;

    for (uint64_t done = 0; done < UNIT && st == MDN_OK; done += t->step) {
        uint64_t n = UNIT - done < t->step ? UNIT - done : t->step;
        uint64_t row = file_row(l, t->s->segment, t->unit * UNIT + done);

        if (t->asks)
            st = mdn_pulse_ask(l->pulse, err);
        if (st == MDN_OK)
            st = mdn_linking_read(l, row, n, t->records, err);
        if (st == MDN_OK)
            st =
                mdn_linking_columns(l, t->records, row, n, t->timestamps + done,
                                    t->labels + done, err);
        if (st == MDN_OK)
            sum_rows(t, done, n);
    }
    return st;
}

/* A unit of a column and its checksum. */
static mdn_status
write_column(const scanner *t, mdn_kind kind, const int64_t *values,
             mdn_error *err)
{
    const mdn_layout *layout = t->s->l->layout;
    uint64_t key = (t->s->segment << layout->segment_shift) + t->unit * UNIT;
    uint64_t block = key >> MDN_COLUMN_BLOCK_SHIFT;
    uint32_t check =
        mdn_crc32c(mdn_layout_seed(layout, kind, block), values, 8 * UNIT);
    mdn_status st =
        mdn_file_write(t->s->col, values, 8 * UNIT,
                       layout->column_at[kind] + 8 * t->unit * UNIT, err);

    if (st != MDN_OK)
        return st;
    return mdn_file_write(t->s->col, &check, 4,
                          mdn_layout_checksum_at(layout, kind, block), err);
}

static mdn_status
write_unit(const scanner *t, mdn_error *err)
{
    const mdn_layout *layout = t->s->l->layout;
    uint32_t shift = layout->block_shift[MDN_RECORDS];
    uint64_t key = (t->s->segment << layout->segment_shift) + t->unit * UNIT;
    mdn_status st = mdn_file_write(
        t->s->col, t->checks, 4 * (UNIT >> shift),
        mdn_layout_checksum_at(layout, MDN_RECORDS, key >> shift), err);

    if (st == MDN_OK)
        st = write_column(t, MDN_TIMESTAMPS, t->timestamps, err);
    if (st == MDN_OK && layout->has[MDN_LABELS])
        st = write_column(t, MDN_LABELS, t->labels, err);
    return st;
}

/* Units are claimed in order, so that whichever fails first in the file is
 * always tried. */
static void *
run_scanner(void *argument)
{
    scanner *t = argument;
    scan *s = t->s;
    uint64_t units = UINT64_C(1)
                     << (s->l->layout->segment_shift - MDN_COLUMN_BLOCK_SHIFT);

    while (t->status == MDN_OK && !atomic_load(&s->stop)) {
        t->unit = atomic_fetch_add(&s->next, 1);
        if (t->unit >= units)
            return NULL;
        t->status = scan_rows(t, &t->error);
        if (t->status == MDN_OK)
            t->status = write_unit(t, &t->error);
    }
    if (t->status != MDN_OK)
        atomic_store(&s->stop, true);
    return NULL;
}

/* All units of a segment; the error is that of the first unit in the file. */
static mdn_status
run_scanners(scan *s, scanner *threads, uint32_t count, mdn_error *err)
{
    const scanner *failed = NULL;

    atomic_init(&s->next, 0);
    atomic_init(&s->stop, false);
    for (uint32_t i = 1; i < count; i++)
        threads[i].started =
            pthread_create(&threads[i].thread, NULL, run_scanner, &threads[i])
            == 0;
    run_scanner(&threads[0]);
    for (uint32_t i = 0; i < count; i++) {
        if (threads[i].started)
            pthread_join(threads[i].thread, NULL);
        threads[i].started = false;
        if (threads[i].status != MDN_OK
            && (failed == NULL || threads[i].unit < failed->unit))
            failed = &threads[i];
    }
    if (failed == NULL)
        return MDN_OK;
    if (err != NULL)
        *err = failed->error;
    return failed->status;
}

static mdn_status
link_segment(const mdn_linking *l, uint64_t segment, scanner *threads,
             uint32_t count, mdn_error *err)
{
    const mdn_dataset *dataset = l->dataset;
    mdn_file col;
    scan s = {.l = l, .col = &col, .segment = segment};
    mdn_status st = mdn_columns_create(dataset->io, dataset->path, l->layout,
                                       segment, 0, &col, err);

    if (st != MDN_OK)
        return st;
    for (uint32_t i = 0; i < count; i++)
        threads[i].s = &s;
    st = run_scanners(&s, threads, count, err);
    if (st == MDN_OK)
        st = mdn_file_sync_all(&col, err);
    mdn_file_close(&col);
    return st;
}

mdn_status
mdn_linking_scan(const mdn_linking *l, mdn_error *err)
{
    uint64_t stride = l->opt->record_size;
    uint64_t step = PIECE / stride == 0 ? 1 : PIECE / stride;
    uint32_t count =
        l->opt->threads < THREADS_MAX ? l->opt->threads : THREADS_MAX;
    scanner *threads;
    mdn_status st = MDN_OK;

    if (step > UNIT)
        step = UNIT;
    while (count > 1 && count * step * stride > THREAD_BYTES)
        count--;
    threads = calloc(count, sizeof *threads);
    for (uint32_t i = 0; threads != NULL && i < count && st == MDN_OK; i++) {
        threads[i].step = step;
        threads[i].asks = i == 0;
        threads[i].records = malloc(step * stride);
        if (threads[i].records == NULL)
            st = mdn_fail_nomem(err, step * stride);
    }
    if (threads == NULL)
        return mdn_fail_nomem(err, count * sizeof *threads);
    for (uint64_t i = 0; i < l->segments && st == MDN_OK; i++)
        st = link_segment(l, l->first_segment + i, threads, count, err);
    if (st == MDN_OK)
        st = mdn_dir_sync(l->dataset->io, l->dataset->path, err);
    for (uint32_t i = 0; i < count; i++)
        free(threads[i].records);
    free(threads);
    return st;
}
