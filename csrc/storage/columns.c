/* columns.c - the .col file of a segment.
 *
 *       0   8  magic "MDNCOL\0\0"
 *       8   4  version, 1
 *      12   4  flags: 1 labels, 2 offsets
 *      16  16  uuid of the dataset
 *      32   8  number of the segment
 *      40   4  segment shift
 *      44   4  block shift of the records
 *      48   8  generation of the segment
 *    4092   4  crc32c of the 4092 bytes before
 *   65536      columns of 2^shift int64 each: timestamps, labels if any,
 *              offsets if any
 *              then u32 checksums: of records, timestamps, labels, offsets
 *
 * The places are fixed (layout.c) and the file is sparse, so that columns are
 * mapped once and rows appear in them. */
#include "storage/columns.h"

#include "base/bytes.h"
#include "base/crc32c.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_SIZE 4096
#define HEADER_CRC_AT 4092
#define VERSION 1

static const char MAGIC[8] = "MDNCOL";

static void
build_header(const mdn_layout *layout, uint64_t segment, uint64_t generation,
             uint8_t head[HEADER_SIZE])
{
    uint32_t flags = (layout->has[MDN_LABELS] ? 1u : 0u)
                     | (layout->has[MDN_OFFSETS] ? 2u : 0u);

    memset(head, 0, HEADER_SIZE);
    memcpy(head, MAGIC, sizeof MAGIC);
    mdn_store_u32(head + 8, VERSION);
    mdn_store_u32(head + 12, flags);
    memcpy(head + 16, layout->uuid, MDN_UUID_SIZE);
    mdn_store_u64(head + 32, segment);
    mdn_store_u32(head + 40, layout->segment_shift);
    mdn_store_u32(head + 44, layout->block_shift[MDN_RECORDS]);
    mdn_store_u64(head + 48, generation);
    mdn_store_u32(head + HEADER_CRC_AT, mdn_crc32c(0, head, HEADER_CRC_AT));
}

static mdn_status
check_size(const mdn_file *file, const mdn_layout *layout, mdn_error *err)
{
    uint64_t size;
    mdn_status st = mdn_file_size(file, &size, err);

    if (st == MDN_OK && size < layout->col_size)
        st = mdn_fail(err, MDN_CORRUPT, "%s: truncated: %llu bytes, of %llu",
                      file->path, (unsigned long long)size,
                      (unsigned long long)layout->col_size);
    return st;
}

/* One header is right for a segment, so that checking is comparing. */
mdn_status
mdn_columns_check_header(const mdn_file *file, const mdn_layout *layout,
                         uint64_t segment, uint64_t generation, mdn_error *err)
{
    uint8_t head[HEADER_SIZE], right[HEADER_SIZE];
    mdn_status st;

    if ((st = mdn_file_read(file, head, HEADER_SIZE, 0, err)) != MDN_OK)
        return st;
    build_header(layout, segment, generation, right);
    if (memcmp(head, right, HEADER_SIZE) == 0)
        return MDN_OK;
    if (memcmp(head, MAGIC, sizeof MAGIC) == 0
        && mdn_load_u32(head + 8) != VERSION)
        return mdn_fail(err, MDN_UNSUPPORTED,
                        "%s: format version %u; this modyn reads version %u",
                        file->path, mdn_load_u32(head + 8), VERSION);
    if (memcmp(head, MAGIC, sizeof MAGIC) == 0
        && mdn_load_u32(head + HEADER_CRC_AT)
               == mdn_crc32c(0, head, HEADER_CRC_AT))
        return mdn_fail(err, MDN_CORRUPT,
                        "%s: belongs to another dataset, or to segment %llu "
                        "and not to %llu",
                        file->path, (unsigned long long)mdn_load_u64(head + 32),
                        (unsigned long long)segment);
    return mdn_fail(err, MDN_CORRUPT, "%s: the header is damaged (checksum)",
                    file->path);
}

bool
mdn_columns_is_foreign(const mdn_file *file, const mdn_layout *layout,
                       uint64_t segment, uint64_t generation)
{
    uint8_t head[HEADER_SIZE], right[HEADER_SIZE];

    if (mdn_file_read(file, head, HEADER_SIZE, 0, NULL) != MDN_OK)
        return false;
    build_header(layout, segment, generation, right);
    return memcmp(head, right, HEADER_SIZE) != 0
           && memcmp(head, MAGIC, sizeof MAGIC) == 0
           && mdn_load_u32(head + HEADER_CRC_AT)
                  == mdn_crc32c(0, head, HEADER_CRC_AT);
}

mdn_status
mdn_columns_write_header(mdn_file *file, const mdn_layout *layout,
                         uint64_t segment, uint64_t generation, mdn_error *err)
{
    uint8_t head[HEADER_SIZE];

    build_header(layout, segment, generation, head);
    return mdn_file_write(file, head, HEADER_SIZE, 0, err);
}

static mdn_status
open_file(const mdn_io *io, const char *directory, uint64_t segment,
          uint64_t generation, int flags, mdn_file *out, mdn_error *err)
{
    char *path = mdn_layout_path(directory, segment, generation, "col");
    mdn_status st;

    *out = MDN_FILE_CLOSED;
    if (path == NULL)
        return mdn_fail_nomem(err, strlen(directory) + 16);
    st = mdn_file_open(io, path, flags | O_NOFOLLOW | O_NONBLOCK, out, err);
    free(path);
    return st;
}

mdn_status
mdn_columns_create(const mdn_io *io, const char *directory,
                   const mdn_layout *layout, uint64_t segment,
                   uint64_t generation, mdn_file *out, mdn_error *err)
{
    mdn_status st = open_file(io, directory, segment, generation,
                              O_RDWR | O_CREAT, out, err);

    if (st != MDN_OK)
        return st;
    if ((st = mdn_file_truncate(out, layout->col_size, err)) != MDN_OK
        || (st =
                mdn_columns_write_header(out, layout, segment, generation, err))
               != MDN_OK)
        mdn_file_close(out);
    return st;
}

mdn_status
mdn_columns_open_any(const mdn_io *io, const char *directory, uint64_t segment,
                     uint64_t generation, bool writable, mdn_file *out,
                     mdn_error *err)
{
    return open_file(io, directory, segment, generation,
                     writable ? O_RDWR : O_RDONLY, out, err);
}

mdn_status
mdn_columns_open(const mdn_io *io, const char *directory,
                 const mdn_layout *layout, uint64_t segment,
                 uint64_t generation, bool writable, mdn_file *out,
                 mdn_error *err)
{
    mdn_status st = open_file(io, directory, segment, generation,
                              writable ? O_RDWR : O_RDONLY, out, err);

    if (st == MDN_OK
        && ((st = check_size(out, layout, err)) != MDN_OK
            || (st = mdn_columns_check_header(out, layout, segment, generation,
                                              err))
                   != MDN_OK))
        mdn_file_close(out);
    return st;
}
