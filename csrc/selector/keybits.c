/* keybits.c - counting the bits of bitmaps.
 *
 * Each loop is written once and compiled several times: with the instruction
 * that counts the bits of a word, with that of eight words, which not every
 * x86-64 has, and without. */
#include "selector/keybits.h"

#define INLINE static inline __attribute__((always_inline))

/* The bits first .. last of one word, both from 0 to 63. */
INLINE uint64_t
mask(uint32_t first, uint32_t last)
{
    return (~UINT64_C(0) << first) & (~UINT64_C(0) >> (63 - last));
}

INLINE uint32_t
bits_of(uint64_t word)
{
    return (uint32_t)__builtin_popcountll(word);
}

INLINE uint32_t
count_common(const uint64_t *a, const uint64_t *b)
{
    uint64_t found = 0;

    for (int i = 0; i < MDN_KEYBITS_WORDS; i++)
        found += (uint64_t)__builtin_popcountll(a[i] & b[i]);
    return (uint32_t)found;
}

INLINE uint32_t
count_within(const uint64_t *words, const uint16_t *pairs, uint32_t runs)
{
    uint32_t found = 0;

    for (uint32_t r = 0; r < runs; r++) {
        uint32_t first = pairs[2 * r], last = pairs[2 * r + 1];
        uint32_t from = first / 64, to = last / 64;

        if (from == to) {
            found += bits_of(words[from] & mask(first % 64, last % 64));
            continue;
        }
        found += bits_of(words[from] & mask(first % 64, 63));
        for (uint32_t i = from + 1; i < to; i++)
            found += bits_of(words[i]);
        found += bits_of(words[to] & mask(0, last % 64));
    }
    return found;
}

INLINE uint32_t
count_all(const uint64_t *words, uint32_t *runs)
{
    uint64_t before = 0; /* the last bit of the word before */
    uint32_t count = 0;

    *runs = 0;
    for (int i = 0; i < MDN_KEYBITS_WORDS; i++) {
        count += bits_of(words[i]);
        *runs += bits_of(words[i] & ~(words[i] << 1 | before));
        before = words[i] >> 63;
    }
    return count;
}

typedef struct {
    uint32_t (*common)(const uint64_t *a, const uint64_t *b);
    uint32_t (*within)(const uint64_t *words, const uint16_t *pairs,
                       uint32_t runs);
    uint32_t (*count)(const uint64_t *words, uint32_t *runs);
} counters;

#define COMPILE(NAME, TARGET)                                                  \
    TARGET static uint32_t common_##NAME(const uint64_t *a, const uint64_t *b) \
    {                                                                          \
        return count_common(a, b);                                             \
    }                                                                          \
    TARGET static uint32_t within_##NAME(const uint64_t *words,                \
                                         const uint16_t *pairs, uint32_t runs) \
    {                                                                          \
        return count_within(words, pairs, runs);                               \
    }                                                                          \
    TARGET static uint32_t count_##NAME(const uint64_t *words, uint32_t *runs) \
    {                                                                          \
        return count_all(words, runs);                                         \
    }                                                                          \
    static const counters NAME = {common_##NAME, within_##NAME, count_##NAME}

COMPILE(plain, );
#if defined(__x86_64__)
COMPILE(popcnt, __attribute__((target("popcnt"))));
COMPILE(vpopcnt, __attribute__((target("popcnt,avx512f,avx512vpopcntdq"))));
#endif

static const counters *chosen;

__attribute__((constructor)) static void
choose(void)
{
    chosen = &plain;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("popcnt"))
        chosen = &popcnt;
    if (__builtin_cpu_supports("avx512f")
        && __builtin_cpu_supports("avx512vpopcntdq"))
        chosen = &vpopcnt;
#endif
}

uint32_t
mdn_keybits_common(const uint64_t *a, const uint64_t *b)
{
    return chosen->common(a, b);
}

uint32_t
mdn_keybits_within(const uint64_t *words, const uint16_t *pairs, uint32_t runs)
{
    return chosen->within(words, pairs, runs);
}

uint32_t
mdn_keybits_count(const uint64_t *words, uint32_t *runs)
{
    return chosen->count(words, runs);
}

void
mdn_keybits_set(uint64_t *words, uint32_t first, uint32_t last)
{
    uint32_t from = first / 64, to = last / 64;

    if (from == to) {
        words[from] |= mask(first % 64, last % 64);
        return;
    }
    words[from] |= mask(first % 64, 63);
    for (uint32_t i = from + 1; i < to; i++)
        words[i] = ~UINT64_C(0);
    words[to] |= mask(0, last % 64);
}
