/* parts.h - what the parts of a batch are: one or two for each field.
 *
 *     keys (uint64), labels (int64, if the view has them), weights (float64, if
 *     given), then field by field, as asked for: one part for a fixed field
 *     (rows, then the shape of the field); two for bytes: the payloads back to
 *     back (uint8) and rows + 1 offsets into them (int64) */
#ifndef MDN_PREFETCH_PARTS_H
#define MDN_PREFETCH_PARTS_H

#include "prefetch/batch.h"
#include "storage/view.h"

#include <stdbool.h>
#include <stdint.h>

/* Three parts of a sample, and at most two for each field. */
#define MDN_PARTS_FOR(field_count) (3 + 2 * (uint64_t)(field_count))

typedef enum {
    MDN_PART_KEYS,
    MDN_PART_LABELS,
    MDN_PART_WEIGHTS,
    MDN_PART_FIELD,
    MDN_PART_PAYLOADS,
    MDN_PART_OFFSETS,
} mdn_part_kind;

typedef struct {
    mdn_part_kind kind;
    uint32_t field; /* index into the schema, for the last three kinds */
} mdn_part_role;

/* The roles of the parts of a batch with these fields, in their order; how
 * many. */
uint32_t mdn_parts_assign(const mdn_view *view, bool has_weights,
                          const uint32_t *fields, uint32_t field_count,
                          mdn_part_role *roles);
/* Their shapes in a batch of so many rows; payloads get theirs later. */
void mdn_parts_shape(const mdn_schema *schema, const mdn_part_role *roles,
                     uint32_t part_count, uint64_t rows, mdn_part *parts);

#endif
