/* encode.c - rows of a binary COPY.
 *
 *   header    "PGCOPY\n\377\r\n\0", flags 0 (4 bytes), no extension (4 bytes)
 *   a row     count of fields (2 bytes), then for each field its size (4
 *             bytes; -1 is NULL) and its bytes
 *   trailer   -1 (2 bytes)
 *
 * All numbers are big-endian.  Rows of numbers that are never NULL are all of
 * one shape: then the buffer is filled with that shape once, and from piece to
 * piece only the values change, column by column.  Any other row is written
 * field by field, and a large field of bytes is a piece of its own, which the
 * reader gets from where it lies. */
#include "metadata/encode.h"

#include "base/bytes.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_BYTES (256 * 1024)
/* Above that, bytes are not copied. */
#define LARGE_BYTES (16 * 1024)
#define MOST_COLUMNS 1600
#define MOST_BYTES INT32_C(0x3fffffff) /* of one field in Postgres */
#define ROW_BYTES 2                    /* before the fields of a row */
#define FIELD_BYTES 4                  /* before the bytes of a field */

struct mdn_encoder {
    const mdn_encode_column *columns; /* borrowed */
    size_t column_count;
    uint64_t rows;
    uint8_t *buffer;     /* owned */
    size_t row_bytes;    /* of each, if all are of one shape; 0 otherwise */
    uint64_t piece_rows; /* most rows of a piece, then */
    uint64_t done;       /* rows that are written */
    size_t column;       /* of row `done`, to be written next */
    enum { HEADER, ROWS, TRAILER, END } at;
    const mdn_encode_bytes *large; /* to be the next piece, or NULL */
};

static const uint8_t header[19] = "PGCOPY\n\377\r\n";
static const uint8_t trailer[2] = {0xff, 0xff};

static inline void
put_u16(uint8_t *at, uint16_t value)
{
    value = __builtin_bswap16(value);
    memcpy(at, &value, sizeof value);
}

static inline void
put_u32(uint8_t *at, uint32_t value)
{
    mdn_store_u32(at, __builtin_bswap32(value));
}

static inline void
put_u64(uint8_t *at, uint64_t value)
{
    mdn_store_u64(at, __builtin_bswap64(value));
}

static size_t
width_of(mdn_encode_type type)
{
    switch (type) {
    case MDN_ENCODE_I64:
    case MDN_ENCODE_U64:
    case MDN_ENCODE_F64: return 8;
    case MDN_ENCODE_I32:
    case MDN_ENCODE_F32: return 4;
    case MDN_ENCODE_BOOL: return 1;
    case MDN_ENCODE_BYTES: break;
    }
    return 0;
}

static mdn_status
fail_above(const mdn_encoder *self, size_t column, uint64_t row, mdn_error *err)
{
    const uint8_t *values = self->columns[column].values;

    return mdn_fail(err, MDN_INVALID,
                    "column %zu, row %llu: %llu is too large for an int8 of "
                    "Postgres, which ends at 9223372036854775807",
                    column, (unsigned long long)row,
                    (unsigned long long)mdn_load_u64(values + 8 * row));
}

/* Rows of one shape. ------------------------------------------------------ */

/* Bytes of a row of numbers that are never NULL; 0 for other rows. */
static size_t
shape_of(const mdn_encode_column *columns, size_t count)
{
    size_t bytes = ROW_BYTES;

    for (size_t i = 0; i < count; i++) {
        size_t width = width_of(columns[i].type);

        if (width == 0 || columns[i].nulls != NULL)
            return 0;
        bytes += FIELD_BYTES + width;
    }
    return bytes;
}

/* Fill the buffer with rows of which only the values are missing. */
static void
write_shape(mdn_encoder *self)
{
    uint8_t *at = self->buffer;

    for (uint64_t row = 0; row < self->piece_rows; row++) {
        put_u16(at, (uint16_t)self->column_count);
        at += ROW_BYTES;
        for (size_t i = 0; i < self->column_count; i++) {
            size_t width = width_of(self->columns[i].type);

            put_u32(at, (uint32_t)width);
            at += FIELD_BYTES + width;
        }
    }
}

