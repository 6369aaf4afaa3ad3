/* resident.h - bringing ranges of mapped files into memory ahead of use.
 *
 * All of this is advice.  It never fails and never touches a byte itself: a
 * range that is gone, a disk that errs and a kernel that knows no such advice
 * leave the ranges as they were, and whoever reads them later gets the error.
 *
 *     mdn_spans_add        one more range, in ascending order
 *     mdn_spans_resident   how much of them is in memory already
 *     mdn_spans_bring      have the rest of them there
 *     mdn_spans_free */
#ifndef MDN_STORAGE_RESIDENT_H
#define MDN_STORAGE_RESIDENT_H

#include "base/error.h"
#include "base/io.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define MDN_REQUESTS_MAX 1024 /* reads that may be under way at a time */

/* Bytes of a mapping; whole pages, at most 8 MiB of them. */
typedef struct {
    const uint8_t *at;
    uint64_t size;
} mdn_span;

/* {0} is empty. */
typedef struct {
    mdn_span *items; /* owned */
    uint64_t count, room;
    uint64_t bytes; /* of all items */
    const uint8_t *home;
} mdn_spans;

/* Add size >= 1 bytes of the mapping that begins at home.  What lies at most 16
 * KiB behind the range before it, in the same mapping, is joined with it: to
 * read what lies between takes as long as to ask once more. */
mdn_status mdn_spans_add(mdn_spans *spans, const uint8_t *home,
                         const uint8_t *at, uint64_t size, mdn_error *err);
void mdn_spans_free(mdn_spans *spans); /* leaves it empty */

/* Bytes of the spans that are in memory.  What the kernel does not say counts
 * as not there. */
uint64_t mdn_spans_resident(const mdn_spans *spans, const mdn_io *io);

/* Read in spans first .. last-1 with up to `requests` reads under way, and
 * return when they are there, or soon after *stop is set (which may be NULL).
 * Runs of 2 MiB and more are read by the huge page, by one thread for each 16
 * of the requests. */
void mdn_spans_bring(const mdn_spans *spans, uint64_t first, uint64_t last,
                     const mdn_io *io, uint32_t requests,
                     const atomic_bool *stop);

#endif
