/* samples.h - datasets whose content is a function of the key.
 *
 * Sample k of every test dataset holds numbers drawn from k, so that a test
 * needs no copy of what it wrote: whatever a view shows can be checked. */
#ifndef TESTS_SAMPLES_H
#define TESTS_SAMPLES_H

#include "storage/dataset.h"
#include "storage/link.h"

#define FIXED "a: int32\nb: float64[3]\n" /* 28 bytes */
#define RAGGED                                                                 \
    "s: bytes\na: int32\nt: bytes\nc: uint8[2]\n" /* 0 to 96 more              \
                                                   */

/* A new directory name below /dev/shm or /tmp, without a directory. */
const char *samples_path(void);
/* Remove a dataset's directory and all in it. */
void samples_remove(const char *path);

/* Create with 8192 records per segment; aborts on failure. */
mdn_dataset *samples_create(const mdn_io *io, const char *path,
                            const char *schema, bool labels);

/* Append samples first .. first+count-1. */
mdn_status samples_append(mdn_dataset *dataset, uint64_t first, uint64_t count,
                          mdn_error *err);

/* A file that can be linked to a dataset of schema FIXED: 16 bytes of header,
 * then samples first .. first+count-1 as records of 40 bytes (timestamp, int64
 * big-endian; label, int8; the fields; 3 bytes of nothing).  The mtime is not
 * now, so that any later change is seen.  Aborts on failure. */
void samples_write_file(const char *file, uint64_t first, uint64_t count);
/* How it is linked; path is borrowed. */
mdn_link_options samples_link_options(const char *file, uint32_t threads);

/* Fetch all keys of the view in a scrambled order and compare everything.
 * MDN_OK: all is right; MDN_INVALID: something is wrong, which must not be;
 * otherwise the error of the view. */
mdn_status samples_check(mdn_view *view, uint32_t threads, mdn_error *err);

/* The same for these keys. */
mdn_status samples_check_keys(mdn_view *view, const uint64_t *keys,
                              uint64_t count, uint32_t threads, mdn_error *err);

/* Open for reading with the system's io and check; *count is then how many. */
mdn_status samples_check_path(const char *path, uint64_t *count,
                              mdn_error *err);

#endif
