/* bottom.h - the keys with the smallest draws of all keys offered.
 *
 * A draw is a bijection of its key (base/random.h), so the draw alone is kept
 * and the key computed back from it at the end: eight bytes per candidate, and
 * no ties between different keys.
 *
 *     draws kept  <= cut            once `limit` draws have been seen
 *     count       <= capacity       in a buffer that the caller owns
 *
 * Draws at or below the cut are appended; when the buffer is full it is
 * trimmed to the `limit` smallest and the cut falls to the largest of those.
 * With capacity = 2 * limit a trim is paid for by `limit` appends.  Which
 * keys remain does not depend on the order in which they were offered.
 *
 * A key offered twice counts twice, unless `scratch` is set: then equal draws
 * are merged at every trim, which costs a sort instead of a selection. */
#ifndef MDN_SELECTOR_BOTTOM_H
#define MDN_SELECTOR_BOTTOM_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t *draws; /* borrowed: room for capacity draws */
    uint64_t count;
    uint64_t capacity; /* >= limit */
    uint64_t limit;
    uint64_t cut;      /* no draw above it is among the smallest */
    uint64_t *scratch; /* borrowed: capacity words, or NULL */
} mdn_bottom;

void mdn_bottom_init(mdn_bottom *bottom, uint64_t *draws, uint64_t capacity,
                     uint64_t limit);

/* Keep the `limit` smallest draws, in any order. */
void mdn_bottom_trim(mdn_bottom *bottom);

/* Offer the draws of these keys of the stream that begins at `start`.
 * limit + count <= capacity. */
void mdn_bottom_offer(mdn_bottom *bottom, uint64_t start, const uint64_t *keys,
                      uint64_t count);
/* The same without vector instructions; for tests and other processors. */
void mdn_bottom_offer_portable(mdn_bottom *bottom, uint64_t start,
                               const uint64_t *keys, uint64_t count);

/* out[i] = the draw of keys[i]. */
void mdn_bottom_draws(uint64_t start, const uint64_t *keys, uint64_t count,
                      uint64_t *out);

/* Offer one draw; false when the buffer is full and cannot be trimmed. */
static inline bool
mdn_bottom_put(mdn_bottom *bottom, uint64_t draw)
{
    if (draw > bottom->cut)
        return true;
    if (bottom->count == bottom->capacity) {
        if (bottom->limit == 0)
            return true; /* none is wanted */
        mdn_bottom_trim(bottom);
        if (draw > bottom->cut)
            return true;
        if (bottom->count == bottom->capacity)
            return false;
    }
    bottom->draws[bottom->count++] = draw;
    return true;
}

/* Replace each draw of a stream that begins at `start` by its key. */
void mdn_bottom_keys(uint64_t start, uint64_t *draws, uint64_t count);

#endif
