/* epoch.c - workers on the batches of a pass.
 *
 * Ticket t of the prefetcher is batch first_batch + t * stride.  What stands
 * beside the prefetcher, windows of buckets and what is read ahead, is made
 * before its workers start and goes after they are joined. */
#include "prefetch/loading.h"

#include "storage/wants.h"

#include <stdlib.h>

struct mdn_epoch {
    mdn_loader *loader; /* borrowed; must outlive the epoch */
    uint64_t first_batch, stride;
    mdn_pass pass;
    mdn_windows *windows; /* NULL: no buckets */
    mdn_ahead *ahead;     /* NULL: nothing is read ahead */
    mdn_prefetcher *prefetcher;
};

static mdn_status
fill_ticket(void *ctx, uint64_t ticket, mdn_batch **out, mdn_error *err)
{
    mdn_epoch *epoch = ctx;
    mdn_asker ask = {epoch->prefetcher, ticket};
    mdn_status st;

    mdn_ahead_wait(epoch->ahead, ticket);
    st = mdn_loader_make(epoch->loader, &epoch->pass, epoch->windows, &ask,
                         epoch->first_batch + ticket * epoch->stride, out, err);
    mdn_ahead_done(epoch->ahead, ticket);
    return st;
}

static bool
is_ready(void *ctx, uint64_t ticket)
{
    const mdn_epoch *epoch = ctx;

    return mdn_ahead_is_ready(epoch->ahead, ticket);
}

/* Batches first, first + stride, ... below end. */
static uint64_t
count_steps(uint64_t first, uint64_t stride, uint64_t end)
{
    return first < end ? (end - 1 - first) / stride + 1 : 0;
}

static mdn_status
plan_of_window(void *ctx, uint64_t window, uint64_t **out, mdn_error *err)
{
    mdn_epoch *epoch = ctx;

    return mdn_buckets_plan(&epoch->loader->buckets, &epoch->pass, window, out,
                            err);
}

/* How many batches of this epoch are cut from a window: all of it but a last
 * one for which our rank has only rows that fill it up. */
static uint64_t
uses_of_window(void *ctx, uint64_t window)
{
    const mdn_epoch *epoch = ctx;
    const mdn_loader *loader = epoch->loader;
    uint64_t first = window * loader->opt.bucket_batches;
    uint64_t end = first + loader->opt.bucket_batches;
    uint64_t last = loader->batch_count;

    if (mdn_cut_share(&loader->cut, last - 1).is_fill_up)
        last--;
    if (end > last)
        end = last;
    return count_steps(epoch->first_batch, epoch->stride, end)
           - count_steps(epoch->first_batch, epoch->stride, first);
}

/* A worker is in one window at a time, and so is a consumer that helps; one
 * more may be between two of its batches. */
static mdn_status
new_windows(mdn_epoch *epoch, uint32_t thread_count, mdn_error *err)
{
    mdn_windows_options options = {
        .live_max = thread_count + 2,
        .ctx = epoch,
        .plan = plan_of_window,
        .uses = uses_of_window,
    };

    if (epoch->loader->opt.bucket_batches == 0)
        return MDN_OK;
    return mdn_windows_new(&options, &epoch->windows, err);
}

static mdn_status
check_ahead(const mdn_epoch_options *opt, mdn_error *err)
{
    if (opt->partitions == 0)
        return MDN_OK;
    if (opt->partitions > MDN_AHEAD_PARTITIONS_MAX
        && opt->partitions != MDN_AHEAD_OPEN)
        return mdn_fail(err, MDN_INVALID,
                        "num_prefetched_partitions must be at most %u, got %u",
                        MDN_AHEAD_PARTITIONS_MAX, opt->partitions);
    if (opt->requests != MDN_AHEAD_OPEN
        && (opt->requests < 1 || opt->requests > MDN_AHEAD_REQUESTS_MAX))
        return mdn_fail(err, MDN_INVALID,
                        "parallel_prefetch_requests must be 1 to %u, got %u",
                        MDN_AHEAD_REQUESTS_MAX, opt->requests);
    return MDN_OK;
}

static mdn_status
check_epoch(const mdn_loader *loader, const mdn_epoch_options *opt,
            mdn_error *err)
{
    uint64_t stride = opt->stride > 0 ? opt->stride : 1;

    if (opt->thread_count < 1 || opt->thread_count > MDN_LOADER_THREADS_MAX)
        return mdn_fail(err, MDN_INVALID, "threads must be 1 to %d, got %u",
                        MDN_LOADER_THREADS_MAX, opt->thread_count);
    if (opt->depth < 1 || opt->depth > MDN_LOADER_DEPTH_MAX)
        return mdn_fail(err, MDN_INVALID, "prefetch must be 1 to %d, got %u",
                        MDN_LOADER_DEPTH_MAX, opt->depth);
    if (opt->memory_bytes > 0
        && opt->memory_bytes < mdn_loader_batch_bytes(loader))
        return mdn_fail(err, MDN_INVALID,
                        "a batch takes %llu bytes, and there are %llu for all",
                        (unsigned long long)mdn_loader_batch_bytes(loader),
                        (unsigned long long)opt->memory_bytes);
    if (opt->first_batch > loader->batch_count
        && opt->first_batch - loader->batch_count >= stride)
        return mdn_fail(err, MDN_INVALID,
                        "first batch %llu was asked for, the epoch has %llu",
                        (unsigned long long)opt->first_batch,
                        (unsigned long long)loader->batch_count);
    return check_ahead(opt, err);
}

