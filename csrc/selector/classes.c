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

static mdn_status
add_class(mdn_classes *classes, int64_t label, mdn_error *err)
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

static mdn_status
count_block(mdn_classes *classes, const mdn_metadata_block *block,
            mdn_error *err)
{
    mdn_status st;

    if (block->labels == NULL)
        return mdn_fail(err, MDN_INVALID, "the candidates have no labels");
    for (uint64_t i = 0; i < block->count; i++) {
        uint32_t number = mdn_classes_number(classes, block->labels[i]);

        if (number == 0) {
            if ((st = add_class(classes, block->labels[i], err)) != MDN_OK)
                return st;
            number = classes->count;
        }
        classes->sizes[number - 1]++;
    }
    return MDN_OK;
}

/* Number the classes by label instead of by first appearance. */
static mdn_status
order_by_label(mdn_classes *classes, mdn_error *err)
{
    uint64_t count = classes->count, bytes = 2 * count * sizeof(uint64_t);
    uint64_t *sorted = malloc(bytes > 0 ? bytes : 1);
    uint64_t *sizes;

    if (sorted == NULL)
        return mdn_fail_nomem(err, bytes);
    for (uint64_t c = 0; c < count; c++)
        sorted[c] = (uint64_t)classes->labels[c] ^ SIGN;
    mdn_sort_words(sorted, count, sorted + count);
    sizes = sorted + count; /* the scratch of the sort has served */
    for (uint64_t c = 0; c < count; c++) {
        classes->labels[c] = (int64_t)(sorted[c] ^ SIGN);
        sizes[c] =
            classes->sizes[mdn_classes_find(classes, classes->labels[c]) - 1];
    }
    memcpy(classes->sizes, sizes, count * sizeof *sizes);
    enter_all(classes);
    free(sorted);
    return MDN_OK;
}

mdn_status
mdn_classes_count(mdn_metadata_stream *stream, mdn_classes *out, mdn_error *err)
{
    mdn_metadata_block block;
    mdn_status st;

    *out = (mdn_classes){0};
    stream->rewind(stream);
    if ((st = grow(out, err)) != MDN_OK)
        goto fail;
    for (;;) {
        if ((st = stream->next(stream, &block, err)) != MDN_OK)
            goto fail;
        if (block.count == 0)
            break;
        if ((st = count_block(out, &block, err)) != MDN_OK)
            goto fail;
    }
    if ((st = order_by_label(out, err)) != MDN_OK)
        goto fail;
    return MDN_OK;

fail:
    mdn_classes_free(out);
    return st;
}
