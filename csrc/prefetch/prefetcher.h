/* prefetcher.h - batches filled ahead by worker threads, taken in order.
 *
 *     mdn_prefetcher_start    the workers begin with ticket 0
 *     mdn_prefetcher_take     the next batch, or its error, in ticket order
 *     mdn_prefetcher_close    stop and join
 *     mdn_prefetcher_free     close, and free the memory
 *
 * What is taken depends on what fill answers for a ticket and on nothing else:
 * neither the number of threads nor the depth changes it. */
#ifndef MDN_PREFETCH_PREFETCHER_H
#define MDN_PREFETCH_PREFETCHER_H

#include "base/error.h"
#include "prefetch/batch.h"

#include <stdint.h>

typedef struct mdn_prefetcher mdn_prefetcher;

typedef struct {
    uint64_t ticket_count; /* tickets are 0 .. ticket_count-1 */
    uint32_t thread_count; /* >= 1; never more than depth are started */
    uint32_t depth;        /* >= 1: batches filled or being filled ahead */
    void *ctx;             /* borrowed; must outlive the prefetcher */
    /* Called by several workers at once, for different tickets.  Gives one
     * reference, or a failure. */
    mdn_status (*fill)(void *ctx, uint64_t ticket, mdn_batch **out,
                       mdn_error *err);
} mdn_prefetcher_options;

/* MDN_NOMEM, or MDN_IO when no thread can be had. */
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

/* Wake every waiter, wait for the workers to finish the batch they are at, and
 * release what was not taken.  From any thread but a worker, any number of
 * times; returns when all that is done, whoever did it.  Does nothing in a
 * forked child. */
void mdn_prefetcher_close(mdn_prefetcher *prefetcher);

/* Closes; accepts NULL.  No other call may be under way.  In a forked child the
 * memory stays: the lock in it may be held for ever. */
void mdn_prefetcher_free(mdn_prefetcher *prefetcher);

#endif
