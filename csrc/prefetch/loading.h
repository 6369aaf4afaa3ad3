/* loading.h - a loader from within: what loader.c makes and epoch.c carries
 * out.
 *
 * Nobody else includes this. */
#ifndef MDN_PREFETCH_LOADING_H
#define MDN_PREFETCH_LOADING_H

#include "prefetch/buckets.h"
#include "prefetch/loader.h"
#include "prefetch/windows.h"

struct mdn_loader {
    mdn_loader_options opt; /* its fields point to our own copy */
    mdn_samples samples;
    mdn_cut cut;
    uint64_t batch_count;
    mdn_buckets buckets; /* unless opt.bucket_batches is 0 */
    mdn_pool *pool;      /* one reference */
    mdn_ahead_memory ahead;
    bool has_ahead; /* it is made */
    uint32_t *fields;
    uint32_t part_count;
    uint32_t payload_count; /* parts whose length is known only when filled */
    mdn_part_role *roles;
    mdn_part *full_parts; /* shapes of every batch but the last */
    mdn_part *last_parts;
};

/* Where a batch asks for the memory of its payloads. */
typedef struct {
    mdn_prefetcher *prefetcher;
    uint64_t ticket;
} mdn_asker;

/* The pass that begins with an epoch. */
void mdn_loader_pass(const mdn_loader *loader, uint64_t epoch, mdn_pass *pass);

/* Batch `number` of it, which is below the count.  windows NULL: it plans its
 * own; ask NULL: the memory of payloads is there. */
mdn_status mdn_loader_make(mdn_loader *loader, const mdn_pass *pass,
                           mdn_windows *windows, const mdn_asker *ask,
                           uint64_t number, mdn_batch **out, mdn_error *err);

#endif
