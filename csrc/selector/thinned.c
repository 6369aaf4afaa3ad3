/* thinned.c - light candidates that stay, and heavy ones.
 *
 * Both are kept by hash, from which the key can be computed back (bottom.h),
 * with the bits of the weight beside it. */
#include "selector/thinned.h"

#include "base/bytes.h"
#include "base/parallel.h"
#include "base/random.h"
#include "selector/bottom.h"
#include "selector/sort.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* What one thread works with. */
typedef struct {
    const mdn_shard *shard;
    const mdn_values *values;
    const mdn_inclusion *plan;
    uint64_t order, race;     /* streams of the seed */
    double scale, correction; /* 1 / light, 1 / s */
    mdn_lowest light, heavy;  /* hashes, bits of weights; heavy: all of them */
    mdn_exact total;          /* of all weights */
    uint64_t seen;
    mdn_status status;
    mdn_error error;
} thinning;

static double
weight_of(uint64_t bits)
{
    double weight;

    memcpy(&weight, &bits, sizeof weight);
    return weight;
}

/* The numbers of those that may stay: of all heavy ones, too. */
static uint64_t
passing_portable(const uint64_t *draws, const double *weights, uint64_t first,
                 uint64_t count, double scale, uint16_t *out)
{
    uint64_t found = 0;

    for (uint64_t i = first; i < count; i++) {
        double x = (double)(int64_t)(draws[i] >> 11) * 0x1p-53; /* or less */

        out[found] = (uint16_t)i;
        found += x <= weights[i] * scale;
    }
    return found;
}

#if defined(__x86_64__)
/* Eight at a time; most steps find none or one. */
__attribute__((target("avx512f,avx512dq"))) static uint64_t
passing_avx512(const uint64_t *draws, const double *weights, uint64_t count,
               double scale, uint16_t *out)
{
    const __m512d scales = _mm512_set1_pd(scale);
    const __m512d unit = _mm512_set1_pd(0x1p-53);
    uint64_t found = 0, i = 0;

    for (; i + 8 <= count; i += 8) {
        __m512i high = _mm512_srli_epi64(_mm512_loadu_si512(draws + i), 11);
        __m512d x = _mm512_mul_pd(_mm512_cvtepi64_pd(high), unit);
        __m512d v = _mm512_mul_pd(_mm512_loadu_pd(weights + i), scales);
        unsigned passed = _mm512_cmp_pd_mask(x, v, _CMP_LE_OQ);

        for (; passed != 0; passed &= passed - 1)
            out[found++] = (uint16_t)(i + (unsigned)__builtin_ctz(passed));
    }
    return found
           + passing_portable(draws, weights, i, count, scale, out + found);
}
#endif

static uint64_t
passing(const uint64_t *draws, const double *weights, uint64_t count,
        double scale, uint16_t *out)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        return passing_avx512(draws, weights, count, scale, out);
#endif
    return passing_portable(draws, weights, 0, count, scale, out);
}

static mdn_status
sift(void *ctx, const mdn_value_block *block, uint64_t first, uint64_t count,
     mdn_error *err)
{
    thinning *t = ctx;
    double weights[MDN_VALUES_CHUNK];
    uint64_t draws[MDN_VALUES_CHUNK], found;
    uint16_t which[MDN_VALUES_CHUNK];
    mdn_status st =
        mdn_values_weights(t->values, block, first, count, weights, err);

    if (st != MDN_OK)
        return st;
    mdn_exact_add_all(&t->total, weights, count);
    mdn_bottom_draws(t->race, block->keys + first, count, draws);
    found = passing(draws, weights, count, t->scale, which);
    for (uint64_t i = 0; st == MDN_OK && i < found; i++) {
        double weight = weights[which[i]], v = weight * t->scale;
        double x = (double)draws[which[i]] * 0x1p-64;
        uint64_t hash, bits;

        hash = mdn_draw(t->order, block->keys[first + which[i]]);
        memcpy(&bits, &weight, sizeof bits);
        if (v >= 1)
            st = mdn_lowest_put(&t->heavy, hash, bits, 0, err);
        else if (x < v - v * v * t->correction)
            st = mdn_lowest_put(&t->light, hash, bits, 0, err);
    }
    return st;
}

static void
sift_all(void *ctx, uint32_t number)
{
    thinning *t = (thinning *)ctx + number;

    t->status =
        mdn_values_each(t->shard, t->values, sift, t, &t->seen, &t->error);
}

