/* sampler_state.h - what a sampler has seen, to go to another process. */
#ifndef MDN_SELECTOR_SAMPLER_STATE_H
#define MDN_SELECTOR_SAMPLER_STATE_H

#include "selector/sampler.h"

/* Words (malloc'd) that say all that a sampler knows. */
mdn_status mdn_sampler_save(const mdn_sampler *sampler, uint64_t **words,
                            uint64_t *count, mdn_error *err);

/* A sampler that knows it.  MDN_INVALID for words that are no state, or of
 * which one has changed. */
mdn_status mdn_sampler_load(const uint64_t *words, uint64_t count,
                            mdn_sampler **out, mdn_error *err);

#endif
