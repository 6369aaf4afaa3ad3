/* classes.h - the labels of a metadata stream and how often each occurs.
 *
 * Classes are numbered 0 .. count-1 in ascending order of their labels, so
 * that a number means the same whatever order the labels came in. */
#ifndef MDN_SELECTOR_CLASSES_H
#define MDN_SELECTOR_CLASSES_H

#include "base/error.h"
#include "metadata/stream.h"

#include <stdint.h>

/* More different labels than this are refused: sampling by class is not meant
 * for them, and memory stays below 256 MiB. */
#define MDN_CLASSES_MAX (UINT32_C(1) << 22)

#define MDN_DIRECT 256

typedef struct {
    int64_t label;
    uint32_t class_plus_one; /* 0: the slot is empty */
} mdn_class_slot;

typedef struct {
    uint32_t count;
    uint64_t *sizes;       /* owned: samples of each class */
    int64_t *labels;       /* owned: ascending */
    mdn_class_slot *slots; /* owned: open addressing, at most half full */
    uint64_t slot_mask;    /* a power of two less one */
    uint32_t room;         /* of sizes and labels */
    /* Number plus one of labels 0 .. MDN_DIRECT-1, as most labels are. */
    uint32_t direct[MDN_DIRECT];
} mdn_classes;

/* Read a stream from its start to its end.  MDN_INVALID without labels or with
 * more than MDN_CLASSES_MAX of them.  On failure *out is empty. */
mdn_status mdn_classes_count(mdn_metadata_stream *stream, mdn_classes *out,
                             mdn_error *err);
void mdn_classes_free(mdn_classes *classes); /* leaves it empty */

/* The number of a label plus one, by the hash table; 0 if it is none. */
uint32_t mdn_classes_find(const mdn_classes *classes, int64_t label);

/* The same, at once for small labels. */
static inline uint32_t
mdn_classes_number(const mdn_classes *classes, int64_t label)
{
    return (uint64_t)label < MDN_DIRECT ? classes->direct[label]
                                        : mdn_classes_find(classes, label);
}

#endif
