/* number.c - decimal text to binary numbers, correctly rounded.
 *
 * Most numbers in files are short: a decimal mantissa below 2^53 and a power
 * of ten up to 22 are both exact doubles, so that their product or quotient is
 * rounded once, hence correctly (Clinger 1990, "How to read floating point
 * numbers accurately").  Longer ones are rounded by decimal.h as far as that
 * goes; all others go to strtod, in the C locale.
 *
 * A narrower float is made from the double.  That rounds twice, which goes
 * wrong only if the double lies exactly between two of the narrower floats
 * while the decimal lies beside it; then the decimal is read once more: for
 * float32 by strtof, for float16 to a double that is rounded to odd. */
#include "ingest/number.h"

#include "ingest/decimal.h"

#include <assert.h>
#include <fenv.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TEXT_MAX 1024

static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;

static void
make_c_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    assert(c_locale != (locale_t)0); /* a constant of the C library */
}

/* Integers -------------------------------------------------------------- */

static mdn_number_result
parse_magnitude(const char *text, uint64_t size, uint64_t *out)
{
    uint64_t value = 0;
    bool over = false;

    if (size == 0 || size > TEXT_MAX)
        return MDN_NUMBER_MALFORMED;
    for (uint64_t i = 0; i < size; i++) {
        unsigned digit = (unsigned)text[i] - '0';
        if (digit > 9)
            return MDN_NUMBER_MALFORMED;
        over |= __builtin_mul_overflow(value, 10u, &value);
        over |= __builtin_add_overflow(value, digit, &value);
    }
    *out = value;
    return over ? MDN_NUMBER_RANGE : MDN_NUMBER_OK;
}

/* Sign and magnitude; -0 is 0. */
static mdn_number_result
parse_integer(const char *text, uint64_t size, bool *negative, uint64_t *out)
{
    *negative = size > 0 && text[0] == '-';
    if (size > 0 && (text[0] == '-' || text[0] == '+')) {
        text++;
        size--;
    }
    return parse_magnitude(text, size, out);
}

static mdn_number_result
parse_signed(const char *text, uint64_t size, uint64_t bytes, void *out)
{
    uint64_t magnitude, limit = UINT64_C(1) << (8 * bytes - 1);
    bool negative;
    mdn_number_result result = parse_integer(text, size, &negative, &magnitude);

    if (result != MDN_NUMBER_OK)
        return result;
    if (magnitude >= limit + negative)
        return MDN_NUMBER_RANGE;
    if (negative)
        magnitude = 0 - magnitude;
    memcpy(out, &magnitude, bytes); /* the low bytes come first */
    return MDN_NUMBER_OK;
}

static mdn_number_result
parse_unsigned(const char *text, uint64_t size, uint64_t bytes, void *out)
{
    uint64_t magnitude;
    bool negative;
    mdn_number_result result = parse_integer(text, size, &negative, &magnitude);

    if (result != MDN_NUMBER_OK)
        return result;
    if ((negative && magnitude > 0)
        || (bytes < 8 && magnitude >> (8 * bytes) != 0))
        return MDN_NUMBER_RANGE;
    memcpy(out, &magnitude, bytes);
    return MDN_NUMBER_OK;
}

static bool
is_one_of(const char *text, uint64_t size, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (size == strlen(*words) && memcmp(text, *words, size) == 0)
            return true;
    }
    return false;
}

static mdn_number_result
parse_bool(const char *text, uint64_t size, void *out)
{
    static const char *const yes[] = {"1", "true", "True", "TRUE", NULL};
    static const char *const no[] = {"0", "false", "False", "FALSE", NULL};
    uint8_t value = is_one_of(text, size, yes);

    if (!value && !is_one_of(text, size, no))
        return MDN_NUMBER_MALFORMED;
    memcpy(out, &value, 1);
    return MDN_NUMBER_OK;
}

/* Floats ---------------------------------------------------------------- */

/* A text that was read as [-] mantissa * 10^exponent. */
typedef struct {
    bool negative;
    bool exact; /* no digit was left out of the mantissa */
    uint64_t mantissa;
    int64_t exponent;
} decimal;

