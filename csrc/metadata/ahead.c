/* ahead.c - one thread that reads, one that looks.
 *
 *     slots  ... | held | ready | being filled | ...
 *                  ^ given_back    ^ filled
 *
 *     given_back <= taken <= filled <= given_back + SLOTS
 *
 * The thread fills slot filled % SLOTS with a block, the end or an error.  The
 * reader's client takes slot taken % SLOTS and gives back the one it held
 * before.  Behind the end and behind an error nothing is read until they were
 * taken and somebody asks again: the thread is joined, and a new one begins.
 *
 * What a block points to is copied into its slot, unless its stream can hold
 * as many blocks; columns that are in place are touched all along, so that they
 * are in memory. */
#include "metadata/ahead.h"

#include "base/clock.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOTS 3
#define WAIT_NS UINT64_C(50000000) /* between two pulses */
#define SLOW_NS 2                  /* per sample, where columns are in place */
#define SLOW_BLOCKS (SLOTS + 1) /* in a row: some are the first of an array */
#define FAULT_NUMBERS 8192      /* that a fault brings in: 64 KiB */

typedef struct {
    mdn_status status;
    mdn_error err;
    mdn_metadata_block block;
    uint64_t *keys, *positions; /* owned, like the next; room for each */
    int64_t *timestamps, *labels;
    uint64_t room;
} slot;

/* A stream that is read, by its thread or without one. */
typedef struct {
    const mdn_pulse *client; /* borrowed, or NULL */
    mdn_pulse pulse;         /* of inner */
    pid_t pid;               /* of the process that has the thread */
    pthread_t thread;
    bool threaded;
    atomic_bool stop; /* written under the lock */

    mdn_metadata_stream *inner; /* owned; the thread's, like the next */
    bool holds;                 /* its blocks */
    mdn_metadata_block unkept;  /* was read, but there was no memory to keep */

    pthread_mutex_t lock;
    pthread_cond_t ready;        /* filled changed */
    pthread_cond_t room;         /* given_back changed, or stop */
    uint64_t filled, given_back; /* guarded */
    uint64_t taken;              /* the client's */
    slot slots[SLOTS];           /* whose they are: see above */
} reading;

typedef struct {
    mdn_metadata_stream base; /* first: a stream is an ahead_stream */
    mdn_metadata_opening opening;
    uint64_t first, block_count;
    const mdn_pulse *pulse; /* borrowed, or NULL */
    mdn_beat beat;
    bool wanted;       /* to read ahead, */
    uint32_t slow;     /* blocks in a row that took long */
    uint64_t position; /* behind what was handed out */
    reading *reading;  /* owned; NULL: to be opened at position */
} ahead_stream;

/* ---- the thread ---- */

/* The pulse of inner: the client's where its own thread reads. */
static mdn_status
ask(void *ctx, mdn_error *err)
{
    reading *r = ctx;

    if (!r->threaded)
        return mdn_pulse_ask(r->client, err);
    if (atomic_load_explicit(&r->stop, memory_order_relaxed))
        return mdn_fail(err, MDN_CANCELLED, "nobody reads on");
    return MDN_OK;
}

static bool
make_room(slot *s, uint64_t count)
{
    void *columns[4];
    bool ok = true;

    if (count <= s->room)
        return true;
    for (int i = 0; i < 4; i++)
        ok &= (columns[i] = malloc(count * sizeof(uint64_t))) != NULL;
    for (int i = 0; i < 4 && !ok; i++)
        free(columns[i]);
    if (!ok)
        return false;
    free(s->keys);
    free(s->positions);
    free(s->timestamps);
    free(s->labels);
    s->keys = columns[0];
    s->positions = columns[1];
    s->timestamps = columns[2];
    s->labels = columns[3];
    s->room = count;
    return true;
}

static void
touch(const void *column, uint64_t count)
{
    const volatile uint64_t *numbers = column;

    for (uint64_t i = 0; numbers != NULL && i < count; i += FAULT_NUMBERS)
        (void)numbers[i];
}

/* Let what a block points to be in memory. */
static void
touch_block(const reading *r, const mdn_metadata_block *block)
{
    if (!r->inner->in_place)
        return;
    touch(block->timestamps, block->count);
    touch(block->labels, block->count);
}

static const void *
copy(void *to, const void *column, uint64_t count)
{
    return column ? memcpy(to, column, count * sizeof(uint64_t)) : NULL;
}

