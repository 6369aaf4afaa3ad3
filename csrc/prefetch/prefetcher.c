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
 * filled, so that no further claim is needed to deliver exactly those.
 *
 * To put a thread to sleep and to wake it takes some ten microseconds, and on
 * a busy machine the turns of others.  A batch of 1,024 small records is filled
 * in forty.  While filling is brief
 *
 *     - a consumer whose batch is not there fills one itself, the next that
 *       nobody has claimed, and sleeps only when all are claimed
 *     - a worker that found the window full sleeps until half of it is free
 *
 * and always: a condition is signalled when somebody sleeps on it, and after
 * the lock was released.
 *
 * Memory is granted in ticket order.  So what was granted and not taken is
 * before the batch that asks; if that is the next one, it is nothing, and the
 * batch is granted: no wait for memory is for ever. */
#include "prefetch/prefetcher.h"

#include "base/clock.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#define BRIEF_NS 250000
#define NOWHERE UINT64_MAX

typedef struct {
    bool full;
    mdn_status status;
    mdn_batch *batch;       /* one reference when status is MDN_OK */
    uint64_t size_bytes;    /* likewise: of its parts */
    uint64_t granted_bytes; /* from the claim on, like the next */
    uint64_t idle_ns;       /* that filling it waited for memory */
    mdn_error error;        /* when status is not MDN_OK */
} slot;

/* What threads sleep for, and who is to be woken. */
enum {
    WAKE_ROOM = 1,    /* a worker, when the window has moved */
    WAKE_WORKERS = 2, /* all of them: nothing is left to claim */
    WAKE_READY = 4,   /* consumers, when it is decided what the next take is */
    WAKE_GRANTED = 8, /* who waits for memory */
};

struct mdn_prefetcher {
    mdn_prefetcher_options opt;
    pid_t pid; /* of the process that has the threads */

    pthread_mutex_t lock;
    pthread_cond_t room; /* see WAKE_... */
    pthread_cond_t ready;
    pthread_cond_t granted;
    pthread_cond_t joined;  /* nobody fills any more: closers wait */
    uint32_t room_sleepers; /* guarded, like all that follows */
    uint32_t ready_sleepers;
    uint32_t granted_sleepers;
    uint32_t wake; /* WAKE_... to be sent when the lock is released */
    uint64_t next_claim;
    uint64_t next_take;
    uint64_t next_grant;    /* <= next_claim */
    uint64_t granted_bytes; /* of tickets next_take .. next_grant-1 */
    uint64_t failed_at;     /* lowest ticket that failed; or NOWHERE */
    uint64_t mean_ns;       /* of the last few fills; 0: none yet */
    uint64_t left_at_ns;    /* when the last take returned */
    mdn_waits waits;
    bool stop;      /* closing: nothing is claimed or taken any more */
    bool over;      /* a take has said that it was the last */
    bool is_helped; /* a consumer is filling */
    bool is_joining;
    bool is_joined;
    uint32_t started_count; /* threads[0 .. started_count-1] exist */
    pthread_t *threads;
    slot slots[]; /* opt.depth of them */
};

/* ----- the lock ----- */

static void
send_wakes(mdn_prefetcher *p, uint32_t wake)
{
    if (wake & WAKE_WORKERS)
        pthread_cond_broadcast(&p->room);
    else if (wake & WAKE_ROOM)
        pthread_cond_signal(&p->room);
    if (wake & WAKE_READY)
        pthread_cond_broadcast(&p->ready);
    if (wake & WAKE_GRANTED)
        pthread_cond_broadcast(&p->granted);
}

/* Whoever is woken finds the lock free. */
static void
unlock(mdn_prefetcher *p)
{
    uint32_t wake = p->wake;

    p->wake = 0;
    pthread_mutex_unlock(&p->lock);
    if (wake != 0)
        send_wakes(p, wake);
}

