/* inclusion.c - from weights to the probabilities of a choice of fixed size.
 *
 * Only the `count` largest weights can be so large that pi would exceed 1.  In
 * order, largest first, let rest(m) be the sum of all weights but the first m.
 * Weight m is certain when
 *
 *     weight(m) * (count - m) >= rest(m)
 *
 * and if it is not, no later one is; so the last that is certain is looked for
 * from the small end, where adding up loses nothing. */
#include "selector/systematic.h"

#include "base/parallel.h"
#include "selector/bottom.h"
#include "selector/sort.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define AT_ONCE 8 /* weights that are compared without a branch */

/* What one thread finds in its shard. */
typedef struct {
    const mdn_shard *shard;
    const mdn_values *values;
    mdn_lowest largest; /* orders: bits of weights, largest first */
    mdn_exact *total;   /* owned */
    uint64_t seen, positive;
    mdn_status status;
    mdn_error error;
} survey;

static double
weight_of(uint64_t order)
{
    double weight;

    order = ~order;
    memcpy(&weight, &order, sizeof weight);
    return weight;
}

/* Whether one of a few is no less than the smallest that is wanted. */
static bool
may_be_large(const double *weights, uint64_t count, double least)
{
    uint64_t found = 0;

    if (count < AT_ONCE || isnan(least))
        return true;
    for (uint64_t i = 0; i < AT_ONCE; i++)
        found += weights[i] >= least;
    return found > 0;
}

static mdn_status
put_large(survey *s, const uint64_t *keys, const double *weights,
          uint64_t first, uint64_t end, mdn_error *err)
{
    mdn_status st = MDN_OK;

    for (uint64_t i = first; st == MDN_OK && i < end; i++) {
        uint64_t bits;

        memcpy(&bits, &weights[i], sizeof bits);
        st = mdn_lowest_put(&s->largest, ~bits, keys[i], 0, err);
    }
    return st;
}

static mdn_status
look(void *ctx, const mdn_value_block *block, uint64_t first, uint64_t count,
     mdn_error *err)
{
    survey *s = ctx;
    double weights[MDN_VALUES_CHUNK];
    mdn_status st =
        mdn_values_weights(s->values, block, first, count, weights, err);

    if (st != MDN_OK)
        return st;
    mdn_exact_add_all(s->total, weights, count);
    for (uint64_t i = 0; i < count; i++)
        s->positive += weights[i] != 0;
    for (uint64_t i = 0; st == MDN_OK && i < count; i += AT_ONCE) {
        uint64_t end = count - i < AT_ONCE ? count : i + AT_ONCE;

        if (may_be_large(weights + i, end - i, weight_of(s->largest.cut_order)))
            st = put_large(s, block->keys + first, weights, i, end, err);
    }
    return st;
}

static void
look_at_all(void *ctx, uint32_t number)
{
    survey *s = (survey *)ctx + number;

    s->status =
        mdn_values_each(s->shard, s->values, look, s, &s->seen, &s->error);
}

/* Into the first one what the others found. */
static mdn_status
gather(survey *surveys, uint32_t count, mdn_error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        mdn_status st = surveys[i].status;

        if (st != MDN_OK && err != NULL)
            *err = surveys[i].error;
        if (st == MDN_OK && i > 0)
            st =
                mdn_lowest_merge(&surveys[0].largest, &surveys[i].largest, err);
        if (st != MDN_OK)
            return st;
        if (i > 0) {
            mdn_exact_merge(surveys[0].total, surveys[i].total);
            surveys[0].seen += surveys[i].seen;
            surveys[0].positive += surveys[i].positive;
        }
    }
    return MDN_OK;
}

/* How many of the largest are certain.  orders: of all `count` of them, sorted;
 * total: of the weights that are not among them. */
static uint64_t
certain_count(const uint64_t *orders, uint64_t count, double total)
{
    double rest = total;
    uint64_t certain = count;

    while (certain > 0) {
        double weight = weight_of(orders[certain - 1]);

        rest += weight;
        if (weight * (double)(count - certain + 1) >= rest)
            break;
        certain--;
    }
    while (certain > 0 && certain < count
           && orders[certain] == orders[certain - 1])
        certain--; /* rounding does not part equal weights */
    return certain;
}

/* The sum of all weights below 2^exponent, but for those that are certain. */
static double
sum_below(const mdn_exact *total, int exponent)
{
    double sum = 0;

    for (int e = 1; e < MDN_EXACT_PARTS && e < exponent + 1023; e++)
        if (total->parts[e] != 0)
            sum += ldexp((double)total->parts[e], e - 1075);
    return sum;
}

/* Who is light.  points: those that are chosen, but for the certain ones;
 * total: likewise.  Of the weights that are no less than light there are no
 * more than their sum / light. */
