/* permutation.c - a generalised Feistel network over a square.
 *
 * An index is a pair (left, right) of numbers below side, the smallest number
 * from 32 whose square holds count:
 *
 *     index = left * side + right,   count <= side^2
 *
 * A round maps the pair to (right, left + F(right) mod side), which can be
 * undone whatever F is, so that six rounds are a permutation of the square
 * (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").  A result
 * at or beyond count is sent through again until it is below: the cycle it
 * lies on comes back to where it started, which is below count.  Beyond count
 * lie fewer than 2 * side of side^2 results, so this is rare, where a network
 * over a power of two would throw away up to three results of four. */
#include "base/permutation.h"

#include "base/random.h"

#include <assert.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define ROUNDS 6
#define SIDE_MIN 32
#define MULTIPLIER_1 UINT32_C(0xcc9e2d51)
#define MULTIPLIER_2 UINT32_C(0x9e3779b1)
#define BLOCK 512 /* elements walked together; 4 KiB of scratch */

/* F of round r: a number below side. */
static inline uint32_t
scramble(const mdn_permutation *perm, int r, uint32_t right)
{
    uint64_t x = (uint64_t)(right ^ perm->round_keys[r]) * MULTIPLIER_1;

    x = (uint64_t)(uint32_t)(x ^ (x >> 32)) * MULTIPLIER_2;
    x = (uint64_t)(uint32_t)(x ^ (x >> 32)) * perm->side;
    return (uint32_t)(x >> 32);
}

/* The network on one pair; in the vector twin below, on four. */
static inline uint64_t
encrypt(const mdn_permutation *perm, uint32_t left, uint32_t right)
{
    for (int r = 0; r < ROUNDS; r++) {
        uint32_t added = scramble(perm, r, right);
        /* added < side <= 2^31, so that this lies in -side .. side - 1. */
        int32_t sum = (int32_t)(left - perm->side + added);

        left = right;
        right = (uint32_t)sum + ((uint32_t)(sum >> 31) & perm->side);
    }
    return (uint64_t)left * perm->side + right;
}

/* The rounds undone, the last one first. */
static uint64_t
decrypt(const mdn_permutation *perm, uint32_t left, uint32_t right)
{
    for (int r = ROUNDS - 1; r >= 0; r--) {
        int32_t sum = (int32_t)(right - scramble(perm, r, left));

        right = left;
        left = (uint32_t)sum + ((uint32_t)(sum >> 31) & perm->side);
    }
    return (uint64_t)left * perm->side + right;
}

/* encrypt left[i], right[i] for i < size. */
static void
encrypt_all(const mdn_permutation *perm, const uint32_t *left,
            const uint32_t *right, uint32_t size, uint64_t *out)
{
    for (uint32_t i = 0; i < size; i++)
        out[i] = encrypt(perm, left[i], right[i]);
}

#if defined(__x86_64__)
/* One number in the low half of each 64-bit lane, zeros above it, except that
 * a factor may have anything above it: the product looks at low halves only.
 * Four vectors go together, since a round is a chain of slow products. */
__attribute__((target("avx2"))) static void
encrypt_all_avx2(const mdn_permutation *perm, const uint32_t *left,
                 const uint32_t *right, uint32_t size, uint64_t *out)
{
    const __m256i first = _mm256_set1_epi64x(MULTIPLIER_1);
    const __m256i second = _mm256_set1_epi64x(MULTIPLIER_2);
    const __m256i side = _mm256_set1_epi64x(perm->side);
    uint32_t i = 0;

    for (; i + 16 <= size; i += 16) {
        __m256i l[4], r[4], x, sum;
        for (int v = 0; v < 4; v++) {
            l[v] = _mm256_cvtepu32_epi64(
                _mm_loadu_si128((const __m128i *)(left + i + 4 * v)));
            r[v] = _mm256_cvtepu32_epi64(
                _mm_loadu_si128((const __m128i *)(right + i + 4 * v)));
        }
        for (int k = 0; k < ROUNDS; k++) {
            __m256i key = _mm256_set1_epi64x(perm->round_keys[k]);
            for (int v = 0; v < 4; v++) {
                x = _mm256_mul_epu32(_mm256_xor_si256(r[v], key), first);
                x = _mm256_xor_si256(x, _mm256_srli_epi64(x, 32));
                x = _mm256_mul_epu32(x, second);
                x = _mm256_xor_si256(x, _mm256_srli_epi64(x, 32));
                x = _mm256_srli_epi64(_mm256_mul_epu32(x, side), 32);
                sum = _mm256_add_epi32(_mm256_sub_epi32(l[v], side), x);
                x = _mm256_and_si256(_mm256_srai_epi32(sum, 31), side);
                l[v] = r[v];
                r[v] = _mm256_add_epi32(sum, x);
            }
        }
        for (int v = 0; v < 4; v++)
            _mm256_storeu_si256(
                (__m256i *)(out + i + 4 * v),
                _mm256_add_epi64(_mm256_mul_epu32(l[v], side), r[v]));
    }
    encrypt_all(perm, left + i, right + i, size - i, out + i);
}
#endif

