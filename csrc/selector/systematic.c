/* systematic.c - buckets of light candidates, and the points that fall on them.
 *
 * Lengths are integers, in units of 2^-63, so that sums do not depend on the
 * order of additions.  The hash of a key is a draw, from which the key can be
 * computed back (bottom.h); its high bits say the bucket. */
#include "selector/systematic.h"

#include "base/bytes.h"
#include "base/huge.h"
#include "base/parallel.h"
#include "base/random.h"
#include "selector/bottom.h"
#include "selector/sort.h"
#include "selector/thinned.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST 0x1.ffffep62 /* of a bucket: 1, less some room for rounding */
#define HEAVY 0.25           /* pi, from which on a candidate lies alone */

/* The sum of lengths, and when the first clock rings: bits of a double. */
typedef struct {
    uint64_t length, time;
} bucket;

/* A candidate: the hash of its key, and pi. */
typedef struct {
    uint64_t hash;
    double pi;
} candidate;

/* What one thread works with. */
typedef struct {
    const mdn_shard *shard;
    const mdn_values *values;
    const mdn_inclusion *plan;
    uint64_t order, race; /* streams of the seed */
    uint64_t bucket_count;
    bucket *buckets;    /* owned, but in the last reading: of all threads */
    candidate *winners; /* owned: whose clock was first in each bucket */
    candidate *alone;   /* owned */
    uint64_t alone_count, alone_room, seen;
    mdn_status status;
    mdn_error error;
} layout;

static uint64_t
bucket_of(const layout *l, uint64_t hash)
{
    return (uint64_t)((mdn_wide)hash * l->bucket_count >> 64);
}

static bool
is_too_long(const bucket *b)
{
    return b->length > (uint64_t)LONGEST;
}

static mdn_status
lay_alone(layout *l, uint64_t hash, double pi, mdn_error *err)
{
    if (l->alone_count == l->alone_room) {
        uint64_t room = 2 * l->alone_room + 1024;
        candidate *moved = realloc(l->alone, room * sizeof *moved);

        if (moved == NULL)
            return mdn_fail_nomem(err, room * sizeof *moved);
        l->alone = moved;
        l->alone_room = room;
    }
    l->alone[l->alone_count++] = (candidate){hash, pi};
    return MDN_OK;
}

/* A longer bucket, and the winner if its clock rang earlier. */
static void
join(bucket *b, candidate *winner, uint64_t length, uint64_t time,
     candidate other)
{
    if (mdn_add_overflows(b->length, length, &b->length))
        b->length = UINT64_MAX;
    if (time < b->time || (time == b->time && other.hash < winner->hash)) {
        b->time = time;
        *winner = other;
    }
}

/* Put a light candidate into its bucket; x is the draw of its clock, and most
 * clocks need no logarithm (weighted.c). */
static void
lay_into(layout *l, uint64_t hash, double pi, uint64_t draw)
{
    uint64_t at = bucket_of(l, hash), time;
    bucket *b = &l->buckets[at];
    double x = (double)(int64_t)(draw >> 11) * 0x1p-53, first, rings;

    memcpy(&first, &b->time, sizeof first);
    if (x > first * pi * (1 + 0x1p-40)) {
        if (mdn_add_overflows(b->length, mdn_systematic_length(pi), &b->length))
            b->length = UINT64_MAX;
        return;
    }
    rings = mdn_minus_log1m(x) / pi;
    memcpy(&time, &rings, sizeof time);
    join(b, &l->winners[at], mdn_systematic_length(pi), time,
         (candidate){hash, pi});
}

