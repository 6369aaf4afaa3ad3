/* kernelsum.c - blocks of rows with blocks of columns, on some threads.
 *
 * A thread takes the next block of rows and goes with it through the blocks of
 * columns; without others, from the same block on, so that each pair comes
 * once.  What a block of rows sums up to stands in a place of its own, and the
 * places are added in order: so threads change nothing. */
#include "selector/kernelsum.h"

#include "base/parallel.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES (1u << 20)    /* of rows, for the second cache */
#define BLOCK_ROWS 256u           /* at most */
#define LEAST_PRODUCTS (1u << 21) /* for one thread: about 100 microseconds */

typedef struct {
    const mdn_pair_rows *rows, *others; /* the same without others */
    mdn_pair_kernel kernel;
    double gamma;
    double *center;  /* owned: taken off all rows, against rounding */
    double *partial; /* owned: of each block of rows; or NULL */
    double *squares; /* borrowed: or NULL */
    uint32_t room;   /* rows of a block */
    uint64_t row_blocks, column_blocks;
    _Atomic uint64_t next; /* block of rows */
    atomic_bool stopped;
} job;

typedef struct {
    job *job;
    mdn_pair_block rows, columns;
    double *scratch;   /* owned */
    mdn_beat *beat;    /* borrowed: of the first worker, the one that may ask */
    mdn_status status; /* what the beat said */
    mdn_error error;
} worker;

static uint32_t
rows_of_a_block(uint32_t width)
{
    uint64_t rows =
        BLOCK_BYTES / sizeof(double) / width / MDN_PAIR_LANES * MDN_PAIR_LANES;

    if (rows < MDN_PAIR_LANES)
        return MDN_PAIR_LANES;
    return rows < BLOCK_ROWS ? (uint32_t)rows : BLOCK_ROWS;
}

static uint64_t
blocks_of(uint64_t count, uint32_t room)
{
    return count / room + (count % room != 0);
}

/* The mean of the rows; any vector would do. */
static void
find_center(const mdn_pair_rows *rows, double *center)
{
    for (uint64_t i = 0; i < rows->count; i++) {
        for (uint32_t t = 0; t < rows->width; t++) {
            uint64_t at = i * rows->width + t;

            center[t] += rows->is_double
                             ? ((const double *)rows->cells)[at]
                             : (double)((const float *)rows->cells)[at];
        }
    }
    for (uint32_t t = 0; t < rows->width; t++)
        center[t] /= (double)rows->count;
}

/* The pairs (i, j), i of the columns and j > i of the rows. */
static void
put_squares(worker *w, uint64_t n)
{
    const mdn_pair_block *rows = &w->rows, *columns = &w->columns;

    for (uint32_t c = 0; c < columns->count; c++) {
        uint64_t i = columns->first + c;
        uint64_t first = rows->first > i ? rows->first : i + 1;
        uint64_t end = rows->first + rows->count;
        uint64_t before = i * n - i * (i + 1) / 2; /* pairs of lower rows */
        const double *from = w->scratch + c % MDN_PAIR_LANES * rows->room;

        if (c % MDN_PAIR_LANES == 0)
            mdn_pair_squares_of_blocks(rows, columns, c / MDN_PAIR_LANES,
                                       w->scratch);
        if (first < end)
            memcpy(w->job->squares + before + (first - i - 1),
                   from + (first - rows->first), (end - first) * sizeof *from);
    }
}

/* The block of rows that the worker holds, with one block of columns. */
static void
work_on(worker *w, uint64_t row_block, uint64_t column_block)
{
    job *j = w->job;
    bool same = j->rows == j->others && row_block == column_block;

    mdn_pair_block_fill(&w->columns, j->others, column_block * j->room,
                        j->center);
    if (j->squares != NULL)
        put_squares(w, j->rows->count);
    else
        j->partial[row_block] +=
            mdn_pair_sum_of_blocks(&w->rows, same ? &w->rows : &w->columns,
                                   same, j->kernel, j->gamma, w->scratch);
}

/* Which blocks of columns go with a block of rows: the later ones where sums
 * run over pairs, the earlier ones where squares are put. */
static void
work_through(worker *w, uint64_t row_block)
{
    job *j = w->job;
    bool within = j->rows == j->others;
    uint64_t first = within && j->squares == NULL ? row_block : 0;
    uint64_t end = j->squares != NULL ? row_block + 1 : j->column_blocks;

    mdn_pair_block_fill(&w->rows, j->rows, row_block * j->room, j->center);
    for (uint64_t c = first; c < end && !atomic_load(&j->stopped); c++) {
        work_on(w, row_block, c);
        if ((w->status = mdn_beat_ask(w->beat, &w->error)) != MDN_OK)
            atomic_store(&j->stopped, true);
    }
}

