/* sampler.c - the kinds of choice, behind one face. */
#include "selector/sampler.h"

#include "base/parallel.h"
#include "selector/sort.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

mdn_status
mdn_sampler_new(const mdn_sampler_options *options, mdn_sampler **out,
                mdn_error *err)
{
    mdn_sampler_kind kind = options->kind;
    uint64_t limit = options->limit;
    mdn_sampler *sampler = calloc(1, sizeof *sampler);

    *out = NULL;
    if (sampler == NULL)
        return mdn_fail_nomem(err, sizeof *sampler);
    sampler->options = *options;
    if (kind == MDN_SAMPLER_PRIORITY && limit > 0 && limit < UINT64_MAX)
        limit++; /* the first that is not chosen says what the others weigh */
    mdn_uniform_init(&sampler->uniform, limit, options->seed, options->merging);
    mdn_balance_init(&sampler->balance, limit, options->mode, options->seed);
    mdn_lowest_init(&sampler->lowest, limit,
                    kind == MDN_SAMPLER_PRIORITY
                        || kind == MDN_SAMPLER_ARRIVALS);
    if (kind == MDN_SAMPLER_ARRIVALS) {
        sampler->total = calloc(1, sizeof *sampler->total);
        if (sampler->total == NULL) {
            mdn_sampler_free(sampler);
            return mdn_fail_nomem(err, sizeof *sampler->total);
        }
    }
    *out = sampler;
    return MDN_OK;
}

void
mdn_sampler_free(mdn_sampler *sampler)
{
    if (sampler == NULL)
        return;
    mdn_uniform_free(&sampler->uniform);
    mdn_balance_free(&sampler->balance);
    mdn_lowest_free(&sampler->lowest);
    free(sampler->total);
    free(sampler);
}

void
mdn_drawn_free(mdn_drawn *drawn)
{
    free(drawn->keys);
    free(drawn->weights);
    *drawn = (mdn_drawn){0};
}

/* ---- offering ---- */

/* What offering by value works with. */
typedef struct {
    mdn_sampler *sampler;
    const mdn_values *values;
    mdn_weighted weighted;
} offering;

static mdn_status
offer_ranked(void *ctx, const mdn_value_block *block, uint64_t first,
             uint64_t count, mdn_error *err)
{
    offering *o = ctx;
    mdn_lowest *lowest = &o->sampler->lowest;
    mdn_sampler_kind kind = o->sampler->options.kind;
    uint64_t orders[MDN_VALUES_CHUNK];
    uint64_t flip = kind == MDN_SAMPLER_NEWEST ? UINT64_MAX : 0;
    mdn_status st = mdn_values_orders(
        block, first, count, kind != MDN_SAMPLER_SMALLEST, orders, err);

    for (uint64_t i = 0; st == MDN_OK && i < count; i++)
        if (orders[i] <= lowest->cut_order)
            st = mdn_lowest_put(lowest, orders[i],
                                block->keys[first + i] ^ flip, 0, err);
    return st;
}

static mdn_status
offer_weighted(void *ctx, const mdn_value_block *block, uint64_t first,
               uint64_t count, mdn_error *err)
{
    offering *o = ctx;
    double weights[MDN_VALUES_CHUNK];
    mdn_status st =
        mdn_values_weights(o->values, block, first, count, weights, err);

    if (st != MDN_OK)
        return st;
    return mdn_weighted_offer(&o->weighted, block->keys + first, weights, count,
                              err);
}

static mdn_status
offer_by_weight(mdn_sampler *sampler, mdn_weighted_kind kind,
                const mdn_shard *shard, const mdn_values *values,
                mdn_error *err)
{
    offering o = {.sampler = sampler, .values = values};

    mdn_weighted_init(&o.weighted, kind, sampler->options.seed,
                      &sampler->lowest, sampler->total);
    return mdn_values_each(shard, values, offer_weighted, &o, &sampler->seen,
                           err);
}

static mdn_status
offer_one(mdn_sampler *sampler, const mdn_shard *shard,
          const mdn_values *values, mdn_error *err)
{
    offering o = {.sampler = sampler};

    switch (sampler->options.kind) {
    case MDN_SAMPLER_UNIFORM:
        return mdn_uniform_offer(&sampler->uniform, shard->stream, err);
    case MDN_SAMPLER_BALANCED:
        return mdn_balance_offer(&sampler->balance, shard->stream, err);
    case MDN_SAMPLER_SMALLEST:
    case MDN_SAMPLER_LARGEST:
    case MDN_SAMPLER_NEWEST:
        return mdn_values_each(shard, values, offer_ranked, &o, &sampler->seen,
                               err);
    case MDN_SAMPLER_SEQUENTIAL:
        return offer_by_weight(sampler, MDN_WEIGHTED_SEQUENTIAL, shard, values,
                               err);
    case MDN_SAMPLER_PRIORITY:
        return offer_by_weight(sampler, MDN_WEIGHTED_PRIORITY, shard, values,
                               err);
    case MDN_SAMPLER_ARRIVALS:
        return offer_by_weight(sampler, MDN_WEIGHTED_ARRIVALS, shard, values,
                               err);
    }
    return mdn_fail(err, MDN_INVALID, "a sampler of no known kind");
}

