/* columns.h - the .col file of a segment: header, columns, checksums. */
#ifndef MDN_STORAGE_COLUMNS_H
#define MDN_STORAGE_COLUMNS_H

#include "base/file.h"
#include "storage/layout.h"

/* Make the file of a new segment, of full (sparse) size.  Rows that a batch
 * left there which was never committed are no harm: nobody reads them. */
mdn_status mdn_columns_create(const mdn_io *io, const char *directory,
                              const mdn_layout *layout, uint64_t segment,
                              uint64_t generation, mdn_file *out,
                              mdn_error *err);

/* Open it and check header and size: MDN_CORRUPT names what is wrong. */
mdn_status mdn_columns_open(const mdn_io *io, const char *directory,
                            const mdn_layout *layout, uint64_t segment,
                            uint64_t generation, bool writable, mdn_file *out,
                            mdn_error *err);

/* The same without a look at header and size, and these one by one. */
mdn_status mdn_columns_open_any(const mdn_io *io, const char *directory,
                                uint64_t segment, uint64_t generation,
                                bool writable, mdn_file *out, mdn_error *err);
mdn_status mdn_columns_check_header(const mdn_file *file,
                                    const mdn_layout *layout, uint64_t segment,
                                    uint64_t generation, mdn_error *err);
/* Whether the header is whole, but that of another segment or dataset. */
bool mdn_columns_is_foreign(const mdn_file *file, const mdn_layout *layout,
                            uint64_t segment, uint64_t generation);
/* The only header that is right. */
mdn_status mdn_columns_write_header(mdn_file *file, const mdn_layout *layout,
                                    uint64_t segment, uint64_t generation,
                                    mdn_error *err);

#endif
