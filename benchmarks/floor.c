/* floor.c - what the machine itself can do, for the benchmarks to divide by.
 *
 * A gather as a C programmer would write it for this one record and nothing
 * else: int32 label, float32 dense[13], int32 cat[26], 160 bytes, by position
 * in one mapping, split into three arrays, with the records of later keys on
 * their way while one is copied.  It checks nothing.
 *
 * Compiled by benchmarks/machine.py and called through ctypes. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE ((size_t)2 << 20)
#define RECORD ((size_t)160)
#define AHEAD 24 /* records; 16 to 24 is best, 64 a tenth slower */

/* Address space, aligned for huge pages; memory too when writable.  NULL. */
void *
floor_reserve(size_t size, int writable)
{
    int protection = writable ? PROT_READ | PROT_WRITE : PROT_NONE;
    char *start =
        mmap(NULL, size + HUGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (start == MAP_FAILED)
        return NULL;
    start += (HUGE - (uintptr_t)start % HUGE) % HUGE;
    if (writable) {
        madvise(start, size, MADV_HUGEPAGE);
        memset(start, 0, size);
    }
    return start;
}

/* Map a file there, read-only, populated with huge pages where there are. */
int
floor_map(void *at, const char *path, size_t size)
{
    int fd = open(path, O_RDONLY);
    void *got;

    if (fd < 0)
        return -1;
    got = mmap(at, size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
    close(fd);
    if (got == MAP_FAILED)
        return -1;
    madvise(at, size, MADV_HUGEPAGE);
    madvise(at, size, MADV_POPULATE_READ);
    return 0;
}

void
floor_gather(const char *base, const uint64_t *keys, size_t count, char *label,
             char *dense, char *cat)
{
    for (size_t i = 0; i < count; i++) {
        const char *record = base + keys[i] * RECORD;
        const char *later =
            base + keys[i + AHEAD < count ? i + AHEAD : i] * RECORD;

        __builtin_prefetch(later, 0, 3);
        __builtin_prefetch(later + 64, 0, 3);
        __builtin_prefetch(later + 128, 0, 3);
        memcpy(label + i * 4, record, 4);
        memcpy(dense + i * 52, record + 4, 52);
        memcpy(cat + i * 104, record + 56, 104);
    }
}

/* Without a word to the processor about what comes next. */
void
floor_gather_plain(const char *base, const uint64_t *keys, size_t count,
                   char *label, char *dense, char *cat)
{
    for (size_t i = 0; i < count; i++) {
        const char *record = base + keys[i] * RECORD;

        memcpy(label + i * 4, record, 4);
        memcpy(dense + i * 52, record + 4, 52);
        memcpy(cat + i * 104, record + 56, 104);
    }
}

/* Arithmetic that touches no memory: how much processor is there now? */
uint64_t
floor_alu(uint64_t rounds)
{
    uint64_t a = 1, b = 2, c = 3, d = 4;

    for (uint64_t i = 0; i < rounds; i++) {
        a = a * 3 + 1;
        b = b * 5 + 1;
        c = c * 7 + 1;
        d = d * 9 + 1;
    }
    return a + b + c + d;
}
