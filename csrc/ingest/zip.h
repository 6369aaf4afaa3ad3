/* zip.h - where the members of a zip archive lie.
 *
 * Of the format only what np.savez needs: one file, with or without the 64-bit
 * fields; members are found through the directory at its end.  Data in front
 * of the archive, encryption and several disks are refused. */
#ifndef MDN_INGEST_ZIP_H
#define MDN_INGEST_ZIP_H

#include "ingest/input.h"

typedef struct {
    const char *name; /* in the directory; not NUL-terminated */
    uint64_t name_size;
    uint64_t header_at; /* of the local header */
    uint64_t size, packed_size;
    uint32_t crc; /* crc32.h, of the member as it was before packing */
    uint32_t method;
    uint32_t flags;
} mdn_zip_entry;

typedef struct {
    uint8_t *directory;     /* owned */
    mdn_zip_entry *entries; /* owned */
    uint64_t count;
    uint64_t directory_at;
} mdn_zip;

/* *cut: the end of the archive is missing, which alone is wrong with it.  On
 * failure *out is zeroed. */
mdn_status mdn_zip_open(const mdn_input *input, mdn_zip *out, bool *cut,
                        mdn_error *err);
void mdn_zip_clear(mdn_zip *zip);

/* The member of this name, which is there once and stored, and where its bytes
 * begin. */
mdn_status mdn_zip_find(const mdn_zip *zip, const mdn_input *input,
                        const char *name, const mdn_zip_entry **out,
                        uint64_t *at, mdn_error *err);

#endif
