/* utf8.h - one character of UTF-8 at a time.
 *
 *   code points        bytes
 *   U+0080 .. 7FF      C2..DF  80..BF
 *   U+0800 .. FFFF     E0..EF  80..BF 80..BF   no overlong E0 80..9F, and no
 *                                              surrogates ED A0..BF
 *   U+10000 .. 10FFFF  F0..F4  80..BF x 3      no F0 80..8F, no F4 90..BF */
#ifndef MDN_INGEST_UTF8_H
#define MDN_INGEST_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Behind the character of several bytes at `at`; NULL if it is none.  Stops at
 * the first byte that does not fit, so that any end will do. */
static inline const char *
mdn_utf8_next(const char *at)
{
    const uint8_t *byte = (const uint8_t *)at;
    uint8_t low = 0x80, high = 0xbf;
    int more = 1;

    if (byte[0] < 0xc2 || byte[0] > 0xf4)
        return NULL;
    if (byte[0] >= 0xe0)
        more = byte[0] >= 0xf0 ? 3 : 2;
    if (byte[0] == 0xe0)
        low = 0xa0;
    if (byte[0] == 0xed)
        high = 0x9f;
    if (byte[0] == 0xf0)
        low = 0x90;
    if (byte[0] == 0xf4)
        high = 0x8f;
    for (int i = 1; i <= more; i++) {
        if (byte[i] < low || byte[i] > high)
            return NULL;
        low = 0x80;
        high = 0xbf;
    }
    return at + 1 + more;
}

/* A code point that is no surrogate; returns what is behind it. */
static inline char *
mdn_utf8_put(int32_t code, char *to)
{
    if (code < 0x80) {
        *to++ = (char)code;
        return to;
    }
    if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
    } else if (code < 0x10000) {
        *to++ = (char)(0xe0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
    } else {
        *to++ = (char)(0xf0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 0x3f));
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
    }
    *to++ = (char)(0x80 | (code & 0x3f));
    return to;
}

#endif
