/* loader.c - which sample goes where in which batch.
 *
 * All of a loader but its pool is set once and only read afterwards, so that
 * any number of workers fill batches at the same time, each for itself:
 *
 *   (1) a batch becomes rows, and rows become positions
 *   (2) the positions become keys, and weights
 *   (3) one gather brings labels and fields to where the consumer reads them
 *
 * Where rows are sorted by length, (1) waits for the plan of a window, which
 * the first worker that comes to the window makes for all. */
#include "prefetch/loading.h"

#include "base/bytes.h"

#include <assert.h>
#include <stdlib.h>

#define PARTITION_BYTES (UINT64_C(64) << 20) /* of records */
#define PAYLOAD_BYTES UINT64_C(4096)         /* as a payload is counted */

/* ----- the plan ----- */

static mdn_status
check_buckets(const mdn_loader_options *opt, mdn_error *err)
{
    const mdn_schema *schema = mdn_view_schema(opt->view);
    uint64_t rows;

    if (opt->bucket_batches == 0)
        return MDN_OK;
    if (opt->bucket_field >= schema->field_count
        || schema->fields[opt->bucket_field].dtype != MDN_BYTES)
        return mdn_fail(err, MDN_INVALID,
                        "buckets are by the length of a bytes field; field "
                        "number %u is none",
                        opt->bucket_field);
    if (mdn_mul_overflows(opt->bucket_batches, opt->batch_size, &rows)
        || rows > MDN_BUCKET_ROWS_MAX)
        return mdn_fail(err, MDN_INVALID,
                        "bucket_batches * batch_size must be at most %llu, "
                        "got %llu * %llu",
                        (unsigned long long)MDN_BUCKET_ROWS_MAX,
                        (unsigned long long)opt->bucket_batches,
                        (unsigned long long)opt->batch_size);
    return MDN_OK;
}

static mdn_status
check_pass(const mdn_loader_options *opt, mdn_error *err)
{
    uint32_t world_size = opt->world_size > 0 ? opt->world_size : 1;

    if (opt->rank >= world_size)
        return mdn_fail(err, MDN_INVALID,
                        "rank must be less than world_size, which is %u, got "
                        "%u",
                        world_size, opt->rank);
    if (opt->batch_size % world_size != 0)
        return mdn_fail(err, MDN_INVALID,
                        "batch_size, the samples of all ranks together, must "
                        "be a multiple of world_size, which is %u, got %llu",
                        world_size, (unsigned long long)opt->batch_size);
    if (opt->pass_rows > 0 && opt->count == 0)
        return mdn_fail(err, MDN_INVALID,
                        "there are no samples that a pass could repeat");
    return check_buckets(opt, err);
}

static mdn_status
check_options(const mdn_loader_options *opt, mdn_error *err)
{
    const mdn_schema *schema = mdn_view_schema(opt->view);

    if (opt->batch_size < 1)
        return mdn_fail(err, MDN_INVALID, "batch_size must be at least 1");
    if (opt->count > MDN_PERMUTATION_MAX)
        return mdn_fail(err, MDN_INVALID,
                        "a loader takes at most %llu samples, got %llu",
                        (unsigned long long)MDN_PERMUTATION_MAX,
                        (unsigned long long)opt->count);
    if (opt->field_count > schema->field_count)
        return mdn_fail(err, MDN_INVALID,
                        "%u fields were asked for, the schema has %u",
                        opt->field_count, schema->field_count);
    for (uint32_t i = 0; i < opt->field_count; i++)
        if (opt->fields[i] >= schema->field_count)
            return mdn_fail(err, MDN_INVALID,
                            "field %u was asked for, the schema has %u",
                            opt->fields[i], schema->field_count);
    return check_pass(opt, err);
}

static void
plan_batches(mdn_loader *loader)
{
    mdn_loader_options *opt = &loader->opt;

    if (opt->world_size == 0)
        opt->world_size = 1;
    if (opt->partition_size == 0)
        opt->partition_size =
            mdn_loader_usual_partition(mdn_view_schema(opt->view));
    loader->samples =
        mdn_samples_of(opt->keys, opt->weights, opt->count, opt->ascending);
    loader->cut = (mdn_cut){
        .rows = opt->pass_rows > 0 ? opt->pass_rows : opt->count,
        .batch_size = opt->batch_size,
        .rank = opt->rank,
        .world_size = opt->world_size,
        .drop_last = opt->drop_last,
    };
    loader->batch_count = mdn_cut_batch_count(&loader->cut);
    loader->buckets = (mdn_buckets){
        .view = opt->view,
        .samples = &loader->samples,
        .cut = &loader->cut,
        .field = opt->bucket_field,
        .window_batches = opt->bucket_batches,
    };
}