/* Digits with at most one point; *size is cut to what follows. */
static const char *
parse_digits(const char *text, uint64_t *size, decimal *d)
{
    const char *end = text + *size;
    bool point = false;
    int digits = 0, kept = 0;

    for (; text < end; text++) {
        unsigned digit = (unsigned)*text - '0';
        if (*text == '.' && !point) {
            point = true;
            continue;
        }
        if (digit > 9)
            break;
        digits++;
        if (kept < MDN_DIGITS_MAX) {
            d->mantissa = d->mantissa * 10 + digit;
            kept += d->mantissa > 0;
            d->exponent -= point;
        } else {
            d->exact = d->exact && digit == 0;
            d->exponent += !point;
        }
    }
    *size = (uint64_t)(end - text);
    return digits > 0 ? text : NULL;
}

/* The whole text as a decimal; nan and inf are not. */
static bool
parse_decimal(const char *text, uint64_t size, decimal *d)
{
    uint64_t magnitude = 0;
    bool negative;

    *d = (decimal){.exact = true};
    if (size > 0 && (text[0] == '-' || text[0] == '+')) {
        d->negative = text[0] == '-';
        text++;
        size--;
    }
    text = parse_digits(text, &size, d);
    if (text == NULL)
        return false;
    if (size == 0)
        return true;
    if (text[0] != 'e' && text[0] != 'E')
        return false;
    switch (parse_integer(text + 1, size - 1, &negative, &magnitude)) {
    case MDN_NUMBER_MALFORMED: return false;
    case MDN_NUMBER_RANGE: magnitude = 100000; break;
    case MDN_NUMBER_OK: break;
    }
    if (magnitude > 100000) /* infinity or zero, whatever the digits are */
        magnitude = 100000;
    d->exponent += negative ? -(int64_t)magnitude : (int64_t)magnitude;
    return true;
}

/* nan, inf, infinity; a NaN keeps no sign. */
static bool
parse_special(const char *text, uint64_t size, double *out)
{
    bool negative = size > 0 && text[0] == '-';

    if (size > 0 && (text[0] == '-' || text[0] == '+')) {
        text++;
        size--;
    }
    if (size == 3 && strncasecmp(text, "nan", 3) == 0) {
        *out = (double)NAN;
        return true;
    }
    if ((size == 3 && strncasecmp(text, "inf", 3) == 0)
        || (size == 8 && strncasecmp(text, "infinity", 8) == 0)) {
        *out = negative ? -(double)INFINITY : (double)INFINITY;
        return true;
    }
    return false;
}

