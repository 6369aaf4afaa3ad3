/* handoff.c - what it costs to hand small batches from workers to a loop.
 *
 *     make -s build/c-plain/libmdn.a
 *     cc -std=c11 -D_GNU_SOURCE -O2 -Icsrc -pthread benchmarks/handoff.c \
 *         build/c-plain/libmdn.a -o build/handoff && build/handoff
 *
 * A batch is BATCH_BYTES copied in records of 160 bytes from random places, as
 * in a loader at batches of 1,024; the loop either takes batches as fast as it
 * can, or computes for as long as a batch takes, or for twice as long.  "alone"
 * is the same copies and the same computation in one thread, without a
 * prefetcher.  Per case: microseconds per batch on the wall and of processor
 * time, and context switches per batch (all, and those that were forced), as
 * medians of REPETITIONS; the cases take turns.  On a machine that others use
 * the wall tells little, and processor time and switches the same as ever. */
#include "prefetch/prefetcher.h"

#include "base/random.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define RECORD 160
#define BATCH_ROWS 1024
#define BATCH_BYTES ((uint64_t)RECORD * BATCH_ROWS)
#define SOURCE_BYTES ((uint64_t)512 << 20)
#define BATCHES 2000
#define REPETITIONS 7
#define READY 4000 /* batches that are there */

typedef struct {
    const char *name;
    uint32_t threads; /* 0: alone */
    uint32_t depth;
    uint32_t work; /* rounds of the loop's own computation */
} bench_case;

typedef struct {
    double wall_us, busy_us, switches, forced;
} figures;

static uint8_t *source;
static mdn_pool *pool;
static volatile uint64_t sink;
static atomic_int filled;

