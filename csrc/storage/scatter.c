/* scatter.c - from records into one array per field.
 *
 * The loop over the rows of a field is compiled once per size class, so that
 * all its moves are unrolled: some of 32 or 16 bytes, and a last one that ends
 * with the field and overlaps the one before it.  Nothing outside of the field
 * is read or written.  Where the processor has 32-byte registers, which is
 * asked once, 104 bytes are four loads and four stores instead of seven.
 *
 * Stores of several fields, in turns, into memory that is in no cache are too
 * much for the processor to see coming: the rows of the next step are
 * requested, which made batches of 64 Ki records of 160 bytes 1.2 times as
 * fast. */
#include "storage/scatter.h"

#include "storage/copy.h"

#define AVX2_MIN UINT64_C(33) /* bytes; below, two moves of 16 do */

/* Fields of fixed size. */

typedef uint8_t bytes32 __attribute__((vector_size(32), aligned(1), may_alias));

#define INLINE static inline __attribute__((always_inline))

/* pieces - 1 moves of 16 bytes and one that ends with the field. */
INLINE void
copy_by_16(uint8_t *to, const uint8_t *from, uint64_t size, uint64_t pieces)
{
#pragma GCC unroll 16
    for (uint64_t p = 0; p + 1 < pieces; p++)
        memcpy(to + 16 * p, from + 16 * p, 16);
    memcpy(to + size - 16, from + size - 16, 16);
}

INLINE void
copy_by_32(uint8_t *to, const uint8_t *from, uint64_t size, uint64_t pieces)
{
#pragma GCC unroll 16
    for (uint64_t p = 0; p + 1 < pieces; p++)
        *(bytes32 *)(to + 32 * p) = *(const bytes32 *)(from + 32 * p);
    *(bytes32 *)(to + size - 32) = *(const bytes32 *)(from + size - 32);
}

INLINE void
copy_exactly(uint8_t *to, const uint8_t *from, uint64_t size, uint64_t pieces)
{
    (void)pieces;
    memcpy(to, from, size);
}

INLINE void
copy_any(uint8_t *to, const uint8_t *from, uint64_t size, uint64_t pieces)
{
    (void)pieces;
    mdn_copy(to, from, size);
}

/* A loop over rows, compiled for one move of so many pieces. */
#define COPY(name, target, move, size_bytes, pieces)                           \
    target static void name(uint8_t *to, const uint8_t *const *records,        \
                            uint64_t count, uint64_t offset, uint64_t size)    \
    {                                                                          \
        (void)size;                                                            \
        for (uint64_t i = 0; i < count; i++)                                   \
            move(to + i * (size_bytes), records[i] + offset, size_bytes,       \
                 pieces);                                                      \
    }
#define PLAIN

COPY(copy_4, PLAIN, copy_exactly, 4, 1)
COPY(copy_8, PLAIN, copy_exactly, 8, 1)
COPY(copy_rest, PLAIN, copy_any, size, 0)
COPY(copy_16x1, PLAIN, copy_by_16, size, 1)
COPY(copy_16x2, PLAIN, copy_by_16, size, 2)
COPY(copy_16x3, PLAIN, copy_by_16, size, 3)
COPY(copy_16x4, PLAIN, copy_by_16, size, 4)
COPY(copy_16x5, PLAIN, copy_by_16, size, 5)
COPY(copy_16x6, PLAIN, copy_by_16, size, 6)
COPY(copy_16x7, PLAIN, copy_by_16, size, 7)
COPY(copy_16x8, PLAIN, copy_by_16, size, 8)
COPY(copy_16x9, PLAIN, copy_by_16, size, 9)
COPY(copy_16x10, PLAIN, copy_by_16, size, 10)
COPY(copy_16x11, PLAIN, copy_by_16, size, 11)
COPY(copy_16x12, PLAIN, copy_by_16, size, 12)

/* By how many pieces of 16 bytes, begun ones too, a field has. */
static const mdn_copy_rows by_16[] = {
    NULL,       copy_16x1,  copy_16x2,  copy_16x3, copy_16x4,
    copy_16x5,  copy_16x6,  copy_16x7,  copy_16x8, copy_16x9,
    copy_16x10, copy_16x11, copy_16x12,
};
#define BY_16_MAX (sizeof by_16 / sizeof by_16[0] - 1)

#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2")))