static mdn_status
lay(void *ctx, const mdn_value_block *block, uint64_t first, uint64_t count,
    mdn_error *err)
{
    layout *l = ctx;
    double weights[MDN_VALUES_CHUNK];
    uint64_t hashes[MDN_VALUES_CHUNK], draws[MDN_VALUES_CHUNK];
    mdn_status st =
        mdn_values_weights(l->values, block, first, count, weights, err);

    if (st != MDN_OK)
        return st;
    mdn_bottom_draws(l->order, block->keys + first, count, hashes);
    mdn_bottom_draws(l->race, hashes, count, draws);
    for (uint64_t i = 0; i < count; i++)
        __builtin_prefetch(&l->buckets[bucket_of(l, hashes[i])], 1);
    for (uint64_t i = 0; st == MDN_OK && i < count; i++) {
        double pi = mdn_inclusion_of(l->plan, weights[i]);

        if (pi > HEAVY)
            st = lay_alone(l, hashes[i], pi, err);
        else if (pi > 0)
            lay_into(l, hashes[i], pi, draws[i]);
    }
    return st;
}

/* The light candidates of buckets that are too long. */
static mdn_status
lay_rest(void *ctx, const mdn_value_block *block, uint64_t first,
         uint64_t count, mdn_error *err)
{
    layout *l = ctx;
    double weights[MDN_VALUES_CHUNK];
    uint64_t hashes[MDN_VALUES_CHUNK];
    mdn_status st =
        mdn_values_weights(l->values, block, first, count, weights, err);

    if (st != MDN_OK)
        return st;
    mdn_bottom_draws(l->order, block->keys + first, count, hashes);
    for (uint64_t i = 0; st == MDN_OK && i < count; i++) {
        double pi = mdn_inclusion_of(l->plan, weights[i]);

        if (pi > 0 && pi <= HEAVY
            && is_too_long(&l->buckets[bucket_of(l, hashes[i])]))
            st = lay_alone(l, hashes[i], pi, err);
    }
    return st;
}

static void
lay_all(void *ctx, uint32_t number)
{
    layout *l = (layout *)ctx + number;

    l->status =
        mdn_values_each(l->shard, l->values, lay, l, &l->seen, &l->error);
}

static void
lay_all_rest(void *ctx, uint32_t number)
{
    layout *l = (layout *)ctx + number;

    l->status =
        mdn_values_each(l->shard, l->values, lay_rest, l, &l->seen, &l->error);
}

/* ---- the threads ---- */

static mdn_status
prepare(layout *l, const mdn_shard *shard, const mdn_values *values,
        const mdn_inclusion *plan, uint64_t seed, mdn_error *err)
{
    uint64_t bytes = UINT64_MAX;

    *l = (layout){
        .shard = shard,
        .values = values,
        .plan = plan,
        .order = mdn_stream(seed, MDN_STREAM_ORDER),
        .race = mdn_stream(seed, MDN_STREAM_RACE),
        .bucket_count = plan->count + plan->count / 2 + 16,
    };
    if (mdn_mul_overflows(l->bucket_count, sizeof *l->winners, &bytes))
        return mdn_fail_nomem(err, bytes);
    l->buckets = mdn_huge_new(bytes);
    l->winners = malloc(bytes);
    if (l->buckets == NULL || l->winners == NULL)
        return mdn_fail_nomem(err, 2 * bytes);
    for (uint64_t i = 0; i < l->bucket_count; i++) {
        double never = INFINITY;

        l->buckets[i].length = 0;
        memcpy(&l->buckets[i].time, &never, sizeof never);
        l->winners[i].hash = UINT64_MAX;
    }
    return MDN_OK;
}

static void
release(layout *l)
{
    free(l->buckets);
    free(l->winners);
    free(l->alone);
    l->buckets = NULL;
    l->winners = l->alone = NULL;
}

static mdn_status
first_failure(const layout *layouts, uint32_t count, mdn_error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        if (layouts[i].status == MDN_OK)
            continue;
        if (err != NULL)
            *err = layouts[i].error;
        return layouts[i].status;
    }
    return MDN_OK;
}

/* All buckets and lone candidates into the first layout; every candidate has
 * been seen once more since the last time. */
