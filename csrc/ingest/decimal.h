/* decimal.h - short decimal numbers, fast and rounded correctly.
 *
 * What stands here is for the common case and says so when it is not: then
 * number.h reads the text, whatever it is. */
#ifndef MDN_INGEST_DECIMAL_H
#define MDN_INGEST_DECIMAL_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Bytes behind a text that the inline functions below may read, too. */
#define MDN_DECIMAL_SLACK 16
#define MDN_DIGITS_MAX 19 /* any number of so many digits fits 64 bits */

/* mantissa * 10^exponent, to the nearest double, ties to even; false, and *out
 * untouched, unless -27 <= exponent <= 27. */
bool mdn_decimal_round(uint64_t mantissa, int64_t exponent, double *out);

/* Up to eight digits at once (1 <= size <= 8); false if one is none.  The bytes
 * of a word are digits in the order of the text; in three steps neighbours
 * become numbers of two, four and eight digits. */
static inline bool
mdn_digits_8(const char *text, uint64_t size, uint64_t *out)
{
    const uint64_t zeros = UINT64_C(0x3030303030303030);
    const uint64_t highs = UINT64_C(0xf0f0f0f0f0f0f0f0);
    uint64_t shift = 64 - 8 * size, word;

    memcpy(&word, text, sizeof word);
    word = (word << shift) | (zeros & ((UINT64_C(1) << shift) - 1));
    if (((word & highs)
         | (((word + UINT64_C(0x0606060606060606)) & highs) >> 4))
        != UINT64_C(0x3333333333333333))
        return false;
    word = (word & UINT64_C(0x0f0f0f0f0f0f0f0f)) * 2561 >> 8;
    word = (word & UINT64_C(0x00ff00ff00ff00ff)) * 6553601 >> 16;
    *out =
        (word & UINT64_C(0x0000ffff0000ffff)) * UINT64_C(42949672960001) >> 32;
    return true;
}

/* size digits, at most MDN_DIGITS_MAX; none are 0. */
static inline bool
mdn_digits(const char *text, uint64_t size, uint64_t *out)
{
    uint64_t value = 0, part, head = size % 8;

    if (head > 0) {
        if (!mdn_digits_8(text, head, &value))
            return false;
        text += head;
        size -= head;
    }
    for (; size > 0; size -= 8, text += 8) {
        if (!mdn_digits_8(text, 8, &part))
            return false;
        value = value * 100000000 + part;
    }
    *out = value;
    return true;
}

/* The whole text as [+-] digits, at most 18 of them. */
static inline bool
mdn_integer_fast(const char *text, uint64_t size, int64_t *out)
{
    bool negative = *text == '-';
    uint64_t value;

    if (negative || *text == '+') {
        text++;
        size--;
    }
    if (size - 1 > 17 || !mdn_digits(text, size, &value))
        return false;
    *out = negative ? -(int64_t)value : (int64_t)value;
    return true;
}

/* Where the first point is; size if there is none (size <= 20). */
static inline uint64_t
mdn_find_point(const char *text, uint64_t size)
{
    uint64_t at = 0;

#ifdef __SSE2__
    __m128i points =
        _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(const void *)text),
                       _mm_set1_epi8('.'));
    unsigned mask = (unsigned)_mm_movemask_epi8(points) | 1u << 16;

    at = (uint64_t)__builtin_ctz(mask);
    if (at > size)
        at = size;
    if (at < 16)
        return at;
#endif
    while (at < size && text[at] != '.')
        at++;
    return at;
}

/* The whole text (size >= 1) as [+-] digits with at most one point, 19 digits
 * at most. */
static inline bool
mdn_decimal_fast(const char *text, uint64_t size, double *out)
{
    static const double tens[20] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,
                                    1e7,  1e8,  1e9,  1e10, 1e11, 1e12, 1e13,
                                    1e14, 1e15, 1e16, 1e17, 1e18, 1e19};
    static const uint64_t powers[20] = {UINT64_C(1),
                                        UINT64_C(10),
                                        UINT64_C(100),
                                        UINT64_C(1000),
                                        UINT64_C(10000),
                                        UINT64_C(100000),
                                        UINT64_C(1000000),
                                        UINT64_C(10000000),
                                        UINT64_C(100000000),
                                        UINT64_C(1000000000),
                                        UINT64_C(10000000000),
                                        UINT64_C(100000000000),
                                        UINT64_C(1000000000000),
                                        UINT64_C(10000000000000),
                                        UINT64_C(100000000000000),
                                        UINT64_C(1000000000000000),
                                        UINT64_C(10000000000000000),
                                        UINT64_C(100000000000000000),
                                        UINT64_C(1000000000000000000),
                                        UINT64_C(10000000000000000000)};
    bool negative = *text == '-';
    uint64_t whole_size, rest, high, low = 0;
    double value;

    if (negative || *text == '+') {
        text++;
        size--;
    }
    if (size - 1 > MDN_DIGITS_MAX)
        return false;
    whole_size = mdn_find_point(text, size);
    rest = size - whole_size;
    if (rest > 0)
        rest--; /* the point */
    if (whole_size + rest - 1 >= MDN_DIGITS_MAX
        || !mdn_digits(text, whole_size, &high)
        || !mdn_digits(text + whole_size + 1, rest, &low))
        return false;
    high = high * powers[rest] + low;
    /* Both are exact, so that the quotient is rounded once (Clinger 1990). */
    if (high <= UINT64_C(1) << 53)
        value = (double)high / tens[rest];
    else if (!mdn_decimal_round(high, -(int64_t)rest, &value))
        return false;
    *out = negative ? -value : value;
    return true;
}

#endif
