/* loader.h - which sample goes where in which batch.
 *
 * A loader is a plan: samples of a view, in an order, cut into batches.  An
 * epoch carries it out once.
 *
 *     mdn_loader_new       the plan; checks all it was given
 *     mdn_loader_begin     an epoch: workers start to fill its batches
 *     mdn_epoch_take       the next batch (see mdn_prefetcher_take)
 *     mdn_epoch_close      stop and join; mdn_epoch_free
 *     mdn_loader_free      after its epochs; batches stay valid
 *
 * Row r of an epoch is sample keys[r], or keys[permutation(r)] when shuffled,
 * where the permutation is a function of (count, seed, epoch).  Batch b holds
 * rows [b * batch_size, (b + 1) * batch_size).  The parts of each batch are
 *
 *     keys (uint64), labels (int64, if the view has them), weights (float64, if
 *     given), then field by field, as asked for: one part for a fixed field
 *     (rows, then the shape of the field); two for bytes: the payloads back to
 *     back (uint8) and rows + 1 offsets into them (int64)
 */
#ifndef MDN_PREFETCH_LOADER_H
#define MDN_PREFETCH_LOADER_H

#include "base/error.h"
#include "prefetch/batch.h"
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
    uint64_t batch_size;    /* >= 1 */
    const uint32_t *fields; /* indices into the schema, copied */
    uint32_t field_count;
    bool drop_last; /* leave out a last batch of fewer rows */
    bool shuffle;
    uint64_t seed;
} mdn_loader_options;

/* MDN_INVALID names what is wrong.  Keys are not looked at: a bad one is an
 * error of the batch it is in. */
mdn_status mdn_loader_new(const mdn_loader_options *options, mdn_loader **out,
                          mdn_error *err);
void mdn_loader_free(mdn_loader *loader); /* accepts NULL */
uint64_t mdn_loader_batch_count(const mdn_loader *loader);
/* Where the memory of its batches comes from; borrowed. */
mdn_pool *mdn_loader_pool(const mdn_loader *loader);

typedef enum {
    MDN_PART_KEYS,
    MDN_PART_LABELS,
    MDN_PART_WEIGHTS,
    MDN_PART_FIELD,
    MDN_PART_PAYLOADS,
    MDN_PART_OFFSETS,
} mdn_part_kind;

typedef struct {
    mdn_part_kind kind;
    uint32_t field; /* index into the schema, for the last three kinds */
} mdn_part_role;

/* What the parts of each batch are. */
uint32_t mdn_loader_part_count(const mdn_loader *loader);
mdn_part_role mdn_loader_part_role(const mdn_loader *loader, uint32_t part);

/* Batch number `batch` of an epoch, filled by the calling thread.  MDN_INVALID
 * beyond the last; MDN_NO_KEY and MDN_CORRUPT name the batch. */
mdn_status mdn_loader_fill(mdn_loader *loader, uint64_t epoch, uint64_t batch,
                           mdn_batch **out, mdn_error *err);

typedef struct {
    uint64_t epoch;
    uint64_t first_batch;  /* <= batch count: an epoch resumes anywhere */
    uint32_t thread_count; /* 1 .. MDN_LOADER_THREADS_MAX */
    uint32_t depth;        /* 1 .. MDN_LOADER_DEPTH_MAX batches ahead */
} mdn_epoch_options;

/* Start the workers.  The loader must outlive the epoch. */
mdn_status mdn_loader_begin(mdn_loader *loader,
                            const mdn_epoch_options *options, mdn_epoch **out,
                            mdn_error *err);
/* As mdn_prefetcher_take, close and free. */
mdn_status mdn_epoch_take(mdn_epoch *epoch, uint32_t timeout_ms,
                          mdn_batch **out, mdn_error *err);
void mdn_epoch_close(mdn_epoch *epoch);
void mdn_epoch_free(mdn_epoch *epoch);

#endif
