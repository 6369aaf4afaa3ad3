/* test_prefetch.c - the pool, the batch and the prefetcher. */
#include "check.h"

#include "base/random.h"
#include "prefetch/prefetcher.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SLICE_MS 100

/* ----- pool ----- */

static mdn_pool *
new_pool(uint32_t keep_count)
{
    mdn_pool *pool = NULL;

    CHECK(mdn_pool_new(&pool, NULL) == MDN_OK);
    mdn_pool_keep(pool, keep_count);
    return pool;
}

static mdn_block
get(mdn_pool *pool, uint64_t size)
{
    mdn_block block;

    CHECK(mdn_pool_get(pool, size, &block, NULL) == MDN_OK);
    CHECK(block.size_bytes >= size);
    CHECK((uintptr_t)block.data % MDN_ALIGNMENT == 0);
    memset(block.data, 0x5a, size);
    return block;
}

static void
a_block_that_came_back_is_handed_out_again(void)
{
    static const uint64_t sizes[] = {1, 64, 4097, 1 << 20, 5 << 20};
    mdn_pool *pool = new_pool(4);

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        mdn_block first = get(pool, sizes[i]), second;

        mdn_pool_put(pool, first);
        second = get(pool, sizes[i]);
        CHECK(second.data == first.data);
        CHECK(second.size_bytes == first.size_bytes);
        mdn_pool_put(pool, second);
    }
    mdn_pool_release(pool);
}

static void
a_block_too_small_or_far_too_large_is_not_handed_out(void)
{
    mdn_pool *pool = new_pool(4);
    mdn_block kept = get(pool, 100000), small, large;
    void *address = kept.data;

    mdn_pool_put(pool, kept);
    large = get(pool, 500000);
    small = get(pool, 10000);
    CHECK(large.data != address);
    CHECK(small.data != address);
    mdn_pool_put(pool, small);
    mdn_pool_put(pool, large);
    mdn_pool_release(pool);
}

static void
a_full_pool_frees_its_oldest_block(void)
{
    mdn_pool *pool = new_pool(2);
    mdn_block blocks[3], again[2];

    for (int i = 0; i < 3; i++)
        blocks[i] = get(pool, 1000);
    for (int i = 0; i < 3; i++)
        mdn_pool_put(pool, blocks[i]);
    again[0] = get(pool, 1000);
    again[1] = get(pool, 1000);
    CHECK(again[0].data == blocks[2].data);
    CHECK(again[1].data == blocks[1].data);
    mdn_pool_put(pool, again[0]);
    mdn_pool_put(pool, again[1]);
    mdn_pool_release(pool);
}

static void
a_closed_pool_keeps_nothing_but_still_serves(void)
{
    mdn_pool *pool = new_pool(2);
    mdn_block block = get(pool, 3 << 20);

    mdn_pool_put(pool, get(pool, 100));
    mdn_pool_close(pool);
    mdn_pool_put(pool, block); /* freed: a leak would be reported */
    mdn_pool_put(pool, get(pool, 100));
    mdn_pool_put(pool, (mdn_block){0});
    mdn_pool_release(pool);
}

static void
a_block_beyond_all_memory_is_refused(void)
{
    mdn_pool *pool = new_pool(1);
    mdn_block block = {.size_bytes = 1};
    mdn_error err;

    CHECK(mdn_pool_get(pool, UINT64_MAX, &block, &err) == MDN_NOMEM);
    CHECK(block.data == NULL && block.size_bytes == 0);
    CHECK(mdn_pool_get(pool, UINT64_MAX / 4, &block, &err) == MDN_NOMEM);
    mdn_pool_release(pool);
}

/* Memory from outside: the sanitizers would report it if the pool freed it. */
static _Alignas(MDN_ALIGNMENT) uint8_t outside[4][102400];

static void
lend(mdn_pool *pool, int index, uint64_t size)
{
    CHECK(mdn_pool_lend(pool, outside[index], size, NULL) == MDN_OK);
}

static void
lent_memory_is_handed_out_first_and_never_freed(void)
{
    mdn_pool *pool = new_pool(4);
    mdn_block own = get(pool, 50000), a, b, c;

    mdn_pool_put(pool, own);
    lend(pool, 0, 100000);
    lend(pool, 1, 60000);
    a = get(pool, 50000);
    CHECK(a.data == outside[1]); /* the smaller of the two that fit */
    b = get(pool, 50000);
    CHECK(b.data == outside[0]);
    CHECK(a.is_lent && b.is_lent);
    c = get(pool, 50000);
    CHECK(!c.is_lent);
    mdn_pool_put(pool, c); /* freed: nothing of its own is kept any more */
    mdn_pool_put(pool, a);
    a = get(pool, 50000);
    CHECK(a.data == outside[1]);
    mdn_pool_put(pool, a);
    mdn_pool_put(pool, b);
    mdn_pool_close(pool);
    mdn_pool_release(pool);
    memset(outside, 0, sizeof outside);
}

