/* sort.c - radix sort, and selection by digits.
 *
 * Both look at words digit by digit and so take time linear in their number
 * whatever the words are; no choice of keys makes them slow. */
#include "selector/sort.h"

#include <string.h>

#define SORT_BITS 8
#define SORT_BUCKETS (1u << SORT_BITS)
#define SORT_DIGITS (64 / SORT_BITS)
#define SELECT_BITS 11
#define SELECT_BUCKETS (1u << SELECT_BITS)
#define FEW 64 /* up to here insertion sort is faster */

static void
insertion_sort(uint64_t *values, uint64_t count)
{
    for (uint64_t i = 1; i < count; i++) {
        uint64_t value = values[i], j = i;

        for (; j > 0 && values[j - 1] > value; j--)
            values[j] = values[j - 1];
        values[j] = value;
    }
}

/* The highest bit in which any two values differ, counted from 1; 0 when all
 * are the same. */
static int
differing_bits(const uint64_t *values, uint64_t count)
{
    uint64_t differ = 0;

    for (uint64_t i = 1; i < count; i++)
        differ |= values[i] ^ values[0];
    return differ == 0 ? 0 : 64 - __builtin_clzll(differ);
}

/* One stable pass: the words of from, ordered by one digit, into to. */
static void
deal(const uint64_t *from, uint64_t count, int shift, uint64_t *to)
{
    uint64_t next[SORT_BUCKETS] = {0};
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++)
        next[(from[i] >> shift) & (SORT_BUCKETS - 1)]++;
    for (unsigned d = 0; d < SORT_BUCKETS; d++) {
        uint64_t size = next[d];

        next[d] = sum;
        sum += size;
    }
    for (uint64_t i = 0; i < count; i++)
        to[next[(from[i] >> shift) & (SORT_BUCKETS - 1)]++] = from[i];
}

void
mdn_sort_words(uint64_t *values, uint64_t count, uint64_t *scratch)
{
    uint64_t *from = values, *to = scratch;
    int bits;

    if (count <= FEW) {
        insertion_sort(values, count);
        return;
    }
    bits = differing_bits(values, count);
    for (int shift = 0; shift < bits; shift += SORT_BITS) {
        uint64_t *dealt = to;

        deal(from, count, shift, to);
        to = from;
        from = dealt;
    }
    if (from != values)
        memcpy(values, from, count * sizeof *values);
}

/* As deal, with a value beside each word. */
static void
deal_pairs(const uint64_t *keys, const uint64_t *values, uint64_t count,
           int shift, uint64_t *to_keys, uint64_t *to_values)
{
    uint64_t next[SORT_BUCKETS] = {0};
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++)
        next[(keys[i] >> shift) & (SORT_BUCKETS - 1)]++;
    for (unsigned d = 0; d < SORT_BUCKETS; d++) {
        uint64_t size = next[d];

        next[d] = sum;
        sum += size;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = next[(keys[i] >> shift) & (SORT_BUCKETS - 1)]++;

        to_keys[at] = keys[i];
        to_values[at] = values[i];
    }
}

void
mdn_sort_pairs(uint64_t *keys, uint64_t *values, uint64_t count,
               uint64_t *scratch)
{
    uint64_t *from[2] = {keys, values};
    uint64_t *to[2] = {scratch, scratch + count};
    int bits = count > 0 ? differing_bits(keys, count) : 0;

    for (int shift = 0; shift < bits; shift += SORT_BITS) {
        uint64_t *dealt[2] = {to[0], to[1]};

        deal_pairs(from[0], from[1], count, shift, to[0], to[1]);
        memcpy(to, from, sizeof to);
        memcpy(from, dealt, sizeof from);
    }
    if (from[0] != keys) {
        memcpy(keys, from[0], count * sizeof *keys);
        memcpy(values, from[1], count * sizeof *values);
    }
}

/* The limit-th smallest value, found digit by digit from the highest one in
 * which the values differ: count how many of the values that begin like the
 * answer have each next digit, and walk to the one that holds it. */
uint64_t
mdn_sort_nth(const uint64_t *values, uint64_t count, uint64_t limit)
{
    int bits = differing_bits(values, count);
    uint64_t known = bits == 64 ? 0 : ~UINT64_C(0) << bits;
    uint64_t answer = values[0] & known; /* exact in the known bits */

    while (bits > 0) {
        int shift = bits > SELECT_BITS ? bits - SELECT_BITS : 0;
        uint64_t digit = (UINT64_C(1) << (bits - shift)) - 1;
        uint64_t sizes[SELECT_BUCKETS] = {0};
        uint64_t d = 0;

        for (uint64_t i = 0; i < count; i++)
            if ((values[i] & known) == answer)
                sizes[(values[i] >> shift) & digit]++;
        for (; limit > sizes[d]; d++)
            limit -= sizes[d];
        answer |= d << shift;
        known = ~UINT64_C(0) << shift;
        bits = shift;
    }
    return answer;
}

uint64_t
mdn_sort_smallest(uint64_t *values, uint64_t count, uint64_t limit)
{
    uint64_t largest, below = 0;

    if (count <= FEW) {
        insertion_sort(values, count);
        return values[limit - 1];
    }
    largest = mdn_sort_nth(values, count, limit);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t value = values[i];

        values[below] = value; /* below <= i: nothing unread is lost */
        below += value < largest;
    }
    while (below < limit) /* equal values fill the rest */
        values[below++] = largest;
    return largest;
}