static mdn_status
keep(const reading *r, slot *s, const mdn_metadata_block *block, mdn_error *err)
{
    uint64_t n = block->count;

    s->block = *block;
    if (r->holds || n == 0)
        return MDN_OK;
    if (!make_room(s, n)) {
        s->block.count = 0;
        return mdn_fail_nomem(err, 4 * n * sizeof(uint64_t));
    }
    s->block.keys = copy(s->keys, block->keys, n);
    s->block.timestamps = copy(s->timestamps, block->timestamps, n);
    s->block.labels = copy(s->labels, block->labels, n);
    s->block.positions = copy(s->positions, block->positions, n);
    return MDN_OK;
}

static void
fill(reading *r, slot *s)
{
    s->block.count = 0;
    s->status = MDN_OK;
    if (r->unkept.count == 0)
        s->status = r->inner->next(r->inner, &r->unkept, &s->err);
    if (s->status != MDN_OK) {
        r->unkept.count = 0;
        return;
    }
    touch_block(r, &r->unkept);
    s->status = keep(r, s, &r->unkept, &s->err);
    if (s->status == MDN_OK)
        r->unkept.count = 0;
}

/* A slot to fill; NULL: no more. */
static slot *
claim(reading *r)
{
    slot *s;

    pthread_mutex_lock(&r->lock);
    while (r->filled == r->given_back + SLOTS && !atomic_load(&r->stop))
        pthread_cond_wait(&r->room, &r->lock);
    s = atomic_load(&r->stop) ? NULL : &r->slots[r->filled % SLOTS];
    pthread_mutex_unlock(&r->lock);
    return s;
}

static void *
run(void *argument)
{
    reading *r = argument;
    bool more = true;
    slot *s;

    while (more && (s = claim(r)) != NULL) {
        fill(r, s);
        more = s->status == MDN_OK && s->block.count > 0;
        pthread_mutex_lock(&r->lock);
        r->filled++;
        pthread_cond_signal(&r->ready);
        pthread_mutex_unlock(&r->lock);
    }
    return NULL;
}

/* False: there is no thread to be had, and the client reads. */
static bool
start(reading *r)
{
    sigset_t all, before;

    r->pid = getpid();
    r->filled = r->given_back = r->taken = 0;
    r->threaded = true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&r->thread, NULL, run, r) != 0)
        r->threaded = false;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r->threaded;
}

/* ---- its client ---- */

static void
join(reading *r)
{
    pthread_join(r->thread, NULL);
    r->threaded = false;
    atomic_store(&r->stop, false);
}

/* Wait for a slot, at most for a while. */
static bool
wait_ready(reading *r)
{
    uint64_t until_ns = mdn_steady_ns() + WAIT_NS;
    struct timespec until = {
        .tv_sec = (time_t)(until_ns / UINT64_C(1000000000)),
        .tv_nsec = (long)(until_ns % UINT64_C(1000000000)),
    };
    bool is_ready;
    int code = 0;

    pthread_mutex_lock(&r->lock);
    if (r->given_back < r->taken) {
        r->given_back = r->taken;
        pthread_cond_signal(&r->room);
    }
    while (r->filled == r->taken && code == 0)
        code = pthread_cond_timedwait(&r->ready, &r->lock, &until);
    is_ready = r->filled > r->taken;
    pthread_mutex_unlock(&r->lock);
    return is_ready;
}

static mdn_status
take(ahead_stream *self, mdn_metadata_block *out, mdn_error *err)
{
    reading *r = self->reading;
    mdn_status st = mdn_beat_ask(&self->beat, err);
    slot *s;

    while (st == MDN_OK && !wait_ready(r))
        st = mdn_beat_ask(&self->beat, err);
    if (st != MDN_OK)
        return st;
    s = &r->slots[r->taken++ % SLOTS];
    if (s->status != MDN_OK || s->block.count == 0)
        join(r);
    *out = s->block;
    if (s->status != MDN_OK && err != NULL)
        *err = s->err;
    return s->status;
}

/* Without a thread: a block is passed on as it is. */
static mdn_status
read_now(ahead_stream *self, mdn_metadata_block *out, mdn_error *err)
{
    reading *r = self->reading;
    uint64_t began_ns = mdn_steady_ns();
    mdn_status st = MDN_OK;

    *out = r->unkept;
    if (out->count == 0)
        st = r->inner->next(r->inner, out, err);
    r->unkept.count = 0;
    if (st != MDN_OK || !self->wanted)
        return st;
    touch_block(r, out);
    if (mdn_steady_ns() - began_ns > SLOW_NS * out->count)
        self->slow++;
    else
        self->slow = 0;
    return MDN_OK;
}

/* ---- life cycle ---- */

