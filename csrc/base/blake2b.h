/* blake2b.h - BLAKE2b with a 32-byte digest (RFC 7693), for content digests. */
#ifndef MDN_BASE_BLAKE2B_H
#define MDN_BASE_BLAKE2B_H

#include <stdint.h>

#define MDN_DIGEST_SIZE 32

typedef struct {
    uint64_t state[8];
    uint64_t total; /* bytes; 2^64 - 1 at most */
    uint8_t buffer[128];
    uint32_t buffered;
} mdn_blake2b;

void mdn_blake2b_init(mdn_blake2b *hash);
void mdn_blake2b_update(mdn_blake2b *hash, const void *data, uint64_t size);
void mdn_blake2b_final(mdn_blake2b *hash, uint8_t out[MDN_DIGEST_SIZE]);
/* Lower-case hexadecimal and a NUL. */
void mdn_digest_hex(const uint8_t digest[MDN_DIGEST_SIZE],
                    char out[2 * MDN_DIGEST_SIZE + 1]);

#endif
