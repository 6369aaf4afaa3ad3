/* keybits.h - bitmaps of 65,536 keys: key k is bit k % 64 of word k / 64.
 *
 * Bits are counted by the processor's own instruction where it has one. */
#ifndef MDN_SELECTOR_KEYBITS_H
#define MDN_SELECTOR_KEYBITS_H

#include <stdbool.h>
#include <stdint.h>

#define MDN_KEYBITS_WORDS 1024
#define MDN_KEYBITS_BYTES (MDN_KEYBITS_WORDS * sizeof(uint64_t))

/* How many bits two bitmaps have in common. */
uint32_t mdn_keybits_common(const uint64_t *a, const uint64_t *b);

/* How many bits are set within runs: (first, last) pairs, both included. */
uint32_t mdn_keybits_within(const uint64_t *words, const uint16_t *pairs,
                            uint32_t runs);

/* How many bits are set, and how many runs they make. */
uint32_t mdn_keybits_count(const uint64_t *words, uint32_t *runs);

/* Set the bits first .. last, both included. */
void mdn_keybits_set(uint64_t *words, uint32_t first, uint32_t last);

static inline bool
mdn_keybits_has(const uint64_t *words, uint32_t low)
{
    return words[low / 64] >> (low % 64) & 1;
}

#endif