/* Each value of 8 bytes to its place, one row after the other; returns all of
 * them, or-ed. */
static uint64_t
spread_8(uint8_t *at, size_t row_bytes, const uint8_t *values, uint64_t count)
{
    uint64_t seen = 0;

    for (uint64_t i = 0; i < count; i++, at += row_bytes) {
        uint64_t value = mdn_load_u64(values + 8 * i);

        seen |= value;
        put_u64(at, value);
    }
    return seen;
}

static void
spread_4(uint8_t *at, size_t row_bytes, const uint8_t *values, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++, at += row_bytes)
        put_u32(at, mdn_load_u32(values + 4 * i));
}

static void
spread_1(uint8_t *at, size_t row_bytes, const uint8_t *values, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++, at += row_bytes)
        *at = values[i] != 0;
}

static mdn_status
find_above(const mdn_encoder *self, size_t column, uint64_t count,
           mdn_error *err)
{
    const uint8_t *values = self->columns[column].values;
    uint64_t row = self->done;

    while (mdn_load_u64(values + 8 * row) >> 63 == 0)
        row++;
    assert(row < self->done + count);
    return fail_above(self, column, row, err);
}

static mdn_status
write_shaped_rows(mdn_encoder *self, size_t *size, mdn_error *err)
{
    uint64_t rest = self->rows - self->done;
    uint64_t count = rest < self->piece_rows ? rest : self->piece_rows;
    uint8_t *at = self->buffer + ROW_BYTES + FIELD_BYTES;

    for (size_t i = 0; i < self->column_count; i++) {
        const mdn_encode_column *column = &self->columns[i];
        size_t width = width_of(column->type);
        const uint8_t *values =
            (const uint8_t *)column->values + width * self->done;

        if (width == 4)
            spread_4(at, self->row_bytes, values, count);
        else if (width == 1)
            spread_1(at, self->row_bytes, values, count);
        else if (spread_8(at, self->row_bytes, values, count) >> 63 != 0
                 && column->type == MDN_ENCODE_U64)
            return find_above(self, i, count, err);
        at += FIELD_BYTES + width;
    }
    self->done += count;
    *size = (size_t)count * self->row_bytes;
    return MDN_OK;
}

/* Rows of any shape. ------------------------------------------------------ */

/* Row `done` of a column of bytes; *used grows by what is in the buffer. */
static mdn_status
write_bytes(mdn_encoder *self, const mdn_encode_column *column, size_t *used,
            mdn_error *err)
{
    const mdn_encode_bytes *bytes =
        (const mdn_encode_bytes *)column->values + self->done;
    uint8_t *at = self->buffer + *used;

    if (bytes->at == NULL) {
        put_u32(at, UINT32_MAX);
        *used += FIELD_BYTES;
        return MDN_OK;
    }
    if (bytes->size > MOST_BYTES)
        return mdn_fail(err, MDN_INVALID,
                        "column %zu, row %llu: %llu bytes are too many for a "
                        "bytea of Postgres",
                        self->column, (unsigned long long)self->done,
                        (unsigned long long)bytes->size);
    put_u32(at, (uint32_t)bytes->size);
    *used += FIELD_BYTES;
    if (bytes->size > LARGE_BYTES) {
        self->large = bytes;
    } else {
        memcpy(at + FIELD_BYTES, bytes->at, (size_t)bytes->size);
        *used += (size_t)bytes->size;
    }
    return MDN_OK;
}

