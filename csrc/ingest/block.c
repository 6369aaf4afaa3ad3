/* block.c - growing columns. */
#include "ingest/block.h"

#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

/* Give *place room for count items of this size; false without memory. */
static bool
resize(void *place, uint64_t count, uint64_t size)
{
    void *memory;
    uint64_t bytes;

    memcpy(&memory, place, sizeof memory);
    if (mdn_mul_overflows(count, size, &bytes))
        return false;
    memory = realloc(memory, bytes ? bytes : 1);
    if (memory == NULL)
        return false;
    memcpy(place, &memory, sizeof memory);
    return true;
}

static mdn_status
grow(mdn_block *block, uint64_t capacity, mdn_error *err)
{
    bool done = true;

    if (block->timestamps != NULL)
        done = resize(&block->timestamps, capacity, sizeof(int64_t));
    if (done && block->labels != NULL)
        done = resize(&block->labels, capacity, sizeof(int64_t));
    for (uint32_t f = 0; done && f < block->field_count; f++) {
        mdn_column *column = &block->columns[f];

        if (block->field_sizes[f] > 0)
            done = resize(&column->values, capacity, block->field_sizes[f]);
        else
            done = resize(&column->offsets, capacity + 1, sizeof(int64_t));
    }
    if (!done)
        return mdn_fail_nomem(err, capacity * block->sample_size);
    block->capacity = capacity;
    return MDN_OK;
}

/* Non-NULL columns are what grow() looks at. */
static mdn_status
allocate(mdn_block *block, const mdn_schema *schema, bool labels,
         bool timestamps, mdn_error *err)
{
    uint32_t count = block->field_count = schema->field_count;

    block->columns = calloc(count, sizeof *block->columns);
    block->field_sizes = calloc(count, sizeof *block->field_sizes);
    block->payload_capacity = calloc(count, sizeof *block->payload_capacity);
    if (labels)
        block->labels = malloc(sizeof *block->labels);
    if (timestamps)
        block->timestamps = malloc(sizeof *block->timestamps);
    if (!block->columns || !block->field_sizes || !block->payload_capacity
        || (labels && !block->labels) || (timestamps && !block->timestamps))
        return mdn_fail_nomem(err, count * sizeof *block->columns);
    block->sample_size = sizeof(int64_t) * (1u + labels);
    for (uint32_t f = 0; f < count; f++) {
        block->field_sizes[f] = schema->fields[f].size_bytes;
        block->sample_size +=
            block->field_sizes[f] ? block->field_sizes[f] : sizeof(int64_t);
    }
    return grow(block, 1, err);
}

mdn_status
mdn_block_new(const mdn_schema *schema, bool labels, bool timestamps,
              mdn_block **out, mdn_error *err)
{
    mdn_block *block = calloc(1, sizeof *block);
    mdn_status st;

    *out = NULL;
    if (block == NULL)
        return mdn_fail_nomem(err, sizeof *block);
    st = allocate(block, schema, labels, timestamps, err);
    for (uint32_t f = 0; st == MDN_OK && f < block->field_count; f++) {
        if (block->field_sizes[f] > 0)
            continue;
        *(int64_t *)block->columns[f].offsets = 0;
        if (!resize(&block->columns[f].values, 1, 1))
            st = mdn_fail_nomem(err, 1);
    }
    if (st != MDN_OK) {
        mdn_block_free(block);
        return st;
    }
    *out = block;
    return MDN_OK;
}

void
mdn_block_free(mdn_block *block)
{
    if (block == NULL)
        return;
    for (uint32_t f = 0; block->columns != NULL && f < block->field_count;
         f++) {
        free((void *)block->columns[f].values);
        free((void *)block->columns[f].offsets);
    }
    free(block->columns);
    free(block->field_sizes);
    free(block->payload_capacity);
    free(block->labels);
    free(block->timestamps);
    free(block);
}

void
mdn_block_clear(mdn_block *block)
{
    block->count = block->size_bytes = 0;
}

