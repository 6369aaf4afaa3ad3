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
 *
 * An erase entry names samples that exist and are not erased yet; a compact
 * entry segments with erased samples. */
#ifndef MDN_STORAGE_EVENTS_H
#define MDN_STORAGE_EVENTS_H

#include "base/error.h"
#include "storage/journal.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    MDN_EVENT_ERASE = 1,
    MDN_EVENT_COMPACT = 2,
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

#endif