/* False for what only strtod knows how to round. */
static bool
convert_short(const decimal *d, double *out)
{
    static const double powers[23] = {
        1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
        1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    bool is_short = d->mantissa <= UINT64_C(1) << 53;
    double value = (double)d->mantissa;

    if (!d->exact)
        return false;
    if (d->mantissa == 0)
        value = 0.0;
    else if (is_short && d->exponent >= 0 && d->exponent <= 22)
        value *= powers[d->exponent];
    else if (is_short && d->exponent < 0 && d->exponent >= -22)
        value /= powers[-d->exponent];
    else if (!mdn_decimal_round(d->mantissa, d->exponent, &value))
        return false;
    *out = d->negative ? -value : value;
    return true;
}

/* strtod wants a NUL; the text is known to be a number and not too long. */
static double
convert_long(const char *text, uint64_t size)
{
    char copy[TEXT_MAX + 1];

    memcpy(copy, text, size);
    copy[size] = '\0';
    pthread_once(&c_locale_once, make_c_locale);
    return strtod_l(copy, NULL, c_locale);
}

static float
convert_long_to_float(const char *text, uint64_t size)
{
    char copy[TEXT_MAX + 1];

    memcpy(copy, text, size);
    copy[size] = '\0';
    pthread_once(&c_locale_once, make_c_locale);
    return strtof_l(copy, NULL, c_locale);
}

/* The double towards zero of the decimal, with its last bit set if it is not
 * exact: rounding that to fewer bits is as good as rounding the decimal. */
static double
convert_to_odd(const char *text, uint64_t size)
{
    int before = fegetround();
    double down, up, value;
    uint64_t bits;

    fesetround(FE_DOWNWARD);
    down = convert_long(text, size);
    fesetround(FE_UPWARD);
    up = convert_long(text, size);
    fesetround(before);
    value = down < 0 ? up : down;
    memcpy(&bits, &value, sizeof bits);
    bits |= down < up;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Round to nearest even; the caller has seen to it that |value| is finite. */
static uint16_t
half_of_double(double value)
{
    uint64_t bits, mantissa, rest, middle, half;
    int exponent, drop = 42; /* 52 fraction bits, of which 10 are kept */

    memcpy(&bits, &value, sizeof bits);
    exponent = (int)((bits >> 52) & 0x7ff) - 1023;
    mantissa = (bits & ((UINT64_C(1) << 52) - 1)) | (UINT64_C(1) << 52);
    if (exponent < -14)
        drop += -14 - exponent;
    if (drop > 54)
        return (uint16_t)((bits >> 63) << 15);
    half = mantissa >> drop;
    rest = mantissa & ((UINT64_C(1) << drop) - 1);
    middle = UINT64_C(1) << (drop - 1);
    half += rest > middle || (rest == middle && (half & 1));
    if (exponent >= -14) /* the leading bit adds one to the exponent field */
        half += (uint64_t)(exponent + 14) << 10;
    return (uint16_t)(half | (bits >> 63) << 15);
}

/* True if value may lie exactly between two floats of the narrower type with
 * `kept` fraction bits and this smallest normal exponent. */
static bool
is_between(double value, int kept, int exponent_min)
{
    uint64_t bits, rest;
    int exponent, drop = 52 - kept;

    memcpy(&bits, &value, sizeof bits);
    exponent = (int)((bits >> 52) & 0x7ff) - 1023;
    if (exponent < exponent_min)
        return true; /* subnormal there: rare enough to read again */
    rest = bits & ((UINT64_C(1) << drop) - 1);
    return rest == UINT64_C(1) << (drop - 1);
}

static mdn_number_result
put_float16(double value, const char *text, uint64_t size, void *out)
{
    uint16_t half;

    if (isfinite(value)) {
        if (value != 0 && is_between(value, 10, -14))
            value = convert_to_odd(text, size);
        if (value >= 65520.0 || value <= -65520.0)
            return MDN_NUMBER_RANGE;
        half = half_of_double(value);
    } else {
        half = isnan(value) ? 0x7e00 : value > 0 ? 0x7c00 : 0xfc00;
    }
    memcpy(out, &half, sizeof half);
    return MDN_NUMBER_OK;
}

static mdn_number_result
put_float32(double value, const char *text, uint64_t size, void *out)
{
    float narrow = (float)value;

    if (isfinite(value) && value != 0 && is_between(value, 23, -126))
        narrow = convert_long_to_float(text, size);
    if (isfinite(value) && isinf(narrow))
        return MDN_NUMBER_RANGE;
    memcpy(out, &narrow, sizeof narrow);
    return MDN_NUMBER_OK;
}

static mdn_number_result
parse_float(mdn_dtype dtype, const char *text, uint64_t size, void *out)
{
    decimal d;
    double value;

    if (size > TEXT_MAX)
        return MDN_NUMBER_MALFORMED;
    if (parse_decimal(text, size, &d)) {
        if (!convert_short(&d, &value))
            value = convert_long(text, size);
        if (isinf(value))
            return MDN_NUMBER_RANGE;
    } else if (!parse_special(text, size, &value)) {
        return MDN_NUMBER_MALFORMED;
    }
    if (dtype == MDN_FLOAT16)
        return put_float16(value, text, size, out);
    if (dtype == MDN_FLOAT32)
        return put_float32(value, text, size, out);
    memcpy(out, &value, sizeof value);
    return MDN_NUMBER_OK;
}

mdn_number_result
mdn_number_parse(mdn_dtype dtype, const char *text, uint64_t size, void *out)
{
    switch (dtype) { /* no default: -Wswitch rejects a missing case */
    case MDN_BOOL: return parse_bool(text, size, out);
    case MDN_INT8:
    case MDN_INT16:
    case MDN_INT32:
    case MDN_INT64: return parse_signed(text, size, mdn_dtype_size(dtype), out);
    case MDN_UINT8:
    case MDN_UINT16:
    case MDN_UINT32:
    case MDN_UINT64:
        return parse_unsigned(text, size, mdn_dtype_size(dtype), out);
    case MDN_FLOAT16:
    case MDN_FLOAT32:
    case MDN_FLOAT64: return parse_float(dtype, text, size, out);
    case MDN_COMPLEX64:
    case MDN_COMPLEX128:
    case MDN_BYTES: return MDN_NUMBER_MALFORMED;
    }
    return MDN_NUMBER_MALFORMED;
}
