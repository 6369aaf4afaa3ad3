/* zstd.h - payloads made smaller by libzstd, which is loaded when needed.
 *
 * modyn neither links libzstd nor needs its headers: a dataset that does not
 * use it works without. */
#ifndef MDN_STORAGE_ZSTD_H
#define MDN_STORAGE_ZSTD_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Have the library, or say how to get it.  Before all that follows. */
mdn_status mdn_zstd_load(mdn_error *err);

/* What one thread works with; {NULL, NULL} at first. */
typedef struct {
    void *packing, *unpacking;
} mdn_zstd;

void mdn_zstd_free(mdn_zstd *zstd);

/* One frame of size bytes into `to`, which has room for as many.  The result
 * is its size; 0 when it would not be smaller. */
uint64_t mdn_zstd_pack(mdn_zstd *zstd, const void *from, uint64_t size,
                       void *to);

/* Whether a frame begins here that says it holds so many bytes. */
bool mdn_zstd_holds(const void *frame, uint64_t frame_size, uint64_t size);

/* What a frame holds, which has to be size bytes; false if it does not. */
bool mdn_zstd_unpack(mdn_zstd *zstd, const void *frame, uint64_t frame_size,
                     void *to, uint64_t size);

#endif
