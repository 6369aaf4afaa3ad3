/* sort.h - sorting words, and finding the smallest of them, in linear time. */
#ifndef MDN_SELECTOR_SORT_H
#define MDN_SELECTOR_SORT_H

#include <stdint.h>

/* Sort ascending.  scratch: room for count words, overwritten. */
void mdn_sort_words(uint64_t *values, uint64_t count, uint64_t *scratch);

/* Move the `limit` smallest values to the front, in any order, and return the
 * largest of them.  What lies behind them is unspecified.
 * 1 <= limit <= count. */
uint64_t mdn_sort_smallest(uint64_t *values, uint64_t count, uint64_t limit);

/* The limit-th smallest value; nothing moves.  1 <= limit <= count. */
uint64_t mdn_sort_nth(const uint64_t *values, uint64_t count, uint64_t limit);

/* Sort ascending by key, and the value beside each key with it; stable.
 * scratch: room for 2 * count words, overwritten. */
void mdn_sort_pairs(uint64_t *keys, uint64_t *values, uint64_t count,
                    uint64_t *scratch);

#endif
