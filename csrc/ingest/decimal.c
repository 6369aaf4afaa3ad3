/* decimal.c - a product or a quotient of integers, rounded to a double.
 *
 * 5^27 is below 2^63, so that m * 5^e fits 128 bits, and m / 5^e is a division
 * of 128 by 64 bits whose remainder says whether anything was left: both are
 * exact before the one rounding.  Powers of two only move the exponent. */
#include "ingest/decimal.h"

#define EXPONENT_MAX 27
#define FRACTION_BITS 52

__extension__ typedef unsigned __int128 u128;

/* value * 2^exponent, where `more` says that a trifle is missing.  The result
 * is known to be a normal number. */
static double
round_to_double(u128 value, int exponent, bool more)
{
    uint64_t top = (uint64_t)(value >> 64);
    int bits = top ? 128 - __builtin_clzll(top)
                   : 64 - __builtin_clzll((uint64_t)value);
    int drop = bits - (FRACTION_BITS + 1);
    uint64_t kept, encoded;
    double result;

    if (drop > 0) {
        u128 rest = value & (((u128)1 << drop) - 1);
        u128 middle = (u128)1 << (drop - 1);

        kept = (uint64_t)(value >> drop);
        kept += rest > middle || (rest == middle && (more || (kept & 1)));
    } else {
        kept = (uint64_t)value << -drop;
    }
    exponent += drop + FRACTION_BITS;
    /* The leading bit, or the carry of rounding up, adds to the exponent. */
    encoded = ((uint64_t)(exponent + 1022) << FRACTION_BITS) + kept;
    memcpy(&result, &encoded, sizeof result);
    return result;
}

bool
mdn_decimal_round(uint64_t mantissa, int64_t exponent, double *out)
{
    uint64_t five = 1;
    int count = (int)(exponent < 0 ? -exponent : exponent), up, down;
    u128 numerator;

    if (exponent < -EXPONENT_MAX || exponent > EXPONENT_MAX)
        return false;
    if (mantissa == 0) {
        *out = 0.0;
        return true;
    }
    for (int i = 0; i < count; i++)
        five *= 5;
    if (exponent >= 0) {
        *out = round_to_double((u128)mantissa * five, count, false);
        return true;
    }
    /* Both with their highest bit set: the quotient has 63 or 64 bits. */
    up = __builtin_clzll(mantissa);
    down = __builtin_clzll(five);
    five <<= down;
    numerator = (u128)(mantissa << up) << 63;
    *out = round_to_double(numerator / five, down - up - 63 - count,
                           numerator % five != 0);
    return true;
}