static void
lent_memory_far_too_large_is_not_handed_out(void)
{
    mdn_pool *pool = new_pool(4);
    mdn_block block;

    lend(pool, 0, 100000);
    block = get(pool, 10000);
    CHECK(!block.is_lent);
    mdn_pool_put(pool, block);
    mdn_pool_release(pool);
}

static void
only_idle_lent_memory_can_be_reclaimed(void)
{
    mdn_pool *pool = new_pool(4);
    mdn_block block;

    lend(pool, 0, 100000);
    lend(pool, 1, 50000);
    lend(pool, 2, 100000);
    block = get(pool, 40000);
    CHECK(block.data == outside[1]);
    CHECK(mdn_pool_reclaim(pool, outside[0]));
    CHECK(!mdn_pool_reclaim(pool, outside[1]));
    mdn_pool_close(pool);
    mdn_pool_put(pool, block);
    CHECK(mdn_pool_reclaim(pool, outside[1]));
    block = get(pool, 40000); /* nothing of that size is lent any more */
    CHECK(!block.is_lent);
    mdn_pool_put(pool, block);
    CHECK(mdn_pool_reclaim(pool, outside[2]));
    mdn_pool_release(pool);
}

static void
memory_that_is_not_aligned_is_not_borrowed(void)
{
    mdn_pool *pool = new_pool(1);

    CHECK(mdn_pool_lend(pool, outside[0] + 8, 1000, NULL) == MDN_INVALID);
    CHECK(mdn_pool_lend(pool, outside[0], 0, NULL) == MDN_INVALID);
    for (int i = 0; i < 100; i++) /* the list grows */
        CHECK(mdn_pool_lend(pool, outside[0] + 64 * i, 64, NULL) == MDN_OK);
    for (int i = 0; i < 100; i++)
        CHECK(mdn_pool_reclaim(pool, outside[0] + 64 * i));
    mdn_pool_release(pool);
}

/* ----- batch ----- */

static void
parts_are_aligned_and_apart(void)
{
    mdn_pool *pool = new_pool(1);
    mdn_part parts[] = {
        {.dtype = MDN_UINT64, .ndim = 1, .shape = {7}},
        {.dtype = MDN_FLOAT32, .ndim = 2, .shape = {7, 13}},
        {.dtype = MDN_BOOL, .ndim = 3, .shape = {7, 0, 3}},
        {.dtype = MDN_COMPLEX128, .ndim = 1, .shape = {7}},
    };
    static const uint64_t sizes[] = {56, 364, 0, 112};
    mdn_batch *batch = NULL;
    uint64_t before = 0;

    CHECK(mdn_batch_new(pool, parts, 4, &batch, NULL) == MDN_OK);
    CHECK(mdn_batch_part_count(batch) == 4);
    for (uint32_t i = 0; i < 4; i++) {
        const mdn_part *part = mdn_batch_part(batch, i);
        uint64_t at = (uint64_t)(uintptr_t)part->data;

        CHECK(mdn_part_size(part) == sizes[i]);
        CHECK(at % MDN_ALIGNMENT == 0);
        CHECK(at >= before);
        memset(part->data, (int)i, sizes[i]);
        before = at + sizes[i];
    }
    for (uint32_t i = 0; i < 4; i++)
        for (uint64_t j = 0; j < sizes[i]; j++)
            CHECK(((uint8_t *)mdn_batch_part(batch, i)->data)[j] == i);
    mdn_batch_release(batch);
    mdn_pool_release(pool);
}

static void
payloads_get_their_memory_later(void)
{
    mdn_pool *pool = new_pool(4);
    mdn_part parts[] = {
        {.dtype = MDN_UINT8, .ndim = 1, .shape = {MDN_LATER}},
        {.dtype = MDN_INT64, .ndim = 1, .shape = {3}},
        {.dtype = MDN_UINT8, .ndim = 1, .shape = {MDN_LATER}},
    };
    mdn_batch *batch = NULL;

    CHECK(mdn_batch_new(pool, parts, 3, &batch, NULL) == MDN_OK);
    CHECK(mdn_batch_part(batch, 0)->data == NULL);
    CHECK(mdn_batch_allot(batch, 0, UINT64_MAX - 3, NULL) == MDN_NOMEM);
    CHECK(mdn_batch_part(batch, 0)->data == NULL);
    CHECK(mdn_batch_allot(batch, 0, 0, NULL) == MDN_OK);
    CHECK(mdn_batch_allot(batch, 2, 5000, NULL) == MDN_OK);
    CHECK(mdn_batch_part(batch, 0)->data != NULL);
    CHECK(mdn_part_size(mdn_batch_part(batch, 0)) == 0);
    CHECK(mdn_part_size(mdn_batch_part(batch, 2)) == 5000);
    memset(mdn_batch_part(batch, 2)->data, 1, 5000);
    mdn_batch_release(batch);
    mdn_pool_release(pool);
}