mdn_status
mdn_block_reserve(mdn_block *block, uint64_t more, mdn_error *err)
{
    uint64_t needed;

    if (mdn_add_overflows(block->count, more, &needed))
        return mdn_fail_nomem(err, UINT64_MAX);
    if (needed <= block->capacity)
        return MDN_OK;
    if (needed < 2 * block->capacity)
        needed = 2 * block->capacity;
    return grow(block, needed, err);
}

mdn_status
mdn_block_payload_room(mdn_block *block, uint32_t field, uint64_t size,
                       uint8_t **out, mdn_error *err)
{
    mdn_column *column = &block->columns[field];
    uint64_t *capacity = &block->payload_capacity[field];
    uint64_t start = (uint64_t)column->offsets[block->count], needed;

    if (mdn_add_overflows(start, size, &needed) || needed > INT64_MAX)
        return mdn_fail_nomem(err, UINT64_MAX);
    if (needed > *capacity) {
        uint64_t grown = needed > 2 * *capacity ? needed : 2 * *capacity;

        if (!resize(&column->values, grown, 1))
            return mdn_fail_nomem(err, grown);
        *capacity = grown;
    }
    *out = (uint8_t *)column->values + start;
    return MDN_OK;
}

void
mdn_block_payload_end(mdn_block *block, uint32_t field, uint64_t size)
{
    int64_t *offsets = (int64_t *)block->columns[field].offsets;

    offsets[block->count + 1] = offsets[block->count] + (int64_t)size;
    block->size_bytes += size;
}

mdn_status
mdn_block_put_payload(mdn_block *block, uint32_t field, const void *data,
                      uint64_t size, mdn_error *err)
{
    uint8_t *room = NULL;
    mdn_status st = mdn_block_payload_room(block, field, size, &room, err);

    if (st != MDN_OK)
        return st;
    if (size > 0)
        memcpy(room, data, size);
    mdn_block_payload_end(block, field, size);
    return MDN_OK;
}

void
mdn_block_end_sample(mdn_block *block)
{
    mdn_block_end_samples(block, 1);
}

void
mdn_block_end_samples(mdn_block *block, uint64_t more)
{
    block->count += more;
    block->size_bytes += more * block->sample_size;
}

/* The payloads of samples first .. first + count of `from`, with their ends. */
static mdn_status
append_payloads(mdn_block *to, const mdn_block *from, uint32_t field,
                uint64_t first, uint64_t count, mdn_error *err)
{
    const int64_t *ends = from->columns[field].offsets + first;
    uint64_t size = (uint64_t)(ends[count] - ends[0]);
    uint8_t *room = NULL;
    mdn_status st = mdn_block_payload_room(to, field, size, &room, err);
    int64_t *offsets = (int64_t *)to->columns[field].offsets + to->count;

    if (st != MDN_OK)
        return st;
    if (size > 0)
        memcpy(room, (const uint8_t *)from->columns[field].values + ends[0],
               size);
    for (uint64_t i = 1; i <= count; i++)
        offsets[i] = offsets[0] + (ends[i] - ends[0]);
    to->size_bytes += size;
    return MDN_OK;
}

mdn_status
mdn_block_append_part(mdn_block *to, const mdn_block *from, uint64_t first,
                      uint64_t count, mdn_error *err)
{
    uint64_t size_before = to->size_bytes;
    mdn_status st = mdn_block_reserve(to, count, err);

    for (uint32_t f = 0; st == MDN_OK && f < to->field_count; f++) {
        uint64_t size = to->field_sizes[f];

        if (size == 0)
            st = append_payloads(to, from, f, first, count, err);
        else if (count > 0)
            memcpy((uint8_t *)to->columns[f].values + to->count * size,
                   (const uint8_t *)from->columns[f].values + first * size,
                   count * size);
    }
    if (st != MDN_OK) {
        to->size_bytes = size_before;
        return st;
    }
    if (to->labels != NULL && count > 0)
        memcpy(to->labels + to->count, from->labels + first, count * 8);
    if (to->timestamps != NULL && count > 0)
        memcpy(to->timestamps + to->count, from->timestamps + first, count * 8);
    mdn_block_end_samples(to, count);
    return MDN_OK;
}

mdn_status
mdn_block_append(mdn_block *to, const mdn_block *from, mdn_error *err)
{
    return mdn_block_append_part(to, from, 0, from->count, err);
}
