/* exact.c - from integers for each exponent to one number. */
#include "selector/exact.h"

#include <math.h>
#include <stdbool.h>

#define WORDS 36 /* of 64 bits: 2047 + 128 bits and a word of carry */

#define SOME 512 /* significands whose sum fits in a word */
#define MANTISSA ((UINT64_C(1) << 52) - 1)
#define FEW 12 /* exponents, for each of which all values are read */

/* Exponent by exponent, so that no sum waits for the one before; false, and
 * nothing is added, when there are too many. */
static inline __attribute__((always_inline)) bool
add_by_exponent(mdn_exact *sum, const double *values, uint64_t count)
{
    uint64_t bits[SOME];
    int64_t low = INT64_MAX, high = 0;

    memcpy(bits, values, count * sizeof *bits);
    for (uint64_t i = 0; i < count; i++) {
        int64_t word = (int64_t)bits[i];

        low = word < low ? word : low;
        high = word > high ? word : high;
    }
    low >>= 52;
    high >>= 52;
    if (low == 0 || high - low >= FEW)
        return false;
    for (int64_t e = low; e <= high; e++) {
        uint64_t part = 0;

        for (uint64_t i = 0; i < count; i++) {
            uint64_t other = (bits[i] >> 52) - (uint64_t)e;

            part += other == 0 ? (bits[i] & MANTISSA) | (MANTISSA + 1) : 0;
        }
        sum->parts[e] += part;
    }
    return true;
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512dq,avx512vl"))) static bool
add_avx512(mdn_exact *sum, const double *values, uint64_t count)
{
    return add_by_exponent(sum, values, count);
}
#endif

static bool
add_quickly(mdn_exact *sum, const double *values, uint64_t count)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("avx512vl"))
        return add_avx512(sum, values, count);
#endif
    (void)sum;
    (void)values;
    (void)count;
    return false; /* without wide vectors one by one is no slower */
}

void
mdn_exact_add_all(mdn_exact *sum, const double *values, uint64_t count)
{
    for (uint64_t i = 0; i < count; i += SOME) {
        uint64_t some = count - i < SOME ? count - i : SOME;

        if (!add_quickly(sum, values + i, some))
            for (uint64_t j = i; j < i + some; j++)
                mdn_exact_add(sum, values[j]);
    }
}

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
