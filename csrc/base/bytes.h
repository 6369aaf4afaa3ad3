/* bytes.h - checked sizes, and little-endian numbers at any alignment. */
#ifndef MDN_BASE_BYTES_H
#define MDN_BASE_BYTES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* True, and *out untouched, when the result does not fit. */
static inline bool
mdn_mul_overflows(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t result;
    if (__builtin_mul_overflow(a, b, &result))
        return true;
    *out = result;
    return false;
}

static inline bool
mdn_add_overflows(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t result;
    if (__builtin_add_overflow(a, b, &result))
        return true;
    *out = result;
    return false;
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "files and records are little-endian; this machine is not"
#endif

static inline uint32_t
mdn_load_u32(const void *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t
mdn_load_u64(const void *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline void
mdn_store_u32(void *at, uint32_t value)
{
    memcpy(at, &value, sizeof value);
}

static inline void
mdn_store_u64(void *at, uint64_t value)
{
    memcpy(at, &value, sizeof value);
}

#endif
