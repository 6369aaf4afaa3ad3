/* test_staging.c - partitions made ready ahead of workers. */
#include "check.h"

#include "base/random.h"
#include "prefetch/prefetcher.h"
#include "prefetch/staging.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TICKETS UINT64_C(1000)
#define SLICE_MS 100

/* ----- what there is to be made ready ----- */

/* Ticket t needs size_of(t) bytes; partitions have `partition` tickets. */
typedef struct {
    uint64_t partition;
    uint64_t seed;
    bool ends_only_when_stopped; /* bring */
    uint32_t ahead_later;        /* what bring answers */
    bool has_nothing;            /* plan is NULL for each second piece */
    mdn_staging *staging;
    _Atomic uint64_t plans, drops, brings;
    _Atomic uint64_t brought_to;
    atomic_bool is_bringing;
    atomic_bool is_out_of_order;
    atomic_bool is_filled[TICKETS];
    _Atomic uint64_t unready; /* tickets filled before they were ready */
    mdn_pool *pool;
} story;

typedef struct {
    uint64_t first, end;
} plan;

static uint64_t
size_of(const story *s, uint64_t ticket)
{
    return 1 + mdn_mix(s->seed + ticket) % 100;
}

static uint64_t
end_of(void *ctx, uint64_t first)
{
    const story *s = ctx;
    uint64_t end = (first / s->partition + 1) * s->partition;

    return end < TICKETS ? end : TICKETS;
}

static void *
make_plan(void *ctx, uint64_t first, uint64_t end, const atomic_bool *stop,
          uint64_t *bytes)
{
    story *s = ctx;
    plan *p;

    (void)stop;
    CHECK(first < end && end <= TICKETS);
    if (s->has_nothing && first / s->partition % 2 == 0)
        return NULL;
    p = malloc(sizeof *p);
    *p = (plan){first, end};
    for (uint64_t t = first; t < end; t++)
        *bytes += size_of(s, t);
    s->plans++;
    return p;
}

static uint32_t
bring(void *ctx, void *made, const atomic_bool *stop)
{
    story *s = ctx;
    plan *p = made;

    s->brings++;
    if (p->first < s->brought_to)
        s->is_out_of_order = true;
    s->is_bringing = true;
    while (s->ends_only_when_stopped && !atomic_load(stop))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    s->is_bringing = false;
    s->brought_to = p->end;
    return s->ahead_later;
}

static void
drop(void *ctx, void *made)
{
    ((story *)ctx)->drops++;
    free(made);
}

static mdn_staging *
start(story *s, uint32_t ahead, uint32_t depth, uint64_t budget)
{
    mdn_staging_options options = {
        .ticket_count = TICKETS,
        .ahead = ahead,
        .depth = depth,
        .budget_bytes = budget,
        .ctx = s,
        .end = end_of,
        .plan = make_plan,
        .bring = bring,
        .drop = drop,
    };
    mdn_error err;

    if (mdn_staging_start(&options, &s->staging, &err) != MDN_OK) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    return s->staging;
}

static void
end_story(story *s)
{
    mdn_staging_free(s->staging);
    CHECK(s->plans == s->drops);
    CHECK(!s->is_out_of_order);
}

static void
pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

/* Until it stands still there, which a fault would never let it. */
static bool
comes_to(mdn_staging *staging, uint64_t ticket)
{
    for (int i = 0; i < 10000; i++) {
        if (mdn_staging_look(staging).ready_to == ticket) {
            pause_ms(20);
            return mdn_staging_look(staging).ready_to == ticket;
        }
        pause_ms(1);
    }
    return false;
}

/* ----- one thread ----- */

static void
partitions_are_ready_so_many_ahead_and_no_more(void)
{
    for (uint32_t ahead = 1; ahead < 4; ahead++) {
        story s = {.partition = 10};
        mdn_staging *staging = start(&s, ahead, 8, UINT64_MAX);

        for (uint64_t t = 0; t < 40; t++) {
            uint64_t in_use = t / 10;

            CHECK(comes_to(staging, (in_use + ahead + 1) * 10));
            mdn_staging_wait(staging, t); /* returns: it is ready */
            mdn_staging_done(staging, t);
        }
        end_story(&s);
    }
}

static void
ahead_can_be_changed_meanwhile(void)
{
    story s = {.partition = 10, .ahead_later = 5};
    mdn_staging *staging = start(&s, 1, 8, UINT64_MAX);

    CHECK(comes_to(staging, 60));
    end_story(&s);
}

