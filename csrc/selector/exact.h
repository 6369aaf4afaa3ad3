/* exact.h - sums of numbers >= 0 without rounding.
 *
 * The significands of all numbers with one exponent add up in one integer of
 * 128 bits; 2^75 numbers fit.  So a sum is that of the set of numbers,
 * whatever their order and however they were shared among threads, and is
 * rounded once, at the end. */
#ifndef MDN_SELECTOR_EXACT_H
#define MDN_SELECTOR_EXACT_H

#include <stdint.h>
#include <string.h>

#define MDN_EXACT_PARTS 2047

__extension__ typedef unsigned __int128 mdn_wide;

/* The sum of parts[e] * 2^(e - 1075); parts[0] stays 0.  Begins as zeros. */
typedef struct {
    mdn_wide parts[MDN_EXACT_PARTS];
} mdn_exact;

/* Add, or take away what was added before; finite and >= 0. */
static inline void
mdn_exact_add(mdn_exact *sum, double value)
{
    uint64_t bits, normal;

    memcpy(&bits, &value, sizeof bits);
    normal = bits >> 52 != 0;
    sum->parts[(bits >> 52) + !normal] +=
        (bits & ((UINT64_C(1) << 52) - 1)) | normal << 52;
}

static inline void
mdn_exact_subtract(mdn_exact *sum, double value)
{
    uint64_t bits, normal;

    memcpy(&bits, &value, sizeof bits);
    normal = bits >> 52 != 0;
    sum->parts[(bits >> 52) + !normal] -=
        (bits & ((UINT64_C(1) << 52) - 1)) | normal << 52;
}

/* Add many; quick where few exponents come. */
void mdn_exact_add_all(mdn_exact *sum, const double *values, uint64_t count);

void mdn_exact_merge(mdn_exact *sum, const mdn_exact *other);

/* The nearest double, ties to even; infinite when there is none. */
double mdn_exact_round(const mdn_exact *sum);

#endif