/* By the fastest way that this processor has; all give the same. */
static void
encrypt_block(const mdn_permutation *perm, const uint32_t *left,
              const uint32_t *right, uint32_t size, uint64_t *out)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        encrypt_all_avx2(perm, left, right, size, out);
        return;
    }
#endif
    encrypt_all(perm, left, right, size, out);
}

/* The smallest side with side^2 >= count.  A small square is not smaller than
 * 32 by 32: a network over a handful of values mixes them badly (chi^2 tests of
 * neighbours fail), and the extra walking is for small counts only. */
static uint64_t
square_side(uint64_t count)
{
    uint64_t low = SIDE_MIN, high = UINT64_C(1) << 31;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (middle * middle >= count)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

void
mdn_permutation_init(mdn_permutation *perm, uint64_t count, uint64_t seed,
                     uint64_t epoch)
{
    uint64_t start = mdn_stream(seed, MDN_STREAM_SHUFFLE);

    mdn_permutation_init_by(perm, count, mdn_draw(start, epoch));
}

void
mdn_permutation_init_by(mdn_permutation *perm, uint64_t count, uint64_t word)
{
    assert(count >= 1 && count <= MDN_PERMUTATION_MAX);
    perm->count = count;
    perm->side = (uint32_t)square_side(count);
    mdn_permutation_rekey(perm, word);
}

void
mdn_permutation_rekey(mdn_permutation *perm, uint64_t word)
{
    for (uint64_t r = 0; r < ROUNDS; r++)
        perm->round_keys[r] = (uint32_t)(mdn_draw(word, r) >> 32);
}

/* From an index of the square to its place, which may lie beyond count. */
static uint64_t
walk_once(const mdn_permutation *perm, uint64_t index)
{
    return encrypt(perm, (uint32_t)(index / perm->side),
                   (uint32_t)(index % perm->side));
}

uint64_t
mdn_permutation_at(const mdn_permutation *perm, uint64_t index)
{
    assert(index < perm->count);
    do
        index = walk_once(perm, index);
    while (index >= perm->count);
    return index;
}

uint64_t
mdn_permutation_find(const mdn_permutation *perm, uint64_t element)
{
    assert(element < perm->count);
    do
        element = decrypt(perm, (uint32_t)(element / perm->side),
                          (uint32_t)(element % perm->side));
    while (element >= perm->count);
    return element;
}

/* The pairs of size indices from (row, place) on, run by run within a row. */
static void
list_pairs(uint32_t side, uint32_t row, uint32_t place, uint32_t size,
           uint32_t *left, uint32_t *right)
{
    while (size > 0) {
        uint32_t run = size < side - place ? size : side - place;
        for (uint32_t i = 0; i < run; i++) {
            left[i] = row;
            right[i] = place + i;
        }
        left += run;
        right += run;
        size -= run;
        place = 0;
        row++;
    }
}

void
mdn_permutation_range(const mdn_permutation *perm, uint64_t first,
                      uint64_t size, uint64_t *out)
{
    uint32_t left[BLOCK], right[BLOCK], side = perm->side;

    assert(first <= perm->count && size <= perm->count - first);
    while (size > 0) {
        uint32_t n = size < BLOCK ? (uint32_t)size : BLOCK;
        list_pairs(side, (uint32_t)(first / side), (uint32_t)(first % side), n,
                   left, right);
        encrypt_block(perm, left, right, n, out);
        for (uint32_t i = 0; i < n; i++) {
            while (out[i] >= perm->count)
                out[i] = walk_once(perm, out[i]);
        }
        first += n;
        out += n;
        size -= n;
    }
}