static mdn_status
gather(layout *layouts, uint32_t count, mdn_error *err)
{
    layout *all = &layouts[0];
    mdn_status st = first_failure(layouts, count, err);
    uint64_t seen = 0;

    for (uint32_t i = 0; i < count; i++) {
        seen += layouts[i].seen;
        layouts[i].seen = 0;
    }
    if (st == MDN_OK && seen != all->plan->seen)
        return mdn_systematic_changed(err);

    for (uint32_t i = 1; st == MDN_OK && i < count; i++) {
        layout *l = &layouts[i];

        for (uint64_t b = 0; l->winners != NULL && b < l->bucket_count; b++)
            join(&all->buckets[b], &all->winners[b], l->buckets[b].length,
                 l->buckets[b].time, l->winners[b]);
        for (uint64_t c = 0; st == MDN_OK && c < l->alone_count; c++)
            st = lay_alone(all, l->alone[c].hash, l->alone[c].pi, err);
        l->alone_count = 0;
    }
    return st;
}

/* A third reading for buckets that are too long. */
static mdn_status
lay_long_ones(layout *layouts, uint32_t count, mdn_error *err)
{
    layout *all = &layouts[0];
    uint64_t too_long = 0;
    mdn_status st;

    for (uint64_t b = 0; b < all->bucket_count; b++)
        too_long += is_too_long(&all->buckets[b]);
    if (too_long == 0)
        return MDN_OK;
    for (uint32_t i = 1; i < count; i++) {
        free(layouts[i].buckets);
        free(layouts[i].winners);
        layouts[i].winners = NULL; /* its buckets are in the first */
        layouts[i].buckets = all->buckets;
    }
    mdn_parallel(count, lay_all_rest, layouts);
    st = gather(layouts, count, err);
    for (uint32_t i = 1; i < count; i++)
        layouts[i].buckets = NULL;
    return st;
}

/* ---- the points ---- */

/* Where points fall on lengths that are laid side by side. */
typedef struct {
    mdn_wide step,
        rest; /* point j lies at start + j * step + j * rest / count */
    mdn_wide start, end; /* end: of what has been laid so far */
    uint64_t count, taken;
} ruler;

/* Lay one more length; whether a point falls on it. */
static bool
falls_on(ruler *r, uint64_t length)
{
    mdn_wide point = r->start + r->step * r->taken;

    r->end += length;
    if (r->taken == r->count)
        return false;
    point += r->rest * r->taken / r->count;
    if (point >= r->end)
        return false;
    r->taken++;
    return true;
}

/* How much there is to lay: all but what is certain. */
static mdn_wide
total_length(const layout *all, uint64_t *certain)
{
    mdn_wide total = 0;

    *certain = 0;
    for (uint64_t b = 0; b < all->bucket_count; b++)
        if (!is_too_long(&all->buckets[b]))
            total += all->buckets[b].length;
    for (uint64_t i = 0; i < all->alone_count; i++) {
        if (all->alone[i].pi == 1)
            ++*certain;
        else
            total += mdn_systematic_length(all->alone[i].pi);
    }
    return total;
}

/* Whether there is as much to lay as was planned, but for rounding. */
static bool
adds_up(const layout *all)
{
    uint64_t count = all->plan->count, certain;
    mdn_wide total = total_length(all, &certain), due, apart;

    if (certain > count)
        return false;
    due = (mdn_wide)(count - certain) << 63;
    apart = total > due ? total - due : due - total;
    return apart >> 43 <= count - certain;
}

static ruler
ruler_of(const layout *all, uint64_t seed)
{
    uint64_t certain;
    mdn_wide total = total_length(all, &certain);
    uint64_t draw = mdn_draw(mdn_stream(seed, MDN_STREAM_SYSTEMATIC), 0);
    ruler r = {0};

    if (certain >= all->plan->count || total == 0)
        return r;
    r.count = all->plan->count - certain;
    r.step = total / r.count;
    r.rest = total % r.count;
    r.start = (mdn_wide)(uint64_t)r.step * draw >> 64; /* step is about 2^63 */
    return r;
}

