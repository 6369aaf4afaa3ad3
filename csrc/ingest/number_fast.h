/* number_fast.h - numbers of common forms, straight from where they stand.
 *
 * false means only that the text is for mdn_number_parse, which then says what
 * it is; what is put here is what that would put.  MDN_DECIMAL_SLACK bytes
 * behind the text may be read. */
#ifndef MDN_INGEST_NUMBER_FAST_H
#define MDN_INGEST_NUMBER_FAST_H

#include "ingest/decimal.h"
#include "storage/schema.h"

/* False also where rounding twice might show: between two floats, and where
 * floats are subnormal or end. */
static inline bool
mdn_float_fast(const char *text, uint64_t size, void *out)
{
    double value;
    float narrow;
    uint64_t bits, exponent;

    if (!mdn_decimal_fast(text, size, &value))
        return false;
    memcpy(&bits, &value, sizeof bits);
    exponent = (bits >> 52) & 0x7ff;
    if ((bits << 1) != 0
        && (exponent < 1023 - 126 || exponent > 1023 + 126
            || (bits & 0x1fffffff) == 0x10000000))
        return false;
    narrow = (float)value;
    memcpy(out, &narrow, sizeof narrow);
    return true;
}

static inline bool
mdn_integer_fast_as(mdn_dtype dtype, const char *text, uint64_t size, void *out)
{
    uint64_t bytes = mdn_dtype_size(dtype);
    bool is_signed = dtype <= MDN_INT64;
    int64_t value, limit = INT64_MAX; /* 18 digits always fit 64 bits */

    if (bytes < 8)
        limit = INT64_C(1) << (8 * bytes - is_signed);
    if (!mdn_integer_fast(text, size, &value))
        return false;
    if (is_signed ? value < -limit || value >= limit
                  : value < 0 || value >= limit)
        return false;
    memcpy(out, &value, bytes); /* the low bytes come first */
    return true;
}

/* A text of at least one byte. */
static inline bool
mdn_number_fast(mdn_dtype dtype, const char *text, uint64_t size, void *out)
{
    switch (dtype) { /* no default: -Wswitch rejects a missing case */
    case MDN_FLOAT32: return mdn_float_fast(text, size, out);
    case MDN_FLOAT64: {
        double value;

        if (!mdn_decimal_fast(text, size, &value))
            return false;
        memcpy(out, &value, sizeof value);
        return true;
    }
    case MDN_INT64: {
        int64_t value;

        if (!mdn_integer_fast(text, size, &value))
            return false;
        memcpy(out, &value, sizeof value);
        return true;
    }
    case MDN_INT8:
    case MDN_INT16:
    case MDN_INT32:
    case MDN_UINT8:
    case MDN_UINT16:
    case MDN_UINT32:
    case MDN_UINT64: return mdn_integer_fast_as(dtype, text, size, out);
    case MDN_BOOL:
    case MDN_FLOAT16:
    case MDN_BYTES:
    case MDN_COMPLEX64:
    case MDN_COMPLEX128: break;
    }
    return false;
}

#endif
