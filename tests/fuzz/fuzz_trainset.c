/* fuzz_trainset.c - the reader of training set files against any bytes.
 *
 * The first byte of an input chooses how far the rest is put right, since
 * random bytes hardly ever have a right checksum: 0 not at all, 1 the header's
 * checksum, 2 magic, version and size as well, 3 the digest too.  What opens
 * must hold what the header promises, in order, and survive being written
 * again under the same digest. */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "selector/trainset.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE_MAX_BYTES 4096
#define HEADER_SIZE 128

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
put_right(uint8_t *bytes, size_t size, unsigned how_far)
{
    mdn_blake2b hash;

    if (size < HEADER_SIZE || how_far == 0)
        return;
    if (how_far >= 2) {
        memcpy(bytes, "MDNSET\0\0\1\0\0", 12);
        bytes[12] &= 1;
        memset(bytes + 13, 0, 3);
        memset(bytes + 72, 0, 52);
        mdn_store_u64(bytes + 16, (size - HEADER_SIZE) / (bytes[12] ? 16 : 8));
    }
    if (how_far >= 3) {
        mdn_blake2b_init(&hash);
        mdn_blake2b_update(&hash, bytes, 40);
        mdn_blake2b_update(&hash, bytes + HEADER_SIZE, size - HEADER_SIZE);
        mdn_blake2b_final(&hash, bytes + 40);
    }
    mdn_store_u32(bytes + 124, mdn_crc32c(0, bytes, 124));
}

static void
look_at(const mdn_trainset *set)
{
    uint64_t count = mdn_trainset_count(set);
    const uint64_t *keys;
    const double *weights;

    if (mdn_trainset_slice(set, 0, count, &keys, &weights, NULL) != MDN_OK)
        abort();
    for (uint64_t i = 0; i < count; i++)
        if ((i > 0 && keys[i] <= keys[i - 1])
            || (weights != NULL && !(weights[i] >= 0)))
            abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    uint8_t bytes[SIZE_MAX_BYTES];
    mdn_trainset *set;
    mdn_error err;
    mdn_status st;

    if (size < 1 || size - 1 > sizeof bytes)
        return 0;
    if (fd < 0) {
        fd = memfd_create("trainset", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    memcpy(bytes, data + 1, size - 1);
    put_right(bytes, size - 1, data[0] % 4);
    if (ftruncate(fd, 0) < 0
        || pwrite(fd, bytes, size - 1, 0) != (ssize_t)(size - 1))
        abort();
    st = mdn_trainset_open(&mdn_io_system, path, &set, &err);
    if (st == MDN_OK)
        look_at(set);
    else if ((st != MDN_CORRUPT && st != MDN_UNSUPPORTED) || set != NULL
             || strstr(err.message, path) == NULL)
        abort();
    mdn_trainset_release(set);
    return 0;
}