static void
sizes_beyond_counting_are_refused(void)
{
    mdn_pool *pool = new_pool(1);
    mdn_part wide[] = {
        {.dtype = MDN_INT64, .ndim = 2, .shape = {1u << 31, 1ull << 33}},
    };
    mdn_part many[] = {
        {.dtype = MDN_INT8, .ndim = 1, .shape = {UINT64_MAX - 100}},
        {.dtype = MDN_INT8, .ndim = 1, .shape = {200}},
    };
    mdn_batch *batch = NULL;

    CHECK(mdn_batch_new(pool, wide, 1, &batch, NULL) == MDN_NOMEM);
    CHECK(batch == NULL);
    CHECK(mdn_batch_new(pool, many, 2, &batch, NULL) == MDN_NOMEM);
    CHECK(batch == NULL);
    mdn_pool_release(pool);
}

static uint64_t
hash(const mdn_batch *batch)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < mdn_batch_part_count(batch); i++) {
        const mdn_part *part = mdn_batch_part(batch, i);
        const uint8_t *data = part->data;

        for (uint64_t j = 0; j < mdn_part_size(part); j++)
            sum = mdn_mix(sum + data[j] + 1);
    }
    return sum;
}

typedef struct {
    mdn_batch *batch;
    uint64_t hash;
} kept;

static void *
check_and_release(void *arg)
{
    kept *k = arg;

    CHECK(hash(k->batch) == k->hash);
    mdn_batch_release(k->batch);
    return NULL;
}

static void
a_batch_outlives_the_pool_it_came_from(void)
{
    mdn_part part = {.dtype = MDN_UINT64, .ndim = 1, .shape = {100}};
    mdn_pool *pool = new_pool(4);
    mdn_batch *batch = NULL;
    pthread_t threads[3];
    kept k;

    CHECK(mdn_batch_new(pool, &part, 1, &batch, NULL) == MDN_OK);
    memset(mdn_batch_part(batch, 0)->data, 0x3c, 800);
    k = (kept){.batch = batch, .hash = hash(batch)};
    mdn_pool_close(pool);
    mdn_pool_release(pool);
    for (int i = 0; i < 3; i++) {
        if (i > 0)
            mdn_batch_retain(batch);
    }
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, check_and_release, &k) == 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

static void
lent_memory_comes_back_when_the_last_batch_goes(void)
{
    mdn_part part = {.dtype = MDN_UINT8, .ndim = 1, .shape = {90000}};
    mdn_pool *pool = new_pool(4), *ours = mdn_pool_retain(pool);
    mdn_batch *batch = NULL;
    pthread_t thread;
    kept k;

    lend(pool, 3, 100000);
    CHECK(mdn_batch_new(pool, &part, 1, &batch, NULL) == MDN_OK);
    CHECK(mdn_batch_part(batch, 0)->data == outside[3]);
    memset(outside[3], 7, 90000);
    k = (kept){.batch = batch, .hash = hash(batch)};
    mdn_pool_close(pool);
    mdn_pool_release(pool); /* the loader is gone, the lender is not */
    CHECK(!mdn_pool_reclaim(ours, outside[3]));
    CHECK(pthread_create(&thread, NULL, check_and_release, &k) == 0);
    pthread_join(thread, NULL);
    CHECK(mdn_pool_reclaim(ours, outside[3]));
    mdn_pool_release(ours);
}

static void
a_forked_child_leaves_lent_memory_alone(void)
{
    mdn_pool *pool = new_pool(4);
    mdn_block block, other;
    int status = -1;
    pid_t child;

    lend(pool, 0, 50000);
    lend(pool, 1, 50000);
    block = get(pool, 40000);
    child = fork();
    if (child == 0) {
        bool right =
            mdn_pool_get(pool, 40000, &other, NULL) == MDN_OK && !other.is_lent;

        mdn_pool_put(pool, other);
        mdn_pool_put(pool, block);
        right = right && !mdn_pool_reclaim(pool, outside[1])
                && mdn_pool_lend(pool, outside[2], 64, NULL) == MDN_CLOSED;
        mdn_pool_release(pool);
        _exit(right ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    mdn_pool_put(pool, block);
    mdn_pool_release(pool);
}

typedef struct {
    mdn_pool *pool;
    pthread_barrier_t *barrier;
} borrower;

static void *
borrow_often(void *arg)
{
    borrower *b = arg;

    pthread_barrier_wait(b->barrier);
    for (int i = 0; i < 2000; i++) {
        mdn_block block = {0};

        CHECK(mdn_pool_get(b->pool, 60000, &block, NULL) == MDN_OK);
        memset(block.data, i, 64); /* two users of one block would race */
        mdn_pool_put(b->pool, block);
    }
    return NULL;
}

static void
threads_never_share_lent_memory(void)
{
    mdn_pool *pool = new_pool(4);
    pthread_barrier_t barrier;
    pthread_t threads[3];
    borrower b = {pool, &barrier};

    pthread_barrier_init(&barrier, NULL, 4);
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, borrow_often, &b) == 0);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 2000; i++) { /* lent and reclaimed all the time */
        lend(pool, i % 4, 100000);
        while (!mdn_pool_reclaim(pool, outside[i % 4]))
            sched_yield();
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
    mdn_pool_release(pool);
}

