/* blake2b.c - BLAKE2b after RFC 7693, unkeyed, digest of 32 bytes. */
#include "base/blake2b.h"

#include "base/bytes.h"

#include <string.h>

#define BLOCK_SIZE 128
#define ROUNDS 12

static const uint64_t INITIAL[8] = {
    UINT64_C(0x6a09e667f3bcc908), UINT64_C(0xbb67ae8584caa73b),
    UINT64_C(0x3c6ef372fe94f82b), UINT64_C(0xa54ff53a5f1d36f1),
    UINT64_C(0x510e527fade682d1), UINT64_C(0x9b05688c2b3e6c1f),
    UINT64_C(0x1f83d9abfb41bd6b), UINT64_C(0x5be0cd19137e2179),
};

/* Which message words a round takes; rounds 10 and 11 repeat 0 and 1. */
static const uint8_t SIGMA[ROUNDS][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
    {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
    {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
    {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
    {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
};

static uint64_t
rotate_right(uint64_t x, unsigned bits)
{
    return (x >> bits) | (x << (64 - bits));
}

static inline void
mix(uint64_t *a, uint64_t *b, uint64_t *c, uint64_t *d, uint64_t x, uint64_t y)
{
    *a += *b + x;
    *d = rotate_right(*d ^ *a, 32);
    *c += *d;
    *b = rotate_right(*b ^ *c, 24);
    *a += *b + y;
    *d = rotate_right(*d ^ *a, 16);
    *c += *d;
    *b = rotate_right(*b ^ *c, 63);
}

/* Take one block in; hash->total counts it already. */
static void
compress(mdn_blake2b *hash, const uint8_t *block, bool last)
{
    uint64_t m[16], v[16];

    for (int i = 0; i < 16; i++)
        m[i] = mdn_load_u64(block + 8 * i);
    for (int i = 0; i < 8; i++) {
        v[i] = hash->state[i];
        v[i + 8] = INITIAL[i];
    }
    v[12] ^= hash->total;
    if (last)
        v[14] = ~v[14];
#pragma GCC unroll 12
    for (int r = 0; r < ROUNDS; r++) {
        const uint8_t *s = SIGMA[r];
        mix(&v[0], &v[4], &v[8], &v[12], m[s[0]], m[s[1]]);
        mix(&v[1], &v[5], &v[9], &v[13], m[s[2]], m[s[3]]);
        mix(&v[2], &v[6], &v[10], &v[14], m[s[4]], m[s[5]]);
        mix(&v[3], &v[7], &v[11], &v[15], m[s[6]], m[s[7]]);
        mix(&v[0], &v[5], &v[10], &v[15], m[s[8]], m[s[9]]);
        mix(&v[1], &v[6], &v[11], &v[12], m[s[10]], m[s[11]]);
        mix(&v[2], &v[7], &v[8], &v[13], m[s[12]], m[s[13]]);
        mix(&v[3], &v[4], &v[9], &v[14], m[s[14]], m[s[15]]);
    }
    for (int i = 0; i < 8; i++)
        hash->state[i] ^= v[i] ^ v[i + 8];
}

void
mdn_blake2b_init(mdn_blake2b *hash)
{
    *hash = (mdn_blake2b){.total = 0};
    memcpy(hash->state, INITIAL, sizeof INITIAL);
    /* Parameter block: depth 1, fanout 1, no key, digest size. */
    hash->state[0] ^= UINT64_C(0x01010000) ^ MDN_DIGEST_SIZE;
}

void
mdn_blake2b_update(mdn_blake2b *hash, const void *data, uint64_t size)
{
    const uint8_t *from = data;

    /* The last block is marked, so a full buffer waits for the byte after. */
    while (size > 0) {
        uint64_t room = BLOCK_SIZE - hash->buffered;
        if (room == 0) {
            hash->total += BLOCK_SIZE;
            compress(hash, hash->buffer, false);
            hash->buffered = 0;
        } else if (room == BLOCK_SIZE && size > BLOCK_SIZE) {
            hash->total += BLOCK_SIZE;
            compress(hash, from, false);
            from += BLOCK_SIZE;
            size -= BLOCK_SIZE;
        } else {
            uint64_t taken = size < room ? size : room;
            memcpy(hash->buffer + hash->buffered, from, taken);
            hash->buffered += (uint32_t)taken;
            from += taken;
            size -= taken;
        }
    }
}

void
mdn_blake2b_final(mdn_blake2b *hash, uint8_t out[MDN_DIGEST_SIZE])
{
    hash->total += hash->buffered;
    memset(hash->buffer + hash->buffered, 0, BLOCK_SIZE - hash->buffered);
    compress(hash, hash->buffer, true);
    for (int i = 0; i < MDN_DIGEST_SIZE / 8; i++)
        mdn_store_u64(out + 8 * i, hash->state[i]);
}

void
mdn_digest_hex(const uint8_t digest[MDN_DIGEST_SIZE],
               char out[2 * MDN_DIGEST_SIZE + 1])
{
    for (int i = 0; i < MDN_DIGEST_SIZE; i++) {
        out[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    out[2 * MDN_DIGEST_SIZE] = '\0';
}