/* One shard, and what came of it. */
typedef struct {
    mdn_sampler *sampler;
    const mdn_shard *shard;
    const mdn_values *values;
    mdn_status status;
    mdn_error error;
} part;

static void
offer_part(void *ctx, uint32_t number)
{
    part *p = (part *)ctx + number;

    p->status = offer_one(p->sampler, p->shard, p->values, &p->error);
}

/* What is behind the cut of one is not wanted by another that will be merged
 * into it. */
static void
start_at_cut(mdn_sampler *sampler, const mdn_sampler *whole)
{
    sampler->uniform.bottom.cut = whole->uniform.bottom.cut;
    sampler->lowest.cut_order = whole->lowest.cut_order;
    sampler->lowest.cut_key = whole->lowest.cut_key;
}

/* Each shard into a sampler of its own, and those into the first one. */
static mdn_status
offer_parts(part *parts, uint32_t count, mdn_error *err)
{
    mdn_status st = MDN_OK;

    for (uint32_t i = 1; st == MDN_OK && i < count; i++) {
        st =
            mdn_sampler_new(&parts[0].sampler->options, &parts[i].sampler, err);
        if (st == MDN_OK)
            start_at_cut(parts[i].sampler, parts[0].sampler);
    }
    if (st == MDN_OK)
        mdn_parallel(count, offer_part, parts);
    for (uint32_t i = 0; st == MDN_OK && i < count; i++) {
        st = parts[i].status;
        if (st != MDN_OK && err != NULL)
            *err = parts[i].error;
        if (st == MDN_OK && i > 0)
            st = mdn_sampler_merge(parts[0].sampler, parts[i].sampler, err);
    }
    for (uint32_t i = 1; i < count; i++)
        mdn_sampler_free(parts[i].sampler);
    return st;
}

mdn_status
mdn_sampler_offer(mdn_sampler *sampler, const mdn_shard *shards,
                  uint32_t shard_count, const mdn_values *values,
                  mdn_error *err)
{
    part *parts;
    mdn_status st;

    if (shard_count == 1)
        return offer_one(sampler, shards, values, err);
    parts = calloc(shard_count > 0 ? shard_count : 1, sizeof *parts);
    if (parts == NULL)
        return mdn_fail_nomem(err, shard_count * sizeof *parts);
    for (uint32_t i = 0; i < shard_count; i++)
        parts[i] = (part){.shard = &shards[i], .values = values};
    parts[0].sampler = sampler;
    st = shard_count > 0 ? offer_parts(parts, shard_count, err) : MDN_OK;
    free(parts);
    return st;
}

mdn_status
mdn_sampler_merge(mdn_sampler *sampler, const mdn_sampler *other,
                  mdn_error *err)
{
    const mdn_sampler_options *a = &sampler->options, *b = &other->options;
    mdn_status st;

    if (a->kind != b->kind || a->limit != b->limit || a->seed != b->seed
        || a->mode != b->mode || a->merging != b->merging)
        return mdn_fail(err, MDN_INVALID,
                        "samplers of different kinds, counts, seeds or "
                        "options cannot be merged");
    sampler->seen += other->seen;
    if (sampler->total != NULL)
        mdn_exact_merge(sampler->total, other->total);
    if (a->kind == MDN_SAMPLER_UNIFORM)
        st = mdn_uniform_merge(&sampler->uniform, &other->uniform, err);
    else if (a->kind == MDN_SAMPLER_BALANCED)
        st = mdn_balance_merge(&sampler->balance, &other->balance, err);
    else
        st = mdn_lowest_merge(&sampler->lowest, &other->lowest, err);
    return st;
}

/* ---- the choice ---- */

/* Move the entry that comes last of all to the end, and take it away. */
static uint64_t
take_last(mdn_lowest *lowest)
{
    uint64_t last = 0, end = lowest->count - 1, order;

    for (uint64_t i = 1; i <= end; i++)
        if (lowest->orders[i] > lowest->orders[last]
            || (lowest->orders[i] == lowest->orders[last]
                && lowest->keys[i] > lowest->keys[last]))
            last = i;
    order = lowest->orders[last];
    lowest->orders[last] = lowest->orders[end];
    lowest->keys[last] = lowest->keys[end];
    lowest->weights[last] = lowest->weights[end];
    lowest->count--;
    return order;
}

/* weights become what each key counts in an estimate. */
static void
weigh_priorities(mdn_sampler *sampler)
{
    mdn_lowest *lowest = &sampler->lowest;
    double n = (double)sampler->seen;
    bool all = lowest->count < lowest->limit;
    uint64_t behind;
    double k;

    if (lowest->count == 0)
        return;
    behind = all ? UINT64_MAX : take_last(lowest);
    k = (double)lowest->count;
    for (uint64_t i = 0; i < lowest->count; i++)
        lowest->weights[i] =
            all ? 1.0
                : k
                      / (n
                         * mdn_weighted_priority(lowest->orders[i], behind,
                                                 lowest->weights[i]));
}

