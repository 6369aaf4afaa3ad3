/* staging.c - one thread ahead of the workers.
 *
 * The tickets before ready_to are ready.  The thread goes on from there, piece
 * by piece:
 *
 *   (1) the next piece is a partition, or what of it fits the budget: halved
 *       until it does; a ticket that alone does not fit is left out
 *   (2) there must be room: few enough partitions ahead, few enough bytes
 *   (3) it is brought in, and ready_to moves behind it
 *
 * Pieces are held, in a list, until all of their tickets are done.
 *
 *     done_to <= tickets being filled < done_to + depth
 *
 * A worker waits for a ticket that is not ready only while the thread is at (1)
 * or (3), which end by themselves.  At (2) the thread waits for workers, so
 * that no worker waits for it: a ticket of a partition for which there is no
 * room is filled as it is. */
#include "prefetch/staging.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* A part of a partition that is ready. */
typedef struct piece {
    struct piece *next;
    uint64_t end; /* ticket behind it */
    uint64_t bytes;
    uint64_t partition; /* its number */
} piece;

struct mdn_staging {
    mdn_staging_options opt; /* but ahead, which is guarded */
    pid_t pid;               /* of the process that has the thread */
    pthread_t thread;
    bool is_started;
    atomic_bool stop;          /* written under the lock, like the next */
    _Atomic uint64_t ready_to; /* as in facts, for who takes no lock */
    uint64_t last_fit;         /* tickets of the last plan; the thread's */

    pthread_mutex_t lock;
    pthread_cond_t moved;  /* ready_to, is_waiting, is_over changed, or stop */
    pthread_cond_t room;   /* done_to changed, or stop */
    pthread_cond_t joined; /* the thread is gone: further closers wait */
    uint32_t ahead;        /* guarded, like all that follows */
    uint64_t done_to;
    bool is_waiting; /* the thread, for room, and it has looked since that
                        changed */
    bool is_over;    /* the thread has come to its end */
    bool is_joining, is_joined;
    piece *oldest, *newest; /* held */
    mdn_staging_facts facts;
    uint64_t done[]; /* bits of tickets done_to .. done_to + depth - 1, at
                        their number modulo the bits there are */
};

static uint64_t
now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static uint64_t
word_count(const mdn_staging_options *opt)
{
    return opt->depth / 64 + 1;
}

/* ----- pieces; the lock is held ----- */

static void
release_done(mdn_staging *s)
{
    while (s->oldest != NULL && s->oldest->end <= s->done_to) {
        piece *gone = s->oldest;

        s->oldest = gone->next;
        if (s->oldest == NULL)
            s->newest = NULL;
        s->facts.held_bytes -= gone->bytes;
        free(gone);
    }
}

static bool
has_room(const mdn_staging *s, uint64_t partition, uint64_t bytes)
{
    if (s->oldest != NULL && partition - s->oldest->partition > s->ahead)
        return false;
    return bytes <= s->opt.budget_bytes - s->facts.held_bytes;
}

static void
hold(mdn_staging *s, piece *new)
{
    if (s->newest != NULL)
        s->newest->next = new;
    else
        s->oldest = new;
    s->newest = new;
    s->facts.held_bytes += new->bytes;
    if (s->facts.held_bytes > s->facts.most_bytes)
        s->facts.most_bytes = s->facts.held_bytes;
}

static void
move_ready(mdn_staging *s, uint64_t end)
{
    s->facts.ready_to = end;
    atomic_store(&s->ready_to, end);
    release_done(s);
    pthread_cond_broadcast(&s->moved);
}

/* ----- the thread ----- */

/* (1) A plan of tickets first .. *end - 1, where *end is moved until what it
 * needs fits; not much farther than what fitted before is tried.  NULL and
 * *bytes = 0: there is nothing to bring; or too much, and *bytes is what it
 * would be. */
static void *
make_plan(mdn_staging *s, uint64_t first, uint64_t *end, uint64_t *bytes)
{
    if (*end - first > 2 * s->last_fit)
        *end = first + 2 * s->last_fit;
    for (;;) {
        void *plan = NULL;

        s->last_fit = *end - first;
        *bytes = 0;
        if (!atomic_load(&s->stop))
            plan = s->opt.plan(s->opt.ctx, first, *end, &s->stop, bytes);
        if (plan == NULL) {
            *bytes = 0;
            return NULL;
        }
        if (*bytes <= s->opt.budget_bytes)
            return plan;
        s->opt.drop(s->opt.ctx, plan);
        if (*end - first == 1)
            return NULL;
        *end = first + (*end - first) / 2;
    }
}

