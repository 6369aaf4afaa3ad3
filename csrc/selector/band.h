/* band.h - the candidates of some ranks.
 *
 * Candidates are ranked by value, of equal values the smaller key first.  The
 * bounds of a band are found digit by digit, 16 bits of (value, key) in each
 * reading, so that memory does not grow with the candidates: four readings are
 * usual, nine the most. */
#ifndef MDN_SELECTOR_BAND_H
#define MDN_SELECTOR_BAND_H

#include "base/error.h"
#include "selector/values.h"

#include <stdint.h>

/* The keys of ranks first .. last-1, ascending (malloc'd, never NULL on
 * success); first <= last <= total, the number of candidates.  MDN_INVALID for
 * values that are no numbers, for candidates that change between readings, and
 * for a key that comes twice at a bound. */
mdn_status mdn_band(const mdn_shard *shards, uint32_t shard_count,
                    const mdn_values *values, uint64_t total, uint64_t first,
                    uint64_t last, uint64_t **keys, uint64_t *count,
                    mdn_error *err);

#endif
