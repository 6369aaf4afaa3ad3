/* arrays.c - a metadata stream over columns in memory. */
#include "metadata/stream.h"

#include <stdlib.h>

typedef struct {
    mdn_metadata_stream stream; /* first, so that both have one address */
    const uint64_t *keys;       /* borrowed, as are the others */
    const int64_t *timestamps;
    const int64_t *labels;
    uint64_t block_count;
    uint64_t position; /* of the next block */
} arrays_stream;

static const int64_t *
from(const int64_t *column, uint64_t position)
{
    return column != NULL ? column + position : NULL;
}

static mdn_status
arrays_next(mdn_metadata_stream *stream, mdn_metadata_block *out,
            mdn_error *err)
{
    arrays_stream *self = (arrays_stream *)stream;
    uint64_t rest = stream->count - self->position;

    (void)err; /* what is in memory cannot fail */
    *out = (mdn_metadata_block){
        .count = rest < self->block_count ? rest : self->block_count,
        .keys = self->keys + self->position,
        .timestamps = from(self->timestamps, self->position),
        .labels = from(self->labels, self->position),
    };
    self->position += out->count;
    return MDN_OK;
}

static void
arrays_rewind(mdn_metadata_stream *stream)
{
    ((arrays_stream *)stream)->position = 0;
}

static mdn_status
arrays_hold(mdn_metadata_stream *stream, uint64_t calls, mdn_error *err)
{
    (void)stream, (void)calls, (void)err; /* blocks are views already */
    return MDN_OK;
}

static void
arrays_free(mdn_metadata_stream *stream)
{
    free(stream);
}

mdn_status
mdn_metadata_from_arrays(const uint64_t *keys, const int64_t *timestamps,
                         const int64_t *labels, uint64_t count,
                         uint64_t block_count, mdn_metadata_stream **out,
                         mdn_error *err)
{
    arrays_stream *self;

    *out = NULL;
    if (block_count == 0)
        return mdn_fail(err, MDN_INVALID, "blocks must have samples, got 0");
    self = malloc(sizeof *self);
    if (self == NULL)
        return mdn_fail_nomem(err, sizeof *self);
    *self = (arrays_stream){
        .stream = {.count = count,
                   .in_place = true,
                   .next = arrays_next,
                   .rewind = arrays_rewind,
                   .hold = arrays_hold,
                   .free = arrays_free},
        .keys = keys,
        .timestamps = timestamps,
        .labels = labels,
        .block_count = block_count,
    };
    *out = &self->stream;
    return MDN_OK;
}