/* Sleep with the lock held.  False when the time (0: any) is over. */
static bool
sleep_on(mdn_prefetcher *p, pthread_cond_t *condition, uint32_t *sleepers,
         uint64_t until_ns)
{
    struct timespec until = {
        .tv_sec = (time_t)(until_ns / 1000000000u),
        .tv_nsec = (long)(until_ns % 1000000000u),
    };
    int code;

    send_wakes(p, p->wake);
    p->wake = 0;
    ++*sleepers;
    if (until_ns == 0)
        code = pthread_cond_wait(condition, &p->lock);
    else
        code = pthread_cond_timedwait(condition, &p->lock, &until);
    --*sleepers;
    return code == 0;
}

/* ----- the window; the lock is held ----- */

static slot *
slot_of(mdn_prefetcher *p, uint64_t ticket)
{
    return &p->slots[ticket % p->opt.depth];
}

static uint64_t
room(const mdn_prefetcher *p)
{
    return p->next_take + p->opt.depth - p->next_claim;
}

static bool
is_brief(const mdn_prefetcher *p)
{
    return p->mean_ns > 0 && p->mean_ns < BRIEF_NS;
}

/* How much room a worker that sleeps is woken for. */
static uint64_t
worthwhile_room(const mdn_prefetcher *p)
{
    return is_brief(p) ? (p->opt.depth + UINT64_C(1)) / 2 : 1;
}

static bool
anything_to_claim(const mdn_prefetcher *p)
{
    return !p->stop && p->failed_at == NOWHERE
           && p->next_claim < p->opt.ticket_count;
}

static uint64_t
claim(mdn_prefetcher *p)
{
    uint64_t ticket = p->next_claim++;
    slot *own = slot_of(p, ticket);

    own->granted_bytes = 0;
    own->idle_ns = 0;
    if (p->next_claim == p->opt.ticket_count && p->room_sleepers > 0)
        p->wake |= WAKE_WORKERS;
    return ticket;
}

/* True when waiting longer changes nothing. */
static bool
is_decided(const mdn_prefetcher *p)
{
    return p->stop || p->next_take == p->opt.ticket_count
           || p->slots[p->next_take % p->opt.depth].full;
}

/* ----- filling ----- */

static uint64_t
size_of(const mdn_batch *batch)
{
    uint64_t size = 0;

    for (uint32_t i = 0; i < mdn_batch_part_count(batch); i++)
        size += mdn_part_size(mdn_batch_part(batch, i));
    return size;
}

/* One fill whose thread had to wait for its core is no reason to call all of
 * them long. */
static void
learn(mdn_prefetcher *p, uint64_t fill_ns)
{
    if (p->mean_ns > 0 && fill_ns > 4 * p->mean_ns)
        fill_ns = 4 * p->mean_ns;
    if (p->mean_ns == 0)
        p->mean_ns = fill_ns;
    else
        p->mean_ns = (7 * p->mean_ns + fill_ns) / 8;
    p->mean_ns += p->mean_ns == 0;
}

static void
publish(mdn_prefetcher *p, uint64_t ticket, uint64_t ns)
{
    slot *own = slot_of(p, ticket);

    own->full = true;
    if (own->status != MDN_OK && ticket < p->failed_at) {
        p->failed_at = ticket;
        p->wake |= WAKE_WORKERS | WAKE_GRANTED;
    }
    assert(own->status != MDN_OK || p->opt.memory_bytes == 0
           || p->next_grant > ticket);
    if (ticket == p->next_take && p->ready_sleepers > 0)
        p->wake |= WAKE_READY;
    p->waits.idle_ns += own->idle_ns;
    p->waits.filling_ns += ns - own->idle_ns;
    learn(p, ns - own->idle_ns);
}

/* The lock is held before and after.  *at_ns is when the thread became free,
 * and is again.  Only the filler touches the slot of a claimed ticket. */
static void
fill_claimed(mdn_prefetcher *p, uint64_t ticket, uint64_t *at_ns)
{
    slot *own = slot_of(p, ticket);
    uint64_t now;

    unlock(p);
    own->batch = NULL;
    own->status = p->opt.fill(p->opt.ctx, ticket, &own->batch, &own->error);
    assert((own->status == MDN_OK) == (own->batch != NULL));
    own->size_bytes = own->batch != NULL ? size_of(own->batch) : 0;
    now = mdn_steady_ns();
    pthread_mutex_lock(&p->lock);
    publish(p, ticket, now - *at_ns);
    *at_ns = now;
}

