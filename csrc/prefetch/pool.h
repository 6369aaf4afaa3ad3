/* pool.h - blocks of plain memory that are used again.
 *
 * A fresh block of some megabytes costs thousands of page faults at its first
 * filling, which is as much as filling it.  A pool keeps the last few blocks
 * that came back and hands them out again, warm.
 *
 *     mdn_pool_new       one reference; keeps nothing yet
 *     mdn_pool_keep      how many idle blocks to keep
 *     mdn_pool_get/put   a block, from any thread
 *     mdn_pool_lend      memory from outside, handed out before its own
 *     mdn_pool_reclaim   the end of that, for a block that nobody uses
 *     mdn_pool_close     keep nothing of its own from now on
 *     mdn_pool_release   any thread; the last one frees the pool
 *
 * A pool outlives whoever made it as long as blocks are out: each batch holds
 * a reference.  In a forked child, where the lock may be held by a thread that
 * does not exist there, get and put allocate and free directly.
 *
 * Lent memory (pinned for a GPU, say) belongs to the lender, and the pool never
 * frees it: a block that comes back is only marked as idle, on whatever thread
 * that happens, and nobody is called.  It must stay valid until it has been
 * reclaimed, and for ever when it has not.  A lender who wants it back after
 * the loader is gone keeps a reference to the pool and asks again. */
#ifndef MDN_PREFETCH_POOL_H
#define MDN_PREFETCH_POOL_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define MDN_ALIGNMENT 64 /* bytes, of every block and every part of a batch */

typedef struct mdn_pool mdn_pool;

typedef struct {
    void *data;          /* aligned; NULL: no block */
    uint64_t size_bytes; /* what is there; at least what was asked for */
    bool is_lent;        /* belongs to a lender, who frees it */
} mdn_block;

mdn_status mdn_pool_new(mdn_pool **out, mdn_error *err);
mdn_pool *mdn_pool_retain(mdn_pool *pool);
void mdn_pool_release(mdn_pool *pool); /* accepts NULL */
/* Keep at least this many idle blocks from now on.  It is only for speed, so
 * that without memory for the list it keeps what it kept. */
void mdn_pool_keep(mdn_pool *pool, uint32_t count);
/* Free the idle blocks and keep none that come back later. */
void mdn_pool_close(mdn_pool *pool);

/* Hand out this memory whenever a block of about its size is asked for.  As
 * long as any is lent the pool keeps no idle blocks of its own.  MDN_INVALID
 * when it is not aligned or empty; MDN_CLOSED in a forked child. */
mdn_status mdn_pool_lend(mdn_pool *pool, void *data, uint64_t size_bytes,
                         mdn_error *err);
/* True: the pool has forgotten this lent block, which nobody uses.  False: a
 * batch lies in it (or this is a forked child, which cannot know). */
bool mdn_pool_reclaim(mdn_pool *pool, const void *data);

/* How large a block is that is allocated for so many bytes. */
uint64_t mdn_pool_block_size(uint64_t size_bytes);
/* A block of at least size_bytes (>= 1).  Its content is arbitrary. */
mdn_status mdn_pool_get(mdn_pool *pool, uint64_t size_bytes, mdn_block *out,
                        mdn_error *err);
/* Give a block back; one without data is ignored. */
void mdn_pool_put(mdn_pool *pool, mdn_block block);

#endif
