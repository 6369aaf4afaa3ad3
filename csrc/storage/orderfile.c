/* orderfile.c - reader and writer of time.order.
 *
 *        0  512  slot 0       0  8  magic "MDNORD\0\0"
 *      512  512  slot 1       8  4  version, 1
 *     4096       checksums   12  4  flags: 1 identity
 *      K         keys, u64   16 16  uuid of the dataset
 *                            32  8  count of keys
 *                            40  8  K, a multiple of 65536; 0 if identity
 *                            48 16  digest of the timestamps
 *                            64  4  checksum of the last, not full block
 *                            68     zero
 *                           508  4  crc32c of the bytes before
 *
 * A block is 4096 keys; u32 checksums of full blocks fill the room up to K.
 * What a slot says is behind all that it says it of, so keys are put behind the
 * ones that are there, and then the other slot is written: who reads the old
 * slot finds all of it unchanged, and a slot that was not written whole is
 * none. Of two that are whole the one with more keys counts. */
#include "storage/orderfile.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/parallel.h"
#include "storage/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define SLOT_SIZE 512
#define SLOT_CRC_AT 508
#define SLOTS 2
#define CHECKSUMS_AT 4096
#define VERSION 1
#define FLAG_IDENTITY 1u
#define BLOCK_KEYS UINT64_C(4096)
#define KEYS_ALIGN MDN_COL_ALIGN
#define KEYS_AT_MAX (UINT64_C(1) << 48)
#define PART_MIN (UINT64_C(1) << 18) /* keys that are worth a thread */

static const char MAGIC[8] = "MDNORD";

typedef unsigned long long ull;

/* Keys for whose checksums there is room before keys_at. */
static uint64_t
room_before(uint64_t keys_at)
{
    return (keys_at - CHECKSUMS_AT) / 4 * BLOCK_KEYS;
}

static uint32_t
block_seed(const uint8_t uuid[16], uint64_t block)
{
    uint8_t identity[16 + 8];

    memcpy(identity, uuid, 16);
    mdn_store_u64(identity + 16, block);
    return mdn_crc32c(mdn_crc32c(0, MAGIC, sizeof MAGIC), identity,
                      sizeof identity);
}

static mdn_status
open_file(const mdn_io *io, const char *directory, const char *name, int flags,
          mdn_file *out, mdn_error *err)
{
    char *path = mdn_path_join(directory, name);
    mdn_status st;

    *out = MDN_FILE_CLOSED;
    if (path == NULL)
        return mdn_fail_nomem(err, strlen(directory) + 16);
    st = mdn_file_open(io, path, flags | O_NOFOLLOW | O_NONBLOCK, out, err);
    free(path);
    return st;
}

/* Slots. */

static void
build_slot(const uint8_t uuid[16], const mdn_order_head *head,
           uint8_t slot[SLOT_SIZE])
{
    memset(slot, 0, SLOT_SIZE);
    memcpy(slot, MAGIC, sizeof MAGIC);
    mdn_store_u32(slot + 8, VERSION);
    mdn_store_u32(slot + 12, head->identity ? FLAG_IDENTITY : 0);
    memcpy(slot + 16, uuid, 16);
    mdn_store_u64(slot + 32, head->count);
    mdn_store_u64(slot + 40, head->keys_at);
    memcpy(slot + 48, head->digest, MDN_ORDER_DIGEST_SIZE);
    mdn_store_u32(slot + 64, head->crc);
    mdn_store_u32(slot + SLOT_CRC_AT, mdn_crc32c(0, slot, SLOT_CRC_AT));
}

/* Whether the slot is whole, of this dataset, and one that we know. */
static bool
load_slot(const uint8_t uuid[16], const uint8_t slot[SLOT_SIZE],
          mdn_order_head *out)
{
    uint8_t again[SLOT_SIZE];

    *out = (mdn_order_head){.identity =
                                (mdn_load_u32(slot + 12) & FLAG_IDENTITY) != 0,
                            .count = mdn_load_u64(slot + 32),
                            .keys_at = mdn_load_u64(slot + 40),
                            .crc = mdn_load_u32(slot + 64)};
    memcpy(out->digest, slot + 48, MDN_ORDER_DIGEST_SIZE);
    build_slot(uuid, out, again);
    if (memcmp(slot, again, SLOT_SIZE) != 0 || out->count == 0
        || out->count > MDN_COUNT_MAX)
        return false;
    if (out->identity)
        return out->keys_at == 0;
    return out->keys_at >= KEYS_ALIGN && out->keys_at <= KEYS_AT_MAX
           && out->keys_at % KEYS_ALIGN == 0
           && out->count <= room_before(out->keys_at);
}

