/* systematic.h - a fixed number of keys, each with exactly the probability that
 * its weight asks for.
 *
 *     pi = min(1, c * weight), with the c for which their sum is `count`
 *
 * Systematic sampling lays candidates side by side, each as long as its pi, and
 * takes those in which the points u, u + 1, u + 2, ... fall.  To lay all of
 * them out in an order that does not depend on that of the stream would take
 * memory for all of them.  But light candidates may lie in buckets, by a hash
 * of the key: as long as a bucket is no longer than 1, at most one point falls
 * into it, and then it is enough to know who of the bucket stands for it,
 * chosen with a probability proportional to pi: the one whose clock rings first
 * (weighted.h).  Heavy candidates, and those of the few buckets that are too
 * long, lie for themselves, in order of their hash.
 *
 * Candidates are read twice, and once more when a bucket is too long.  Memory
 * is O(count); each thread has its own.
 *
 * Buckets are random accesses for every candidate.  Where light candidates are
 * many they are thinned first, which needs none (thinned.h). */
#ifndef MDN_SELECTOR_SYSTEMATIC_H
#define MDN_SELECTOR_SYSTEMATIC_H

#include "base/error.h"
#include "selector/sampler.h"
#include "selector/values.h"

#include <stdint.h>

/* What a weight makes of a candidate. */
typedef struct {
    double certain;   /* from this weight on pi is 1 */
    double factor;    /* below, times the weight */
    double zero;      /* pi of candidates of weight 0 */
    uint64_t count;   /* keys to be chosen: no more than there are candidates */
    uint64_t seen;    /* candidates */
    double total;     /* of all weights */
    double light;     /* weights below are light, a power of two; or 0: none */
    double light_sum; /* of weight / light of those */
} mdn_inclusion;

/* light_sum that is enough for thinning: its square is what pi is exact to. */
#define MDN_THIN_FROM 0x1p20

/* Read all candidates once.  If fewer than count weights are above 0, those
 * are certain and the rest is chosen uniformly from the others.  light is the
 * highest bound with pi <= 1/2 below it and light_sum >= thin_from, if there
 * is one for which the heavy ones fit in memory. */
mdn_status mdn_inclusion_plan(const mdn_shard *shards, uint32_t shard_count,
                              const mdn_values *values, uint64_t count,
                              double thin_from, mdn_inclusion *out,
                              mdn_error *err);

static inline double
mdn_inclusion_of(const mdn_inclusion *plan, double weight)
{
    double pi = weight * plan->factor;

    if (weight >= plan->certain)
        return 1;
    if (weight == 0)
        return plan->zero;
    return pi < 0x1.fffffffffffffp-1 ? pi : 0x1.fffffffffffffp-1;
}

/* min(count, candidates) keys, with weights count / (candidates * pi).  The
 * choice is a function of the seed and of the set of candidates and weights,
 * as for mdn_sampler; each key is offered once.  Shards are read in threads.
 * thin_from: MDN_THIN_FROM, but for tests.  MDN_INVALID for weights that are
 * none, for candidates or weights that change between readings, and for a key
 * that is chosen twice; MDN_NOMEM. */
mdn_status mdn_systematic(const mdn_shard *shards, uint32_t shard_count,
                          const mdn_values *values, uint64_t count,
                          uint64_t seed, double thin_from, mdn_drawn *out,
                          mdn_error *err);

/* pi in units of 2^-63; at least 1 unless pi is 0. */
static inline uint64_t
mdn_systematic_length(double pi)
{
    uint64_t length = (uint64_t)(pi * 0x1p63);

    return length > 0 || pi == 0 ? length : 1;
}

/* The failure of candidates that are not those of the plan. */
mdn_status mdn_systematic_changed(mdn_error *err);

/* From hashes of a stream to keys, in order.  MDN_INVALID when two are equal.
 */
mdn_status mdn_systematic_finish(uint64_t order, mdn_drawn *out,
                                 mdn_error *err);

#endif