static void
wait_for_room(mdn_prefetcher *p, uint64_t *at_ns)
{
    uint64_t now;

    while (anything_to_claim(p) && room(p) < worthwhile_room(p))
        sleep_on(p, &p->room, &p->room_sleepers, 0);
    now = mdn_steady_ns();
    p->waits.idle_ns += now - *at_ns;
    *at_ns = now;
}

static void *
work(void *arg)
{
    mdn_prefetcher *p = arg;
    uint64_t at_ns = mdn_steady_ns();

    pthread_mutex_lock(&p->lock);
    while (anything_to_claim(p)) {
        if (room(p) > 0)
            fill_claimed(p, claim(p), &at_ns);
        else
            wait_for_room(p, &at_ns);
    }
    unlock(p);
    return NULL;
}

/* ----- memory ----- */

static bool
fits(const mdn_prefetcher *p, uint64_t ticket, uint64_t size_bytes)
{
    uint64_t all = p->opt.memory_bytes;

    if (p->next_grant != ticket)
        return false;
    return p->granted_bytes == 0
           || (size_bytes <= all && p->granted_bytes <= all - size_bytes);
}

static bool
is_unwanted(const mdn_prefetcher *p, uint64_t ticket)
{
    return p->stop || ticket > p->failed_at;
}

static void
wait_for_grant(mdn_prefetcher *p, uint64_t ticket, uint64_t size_bytes)
{
    uint64_t from = mdn_steady_ns();

    while (!is_unwanted(p, ticket) && !fits(p, ticket, size_bytes))
        sleep_on(p, &p->granted, &p->granted_sleepers, 0);
    slot_of(p, ticket)->idle_ns = mdn_steady_ns() - from;
}

mdn_status
mdn_prefetcher_grant(mdn_prefetcher *p, uint64_t ticket, uint64_t size_bytes,
                     mdn_error *err)
{
    bool granted;

    if (p->opt.memory_bytes == 0)
        return MDN_OK;
    pthread_mutex_lock(&p->lock);
    if (!fits(p, ticket, size_bytes))
        wait_for_grant(p, ticket, size_bytes);
    granted = !is_unwanted(p, ticket);
    if (granted) {
        slot_of(p, ticket)->granted_bytes = size_bytes;
        p->granted_bytes += size_bytes;
        p->next_grant = ticket + 1;
        if (p->granted_sleepers > 0)
            p->wake |= WAKE_GRANTED;
    }
    unlock(p);
    if (!granted)
        return mdn_fail(err, MDN_CANCELLED, "nobody takes batch %llu any more",
                        (unsigned long long)ticket);
    return MDN_OK;
}

/* ----- life cycle ----- */

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
        code = pthread_cond_init(&p->granted, &attr);
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
    p->failed_at = NOWHERE;
    p->left_at_ns = mdn_steady_ns();
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
    *out = p;
    code = start_threads(p, count);
    if (code != 0) {
        uint32_t started = p->started_count;

        *out = NULL;
        mdn_prefetcher_free(p);
        return mdn_fail_errno(err, code,
                              "prefetch: only %u of %u threads could be "
                              "started",
                              started, count);
    }
    return MDN_OK;
}