static void
weigh_arrivals(mdn_sampler *sampler)
{
    mdn_lowest *lowest = &sampler->lowest;
    double mean = mdn_exact_round(sampler->total) / (double)sampler->seen;

    for (uint64_t i = 0; i < lowest->count; i++)
        lowest->weights[i] = mean / lowest->weights[i];
}

/* Equal keys, which are neighbours, into one; its weight is their sum. */
static void
join_equal(mdn_drawn *drawn)
{
    uint64_t kept = 0;

    for (uint64_t i = 0; i < drawn->count; i++) {
        if (kept > 0 && drawn->keys[kept - 1] == drawn->keys[i]) {
            drawn->weights[kept - 1] += drawn->weights[i];
        } else {
            drawn->keys[kept] = drawn->keys[i];
            drawn->weights[kept++] = drawn->weights[i];
        }
    }
    drawn->count = kept;
}

static mdn_status
refuse_equal(const mdn_drawn *drawn, mdn_error *err)
{
    for (uint64_t i = 1; i < drawn->count; i++)
        if (drawn->keys[i] == drawn->keys[i - 1])
            return mdn_fail(err, MDN_INVALID,
                            "key %" PRIu64
                            " comes more than once among the candidates",
                            drawn->keys[i]);
    return MDN_OK;
}

/* Entries in order of their keys; scratch: 3 * count words. */
static void
sort_entries(const mdn_lowest *lowest, uint64_t *scratch, mdn_drawn *out)
{
    uint64_t count = lowest->count;

    if (count == 0)
        return;
    memcpy(out->keys, lowest->keys, count * sizeof *out->keys);
    if (lowest->weighted) {
        memcpy(scratch, lowest->weights, count * sizeof *scratch);
        mdn_sort_pairs(out->keys, scratch, count, scratch + count);
        memcpy(out->weights, scratch, count * sizeof *scratch);
    } else {
        mdn_sort_words(out->keys, count, scratch);
    }
}

static mdn_status
finish_entries(const mdn_lowest *lowest, mdn_drawn *out, mdn_error *err)
{
    uint64_t count = lowest->count, bytes = (count + 1) * sizeof(uint64_t);
    uint64_t *scratch = malloc(3 * bytes);

    out->count = count;
    out->keys = malloc(bytes);
    out->weights = lowest->weighted ? malloc(bytes) : NULL;
    if (scratch == NULL || out->keys == NULL
        || (lowest->weighted && out->weights == NULL)) {
        free(scratch);
        return mdn_fail_nomem(err, 5 * bytes);
    }
    sort_entries(lowest, scratch, out);
    free(scratch);
    return MDN_OK;
}

/* What is not needed for the choice, before memory is needed for that. */
static void
drop_orders(mdn_lowest *lowest)
{
    uint64_t bytes = (lowest->count + 1) * sizeof(uint64_t);
    uint64_t *keys;
    double *weights;

    free(lowest->orders);
    lowest->orders = NULL;
    if (lowest->capacity <= lowest->count)
        return;
    lowest->capacity = lowest->count;
    if ((keys = realloc(lowest->keys, bytes)) != NULL)
        lowest->keys = keys;
    if (lowest->weighted && (weights = realloc(lowest->weights, bytes)) != NULL)
        lowest->weights = weights;
}

static mdn_status
finish_lowest(mdn_sampler *sampler, mdn_drawn *out, mdn_error *err)
{
    mdn_lowest *lowest = &sampler->lowest;
    mdn_sampler_kind kind = sampler->options.kind;
    mdn_status st;

    mdn_lowest_trim(lowest);
    if (kind == MDN_SAMPLER_NEWEST)
        for (uint64_t i = 0; i < lowest->count; i++)
            lowest->keys[i] ^= UINT64_MAX;
    if (kind == MDN_SAMPLER_PRIORITY)
        weigh_priorities(sampler);
    if (kind == MDN_SAMPLER_ARRIVALS)
        weigh_arrivals(sampler);
    drop_orders(lowest);
    if ((st = finish_entries(lowest, out, err)) != MDN_OK)
        return st;
    if (kind == MDN_SAMPLER_ARRIVALS) {
        join_equal(out);
        return MDN_OK;
    }
    return refuse_equal(out, err);
}

mdn_status
mdn_sampler_finish(mdn_sampler *sampler, mdn_drawn *out, bool *repeated,
                   mdn_error *err)
{
    mdn_status st;

    *out = (mdn_drawn){0};
    *repeated = false;
    if (sampler->options.kind == MDN_SAMPLER_UNIFORM)
        st = mdn_uniform_keys(&sampler->uniform, &out->keys, &out->count,
                              repeated, err);
    else if (sampler->options.kind == MDN_SAMPLER_BALANCED)
        st = mdn_balance_keys(&sampler->balance, &out->keys, &out->count, err);
    else
        st = finish_lowest(sampler, out, err);
    if (st != MDN_OK)
        mdn_drawn_free(out);
    return st;
}
