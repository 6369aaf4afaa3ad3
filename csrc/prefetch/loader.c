/* loader.c - which sample goes where in which batch.
 *
 * All of a loader but its pool is set once and only read afterwards, so that
 * any number of workers fill batches at the same time, each for itself:
 *
 *   (1) rows [b * batch_size, ...) of the epoch become positions
 *   (2) the positions become keys, and weights
 *   (3) one gather brings labels and fields to where the consumer reads them
 *
 * (1) and (2) go block by block.  While the positions of one block are drawn,
 * which is arithmetic, the keys of the block before it are on their way. */
#include "prefetch/loader.h"

#include "base/bytes.h"
#include "base/permutation.h"
#include "prefetch/prefetcher.h"

#include <assert.h>
#include <stdlib.h>

#define BLOCK 32 /* rows */

struct mdn_loader {
    mdn_loader_options opt; /* its fields point to our own copy */
    uint64_t batch_count;
    uint64_t full_rows; /* of every batch but the last */
    uint64_t last_rows;
    mdn_pool *pool; /* one reference */
    uint32_t *fields;
    uint32_t part_count;
    uint32_t payload_count; /* parts whose length is known only when filled */
    mdn_part_role *roles;
    mdn_part *full_parts; /* shapes of every batch but the last */
    mdn_part *last_parts;
};

struct mdn_epoch {
    mdn_loader *loader; /* borrowed; must outlive the epoch */
    uint64_t first_batch;
    mdn_permutation permutation; /* when it shuffles */
    mdn_prefetcher *prefetcher;
};

/* ----- the plan ----- */

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
    return MDN_OK;
}

static void
count_batches(mdn_loader *loader)
{
    uint64_t count = loader->opt.count, size = loader->opt.batch_size;

    loader->full_rows = size < count ? size : count;
    loader->batch_count = count / size;
    loader->last_rows = loader->full_rows;
    if (count % size != 0 && !loader->opt.drop_last) {
        loader->batch_count++;
        loader->last_rows = count % size;
    }
}

static uint32_t
assign_roles(mdn_loader *loader)
{
    const mdn_schema *schema = mdn_view_schema(loader->opt.view);
    mdn_part_role *roles = loader->roles;
    uint32_t n = 0;

    roles[n++] = (mdn_part_role){MDN_PART_KEYS, 0};
    if (mdn_view_has_labels(loader->opt.view))
        roles[n++] = (mdn_part_role){MDN_PART_LABELS, 0};
    if (loader->opt.weights != NULL)
        roles[n++] = (mdn_part_role){MDN_PART_WEIGHTS, 0};
    for (uint32_t i = 0; i < loader->opt.field_count; i++) {
        uint32_t field = loader->fields[i];

        if (schema->fields[field].dtype == MDN_BYTES) {
            roles[n++] = (mdn_part_role){MDN_PART_PAYLOADS, field};
            roles[n++] = (mdn_part_role){MDN_PART_OFFSETS, field};
            loader->payload_count++;
        } else
            roles[n++] = (mdn_part_role){MDN_PART_FIELD, field};
    }
    return n;
}

static mdn_part
part_of_field(const mdn_field *field, uint64_t rows)
{
    mdn_part part = {.dtype = field->dtype, .ndim = field->ndim + 1};

    part.shape[0] = rows;
    for (uint32_t i = 0; i < field->ndim; i++)
        part.shape[i + 1] = field->shape[i];
    return part;
}

static mdn_part
part_of_role(const mdn_schema *schema, mdn_part_role role, uint64_t rows)
{
    mdn_part part = {.ndim = 1, .shape = {rows}};

    switch (role.kind) { /* no default: -Wswitch rejects a missing case */
    case MDN_PART_KEYS: part.dtype = MDN_UINT64; break;
    case MDN_PART_LABELS: part.dtype = MDN_INT64; break;
    case MDN_PART_WEIGHTS: part.dtype = MDN_FLOAT64; break;
    case MDN_PART_FIELD:
        return part_of_field(&schema->fields[role.field], rows);
    case MDN_PART_PAYLOADS:
        part.dtype = MDN_UINT8;
        part.shape[0] = MDN_LATER;
        break;
    case MDN_PART_OFFSETS:
        part.dtype = MDN_INT64;
        part.shape[0] = rows + 1;
        break;
    }
    return part;
}

