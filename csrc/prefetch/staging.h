/* staging.h - partition after partition made ready ahead of the workers.
 *
 * Tickets, as prefetcher.h has them, come in partitions.  One thread makes the
 * partitions ready in their order, so many ahead of the one in use; workers
 * wait for what is being made ready, and for nothing else.
 *
 *     mdn_staging_start    the thread begins with ticket 0
 *     mdn_staging_wait     before a ticket is filled
 *     mdn_staging_done     after it was
 *     mdn_staging_close    stop and join
 *     mdn_staging_free     close, and free the memory
 *
 * It is advice: a ticket whose turn does not come is filled as it is. */
#ifndef MDN_PREFETCH_STAGING_H
#define MDN_PREFETCH_STAGING_H

#include "base/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define MDN_STAGING_AHEAD_MAX 1024

typedef struct mdn_staging mdn_staging;

/* The calls come from the one thread, without a lock, and should return soon
 * after *stop is set. */
typedef struct {
    uint64_t ticket_count;
    uint32_t ahead;        /* partitions ahead of the one in use; >= 1 */
    uint32_t depth;        /* of the prefetcher: no ticket is done when one so
                              far before it is not; >= 1 */
    uint64_t budget_bytes; /* of what is ready and not done; never more */
    void *ctx;             /* borrowed; must outlive the staging */
    /* The end, > first and <= ticket_count, of the partition first is in. */
    uint64_t (*end)(void *ctx, uint64_t first);
    /* What tickets first .. end-1 need and how many bytes that is, which may be
     * none; NULL: nothing is to be done for them. */
    void *(*plan)(void *ctx, uint64_t first, uint64_t end,
                  const atomic_bool *stop, uint64_t *bytes);
    /* How many partitions ahead from now on; 0: as before. */
    uint32_t (*bring)(void *ctx, void *plan, const atomic_bool *stop);
    void (*drop)(void *ctx, void *plan); /* frees it, brought or not */
} mdn_staging_options;

/* MDN_NOMEM, or MDN_IO when no thread can be had. */
mdn_status mdn_staging_start(const mdn_staging_options *options,
                             mdn_staging **out, mdn_error *err);

/* Return when the ticket is ready, or it is not going to be as long as nothing
 * else is done: there is no room, or this is being closed.  At once in a forked
 * child. */
void mdn_staging_wait(mdn_staging *staging, uint64_t ticket);

/* Whether waiting for this ticket would be none, because it was made ready or
 * left; takes no lock. */
bool mdn_staging_is_ready(const mdn_staging *staging, uint64_t ticket);

/* A ticket was filled, or failed.  Once for each of them. */
void mdn_staging_done(mdn_staging *staging, uint64_t ticket);

typedef struct {
    uint64_t ready_to;   /* all tickets before it were made ready, or left */
    uint64_t held_bytes; /* of what is ready and not done */
    uint64_t most_bytes; /* held at any time */
    uint64_t brought;    /* bytes in all */
    uint64_t left_count; /* tickets that were too much for the budget */
    uint64_t waited_ns;  /* by workers, in all */
} mdn_staging_facts;

mdn_staging_facts mdn_staging_look(mdn_staging *staging);

/* As mdn_prefetcher_close and free; waiting workers return, too. */
void mdn_staging_close(mdn_staging *staging);
void mdn_staging_free(mdn_staging *staging);

#endif
