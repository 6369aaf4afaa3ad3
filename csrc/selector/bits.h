/* bits.h - a set of keys as a bitmap: bit k % 64 of word k / 64.
 *
 * The words are the caller's; a key beyond them is in no set, and none may be
 * put there. */
#ifndef MDN_SELECTOR_BITS_H
#define MDN_SELECTOR_BITS_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Put keys in, or take them out; *changed is how many were not there before,
 * or were.  MDN_INVALID for a key beyond word_count words to be put in, and
 * then nothing has changed. */
mdn_status mdn_bits_set(uint64_t *words, uint64_t word_count,
                        const uint64_t *keys, uint64_t count, bool in,
                        uint64_t *changed, mdn_error *err);

/* out[i] = 1 where keys[i] is in the set, 0 elsewhere. */
void mdn_bits_get(const uint64_t *words, uint64_t word_count,
                  const uint64_t *keys, uint64_t count, uint8_t *out);

#endif
