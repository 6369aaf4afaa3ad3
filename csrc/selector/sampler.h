/* sampler.h - a choice from candidates that come in parts.
 *
 *     mdn_sampler_new        what is wanted
 *     mdn_sampler_offer      candidates, in one or several threads
 *     mdn_sampler_merge      what another sampler of the same kind has seen
 *     mdn_sampler_finish     the keys, and weights where the kind has them
 *
 * What is chosen is a function of the seed and of the set of candidates (and
 * their values) alone, not of their order nor of how they were cut into parts:
 * every key has draws f(seed, stream, key), and the smallest win.  So the
 * choice of `limit` keys is part of that of a larger number (but for
 * BALANCED).  Memory is O(limit), however many candidates there are. */
#ifndef MDN_SELECTOR_SAMPLER_H
#define MDN_SELECTOR_SAMPLER_H

#include "base/error.h"
#include "selector/balance.h"
#include "selector/lowest.h"
#include "selector/uniform.h"
#include "selector/values.h"
#include "selector/weighted.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    MDN_SAMPLER_UNIFORM,    /* each set of that size equally likely */
    MDN_SAMPLER_BALANCED,   /* of every label a fair share, uniform inside */
    MDN_SAMPLER_SMALLEST,   /* by value; of equal ones the smaller keys */
    MDN_SAMPLER_LARGEST,    /* by value; of equal ones the smaller keys */
    MDN_SAMPLER_NEWEST,     /* by value, then key: the larger ones */
    MDN_SAMPLER_SEQUENTIAL, /* weighted.h */
    MDN_SAMPLER_PRIORITY,
    MDN_SAMPLER_ARRIVALS,
} mdn_sampler_kind;

typedef struct {
    mdn_sampler_kind kind;
    uint64_t limit; /* how many keys */
    uint64_t seed;
    mdn_shares_mode mode; /* BALANCED */
    bool merging;         /* UNIFORM: as mdn_uniform_init says */
} mdn_sampler_options;

typedef struct {
    mdn_sampler_options options;
    uint64_t seen; /* candidates */
    mdn_uniform uniform;
    mdn_balance balance;
    mdn_lowest lowest; /* of all other kinds */
    mdn_exact *total;  /* owned: ARRIVALS; NULL otherwise */
} mdn_sampler;

/* All malloc'd, NULL when there are none. */
typedef struct {
    uint64_t *keys; /* ascending, never NULL on success */
    double *weights;
    uint64_t count;
} mdn_drawn;

mdn_status mdn_sampler_new(const mdn_sampler_options *options,
                           mdn_sampler **out, mdn_error *err);
void mdn_sampler_free(mdn_sampler *sampler); /* accepts NULL */

/* Read all shards, from their start to their end, each in a thread of its own.
 * values: what UNIFORM and BALANCED do not look at.  Fails as a stream does,
 * MDN_INVALID for values or labels that are missing or wrong, MDN_NOMEM; the
 * sampler can only be freed then. */
mdn_status mdn_sampler_offer(mdn_sampler *sampler, const mdn_shard *shards,
                             uint32_t shard_count, const mdn_values *values,
                             mdn_error *err);

/* MDN_INVALID when the options of the two differ. */
mdn_status mdn_sampler_merge(mdn_sampler *sampler, const mdn_sampler *other,
                             mdn_error *err);

/* The choice; the sampler can only be freed afterwards.  Weights, so that
 * (1 / limit) * sum of weight * f estimates the mean of f without bias:
 * PRIORITY; ARRIVALS, times how often a key was drawn.  *repeated: UNIFORM, as
 * mdn_uniform_keys says; otherwise MDN_INVALID names a key that was offered
 * more than once. */
mdn_status mdn_sampler_finish(mdn_sampler *sampler, mdn_drawn *out,
                              bool *repeated, mdn_error *err);

void mdn_drawn_free(mdn_drawn *drawn);

#endif