/* Of every batch but the last, and of that. */
static void
shape_batches(mdn_loader *loader)
{
    const mdn_schema *schema = mdn_view_schema(loader->opt.view);
    uint64_t rows = loader->cut.batch_size / loader->cut.world_size;
    uint64_t count = loader->batch_count;

    mdn_parts_shape(schema, loader->roles, loader->part_count, rows,
                    loader->full_parts);
    rows = count > 0 ? mdn_cut_share(&loader->cut, count - 1).count : 0;
    mdn_parts_shape(schema, loader->roles, loader->part_count, rows,
                    loader->last_parts);
}

static mdn_status
allocate(mdn_loader *loader, mdn_error *err)
{
    uint64_t field_count = loader->opt.field_count;
    uint64_t part_max = MDN_PARTS_FOR(field_count);

    loader->fields = calloc(field_count + 1, sizeof *loader->fields);
    loader->roles = calloc(part_max, sizeof *loader->roles);
    loader->full_parts = calloc(part_max, sizeof *loader->full_parts);
    loader->last_parts = calloc(part_max, sizeof *loader->last_parts);
    if (!loader->fields || !loader->roles || !loader->full_parts
        || !loader->last_parts)
        return mdn_fail_nomem(err, part_max * sizeof(mdn_part));
    return MDN_OK;
}

mdn_status
mdn_loader_new(const mdn_loader_options *options, mdn_loader **out,
               mdn_error *err)
{
    mdn_loader *loader;
    mdn_status st;

    *out = NULL;
    if ((st = check_options(options, err)) != MDN_OK)
        return st;
    loader = calloc(1, sizeof *loader);
    if (loader == NULL)
        return mdn_fail_nomem(err, sizeof *loader);
    loader->opt = *options;
    loader->opt.view = mdn_view_retain(options->view);
    if ((st = allocate(loader, err)) != MDN_OK)
        goto fail;
    if ((st = mdn_pool_new(&loader->pool, err)) != MDN_OK)
        goto fail;
    if ((st = mdn_ahead_memory_init(&loader->ahead, err)) != MDN_OK)
        goto fail;
    loader->has_ahead = true;
    for (uint32_t i = 0; i < options->field_count; i++)
        loader->fields[i] = options->fields[i];
    loader->opt.fields = loader->fields;
    plan_batches(loader);
    loader->part_count =
        mdn_parts_assign(options->view, options->weights != NULL,
                         loader->fields, options->field_count, loader->roles);
    for (uint32_t i = 0; i < loader->part_count; i++)
        loader->payload_count += loader->roles[i].kind == MDN_PART_PAYLOADS;
    shape_batches(loader);
    *out = loader;
    return MDN_OK;

fail:
    mdn_loader_free(loader);
    return st;
}

void
mdn_loader_free(mdn_loader *loader)
{
    if (loader == NULL)
        return;
    if (loader->pool != NULL)
        mdn_pool_close(loader->pool);
    mdn_pool_release(loader->pool);
    if (loader->has_ahead)
        mdn_ahead_memory_destroy(&loader->ahead);
    mdn_view_release(loader->opt.view);
    free(loader->fields);
    free(loader->roles);
    free(loader->full_parts);
    free(loader->last_parts);
    free(loader);
}

uint64_t
mdn_loader_batch_count(const mdn_loader *loader)
{
    return loader->batch_count;
}

bool
mdn_loader_is_endless(const mdn_loader *loader)
{
    return loader->cut.rows == MDN_ENDLESS;
}

uint64_t
mdn_loader_partition_size(const mdn_loader *loader)
{
    return loader->opt.partition_size;
}

uint64_t
mdn_loader_usual_partition(const mdn_schema *schema)
{
    uint64_t record = schema->head_size + schema->bytes_count * PAYLOAD_BYTES;
    uint64_t size = 1;

    while (2 * size * record <= PARTITION_BYTES)
        size *= 2;
    return size;
}

mdn_pool *
mdn_loader_pool(const mdn_loader *loader)
{
    return loader->pool;
}

uint64_t
mdn_loader_batch_bytes(const mdn_loader *loader)
{
    const mdn_part *parts =
        loader->batch_count > 1 ? loader->full_parts : loader->last_parts;
    uint64_t size = 0;

    for (uint32_t i = 0; i < loader->part_count; i++) {
        const mdn_part *part = &parts[i];

        if (part->shape[0] != MDN_LATER)
            size += (mdn_part_size(part) + MDN_ALIGNMENT - 1) / MDN_ALIGNMENT
                    * MDN_ALIGNMENT;
    }
    return mdn_pool_block_size(size);
}

