/* prefetcher.c - ordered, bounded hand-off from many workers to one consumer.
 *
 * Tickets number the batches 0, 1, 2, ...  A worker claims the next ticket,
 * fills it with no lock held, and parks the outcome, a batch or an error, in
 * slot ticket % depth.  The consumer empties slot next_take % depth.
 *
 *     next_take <= next_claim <= next_take + depth        (the window)
 *
 * A ticket names its slot, so neither the order of the batches nor the batch
 * at which an error surfaces depends on the timing of threads.  Tickets are
 * claimed in order: when ticket k fails, all before it are filled or being
 * filled, so that no further claim is needed to deliver exactly those. */
#include "prefetch/prefetcher.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    bool full;
    mdn_status status;
    mdn_batch *batch; /* one reference when status is MDN_OK */
    mdn_error error;  /* otherwise */
} slot;

struct mdn_prefetcher {
    mdn_prefetcher_options opt;
    pid_t pid; /* of the process that has the threads */

    pthread_mutex_t lock;
    pthread_cond_t room;   /* the window moved, or stop: workers wait */
    pthread_cond_t ready;  /* a slot was filled, or stop: consumers wait */
    pthread_cond_t joined; /* the workers are gone: further closers wait */
    uint64_t next_claim;
    uint64_t next_take;
    bool stop;   /* closing: nothing is claimed or taken any more */
    bool failed; /* some ticket failed: nothing is claimed any more */
    bool is_joining;
    bool is_joined;
    uint32_t started_count; /* threads[0 .. started_count-1] exist */
    pthread_t *threads;
    slot slots[]; /* opt.depth of them */
};

/* ----- workers ----- */

static bool
claim(mdn_prefetcher *p, uint64_t *ticket)
{
    bool got;

    pthread_mutex_lock(&p->lock);
    while (!p->stop && !p->failed && p->next_claim < p->opt.ticket_count
           && p->next_claim == p->next_take + p->opt.depth)
        pthread_cond_wait(&p->room, &p->lock);
    got = !p->stop && !p->failed && p->next_claim < p->opt.ticket_count;
    if (got)
        *ticket = p->next_claim++;
    pthread_mutex_unlock(&p->lock);
    return got;
}

static void
publish(mdn_prefetcher *p, uint64_t ticket, const slot *outcome)
{
    pthread_mutex_lock(&p->lock);
    p->slots[ticket % p->opt.depth] = *outcome;
    if (outcome->status != MDN_OK) {
        p->failed = true;
        pthread_cond_broadcast(&p->room); /* nothing to wait for any more */
    }
    if (ticket == p->next_take)
        pthread_cond_broadcast(&p->ready);
    pthread_mutex_unlock(&p->lock);
}

static void *
work(void *arg)
{
    mdn_prefetcher *p = arg;
    uint64_t ticket;

    while (claim(p, &ticket)) {
        slot outcome = {.full = true};

        outcome.status =
            p->opt.fill(p->opt.ctx, ticket, &outcome.batch, &outcome.error);
        assert((outcome.status == MDN_OK) == (outcome.batch != NULL));
        publish(p, ticket, &outcome);
    }
    return NULL;
}

/* Signals are for the thread that waits in Python: workers block them all, so
 * that a handler never runs on one. */
