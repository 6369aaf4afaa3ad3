/* copy.h - copies of a few bytes without a call.
 *
 * Two moves that overlap in the middle copy any size between one and two of
 * them, so that each size class is a few instructions and no loop over bytes.
 * Nothing outside of the size given is read or written. */
#ifndef MDN_STORAGE_COPY_H
#define MDN_STORAGE_COPY_H

#include <stdint.h>
#include <string.h>

#define MDN_COPY_SMALL_MAX 256

static inline void
mdn_copy_two(uint8_t *to, const uint8_t *from, uint64_t size, uint64_t step)
{
    memcpy(to, from, step);
    memcpy(to + size - step, from + size - step, step);
}

/* 16 .. MDN_COPY_SMALL_MAX bytes. */
static inline void
mdn_copy_by_16(uint8_t *to, const uint8_t *from, uint64_t size)
{
    for (uint64_t at = 0; at + 16 < size; at += 16)
        memcpy(to + at, from + at, 16);
    memcpy(to + size - 16, from + size - 16, 16);
}

static inline void
mdn_copy(uint8_t *to, const uint8_t *from, uint64_t size)
{
    if (size > MDN_COPY_SMALL_MAX)
        memcpy(to, from, size);
    else if (size >= 16)
        mdn_copy_by_16(to, from, size);
    else if (size >= 8)
        mdn_copy_two(to, from, size, 8);
    else if (size >= 4)
        mdn_copy_two(to, from, size, 4);
    else if (size >= 2)
        mdn_copy_two(to, from, size, 2);
    else if (size == 1)
        *to = *from;
}

#endif