/* Into the first one what the others found: of what the plan was made for. */
static mdn_status
gather(thinning *parts, uint32_t count, mdn_error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        mdn_status st = parts[i].status;

        if (st != MDN_OK && err != NULL)
            *err = parts[i].error;
        if (st == MDN_OK && i > 0)
            st = mdn_lowest_merge(&parts[0].light, &parts[i].light, err);
        if (st == MDN_OK && i > 0)
            st = mdn_lowest_merge(&parts[0].heavy, &parts[i].heavy, err);
        if (st != MDN_OK)
            return st;
        if (i > 0) {
            mdn_exact_merge(&parts[0].total, &parts[i].total);
            parts[0].seen += parts[i].seen;
            mdn_lowest_free(&parts[i].light);
            mdn_lowest_free(&parts[i].heavy);
        }
    }
    if (parts[0].seen == parts[0].plan->seen
        && mdn_exact_round(&parts[0].total) == parts[0].plan->total)
        return MDN_OK;
    return mdn_systematic_changed(err);
}

/* ---- the points ---- */

static mdn_status
sort_entries(mdn_lowest *entries, mdn_error *err)
{
    uint64_t bytes = (2 * entries->count + 1) * sizeof(uint64_t);
    uint64_t *scratch = malloc(bytes);

    if (scratch == NULL)
        return mdn_fail_nomem(err, bytes);
    if (entries->count > 0)
        mdn_sort_pairs(entries->orders, entries->keys, entries->count, scratch);
    free(scratch);
    return MDN_OK;
}

static void
choose(mdn_drawn *out, const mdn_inclusion *plan, uint64_t hash, double weight)
{
    if (out->count == plan->count)
        return; /* more certain ones than there should be: keys came twice */
    out->keys[out->count] = hash;
    out->weights[out->count++] =
        (double)plan->count
        / ((double)plan->seen * mdn_inclusion_of(plan, weight));
}

/* Those heavy ones that are chosen, in order of their hashes; returns how many
 * points fall behind them. */
static uint64_t
choose_heavy(const thinning *t, uint64_t seed, mdn_drawn *out)
{
    const mdn_lowest *heavy = &t->heavy;
    mdn_wide point = mdn_draw(mdn_stream(seed, MDN_STREAM_SYSTEMATIC), 0) >> 1;
    mdn_wide end = 0;

    for (uint64_t i = 0; i < heavy->count; i++) {
        double weight = weight_of(heavy->keys[i]);
        double pi = mdn_inclusion_of(t->plan, weight);

        if (pi < 1)
            end += mdn_systematic_length(pi);
        if (pi < 1 && point >= end)
            continue;
        if (pi < 1)
            point += (mdn_wide)1 << 63;
        choose(out, t->plan, heavy->orders[i], weight);
    }
    return t->plan->count - out->count;
}

static mdn_status
draw(thinning *t, uint64_t seed, mdn_drawn *out, bool *enough, mdn_error *err)
{
    uint64_t bytes = (t->plan->count + 1) * sizeof(uint64_t);
    mdn_lowest *light = &t->light;
    mdn_status st;

    if ((st = sort_entries(&t->heavy, err)) != MDN_OK)
        return st;
    out->keys = malloc(bytes);
    out->weights = malloc(bytes);
    if (out->keys == NULL || out->weights == NULL)
        return mdn_fail_nomem(err, 2 * bytes);
    light->limit = choose_heavy(t, seed, out);
    *enough = light->count >= light->limit;
    if (!*enough)
        return MDN_OK;
    mdn_lowest_trim(light);
    for (uint64_t i = 0; i < light->count; i++)
        choose(out, t->plan, light->orders[i], weight_of(light->keys[i]));
    mdn_lowest_free(light);
    mdn_lowest_free(&t->heavy);
    return mdn_systematic_finish(t->order, out, err);
}

mdn_status
mdn_thinned(const mdn_shard *shards, uint32_t shard_count,
            const mdn_values *values, const mdn_inclusion *plan, uint64_t seed,
            mdn_drawn *out, bool *enough, mdn_error *err)
{
    thinning *parts = calloc(shard_count, sizeof *parts);
    mdn_status st;

    *out = (mdn_drawn){0};
    *enough = true;
    if (parts == NULL)
        return mdn_fail_nomem(err, shard_count * sizeof *parts);
    for (uint32_t i = 0; i < shard_count; i++) {
        parts[i] = (thinning){
            .shard = &shards[i],
            .values = values,
            .plan = plan,
            .order = mdn_stream(seed, MDN_STREAM_ORDER),
            .race = mdn_stream(seed, MDN_STREAM_RACE),
            .scale = 1 / plan->light,
            .correction = 1 / plan->light_sum,
        };
        mdn_lowest_init(&parts[i].light, plan->count, false);
        mdn_lowest_init(&parts[i].heavy, UINT64_MAX, false);
    }
    mdn_parallel(shard_count, sift_all, parts);
    if ((st = gather(parts, shard_count, err)) == MDN_OK)
        st = draw(&parts[0], seed, out, enough, err);
    for (uint32_t i = 0; i < shard_count; i++) {
        mdn_lowest_free(&parts[i].light);
        mdn_lowest_free(&parts[i].heavy);
    }
    free(parts);
    if (st != MDN_OK || !*enough)
        mdn_drawn_free(out);
    return st;
}
