/* parts.c - what the parts of a batch are. */
#include "prefetch/parts.h"

uint32_t
mdn_parts_assign(const mdn_view *view, bool has_weights, const uint32_t *fields,
                 uint32_t field_count, mdn_part_role *roles)
{
    const mdn_schema *schema = mdn_view_schema(view);
    uint32_t n = 0;

    roles[n++] = (mdn_part_role){MDN_PART_KEYS, 0};
    if (mdn_view_has_labels(view))
        roles[n++] = (mdn_part_role){MDN_PART_LABELS, 0};
    if (has_weights)
        roles[n++] = (mdn_part_role){MDN_PART_WEIGHTS, 0};
    for (uint32_t i = 0; i < field_count; i++) {
        uint32_t field = fields[i];

        if (schema->fields[field].dtype == MDN_BYTES) {
            roles[n++] = (mdn_part_role){MDN_PART_PAYLOADS, field};
            roles[n++] = (mdn_part_role){MDN_PART_OFFSETS, field};
        } else
            roles[n++] = (mdn_part_role){MDN_PART_FIELD, field};
    }
    return n;
}

static mdn_part
part_of_field(const mdn_field *field, uint64_t rows)
{
    mdn_part part = {.dtype = field->dtype, .ndim = field->ndim + 1};

    part.shape[0] = rows;
    for (uint32_t i = 0; i < field->ndim; i++)
        part.shape[i + 1] = field->shape[i];
    return part;
}

static mdn_part
part_of_role(const mdn_schema *schema, mdn_part_role role, uint64_t rows)
{
    mdn_part part = {.ndim = 1, .shape = {rows}};

    switch (role.kind) { /* no default: -Wswitch rejects a missing case */
    case MDN_PART_KEYS: part.dtype = MDN_UINT64; break;
    case MDN_PART_LABELS: part.dtype = MDN_INT64; break;
    case MDN_PART_WEIGHTS: part.dtype = MDN_FLOAT64; break;
    case MDN_PART_FIELD:
        return part_of_field(&schema->fields[role.field], rows);
    case MDN_PART_PAYLOADS:
        part.dtype = MDN_UINT8;
        part.shape[0] = MDN_LATER;
        break;
    case MDN_PART_OFFSETS:
        part.dtype = MDN_INT64;
        part.shape[0] = rows + 1;
        break;
    }
    return part;
}

void
mdn_parts_shape(const mdn_schema *schema, const mdn_part_role *roles,
                uint32_t part_count, uint64_t rows, mdn_part *parts)
{
    for (uint32_t i = 0; i < part_count; i++)
        parts[i] = part_of_role(schema, roles[i], rows);
}
