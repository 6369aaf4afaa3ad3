/* batch.h - what a training loop receives: plain memory, counted in C.
 *
 * A batch is a list of parts, each a C-contiguous array.  It is counted with
 * atomics and knows nothing of Python, so that any thread may release it, even
 * after the interpreter is gone; with the last reference its memory goes back
 * to the pool it came from, and not before.
 *
 * Until it is handed over a batch belongs to the one thread that fills it;
 * afterwards to its consumer, who may write into it. */
#ifndef MDN_PREFETCH_BATCH_H
#define MDN_PREFETCH_BATCH_H

#include "base/error.h"
#include "prefetch/pool.h"
#include "storage/schema.h"

#include <stdint.h>

/* The first length of a part whose memory comes by mdn_batch_allot. */
#define MDN_LATER UINT64_MAX

typedef struct {
    mdn_dtype dtype; /* MDN_UINT8 for the payloads of a bytes field */
    uint32_t ndim;   /* >= 1 */
    uint64_t shape[MDN_NDIM_MAX + 1];
    void *data; /* aligned; NULL only until mdn_batch_allot */
} mdn_part;

typedef struct mdn_batch mdn_batch;

/* A batch with one reference and memory for these parts (whose data is not
 * read), from the pool, which is retained.  MDN_NOMEM, also for sizes beyond
 * what can be counted. */
mdn_status mdn_batch_new(mdn_pool *pool, const mdn_part *parts,
                         uint32_t part_count, mdn_batch **out, mdn_error *err);
/* Give a part of first length MDN_LATER this first length, and memory. */
mdn_status mdn_batch_allot(mdn_batch *batch, uint32_t part, uint64_t length,
                           mdn_error *err);

/* A batch with one part: a copy of this one, which has its memory. */
mdn_status mdn_batch_copy_part(const mdn_batch *batch, uint32_t part,
                               mdn_batch **out, mdn_error *err);

mdn_batch *mdn_batch_retain(mdn_batch *batch);
void mdn_batch_release(mdn_batch *batch); /* accepts NULL */

uint32_t mdn_batch_part_count(const mdn_batch *batch);
/* part < part_count; valid as long as the batch is. */
const mdn_part *mdn_batch_part(const mdn_batch *batch, uint32_t part);
/* Block 0 holds all parts of known size, block 1 + i part i whose length came
 * later; without data where there is none.  The block remains the batch's. */
uint32_t mdn_batch_block_count(const mdn_batch *batch);
mdn_block mdn_batch_block(const mdn_batch *batch, uint32_t block);
/* Bytes of a part that has its memory. */
uint64_t mdn_part_size(const mdn_part *part);

#endif