static void
shape_parts(const mdn_loader *loader, uint64_t rows, mdn_part *parts)
{
    const mdn_schema *schema = mdn_view_schema(loader->opt.view);

    for (uint32_t i = 0; i < loader->part_count; i++)
        parts[i] = part_of_role(schema, loader->roles[i], rows);
}

/* Three parts of a sample, and at most two for each field. */
static mdn_status
allocate(mdn_loader *loader, mdn_error *err)
{
    uint64_t field_count = loader->opt.field_count;
    uint64_t part_max = 3 + 2 * field_count;

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
    for (uint32_t i = 0; i < options->field_count; i++)
        loader->fields[i] = options->fields[i];
    loader->opt.fields = loader->fields;
    count_batches(loader);
    loader->part_count = assign_roles(loader);
    shape_parts(loader, loader->full_rows, loader->full_parts);
    shape_parts(loader, loader->last_rows, loader->last_parts);
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

mdn_pool *
mdn_loader_pool(const mdn_loader *loader)
{
    return loader->pool;
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

/* ----- filling ----- */

/* The writable memory of a part: the batch is still ours alone. */
static void *
data_of(mdn_batch *batch, uint32_t part)
{
    return mdn_batch_part(batch, part)->data;
}

static uint64_t
block_size(uint64_t at, uint64_t rows)
{
    return rows - at < BLOCK ? rows - at : BLOCK;
}

/* Put the positions of a block of rows where its keys will be, and ask for what
 * lies there. */
static void
draw_block(const mdn_loader_options *opt, const mdn_permutation *permutation,
           uint64_t first, uint64_t count, uint64_t *positions)
{
    mdn_permutation_range(permutation, first, count, positions);
    for (uint64_t i = 0; i < count; i++)
        __builtin_prefetch(&opt->keys[positions[i]]);
    for (uint64_t i = 0; opt->weights != NULL && i < count; i++)
        __builtin_prefetch(&opt->weights[positions[i]]);
}

/* keys[i] is a position, and becomes the key that is there. */
static void
look_up_block(const mdn_loader_options *opt, uint64_t count, uint64_t *keys,
              double *weights)
{
    for (uint64_t i = 0; weights != NULL && i < count; i++)
        weights[i] = opt->weights[keys[i]];
    for (uint64_t i = 0; i < count; i++)
        keys[i] = opt->keys[keys[i]];
}

static void
fill_shuffled(const mdn_loader_options *opt, const mdn_permutation *permutation,
              uint64_t first, uint64_t rows, uint64_t *keys, double *weights)
{
    draw_block(opt, permutation, first, block_size(0, rows), keys);
    for (uint64_t at = 0; at < rows; at += BLOCK) {
        uint64_t next = at + BLOCK;

        if (next < rows)
            draw_block(opt, permutation, first + next, block_size(next, rows),
                       keys + next);
        look_up_block(opt, block_size(at, rows), keys + at,
                      weights != NULL ? weights + at : NULL);
    }
}

static void
fill_keys(const mdn_loader_options *opt, const mdn_permutation *permutation,
          uint64_t first, uint64_t rows, uint64_t *keys, double *weights)
{
    if (opt->shuffle) {
        fill_shuffled(opt, permutation, first, rows, keys, weights);
        return;
    }
    memcpy(keys, opt->keys + first, rows * sizeof *keys);
    if (weights != NULL)
        memcpy(weights, opt->weights + first, rows * sizeof *weights);
}

/* What mdn_view_fetch is to fill; fields of bytes get their memory here. */
static mdn_status
aim(mdn_loader *loader, mdn_batch *batch, const uint64_t *keys, uint64_t rows,
    mdn_target *targets, mdn_error *err)
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
        st = mdn_view_offsets(loader->opt.view, keys, rows, role.field, offsets,
                              err);
        if (st != MDN_OK)
            return st;
        st = mdn_batch_allot(batch, i, (uint64_t)offsets[rows], err);
        if (st != MDN_OK)
            return st;
        targets[n++] = (mdn_target){role.field, data_of(batch, i), offsets};
    }
    return MDN_OK;
}