/* Lone candidates in order of their hashes. */
static mdn_status
sort_alone(layout *all, mdn_error *err)
{
    uint64_t count = all->alone_count, bytes = (4 * count + 1) * 8;
    uint64_t *words = malloc(bytes);

    if (words == NULL)
        return mdn_fail_nomem(err, bytes);
    for (uint64_t i = 0; i < count; i++) {
        words[i] = all->alone[i].hash;
        memcpy(&words[count + i], &all->alone[i].pi, sizeof(double));
    }
    mdn_sort_pairs(words, words + count, count, words + 2 * count);
    for (uint64_t i = 0; i < count; i++) {
        all->alone[i].hash = words[i];
        memcpy(&all->alone[i].pi, &words[count + i], sizeof(double));
    }
    free(words);
    return MDN_OK;
}

static void
choose(mdn_drawn *out, const layout *all, candidate chosen)
{
    const mdn_inclusion *plan = all->plan;

    if (out->count == plan->count)
        return; /* more certain ones than there should be: keys came twice */
    out->keys[out->count] = chosen.hash;
    out->weights[out->count++] =
        (double)plan->count / ((double)plan->seen * chosen.pi);
}

static void
choose_all(const layout *all, uint64_t seed, mdn_drawn *out)
{
    ruler r = ruler_of(all, seed);

    for (uint64_t b = 0; b < all->bucket_count; b++)
        if (!is_too_long(&all->buckets[b])
            && falls_on(&r, all->buckets[b].length))
            choose(out, all, all->winners[b]);
    for (uint64_t i = 0; i < all->alone_count; i++)
        if (all->alone[i].pi == 1
            || falls_on(&r, mdn_systematic_length(all->alone[i].pi)))
            choose(out, all, all->alone[i]);
}

static mdn_status
draw(layout *all, uint64_t seed, mdn_drawn *out, mdn_error *err)
{
    uint64_t bytes = (all->plan->count + 1) * sizeof(uint64_t);
    mdn_status st;

    if (!adds_up(all))
        return mdn_systematic_changed(err);
    if ((st = sort_alone(all, err)) != MDN_OK)
        return st;
    out->keys = malloc(bytes);
    out->weights = malloc(bytes);
    if (out->keys == NULL || out->weights == NULL)
        return mdn_fail_nomem(err, 2 * bytes);
    choose_all(all, seed, out);
    release(all);
    return mdn_systematic_finish(all->order, out, err);
}

static mdn_status
by_buckets(const mdn_shard *shards, uint32_t shard_count,
           const mdn_values *values, const mdn_inclusion *plan, uint64_t seed,
           mdn_drawn *out, mdn_error *err)
{
    layout *layouts = calloc(shard_count, sizeof *layouts);
    mdn_status st = MDN_OK;

    if (layouts == NULL)
        return mdn_fail_nomem(err, shard_count * sizeof *layouts);
    for (uint32_t i = 0; st == MDN_OK && i < shard_count; i++)
        st = prepare(&layouts[i], &shards[i], values, plan, seed, err);
    if (st == MDN_OK) {
        mdn_parallel(shard_count, lay_all, layouts);
        if ((st = gather(layouts, shard_count, err)) == MDN_OK
            && (st = lay_long_ones(layouts, shard_count, err)) == MDN_OK)
            st = draw(&layouts[0], seed, out, err);
    }
    for (uint32_t i = 0; i < shard_count; i++)
        release(&layouts[i]);
    free(layouts);
    if (st != MDN_OK)
        mdn_drawn_free(out);
    return st;
}

mdn_status
mdn_systematic(const mdn_shard *shards, uint32_t shard_count,
               const mdn_values *values, uint64_t count, uint64_t seed,
               double thin_from, mdn_drawn *out, mdn_error *err)
{
    mdn_inclusion plan;
    bool enough;
    mdn_status st = mdn_inclusion_plan(shards, shard_count, values, count,
                                       thin_from, &plan, err);

    *out = (mdn_drawn){0};
    if (st == MDN_OK && plan.light > 0) {
        st = mdn_thinned(shards, shard_count, values, &plan, seed, out, &enough,
                         err);
        if (st != MDN_OK || enough)
            return st;
    }
    if (st != MDN_OK)
        return st;
    return by_buckets(shards, shard_count, values, &plan, seed, out, err);
}
