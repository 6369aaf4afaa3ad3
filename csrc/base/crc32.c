/* crc32.c - eight bytes at a time, by tables.
 *
 * tables[k][b] is the checksum of byte b followed by k zero bytes: since the
 * checksum is linear, those of eight bytes in a row are added with xor. */
#include "base/crc32.h"

#include "base/bytes.h"

#include <pthread.h>

#define POLYNOMIAL UINT32_C(0xedb88320) /* lowest bit first */

static uint32_t tables[8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void
make_tables(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;

        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        tables[0][b] = crc;
    }
    for (int k = 1; k < 8; k++) {
        for (uint32_t b = 0; b < 256; b++) {
            uint32_t before = tables[k - 1][b];

            tables[k][b] = before >> 8 ^ tables[0][before & 255];
        }
    }
}

uint32_t
mdn_crc32(uint32_t crc, const void *data, uint64_t size)
{
    const uint8_t *at = data;

    pthread_once(&tables_once, make_tables);
    crc = ~crc;
    for (; size >= 8; size -= 8, at += 8) {
        uint32_t low = mdn_load_u32(at) ^ crc, high = mdn_load_u32(at + 4);

        crc = tables[7][low & 255] ^ tables[6][low >> 8 & 255]
              ^ tables[5][low >> 16 & 255] ^ tables[4][low >> 24]
              ^ tables[3][high & 255] ^ tables[2][high >> 8 & 255]
              ^ tables[1][high >> 16 & 255] ^ tables[0][high >> 24];
    }
    for (; size > 0; size--)
        crc = crc >> 8 ^ tables[0][(crc ^ *at++) & 255];
    return ~crc;
}
