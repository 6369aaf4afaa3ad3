/* permutation.h - a keyed permutation of 0 .. count-1, one element at a time.
 *
 * A Feistel network over the smallest even number of bits that holds count,
 * walked along its cycle until the result is below count.  The element at an
 * index costs a few nanoseconds and no memory, so that an epoch of a billion
 * samples is shuffled without a list, and resumes anywhere. */
#ifndef MDN_BASE_PERMUTATION_H
#define MDN_BASE_PERMUTATION_H

#include <stdint.h>

typedef struct {
    uint64_t count;
    uint64_t round_keys[6];
    uint32_t half_bits;
} mdn_permutation;

/* count >= 1. */
void mdn_permutation_init(mdn_permutation *perm, uint64_t count, uint64_t seed,
                          uint64_t epoch);
/* index < count; a bijection of 0 .. count-1. */
uint64_t mdn_permutation_at(const mdn_permutation *perm, uint64_t index);
/* out[i] = at(first + i) for i < size; first + size <= count. */
void mdn_permutation_range(const mdn_permutation *perm, uint64_t first,
                           uint64_t size, uint64_t *out);

#endif
