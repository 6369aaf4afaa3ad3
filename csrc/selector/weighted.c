/* weighted.c - clocks of candidates, and the first of their rings.
 *
 * Most clocks ring too late, and their logarithm is never taken: -log(1 - x)
 * is no less than x, so a clock whose x / w lies behind the cut is out.  The
 * bound is wider by 2^-40 than the cut, more than all rounding. */
#include "selector/weighted.h"

#include "base/random.h"
#include "selector/bottom.h"

#include <math.h>
#include <string.h>

#define NEVER (UINT64_C(1) << 63) /* behind all times */
#define LN2 0x1.62e42fefa39efp-1
#define ROOT_HALF 0x1.6a09e667f3bcdp-1
#define BELOW_ONE 0x1.fffffffffffffp-1

void
mdn_weighted_init(mdn_weighted *weighted, mdn_weighted_kind kind, uint64_t seed,
                  mdn_lowest *lowest, mdn_exact *total)
{
    *weighted = (mdn_weighted){
        .kind = kind,
        .start = mdn_stream(seed, MDN_STREAM_WEIGHTED),
        .again = mdn_stream(seed, MDN_STREAM_AGAIN),
        .lowest = lowest,
        .total = total,
    };
}

/* 1 - x = m * 2^e with m near 1; log m = 2 artanh s, s = (m - 1) / (m + 1),
 * as a series in s^2 <= 0.0295. */
double
mdn_minus_log1m(double x)
{
    double f = -x, e = 0, s, z, series = 0;

    if (x > 1 - ROOT_HALF) {
        int exponent;
        double m = frexp(1 - x, &exponent);

        if (m < ROOT_HALF) {
            m *= 2;
            exponent--;
        }
        f = m - 1;
        e = exponent;
    }
    s = f / (2 + f);
    z = s * s;
    for (int k = 21; k >= 3; k -= 2)
        series = (series + 1.0 / k) * z;
    return -(e * LN2 + 2 * (s + s * series));
}

/* A draw as a number in [0, 1), nearly in all its bits where it is small. */
static double
fraction(uint64_t draw)
{
    double x = (double)draw * 0x1p-64;

    return x < BELOW_ONE ? x : BELOW_ONE;
}

static uint64_t
order_of(double time)
{
    uint64_t bits;

    memcpy(&bits, &time, sizeof bits);
    return bits;
}

static double
time_of(uint64_t order)
{
    double time;

    memcpy(&time, &order, sizeof time);
    return order < NEVER ? time : INFINITY;
}

/* All rings of a clock that come in time. */
static mdn_status
put_arrivals(mdn_weighted *weighted, uint64_t key, uint64_t draw, double weight,
             mdn_error *err)
{
    mdn_lowest *lowest = weighted->lowest;
    double time = mdn_minus_log1m(fraction(draw));
    mdn_status st;

    if (weight == 0 || lowest->limit == 0)
        return MDN_OK;
    while (mdn_lowest_wants(lowest, order_of(time / weight), key)) {
        st =
            mdn_lowest_store(lowest, order_of(time / weight), key, weight, err);
        if (st != MDN_OK)
            return st;
        draw = mdn_draw(weighted->again, draw);
        time += mdn_minus_log1m(fraction(draw));
    }
    return MDN_OK;
}

static mdn_status
put(mdn_weighted *weighted, uint64_t key, uint64_t draw, double weight,
    mdn_error *err)
{
    double x = fraction(draw);
    uint64_t order;

    if (weighted->kind == MDN_WEIGHTED_ARRIVALS)
        return put_arrivals(weighted, key, draw, weight, err);
    if (weight == 0)
        order = NEVER | draw >> 1;
    else if (weighted->kind == MDN_WEIGHTED_PRIORITY)
        order = order_of(x / weight);
    else
        order = order_of(mdn_minus_log1m(x) / weight);
    return mdn_lowest_put(weighted->lowest, order, key, weight, err);
}

/* The numbers of those that may ring in time. */
static uint64_t
in_time(const mdn_weighted *weighted, const uint64_t *draws,
        const double *weights, uint64_t count, uint16_t *out)
{
    double bound = time_of(weighted->lowest->cut_order) * (1 + 0x1p-40);
    uint64_t found = 0;

    for (uint64_t i = 0; i < count; i++) {
        double x = (double)(int64_t)(draws[i] >> 11) * 0x1p-53; /* or less */

        out[found] = (uint16_t)i;
        found += !(x > bound * weights[i]); /* infinity times 0: may be */
    }
    return found;
}

mdn_status
mdn_weighted_offer(mdn_weighted *weighted, const uint64_t *keys,
                   const double *weights, uint64_t count, mdn_error *err)
{
    uint64_t draws[MDN_VALUES_CHUNK], found;
    uint16_t which[MDN_VALUES_CHUNK];
    mdn_status st = MDN_OK;

    mdn_bottom_draws(weighted->start, keys, count, draws);
    found = in_time(weighted, draws, weights, count, which);
    for (uint64_t i = 0; st == MDN_OK && i < found; i++)
        st = put(weighted, keys[which[i]], draws[which[i]], weights[which[i]],
                 err);
    if (weighted->total != NULL)
        mdn_exact_add_all(weighted->total, weights, count);
    return st;
}

double
mdn_weighted_priority(uint64_t order, uint64_t behind, double weight)
{
    double probability;

    if (order >= NEVER) /* only keys of weight 0 are missing */
        return fraction(behind << 1);
    if (behind >= NEVER)
        return 1;
    probability = weight * time_of(behind);
    return probability < 1 ? probability : 1;
}