/* ----- prefetcher ----- */

/* Fills a batch with its ticket; counts, delays and fails as told. */
typedef struct {
    mdn_pool *pool;
    uint64_t fail_at; /* UINT64_MAX: never */
    uint64_t depth;
    uint32_t delay_us; /* at most; depends on the ticket */
    uint64_t memory;   /* to ask for; 0: none is asked for */
    uint64_t stuck_at; /* a worker waits there for a helper; 0: nowhere */
    pthread_t consumer;
    mdn_prefetcher *prefetcher; /* set before the first fill */
    atomic_uint_least64_t taken;
    atomic_uint_least64_t filled;
    atomic_uint_least64_t helped; /* filled by the consumer */
    atomic_int_least64_t in_use;  /* bytes granted and not taken */
    atomic_bool is_slow; /* the consumer takes long to fill, from stuck_at on */
    atomic_bool is_at_it; /* and is filling now */
    atomic_bool window_broken;
    atomic_bool memory_broken;
    atomic_bool signal_open;
} source;

/* Some batches take more than half of the memory, a few more than all. */
static int64_t
wanted_bytes(const source *s, uint64_t ticket)
{
    uint64_t draw = mdn_mix(ticket + 77);

    if (draw % 13 == 0)
        return (int64_t)(s->memory + draw % 100);
    return (int64_t)(draw % (s->memory * 2 / 3));
}

static mdn_status
ask_for_memory(source *s, uint64_t ticket, mdn_error *err)
{
    int64_t size = wanted_bytes(s, ticket), in_use;
    mdn_status st;

    st = mdn_prefetcher_grant(s->prefetcher, ticket, (uint64_t)size, err);
    if (st != MDN_OK)
        return st;
    in_use = atomic_fetch_add(&s->in_use, size) + size;
    if (in_use > (int64_t)s->memory && in_use != size)
        s->memory_broken = true;
    return MDN_OK;
}

/* Until the consumer has filled what comes after; a helper that never comes
 * shows in s->helped. */
static void
wait_for_helper(source *s)
{
    for (int ms = 0; ms < 20000 && s->helped == 0; ms++)
        usleep(1000);
}

static mdn_status
fill(void *ctx, uint64_t ticket, mdn_batch **out, mdn_error *err)
{
    mdn_part part = {.dtype = MDN_UINT64, .ndim = 1, .shape = {64}};
    source *s = ctx;
    mdn_status st;
    sigset_t set;

    *out = NULL;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    if (pthread_equal(pthread_self(), s->consumer)) {
        s->helped++;
        if (s->is_slow && ticket >= s->stuck_at) {
            s->is_at_it = true;
            usleep(20000);
            s->is_at_it = false;
        }
    } else if (!sigismember(&set, SIGINT))
        s->signal_open = true;
    else if (s->stuck_at > 0 && ticket >= s->stuck_at)
        wait_for_helper(s);
    if (ticket > s->taken + s->depth)
        s->window_broken = true;
    if (s->delay_us > 0)
        usleep((useconds_t)(mdn_mix(ticket) % s->delay_us));
    if (ticket == s->fail_at)
        return mdn_fail(err, MDN_CORRUPT, "ticket %d", (int)ticket);
    if (s->memory > 0 && (st = ask_for_memory(s, ticket, err)) != MDN_OK)
        return st;
    st = mdn_batch_new(s->pool, &part, 1, out, err);
    if (st != MDN_OK)
        return st;
    for (int i = 0; i < 64; i++)
        ((uint64_t *)mdn_batch_part(*out, 0)->data)[i] = ticket;
    s->filled++;
    return MDN_OK;
}

static mdn_prefetcher *
start(source *s, uint64_t tickets, uint32_t threads, uint32_t depth)
{
    mdn_prefetcher_options options = {
        .ticket_count = tickets,
        .thread_count = threads,
        .depth = depth,
        .memory_bytes = s->memory,
        .ctx = s,
        .fill = fill,
    };

    s->depth = depth;
    s->consumer = pthread_self();
    CHECK(mdn_prefetcher_start(&options, &s->prefetcher, NULL) == MDN_OK);
    return s->prefetcher;
}