static void
run(void *ctx, uint32_t part)
{
    worker *w = (worker *)ctx + part;
    job *j = w->job;

    for (;;) {
        uint64_t block = atomic_fetch_add(&j->next, 1);

        if (block >= j->row_blocks || atomic_load(&j->stopped))
            return;
        work_through(w, block);
    }
}

static mdn_status
worker_init(worker *w, job *j, mdn_beat *beat, mdn_error *err)
{
    mdn_status st;

    *w = (worker){.job = j, .beat = beat};
    if ((st = mdn_pair_block_init(j->room, j->rows->width, &w->rows, err))
            != MDN_OK
        || (st = mdn_pair_block_init(j->room, j->rows->width, &w->columns, err))
               != MDN_OK)
        return st;
    w->scratch = calloc(j->room, MDN_PAIR_LANES * sizeof *w->scratch);
    return w->scratch != NULL ? MDN_OK : mdn_fail_nomem(err, j->room);
}

static void
worker_free(worker *w)
{
    mdn_pair_block_free(&w->rows);
    mdn_pair_block_free(&w->columns);
    free(w->scratch);
}

static uint32_t
workers_for(const job *j, uint32_t threads)
{
    double products =
        (double)j->rows->count * (double)j->others->count * j->rows->width;
    uint64_t count =
        products < 1e18 ? (uint64_t)products : UINT64_C(1000000000000000000);
    uint32_t parts = mdn_parallel_parts(count, LEAST_PRODUCTS, threads);

    return parts < j->row_blocks ? parts : (uint32_t)j->row_blocks;
}

static mdn_status
run_all(job *j, const mdn_pair_options *options, mdn_error *err)
{
    uint32_t count = workers_for(j, options->threads);
    worker *workers = calloc(count, sizeof *workers);
    mdn_status st = MDN_OK;

    if (workers == NULL)
        return mdn_fail_nomem(err, count * sizeof *workers);
    for (uint32_t i = 0; i < count && st == MDN_OK; i++)
        st = worker_init(&workers[i], j, i == 0 ? options->beat : NULL, err);
    if (st == MDN_OK) {
        mdn_parallel(count, run, workers);
        st = workers[0].status;
        if (st != MDN_OK && err != NULL)
            *err = workers[0].error;
    }
    for (uint32_t i = 0; i < count; i++)
        worker_free(&workers[i]);
    free(workers);
    return st;
}

static mdn_status
job_init(job *j, const mdn_pair_rows *rows, const mdn_pair_rows *others,
         mdn_error *err)
{
    uint32_t width = rows->width;

    j->rows = rows;
    j->others = others != NULL ? others : rows;
    j->room = rows_of_a_block(width);
    j->row_blocks = blocks_of(rows->count, j->room);
    j->column_blocks = blocks_of(j->others->count, j->room);
    j->center = calloc(width, sizeof *j->center);
    j->partial = calloc(j->row_blocks, sizeof *j->partial);
    if (j->center == NULL || j->partial == NULL)
        return mdn_fail_nomem(err, j->row_blocks * sizeof *j->partial);
    find_center(rows, j->center);
    return MDN_OK;
}

static void
job_free(job *j)
{
    free(j->center);
    free(j->partial);
}

mdn_status
mdn_kernelsum(const mdn_pair_rows *rows, const mdn_pair_rows *others,
              mdn_pair_kernel kernel, double gamma,
              const mdn_pair_options *options, double *out, mdn_error *err)
{
    job j = {.kernel = kernel, .gamma = gamma};
    double total = 0;
    mdn_status st;

    *out = 0;
    if (rows->count == 0 || (others != NULL && others->count == 0))
        return MDN_OK;
    if ((st = job_init(&j, rows, others, err)) == MDN_OK)
        st = run_all(&j, options, err);
    for (uint64_t b = 0; st == MDN_OK && b < j.row_blocks; b++)
        total += j.partial[b];
    job_free(&j);
    *out = others != NULL ? total : 2 * total; /* (i, j) and (j, i) */
    return st;
}

mdn_status
mdn_pair_squares(const mdn_pair_rows *rows, const mdn_pair_options *options,
                 double *out, mdn_error *err)
{
    job j = {.squares = out};
    mdn_status st;

    if (rows->count < 2)
        return MDN_OK;
    if ((st = job_init(&j, rows, NULL, err)) == MDN_OK)
        st = run_all(&j, options, err);
    job_free(&j);
    return st;
}