/* The lock is held.  Release what nobody took. */
static void
empty_slots(mdn_prefetcher *p)
{
    for (uint32_t i = 0; i < p->opt.depth; i++) {
        if (p->slots[i].full && p->slots[i].status == MDN_OK)
            mdn_batch_release(p->slots[i].batch);
        p->slots[i].full = false;
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
    p->wake |= WAKE_WORKERS | WAKE_READY | WAKE_GRANTED;
    mine = !p->is_joining;
    p->is_joining = true;
    while (!mine && !p->is_joined)
        pthread_cond_wait(&p->joined, &p->lock);
    unlock(p);
    if (!mine)
        return;

    for (uint32_t i = 0; i < p->started_count; i++)
        pthread_join(p->threads[i], NULL);
    pthread_mutex_lock(&p->lock);
    while (p->is_helped)
        pthread_cond_wait(&p->joined, &p->lock);
    empty_slots(p);
    p->is_joined = true;
    pthread_cond_broadcast(&p->joined);
    unlock(p);
}

void
mdn_prefetcher_free(mdn_prefetcher *p)
{
    if (p == NULL || p->pid != getpid())
        return;
    mdn_prefetcher_close(p);
    pthread_cond_destroy(&p->joined);
    pthread_cond_destroy(&p->granted);
    pthread_cond_destroy(&p->ready);
    pthread_cond_destroy(&p->room);
    pthread_mutex_destroy(&p->lock);
    free(p->threads);
    free(p);
}

/* ----- the consumer ----- */

/* One at a time, so that fill knows how many threads it has at most.  A helper
 * must not wait for memory, which it alone would set free. */
static bool
may_help(const mdn_prefetcher *p)
{
    return is_brief(p) && !p->is_helped && anything_to_claim(p) && room(p) > 0
           && (p->opt.may_help == NULL
               || p->opt.may_help(p->opt.ctx, p->next_claim))
           && (p->opt.memory_bytes == 0 || p->next_claim == p->next_take);
}

static void
help(mdn_prefetcher *p, uint64_t *at_ns)
{
    p->is_helped = true;
    fill_claimed(p, claim(p), at_ns);
    p->is_helped = false;
    if (p->stop)
        pthread_cond_broadcast(&p->joined);
}

/* Until it is decided, or this time.  *at_ns is when that was. */
static void
await(mdn_prefetcher *p, uint64_t until_ns, uint64_t *at_ns)
{
    while (!is_decided(p) && *at_ns < until_ns) {
        if (may_help(p)) {
            help(p, at_ns);
            continue;
        }
        sleep_on(p, &p->ready, &p->ready_sleepers, until_ns);
        *at_ns = mdn_steady_ns();
    }
}

/* It is decided.  Hand over the next batch, and make room. */
static mdn_status
hand_over(mdn_prefetcher *p, mdn_batch **out, mdn_error *err)
{
    slot *next = slot_of(p, p->next_take);

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
    next->full = false;
    p->next_take++;
    p->granted_bytes -= next->granted_bytes;
    p->waits.batch_count++;
    p->waits.row_count += mdn_batch_part(next->batch, 0)->shape[0];
    p->waits.byte_count += next->size_bytes;
    if (p->room_sleepers > 0 && room(p) >= worthwhile_room(p))
        p->wake |= WAKE_ROOM;
    if (p->granted_sleepers > 0)
        p->wake |= WAKE_GRANTED;
    return MDN_OK;
}

/* Several may take at once, so that one can come before another has left. */
static void
note_take(mdn_prefetcher *p, uint64_t came_ns, uint64_t left_ns, bool over)
{
    if (p->over)
        return;
    if (came_ns > p->left_at_ns)
        p->waits.held_ns += came_ns - p->left_at_ns;
    p->waits.waited_ns += left_ns - came_ns;
    p->left_at_ns = left_ns;
    p->over = over;
}

mdn_status
mdn_prefetcher_take(mdn_prefetcher *p, uint32_t timeout_ms, mdn_batch **out,
                    mdn_error *err)
{
    uint64_t came_ns = mdn_steady_ns(), at_ns = came_ns;
    mdn_status st = MDN_TIMEOUT;

    *out = NULL;
    if (p->pid != getpid())
        return mdn_fail(err, MDN_CLOSED,
                        "this iteration was begun in process %ld; its threads "
                        "did not follow the fork: iterate over the loader anew "
                        "in this process",
                        (long)p->pid);
    pthread_mutex_lock(&p->lock);
    await(p, came_ns + timeout_ms * UINT64_C(1000000), &at_ns);
    if (is_decided(p))
        st = hand_over(p, out, err);
    note_take(p, came_ns, at_ns, *out == NULL && st != MDN_TIMEOUT);
    if (p->ready_sleepers > 0 && is_decided(p))
        p->wake |= WAKE_READY; /* a second consumer */
    unlock(p);
    return st;
}

mdn_waits
mdn_prefetcher_waits(mdn_prefetcher *p)
{
    mdn_waits waits;

    if (p->pid != getpid()) /* the lock may be held for ever */
        return p->waits;
    pthread_mutex_lock(&p->lock);
    waits = p->waits;
    unlock(p);
    return waits;
}
