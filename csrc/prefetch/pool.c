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
 * others come from malloc.  Which of the two is known from the size alone.
 *
 * Lent blocks have a list of their own, in which they stay whether they are out
 * or idle; the smallest idle one that fits is handed out.  They are fewer, and
 * so nothing small is put into a large one: FIT_SPARE does not count. */
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

typedef struct {
    mdn_block block;
    bool is_out; /* a batch lies in it */
} lent;

struct mdn_pool {
    pid_t pid; /* of the process that made it */
    atomic_uint_least32_t references;

    pthread_mutex_t lock;
    bool closed;         /* guarded, like all that follows */
    uint32_t keep_count; /* room in idle */
    uint32_t idle_count; /* <= keep_count */
    mdn_block *idle;     /* oldest first */
    uint32_t lent_count;
    uint32_t lent_room;
    lent *lent;
};

/* ----- blocks of the system ----- */

/* Sizes in eighths of a power of two: blocks for payloads of varying length
 * are then interchangeable, at a cost of an eighth. */
uint64_t
mdn_pool_block_size(uint64_t size_bytes)
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
    uint64_t size = mdn_pool_block_size(size_bytes);

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

/* ----- the lists of blocks; the lock is held ----- */

static bool
fits(uint64_t size, uint64_t asked, uint64_t spare)
{
    return size >= asked && size <= FIT_FACTOR * asked + spare;
}

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
    for (uint32_t i = pool->idle_count; i-- > 0;)
        if (fits(pool->idle[i].size_bytes, size_bytes, FIT_SPARE))
            return remove_at(pool, i);
    return (mdn_block){0};
}

static mdn_block
find_lent(mdn_pool *pool, uint64_t size_bytes)
{
    lent *best = NULL;

    for (uint32_t i = 0; i < pool->lent_count; i++) {
        lent *l = &pool->lent[i];

        if (!l->is_out && fits(l->block.size_bytes, size_bytes, MDN_ALIGNMENT)
            && (best == NULL || l->block.size_bytes < best->block.size_bytes))
            best = l;
    }
    if (best == NULL)
        return (mdn_block){0};
    best->is_out = true;
    return best->block;
}

/* Where in the list this lent block is, which must be there. */
static uint32_t
index_of_lent(const mdn_pool *pool, const void *data)
{
    uint32_t i = 0;

    while (i < pool->lent_count && pool->lent[i].block.data != data)
        i++;
    assert(i < pool->lent_count);
    return i;
}

static mdn_status
make_room_to_lend(mdn_pool *pool, mdn_error *err)
{
    uint64_t room = 2 * (uint64_t)pool->lent_room + 8;
    lent *list;

    if (pool->lent_count < pool->lent_room)
        return MDN_OK;
    list = realloc(pool->lent, room * sizeof *list);
    if (list == NULL)
        return mdn_fail_nomem(err, room * sizeof *list);
    pool->lent = list;
    pool->lent_room = (uint32_t)room;
    return MDN_OK;
}

/* Keep the block; return one to be freed instead, or none. */
static mdn_block
keep(mdn_pool *pool, mdn_block block)
{
    mdn_block oldest = {0};

    if (pool->closed || pool->keep_count == 0 || pool->lent_count > 0)
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
        free(pool->lent); /* the blocks are the lender's */
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

/* One at a time, so that no lock is held while the system takes it back. */
static void
free_idle(mdn_pool *pool)
{
    for (;;) {
        mdn_block block = {0};

        pthread_mutex_lock(&pool->lock);
        if (pool->idle_count > 0)
            block = remove_at(pool, pool->idle_count - 1);
        pthread_mutex_unlock(&pool->lock);
        if (block.data == NULL)
            return;
        block_free(block);
    }
}

void
mdn_pool_close(mdn_pool *pool)
{
    if (pool->pid != getpid())
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closed = true;
    pthread_mutex_unlock(&pool->lock);
    free_idle(pool);
}

mdn_status
mdn_pool_lend(mdn_pool *pool, void *data, uint64_t size_bytes, mdn_error *err)
{
    mdn_status st;

    if (pool->pid != getpid())
        return mdn_fail(err, MDN_CLOSED,
                        "memory is lent to a pool of process %ld",
                        (long)pool->pid);
    if (size_bytes == 0 || (uintptr_t)data % MDN_ALIGNMENT != 0)
        return mdn_fail(err, MDN_INVALID,
                        "lent memory must be aligned to %d bytes and not be "
                        "empty, got %llu bytes at %p",
                        MDN_ALIGNMENT, (unsigned long long)size_bytes, data);
    pthread_mutex_lock(&pool->lock);
    st = make_room_to_lend(pool, err);
    if (st == MDN_OK)
        pool->lent[pool->lent_count++] =
            (lent){.block = {data, size_bytes, .is_lent = true}};
    pthread_mutex_unlock(&pool->lock);
    if (st == MDN_OK)
        free_idle(pool);
    return st;
}

bool
mdn_pool_reclaim(mdn_pool *pool, const void *data)
{
    bool is_idle;
    uint32_t i;

    if (pool->pid != getpid())
        return false;
    pthread_mutex_lock(&pool->lock);
    i = index_of_lent(pool, data);
    is_idle = !pool->lent[i].is_out;
    if (is_idle)
        pool->lent[i] = pool->lent[--pool->lent_count];
    pthread_mutex_unlock(&pool->lock);
    return is_idle;
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
        *out = find_lent(pool, size_bytes);
        if (out->data == NULL)
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
        if (block.is_lent)
            pool->lent[index_of_lent(pool, block.data)].is_out = false;
        else
            block = keep(pool, block);
        pthread_mutex_unlock(&pool->lock);
    }
    if (block.data != NULL && !block.is_lent)
        block_free(block);
}
