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
#define AHEAD 24 /* records; 16 to 32 is best */
#define NEAR 2   /* into the second-level cache: a tenth to a third faster */

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

/* Give up what was reserved there, mapped files included. */
void
floor_release(void *start, size_t size)
{
    munmap(start, size);
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

        __builtin_prefetch(later, 0, NEAR);
        __builtin_prefetch(later + 64, 0, NEAR);
        __builtin_prefetch(later + 128, 0, NEAR);
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

/* Records as they lie, not split: what a rival that delivers rows has to do. */
void
floor_gather_rows(const char *base, const uint64_t *keys, size_t count,
                  char *out)
{
    for (size_t i = 0; i < count; i++)
        memcpy(out + i * RECORD, base + keys[i] * RECORD, RECORD);
}

/* Have the page cache hold a file in pages of 4 KiB: what random reads leave
 * there.  Every `stride`th page from number `first` on, so that some threads
 * share the waiting. */
int
floor_read_small(const char *path, size_t size, size_t first, size_t stride)
{
    char page[4096];
    int fd = open(path, O_RDONLY);

    if (fd < 0)
        return -1;
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    for (size_t at = first * 4096; at < size; at += stride * 4096)
        if (pread(fd, page, sizeof page, (off_t)at) < 0) {
            close(fd);
            return -1;
        }
    close(fd);
    return 0;
}

/* A table of arbitrary 64-bit ids: one cache line holds five of them and where
 * their records are, found by multiplying, and the next line where one is full.
 * `table` is aligned to 64 bytes, all zeros, of `lines` + 64 lines. */
#define LINES_AHEAD 16
#define RING 128 /* at least AHEAD + 1 */

typedef struct {
    uint64_t ids[5];
    uint32_t rows[5];
    uint32_t count;
} line;

static size_t
line_of(uint64_t id, size_t lines)
{
    id ^= id >> 32;
    id *= UINT64_C(0x9E3779B97F4A7C15);
    id ^= id >> 29;
    return (size_t)(((__uint128_t)id * lines) >> 64);
}

void
floor_index_build(void *table, size_t lines, const uint64_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        line *at = (line *)table + line_of(ids[i], lines);

        while (at->count == 5)
            at++;
        at->ids[at->count] = ids[i];
        at->rows[at->count++] = (uint32_t)i;
    }
}

static uint32_t
look(const line *table, size_t lines, uint64_t id)
{
    for (const line *at = table + line_of(id, lines);; at++)
        for (uint32_t i = 0; i < 5; i++)
            if (at->ids[i] == id)
                return at->rows[i];
}

/* Ids that are all there: line, then record, then copy, each ahead of the next.
 */
void
floor_index_gather(const void *table, size_t lines, const char *base,
                   const uint64_t *ids, size_t count, char *label, char *dense,
                   char *cat)
{
    uint32_t rows[RING]; /* found, and not yet copied */

    for (size_t i = 0; i < count + LINES_AHEAD + AHEAD; i++) {
        if (i < count)
            __builtin_prefetch((const line *)table + line_of(ids[i], lines), 0,
                               NEAR);
        if (i >= LINES_AHEAD && i - LINES_AHEAD < count) {
            size_t found = i - LINES_AHEAD;
            uint32_t row = look(table, lines, ids[found]);
            const char *record = base + (size_t)row * RECORD;

            rows[found % RING] = row;
            __builtin_prefetch(record, 0, NEAR);
            __builtin_prefetch(record + 64, 0, NEAR);
            __builtin_prefetch(record + 128, 0, NEAR);
        }
        if (i >= LINES_AHEAD + AHEAD) {
            size_t done = i - LINES_AHEAD - AHEAD;
            const char *record = base + (size_t)rows[done % RING] * RECORD;

            memcpy(label + done * 4, record, 4);
            memcpy(dense + done * 52, record + 4, 52);
            memcpy(cat + done * 104, record + 56, 104);
        }
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
