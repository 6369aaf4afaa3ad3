/* view.h - a dataset as of one commit: immutable, shared, safe for any thread.
 *
 * A view is counted with atomics and may be released by any thread, also when
 * the interpreter or the dataset handle that made it is gone.  What a view
 * shows never changes; a later commit is seen by a later view.
 *
 * Blocks of records and of columns are verified against their checksums when
 * they are first touched in this process; afterwards the check is one bit. */
#ifndef MDN_STORAGE_VIEW_H
#define MDN_STORAGE_VIEW_H

#include "base/error.h"
#include "storage/schema.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct mdn_view mdn_view;

typedef enum { MDN_S, MDN_MS, MDN_US, MDN_NS } mdn_time_unit;

mdn_view *mdn_view_retain(mdn_view *view);
void mdn_view_release(mdn_view *view); /* accepts NULL */

/* Facts; none of them can fail. */
const mdn_schema *mdn_view_schema(const mdn_view *view);
uint64_t mdn_view_count(const mdn_view *view); /* keys are 0 .. count-1 */
uint64_t mdn_view_erased_count(const mdn_view *view); /* of these */
mdn_time_unit mdn_view_time_unit(const mdn_view *view);
bool mdn_view_has_labels(const mdn_view *view);
const uint8_t *mdn_view_uuid(const mdn_view *view); /* 16 bytes */
const char *mdn_view_path(const mdn_view *view);

bool mdn_view_is_erased(const mdn_view *view, uint64_t key); /* key < count */

/* Which of the keys first .. first+count-1 are erased: out[i] is 1 or 0; the
 * result is how many.  first + count <= the count of the view. */
uint64_t mdn_view_erased_in(const mdn_view *view, uint64_t first,
                            uint64_t count, uint8_t *out);
/* The same without saying which. */
uint64_t mdn_view_erased_between(const mdn_view *view, uint64_t first,
                                 uint64_t count);

/* The columns of keys first .. first+count-1, verified: contiguous, mapped,
 * valid as long as the view is.  labels is NULL without labels.  The pointers
 * index from key `first`.  MDN_NO_KEY beyond the end, MDN_CORRUPT.  What stands
 * there for an erased sample means nothing. */
mdn_status mdn_view_columns(mdn_view *view, uint64_t first, uint64_t count,
                            const int64_t **timestamps, const int64_t **labels,
                            mdn_error *err);

/* Where a gather puts one field of the samples asked for.  A field that no
 * target names is not read. */
typedef struct {
    uint32_t field;   /* index into the schema */
    void *values;     /* fixed: count * size_bytes;  bytes: offsets[count] */
    int64_t *offsets; /* bytes only, borrowed: count + 1 entries, as filled by
                         mdn_view_offsets; NULL for fixed fields */
} mdn_target;

/* offsets[i+1] - offsets[i] = length of bytes field `field` of keys[i]. */
mdn_status mdn_view_offsets(mdn_view *view, const uint64_t *keys,
                            uint64_t count, uint32_t field, int64_t *offsets,
                            mdn_error *err);

/* Where the payloads of bytes field `field` of keys[i] are: sizes[i] bytes,
 * mapped and verified, as long as the view is.  A sample that is erased later
 * still has its bytes there.  MDN_INVALID if payloads are compressed; otherwise
 * as mdn_view_fetch. */
mdn_status mdn_view_payloads(mdn_view *view, const uint64_t *keys,
                             uint64_t count, uint32_t field,
                             const uint8_t **payloads, uint64_t *sizes,
                             mdn_error *err);

/* Gather: sample keys[i] into row i of every target.  Any order, repeats
 * allowed.  labels and timestamps, if not NULL, receive count numbers.
 * threads >= 1: the calling thread and threads - 1 helpers.
 * MDN_NO_KEY names the first bad key and the range, or that it was erased;
 * MDN_CORRUPT the block. */
mdn_status mdn_view_fetch(mdn_view *view, const uint64_t *keys, uint64_t count,
                          const mdn_target *targets, uint32_t target_count,
                          int64_t *labels, int64_t *timestamps,
                          uint32_t threads, mdn_error *err);

/* A file of the user in which samples lie: mdn_dataset_link. */
typedef struct {
    const char *path;
    uint64_t offset, stride;     /* of its first record here: where; to next */
    uint64_t first_key, samples; /* here */
    uint64_t erased;             /* of these; their bytes are still there */
} mdn_linked_file;

uint64_t mdn_view_link_count(const mdn_view *view);
/* index < mdn_view_link_count; valid as long as the view is. */
mdn_linked_file mdn_view_link(const mdn_view *view, uint64_t index);

/* Populate the mappings of all records and columns ahead of use (huge pages
 * where the kernel has them).  Advice only: it never fails. */
void mdn_view_warm(mdn_view *view);

#endif