static mdn_status
write_field(mdn_encoder *self, size_t *used, mdn_error *err)
{
    const mdn_encode_column *column = &self->columns[self->column];
    size_t width = width_of(column->type);
    const uint8_t *value = (const uint8_t *)column->values + width * self->done;
    uint8_t *at = self->buffer + *used;

    if (column->nulls != NULL && column->nulls[self->done] != 0) {
        put_u32(at, UINT32_MAX);
        *used += FIELD_BYTES;
        return MDN_OK;
    }
    if (column->type == MDN_ENCODE_BYTES)
        return write_bytes(self, column, used, err);
    put_u32(at, (uint32_t)width);
    at += FIELD_BYTES;
    if (width == 1)
        *at = *value != 0;
    else if (width == 4)
        put_u32(at, mdn_load_u32(value));
    else if (column->type == MDN_ENCODE_U64 && mdn_load_u64(value) >> 63 != 0)
        return fail_above(self, self->column, self->done, err);
    else
        put_u64(at, mdn_load_u64(value));
    *used += FIELD_BYTES + width;
    return MDN_OK;
}

/* Write fields until the buffer is full or a large one is in the way. */
static mdn_status
write_rows(mdn_encoder *self, size_t *size, mdn_error *err)
{
    size_t used = 0;
    mdn_status st = MDN_OK;

    while (self->done < self->rows && self->large == NULL
           && used + ROW_BYTES + FIELD_BYTES + LARGE_BYTES <= BUFFER_BYTES) {
        if (self->column == 0) {
            put_u16(self->buffer + used, (uint16_t)self->column_count);
            used += ROW_BYTES;
        }
        if ((st = write_field(self, &used, err)) != MDN_OK)
            return st;
        if (++self->column == self->column_count) {
            self->column = 0;
            self->done++;
        }
    }
    *size = used;
    return MDN_OK;
}

mdn_status
mdn_encoder_new(const mdn_encode_column *columns, size_t column_count,
                uint64_t rows, mdn_encoder **out, mdn_error *err)
{
    mdn_encoder *self;

    *out = NULL;
    if (column_count == 0 || column_count > MOST_COLUMNS)
        return mdn_fail(err, MDN_INVALID, "%zu columns: must be 1 to %d",
                        column_count, MOST_COLUMNS);
    if ((self = calloc(1, sizeof *self)) == NULL)
        return mdn_fail_nomem(err, sizeof *self);
    self->columns = columns;
    self->column_count = column_count;
    self->rows = rows;
    if ((self->buffer = malloc(BUFFER_BYTES)) == NULL) {
        mdn_encoder_free(self);
        return mdn_fail_nomem(err, BUFFER_BYTES);
    }
    self->row_bytes = shape_of(columns, column_count);
    if (self->row_bytes != 0) {
        self->piece_rows = BUFFER_BYTES / self->row_bytes;
        if (self->piece_rows > rows)
            self->piece_rows = rows;
        write_shape(self);
    }
    *out = self;
    return MDN_OK;
}

mdn_status
mdn_encoder_next(mdn_encoder *self, const void **piece, size_t *size,
                 mdn_error *err)
{
    const mdn_encode_bytes *large = self->large;

    *piece = self->buffer;
    *size = 0;
    if (large != NULL) {
        self->large = NULL;
        *piece = large->at;
        *size = (size_t)large->size;
        return MDN_OK;
    }
    if (self->at == ROWS && self->done == self->rows)
        self->at = TRAILER;
    switch (self->at) {
    case HEADER:
        self->at = ROWS;
        *piece = header;
        *size = sizeof header;
        return MDN_OK;
    case ROWS:
        return self->row_bytes != 0 ? write_shaped_rows(self, size, err)
                                    : write_rows(self, size, err);
    case TRAILER:
        self->at = END;
        *piece = trailer;
        *size = sizeof trailer;
        return MDN_OK;
    case END: break;
    }
    *piece = NULL;
    return MDN_OK;
}

uint64_t
mdn_encoder_rows(const mdn_encoder *self)
{
    return self->large != NULL && self->column == 0 ? self->done - 1
                                                    : self->done;
}

void
mdn_encoder_free(mdn_encoder *self)
{
    if (self == NULL)
        return;
    free(self->buffer);
    free(self);
}
