/* decode.c - the binary COPY format, as a state machine over bytes.
 *
 *   header   "PGCOPY\n\377\r\n\0"
 *            int32 flags; of bits 16 to 31 we know none, and refuse them
 *            int32 size of the extension, which is skipped
 *   tuple    int16 number of fields
 *            per field: int32 size, or -1 for NULL; so many bytes
 *   trailer  int16 -1
 *
 * Numbers are big-endian.  Small parts are gathered in `part` until they are
 * whole; values of bytea go to the block as they come.  libpq hands out a tuple
 * at a time, whole, and a stream of nothing but int8 then takes a short way
 * that looks at a tuple at once; what it does not like the long way explains.
 */
#include "metadata/decode.h"

#include "base/bytes.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#define HEADER_SIZE 19
#define CAPACITY_MAX (UINT64_C(1) << 32)
#define BYTES_MIN 4096 /* room for the first values of bytea */

static const uint8_t signature[11] = "PGCOPY\n\377\r\n";

typedef enum {
    IN_HEADER,
    IN_EXTENSION,
    IN_TUPLE, /* at its number of fields */
    IN_SIZE,  /* of field `field` */
    IN_VALUE,
    AT_END,
} place;

struct mdn_decoder {
    uint32_t field_count;
    bool words; /* all of them int8, none nullable */
    place place;
    uint32_t field;
    uint64_t left; /* bytes of the extension, or of the value */
    uint32_t part_size;
    uint8_t part[HEADER_SIZE];
    mdn_decode_field fields[MDN_DECODE_FIELDS_MAX];
};

static uint32_t
load_be32(const uint8_t *at)
{
    return __builtin_bswap32(mdn_load_u32(at));
}

static uint64_t
load_be64(const uint8_t *at)
{
    return __builtin_bswap64(mdn_load_u64(at));
}

static uint16_t
load_be16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

/* ---- blocks ---- */

/* Bytes of a value; 0 for bytea. */
static uint32_t
size_of(mdn_decode_type type)
{
    switch (type) {
    case MDN_DECODE_INT8:
    case MDN_DECODE_FLOAT8: return 8;
    case MDN_DECODE_INT4:
    case MDN_DECODE_FLOAT4: return 4;
    case MDN_DECODE_BOOL: return 1;
    case MDN_DECODE_BYTEA: return 0;
    }
    return 0;
}

static mdn_status
new_column(const mdn_decode_field *field, uint64_t capacity,
           mdn_decode_column *out, mdn_error *err)
{
    bool bytea = field->type == MDN_DECODE_BYTEA;

    out->value_size = size_of(field->type);
    if (bytea)
        out->starts = calloc(capacity + 1, sizeof *out->starts);
    else
        out->values = malloc(capacity * out->value_size);
    if (field->nullable)
        out->nulls = malloc(capacity);
    if ((bytea ? (void *)out->starts : out->values) == NULL
        || (field->nullable && out->nulls == NULL))
        return mdn_fail_nomem(err, capacity * 8);
    return MDN_OK;
}

static mdn_status
check_fields(uint32_t field_count, mdn_error *err)
{
    if (field_count >= 1 && field_count <= MDN_DECODE_FIELDS_MAX)
        return MDN_OK;
    return mdn_fail(err, MDN_INVALID, "rows must have 1 to %d fields, got %u",
                    MDN_DECODE_FIELDS_MAX, field_count);
}

mdn_status
mdn_decode_block_new(const mdn_decode_field *fields, uint32_t field_count,
                     uint64_t capacity, mdn_decode_block **out, mdn_error *err)
{
    mdn_decode_block *block;
    mdn_status st = check_fields(field_count, err);

    *out = NULL;
    if (st != MDN_OK)
        return st;
    if (capacity == 0 || capacity > CAPACITY_MAX)
        return mdn_fail(err, MDN_INVALID,
                        "a block must have 1 to 2**32 rows, got %" PRIu64,
                        capacity);
    if ((block = calloc(1, sizeof *block)) == NULL)
        return mdn_fail_nomem(err, sizeof *block);
    block->capacity = capacity;
    block->column_count = field_count;
    for (uint32_t f = 0; f < field_count && st == MDN_OK; f++)
        st = new_column(&fields[f], capacity, &block->columns[f], err);
    if (st != MDN_OK) {
        mdn_decode_block_free(block);
        return st;
    }
    *out = block;
    return MDN_OK;
}

