/* fuzz_copy.c - any bytes as what a server sends for COPY ... TO STDOUT.
 *
 * The first byte of an input chooses types and capacity, the second how the
 * rest is cut; bit 7 of the first puts a right header before it.  Whole, or in
 * pieces into small blocks: rows and outcome must be the same, and no more
 * memory be taken than twice what has arrived. */
#include "metadata/decode.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_MAX_BYTES 8192

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool holds)
{
    if (!holds)
        abort();
}

typedef struct {
    mdn_status status;
    uint64_t rows, sum;
} outcome;

static void
mix(outcome *o, const void *bytes, uint64_t size)
{
    const uint8_t *from = bytes;

    for (uint64_t i = 0; i < size; i++)
        o->sum = (o->sum ^ from[i]) * UINT64_C(0x100000001b3);
}

static void
take(outcome *o, mdn_decode_block *block)
{
    for (uint64_t row = 0; row < block->count; row++) {
        for (uint32_t c = 0; c < block->column_count; c++) {
            const mdn_decode_column *column = &block->columns[c];
            uint64_t size = column->value_size;
            const uint8_t *from = column->values;

            if (column->nulls != NULL)
                mix(o, &column->nulls[row], 1);
            if (column->starts != NULL) {
                size = column->starts[row + 1] - column->starts[row];
                mix(o, &size, 8);
                from = size > 0 ? column->bytes + column->starts[row] : NULL;
            } else
                from += row * size;
            if (size > 0)
                mix(o, from, size);
        }
    }
    o->rows += block->count;
    block->count = 0;
}

static outcome
parse(const mdn_decode_field *fields, uint32_t field_count,
      const uint8_t *bytes, size_t size, uint64_t capacity, size_t step)
{
    outcome o = {.status = MDN_OK};
    mdn_decoder *decoder;
    mdn_decode_block *block;

    require(mdn_decoder_new(fields, field_count, &decoder, NULL) == MDN_OK);
    require(mdn_decode_block_new(fields, field_count, capacity, &block, NULL)
            == MDN_OK);
    for (size_t at = 0, used; o.status == MDN_OK && at < size; at += used) {
        size_t some = size - at < step ? size - at : step;
        mdn_error err = {.status = MDN_OK};

        o.status =
            mdn_decoder_feed(decoder, block, bytes + at, some, &used, &err);
        require(used <= some && block->count <= capacity);
        require(used == some || o.status != MDN_OK || block->count == capacity);
        require(o.status == MDN_OK
                || (o.status == MDN_CORRUPT && err.status == MDN_CORRUPT));
        for (uint32_t c = 0; c < field_count; c++)
            require(block->columns[c].bytes_room <= 4096 + 2 * size);
        if (block->count == capacity)
            take(&o, block);
    }
    take(&o, block);
    if (o.status == MDN_OK)
        o.status = mdn_decoder_finish(decoder, NULL);
    mdn_decoder_free(decoder);
    mdn_decode_block_free(block);
    return o;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t header[19] = "PGCOPY\n\377\r\n";
    uint8_t bytes[SIZE_MAX_BYTES + sizeof header];
    mdn_decode_field fields[6];
    uint32_t field_count;
    size_t used = 0, step;
    outcome whole, cut;

    if (size < 2 || size - 2 > SIZE_MAX_BYTES)
        return 0;
    field_count = 1 + data[0] % 6;
    for (uint32_t f = 0; f < field_count; f++)
        fields[f] = (mdn_decode_field){
            .type = data[0] & 8 ? (mdn_decode_type)f : MDN_DECODE_INT8,
            .nullable = data[0] >> 4 & 1,
            .bytes_max = data[0] & 32 ? 100 : UINT64_MAX,
        };
    if (data[0] & 128) {
        memcpy(bytes, header, sizeof header);
        used = sizeof header;
    }
    memcpy(bytes + used, data + 2, size - 2);
    used += size - 2;
    step = 1 + data[1] % 64;
    whole = parse(fields, field_count, bytes, used, 1000, SIZE_MAX_BYTES * 2);
    cut = parse(fields, field_count, bytes, used, 1 + data[1] / 64, step);
    require(whole.status == cut.status && whole.rows == cut.rows
            && whole.sum == cut.sum);
    return 0;
}
