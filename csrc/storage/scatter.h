/* scatter.h - records that are known to be good, field by field into targets.
 *
 * What a gather does with the addresses it has found.  Rows come in steps of a
 * few: long enough that a loop over one field pays, short enough that the
 * processor sees from one step to the requests for memory of the next. */
#ifndef MDN_STORAGE_SCATTER_H
#define MDN_STORAGE_SCATTER_H

#include "storage/payloads.h"

/* size bytes at offset in each of count records, one behind the other. */
typedef void (*mdn_copy_rows)(uint8_t *to, const uint8_t *const *records,
                              uint64_t count, uint64_t offset, uint64_t size);

typedef struct {
    mdn_copy_rows copy; /* for this size, on this processor */
    uint8_t *to;
    uint64_t offset, size;
} mdn_fixed_target;

typedef struct {
    const mdn_view *view; /* borrowed, as all here */
    const uint64_t *keys;
    const mdn_target *targets;
    uint32_t target_count;
    bool has_bytes; /* some target is a bytes field */
    bool unpacks;   /* and its payloads may be in frames */
    uint32_t fixed_count;
    mdn_fixed_target fixed[MDN_FIELDS_MAX]; /* so many are filled in */
} mdn_scatter;

/* What is asked for, checked: MDN_INVALID for a field that is not there, or for
 * bytes without offsets, or for more targets than a schema has fields. */
mdn_status mdn_scatter_plan(mdn_scatter *out, const mdn_view *view,
                            const uint64_t *keys, const mdn_target *targets,
                            uint32_t target_count, mdn_error *err);

/* records[i] is that of keys[first + i] and goes into row first + i of every
 * target, for i < count.  MDN_INVALID when offsets leave no room for a payload,
 * MDN_CORRUPT when one cannot be unpacked: of the first such row of the first
 * target that has one. */
mdn_status mdn_scatter_rows(const mdn_scatter *scatter, mdn_unpacker *unpacker,
                            const uint8_t *const *records, uint64_t first,
                            uint64_t count, mdn_error *err);

#endif