mdn_status
mdn_orderfile_open(const mdn_io *io, const char *directory,
                   const uint8_t uuid[16], bool writable, mdn_orderfile *out,
                   mdn_error *err)
{
    uint8_t slots[SLOTS * SLOT_SIZE];
    mdn_order_head head;
    mdn_status st;

    *out = MDN_ORDERFILE_CLOSED;
    memcpy(out->uuid, uuid, sizeof out->uuid);
    st = open_file(io, directory, "time.order", writable ? O_RDWR : O_RDONLY,
                   &out->file, err);
    if (st == MDN_OK)
        st = mdn_file_read(&out->file, slots, sizeof slots, 0, err);
    for (uint32_t i = 0; st == MDN_OK && i < SLOTS; i++) {
        if (load_slot(uuid, slots + i * SLOT_SIZE, &head)
            && head.count > out->head.count) {
            out->head = head;
            out->slot = i;
        }
    }
    if (st == MDN_OK && out->head.count == 0)
        st = mdn_fail(err, MDN_CORRUPT, "%s: no usable time order",
                      out->file.path);
    if (st != MDN_OK)
        mdn_orderfile_close(out);
    return st;
}

void
mdn_orderfile_close(mdn_orderfile *file)
{
    mdn_file_close(&file->file);
    mdn_reserve_free(file->mapping);
    *file = MDN_ORDERFILE_CLOSED;
}

/* Keys. */

typedef struct {
    const mdn_orderfile *file;
    const uint32_t *checksums;
    uint32_t parts;
    bool bad[MDN_PARTS_MAX];
} check;

static bool
block_is_good(const check *c, uint64_t block)
{
    const mdn_order_head *head = &c->file->head;
    uint64_t first = block * BLOCK_KEYS, left = head->count - first;
    uint64_t count = left < BLOCK_KEYS ? left : BLOCK_KEYS;
    const uint64_t *keys = c->file->keys + first;
    uint32_t crc =
        mdn_crc32c(block_seed(c->file->uuid, block), keys, 8 * count);
    bool inside = true;

    for (uint64_t i = 0; i < count; i++)
        inside &= keys[i] < head->count;
    return inside
           && crc == (count == BLOCK_KEYS ? c->checksums[block] : head->crc);
}

static void
check_part(void *ctx, uint32_t part)
{
    check *c = ctx;
    uint64_t blocks = (c->file->head.count + BLOCK_KEYS - 1) / BLOCK_KEYS;
    uint64_t end = mdn_part_first(blocks, c->parts, part + 1);

    for (uint64_t b = mdn_part_first(blocks, c->parts, part); b < end; b++) {
        if (!block_is_good(c, b))
            c->bad[part] = true;
    }
}

static mdn_status
check_keys(const mdn_orderfile *file, uint32_t threads, mdn_error *err)
{
    uint64_t size = file->head.count / BLOCK_KEYS * 4;
    uint32_t *checksums = malloc(size + 1);
    check c = {.file = file, .checksums = checksums};
    mdn_status st;

    if (checksums == NULL)
        return mdn_fail_nomem(err, size);
    st = mdn_file_read(&file->file, checksums, size, CHECKSUMS_AT, err);
    c.parts = mdn_parallel_parts(file->head.count, PART_MIN, threads);
    if (st == MDN_OK)
        mdn_parallel(c.parts, check_part, &c);
    for (uint32_t p = 0; st == MDN_OK && p < c.parts; p++) {
        if (c.bad[p])
            st = mdn_fail(err, MDN_CORRUPT, "%s: damaged (checksum)",
                          file->file.path);
    }
    free(checksums);
    return st;
}

