/* fuzz_order.c - the reader of time.order against any bytes.
 *
 * The first byte of an input chooses how far the rest is put right, since
 * random bytes hardly ever have a right checksum: 0 not at all, 1 the checksum
 * of slot 0, 2 its magic, version and uuid as well.  What opens and maps holds
 * as many keys as it says, each of them below their number. */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "storage/orderfile.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_MAX_BYTES 8192
#define SLOT_SIZE 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t UUID[16] = "0123456789abcdef";

static void
put_right(uint8_t *bytes, size_t size, unsigned how_far)
{
    if (size < SLOT_SIZE || how_far == 0)
        return;
    if (how_far >= 2) {
        memcpy(bytes, "MDNORD\0\0\1\0\0", 12);
        bytes[12] &= 1;
        memset(bytes + 13, 0, 3);
        memcpy(bytes + 16, UUID, sizeof UUID);
        memset(bytes + 68, 0, SLOT_SIZE - 68);
    }
    mdn_store_u32(bytes + 508, mdn_crc32c(0, bytes, 508));
}

/* An input is short: its second half goes to where keys may be. */
static void
put(int fd, const uint8_t *bytes, size_t size)
{
    size_t head = size < SIZE_MAX_BYTES / 2 ? size : SIZE_MAX_BYTES / 2;

    if (ftruncate(fd, 0) < 0 || pwrite(fd, bytes, head, 0) != (ssize_t)head
        || pwrite(fd, bytes + head, size - head, 65536)
               != (ssize_t)(size - head))
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char directory[] = "/dev/shm/mdn-fuzz-XXXXXX";
    static char path[64];
    uint8_t bytes[SIZE_MAX_BYTES];
    mdn_orderfile file;
    mdn_error err = {.status = MDN_OK};
    mdn_status st;

    if (size < 1 || size - 1 > sizeof bytes)
        return 0;
    if (fd < 0) {
        if (mkdtemp(directory) == NULL)
            abort();
        snprintf(path, sizeof path, "%s/time.order", directory);
        fd = open(path, O_RDWR | O_CREAT, 0600);
    }
    memcpy(bytes, data + 1, size - 1);
    put_right(bytes, size - 1, data[0] % 3);
    put(fd, bytes, size - 1);
    st =
        mdn_orderfile_open(&mdn_io_system, directory, UUID, false, &file, &err);
    if (st == MDN_OK)
        st = mdn_orderfile_map(&file, 1, &err);
    if (st == MDN_OK) {
        if ((file.keys == NULL) != file.head.identity || file.head.count == 0)
            abort();
        for (uint64_t i = 0; file.keys != NULL && i < file.head.count; i++)
            if (file.keys[i] >= file.head.count)
                abort();
    } else if (err.message[0] == '\0') {
        abort();
    }
    mdn_orderfile_close(&file);
    return 0;
}