static int
start_threads(mdn_prefetcher *p, uint32_t count)
{
    sigset_t all, before;
    int code = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (code == 0 && p->started_count < count) {
        code = pthread_create(&p->threads[p->started_count], NULL, work, p);
        if (code == 0)
            p->started_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

/* ----- life cycle ----- */

static uint32_t
useful_threads(const mdn_prefetcher_options *opt)
{
    uint64_t count = opt->thread_count;

    if (count > opt->depth)
        count = opt->depth;
    if (count > opt->ticket_count)
        count = opt->ticket_count;
    return (uint32_t)count;
}

/* Conditions wait by the monotonic clock, so that setting the time of day
 * neither shortens nor prolongs a wait. */
static int
init_conditions(mdn_prefetcher *p)
{
    pthread_condattr_t attr;
    int code = pthread_condattr_init(&attr);

    if (code != 0)
        return code;
    code = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (code == 0)
        code = pthread_mutex_init(&p->lock, NULL);
    if (code == 0)
        code = pthread_cond_init(&p->room, &attr);
    if (code == 0)
        code = pthread_cond_init(&p->ready, &attr);
    if (code == 0)
        code = pthread_cond_init(&p->joined, &attr);
    pthread_condattr_destroy(&attr);
    return code;
}

mdn_status
mdn_prefetcher_start(const mdn_prefetcher_options *options,
                     mdn_prefetcher **out, mdn_error *err)
{
    uint32_t count = useful_threads(options);
    uint64_t size = sizeof(mdn_prefetcher) + options->depth * sizeof(slot);
    mdn_prefetcher *p;
    int code;

    assert(options->thread_count >= 1 && options->depth >= 1);
    *out = NULL;
    p = calloc(1, size);
    if (p == NULL)
        return mdn_fail_nomem(err, size);
    p->opt = *options;
    p->pid = getpid();
    p->threads = calloc(count + 1, sizeof *p->threads);
    if (p->threads == NULL) {
        free(p);
        return mdn_fail_nomem(err, (count + 1) * sizeof *p->threads);
    }
    code = init_conditions(p); /* fails on no system we know: EAGAIN, ENOMEM */
    if (code != 0) {
        free(p->threads);
        free(p);
        return mdn_fail_errno(err, code, "prefetch: no lock");
    }
    code = start_threads(p, count);
    if (code != 0) {
        uint32_t started = p->started_count;

        mdn_prefetcher_free(p);
        return mdn_fail_errno(err, code,
                              "prefetch: only %u of %u threads could be "
                              "started",
                              started, count);
    }
    *out = p;
    return MDN_OK;
}

/* The lock is held.  Release what nobody took. */
static void
empty_slots(mdn_prefetcher *p)
{
    for (uint32_t i = 0; i < p->opt.depth; i++) {
        if (p->slots[i].full && p->slots[i].status == MDN_OK)
            mdn_batch_release(p->slots[i].batch);
        p->slots[i] = (slot){0};
    }
}

void
mdn_prefetcher_close(mdn_prefetcher *p)
{
    bool mine;

    if (p->pid != getpid())
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->room);
    pthread_cond_broadcast(&p->ready);
    mine = !p->is_joining;
    p->is_joining = true;
    while (!mine && !p->is_joined)
        pthread_cond_wait(&p->joined, &p->lock);
    pthread_mutex_unlock(&p->lock);
    if (!mine)
        return;

    for (uint32_t i = 0; i < p->started_count; i++)
        pthread_join(p->threads[i], NULL);
    pthread_mutex_lock(&p->lock);
    empty_slots(p);
    p->is_joined = true;
    pthread_cond_broadcast(&p->joined);
    pthread_mutex_unlock(&p->lock);
}

void
mdn_prefetcher_free(mdn_prefetcher *p)
{
    if (p == NULL || p->pid != getpid())
        return;
    mdn_prefetcher_close(p);
    pthread_cond_destroy(&p->joined);
    pthread_cond_destroy(&p->ready);
    pthread_cond_destroy(&p->room);
    pthread_mutex_destroy(&p->lock);
    free(p->threads);
    free(p);
}

/* ----- the consumer ----- */

static struct timespec
deadline_after(uint32_t timeout_ms)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += timeout_ms / 1000;
    at.tv_nsec += (timeout_ms % 1000) * 1000000L;
    if (at.tv_nsec >= 1000000000L) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000L;
    }
    return at;
}

/* The lock is held.  True when waiting longer changes nothing. */
static bool
is_decided(const mdn_prefetcher *p)
{
    return p->stop || p->next_take == p->opt.ticket_count
           || p->slots[p->next_take % p->opt.depth].full;
}

/* The lock is held and it is decided. */
static mdn_status
take_locked(mdn_prefetcher *p, mdn_batch **out, mdn_error *err)
{
    slot *next = &p->slots[p->next_take % p->opt.depth];

    if (p->stop)
        return mdn_fail(err, MDN_CANCELLED, "the iteration was closed");
    if (p->next_take == p->opt.ticket_count)
        return MDN_OK; /* *out is NULL: the end */
    if (next->status != MDN_OK) {
        if (err != NULL)
            *err = next->error; /* stays, for whoever asks again */
        return next->status;
    }
    *out = next->batch;
    *next = (slot){0};
    p->next_take++;
    pthread_cond_signal(&p->room);
    if (is_decided(p))
        pthread_cond_signal(&p->ready); /* a second consumer may wait */
    return MDN_OK;
}

mdn_status
mdn_prefetcher_take(mdn_prefetcher *p, uint32_t timeout_ms, mdn_batch **out,
                    mdn_error *err)
{
    struct timespec deadline = deadline_after(timeout_ms);
    mdn_status st = MDN_TIMEOUT;
    int code = 0;

    *out = NULL;
    if (p->pid != getpid())
        return mdn_fail(err, MDN_CLOSED,
                        "this iteration was begun in process %ld; its threads "
                        "did not follow the fork: iterate over the loader anew "
                        "in this process",
                        (long)p->pid);
    pthread_mutex_lock(&p->lock);
    while (!is_decided(p) && code == 0)
        code = pthread_cond_timedwait(&p->ready, &p->lock, &deadline);
    if (is_decided(p))
        st = take_locked(p, out, err);
    pthread_mutex_unlock(&p->lock);
    return st;
}