static mdn_status
take(mdn_prefetcher *p, mdn_batch **out, mdn_error *err)
{
    mdn_status st;

    do
        st = mdn_prefetcher_take(p, SLICE_MS, out, err);
    while (st == MDN_TIMEOUT);
    return st;
}

/* True when the next batch holds this ticket, and nothing else. */
static bool
next_is(mdn_prefetcher *p, source *s, uint64_t ticket)
{
    mdn_batch *batch = NULL;
    bool right;

    if (s->memory > 0) /* what the take sets free may be granted at once */
        s->in_use -= wanted_bytes(s, ticket);
    if (take(p, &batch, NULL) != MDN_OK || batch == NULL)
        return false;
    s->taken++;
    right = true;
    for (int i = 0; i < 64; i++)
        if (((uint64_t *)mdn_batch_part(batch, 0)->data)[i] != ticket)
            right = false;
    mdn_batch_release(batch);
    return right;
}

static void
the_order_is_the_same_for_all_threads_and_depths(void)
{
    for (uint32_t threads = 1; threads <= 4; threads++)
        for (uint32_t depth = 1; depth <= 8; depth++) {
            source s = {.pool = new_pool(depth), .delay_us = 100};
            mdn_prefetcher *p;
            mdn_batch *batch = NULL;

            s.fail_at = UINT64_MAX;
            p = start(&s, 40, threads, depth);
            for (uint64_t ticket = 0; ticket < 40; ticket++)
                CHECK(next_is(p, &s, ticket));
            CHECK(take(p, &batch, NULL) == MDN_OK && batch == NULL);
            CHECK(take(p, &batch, NULL) == MDN_OK && batch == NULL);
            CHECK(!s.window_broken);
            CHECK(!s.signal_open);
            CHECK(s.filled == 40);
            mdn_prefetcher_free(p);
            mdn_pool_release(s.pool);
        }
}

static void
nothing_at_all_ends_at_once(void)
{
    source s = {.pool = new_pool(1), .fail_at = UINT64_MAX};
    mdn_prefetcher *p = start(&s, 0, 4, 4);
    mdn_batch *batch = NULL;

    CHECK(take(p, &batch, NULL) == MDN_OK && batch == NULL);
    mdn_prefetcher_free(p);
    mdn_prefetcher_free(NULL);
    mdn_pool_release(s.pool);
}

static void
an_error_surfaces_after_exactly_the_batches_before_it(void)
{
    for (uint64_t fail_at = 0; fail_at < 12; fail_at++) {
        source s = {.pool = new_pool(1), .fail_at = fail_at, .delay_us = 200};
        mdn_prefetcher *p = start(&s, 12, 3, 4);
        mdn_batch *batch = NULL;
        mdn_error err;

        for (uint64_t ticket = 0; ticket < fail_at; ticket++)
            CHECK(next_is(p, &s, ticket));
        for (int again = 0; again < 2; again++) {
            memset(&err, 0, sizeof err);
            CHECK(take(p, &batch, &err) == MDN_CORRUPT);
            CHECK(batch == NULL);
            CHECK(err.status == MDN_CORRUPT);
            CHECK(atoi(err.message + strlen("ticket ")) == (int)fail_at);
        }
        mdn_prefetcher_free(p);
        mdn_pool_release(s.pool);
    }
}

static void
an_abandoned_prefetcher_releases_everything(void)
{
    /* A leak of a batch or a thread would be reported by the sanitizers. */
    for (uint64_t taken = 0; taken < 10; taken++) {
        source s = {.pool = new_pool(2), .fail_at = UINT64_MAX};
        mdn_prefetcher *p = start(&s, 1000, 4, 3);

        for (uint64_t ticket = 0; ticket < taken; ticket++)
            CHECK(next_is(p, &s, ticket));
        mdn_prefetcher_free(p);
        CHECK(s.filled <= taken + 3);
        mdn_pool_release(s.pool);
    }
}

static void
after_close_every_take_is_cancelled(void)
{
    source s = {.pool = new_pool(2), .fail_at = UINT64_MAX};
    mdn_prefetcher *p = start(&s, 100, 2, 4);
    mdn_batch *batch = NULL;

    CHECK(next_is(p, &s, 0));
    mdn_prefetcher_close(p);
    mdn_prefetcher_close(p);
    CHECK(take(p, &batch, NULL) == MDN_CANCELLED);
    CHECK(batch == NULL);
    mdn_prefetcher_free(p);
    mdn_pool_release(s.pool);
}