static void
no_more_is_held_than_the_budget(void)
{
    static const uint64_t budgets[] = {100, 150, 700, 5000};

    for (int b = 0; b < 4; b++) {
        story s = {.partition = 40, .seed = (uint64_t)b};
        mdn_staging *staging = start(&s, 3, 4, budgets[b]);
        mdn_staging_facts facts;

        for (uint64_t t = 0; t < TICKETS; t++) {
            mdn_staging_wait(staging, t);
            CHECK(mdn_staging_look(staging).held_bytes <= budgets[b]);
            mdn_staging_done(staging, t);
        }
        facts = mdn_staging_look(staging);
        CHECK(facts.most_bytes <= budgets[b] && facts.most_bytes > 0);
        CHECK(facts.left_count == 0);
        CHECK(comes_to(staging, TICKETS));
        CHECK(mdn_staging_look(staging).held_bytes == 0);
        end_story(&s);
    }
}

static void
a_ticket_beyond_the_budget_is_left_and_the_rest_goes_on(void)
{
    story s = {.partition = 16};
    mdn_staging *staging = start(&s, 1, 4, 50);
    uint64_t large = 0;
    mdn_staging_facts facts;

    for (uint64_t t = 0; t < TICKETS; t++) {
        large += size_of(&s, t) > 50;
        mdn_staging_wait(staging, t);
        while (mdn_staging_look(staging).ready_to <= t)
            pause_ms(1); /* so that none is passed over */
        mdn_staging_done(staging, t);
    }
    facts = mdn_staging_look(staging);
    CHECK(facts.left_count == large && large > 0);
    CHECK(facts.most_bytes <= 50 && facts.brought > 0);
    end_story(&s);
}

static void
what_needs_nothing_is_not_brought(void)
{
    story s = {.partition = 10, .has_nothing = true};
    mdn_staging *staging = start(&s, 1, 4, UINT64_MAX);

    CHECK(comes_to(staging, 20)); /* not farther, although it were nothing */
    for (uint64_t t = 0; t < TICKETS; t++) {
        while (mdn_staging_look(staging).ready_to <= t)
            pause_ms(1);
        mdn_staging_done(staging, t);
    }
    CHECK(s.brings == TICKETS / 20);
    end_story(&s);
}

/* The consumer is faster: what is done needs nothing any more. */
static void
what_is_done_already_is_passed_over(void)
{
    story s = {.partition = 10, .ends_only_when_stopped = true};
    mdn_staging *staging = start(&s, 1, 4, UINT64_MAX);

    while (!s.is_bringing)
        pause_ms(1);
    for (uint64_t t = 0; t < TICKETS; t++)
        mdn_staging_done(staging, t);
    mdn_staging_close(staging);
    CHECK(s.brings == 1);
    CHECK(mdn_staging_look(staging).held_bytes == 0);
    end_story(&s);
}

/* ----- waiting ----- */

typedef struct {
    mdn_staging *staging;
    uint64_t ticket;
    atomic_bool is_back;
} waiter;

static void *
wait_in_thread(void *arg)
{
    waiter *w = arg;

    mdn_staging_wait(w->staging, w->ticket);
    w->is_back = true;
    return NULL;
}

static void *
close_in_thread(void *arg)
{
    mdn_staging_close(arg);
    return NULL;
}

static void
close_wakes_who_waits_from_any_thread_any_number_of_times(void)
{
    story s = {.partition = 10, .ends_only_when_stopped = true};
    waiter w[3] = {{.ticket = 0}, {.ticket = 5}, {.ticket = 500}};
    pthread_t waiters[3], closers[3];

    start(&s, 1, 1000, UINT64_MAX);
    while (!s.is_bringing)
        pause_ms(1);
    for (int i = 0; i < 3; i++) {
        w[i].staging = s.staging;
        pthread_create(&waiters[i], NULL, wait_in_thread, &w[i]);
    }
    pause_ms(20);
    for (int i = 0; i < 3; i++)
        CHECK(!w[i].is_back);
    for (int i = 0; i < 3; i++)
        pthread_create(&closers[i], NULL, close_in_thread, s.staging);
    for (int i = 0; i < 3; i++) {
        pthread_join(closers[i], NULL);
        pthread_join(waiters[i], NULL);
    }
    mdn_staging_close(s.staging);
    mdn_staging_wait(s.staging, 999); /* returns */
    CHECK(mdn_staging_look(s.staging).waited_ns > 0);
    end_story(&s);
}

/* The thread waits for room, and a worker for it: neither would come on. */
static void
nobody_waits_for_a_partition_without_room(void)
{
    story s = {.partition = 10};
    mdn_staging *staging = start(&s, 1, 1000, UINT64_MAX);

    mdn_staging_wait(staging, 15);
    mdn_staging_wait(staging, 700);
    CHECK(mdn_staging_look(staging).ready_to == 20);
    end_story(&s);
}

