/* crc32c.c - CRC-32C by table, or by the processor's own instruction.
 *
 * The instruction takes 8 bytes but answers after three cycles, so that one
 * chain of it runs at a third of the speed.  Long inputs are therefore cut
 * into triples of LANE bytes, whose checksums run side by side and are joined:
 * crc(A B) = shift(crc(A), |B|) ^ crc(B), where shift appends |B| zero bytes.
 * Since |B| is always LANE, shift is linear with four tables of 256 entries.
 *
 * All tables are made, and the path is chosen, before main: later they are
 * only read, by any thread. */
#include "base/crc32c.h"

#include "base/bytes.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#endif

#define POLYNOMIAL UINT32_C(0x82f63b78) /* reflected */
#define LANE 1024                       /* bytes; a multiple of 8 */

/* slices[k][b]: the checksum of byte b followed by k zero bytes. */
static uint32_t slices[8][256];

static void
make_slices(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
        slices[0][b] = crc;
    }
    for (int k = 1; k < 8; k++) {
        for (int b = 0; b < 256; b++) {
            uint32_t crc = slices[k - 1][b];
            slices[k][b] = (crc >> 8) ^ slices[0][crc & 255];
        }
    }
}

uint32_t
mdn_crc32c_portable(uint32_t crc, const void *data, uint64_t size)
{
    const uint8_t *at = data;

    crc = ~crc;
    for (; size >= 8; size -= 8, at += 8) {
        uint32_t low = mdn_load_u32(at) ^ crc, high = mdn_load_u32(at + 4);
        crc = slices[7][low & 255] ^ slices[6][(low >> 8) & 255]
              ^ slices[5][(low >> 16) & 255] ^ slices[4][low >> 24]
              ^ slices[3][high & 255] ^ slices[2][(high >> 8) & 255]
              ^ slices[1][(high >> 16) & 255] ^ slices[0][high >> 24];
    }
    for (; size > 0; size--, at++)
        crc = (crc >> 8) ^ slices[0][(crc ^ *at) & 255];
    return ~crc;
}

#if defined(__x86_64__) || defined(__aarch64__)

#if defined(__x86_64__)
#define TARGET __attribute__((target("sse4.2")))
#define STEP_8(crc, at) ((uint32_t)_mm_crc32_u64(crc, mdn_load_u64(at)))
#define STEP_1(crc, at) _mm_crc32_u8(crc, *(at))
#elif defined(__clang__)
#define TARGET __attribute__((target("crc")))
#else
#define TARGET __attribute__((target("+crc")))
#endif
#if defined(__aarch64__)
#define STEP_8(crc, at) __crc32cd(crc, mdn_load_u64(at))
#define STEP_1(crc, at) __crc32cb(crc, *(at))
#endif

/* shifts[k][b]: byte k of a checksum, valued b, followed by LANE zeros. */
static uint32_t shifts[4][256];

static void
make_shifts(void)
{
    for (int k = 0; k < 4; k++) {
        for (uint32_t b = 0; b < 256; b++) {
            uint32_t crc = b << (8 * k);
            for (int i = 0; i < LANE; i++)
                crc = (crc >> 8) ^ slices[0][crc & 255];
            shifts[k][b] = crc;
        }
    }
}

static uint32_t
shift_lane(uint32_t crc)
{
    return shifts[0][crc & 255] ^ shifts[1][(crc >> 8) & 255]
           ^ shifts[2][(crc >> 16) & 255] ^ shifts[3][crc >> 24];
}

TARGET static uint32_t
crc32c_hardware(uint32_t crc, const void *data, uint64_t size)
{
    const uint8_t *at = data;

    crc = ~crc;
    for (; size >= 3 * LANE; size -= 3 * LANE, at += 3 * LANE) {
        uint32_t second = 0, third = 0;
        for (int i = 0; i < LANE; i += 8) {
            crc = STEP_8(crc, at + i);
            second = STEP_8(second, at + LANE + i);
            third = STEP_8(third, at + 2 * LANE + i);
        }
        crc = shift_lane(shift_lane(crc) ^ second) ^ third;
    }
    for (; size >= 8; size -= 8, at += 8)
        crc = STEP_8(crc, at);
    for (; size > 0; size--, at++)
        crc = STEP_1(crc, at);
    return ~crc;
}

static bool
has_hardware(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse4.2") != 0;
#else
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#endif
}

#else /* no instruction to use */

#define crc32c_hardware mdn_crc32c_portable

static void
make_shifts(void)
{
}

static bool
has_hardware(void)
{
    return false;
}

#endif

static uint32_t (*chosen)(uint32_t, const void *, uint64_t);

__attribute__((constructor)) static void
choose(void)
{
    make_slices();
    make_shifts();
    chosen = has_hardware() ? crc32c_hardware : mdn_crc32c_portable;
}

uint32_t
mdn_crc32c(uint32_t crc, const void *data, uint64_t size)
{
    return chosen(crc, data, size);
}
