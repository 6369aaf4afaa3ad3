/* classes.h - different labels, numbered as they come, and how often each did.
 */
#ifndef MDN_SELECTOR_CLASSES_H
#define MDN_SELECTOR_CLASSES_H

#include "base/error.h"

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
    int64_t *labels;       /* owned: of each class */
    mdn_class_slot *slots; /* owned: open addressing, at most half full */
    uint64_t slot_mask;    /* a power of two less one */
    uint32_t room;         /* of sizes and labels */
    /* Number plus one of labels 0 .. MDN_DIRECT-1, as most labels are. */
    uint32_t direct[MDN_DIRECT];
} mdn_classes;

/* No class yet: all zeros.  Free leaves it so. */
void mdn_classes_free(mdn_classes *classes);

/* A label that is none of the classes becomes the next one, of size 0.
 * MDN_INVALID when there are MDN_CLASSES_MAX. */
mdn_status mdn_classes_add(mdn_classes *classes, int64_t label, mdn_error *err);

/* order[i] = the class with the i-th smallest label.  scratch: room for
 * 3 * count words. */
void mdn_classes_order(const mdn_classes *classes, uint64_t *order,
                       uint64_t *scratch);

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