static mdn_status
fill_batch(mdn_loader *loader, const mdn_permutation *permutation,
           uint64_t number, mdn_batch *batch, mdn_error *err)
{
    mdn_target targets[MDN_FIELDS_MAX];
    bool is_last = number + 1 == loader->batch_count;
    uint64_t rows = is_last ? loader->last_rows : loader->full_rows;
    uint64_t first = number * loader->opt.batch_size;
    uint32_t n = 0;
    uint64_t *keys = data_of(batch, n++);
    int64_t *labels = NULL;
    double *weights = NULL;
    mdn_status st;

    if (mdn_view_has_labels(loader->opt.view))
        labels = data_of(batch, n++);
    if (loader->opt.weights != NULL)
        weights = data_of(batch, n++);
    fill_keys(&loader->opt, permutation, first, rows, keys, weights);
    st = aim(loader, batch, keys, rows, targets, err);
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

static mdn_status
make_batch(mdn_loader *loader, const mdn_permutation *permutation,
           uint64_t number, mdn_batch **out, mdn_error *err)
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
    st = fill_batch(loader, permutation, number, batch, err);
    if (st != MDN_OK) {
        fail_in_batch(number, err);
        mdn_batch_release(batch);
        return st;
    }
    *out = batch;
    return MDN_OK;
}

static void
shuffle(const mdn_loader *loader, uint64_t epoch, mdn_permutation *permutation)
{
    if (loader->opt.shuffle && loader->opt.count > 0)
        mdn_permutation_init(permutation, loader->opt.count, loader->opt.seed,
                             epoch);
}

mdn_status
mdn_loader_fill(mdn_loader *loader, uint64_t epoch, uint64_t batch,
                mdn_batch **out, mdn_error *err)
{
    mdn_permutation permutation;

    *out = NULL;
    if (batch >= loader->batch_count)
        return mdn_fail(
            err, MDN_INVALID, "batch %llu was asked for, the epoch has %llu",
            (unsigned long long)batch, (unsigned long long)loader->batch_count);
    shuffle(loader, epoch, &permutation);
    return make_batch(loader, &permutation, batch, out, err);
}

/* ----- an epoch ----- */

static mdn_status
fill_ticket(void *ctx, uint64_t ticket, mdn_batch **out, mdn_error *err)
{
    mdn_epoch *epoch = ctx;

    return make_batch(epoch->loader, &epoch->permutation,
                      epoch->first_batch + ticket, out, err);
}

static mdn_status
check_epoch(const mdn_loader *loader, const mdn_epoch_options *opt,
            mdn_error *err)
{
    if (opt->thread_count < 1 || opt->thread_count > MDN_LOADER_THREADS_MAX)
        return mdn_fail(err, MDN_INVALID, "threads must be 1 to %d, got %u",
                        MDN_LOADER_THREADS_MAX, opt->thread_count);
    if (opt->depth < 1 || opt->depth > MDN_LOADER_DEPTH_MAX)
        return mdn_fail(err, MDN_INVALID, "prefetch must be 1 to %d, got %u",
                        MDN_LOADER_DEPTH_MAX, opt->depth);
    if (opt->first_batch > loader->batch_count)
        return mdn_fail(err, MDN_INVALID,
                        "first batch %llu was asked for, the epoch has %llu",
                        (unsigned long long)opt->first_batch,
                        (unsigned long long)loader->batch_count);
    return MDN_OK;
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
    shuffle(loader, options->epoch, &epoch->permutation);
    workers = (mdn_prefetcher_options){
        .ticket_count = loader->batch_count - options->first_batch,
        .thread_count = options->thread_count,
        .depth = options->depth,
        .ctx = epoch,
        .fill = fill_ticket,
    };
    /* The batches in the window and the one or two the consumer holds. */
    mdn_pool_keep(loader->pool,
                  (options->depth + 2) * (1 + loader->payload_count));
    st = mdn_prefetcher_start(&workers, &epoch->prefetcher, err);
    if (st != MDN_OK) {
        free(epoch);
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

void
mdn_epoch_close(mdn_epoch *epoch)
{
    mdn_prefetcher_close(epoch->prefetcher);
}

void
mdn_epoch_free(mdn_epoch *epoch)
{
    if (epoch == NULL)
        return;
    mdn_prefetcher_free(epoch->prefetcher);
    free(epoch);
}
