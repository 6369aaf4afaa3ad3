/* events.h - what the entries of the journal `events` say.
 *
 *     erase     0  8  how many samples
 *               8  4  size of `who`, bytes
 *              12  4  size of `why`, bytes
 *              16  -  who, then why, UTF-8
 *               -  -  their keys: ranges in ascending order, each a gap and a
 *                     length less 1, both LEB128.  The gap is counted from the
 *                     end of the range before (0 for the first), and is at
 *                     least 1 behind another range.
 *     compact   0  8  how many segments
 *               8 16  for each, ascending: its number, and the bytes of its
 *                     records from now on.  Its files are now those of the
 *                     generation that is the number of this entry.
 *     link      0  8  size of the file, bytes
 *               8  8  its mtime, ns since 1970, signed
 *              16  8  where in it the fields of row 0 begin
 *              24  8  stride: bytes from a row to the next
 *              32  8  first row of the first segment
 *              40  8  number of the first segment
 *              48  8  how many segments
 *              56  -  absolute path of the file, without a NUL
 *
 * An erase entry names samples that exist and are not erased yet; a compact
 * entry segments with erased samples; a link entry segments that are whole in
 * the commit that brings it, and nothing was said of before. */
#ifndef MDN_STORAGE_EVENTS_H
#define MDN_STORAGE_EVENTS_H

#include "base/error.h"
#include "storage/journal.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    MDN_EVENT_ERASE = 1,
    MDN_EVENT_COMPACT = 2,
    MDN_EVENT_LINK = 3,
};

#define MDN_EVENT_TEXT_MAX 65536 /* bytes of who and of why */

typedef struct {
    uint64_t count;
    const char *who, *why; /* not NUL-terminated; in the payload */
    uint32_t who_size, why_size;
    /* Of the ranges that are left. */
    const uint8_t *at, *end;
    uint64_t next; /* key behind the range before */
    bool begun;
} mdn_erase_event;

/* The payload of an erase entry, malloc'd; keys strictly ascending. */
mdn_status mdn_erase_encode(const uint64_t *keys, uint64_t count,
                            const char *who, const char *why, uint8_t **out,
                            uint64_t *size, mdn_error *err);

/* False where the payload is not what a writer writes. */
bool mdn_erase_decode(const mdn_entry *entry, mdn_erase_event *out);
/* The next range; *count is 0 behind the last. */
bool mdn_erase_next(mdn_erase_event *event, uint64_t *first, uint64_t *count);

typedef struct {
    uint64_t segment, bytes;
} mdn_compacted;

mdn_status mdn_compact_encode(const mdn_compacted *segments, uint64_t count,
                              uint8_t **out, uint64_t *size, mdn_error *err);
/* How many segments; false where the payload is none. */
bool mdn_compact_decode(const mdn_entry *entry, uint64_t *count);
mdn_compacted mdn_compact_at(const mdn_entry *entry, uint64_t index);

#define MDN_LINK_PATH_MAX 4095 /* bytes */

typedef struct {
    uint64_t size; /* of the file when it was linked */
    int64_t mtime_ns;
    uint64_t offset, stride;
    uint64_t first_row; /* row 0 of first_segment */
    uint64_t first_segment, segments;
    const char *path; /* path_size bytes; decoded: not NUL-terminated */
    uint64_t path_size;
} mdn_link_event;

mdn_status mdn_link_encode(const mdn_link_event *event, uint8_t **out,
                           uint64_t *size, mdn_error *err);
/* False where the payload is no link, or its rows of record_size bytes do not
 * lie in the file. */
bool mdn_link_decode(const mdn_entry *entry, uint64_t record_size,
                     uint32_t segment_shift, mdn_link_event *out);

#endif
