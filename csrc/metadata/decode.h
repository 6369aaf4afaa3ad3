/* decode.h - binary COPY, parsed into columns as it arrives.
 *
 * What a server sends after COPY ... TO STDOUT (FORMAT binary), of tuples whose
 * types are known beforehand:
 *
 *     mdn_decode_block_new   columns in memory, for so many rows
 *     mdn_decoder_new        a parser, before the first byte
 *     mdn_decoder_feed       more bytes, cut anywhere, until a block is full
 *     mdn_decoder_finish     were those all?
 *
 * Memory is that of the block: the values of fixed size, and of the others at
 * most twice the bytes that have arrived, whatever lengths the stream claims.
 * Nothing of the stream is trusted: a wrong one is MDN_CORRUPT. */
#ifndef MDN_METADATA_DECODE_H
#define MDN_METADATA_DECODE_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MDN_DECODE_FIELDS_MAX 64

typedef enum {
    MDN_DECODE_INT8,   /* int64_t */
    MDN_DECODE_INT4,   /* int32_t */
    MDN_DECODE_FLOAT8, /* double */
    MDN_DECODE_FLOAT4, /* float */
    MDN_DECODE_BOOL,   /* uint8_t, 0 or 1 */
    MDN_DECODE_BYTEA,  /* starts and bytes */
} mdn_decode_type;

typedef struct {
    mdn_decode_type type;
    bool nullable;      /* else a NULL is MDN_CORRUPT */
    uint64_t bytes_max; /* of one value of bytea; a longer one is MDN_CORRUPT */
} mdn_decode_field;

/* One column of a block, owned by the block. */
typedef struct {
    void *values; /* capacity of them; NULL for bytea */
    uint32_t value_size;
    uint64_t *starts; /* bytea, capacity + 1: value i is bytes starts[i] .. */
    uint8_t *bytes;   /* .. starts[i + 1] - 1 of these */
    uint64_t bytes_room;
    uint8_t *nulls; /* 1 where NULL (the value is 0 or empty); if nullable */
} mdn_decode_column;

typedef struct {
    uint64_t count; /* whole rows; set it to 0 to fill the block anew */
    uint64_t capacity;
    uint32_t column_count;
    mdn_decode_column columns[MDN_DECODE_FIELDS_MAX];
} mdn_decode_block;

/* Room for `capacity` rows of these fields, at least one of each. */
mdn_status mdn_decode_block_new(const mdn_decode_field *fields,
                                uint32_t field_count, uint64_t capacity,
                                mdn_decode_block **out, mdn_error *err);
void mdn_decode_block_free(mdn_decode_block *block); /* accepts NULL */

/* Bytes of all values of bytea of its whole rows. */
uint64_t mdn_decode_block_bytes(const mdn_decode_block *block);

typedef struct mdn_decoder mdn_decoder;

/* fields are copied. */
mdn_status mdn_decoder_new(const mdn_decode_field *fields, uint32_t field_count,
                           mdn_decoder **out, mdn_error *err);
void mdn_decoder_free(mdn_decoder *decoder); /* accepts NULL */

/* Expect a new stream. */
void mdn_decoder_restart(mdn_decoder *decoder);

/* Parse until the bytes are used up, or block is full with bytes left: *used
 * says how many were taken.  block must be made for the same fields, and must
 * stay the same one while a row is parsed in part.  Of a wrong stream the rows
 * before the wrong one are in the block; feed nothing more then. */
mdn_status mdn_decoder_feed(mdn_decoder *decoder, mdn_decode_block *block,
                            const void *bytes, size_t size, size_t *used,
                            mdn_error *err);

/* MDN_CORRUPT if the stream may not end here. */
mdn_status mdn_decoder_finish(const mdn_decoder *decoder, mdn_error *err);

#endif
