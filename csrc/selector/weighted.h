/* weighted.h - choices by weight, one reading each, that can be merged.
 *
 * Every candidate starts a clock that rings at the times of a Poisson process
 * of rate w, its weight; the draws behind it follow from seed and key.  Taking
 * the first rings of all clocks is
 *
 *     SEQUENTIAL   of each clock the first ring counts: k different keys, each
 *                  next one chosen with probability w / (sum of w left)
 *     ARRIVALS     all rings count: k independent draws with p = w / (sum of
 *                  w), and a key may come more than once
 *
 *     PRIORITY     the clock is u / w with a uniform u: k different keys and,
 *                  from the time behind the last, weights that are unbiased
 *
 * A time is a double >= 0, and its bits order as it does: the order of an
 * entry of lowest.h.  Weight 0 never rings; such keys come behind all others,
 * in order of their draws (not for ARRIVALS). */
#ifndef MDN_SELECTOR_WEIGHTED_H
#define MDN_SELECTOR_WEIGHTED_H

#include "base/error.h"
#include "selector/exact.h"
#include "selector/lowest.h"
#include "selector/values.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    MDN_WEIGHTED_SEQUENTIAL,
    MDN_WEIGHTED_PRIORITY,
    MDN_WEIGHTED_ARRIVALS,
} mdn_weighted_kind;

typedef struct {
    mdn_weighted_kind kind;
    uint64_t start, again; /* streams of the seed */
    mdn_lowest *lowest;    /* borrowed; weighted, but for SEQUENTIAL */
    mdn_exact *total;      /* borrowed: of all weights, or NULL */
} mdn_weighted;

void mdn_weighted_init(mdn_weighted *weighted, mdn_weighted_kind kind,
                       uint64_t seed, mdn_lowest *lowest, mdn_exact *total);

/* Offer some keys, MDN_VALUES_CHUNK at most, with weights that were checked. */
mdn_status mdn_weighted_offer(mdn_weighted *weighted, const uint64_t *keys,
                              const double *weights, uint64_t count,
                              mdn_error *err);

/* -log(1 - x) of 0 <= x < 1, within a few units in the last place.  In basic
 * arithmetic only, so that it is the same on every machine. */
double mdn_minus_log1m(double x);

/* What PRIORITY says of an entry, `behind` being the order of the first entry
 * that was not chosen: the probability that its estimate stands for. */
double mdn_weighted_priority(uint64_t order, uint64_t behind, double weight);

#endif
