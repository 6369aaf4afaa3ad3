/* prefetcher.h - batches filled ahead by worker threads, taken in order.
 *
 *     mdn_prefetcher_start    the workers begin with ticket 0
 *     mdn_prefetcher_take     the next batch, or its error, in ticket order
 *     mdn_prefetcher_waits    who waited for whom so far
 *     mdn_prefetcher_close    stop and join
 *     mdn_prefetcher_free     close, and free the memory
 *
 * What is taken depends on what fill answers for a ticket and on nothing else:
 * neither the number of threads nor the depth nor the memory changes it. */
#ifndef MDN_PREFETCH_PREFETCHER_H
#define MDN_PREFETCH_PREFETCHER_H

#include "base/error.h"
#include "prefetch/batch.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct mdn_prefetcher mdn_prefetcher;

typedef struct {
    uint64_t ticket_count; /* tickets are 0 .. ticket_count-1 */
    uint32_t thread_count; /* >= 1; never more than depth are started */
    uint32_t depth;        /* >= 1: batches filled or being filled ahead */
    uint64_t memory_bytes; /* that mdn_prefetcher_grant gives; 0: any amount */
    void *ctx;             /* borrowed; must outlive the prefetcher */
    /* Called by thread_count + 1 threads at once, for different tickets: by
     * workers, and by one that takes when filling takes less time than being
     * woken, unless may_help says that it would wait.  Gives one reference, or
     * a failure. */
    mdn_status (*fill)(void *ctx, uint64_t ticket, mdn_batch **out,
                       mdn_error *err);
    /* Whether fill of a ticket would not wait; NULL: it never does.  Called
     * with a lock held, so that it takes none. */
    bool (*may_help)(void *ctx, uint64_t ticket);
} mdn_prefetcher_options;

/* MDN_NOMEM, or MDN_IO when no thread can be had.  *out is set before fill is
 * called. */
mdn_status mdn_prefetcher_start(const mdn_prefetcher_options *options,
                                mdn_prefetcher **out, mdn_error *err);

/* Wait up to timeout_ms for the next ticket.
 *
 *     MDN_OK         *out is one reference to its batch, or NULL after the last
 *     MDN_TIMEOUT    not there yet; nothing was lost, ask again
 *     MDN_CANCELLED  it was closed, before this call or during it
 *     MDN_CLOSED     this is a forked child, which has no workers
 *     any other      what fill failed with.  A failure is the end: every later
 *                    take gives it again
 *
 * Any thread may call it; each batch goes to one caller. */
mdn_status mdn_prefetcher_take(mdn_prefetcher *prefetcher, uint32_t timeout_ms,
                               mdn_batch **out, mdn_error *err);

/* For fill, at most once per ticket: wait until a batch of this size fits into
 * memory_bytes beside all that was granted and not yet taken.  Memory is
 * granted in ticket order, so that the next batch never waits for one after it;
 * a batch larger than all memory is granted when it is the only one.
 *
 *     MDN_OK         the batch may be allocated
 *     MDN_CANCELLED  nobody will take it any more; fill gives up with this */
mdn_status mdn_prefetcher_grant(mdn_prefetcher *prefetcher, uint64_t ticket,
                                uint64_t size_bytes, mdn_error *err);

/* Nanoseconds of each side since the start, as of its last step: a wait or a
 * batch that is under way counts when it is over.  Waits of several threads are
 * added up.  What a consumer waited and held is all of its time until its last
 * take, unless several take at once. */
typedef struct {
    uint64_t batch_count; /* taken */
    uint64_t row_count;   /* of the first part of these, the first length */
    uint64_t byte_count;  /* of all their parts */
    uint64_t waited_ns;   /* in takes: the consumer wanted a batch */
    uint64_t held_ns;     /* between takes: the consumer had one */
    uint64_t filling_ns;  /* workers were filling */
    uint64_t idle_ns;     /* workers had no room, or no memory */
} mdn_waits;

/* From any thread; after close, too. */
mdn_waits mdn_prefetcher_waits(mdn_prefetcher *prefetcher);

/* Wake every waiter, wait for the workers to finish the batch they are at, and
 * release what was not taken.  From any thread but a worker, any number of
 * times; returns when all that is done, whoever did it.  Does nothing in a
 * forked child. */
void mdn_prefetcher_close(mdn_prefetcher *prefetcher);

/* Closes; accepts NULL.  No other call may be under way.  In a forked child the
 * memory stays: the lock in it may be held for ever. */
void mdn_prefetcher_free(mdn_prefetcher *prefetcher);

#endif
