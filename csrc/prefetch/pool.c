/* pool.c - blocks of plain memory that are used again.
 *
 * Idle blocks lie in a short list, the one that came back last at its end.  A
 * block is looked for from the end, so that the warmest one that fits is used;
 * when the list is full the oldest block is freed.  A block fits when it is
 * large enough and not much more than FIT_FACTOR times too large: otherwise a
 * short last batch would take the memory of a whole one.
 *
 * Blocks of HUGE bytes and more are mapped at that alignment and advised to
 * use huge pages, so that a gather into them misses the TLB less often; the
 * others come from malloc.  Which of the two is known from the size alone. */
#include "prefetch/pool.h"

#include "base/bytes.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE ((uint64_t)2 << 20)
#define FIT_FACTOR 2
#define FIT_SPARE 4096 /* bytes */

struct mdn_pool {
    pid_t pid; /* of the process that made it */
    atomic_uint_least32_t references;

    pthread_mutex_t lock;
    bool closed;         /* guarded, like all that follows */
    uint32_t keep_count; /* room in idle */
    uint32_t idle_count; /* <= keep_count */
    mdn_block *idle;     /* oldest first */
};

/* ----- blocks of the system ----- */

/* Sizes in eighths of a power of two: blocks for payloads of varying length
 * are then interchangeable, at a cost of an eighth. */
static uint64_t
round_up(uint64_t size_bytes)
{
    uint64_t step = MDN_ALIGNMENT;

    while (step < size_bytes / 8)
        step *= 2;
    if (size_bytes >= HUGE && step < HUGE)
        step = HUGE;
    return (size_bytes + step - 1) / step * step;
}

static void *
map_aligned(uint64_t size_bytes)
{
    uint8_t *start = mmap(NULL, size_bytes + HUGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t before;

    if (start == MAP_FAILED)
        return NULL;
    before = (HUGE - (uint64_t)(uintptr_t)start % HUGE) % HUGE;
    if (before > 0)
        munmap(start, before);
    munmap(start + before + size_bytes, HUGE - before);
    (void)madvise(start + before, size_bytes, MADV_HUGEPAGE); /* advice */
    return start + before;
}

static mdn_status
block_new(uint64_t size_bytes, mdn_block *out, mdn_error *err)
{
    uint64_t size = round_up(size_bytes);

    *out = (mdn_block){0};
    if (size >= HUGE)
        out->data = map_aligned(size);
    else
        out->data = aligned_alloc(MDN_ALIGNMENT, size);
    if (out->data == NULL)
        return mdn_fail_nomem(err, size);
    out->size_bytes = size;
    return MDN_OK;
}

static void
block_free(mdn_block block)
{
    if (block.size_bytes >= HUGE)
        munmap(block.data, block.size_bytes);
    else
        free(block.data);
}

/* ----- the list of idle blocks; the lock is held ----- */

static mdn_block
remove_at(mdn_pool *pool, uint32_t index)
{
    mdn_block block = pool->idle[index];

    pool->idle_count--;
    for (uint32_t i = index; i < pool->idle_count; i++)
        pool->idle[i] = pool->idle[i + 1];
    return block;
}

static mdn_block
find(mdn_pool *pool, uint64_t size_bytes)
{
    uint64_t room = FIT_FACTOR * size_bytes + FIT_SPARE;

    for (uint32_t i = pool->idle_count; i-- > 0;) {
        uint64_t size = pool->idle[i].size_bytes;
        if (size >= size_bytes && size <= room)
            return remove_at(pool, i);
    }
    return (mdn_block){0};
}

/* Keep the block; return one to be freed instead, or none. */
static mdn_block
keep(mdn_pool *pool, mdn_block block)
{
    mdn_block oldest = {0};

    if (pool->closed || pool->keep_count == 0)
        return block;
    if (pool->idle_count == pool->keep_count)
        oldest = remove_at(pool, 0);
    pool->idle[pool->idle_count++] = block;
    return oldest;
}

/* ----- public ----- */

mdn_status
mdn_pool_new(mdn_pool **out, mdn_error *err)
{
    mdn_pool *pool = calloc(1, sizeof *pool);
    int code;

    *out = NULL;
    if (pool == NULL)
        return mdn_fail_nomem(err, sizeof *pool);
    code = pthread_mutex_init(&pool->lock, NULL);
    if (code != 0) {
        free(pool);
        return mdn_fail_errno(err, code, "prefetch: no lock");
    }
    pool->pid = getpid();
    atomic_init(&pool->references, 1);
    *out = pool;
    return MDN_OK;
}

mdn_pool *
mdn_pool_retain(mdn_pool *pool)
{
    atomic_fetch_add_explicit(&pool->references, 1, memory_order_relaxed);
    return pool;
}

void
mdn_pool_release(mdn_pool *pool)
{
    if (pool == NULL
        || atomic_fetch_sub_explicit(&pool->references, 1, memory_order_acq_rel)
               != 1)
        return;
    /* Nobody else can hold the lock now, except a thread of the parent, which
     * a forked child has not got: its list may be half changed. */
    if (pool->pid == getpid()) {
        for (uint32_t i = 0; i < pool->idle_count; i++)
            block_free(pool->idle[i]);
        free(pool->idle);
        pthread_mutex_destroy(&pool->lock);
    }
    free(pool);
}

void
mdn_pool_keep(mdn_pool *pool, uint32_t count)
{
    mdn_block *idle;

    if (pool->pid != getpid())
        return;
    pthread_mutex_lock(&pool->lock);
    if (count > pool->keep_count) {
        idle = realloc(pool->idle, count * sizeof *idle);
        if (idle != NULL) {
            pool->idle = idle;
            pool->keep_count = count;
        }
    }
    pthread_mutex_unlock(&pool->lock);
}

void
mdn_pool_close(mdn_pool *pool)
{
    if (pool->pid != getpid())
        return;
    for (;;) {
        mdn_block block = {0};

        pthread_mutex_lock(&pool->lock);
        pool->closed = true;
        if (pool->idle_count > 0)
            block = remove_at(pool, pool->idle_count - 1);
        pthread_mutex_unlock(&pool->lock);
        if (block.data == NULL)
            return;
        block_free(block);
    }
}

mdn_status
mdn_pool_get(mdn_pool *pool, uint64_t size_bytes, mdn_block *out,
             mdn_error *err)
{
    assert(size_bytes >= 1);
    *out = (mdn_block){0};
    if (size_bytes > UINT64_MAX / 4) /* so that sums below do not overflow */
        return mdn_fail_nomem(err, size_bytes);
    if (pool->pid == getpid()) {
        pthread_mutex_lock(&pool->lock);
        *out = find(pool, size_bytes);
        pthread_mutex_unlock(&pool->lock);
    }
    if (out->data != NULL)
        return MDN_OK;
    return block_new(size_bytes, out, err);
}

void
mdn_pool_put(mdn_pool *pool, mdn_block block)
{
    if (block.data == NULL)
        return;
    if (pool->pid == getpid()) {
        pthread_mutex_lock(&pool->lock);
        block = keep(pool, block);
        pthread_mutex_unlock(&pool->lock);
    }
    if (block.data != NULL)
        block_free(block);
}
