/* crc32.h - the CRC-32 of zip archives (IEEE 802.3); our own files have
 * crc32c.h.  mdn_crc32(0, data, size) starts, mdn_crc32(crc, more, size)
 * continues. */
#ifndef MDN_BASE_CRC32_H
#define MDN_BASE_CRC32_H

#include <stdint.h>

uint32_t mdn_crc32(uint32_t crc, const void *data, uint64_t size);

#endif