void
mdn_decode_block_free(mdn_decode_block *block)
{
    if (block == NULL)
        return;
    for (uint32_t c = 0; c < block->column_count; c++) {
        free(block->columns[c].values);
        free(block->columns[c].starts);
        free(block->columns[c].bytes);
        free(block->columns[c].nulls);
    }
    free(block);
}

uint64_t
mdn_decode_block_bytes(const mdn_decode_block *block)
{
    uint64_t bytes = 0;

    for (uint32_t c = 0; c < block->column_count; c++) {
        if (block->columns[c].starts != NULL)
            bytes += block->columns[c].starts[block->count];
    }
    return bytes;
}

/* ---- values ---- */

static mdn_status
wrong_size(const mdn_decoder *d, const mdn_decode_block *block, uint64_t size,
           mdn_error *err)
{
    return mdn_fail(err, MDN_CORRUPT,
                    "the server's COPY stream is damaged: row %" PRIu64
                    " of a block has %" PRIu64 " bytes in column %u",
                    block->count, size, d->field);
}

/* Put down a whole value of fixed size. */
static mdn_status
put_value(const mdn_decoder *d, mdn_decode_block *block, const uint8_t *at,
          mdn_error *err)
{
    mdn_decode_column *column = &block->columns[d->field];
    uint8_t *values = column->values;
    uint64_t row = block->count;

    switch (d->fields[d->field].type) {
    case MDN_DECODE_INT8:
    case MDN_DECODE_FLOAT8:
        mdn_store_u64(values + 8 * row, load_be64(at));
        break;
    case MDN_DECODE_INT4:
    case MDN_DECODE_FLOAT4:
        mdn_store_u32(values + 4 * row, load_be32(at));
        break;
    case MDN_DECODE_BOOL:
        if (at[0] > 1)
            return mdn_fail(err, MDN_CORRUPT,
                            "the server's COPY stream is damaged: a bool of %u",
                            at[0]);
        values[row] = at[0];
        break;
    case MDN_DECODE_BYTEA: assert(false); break; /* has no fixed size */
    }
    if (column->nulls != NULL)
        column->nulls[row] = 0;
    return MDN_OK;
}

static void
put_null(const mdn_decoder *d, mdn_decode_block *block)
{
    mdn_decode_column *column = &block->columns[d->field];
    uint32_t size = size_of(d->fields[d->field].type);
    uint64_t row = block->count;

    column->nulls[row] = 1;
    if (size > 0)
        memset((uint8_t *)column->values + size * row, 0, size);
    else
        column->starts[row + 1] = column->starts[row];
}

/* Append to the value of bytea that is under way. */
static mdn_status
put_bytes(const mdn_decoder *d, mdn_decode_block *block, const uint8_t *at,
          uint64_t size, mdn_error *err)
{
    mdn_decode_column *column = &block->columns[d->field];
    uint64_t used = column->starts[block->count + 1];
    uint64_t room = column->bytes_room;

    if (size > room - used) {
        uint8_t *bytes;

        /* Both are sizes of memory that is there: no sum overflows. */
        room = room > 0 ? 2 * room : BYTES_MIN;
        if (room - used < size)
            room = used + size;
        if ((bytes = realloc(column->bytes, room)) == NULL)
            return mdn_fail_nomem(err, room);
        column->bytes = bytes;
        column->bytes_room = room;
    }
    memcpy(column->bytes + used, at, size);
    column->starts[block->count + 1] = used + size;
    return MDN_OK;
}

/* ---- the machine ---- */

