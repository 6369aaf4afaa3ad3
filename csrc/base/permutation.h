/* permutation.h - a keyed permutation of 0 .. count-1, one element at a time.
 *
 * A Feistel network over the smallest square that holds count (permutation.c
 * has the details).  The element at an index costs a few nanoseconds and no
 * memory, so that an epoch of a billion samples is shuffled without a list, and
 * resumes anywhere.  What a seed means is fixed: the same seed, epoch and count
 * give the same order in every version. */
#ifndef MDN_BASE_PERMUTATION_H
#define MDN_BASE_PERMUTATION_H

#include <stdint.h>

#define MDN_PERMUTATION_MAX (UINT64_C(1) << 62)

typedef struct {
    uint64_t count;
    uint32_t side; /* of the square */
    uint32_t round_keys[6];
} mdn_permutation;

/* 1 <= count <= MDN_PERMUTATION_MAX. */
void mdn_permutation_init(mdn_permutation *perm, uint64_t count, uint64_t seed,
                          uint64_t epoch);
/* The same for a random word of any origin: equal words, equal permutations.
 * mdn_permutation_rekey changes the word and leaves the count, which saves a
 * search for the side of the square. */
void mdn_permutation_init_by(mdn_permutation *perm, uint64_t count,
                             uint64_t word);
void mdn_permutation_rekey(mdn_permutation *perm, uint64_t word);
/* index < count; a bijection of 0 .. count-1. */
uint64_t mdn_permutation_at(const mdn_permutation *perm, uint64_t index);
/* The other way round: find(at(index)) = index. */
uint64_t mdn_permutation_find(const mdn_permutation *perm, uint64_t element);
/* out[i] = at(first + i) for i < size; first + size <= count. */
void mdn_permutation_range(const mdn_permutation *perm, uint64_t first,
                           uint64_t size, uint64_t *out);

#endif
