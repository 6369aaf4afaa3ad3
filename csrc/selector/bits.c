/* bits.c - bits of keys, put in, taken out and looked at. */
#include "selector/bits.h"

#include <inttypes.h>

static bool
lies_beyond(uint64_t key, uint64_t word_count)
{
    return key / 64 >= word_count;
}

static uint64_t
put_in(uint64_t *words, const uint64_t *keys, uint64_t count)
{
    uint64_t changed = 0;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t *word = &words[keys[i] / 64];
        uint64_t bit = UINT64_C(1) << keys[i] % 64;

        changed += (*word & bit) == 0;
        *word |= bit;
    }
    return changed;
}

static uint64_t
take_out(uint64_t *words, uint64_t word_count, const uint64_t *keys,
         uint64_t count)
{
    uint64_t changed = 0;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t bit = UINT64_C(1) << keys[i] % 64;

        if (lies_beyond(keys[i], word_count))
            continue;
        changed += (words[keys[i] / 64] & bit) != 0;
        words[keys[i] / 64] &= ~bit;
    }
    return changed;
}

mdn_status
mdn_bits_set(uint64_t *words, uint64_t word_count, const uint64_t *keys,
             uint64_t count, bool in, uint64_t *changed, mdn_error *err)
{
    if (!in) {
        *changed = take_out(words, word_count, keys, count);
        return MDN_OK;
    }
    for (uint64_t i = 0; i < count; i++) {
        if (lies_beyond(keys[i], word_count))
            return mdn_fail(err, MDN_INVALID,
                            "key %" PRIu64 " lies beyond the %" PRIu64
                            " words of the bitmap",
                            keys[i], word_count);
    }
    *changed = put_in(words, keys, count);
    return MDN_OK;
}

void
mdn_bits_get(const uint64_t *words, uint64_t word_count, const uint64_t *keys,
             uint64_t count, uint8_t *out)
{
    for (uint64_t i = 0; i < count; i++)
        out[i] = !lies_beyond(keys[i], word_count)
                 && (words[keys[i] / 64] >> keys[i] % 64 & 1) != 0;
}