COPY(copy_32x2, AVX2, copy_by_32, size, 2)
COPY(copy_32x3, AVX2, copy_by_32, size, 3)
COPY(copy_32x4, AVX2, copy_by_32, size, 4)
COPY(copy_32x5, AVX2, copy_by_32, size, 5)
COPY(copy_32x6, AVX2, copy_by_32, size, 6)
COPY(copy_32x7, AVX2, copy_by_32, size, 7)
COPY(copy_32x8, AVX2, copy_by_32, size, 8)

/* By pieces of 32 bytes. */
static const mdn_copy_rows by_32[] = {
    NULL,      NULL,      copy_32x2, copy_32x3, copy_32x4,
    copy_32x5, copy_32x6, copy_32x7, copy_32x8,
};
#define BY_32_MAX (sizeof by_32 / sizeof by_32[0] - 1)

/* NULL where that is not the way. */
static mdn_copy_rows
choose_wide(uint64_t size)
{
    uint64_t pieces = (size + 31) / 32;

    return size >= AVX2_MIN && pieces <= BY_32_MAX
                   && __builtin_cpu_supports("avx2")
               ? by_32[pieces]
               : NULL;
}
#else
static mdn_copy_rows
choose_wide(uint64_t size)
{
    (void)size;
    return NULL;
}
#endif

static mdn_copy_rows
choose_copy(uint64_t size)
{
    mdn_copy_rows wide = choose_wide(size);

    if (wide != NULL)
        return wide;
    if (size == 4 || size == 8)
        return size == 4 ? copy_4 : copy_8;
    if (size < 16 || size > 16 * BY_16_MAX)
        return copy_rest;
    return by_16[(size + 15) / 16];
}

/* Fields of bytes. */

/* The target has room for this payload, and for no more. */
static mdn_status
check_room(const mdn_field *field, const mdn_target *target, uint64_t row,
           uint64_t size, mdn_error *err)
{
    int64_t room = target->offsets[row + 1] - target->offsets[row];

    if (room == (int64_t)size)
        return MDN_OK;
    return mdn_fail(err, MDN_INVALID,
                    "field '%s', row %llu: offsets leave %lld bytes "
                    "for %llu",
                    field->name, (unsigned long long)row, (long long)room,
                    (unsigned long long)size);
}

static mdn_status
copy_bytes(const mdn_scatter *s, const mdn_target *target,
           const uint8_t *const *records, uint64_t first, uint64_t count,
           mdn_error *err)
{
    const mdn_schema *schema = s->view->store->schema;
    const mdn_field *field = &schema->fields[target->field];
    uint64_t nth = (field->offset - schema->fixed_size) / 4;
    mdn_status st = MDN_OK;

    for (uint64_t i = 0; i < count && st == MDN_OK; i++) {
        uint64_t size = mdn_load_u32(records[i] + field->offset);

        st = check_room(field, target, first + i, size, err);
        if (st == MDN_OK && size > 0)
            memcpy((uint8_t *)target->values + target->offsets[first + i],
                   records[i] + schema->head_size
                       + mdn_payloads_before(schema, records[i], nth),
                   size);
    }
    return st;
}

/* Where the payload of a row goes, if the record has no other, so that its
 * frame can be unpacked there. */
static mdn_status
place_of(const mdn_scatter *s, const uint8_t *record, uint64_t row,
         uint8_t **out, mdn_error *err)
{
    const mdn_schema *schema = s->view->store->schema;
    const mdn_target *target = s->targets;
    const mdn_field *field;

    *out = NULL;
    if (schema->bytes_count != 1)
        return MDN_OK;
    while (schema->fields[target->field].dtype != MDN_BYTES)
        target++; /* there is one, or nothing would be unpacked */
    field = &schema->fields[target->field];
    *out = (uint8_t *)target->values + target->offsets[row];
    return check_room(field, target, row, mdn_load_u32(record + field->offset),
                      err);
}