static void
a_wait_ends_with_its_time(void)
{
    source s = {.pool = new_pool(1), .fail_at = UINT64_MAX};
    struct timespec before, after;
    mdn_prefetcher *p;
    mdn_batch *batch = NULL;
    int timeouts = 0;

    s.delay_us = 1000000; /* mix(0) = 0: ticket 0 at once, others later */
    p = start(&s, 2, 1, 2);
    CHECK(next_is(p, &s, 0));
    clock_gettime(CLOCK_MONOTONIC, &before);
    while (mdn_prefetcher_take(p, 1, &batch, NULL) == MDN_TIMEOUT)
        timeouts++;
    clock_gettime(CLOCK_MONOTONIC, &after);
    CHECK(timeouts > 0);
    CHECK(batch != NULL);
    mdn_batch_release(batch);
    mdn_prefetcher_free(p);
    mdn_pool_release(s.pool);
}

typedef struct {
    mdn_prefetcher *prefetcher;
    pthread_barrier_t *barrier;
    mdn_status status;
    uint64_t count, sum;
} actor;

static void *
close_it(void *arg)
{
    actor *a = arg;

    pthread_barrier_wait(a->barrier);
    mdn_prefetcher_close(a->prefetcher);
    return NULL;
}

static void *
take_until_the_end(void *arg)
{
    actor *a = arg;

    pthread_barrier_wait(a->barrier);
    for (;;) {
        mdn_batch *batch = NULL;

        a->status = take(a->prefetcher, &batch, NULL);
        if (a->status != MDN_OK || batch == NULL)
            return NULL;
        a->count++;
        a->sum += *(uint64_t *)mdn_batch_part(batch, 0)->data;
        mdn_batch_release(batch);
    }
}

static void
many_may_close_while_others_wait(void)
{
    for (int round = 0; round < 20; round++) {
        source s = {.pool = new_pool(2), .fail_at = UINT64_MAX};
        actor actors[4];
        pthread_t threads[4];
        pthread_barrier_t barrier;
        mdn_prefetcher *p;

        s.delay_us = 500;
        p = start(&s, 1000000, 2, 4);
        pthread_barrier_init(&barrier, NULL, 4);
        for (int i = 0; i < 4; i++) {
            actors[i] = (actor){.prefetcher = p, .barrier = &barrier};
            CHECK(pthread_create(&threads[i], NULL,
                                 i < 2 ? close_it : take_until_the_end,
                                 &actors[i])
                  == 0);
        }
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        CHECK(actors[2].status == MDN_CANCELLED);
        CHECK(actors[3].status == MDN_CANCELLED);
        mdn_prefetcher_free(p);
        pthread_barrier_destroy(&barrier);
        mdn_pool_release(s.pool);
    }
}