mdn_status
mdn_orderfile_map(mdn_orderfile *file, uint32_t threads, mdn_error *err)
{
    const mdn_io *io = file->file.io;
    uint64_t need = 8 * file->head.count, size = 0;
    uint8_t *base;
    void *place;
    mdn_status st;
    int result;

    if (file->head.identity)
        return MDN_OK;
    if ((st = mdn_file_size(&file->file, &size, err)) != MDN_OK)
        return st;
    if (size < file->head.keys_at + need)
        return mdn_fail(err, MDN_CORRUPT, "%s: truncated: %llu bytes",
                        file->file.path, (ull)size);
    if ((st = mdn_reserve_add(&file->mapping, need, &base, err)) != MDN_OK)
        return st;
    result = io->map(io->self, base, need, file->file.fd, file->head.keys_at,
                     &place);
    if (result < 0)
        return mdn_fail_errno(err, -result, "%s: cannot be mapped",
                              file->file.path);
    file->keys = (const uint64_t *)(const void *)base;
    if ((st = check_keys(file, threads, err)) != MDN_OK)
        file->keys = NULL;
    return st;
}

/* Writing. */

mdn_status
mdn_orderfile_lock(const mdn_io *io, const char *directory, mdn_file *out,
                   mdn_error *err)
{
    mdn_status st =
        open_file(io, directory, "time.order.lock", O_RDWR | O_CREAT, out, err);
    int result;

    if (st != MDN_OK)
        return st;
    do
        result = io->lock(io->self, out->fd);
    while (result == -EINTR);
    if (result == 0)
        return MDN_OK;
    st = mdn_fail(err, MDN_BUSY, "%s: another process writes", out->path);
    mdn_file_close(out);
    return st;
}

bool
mdn_orderfile_has_room(const mdn_orderfile *file, uint64_t count)
{
    return !file->head.identity && count <= room_before(file->head.keys_at);
}

/* Keys behind those that are there, in order. */
typedef struct {
    mdn_file *file;
    const uint8_t *uuid;
    uint64_t keys_at, count;    /* that are there */
    uint32_t crc;               /* of the last, not full block */
    uint32_t *checksums;        /* owned: of full blocks from first_block on */
    uint64_t first_block, full; /* how many of them */
} appender;

static mdn_status
put_keys(appender *a, const uint64_t *keys, uint64_t count, mdn_error *err)
{
    mdn_status st = mdn_file_write(a->file, keys, 8 * count,
                                   a->keys_at + 8 * a->count, err);

    while (st == MDN_OK && count > 0) {
        uint64_t n = BLOCK_KEYS - a->count % BLOCK_KEYS;

        if (n > count)
            n = count;
        if (a->count % BLOCK_KEYS == 0)
            a->crc = block_seed(a->uuid, a->count / BLOCK_KEYS);
        a->crc = mdn_crc32c(a->crc, keys, 8 * n);
        a->count += n;
        if (a->count % BLOCK_KEYS == 0) {
            a->checksums[a->full++] = a->crc;
            a->crc = 0;
        }
        keys += n;
        count -= n;
    }
    return st;
}

/* 0, 1, 2, ... */
static mdn_status
put_identity(appender *a, uint64_t count, mdn_error *err)
{
    uint64_t keys[BLOCK_KEYS];
    mdn_status st = MDN_OK;

    while (st == MDN_OK && count > 0) {
        uint64_t n = count < BLOCK_KEYS ? count : BLOCK_KEYS;

        for (uint64_t i = 0; i < n; i++)
            keys[i] = a->count + i;
        st = put_keys(a, keys, n, err);
        count -= n;
    }
    return st;
}

static mdn_status
put_checksums(appender *a, mdn_error *err)
{
    return mdn_file_write(a->file, a->checksums, 4 * a->full,
                          CHECKSUMS_AT + 4 * a->first_block, err);
}

static mdn_status
write_slot(mdn_file *file, const uint8_t uuid[16], const mdn_order_head *head,
           uint32_t slot, mdn_error *err)
{
    uint8_t bytes[SLOT_SIZE];

    build_slot(uuid, head, bytes);
    return mdn_file_write(file, bytes, SLOT_SIZE, (uint64_t)slot * SLOT_SIZE,
                          err);
}

static mdn_status
start(appender *a, uint64_t more, mdn_error *err)
{
    a->first_block = a->count / BLOCK_KEYS;
    a->full = 0;
    a->checksums = malloc((more / BLOCK_KEYS + 2) * 4);
    return a->checksums ? MDN_OK : mdn_fail_nomem(err, more / BLOCK_KEYS * 4);
}

