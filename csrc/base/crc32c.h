/* crc32c.h - CRC-32C (Castagnoli), by hardware where the processor has it.
 *
 * mdn_crc32c(0, data, size) starts, mdn_crc32c(crc, more, size) continues:
 * the checksum of a whole equals the checksum continued over its parts. */
#ifndef MDN_BASE_CRC32C_H
#define MDN_BASE_CRC32C_H

#include <stdint.h>

uint32_t mdn_crc32c(uint32_t crc, const void *data, uint64_t size);
/* The table-driven twin, for tests and for processors without the instruction.
 */
uint32_t mdn_crc32c_portable(uint32_t crc, const void *data, uint64_t size);

#endif