static void
each_batch_goes_to_one_of_many_consumers(void)
{
    source s = {.pool = new_pool(2), .fail_at = UINT64_MAX};
    actor actors[3];
    pthread_t threads[3];
    pthread_barrier_t barrier;
    mdn_prefetcher *p = start(&s, 500, 3, 5);
    uint64_t count = 0, sum = 0;

    pthread_barrier_init(&barrier, NULL, 3);
    for (int i = 0; i < 3; i++) {
        actors[i] = (actor){.prefetcher = p, .barrier = &barrier};
        CHECK(pthread_create(&threads[i], NULL, take_until_the_end, &actors[i])
              == 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        CHECK(actors[i].status == MDN_OK);
        count += actors[i].count;
        sum += actors[i].sum;
    }
    CHECK(count == 500);
    CHECK(sum == 500 * 499 / 2);
    mdn_prefetcher_free(p);
    pthread_barrier_destroy(&barrier);
    mdn_pool_release(s.pool);
}

/* ----- who waited for whom ----- */

static uint64_t
now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void
what_was_taken_is_counted_and_no_time_counts_twice(void)
{
    source s = {.pool = new_pool(4), .fail_at = UINT64_MAX, .delay_us = 300};
    uint64_t began = now_ns(), wall;
    mdn_prefetcher *p = start(&s, 50, 2, 4);
    mdn_batch *batch = NULL;
    mdn_waits waits;

    for (uint64_t ticket = 0; ticket < 50; ticket++) {
        CHECK(next_is(p, &s, ticket));
        waits = mdn_prefetcher_waits(p);
        CHECK(waits.batch_count == ticket + 1);
        CHECK(waits.row_count == 64 * (ticket + 1));
        CHECK(waits.byte_count == 64 * 8 * (ticket + 1));
        if (ticket % 8 == 0)
            usleep(500);
    }
    CHECK(take(p, &batch, NULL) == MDN_OK && batch == NULL);
    mdn_prefetcher_close(p);
    wall = now_ns() - began;
    waits = mdn_prefetcher_waits(p);
    CHECK(waits.batch_count == 50);
    CHECK(waits.waited_ns + waits.held_ns <= wall);
    CHECK(waits.held_ns >= 7 * 500 * 1000); /* usleep never sleeps less */
    CHECK(waits.filling_ns > 0);
    CHECK(waits.filling_ns + waits.idle_ns <= 3 * wall); /* one may help */
    usleep(1000);
    CHECK(take(p, &batch, NULL) == MDN_CANCELLED);
    CHECK(mdn_prefetcher_waits(p).held_ns == waits.held_ns); /* it was over */
    mdn_prefetcher_free(p);
    mdn_pool_release(s.pool);
}

static void
workers_without_room_are_idle(void)
{
    source s = {.pool = new_pool(2), .fail_at = UINT64_MAX};
    mdn_prefetcher *p = start(&s, 5000, 1, 1);
    uint64_t ticket = 0;

    /* However late a worker comes, one day it finds no room. */
    while (ticket < 5000 && mdn_prefetcher_waits(p).idle_ns == 0) {
        usleep(200);
        CHECK(next_is(p, &s, ticket++));
    }
    CHECK(ticket < 5000);
    mdn_prefetcher_free(p);
    mdn_pool_release(s.pool);
}

static void
a_consumer_fills_what_nobody_has_claimed(void)
{
    source s = {.pool = new_pool(4), .fail_at = UINT64_MAX, .stuck_at = 50};
    mdn_prefetcher *p = start(&s, 100, 1, 4);

    for (uint64_t ticket = 0; ticket < 100; ticket++)
        CHECK(next_is(p, &s, ticket));
    CHECK(s.helped > 0);
    CHECK(!s.window_broken);
    mdn_prefetcher_free(p);
    mdn_pool_release(s.pool);
}

static void *
close_while_it_fills(void *arg)
{
    source *s = arg;

    for (int ms = 0; ms < 20000 && !s->is_at_it; ms++)
        usleep(1000);
    CHECK(s->is_at_it);
    mdn_prefetcher_close(s->prefetcher);
    CHECK(!s->is_at_it);
    return NULL;
}

static void
close_waits_for_a_consumer_that_fills(void)
{
    source s = {.pool = new_pool(4), .fail_at = UINT64_MAX, .stuck_at = 50};
    mdn_prefetcher *p;
    pthread_t closer;
    uint64_t ticket = 0;

    s.is_slow = true;
    p = start(&s, 1000000, 1, 4);
    CHECK(pthread_create(&closer, NULL, close_while_it_fills, &s) == 0);
    while (next_is(p, &s, ticket))
        ticket++;
    CHECK(ticket >= 50 && ticket < 1000000);
    pthread_join(closer, NULL);
    mdn_prefetcher_free(p); /* a batch left behind would be reported */
    mdn_pool_release(s.pool);
}

/* ----- memory ----- */

static void
memory_that_was_granted_stays_within_its_bound(void)
{
    for (uint32_t threads = 1; threads <= 4; threads++)
        for (uint32_t pause = 0; pause < 2; pause++) {
            source s = {.pool = new_pool(8), .memory = 1000};
            mdn_prefetcher *p;

            s.fail_at = UINT64_MAX;
            s.delay_us = pause * 100;
            p = start(&s, 300, threads, 8);
            for (uint64_t ticket = 0; ticket < 300; ticket++) {
                if (ticket % 7 == 0)
                    usleep(300); /* so that workers come to the bound */
                CHECK(next_is(p, &s, ticket));
            }
            CHECK(!s.memory_broken);
            CHECK(!s.window_broken);
            CHECK(s.in_use == 0);
            mdn_prefetcher_free(p);
            mdn_pool_release(s.pool);
        }
}

static void
a_failure_ends_every_wait_for_memory(void)
{
    for (uint64_t fail_at = 0; fail_at < 30; fail_at++) {
        source s = {.pool = new_pool(8), .memory = 500, .fail_at = fail_at};
        mdn_batch *batch = NULL;
        mdn_prefetcher *p;
        mdn_error err;

        s.delay_us = 50;
        p = start(&s, 30, 4, 8);
        for (uint64_t ticket = 0; ticket < fail_at; ticket++)
            CHECK(next_is(p, &s, ticket));
        CHECK(take(p, &batch, &err) == MDN_CORRUPT);
        CHECK(atoi(err.message + strlen("ticket ")) == (int)fail_at);
        mdn_prefetcher_free(p); /* nobody waits for a grant any more */
        mdn_pool_release(s.pool);
    }
}

static void
close_ends_every_wait_for_memory(void)
{
    for (uint64_t taken = 0; taken < 20; taken++) {
        source s = {.pool = new_pool(8), .memory = 300};
        mdn_prefetcher *p;

        s.fail_at = UINT64_MAX;
        p = start(&s, 1000, 4, 8);
        for (uint64_t ticket = 0; ticket < taken; ticket++)
            CHECK(next_is(p, &s, ticket));
        mdn_prefetcher_free(p);
        mdn_pool_release(s.pool);
    }
}

/* A wake-up that was lost is a hang: the alarm of main ends it. */
static void
no_wake_up_is_lost_at_any_pace(void)
{
    for (uint64_t round = 0; round < 150; round++) {
        uint64_t draw = mdn_mix(round + 1000);
        source s = {.pool = new_pool(4), .fail_at = UINT64_MAX};
        uint32_t depth = 1 + (uint32_t)(draw % 9);
        mdn_prefetcher *p;

        s.memory = draw % 3 == 0 ? 400 : 0;
        s.delay_us = draw % 5 == 0 ? 400 : (uint32_t)(draw % 2) * 20;
        p = start(&s, 200, 1 + (uint32_t)(draw >> 20) % 4, depth);
        for (uint64_t ticket = 0; ticket < 200; ticket++) {
            uint64_t pace = mdn_mix(draw + ticket) % 40;

            if (pace < 3) /* mostly as fast as it can, sometimes not */
                usleep((useconds_t)(pace * 100));
            CHECK(next_is(p, &s, ticket));
        }
        CHECK(!s.window_broken && !s.memory_broken);
        mdn_prefetcher_free(p);
        mdn_pool_release(s.pool);
    }
}

/* What a child can see; its exit status tells the parent. */
static int
in_child(mdn_prefetcher *p, mdn_batch *batch, uint64_t expected)
{
    mdn_batch *more = NULL;
    mdn_error err;

    if (mdn_prefetcher_take(p, SLICE_MS, &more, &err) != MDN_CLOSED)
        return 1;
    if (more != NULL || strstr(err.message, "fork") == NULL)
        return 2;
    if (mdn_prefetcher_waits(p).batch_count != 1)
        return 4;
    mdn_prefetcher_close(p);
    mdn_prefetcher_free(p);
    if (hash(batch) != expected)
        return 3;
    mdn_batch_release(batch);
    return 0;
}

static void
a_forked_child_is_refused_and_does_not_hang(void)
{
    source s = {.pool = new_pool(2), .fail_at = UINT64_MAX};
    mdn_prefetcher *p = start(&s, 100, 2, 4);
    mdn_batch *batch = NULL;
    int status = -1;
    pid_t pid;

    CHECK(take(p, &batch, NULL) == MDN_OK);
    pid = fork();
    if (pid == 0) {
        alarm(20); /* a hang is a failure */
        _exit(in_child(p, batch, hash(batch)));
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    mdn_batch_release(batch);
    mdn_prefetcher_free(p);
    mdn_pool_release(s.pool);
}

int
main(void)
{
    alarm(300); /* a hang is a failure */
    RUN(a_block_that_came_back_is_handed_out_again);
    RUN(a_block_too_small_or_far_too_large_is_not_handed_out);
    RUN(a_full_pool_frees_its_oldest_block);
    RUN(a_closed_pool_keeps_nothing_but_still_serves);
    RUN(a_block_beyond_all_memory_is_refused);
    RUN(lent_memory_is_handed_out_first_and_never_freed);
    RUN(lent_memory_far_too_large_is_not_handed_out);
    RUN(only_idle_lent_memory_can_be_reclaimed);
    RUN(memory_that_is_not_aligned_is_not_borrowed);
    RUN(parts_are_aligned_and_apart);
    RUN(payloads_get_their_memory_later);
    RUN(sizes_beyond_counting_are_refused);
    RUN(a_batch_outlives_the_pool_it_came_from);
    RUN(lent_memory_comes_back_when_the_last_batch_goes);
    RUN(a_forked_child_leaves_lent_memory_alone);
    RUN(threads_never_share_lent_memory);
    RUN(the_order_is_the_same_for_all_threads_and_depths);
    RUN(nothing_at_all_ends_at_once);
    RUN(an_error_surfaces_after_exactly_the_batches_before_it);
    RUN(an_abandoned_prefetcher_releases_everything);
    RUN(after_close_every_take_is_cancelled);
    RUN(a_wait_ends_with_its_time);
    RUN(many_may_close_while_others_wait);
    RUN(each_batch_goes_to_one_of_many_consumers);
    RUN(what_was_taken_is_counted_and_no_time_counts_twice);
    RUN(workers_without_room_are_idle);
    RUN(a_consumer_fills_what_nobody_has_claimed);
    RUN(close_waits_for_a_consumer_that_fills);
    RUN(memory_that_was_granted_stays_within_its_bound);
    RUN(a_failure_ends_every_wait_for_memory);
    RUN(close_ends_every_wait_for_memory);
    RUN(no_wake_up_is_lost_at_any_pace);
    RUN(a_forked_child_is_refused_and_does_not_hang);
    return check_report("test_prefetch");
}