mdn_status
mdn_orderfile_extend(mdn_orderfile *file, const mdn_order_head *head,
                     const uint64_t *keys, mdn_error *err)
{
    appender a = {.file = &file->file,
                  .uuid = file->uuid,
                  .keys_at = file->head.keys_at,
                  .count = file->head.count,
                  .crc = file->head.crc};
    mdn_order_head next = *head;
    mdn_status st = MDN_OK;

    if (!head->identity) {
        uint64_t more = head->count - a.count;

        st = start(&a, more, err);
        if (st == MDN_OK)
            st = put_keys(&a, keys, more, err);
        if (st == MDN_OK)
            st = put_checksums(&a, err);
        if (st == MDN_OK) /* before the slot that speaks of them */
            st = mdn_file_sync(&file->file, err);
        free(a.checksums);
        next.keys_at = a.keys_at;
        next.crc = a.crc;
    }
    if (st == MDN_OK)
        st = write_slot(&file->file, file->uuid, &next, 1 - file->slot, err);
    return st;
}

/* Room for twice the keys, or as many as the first 64 KiB leave room for. */
static uint64_t
choose_keys_at(uint64_t count)
{
    uint64_t end = CHECKSUMS_AT + 4 * (2 * count / BLOCK_KEYS + 1);

    return (end + KEYS_ALIGN - 1) & ~(KEYS_ALIGN - 1);
}

static mdn_status
write_all(mdn_file *file, const uint8_t uuid[16], const mdn_order_head *head,
          const mdn_order_parts *parts, mdn_error *err)
{
    appender a = {.file = file, .uuid = uuid};
    mdn_order_head next = *head;
    uint8_t none[CHECKSUMS_AT - SLOT_SIZE] = {0};
    mdn_status st = MDN_OK;

    if (!head->identity) {
        a.keys_at = choose_keys_at(head->count);
        st = start(&a, head->count, err);
        if (st == MDN_OK)
            st = parts->kept != NULL
                     ? put_keys(&a, parts->kept, parts->keep, err)
                     : put_identity(&a, parts->keep, err);
        if (st == MDN_OK)
            st = put_keys(&a, parts->keys, parts->count, err);
        if (st == MDN_OK)
            st = put_checksums(&a, err);
        free(a.checksums);
        next.keys_at = a.keys_at;
        next.crc = a.crc;
    }
    if (st == MDN_OK)
        st = mdn_file_write(file, none, sizeof none, SLOT_SIZE, err);
    if (st == MDN_OK)
        st = write_slot(file, uuid, &next, 0, err);
    return st == MDN_OK ? mdn_file_sync_all(file, err) : st;
}

static mdn_status
move_in_place(const mdn_io *io, const char *directory, const mdn_file *file,
              mdn_error *err)
{
    char *path = mdn_path_join(directory, "time.order");
    int result;

    if (path == NULL)
        return mdn_fail_nomem(err, strlen(directory) + 16);
    do
        result = io->rename(io->self, file->path, path);
    while (result == -EINTR);
    free(path);
    return result < 0 ? mdn_fail_errno(err, -result, "%s: cannot be renamed",
                                       file->path)
                      : MDN_OK;
}

mdn_status
mdn_orderfile_replace(const mdn_io *io, const char *directory,
                      const uint8_t uuid[16], const mdn_order_head *head,
                      const mdn_order_parts *parts, mdn_error *err)
{
    mdn_file file;
    mdn_status st;

    /* One name, since only the holder of the lock comes here: what a process
     * that died left behind is used again, and nobody has mapped it. */
    st = open_file(io, directory, "time.order.tmp", O_RDWR | O_CREAT | O_TRUNC,
                   &file, err);
    if (st != MDN_OK)
        return st;
    if ((st = write_all(&file, uuid, head, parts, err)) != MDN_OK
        || (st = move_in_place(io, directory, &file, err)) != MDN_OK)
        io->unlink(io->self, file.path);
    mdn_file_close(&file);
    return st;
}

static mdn_status
remove_file(const mdn_io *io, const char *directory, const char *name,
            mdn_error *err)
{
    char *path = mdn_path_join(directory, name);
    mdn_status st = MDN_OK;
    int result;

    if (path == NULL)
        return mdn_fail_nomem(err, strlen(directory) + 16);
    do
        result = io->unlink(io->self, path);
    while (result == -EINTR);
    if (result < 0 && result != -ENOENT)
        st = mdn_fail_errno(err, -result, "%s: cannot be removed", path);
    free(path);
    return st;
}

mdn_status
mdn_orderfile_remove(const mdn_io *io, const char *directory, mdn_error *err)
{
    mdn_status st = remove_file(io, directory, "time.order", err);

    return st == MDN_OK ? remove_file(io, directory, "time.order.tmp", err)
                        : st;
}
