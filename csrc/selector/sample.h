/* sample.h - sampling without replacement from a metadata stream.
 *
 * Which samples are chosen is a function of the seed and of the set of
 * candidates alone: every key has a draw f(seed, stream, key), and the smallest
 * draws win.  Neither the order of the stream nor how it is cut into blocks
 * nor the number of candidates that a key competes with changes a draw; so the
 * choice of `count` keys contains that of any smaller count, and a key that
 * is chosen from some candidates is chosen from any subset of them.
 *
 * The memory used is 16 bytes for each key of the answer and a constant (for
 * balanced sampling: also for each class), however long the stream is. */
#ifndef MDN_SELECTOR_SAMPLE_H
#define MDN_SELECTOR_SAMPLE_H

#include "base/error.h"
#include "metadata/stream.h"
#include "selector/shares.h"

#include <stdint.h>

/* The keys of `count` samples, or of all when there are fewer, each set of that
 * size equally likely: ascending, in *keys (malloc'd, owned by the caller,
 * never NULL on success).  A key that the stream holds more than once counts
 * once. Reads the stream from its start, once (twice when keys are repeated);
 * fails as the stream does, and with MDN_NOMEM.  On failure *keys is NULL. */
mdn_status mdn_sample_uniform(mdn_metadata_stream *stream, uint64_t count,
                              uint64_t seed, uint64_t **keys,
                              uint64_t *key_count, mdn_error *err);

/* The same with a share of `count` for every class (label), as
 * mdn_shares_fill says; classes are its groups, in ascending order of label.
 * Inside a class the choice is uniform.  Reads the stream from its start,
 * twice.  MDN_INVALID without labels, with too many of them, when a key that
 * is met among those to be chosen comes more than once, and when the
 * second reading differs from the first. */
mdn_status mdn_sample_balanced(mdn_metadata_stream *stream, uint64_t count,
                               mdn_shares_mode mode, uint64_t seed,
                               uint64_t **keys, uint64_t *key_count,
                               mdn_error *err);

#endif
