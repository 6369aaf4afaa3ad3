/* memory.h - any bytes as a file, served in short reads. */
#ifndef TESTS_FUZZ_MEMORY_H
#define TESTS_FUZZ_MEMORY_H

#include "base/io.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const uint8_t *bytes;
    uint64_t size;
} memory;

static int
memory_open(void *self, const char *path, int flags, unsigned mode)
{
    (void)self, (void)path, (void)flags, (void)mode;
    return 100;
}

static int
memory_close(void *self, int fd)
{
    (void)self, (void)fd;
    return 0;
}

static int64_t
memory_pread(void *self, int fd, void *buf, uint64_t size, uint64_t at)
{
    const memory *m = self;
    uint64_t left = at < m->size ? m->size - at : 0;

    (void)fd;
    if (size > left)
        size = left;
    if (size > 1)
        size -= size / 2;
    if (size > 0)
        memcpy(buf, m->bytes + at, size);
    return (int64_t)size;
}

static int
memory_stat(void *self, int fd, mdn_file_facts *out)
{
    (void)fd;
    *out =
        (mdn_file_facts){.size = ((const memory *)self)->size, .regular = true};
    return 0;
}

static int
memory_size(void *self, int fd, uint64_t *out)
{
    (void)fd;
    *out = ((const memory *)self)->size;
    return 0;
}

/* A table whose every file is this one; borrowed. */
static inline mdn_io
memory_io(memory *file)
{
    return (mdn_io){.self = file,
                    .open = memory_open,
                    .close = memory_close,
                    .pread = memory_pread,
                    .size = memory_size,
                    .stat = memory_stat};
}

static inline void
require(bool holds)
{
    if (!holds)
        abort();
}

#endif