/* (2) False when stopped. */
static bool
wait_for_room(mdn_staging *s, uint64_t partition, uint64_t bytes)
{
    bool got;

    pthread_mutex_lock(&s->lock);
    while (!atomic_load(&s->stop) && !has_room(s, partition, bytes)) {
        s->is_waiting = true;
        pthread_cond_broadcast(&s->moved);
        pthread_cond_wait(&s->room, &s->lock);
    }
    s->is_waiting = false;
    got = !atomic_load(&s->stop);
    pthread_mutex_unlock(&s->lock);
    return got;
}

/* (3) False when stopped.  Once it is held, workers may end the piece at any
 * time. */
static bool
bring(mdn_staging *s, piece *new, void *plan)
{
    const uint64_t end = new->end, bytes = new->bytes;
    uint32_t ahead = 0;

    if (!wait_for_room(s, new->partition, bytes))
        return false;
    pthread_mutex_lock(&s->lock);
    hold(s, new);
    pthread_mutex_unlock(&s->lock);
    if (plan != NULL)
        ahead = s->opt.bring(s->opt.ctx, plan, &s->stop);
    pthread_mutex_lock(&s->lock);
    if (ahead > 0)
        s->ahead = ahead;
    s->facts.brought += bytes;
    move_ready(s, end);
    pthread_mutex_unlock(&s->lock);
    return true;
}

/* A piece, which begins at *first; that moves behind it.  False when it is
 * over.  What needs nothing is held as well, so that it is not looked at long
 * before it is used. */
static bool
stage_piece(mdn_staging *s, uint64_t *first, uint64_t partition_end,
            uint64_t partition)
{
    uint64_t end = partition_end, bytes = 0;
    piece *new = calloc(1, sizeof *new);
    bool goes_on = new != NULL && wait_for_room(s, partition, 0);
    void *plan = NULL;

    if (goes_on) {
        plan = make_plan(s, *first, &end, &bytes);
        *new = (piece){NULL, end, plan != NULL ? bytes : 0, partition};
        if (plan == NULL && bytes > 0) {
            pthread_mutex_lock(&s->lock);
            s->facts.left_count++;
            pthread_mutex_unlock(&s->lock);
        }
        goes_on = bring(s, new, plan);
    }
    if (plan != NULL)
        s->opt.drop(s->opt.ctx, plan);
    if (!goes_on)
        free(new); /* it is not held */
    *first = end;
    return goes_on;
}

/* Where to go on: what workers have done meanwhile needs nothing. */
static uint64_t
skip_done(mdn_staging *s, uint64_t first)
{
    pthread_mutex_lock(&s->lock);
    if (s->done_to > first) {
        first = s->done_to;
        move_ready(s, first);
    }
    pthread_mutex_unlock(&s->lock);
    return first;
}