mdn_ahead_choice
mdn_loader_ahead(mdn_loader *loader)
{
    return mdn_ahead_memory_look(&loader->ahead);
}

uint32_t
mdn_loader_part_count(const mdn_loader *loader)
{
    return loader->part_count;
}

mdn_part_role
mdn_loader_part_role(const mdn_loader *loader, uint32_t part)
{
    assert(part < loader->part_count);
    return loader->roles[part];
}

/* ----- rows ----- */

uint64_t
mdn_loader_row_count(const mdn_loader *loader)
{
    return mdn_cut_rows(&loader->cut);
}

void
mdn_loader_pass(const mdn_loader *loader, uint64_t epoch, mdn_pass *pass)
{
    const mdn_loader_options *opt = &loader->opt;

    mdn_pass_init(pass, opt->count, opt->shuffle, opt->partition_size,
                  opt->seed, epoch);
}

void
mdn_loader_rows(const mdn_loader *loader, uint64_t epoch, uint64_t first,
                uint64_t count, uint64_t *keys)
{
    mdn_pass pass;

    mdn_loader_pass(loader, epoch, &pass);
    mdn_lookup_rows(&loader->samples, &pass, first, count, keys, NULL);
}

void
mdn_loader_span(const mdn_loader *loader, uint64_t batch, uint64_t *first,
                uint64_t *end)
{
    uint64_t window;

    if (loader->opt.bucket_batches == 0) {
        *first = batch * loader->cut.batch_size;
        *end = *first + mdn_cut_batch_rows(&loader->cut, batch);
        return;
    }
    window = mdn_buckets_window(&loader->buckets, batch);
    *first = mdn_buckets_first_row(&loader->buckets, window);
    *end = *first + mdn_buckets_rows(&loader->buckets, window);
}

/* ----- filling ----- */

/* The writable memory of a part: the batch is still ours alone. */
static void *
data_of(mdn_batch *batch, uint32_t part)
{
    return mdn_batch_part(batch, part)->data;
}

/* Keys and weights of a batch that is cut from the plan of its window. */
static void
fill_sorted(const mdn_loader *loader, const mdn_pass *pass, uint64_t number,
            const uint64_t *plan, uint64_t *keys, double *weights)
{
    const mdn_buckets *buckets = &loader->buckets;
    uint64_t window = mdn_buckets_window(buckets, number);
    mdn_share share =
        mdn_cut_share(&loader->cut, mdn_buckets_batch(buckets, pass, number));

    plan += share.first - mdn_buckets_first_row(buckets, window);
    mdn_lookup_at(&loader->samples, plan, share.count, keys, weights);
}

static mdn_status
fill_from_window(mdn_loader *loader, const mdn_pass *pass, mdn_windows *windows,
                 uint64_t number, uint64_t *keys, double *weights,
                 mdn_error *err)
{
    uint64_t window = mdn_buckets_window(&loader->buckets, number);
    const uint64_t *plan = NULL;
    uint64_t *own = NULL;
    mdn_status st;

    if (windows == NULL) {
        st = mdn_buckets_plan(&loader->buckets, pass, window, &own, err);
        plan = own;
    } else
        st = mdn_windows_get(windows, window, &plan, err);
    if (st == MDN_OK)
        fill_sorted(loader, pass, number, plan, keys, weights);
    if (windows != NULL)
        mdn_windows_put(windows, window);
    free(own);
    return st;
}

static mdn_status
fill_keys(mdn_loader *loader, const mdn_pass *pass, mdn_windows *windows,
          uint64_t number, uint64_t *keys, double *weights, mdn_error *err)
{
    mdn_share share = mdn_cut_share(&loader->cut, number);

    if (loader->opt.bucket_batches > 0 && !share.is_fill_up)
        return fill_from_window(loader, pass, windows, number, keys, weights,
                                err);
    mdn_lookup_rows(&loader->samples, pass, share.first, share.count, keys,
                    weights);
    return MDN_OK;
}

/* Where the payloads of each sample end; gives the bytes of all fields. */
static mdn_status
measure(mdn_loader *loader, mdn_batch *batch, const uint64_t *keys,
        uint64_t rows, uint64_t *bytes, mdn_error *err)
{
    *bytes = 0;
    for (uint32_t i = 0; i < loader->part_count; i++) {
        mdn_part_role role = loader->roles[i];
        int64_t *offsets;
        mdn_status st;

        if (role.kind != MDN_PART_PAYLOADS)
            continue;
        offsets = data_of(batch, i + 1);
        st = mdn_view_offsets(loader->opt.view, keys, rows, role.field, offsets,
                              err);
        if (st != MDN_OK)
            return st;
        *bytes +=
            mdn_pool_block_size(offsets[rows] ? (uint64_t)offsets[rows] : 1);
    }
    return MDN_OK;
}