/* A field is whole: on to the next one, or to the next tuple. */
static void
next_field(mdn_decoder *d, mdn_decode_block *block)
{
    d->place = IN_SIZE;
    if (++d->field == d->field_count) {
        block->count++;
        d->place = IN_TUPLE;
    }
}

static mdn_status
take_header(mdn_decoder *d, mdn_error *err)
{
    uint32_t flags = load_be32(d->part + 11);

    if (memcmp(d->part, signature, sizeof signature) != 0)
        return mdn_fail(err, MDN_CORRUPT,
                        "the server's answer is no binary COPY stream");
    if (flags >> 16 != 0)
        return mdn_fail(err, MDN_CORRUPT,
                        "the server's COPY stream has unknown flags 0x%08x",
                        flags);
    d->left = load_be32(d->part + 15);
    if (d->left > INT32_MAX)
        return mdn_fail(err, MDN_CORRUPT,
                        "the server's COPY stream has a header extension of "
                        "a negative size");
    d->place = d->left > 0 ? IN_EXTENSION : IN_TUPLE;
    return MDN_OK;
}

static mdn_status
take_tuple(mdn_decoder *d, mdn_error *err)
{
    uint16_t count = load_be16(d->part);

    if (count == UINT16_MAX) {
        d->place = AT_END;
        return MDN_OK;
    }
    if (count != d->field_count)
        return mdn_fail(err, MDN_CORRUPT,
                        "the server's COPY stream has a row of %u columns "
                        "where %u were asked for",
                        count, d->field_count);
    d->field = 0;
    d->place = IN_SIZE;
    return MDN_OK;
}

static mdn_status
take_size(mdn_decoder *d, mdn_decode_block *block, mdn_error *err)
{
    const mdn_decode_field *field = &d->fields[d->field];
    uint32_t size = load_be32(d->part);

    if (size == UINT32_MAX) {
        if (!field->nullable)
            return mdn_fail(err, MDN_CORRUPT,
                            "the server sent a NULL in column %u of row "
                            "%" PRIu64 " of a block",
                            d->field, block->count);
        put_null(d, block);
        next_field(d, block);
        return MDN_OK;
    }
    if (field->type == MDN_DECODE_BYTEA
            ? size > field->bytes_max || size > INT32_MAX
            : size != size_of(field->type))
        return wrong_size(d, block, size, err);
    d->left = size;
    d->place = IN_VALUE;
    if (field->type != MDN_DECODE_BYTEA)
        return MDN_OK;
    if (block->columns[d->field].nulls != NULL)
        block->columns[d->field].nulls[block->count] = 0;
    block->columns[d->field].starts[block->count + 1] =
        block->columns[d->field].starts[block->count];
    if (size == 0)
        next_field(d, block);
    return MDN_OK;
}

/* Bytes that must be together before the place is left; 0: any number. */
static uint32_t
wanted(const mdn_decoder *d)
{
    switch (d->place) {
    case IN_HEADER: return HEADER_SIZE;
    case IN_TUPLE: return 2;
    case IN_SIZE: return 4;
    case IN_VALUE: return size_of(d->fields[d->field].type);
    case IN_EXTENSION:
    case AT_END: return 0;
    }
    return 0;
}

/* d->part is whole. */
static mdn_status
take_part(mdn_decoder *d, mdn_decode_block *block, mdn_error *err)
{
    mdn_status st;

    switch (d->place) {
    case IN_HEADER: return take_header(d, err);
    case IN_TUPLE: return take_tuple(d, err);
    case IN_SIZE: return take_size(d, block, err);
    case IN_VALUE:
        if ((st = put_value(d, block, d->part, err)) == MDN_OK)
            next_field(d, block);
        return st;
    case IN_EXTENSION:
    case AT_END: break;
    }
    return MDN_OK;
}

