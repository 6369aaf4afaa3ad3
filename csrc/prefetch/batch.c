/* batch.c - plain memory, counted in C.
 *
 *     header | parts[part_count] | blocks[1 + part_count]
 *
 * is one allocation.  blocks[0] holds all parts of known size, one after the
 * other, each at a multiple of MDN_ALIGNMENT; blocks[1 + i] holds part i when
 * its length came later, and is empty otherwise. */
#include "prefetch/batch.h"

#include "base/bytes.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

struct mdn_batch {
    atomic_uint_least32_t references;
    uint32_t part_count;
    mdn_pool *pool;    /* one reference */
    mdn_block *blocks; /* inside this allocation */
    mdn_part parts[];
};

static bool
size_overflows(const mdn_part *part, uint64_t *out)
{
    uint64_t size = mdn_dtype_size(part->dtype);

    for (uint32_t i = 0; i < part->ndim; i++)
        if (mdn_mul_overflows(size, part->shape[i], &size))
            return true;
    *out = size;
    return false;
}

/* Where part follows a part that ends at *end, and the new *end. */
static bool
place_overflows(const mdn_part *part, uint64_t *end, uint64_t *at)
{
    uint64_t size, start;

    if (size_overflows(part, &size)
        || mdn_add_overflows(*end, MDN_ALIGNMENT - 1, &start))
        return true;
    *at = start / MDN_ALIGNMENT * MDN_ALIGNMENT;
    return mdn_add_overflows(*at, size, end);
}

static mdn_status
place_parts(mdn_batch *batch, mdn_error *err)
{
    uint64_t end = 0, at = 0;
    mdn_status st;

    for (uint32_t i = 0; i < batch->part_count; i++)
        if (batch->parts[i].shape[0] != MDN_LATER
            && place_overflows(&batch->parts[i], &end, &at))
            return mdn_fail_nomem(err, UINT64_MAX);
    st = mdn_pool_get(batch->pool, end ? end : 1, &batch->blocks[0], err);
    if (st != MDN_OK)
        return st;
    end = 0;
    for (uint32_t i = 0; i < batch->part_count; i++) {
        mdn_part *part = &batch->parts[i];

        part->data = NULL;
        if (part->shape[0] == MDN_LATER)
            continue;
        (void)place_overflows(part, &end, &at); /* did not, above */
        part->data = (uint8_t *)batch->blocks[0].data + at;
    }
    return MDN_OK;
}

mdn_status
mdn_batch_new(mdn_pool *pool, const mdn_part *parts, uint32_t part_count,
              mdn_batch **out, mdn_error *err)
{
    uint64_t parts_size = part_count * sizeof(mdn_part);
    uint64_t size = sizeof(mdn_batch) + parts_size
                    + (1 + (uint64_t)part_count) * sizeof(mdn_block);
    mdn_batch *batch = calloc(1, size);
    mdn_status st;

    *out = NULL;
    if (batch == NULL)
        return mdn_fail_nomem(err, size);
    atomic_init(&batch->references, 1);
    batch->part_count = part_count;
    batch->pool = mdn_pool_retain(pool);
    memcpy(batch->parts, parts, parts_size);
    batch->blocks = (mdn_block *)(void *)&batch->parts[part_count];
    if ((st = place_parts(batch, err)) != MDN_OK) {
        mdn_batch_release(batch);
        return st;
    }
    *out = batch;
    return MDN_OK;
}

mdn_status
mdn_batch_allot(mdn_batch *batch, uint32_t part, uint64_t length,
                mdn_error *err)
{
    mdn_part sized;
    uint64_t size;
    mdn_status st;

    assert(part < batch->part_count);
    assert(batch->parts[part].shape[0] == MDN_LATER);
    sized = batch->parts[part];
    sized.shape[0] = length;
    if (length == MDN_LATER || size_overflows(&sized, &size))
        return mdn_fail_nomem(err, length);
    st = mdn_pool_get(batch->pool, size ? size : 1, &batch->blocks[1 + part],
                      err);
    if (st != MDN_OK)
        return st;
    sized.data = batch->blocks[1 + part].data;
    batch->parts[part] = sized;
    return MDN_OK;
}

mdn_status
mdn_batch_copy_part(const mdn_batch *batch, uint32_t part, mdn_batch **out,
                    mdn_error *err)
{
    const mdn_part *from = mdn_batch_part(batch, part);
    mdn_status st = mdn_batch_new(batch->pool, from, 1, out, err);

    assert(from->data != NULL);
    if (st == MDN_OK)
        memcpy((*out)->parts[0].data, from->data, mdn_part_size(from));
    return st;
}

mdn_batch *
mdn_batch_retain(mdn_batch *batch)
{
    atomic_fetch_add_explicit(&batch->references, 1, memory_order_relaxed);
    return batch;
}

void
mdn_batch_release(mdn_batch *batch)
{
    if (batch == NULL
        || atomic_fetch_sub_explicit(&batch->references, 1,
                                     memory_order_acq_rel)
               != 1)
        return;
    for (uint32_t i = 0; i < 1 + batch->part_count; i++)
        mdn_pool_put(batch->pool, batch->blocks[i]);
    mdn_pool_release(batch->pool);
    free(batch);
}

uint32_t
mdn_batch_part_count(const mdn_batch *batch)
{
    return batch->part_count;
}

const mdn_part *
mdn_batch_part(const mdn_batch *batch, uint32_t part)
{
    assert(part < batch->part_count);
    return &batch->parts[part];
}

uint32_t
mdn_batch_block_count(const mdn_batch *batch)
{
    return 1 + batch->part_count;
}

mdn_block
mdn_batch_block(const mdn_batch *batch, uint32_t block)
{
    assert(block <= batch->part_count);
    return batch->blocks[block];
}

uint64_t
mdn_part_size(const mdn_part *part)
{
    uint64_t size = 0;

    (void)size_overflows(part, &size); /* was checked when it got memory */
    return size;
}