static void
find_light(const mdn_exact *total, double points, double thin_from,
           mdn_inclusion *out)
{
    double sum = mdn_exact_round(total), light_sum, heavy;
    double most = 4 * points > thin_from ? 4 * points : thin_from;
    int exponent;

    if (!(out->factor > 0))
        return;
    (void)frexp(0.5 / out->factor, &exponent);
    do {
        exponent--;
        light_sum = ldexp(sum_below(total, exponent), -exponent);
        heavy = ldexp(sum, -exponent) - light_sum;
    } while (light_sum < thin_from && heavy <= most);
    if (heavy > most)
        return;
    out->light = ldexp(1, exponent);
    out->light_sum = light_sum;
}

static mdn_status
plan(survey *all, uint64_t count, double thin_from, mdn_inclusion *out,
     mdn_error *err)
{
    mdn_lowest *largest = &all->largest;
    uint64_t zeros = all->seen - all->positive, certain;
    uint64_t *scratch;

    *out = (mdn_inclusion){
        .certain = MDN_WEIGHT_MIN,
        .count = count < all->seen ? count : all->seen,
        .seen = all->seen,
        .total = mdn_exact_round(all->total),
    };
    if (all->positive <= count) {
        if (zeros > 0)
            out->zero = (double)(out->count - all->positive) / (double)zeros;
        return MDN_OK;
    }
    mdn_lowest_trim(largest);
    scratch = malloc((largest->count + 1) * sizeof *scratch);
    if (scratch == NULL)
        return mdn_fail_nomem(err, largest->count * sizeof *scratch);
    mdn_sort_words(largest->orders, largest->count, scratch);
    free(scratch);
    for (uint64_t i = 0; i < largest->count; i++)
        mdn_exact_subtract(all->total, weight_of(largest->orders[i]));
    certain = certain_count(largest->orders, largest->count,
                            mdn_exact_round(all->total));
    for (uint64_t i = certain; i < largest->count; i++)
        mdn_exact_add(all->total, weight_of(largest->orders[i]));
    out->certain =
        certain > 0 ? weight_of(largest->orders[certain - 1]) : INFINITY;
    out->factor = (double)(count - certain) / mdn_exact_round(all->total);
    find_light(all->total, (double)(count - certain), thin_from, out);
    return MDN_OK;
}

mdn_status
mdn_inclusion_plan(const mdn_shard *shards, uint32_t shard_count,
                   const mdn_values *values, uint64_t count, double thin_from,
                   mdn_inclusion *out, mdn_error *err)
{
    survey *surveys = calloc(shard_count, sizeof *surveys);
    mdn_status st = MDN_OK;

    if (surveys == NULL)
        return mdn_fail_nomem(err, shard_count * sizeof *surveys);
    for (uint32_t i = 0; i < shard_count; i++) {
        surveys[i].shard = &shards[i];
        surveys[i].values = values;
        mdn_lowest_init(&surveys[i].largest, count, false);
        surveys[i].total = calloc(1, sizeof *surveys[i].total);
        if (surveys[i].total == NULL)
            st = mdn_fail_nomem(err, sizeof *surveys[i].total);
    }
    if (st == MDN_OK) {
        mdn_parallel(shard_count, look_at_all, surveys);
        if ((st = gather(surveys, shard_count, err)) == MDN_OK)
            st = plan(&surveys[0], count, thin_from, out, err);
    }
    for (uint32_t i = 0; i < shard_count; i++) {
        mdn_lowest_free(&surveys[i].largest);
        free(surveys[i].total);
    }
    free(surveys);
    return st;
}

mdn_status
mdn_systematic_changed(mdn_error *err)
{
    return mdn_fail(err, MDN_INVALID,
                    "the candidates changed while they were drawn from");
}

mdn_status
mdn_systematic_finish(uint64_t order, mdn_drawn *out, mdn_error *err)
{
    uint64_t count = out->count;
    uint64_t *words = malloc((3 * count + 1) * sizeof *words);

    if (words == NULL)
        return mdn_fail_nomem(err, (3 * count + 1) * sizeof *words);
    mdn_bottom_keys(order, out->keys, count);
    if (count > 0) {
        memcpy(words, out->weights, count * sizeof *words);
        mdn_sort_pairs(out->keys, words, count, words + count);
        memcpy(out->weights, words, count * sizeof *words);
    }
    free(words);
    for (uint64_t i = 1; i < count; i++)
        if (out->keys[i] == out->keys[i - 1])
            return mdn_fail(err, MDN_INVALID,
                            "key %" PRIu64
                            " comes more than once among the candidates",
                            out->keys[i]);
    return MDN_OK;
}