static void
a_forked_child_waits_for_nothing(void)
{
    story s = {.partition = 10, .ends_only_when_stopped = true};
    int status = -1;
    pid_t child;

    start(&s, 1, 4, UINT64_MAX);
    while (!s.is_bringing)
        pause_ms(1);
    child = fork();
    if (child == 0) {
        alarm(20);
        mdn_staging_wait(s.staging, 0);
        mdn_staging_done(s.staging, 0);
        mdn_staging_close(s.staging);
        mdn_staging_free(s.staging);
        _exit(mdn_staging_look(s.staging).ready_to == 0 ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    end_story(&s);
}

/* ----- in front of a prefetcher ----- */

static mdn_status
fill(void *ctx, uint64_t ticket, mdn_batch **out, mdn_error *err)
{
    mdn_part part = {.dtype = MDN_UINT64, .ndim = 1, .shape = {1}};
    story *s = ctx;
    mdn_status st;

    mdn_staging_wait(s->staging, ticket);
    s->unready += ticket >= mdn_staging_look(s->staging).ready_to;
    s->is_filled[ticket] = true;
    st = mdn_batch_new(s->pool, &part, 1, out, err);
    mdn_staging_done(s->staging, ticket);
    return st;
}

/* Partitions of any size, before any number of workers; left early or not. */
static void
every_ticket_is_filled_whatever_the_settings(void)
{
    for (uint64_t seed = 0; seed < 120; seed++) {
        story s = {.partition = 1 + mdn_mix(seed) % 70, .seed = seed};
        mdn_prefetcher_options options = {
            .ticket_count = TICKETS,
            .thread_count = 1 + (uint32_t)(mdn_mix(seed + 1000) % 6),
            .depth = 1 + (uint32_t)(mdn_mix(seed + 2000) % 90),
            .ctx = &s,
            .fill = fill};
        uint64_t budget = 60 + mdn_mix(seed + 3000) % 4000, taken = 0;
        uint64_t leave = seed % 3 == 0 ? mdn_mix(seed) % TICKETS : TICKETS;
        mdn_prefetcher *prefetcher = NULL;
        mdn_batch *batch = NULL;
        mdn_status st = MDN_OK;

        CHECK(mdn_pool_new(&s.pool, NULL) == MDN_OK);
        start(&s, 1 + (uint32_t)(seed % 4), options.depth, budget);
        CHECK(mdn_prefetcher_start(&options, &prefetcher, NULL) == MDN_OK);
        while (taken < leave && (st == MDN_OK || st == MDN_TIMEOUT)) {
            st = mdn_prefetcher_take(prefetcher, SLICE_MS, &batch, NULL);
            if (st == MDN_OK) {
                CHECK(batch != NULL && s.is_filled[taken]);
                mdn_batch_release(batch);
                taken++;
            }
        }
        CHECK(taken == leave);
        CHECK(mdn_staging_look(s.staging).most_bytes <= budget);
        mdn_staging_close(s.staging);
        mdn_prefetcher_free(prefetcher);
        end_story(&s);
        mdn_pool_release(s.pool);
    }
}

/* With room for what the window holds, all is ready when it is filled. */
static void
with_room_enough_nothing_is_filled_before_it_is_ready(void)
{
    story s = {.partition = 20};
    mdn_prefetcher_options options = {.ticket_count = TICKETS,
                                      .thread_count = 3,
                                      .depth = 8,
                                      .ctx = &s,
                                      .fill = fill};
    mdn_prefetcher *prefetcher = NULL;
    mdn_batch *batch = NULL;
    mdn_status st;

    CHECK(mdn_pool_new(&s.pool, NULL) == MDN_OK);
    start(&s, 2, options.depth, UINT64_MAX);
    CHECK(mdn_prefetcher_start(&options, &prefetcher, NULL) == MDN_OK);
    do {
        st = mdn_prefetcher_take(prefetcher, SLICE_MS, &batch, NULL);
        if (st == MDN_OK)
            mdn_batch_release(batch);
    } while (st == MDN_TIMEOUT || batch != NULL);
    CHECK(st == MDN_OK);
    CHECK(s.unready == 0);
    mdn_staging_close(s.staging);
    mdn_prefetcher_free(prefetcher);
    end_story(&s);
    mdn_pool_release(s.pool);
}

int
main(void)
{
    RUN(partitions_are_ready_so_many_ahead_and_no_more);
    RUN(ahead_can_be_changed_meanwhile);
    RUN(no_more_is_held_than_the_budget);
    RUN(a_ticket_beyond_the_budget_is_left_and_the_rest_goes_on);
    RUN(what_needs_nothing_is_not_brought);
    RUN(what_is_done_already_is_passed_over);
    RUN(close_wakes_who_waits_from_any_thread_any_number_of_times);
    RUN(nobody_waits_for_a_partition_without_room);
    RUN(a_forked_child_waits_for_nothing);
    RUN(every_ticket_is_filled_whatever_the_settings);
    RUN(with_room_enough_nothing_is_filled_before_it_is_ready);
    return check_report("test_staging");
}