static void *
work(void *arg)
{
    mdn_staging *s = arg;
    uint64_t first = 0, partition = 0, end = 0;
    bool goes_on = true;

    while (goes_on && (first = skip_done(s, first)) < s->opt.ticket_count) {
        if (first >= end) {
            end = s->opt.end(s->opt.ctx, first);
            partition++;
            assert(end > first && end <= s->opt.ticket_count);
        }
        goes_on = stage_piece(s, &first, end, partition);
    }
    pthread_mutex_lock(&s->lock);
    s->is_over = true;
    pthread_cond_broadcast(&s->moved);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ----- life cycle ----- */

static int
init_locks(mdn_staging *s)
{
    int code = pthread_mutex_init(&s->lock, NULL);

    if (code == 0)
        code = pthread_cond_init(&s->moved, NULL);
    if (code == 0)
        code = pthread_cond_init(&s->room, NULL);
    if (code == 0)
        code = pthread_cond_init(&s->joined, NULL);
    return code;
}

/* Signals are for the thread that waits in Python. */
static int
start_thread(mdn_staging *s)
{
    sigset_t all, before;
    int code;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(&s->thread, NULL, work, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    s->is_started = code == 0;
    return code;
}

mdn_status
mdn_staging_start(const mdn_staging_options *options, mdn_staging **out,
                  mdn_error *err)
{
    uint64_t size =
        sizeof(mdn_staging) + word_count(options) * sizeof(uint64_t);
    mdn_staging *s = calloc(1, size);
    int code;

    assert(options->ahead >= 1 && options->depth >= 1);
    *out = NULL;
    if (s == NULL)
        return mdn_fail_nomem(err, size);
    s->opt = *options;
    s->ahead = options->ahead;
    s->last_fit = options->ticket_count / 2 + 1;
    s->pid = getpid();
    atomic_init(&s->stop, false);
    code = init_locks(s); /* fails on no system we know: EAGAIN, ENOMEM */
    if (code != 0) {
        free(s);
        return mdn_fail_errno(err, code, "reading ahead: no lock");
    }
    code = start_thread(s);
    if (code != 0) {
        mdn_staging_free(s);
        return mdn_fail_errno(err, code, "reading ahead: no thread");
    }
    *out = s;
    return MDN_OK;
}

void
mdn_staging_close(mdn_staging *s)
{
    bool mine;

    if (s->pid != getpid())
        return;
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->stop, true);
    pthread_cond_broadcast(&s->moved);
    pthread_cond_broadcast(&s->room);
    mine = !s->is_joining;
    s->is_joining = true;
    while (!mine && !s->is_joined)
        pthread_cond_wait(&s->joined, &s->lock);
    pthread_mutex_unlock(&s->lock);
    if (!mine)
        return;

    if (s->is_started)
        pthread_join(s->thread, NULL);
    pthread_mutex_lock(&s->lock);
    s->is_joined = true;
    pthread_cond_broadcast(&s->joined);
    pthread_mutex_unlock(&s->lock);
}

void
mdn_staging_free(mdn_staging *s)
{
    if (s == NULL || s->pid != getpid())
        return;
    mdn_staging_close(s);
    while (s->oldest != NULL) {
        piece *next = s->oldest->next;

        free(s->oldest);
        s->oldest = next;
    }
    pthread_cond_destroy(&s->joined);
    pthread_cond_destroy(&s->room);
    pthread_cond_destroy(&s->moved);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ----- workers ----- */

/* The lock is held. */
static bool
is_coming(const mdn_staging *s, uint64_t ticket)
{
    return ticket >= s->facts.ready_to && !s->is_waiting && !s->is_over
           && !atomic_load(&s->stop);
}

/* The lock is held: there may be room now, which the thread has to see before
 * anybody may go by what it saw last. */
static void
wake_thread(mdn_staging *s)
{
    s->is_waiting = false;
    pthread_cond_signal(&s->room);
}

void
mdn_staging_wait(mdn_staging *s, uint64_t ticket)
{
    uint64_t since;

    if (s->pid != getpid())
        return;
    pthread_mutex_lock(&s->lock);
    if (is_coming(s, ticket)) {
        since = now_ns();
        while (is_coming(s, ticket))
            pthread_cond_wait(&s->moved, &s->lock);
        s->facts.waited_ns += now_ns() - since;
    }
    pthread_mutex_unlock(&s->lock);
}

bool
mdn_staging_is_ready(const mdn_staging *s, uint64_t ticket)
{
    return ticket < atomic_load(&s->ready_to);
}

void
mdn_staging_done(mdn_staging *s, uint64_t ticket)
{
    uint64_t bits = 64 * word_count(&s->opt), before, at;

    if (s->pid != getpid())
        return;
    pthread_mutex_lock(&s->lock);
    before = s->done_to;
    assert(ticket >= before && ticket - before < bits);
    at = ticket % bits;
    s->done[at / 64] |= UINT64_C(1) << (at % 64);
    for (at = before % bits; s->done[at / 64] >> (at % 64) & 1;
         at = s->done_to % bits) {
        s->done[at / 64] &= ~(UINT64_C(1) << (at % 64));
        s->done_to++;
    }
    if (s->done_to > before) {
        release_done(s);
        wake_thread(s);
    }
    pthread_mutex_unlock(&s->lock);
}

mdn_staging_facts
mdn_staging_look(mdn_staging *s)
{
    mdn_staging_facts facts = {0};

    if (s->pid != getpid())
        return facts;
    pthread_mutex_lock(&s->lock);
    facts = s->facts;
    pthread_mutex_unlock(&s->lock);
    return facts;
}
