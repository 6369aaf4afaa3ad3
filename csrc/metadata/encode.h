/* encode.h - columns as the rows that a binary COPY takes.
 *
 *     mdn_encoder_new(columns, column_count, rows, &encoder, err);
 *     mdn_encoder_next(encoder, &piece, &size, err);   until size is 0
 *     mdn_encoder_free(encoder);
 *
 * The pieces, one after the other, are what the server reads: a header, one
 * tuple per row and a trailer. */
#ifndef MDN_METADATA_ENCODE_H
#define MDN_METADATA_ENCODE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/* The type in memory, and the type of the table's column that it becomes. */
typedef enum {
    MDN_ENCODE_I64,   /* int64_t, int8 */
    MDN_ENCODE_U64,   /* uint64_t below 2^63, int8 */
    MDN_ENCODE_I32,   /* int32_t, int4 */
    MDN_ENCODE_F64,   /* double, float8 */
    MDN_ENCODE_F32,   /* float, float4 */
    MDN_ENCODE_BOOL,  /* uint8_t, 0 is false, boolean */
    MDN_ENCODE_BYTES, /* mdn_encode_bytes, bytea */
} mdn_encode_type;

typedef struct {
    const void *at; /* NULL: SQL's NULL */
    uint64_t size;
} mdn_encode_bytes;

typedef struct {
    mdn_encode_type type;
    const void *values;   /* of the rows; borrowed */
    const uint8_t *nulls; /* other than 0: NULL; itself NULL: none is */
} mdn_encode_column;

typedef struct mdn_encoder mdn_encoder;

/* columns, and what they point to, must outlive the encoder.  MDN_INVALID for
 * no column, or more than 1600 (Postgres has no such table). */
mdn_status mdn_encoder_new(const mdn_encode_column *columns,
                           size_t column_count, uint64_t rows,
                           mdn_encoder **out, mdn_error *err);

/* The next piece, about 256 KiB, valid until the next call; *size 0 after the
 * last.  MDN_INVALID names the row and the value that Postgres cannot hold. */
mdn_status mdn_encoder_next(mdn_encoder *encoder, const void **piece,
                            size_t *size, mdn_error *err);

/* Rows that are wholly in the pieces up to now. */
uint64_t mdn_encoder_rows(const mdn_encoder *encoder);

/* Accepts NULL. */
void mdn_encoder_free(mdn_encoder *encoder);

#endif
