/* thinned.h - a fixed number of keys by weight, from many light candidates.
 *
 * Candidates whose weight w is no less than the bound `light` lie side by side,
 * each as long as its pi, in order of their hashes, and systematic sampling
 * with a step of 1 takes from them.  How long the rest of the ruler is and how
 * many points fall on it, m, does not depend on who lies there.  So
 *
 *     1. each light candidate stays with probability q = v - v^2 / s, where
 *        v = w / light and s is the sum of all v: a draw of its key says
 *     2. of those that stay, r, m are chosen, each set equally likely: those
 *        with the smallest hashes
 *
 * and pi = E(m) q E(1 / r, it being one of them).  Without the others r has a
 * mean of s - q, so that E(1 / r) is 1 / (s - q) but for a common factor and
 * terms of 1 / s^2, and v^2 / s is what makes pi proportional to v.  s is large
 * (thin_from), the terms below 2^-40 of pi.
 *
 * Most candidates cost a draw and a comparison.  Memory is O(count). */
#ifndef MDN_SELECTOR_THINNED_H
#define MDN_SELECTOR_THINNED_H

#include "base/error.h"
#include "selector/systematic.h"

#include <stdbool.h>
#include <stdint.h>

/* As mdn_systematic, with a plan that has light candidates.  *enough: false,
 * and nothing is chosen, when fewer stay than points fall on them, which is
 * next to never. */
mdn_status mdn_thinned(const mdn_shard *shards, uint32_t shard_count,
                       const mdn_values *values, const mdn_inclusion *plan,
                       uint64_t seed, mdn_drawn *out, bool *enough,
                       mdn_error *err);

#endif
