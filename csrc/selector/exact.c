/* exact.c - from integers for each exponent to one number. */
#include "selector/exact.h"

#include <math.h>

#define WORDS 36 /* of 64 bits: 2047 + 128 bits and a word of carry */

void
mdn_exact_merge(mdn_exact *sum, const mdn_exact *other)
{
    for (int e = 0; e < MDN_EXACT_PARTS; e++)
        sum->parts[e] += other->parts[e];
}

/* words += value * 2^shift */
static void
add_shifted(uint64_t words[WORDS], mdn_wide value, int shift)
{
    int at = shift / 64, by = shift % 64;
    uint64_t low = (uint64_t)value, high = (uint64_t)(value >> 64);
    uint64_t pieces[3] = {
        low << by,
        high << by | (by > 0 ? low >> (64 - by) : 0),
        by > 0 ? high >> (64 - by) : 0,
    };
    uint64_t carry = 0;

    for (int i = 0; at + i < WORDS && (i < 3 || carry > 0); i++) {
        mdn_wide sum =
            (mdn_wide)words[at + i] + carry + (i < 3 ? pieces[i] : 0);

        words[at + i] = (uint64_t)sum;
        carry = (uint64_t)(sum >> 64);
    }
}

double
mdn_exact_round(const mdn_exact *sum)
{
    uint64_t words[WORDS] = {0};
    uint64_t leading;
    int top = WORDS - 1, zeros, exponent;

    for (int e = 1; e < MDN_EXACT_PARTS; e++)
        if (sum->parts[e] != 0)
            add_shifted(words, sum->parts[e], e);
    while (top > 0 && words[top] == 0)
        top--;
    if (words[top] == 0)
        return 0.0;
    zeros = __builtin_clzll(words[top]);
    leading = words[top] << zeros;
    exponent = 64 * top - zeros - 1075;
    if (top > 0) {
        uint64_t behind = words[top - 1] << zeros;

        if (zeros > 0)
            leading |= words[top - 1] >> (64 - zeros);
        for (int i = 0; i < top - 1; i++)
            behind |= words[i];
        leading |= behind != 0; /* far below the bit that rounds */
    }
    return ldexp((double)leading, exponent);
}