/* Some of what has no whole part: the extension, or a value of bytea. */
static mdn_status
take_some(mdn_decoder *d, mdn_decode_block *block, const uint8_t *at,
          uint64_t size, mdn_error *err)
{
    mdn_status st = MDN_OK;

    d->left -= size;
    if (d->place == IN_VALUE)
        st = put_bytes(d, block, at, size, err);
    if (st != MDN_OK || d->left > 0)
        return st;
    if (d->place == IN_VALUE)
        next_field(d, block);
    else
        d->place = IN_TUPLE;
    return MDN_OK;
}

/* Take at most size bytes, one step of the machine; *used of them. */
static mdn_status
step(mdn_decoder *d, mdn_decode_block *block, const uint8_t *at, size_t size,
     size_t *used, mdn_error *err)
{
    uint32_t want = wanted(d);

    if (d->place == AT_END)
        return mdn_fail(err, MDN_CORRUPT,
                        "the server's COPY stream goes on behind its end");
    if (want == 0) {
        *used = d->left < size ? (size_t)d->left : size;
        return take_some(d, block, at, *used, err);
    }
    *used = want - d->part_size < size ? want - d->part_size : size;
    memcpy(d->part + d->part_size, at, *used);
    d->part_size += (uint32_t)*used;
    if (d->part_size < want)
        return MDN_OK;
    d->part_size = 0;
    return take_part(d, block, err);
}

/* Whole tuples of int8; the bytes that were taken. */
static inline size_t
take_words(uint32_t fields, mdn_decode_block *block, const uint8_t *bytes,
           size_t size)
{
    size_t width = 2 + 12 * (size_t)fields, at = 0;

    for (; size - at >= width && block->count < block->capacity; at += width) {
        const uint8_t *from = bytes + at;
        uint32_t wrong = (uint32_t)load_be16(from) ^ fields;

        for (uint32_t f = 0; f < fields; f++) {
            uint64_t *values = block->columns[f].values;

            wrong |= load_be32(from + 2 + 12 * f) ^ 8;
            values[block->count] = load_be64(from + 6 + 12 * f);
        }
        if (wrong != 0)
            break;
        block->count++;
    }
    return at;
}

mdn_status
mdn_decoder_feed(mdn_decoder *d, mdn_decode_block *block, const void *bytes,
                 size_t size, size_t *used, mdn_error *err)
{
    const uint8_t *from = bytes;
    mdn_status st = MDN_OK;
    size_t at = 0, some;

    assert(block->column_count == d->field_count);
    while (st == MDN_OK && at < size) {
        if (d->place == IN_TUPLE) {
            if (d->words && d->part_size == 0)
                at += take_words(d->field_count, block, from + at, size - at);
            if (at == size || block->count == block->capacity)
                break;
        }
        some = 0;
        st = step(d, block, from + at, size - at, &some, err);
        at += some;
    }
    *used = at;
    return st;
}

mdn_status
mdn_decoder_new(const mdn_decode_field *fields, uint32_t field_count,
                mdn_decoder **out, mdn_error *err)
{
    mdn_status st = check_fields(field_count, err);
    mdn_decoder *d;

    *out = NULL;
    if (st != MDN_OK)
        return st;
    if ((d = calloc(1, sizeof *d)) == NULL)
        return mdn_fail_nomem(err, sizeof *d);
    d->field_count = field_count;
    d->words = true;
    for (uint32_t f = 0; f < field_count; f++) {
        d->fields[f] = fields[f];
        if (fields[f].type != MDN_DECODE_INT8 || fields[f].nullable)
            d->words = false;
    }
    *out = d;
    return MDN_OK;
}

void
mdn_decoder_free(mdn_decoder *decoder)
{
    free(decoder);
}

void
mdn_decoder_restart(mdn_decoder *d)
{
    d->place = IN_HEADER;
    d->part_size = 0;
}

mdn_status
mdn_decoder_finish(const mdn_decoder *d, mdn_error *err)
{
    if (d->place == AT_END)
        return MDN_OK;
    return mdn_fail(err, MDN_CORRUPT,
                    "the server's COPY stream ends before its end");
}