static mdn_status
reading_init(reading *r, mdn_error *err)
{
    pthread_condattr_t monotonic;
    int code = pthread_condattr_init(&monotonic);

    if (code == 0) {
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        code = pthread_cond_init(&r->ready, &monotonic);
        pthread_condattr_destroy(&monotonic);
    }
    if (code == 0 && (code = pthread_cond_init(&r->room, NULL)) != 0)
        pthread_cond_destroy(&r->ready);
    if (code == 0 && (code = pthread_mutex_init(&r->lock, NULL)) != 0) {
        pthread_cond_destroy(&r->room);
        pthread_cond_destroy(&r->ready);
    }
    return code == 0 ? MDN_OK : mdn_fail_errno(err, code, "reading ahead");
}

static void
reading_free(reading *r)
{
    if (r->threaded) {
        pthread_mutex_lock(&r->lock);
        atomic_store(&r->stop, true);
        pthread_cond_signal(&r->room);
        pthread_mutex_unlock(&r->lock);
        join(r);
    }
    if (r->inner != NULL)
        r->inner->free(r->inner);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->room);
    pthread_cond_destroy(&r->ready);
    for (int i = 0; i < SLOTS; i++) {
        free(r->slots[i].keys);
        free(r->slots[i].positions);
        free(r->slots[i].timestamps);
        free(r->slots[i].labels);
    }
    free(r);
}

static mdn_status
open_reading(ahead_stream *self, mdn_error *err)
{
    reading *r = calloc(1, sizeof *r);
    mdn_status st;

    if (r == NULL)
        return mdn_fail_nomem(err, sizeof *r);
    if ((st = reading_init(r, err)) != MDN_OK) {
        free(r);
        return st;
    }
    r->client = self->pulse;
    r->pulse = (mdn_pulse){.ask = ask, .ctx = r};
    atomic_init(&r->stop, false);
    st = self->opening.open(self->opening.ctx, self->position, &r->pulse,
                            &r->inner, err);
    if (st != MDN_OK) {
        reading_free(r);
        return st;
    }
    self->wanted = self->block_count < r->inner->count
                   && self->block_count <= MDN_METADATA_AHEAD_MAX;
    if (self->wanted && !r->inner->in_place)
        self->slow = SLOW_BLOCKS;
    if (self->wanted && r->inner->hold != NULL)
        r->holds = r->inner->hold(r->inner, SLOTS - 1, NULL) == MDN_OK;
    self->reading = r;
    return MDN_OK;
}

/* What has a thread in another process is in no state that one could know, so
 * that it is left to the end of this one. */
static void
close_reading(ahead_stream *self)
{
    reading *r = self->reading;

    self->reading = NULL;
    if (r != NULL && !(r->threaded && r->pid != getpid()))
        reading_free(r);
}

/* ---- the stream ---- */

static mdn_status
ahead_next(mdn_metadata_stream *stream, mdn_metadata_block *out, mdn_error *err)
{
    ahead_stream *self = (ahead_stream *)stream;
    reading *r = self->reading;
    mdn_status st = MDN_OK;

    *out = (mdn_metadata_block){.count = 0};
    if (r != NULL && r->threaded && r->pid != getpid())
        close_reading(self);
    if (self->reading == NULL && (st = open_reading(self, err)) != MDN_OK)
        return st;
    r = self->reading;
    if (r->threaded || (self->slow >= SLOW_BLOCKS && start(r)))
        st = take(self, out, err);
    else
        st = read_now(self, out, err);
    if (st != MDN_OK)
        *out = (mdn_metadata_block){.count = 0};
    else if (out->count > 0)
        self->position = out->positions ? out->positions[out->count - 1]
                                        : self->position + out->count;
    return st;
}

static void
ahead_rewind(mdn_metadata_stream *stream)
{
    ahead_stream *self = (ahead_stream *)stream;

    close_reading(self);
    self->position = self->first;
}

static void
ahead_free(mdn_metadata_stream *stream)
{
    close_reading((ahead_stream *)stream);
    free(stream);
}

mdn_status
mdn_metadata_ahead(const mdn_metadata_opening *opening, uint64_t first,
                   uint64_t block_count, const mdn_pulse *pulse,
                   mdn_metadata_stream **out, mdn_error *err)
{
    ahead_stream *self = calloc(1, sizeof *self);
    mdn_status st;

    *out = NULL;
    if (self == NULL)
        return mdn_fail_nomem(err, sizeof *self);
    *self = (ahead_stream){.opening = *opening,
                           .first = first,
                           .position = first,
                           .block_count = block_count,
                           .pulse = pulse,
                           .beat = {.pulse = pulse}};
    if ((st = open_reading(self, err)) != MDN_OK) {
        free(self);
        return st;
    }
    self->base = (mdn_metadata_stream){.count = self->reading->inner->count,
                                       .next = ahead_next,
                                       .rewind = ahead_rewind,
                                       .free = ahead_free};
    *out = &self->base;
    return MDN_OK;
}
