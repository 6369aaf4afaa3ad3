/* uniform.c - bottom-k sampling over streams. */
#include "selector/uniform.h"

#include "base/bytes.h"
#include "base/random.h"
#include "base/resize.h"
#include "selector/sort.h"

#include <stdlib.h>

#define CHUNK 4096 /* keys offered at a time: slack of a buffer of draws */

void
mdn_uniform_init(mdn_uniform *uniform, uint64_t limit, uint64_t seed,
                 bool merging)
{
    *uniform = (mdn_uniform){
        .limit = limit,
        .start = mdn_stream(seed, MDN_STREAM_UNIFORM),
        .merging = merging,
    };
    mdn_bottom_init(&uniform->bottom, NULL, 0, 0);
}

void
mdn_uniform_free(mdn_uniform *uniform)
{
    free(uniform->draws);
    free(uniform->scratch);
    *uniform = (mdn_uniform){0};
}

/* Room for `more` candidates: all of them, or twice the limit and a chunk. */
static mdn_status
prepare(mdn_uniform *uniform, uint64_t more, mdn_error *err)
{
    mdn_bottom *bottom = &uniform->bottom;
    uint64_t limit, capacity, bytes = UINT64_MAX;
    mdn_status st;

    if (mdn_add_overflows(uniform->offered, more, &uniform->offered))
        uniform->offered = UINT64_MAX;
    limit =
        uniform->limit < uniform->offered ? uniform->limit : uniform->offered;
    if (mdn_mul_overflows(limit, 2, &capacity)
        || mdn_add_overflows(capacity, CHUNK, &capacity)
        || mdn_mul_overflows(capacity, sizeof(uint64_t), &bytes))
        return mdn_fail_nomem(err, bytes);
    bottom->limit = limit;
    if (capacity <= bottom->capacity)
        return MDN_OK;
    if ((st = mdn_resize(&uniform->draws, bytes, err)) != MDN_OK)
        return st;
    bottom->draws = uniform->draws;
    bottom->capacity = capacity;
    if (!uniform->merging)
        return MDN_OK;
    if ((st = mdn_resize(&uniform->scratch, bytes, err)) == MDN_OK)
        bottom->scratch = uniform->scratch;
    return st;
}

mdn_status
mdn_uniform_offer(mdn_uniform *uniform, mdn_metadata_stream *stream,
                  mdn_error *err)
{
    mdn_metadata_block block;
    mdn_status st = prepare(uniform, stream->count, err);

    if (st != MDN_OK)
        return st;
    stream->rewind(stream);
    for (;;) {
        if ((st = stream->next(stream, &block, err)) != MDN_OK)
            return st;
        if (block.count == 0)
            return MDN_OK;
        for (uint64_t i = 0; i < block.count && uniform->limit > 0;
             i += CHUNK) {
            uint64_t rest = block.count - i;

            mdn_bottom_offer(&uniform->bottom, uniform->start, block.keys + i,
                             rest < CHUNK ? rest : CHUNK);
        }
    }
}

mdn_status
mdn_uniform_load(mdn_uniform *uniform, uint64_t offered, const uint64_t *draws,
                 uint64_t stride, uint64_t count, mdn_error *err)
{
    mdn_status st = prepare(uniform, offered, err);

    for (uint64_t i = 0; st == MDN_OK && i < count; i++)
        mdn_bottom_put(&uniform->bottom, draws[i * stride]);
    return st;
}

mdn_status
mdn_uniform_merge(mdn_uniform *uniform, const mdn_uniform *other,
                  mdn_error *err)
{
    return mdn_uniform_load(uniform, other->offered, other->bottom.draws, 1,
                            other->bottom.count, err);
}

mdn_status
mdn_uniform_keys(mdn_uniform *uniform, uint64_t **keys, uint64_t *count,
                 bool *repeated, mdn_error *err)
{
    mdn_bottom *bottom = &uniform->bottom;
    uint64_t bytes;

    *keys = NULL;
    *repeated = false;
    if (bottom->capacity > 0)
        mdn_bottom_trim(bottom);
    bytes = 2 * bottom->count * sizeof **keys; /* no more than the buffer */
    *keys = malloc(bytes > 0 ? bytes : 1);
    if (*keys == NULL)
        return mdn_fail_nomem(err, bytes);
    for (uint64_t i = 0; i < bottom->count; i++)
        (*keys)[i] = bottom->draws[i];
    mdn_bottom_keys(uniform->start, *keys, bottom->count);
    mdn_sort_words(*keys, bottom->count, *keys + bottom->count);
    for (uint64_t i = 1; i < bottom->count; i++)
        *repeated |= (*keys)[i] == (*keys)[i - 1];
    *count = bottom->count;
    return MDN_OK;
}