static uint64_t
now_ns(clockid_t clock)
{
    struct timespec at;

    clock_gettime(clock, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static mdn_status
fill(void *ctx, uint64_t ticket, mdn_batch **out, mdn_error *err)
{
    mdn_part part = {
        .dtype = MDN_UINT8, .ndim = 2, .shape = {BATCH_ROWS, RECORD}};
    uint64_t count = SOURCE_BYTES / RECORD;
    mdn_status st = mdn_batch_new(pool, &part, 1, out, err);
    uint8_t *to;

    (void)ctx;
    if (st != MDN_OK)
        return st;
    to = mdn_batch_part(*out, 0)->data;
    for (uint64_t i = 0; i < BATCH_ROWS; i++) {
        uint64_t ahead = mdn_mix(ticket * BATCH_ROWS + i + 16) % count;
        uint64_t at = mdn_mix(ticket * BATCH_ROWS + i) % count;

        __builtin_prefetch(source + ahead * RECORD);
        __builtin_prefetch(source + ahead * RECORD + 64);
        __builtin_prefetch(source + ahead * RECORD + 128);
        memcpy(to + i * RECORD, source + at * RECORD, RECORD);
    }
    return MDN_OK;
}

static mdn_status
fill_small(void *ctx, uint64_t ticket, mdn_batch **out, mdn_error *err)
{
    mdn_status st = mdn_batch_new(pool, ctx, 1, out, err);

    (void)ticket;
    filled++;
    return st;
}

static void
compute(uint32_t rounds)
{
    uint64_t value = sink;

    for (uint32_t i = 0; i < rounds; i++)
        value = mdn_mix(value + i);
    sink = value;
}

static void
loop_alone(const bench_case *c)
{
    for (uint64_t i = 0; i < BATCHES; i++) {
        mdn_batch *batch = NULL;

        if (fill(NULL, i, &batch, NULL) != MDN_OK)
            exit(1);
        compute(c->work);
        mdn_batch_release(batch);
    }
}

static void
loop(const bench_case *c)
{
    mdn_prefetcher_options options = {
        .ticket_count = BATCHES,
        .thread_count = c->threads,
        .depth = c->depth,
        .fill = fill,
    };
    mdn_prefetcher *p;
    mdn_batch *batch = NULL;
    mdn_status st;

    if (mdn_prefetcher_start(&options, &p, NULL) != MDN_OK)
        exit(1);
    for (;;) {
        st = mdn_prefetcher_take(p, 100, &batch, NULL);
        if (st == MDN_TIMEOUT)
            continue;
        if (st != MDN_OK)
            exit(1);
        if (batch == NULL)
            break;
        compute(c->work);
        mdn_batch_release(batch);
    }
    mdn_prefetcher_free(p);
}

static figures
run(const bench_case *c)
{
    struct rusage before, after;
    uint64_t wall = now_ns(CLOCK_MONOTONIC);
    uint64_t busy = now_ns(CLOCK_PROCESS_CPUTIME_ID);

    getrusage(RUSAGE_SELF, &before);
    if (c->threads == 0)
        loop_alone(c);
    else
        loop(c);
    getrusage(RUSAGE_SELF, &after);
    wall = now_ns(CLOCK_MONOTONIC) - wall;
    busy = now_ns(CLOCK_PROCESS_CPUTIME_ID) - busy;
    return (figures){
        .wall_us = (double)wall / 1000 / BATCHES,
        .busy_us = (double)busy / 1000 / BATCHES,
        .switches = (double)(after.ru_nvcsw - before.ru_nvcsw) / BATCHES,
        .forced = (double)(after.ru_nivcsw - before.ru_nivcsw) / BATCHES,
    };
}

/* Nanoseconds of a take whose batch is there, and of giving it back: what the
 * loop pays at least, with all that is counted and clocked on the way. */
static double
take_ns(void)
{
    mdn_part part = {.dtype = MDN_UINT8, .ndim = 1, .shape = {8}};
    mdn_prefetcher_options options = {
        .ticket_count = READY,
        .thread_count = 1,
        .depth = READY,
        .ctx = &part,
        .fill = fill_small,
    };
    mdn_prefetcher *p;
    uint64_t at;

    filled = 0;
    if (mdn_prefetcher_start(&options, &p, NULL) != MDN_OK)
        exit(1);
    while (filled < READY)
        usleep(100);
    usleep(1000);
    at = now_ns(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < READY; i++) {
        mdn_batch *batch = NULL;

        if (mdn_prefetcher_take(p, 100, &batch, NULL) != MDN_OK)
            exit(1);
        mdn_batch_release(batch);
    }
    at = now_ns(CLOCK_THREAD_CPUTIME_ID) - at;
    mdn_prefetcher_free(p);
    return (double)at / READY;
}

/* Rounds of computing that take as long as filling a batch. */
static uint32_t
rounds_of_a_batch(void)
{
    bench_case idle = {.threads = 0};
    uint64_t at;
    double fill_ns, round_ns;

    loop_alone(&idle);
    at = now_ns(CLOCK_THREAD_CPUTIME_ID);
    loop_alone(&idle);
    fill_ns = (double)(now_ns(CLOCK_THREAD_CPUTIME_ID) - at) / BATCHES;
    at = now_ns(CLOCK_THREAD_CPUTIME_ID);
    compute(10000000);
    round_ns = (double)(now_ns(CLOCK_THREAD_CPUTIME_ID) - at) / 1e7;
    return (uint32_t)(fill_ns / round_ns);
}

static int
ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double
median(double *values)
{
    qsort(values, REPETITIONS, sizeof *values, ascending);
    return values[REPETITIONS / 2];
}

int
main(void)
{
    uint32_t batch;
    double wall[16][REPETITIONS], busy[16][REPETITIONS];
    double switches[16][REPETITIONS], forced[16][REPETITIONS];

    source = mmap(NULL, SOURCE_BYTES, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (source == MAP_FAILED || mdn_pool_new(&pool, NULL) != MDN_OK)
        return 1;
    (void)madvise(source, SOURCE_BYTES, MADV_HUGEPAGE);
    memset(source, 7, SOURCE_BYTES);
    mdn_pool_keep(pool, 40);
    batch = rounds_of_a_batch();
    {
        bench_case cases[] = {
            {"alone, loop does nothing", 0, 0, 0},
            {"1 worker, depth 4", 1, 4, 0},
            {"1 worker, depth 16", 1, 16, 0},
            {"2 workers, depth 16", 2, 16, 0},
            {"alone, loop as long as a batch", 0, 0, batch},
            {"1 worker, depth 4", 1, 4, batch},
            {"1 worker, depth 16", 1, 16, batch},
            {"2 workers, depth 16", 2, 16, batch},
            {"alone, loop twice as long", 0, 0, 2 * batch},
            {"1 worker, depth 4", 1, 4, 2 * batch},
            {"1 worker, depth 16", 1, 16, 2 * batch},
            {"2 workers, depth 16", 2, 16, 2 * batch},
        };
        int count = sizeof cases / sizeof *cases;

        for (int r = 0; r < REPETITIONS; r++)
            for (int i = 0; i < count; i++) {
                figures f = run(&cases[i]);

                wall[i][r] = f.wall_us;
                busy[i][r] = f.busy_us;
                switches[i][r] = f.switches;
                forced[i][r] = f.forced;
            }
        for (int r = 0; r < REPETITIONS; r++)
            wall[count][r] = take_ns();
        printf("a take of what is there: %.0f ns\n", median(wall[count]));
        printf("%-32s%9s%9s%10s%10s\n", "", "wall us", "busy us", "switches",
               "forced");
        for (int i = 0; i < count; i++)
            printf("%-32s%9.1f%9.1f%10.2f%10.3f\n", cases[i].name,
                   median(wall[i]), median(busy[i]), median(switches[i]),
                   median(forced[i]));
    }
    return 0;
}
