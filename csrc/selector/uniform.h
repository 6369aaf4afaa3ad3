/* uniform.h - a uniform choice, in parts that can be put together.
 *
 * Every key has a draw f(seed, stream, key), and the smallest draws win
 * (bottom.h).  16 bytes for each key of the answer are kept. */
#ifndef MDN_SELECTOR_UNIFORM_H
#define MDN_SELECTOR_UNIFORM_H

#include "base/error.h"
#include "metadata/stream.h"
#include "selector/bottom.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    mdn_bottom bottom;
    uint64_t *draws;   /* owned: its buffer */
    uint64_t *scratch; /* owned: to merge equal draws, or NULL */
    uint64_t limit;
    uint64_t offered; /* candidates, at most */
    uint64_t start;
    bool merging;
} mdn_uniform;

/* merging: a key that is offered more than once counts once.  Otherwise it
 * counts as often as it comes, mdn_uniform_keys sees that, and it is faster. */
void mdn_uniform_init(mdn_uniform *uniform, uint64_t limit, uint64_t seed,
                      bool merging);
void mdn_uniform_free(mdn_uniform *uniform);

/* Read a stream from its start to its end. */
mdn_status mdn_uniform_offer(mdn_uniform *uniform, mdn_metadata_stream *stream,
                             mdn_error *err);
mdn_status mdn_uniform_merge(mdn_uniform *uniform, const mdn_uniform *other,
                             mdn_error *err);

/* Draws that another one kept of so many candidates, `stride` words apart. */
mdn_status mdn_uniform_load(mdn_uniform *uniform, uint64_t offered,
                            const uint64_t *draws, uint64_t stride,
                            uint64_t count, mdn_error *err);

/* The keys chosen, ascending (malloc'd); *repeated says whether one of them
 * came more than once.  If none did, no repeated key has taken the place of
 * another, and the answer is right without merging. */
mdn_status mdn_uniform_keys(mdn_uniform *uniform, uint64_t **keys,
                            uint64_t *count, bool *repeated, mdn_error *err);

#endif