/* The bytes fields of one record that may hold a frame. */
static mdn_status
unpack_row(const mdn_scatter *s, mdn_unpacker *unpacker, const uint8_t *record,
           uint64_t row, mdn_error *err)
{
    const mdn_schema *schema = s->view->store->schema;
    const uint8_t *payloads = NULL;
    uint8_t *place = NULL;
    mdn_status st = place_of(s, record, row, &place, err);

    if (st == MDN_OK)
        st = mdn_payloads_find(s->view, unpacker, s->keys[row], record, place,
                               &payloads, err);
    for (uint32_t t = 0; t < s->target_count && st == MDN_OK; t++) {
        const mdn_target *target = &s->targets[t];
        const mdn_field *field = &schema->fields[target->field];
        uint64_t nth = (field->offset - schema->fixed_size) / 4, size;
        uint8_t *to;

        if (field->dtype != MDN_BYTES)
            continue;
        size = mdn_load_u32(record + field->offset);
        to = (uint8_t *)target->values + target->offsets[row];
        st = check_room(field, target, row, size, err);
        if (st == MDN_OK && size > 0 && to != payloads)
            memcpy(to, payloads + mdn_payloads_before(schema, record, nth),
                   size);
    }
    return st;
}

/* All targets. */

static mdn_status
plan_target(mdn_scatter *out, const mdn_target *target, mdn_error *err)
{
    const mdn_schema *schema = out->view->store->schema;
    const mdn_field *field;

    if (target->field >= schema->field_count)
        return mdn_fail(err, MDN_INVALID,
                        "field number %u; the schema has %u fields",
                        target->field, schema->field_count);
    field = &schema->fields[target->field];
    if (field->dtype != MDN_BYTES) {
        out->fixed[out->fixed_count++] =
            (mdn_fixed_target){.copy = choose_copy(field->size_bytes),
                               .to = target->values,
                               .offset = field->offset,
                               .size = field->size_bytes};
        return MDN_OK;
    }
    if (target->offsets == NULL)
        return mdn_fail(err, MDN_INVALID,
                        "field '%s' is bytes and needs offsets", field->name);
    out->has_bytes = true;
    return MDN_OK;
}

mdn_status
mdn_scatter_plan(mdn_scatter *out, const mdn_view *view, const uint64_t *keys,
                 const mdn_target *targets, uint32_t target_count,
                 mdn_error *err)
{
    mdn_status st = MDN_OK;

    out->view = view;
    out->keys = keys;
    out->targets = targets;
    out->target_count = target_count;
    out->fixed_count = 0;
    out->has_bytes = false;
    if (target_count > MDN_FIELDS_MAX)
        return mdn_fail(err, MDN_INVALID, "%u targets; at most %d at a time",
                        target_count, MDN_FIELDS_MAX);
    for (uint32_t t = 0; t < target_count && st == MDN_OK; t++)
        st = plan_target(out, &targets[t], err);
    out->unpacks = out->has_bytes && view->store->layout.compressed;
    return st;
}

static mdn_status
copy_payloads(const mdn_scatter *scatter, mdn_unpacker *unpacker,
              const uint8_t *const *records, uint64_t first, uint64_t count,
              mdn_error *err)
{
    const mdn_schema *schema = scatter->view->store->schema;
    mdn_status st = MDN_OK;

    for (uint64_t i = 0; scatter->unpacks && i < count && st == MDN_OK; i++)
        st = unpack_row(scatter, unpacker, records[i], first + i, err);
    for (uint32_t t = 0; t < scatter->target_count && st == MDN_OK; t++) {
        const mdn_target *target = &scatter->targets[t];

        if (!scatter->unpacks
            && schema->fields[target->field].dtype == MDN_BYTES)
            st = copy_bytes(scatter, target, records, first, count, err);
    }
    return st;
}

/* Ask for the memory that later rows will be written to.  They need not exist.
 */
static inline void
request_rows(const mdn_fixed_target *f, uint64_t first, uint64_t count)
{
    uintptr_t at = (uintptr_t)f->to + first * f->size;

    for (uint64_t line = 0; line < count * f->size; line += 64)
        __builtin_prefetch((const void *)(at + line), 1, 2);
}

mdn_status
mdn_scatter_rows(const mdn_scatter *scatter, mdn_unpacker *unpacker,
                 const uint8_t *const *records, uint64_t first, uint64_t count,
                 mdn_error *err)
{
    for (uint32_t t = 0; t < scatter->fixed_count; t++) {
        const mdn_fixed_target *f = &scatter->fixed[t];

        if (f->size <= MDN_COPY_SMALL_MAX)
            request_rows(f, first + count, count);
        f->copy(f->to + first * f->size, records, count, f->offset, f->size);
    }
    if (!scatter->has_bytes)
        return MDN_OK;
    return copy_payloads(scatter, unpacker, records, first, count, err);
}