/* What mdn_view_fetch is to fill; fields of bytes get their memory here. */
static mdn_status
aim(mdn_loader *loader, mdn_batch *batch, uint64_t rows, mdn_target *targets,
    mdn_error *err)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < loader->part_count; i++) {
        mdn_part_role role = loader->roles[i];
        mdn_status st;
        int64_t *offsets;

        if (role.kind == MDN_PART_FIELD)
            targets[n++] =
                (mdn_target){.field = role.field, .values = data_of(batch, i)};
        if (role.kind != MDN_PART_PAYLOADS)
            continue;
        offsets = data_of(batch, i + 1);
        st = mdn_batch_allot(batch, i, (uint64_t)offsets[rows], err);
        if (st != MDN_OK)
            return st;
        targets[n++] = (mdn_target){role.field, data_of(batch, i), offsets};
    }
    return MDN_OK;
}

/* The memory of the payloads: nobody else waits for it without an mdn_asker. */
static mdn_status
allot_payloads(mdn_loader *loader, const mdn_asker *ask, mdn_batch *batch,
               const uint64_t *keys, uint64_t rows, mdn_target *targets,
               mdn_error *err)
{
    mdn_status st;
    uint64_t bytes;

    st = measure(loader, batch, keys, rows, &bytes, err);
    if (st == MDN_OK && ask != NULL)
        st = mdn_prefetcher_grant(ask->prefetcher, ask->ticket, bytes, err);
    if (st == MDN_OK)
        st = aim(loader, batch, rows, targets, err);
    return st;
}

static mdn_status
fill_batch(mdn_loader *loader, const mdn_pass *pass, mdn_windows *windows,
           const mdn_asker *ask, uint64_t number, mdn_batch *batch,
           mdn_error *err)
{
    mdn_target targets[MDN_FIELDS_MAX];
    uint64_t rows = mdn_batch_part(batch, 0)->shape[0];
    uint32_t n = 0;
    uint64_t *keys = data_of(batch, n++);
    int64_t *labels = NULL;
    double *weights = NULL;
    mdn_status st;

    if (mdn_view_has_labels(loader->opt.view))
        labels = data_of(batch, n++);
    if (loader->opt.weights != NULL)
        weights = data_of(batch, n++);
    st = fill_keys(loader, pass, windows, number, keys, weights, err);
    if (st == MDN_OK)
        st = allot_payloads(loader, ask, batch, keys, rows, targets, err);
    if (st != MDN_OK)
        return st;
    return mdn_view_fetch(loader->opt.view, keys, rows, targets,
                          loader->opt.field_count, labels, NULL, 1, err);
}

/* The same error, with the number of its batch in front. */
static mdn_status
fail_in_batch(uint64_t number, mdn_error *err)
{
    mdn_error cause;

    if (err == NULL)
        return MDN_OK;
    cause = *err;
    mdn_fail(err, cause.status, "batch %llu: %.480s",
             (unsigned long long)number, cause.message);
    err->sys_errno = cause.sys_errno;
    return cause.status;
}

mdn_status
mdn_loader_make(mdn_loader *loader, const mdn_pass *pass, mdn_windows *windows,
                const mdn_asker *ask, uint64_t number, mdn_batch **out,
                mdn_error *err)
{
    bool is_last = number + 1 == loader->batch_count;
    mdn_batch *batch;
    mdn_status st;

    *out = NULL;
    st = mdn_batch_new(loader->pool,
                       is_last ? loader->last_parts : loader->full_parts,
                       loader->part_count, &batch, err);
    if (st != MDN_OK)
        return st;
    st = fill_batch(loader, pass, windows, ask, number, batch, err);
    if (st != MDN_OK) {
        fail_in_batch(number, err);
        mdn_batch_release(batch);
        return st;
    }
    *out = batch;
    return MDN_OK;
}

mdn_status
mdn_loader_fill(mdn_loader *loader, uint64_t epoch, uint64_t batch,
                mdn_batch **out, mdn_error *err)
{
    mdn_pass pass;

    *out = NULL;
    if (batch >= loader->batch_count)
        return mdn_fail(
            err, MDN_INVALID, "batch %llu was asked for, the epoch has %llu",
            (unsigned long long)batch, (unsigned long long)loader->batch_count);
    mdn_loader_pass(loader, epoch, &pass);
    return mdn_loader_make(loader, &pass, NULL, NULL, batch, out, err);
}