static mdn_status
read_ahead(mdn_epoch *epoch, const mdn_epoch_options *options,
           uint64_t ticket_count, mdn_error *err)
{
    mdn_loader *loader = epoch->loader;
    mdn_ahead_options ahead = {
        .view = loader->opt.view,
        .samples = &loader->samples,
        .cut = &loader->cut,
        .pass = &epoch->pass,
        .memory = &loader->ahead,
        .first_batch = epoch->first_batch,
        .stride = epoch->stride,
        .ticket_count = ticket_count,
        .partition_size = loader->opt.partition_size,
        .window_batches = loader->opt.bucket_batches,
        .what = MDN_WANT_LABELS,
        .partitions = options->partitions,
        .requests = options->requests,
        .depth = options->depth,
        .budget_bytes = options->budget_bytes,
    };

    if (loader->opt.field_count > 0 || loader->opt.bucket_batches > 0)
        ahead.what |= MDN_WANT_RECORDS;
    return mdn_ahead_start(&ahead, &epoch->ahead, err);
}

/* Depth is cut so that what is known of all batches fits; the first half of the
 * memory is for that when there are payloads, which get what it leaves. */
static void
cut_to_memory(const mdn_loader *loader, uint64_t memory_bytes,
              mdn_prefetcher_options *workers)
{
    uint64_t batch = mdn_loader_batch_bytes(loader);
    uint64_t known = memory_bytes, most;

    if (memory_bytes == 0)
        return;
    if (loader->payload_count > 0)
        known = memory_bytes / 2 > batch ? memory_bytes / 2 : batch;
    most = known / batch;
    if (workers->depth > most)
        workers->depth = (uint32_t)most;
    if (loader->payload_count > 0)
        workers->memory_bytes = memory_bytes - workers->depth * batch;
    if (loader->payload_count > 0 && workers->memory_bytes == 0)
        workers->memory_bytes = 1; /* batch by batch */
}

mdn_status
mdn_loader_begin(mdn_loader *loader, const mdn_epoch_options *options,
                 mdn_epoch **out, mdn_error *err)
{
    mdn_prefetcher_options workers;
    mdn_epoch *epoch;
    mdn_status st;

    *out = NULL;
    if ((st = check_epoch(loader, options, err)) != MDN_OK)
        return st;
    epoch = calloc(1, sizeof *epoch);
    if (epoch == NULL)
        return mdn_fail_nomem(err, sizeof *epoch);
    epoch->loader = loader;
    epoch->first_batch = options->first_batch;
    epoch->stride = options->stride > 0 ? options->stride : 1;
    mdn_loader_pass(loader, options->epoch, &epoch->pass);
    workers = (mdn_prefetcher_options){
        .ticket_count =
            count_steps(epoch->first_batch, epoch->stride, loader->batch_count),
        .thread_count = options->thread_count,
        .depth = options->depth,
        .ctx = epoch,
        .fill = fill_ticket,
        .may_help = is_ready,
    };
    cut_to_memory(loader, options->memory_bytes, &workers);
    /* The batches in the window and the one or two the consumer holds. */
    mdn_pool_keep(loader->pool,
                  (workers.depth + 2) * (1 + loader->payload_count));
    st = new_windows(epoch, options->thread_count, err);
    if (st == MDN_OK)
        st = read_ahead(epoch, options, workers.ticket_count, err);
    if (st == MDN_OK)
        st = mdn_prefetcher_start(&workers, &epoch->prefetcher, err);
    if (st != MDN_OK) {
        mdn_epoch_free(epoch);
        return st;
    }
    *out = epoch;
    return MDN_OK;
}

mdn_status
mdn_epoch_take(mdn_epoch *epoch, uint32_t timeout_ms, mdn_batch **out,
               mdn_error *err)
{
    return mdn_prefetcher_take(epoch->prefetcher, timeout_ms, out, err);
}

mdn_waits
mdn_epoch_waits(mdn_epoch *epoch)
{
    return mdn_prefetcher_waits(epoch->prefetcher);
}

/* Workers may be waiting for what is read ahead: so that ends first. */
void
mdn_epoch_close(mdn_epoch *epoch)
{
    mdn_ahead_close(epoch->ahead);
    mdn_prefetcher_close(epoch->prefetcher);
}

void
mdn_epoch_free(mdn_epoch *epoch)
{
    if (epoch == NULL)
        return;
    mdn_ahead_close(epoch->ahead);
    mdn_prefetcher_free(epoch->prefetcher);
    mdn_ahead_free(epoch->ahead);
    mdn_windows_free(epoch->windows);
    free(epoch);
}
