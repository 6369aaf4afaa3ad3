/* values.c - values of candidates, wherever they lie. */
#include "selector/values.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define SIGN (UINT64_C(1) << 63)

static mdn_status
check_rows(const mdn_values *values, uint64_t row, uint64_t count,
           mdn_error *err)
{
    if (row <= values->count && count <= values->count - row)
        return MDN_OK;
    return mdn_fail(err, MDN_INVALID,
                    "there are values for %" PRIu64
                    " candidates, but more candidates than that",
                    values->count);
}

/* The values of a block whose first sample has this row. */
static mdn_status
values_of(const mdn_values *values, const mdn_metadata_block *block,
          uint64_t row, mdn_value_block *out, mdn_error *err)
{
    mdn_status st = MDN_OK;

    *out = (mdn_value_block){.keys = block->keys};
    switch (values->kind) {
    case MDN_VALUES_DOUBLES:
        if ((st = check_rows(values, row, block->count, err)) == MDN_OK)
            out->doubles = values->doubles + row;
        return st;
    case MDN_VALUES_INTS:
        if ((st = check_rows(values, row, block->count, err)) == MDN_OK)
            out->ints = values->ints + row;
        return st;
    case MDN_VALUES_TIMESTAMPS:
        out->ints = block->timestamps;
        if (out->ints != NULL)
            return MDN_OK;
        return mdn_fail(err, MDN_INVALID, "the candidates have no timestamps");
    case MDN_VALUES_LABELS:
        out->ints = block->labels;
        if (out->ints != NULL)
            return MDN_OK;
        return mdn_fail(err, MDN_INVALID, "the candidates have no labels");
    case MDN_VALUES_ASKED:
        return values->ask(values->ctx, block, &out->doubles, err);
    }
    return mdn_fail(err, MDN_INVALID, "values of no known kind");
}

static bool
is_weight(double value)
{
    return value == 0 || (value >= MDN_WEIGHT_MIN && value <= MDN_WEIGHT_MAX);
}

mdn_status
mdn_values_weights(const mdn_values *values, const mdn_value_block *block,
                   uint64_t first, uint64_t count, double *out, mdn_error *err)
{
    uint64_t wrong = 0;

    if (block->doubles != NULL)
        for (uint64_t i = 0; i < count; i++)
            out[i] = block->doubles[first + i] + values->offset;
    else
        for (uint64_t i = 0; i < count; i++)
            out[i] = (double)block->ints[first + i] + values->offset;
    for (uint64_t i = 0; i < count; i++)
        wrong += !((out[i] >= MDN_WEIGHT_MIN) & (out[i] <= MDN_WEIGHT_MAX))
                 & (out[i] != 0);
    for (uint64_t i = 0; wrong > 0 && i < count; i++)
        if (!is_weight(out[i]))
            return mdn_fail(err, MDN_INVALID,
                            "weights must be 0, or 2**-500 to 2**500; that of "
                            "key %" PRIu64 " is %g",
                            block->keys[first + i], out[i] - values->offset);
    return MDN_OK;
}

/* Words that order as doubles do; both zeros are the same. */
static uint64_t
order_of_double(double value)
{
    uint64_t bits;

    value += 0.0;
    memcpy(&bits, &value, sizeof bits);
    return bits ^ ((uint64_t)((int64_t)bits >> 63) | SIGN);
}

mdn_status
mdn_values_orders(const mdn_value_block *block, uint64_t first, uint64_t count,
                  bool descending, uint64_t *out, mdn_error *err)
{
    uint64_t flip = descending ? UINT64_MAX : 0;
    bool right = true;

    if (block->ints != NULL) {
        for (uint64_t i = 0; i < count; i++)
            out[i] = ((uint64_t)block->ints[first + i] ^ SIGN) ^ flip;
        return MDN_OK;
    }
    for (uint64_t i = 0; i < count; i++) {
        double value = block->doubles[first + i];

        right &= value == value;
        out[i] = order_of_double(value) ^ flip;
    }
    for (uint64_t i = 0; !right && i < count; i++)
        if (isnan(block->doubles[first + i]))
            return mdn_fail(err, MDN_INVALID,
                            "the value of key %" PRIu64 " is not a number",
                            block->keys[first + i]);
    return MDN_OK;
}

mdn_status
mdn_values_each(const mdn_shard *shard, const mdn_values *values,
                mdn_values_visit *some, void *ctx, uint64_t *seen,
                mdn_error *err)
{
    uint64_t row = shard->row;
    mdn_metadata_block block;
    mdn_value_block found;
    mdn_status st;

    shard->stream->rewind(shard->stream);
    for (;;) {
        if ((st = shard->stream->next(shard->stream, &block, err)) != MDN_OK)
            return st;
        if (block.count == 0)
            return MDN_OK;
        if ((st = values_of(values, &block, row, &found, err)) != MDN_OK)
            return st;
        for (uint64_t i = 0; i < block.count; i += MDN_VALUES_CHUNK) {
            uint64_t rest = block.count - i;

            st = some(ctx, &found, i,
                      rest < MDN_VALUES_CHUNK ? rest : MDN_VALUES_CHUNK, err);
            if (st != MDN_OK)
                return st;
        }
        row += block.count;
        *seen += block.count;
    }
}
