/* classes.c - counting labels in a hash table that grows. */
#include "selector/classes.h"

#include "base/random.h"
#include "selector/sort.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ROOM_MIN 64
#define SIGN (UINT64_C(1) << 63) /* flipped, labels sort as unsigned words */

static inline mdn_class_slot *
find(const mdn_classes *classes, int64_t label)
{
    uint64_t at = mdn_mix((uint64_t)label);

    for (;; at++) {
        mdn_class_slot *slot = &classes->slots[at & classes->slot_mask];

        if (slot->class_plus_one == 0 || slot->label == label)
            return slot;
    }
}

uint32_t
mdn_classes_find(const mdn_classes *classes, int64_t label)
{
    if (classes->count == 0)
        return 0;
    return find(classes, label)->class_plus_one;
}

void
mdn_classes_free(mdn_classes *classes)
{
    free(classes->sizes);
    free(classes->labels);
    free(classes->slots);
    *classes = (mdn_classes){0};
}

/* Make class c findable by its label. */
static void
enter(mdn_classes *classes, uint32_t c)
{
    int64_t label = classes->labels[c];

    *find(classes, label) = (mdn_class_slot){
        .label = label,
        .class_plus_one = c + 1,
    };
    if ((uint64_t)label < MDN_DIRECT)
        classes->direct[label] = c + 1;
}

static void
enter_all(mdn_classes *classes)
{
    memset(classes->slots, 0,
           (classes->slot_mask + 1) * sizeof *classes->slots);
    for (uint32_t c = 0; c < classes->count; c++)
        enter(classes, c);
}

/* Twice the room for classes, and twice as many slots as room. */
static mdn_status
grow(mdn_classes *classes, mdn_error *err)
{
    uint64_t room = classes->room > 0 ? 2 * (uint64_t)classes->room : ROOM_MIN;
    uint64_t *sizes;
    int64_t *labels;
    mdn_class_slot *slots;

    sizes = realloc(classes->sizes, room * sizeof *sizes);
    if (sizes == NULL)
        return mdn_fail_nomem(err, room * sizeof *sizes);
    classes->sizes = sizes;
    labels = realloc(classes->labels, room * sizeof *labels);
    if (labels == NULL)
        return mdn_fail_nomem(err, room * sizeof *labels);
    classes->labels = labels;
    slots = realloc(classes->slots, 2 * room * sizeof *slots);
    if (slots == NULL)
        return mdn_fail_nomem(err, 2 * room * sizeof *slots);
    classes->slots = slots;
    classes->slot_mask = 2 * room - 1;
    classes->room = (uint32_t)room;
    enter_all(classes);
    return MDN_OK;
}

mdn_status
mdn_classes_add(mdn_classes *classes, int64_t label, mdn_error *err)
{
    mdn_status st;

    if (classes->count == MDN_CLASSES_MAX)
        return mdn_fail(err, MDN_INVALID,
                        "the candidates have more than %" PRIu32
                        " different labels; sampling by class takes no more",
                        MDN_CLASSES_MAX);
    if (classes->count == classes->room && (st = grow(classes, err)) != MDN_OK)
        return st;
    classes->labels[classes->count] = label;
    classes->sizes[classes->count] = 0;
    enter(classes, classes->count++);
    return MDN_OK;
}

void
mdn_classes_order(const mdn_classes *classes, uint64_t *order,
                  uint64_t *scratch)
{
    for (uint32_t c = 0; c < classes->count; c++) {
        scratch[c] = (uint64_t)classes->labels[c] ^ SIGN;
        order[c] = c;
    }
    mdn_sort_pairs(scratch, order, classes->count, scratch + classes->count);
}
