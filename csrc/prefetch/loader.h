/* loader.h - which sample goes where in which batch.
 *
 * A loader is a plan: samples of a view, in an order, cut into batches.  An
 * epoch carries it out once.
 *
 *     mdn_loader_new       the plan; checks all it was given
 *     mdn_loader_begin     an epoch: workers start to fill its batches
 *     mdn_epoch_take       the next batch (see mdn_prefetcher_take)
 *     mdn_epoch_waits      who waited for whom so far
 *     mdn_epoch_close      stop and join; mdn_epoch_free
 *     mdn_loader_free      after its epochs; batches stay valid
 *
 * Row r of a pass is the sample at a position that pass.h tells; batch b is
 * rows of it, shared by ranks, as cut.h tells, or, with buckets, of rows that
 * were sorted by length within a window, as buckets.h tells; parts.h has what
 * is in it. */
#ifndef MDN_PREFETCH_LOADER_H
#define MDN_PREFETCH_LOADER_H

#include "base/error.h"
#include "prefetch/ahead.h"
#include "prefetch/batch.h"
#include "prefetch/cut.h"
#include "prefetch/parts.h"
#include "prefetch/pass.h"
#include "prefetch/prefetcher.h"
#include "storage/view.h"

#include <stdbool.h>
#include <stdint.h>

#define MDN_LOADER_THREADS_MAX 1024
#define MDN_LOADER_DEPTH_MAX 4096

typedef struct mdn_loader mdn_loader;
typedef struct mdn_epoch mdn_epoch;

typedef struct {
    mdn_view *view;         /* retained */
    const uint64_t *keys;   /* borrowed; must outlive the loader */
    const double *weights;  /* likewise; NULL: no weights */
    uint64_t count;         /* of keys and of weights; may be 0 */
    bool ascending;         /* each key is greater than the one before it */
    uint64_t batch_size;    /* of all ranks; >= 1 */
    const uint32_t *fields; /* indices into the schema, copied */
    uint32_t field_count;
    bool drop_last; /* leave out a last batch of fewer rows */
    mdn_shuffle shuffle;
    uint64_t seed;
    uint64_t partition_size; /* samples; 0: mdn_loader_usual_partition */
    uint64_t pass_rows;      /* 0: an epoch; MDN_ENDLESS; or so many */
    uint32_t rank;
    uint32_t world_size;     /* divides batch_size; 0: 1 */
    uint64_t bucket_batches; /* of a window; 0: no buckets */
    uint32_t bucket_field;   /* a bytes field, whose length decides */
} mdn_loader_options;

/* MDN_INVALID names what is wrong.  Keys are not looked at: a bad one is an
 * error of the batch it is in. */
mdn_status mdn_loader_new(const mdn_loader_options *options, mdn_loader **out,
                          mdn_error *err);
void mdn_loader_free(mdn_loader *loader); /* accepts NULL */

/* Facts; none of them can fail. */
uint64_t mdn_loader_batch_count(const mdn_loader *loader); /* of a pass */
bool mdn_loader_is_endless(const mdn_loader *loader); /* then it is no count */
uint64_t mdn_loader_partition_size(const mdn_loader *loader);
/* The power of two of samples whose records take 64 MiB, or else the next one
 * below, at least 1; the payload of a bytes field counts as 4 KiB. */
uint64_t mdn_loader_usual_partition(const mdn_schema *schema);
/* Where the memory of its batches comes from; borrowed. */
mdn_pool *mdn_loader_pool(const mdn_loader *loader);

/* What the parts of each batch are. */
uint32_t mdn_loader_part_count(const mdn_loader *loader);
mdn_part_role mdn_loader_part_role(const mdn_loader *loader, uint32_t part);

/* The rows of a pass that are in some batch of some rank. */
uint64_t mdn_loader_row_count(const mdn_loader *loader);
/* The keys of rows first .. first+count-1 of the pass that begins with an
 * epoch, as they are before buckets; first + count <= row_count. */
void mdn_loader_rows(const mdn_loader *loader, uint64_t epoch, uint64_t first,
                     uint64_t count, uint64_t *keys);
/* All that a batch (< batch_count) reads lies in rows *first .. *end-1 of the
 * pass, but for the rows of its very beginning that fill up a last batch. */
void mdn_loader_span(const mdn_loader *loader, uint64_t batch, uint64_t *first,
                     uint64_t *end);

/* Batch number `batch` of the pass that begins with an epoch, filled by the
 * calling thread.  MDN_INVALID beyond the last; MDN_NO_KEY and MDN_CORRUPT name
 * the batch. */
mdn_status mdn_loader_fill(mdn_loader *loader, uint64_t epoch, uint64_t batch,
                           mdn_batch **out, mdn_error *err);

typedef struct {
    uint64_t epoch;        /* with which the pass begins */
    uint64_t first_batch;  /* an epoch resumes anywhere */
    uint64_t stride;       /* from one batch to the next; 0: 1 */
    uint32_t thread_count; /* 1 .. MDN_LOADER_THREADS_MAX */
    uint32_t depth;        /* 1 .. MDN_LOADER_DEPTH_MAX batches ahead */
    /* What these batches may take, filled or being filled, until they are
     * taken: fewer of them are ahead then.  At least mdn_loader_batch_bytes; 0:
     * any. A batch with payloads for which all of it is too little comes alone.
     */
    uint64_t memory_bytes;
    /* Reading ahead (ahead.h); partitions 0: none, and the others are nothing.
     * It changes no batch. */
    uint32_t partitions;   /* .. MDN_AHEAD_PARTITIONS_MAX; MDN_AHEAD_OPEN */
    uint32_t requests;     /* 1 .. MDN_AHEAD_REQUESTS_MAX; MDN_AHEAD_OPEN */
    uint64_t budget_bytes; /* of what is read in and not used yet */
} mdn_epoch_options;

/* What a whole batch takes, less the payloads of its fields of bytes. */
uint64_t mdn_loader_batch_bytes(const mdn_loader *loader);

/* Start the workers on batches first_batch, first_batch + stride, ...  With a
 * stride as many loaders as that share a pass; those that begin beyond its last
 * batch have none.  (first_batch < batch_count + stride.)  The loader must
 * outlive the epoch. */
mdn_status mdn_loader_begin(mdn_loader *loader,
                            const mdn_epoch_options *options, mdn_epoch **out,
                            mdn_error *err);
/* What the epoch that began last reads ahead, and why. */
mdn_ahead_choice mdn_loader_ahead(mdn_loader *loader);
/* As mdn_prefetcher_take, waits, close and free. */
mdn_status mdn_epoch_take(mdn_epoch *epoch, uint32_t timeout_ms,
                          mdn_batch **out, mdn_error *err);
mdn_waits mdn_epoch_waits(mdn_epoch *epoch);
void mdn_epoch_close(mdn_epoch *epoch);
void mdn_epoch_free(mdn_epoch *epoch);

#endif
