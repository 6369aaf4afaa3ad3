/* watched.c - blocks are passed on as they come. */
#include "metadata/watched.h"

#include <stdlib.h>

typedef struct {
    mdn_metadata_stream base;   /* first: a stream is a watched_stream */
    mdn_metadata_stream *inner; /* owned */
    mdn_beat beat;
    atomic_bool *ended; /* borrowed */
} watched_stream;

static mdn_status
watched_next(mdn_metadata_stream *stream, mdn_metadata_block *out,
             mdn_error *err)
{
    watched_stream *self = (watched_stream *)stream;
    mdn_status st = mdn_beat_ask(&self->beat, err);

    if (st != MDN_OK) {
        atomic_store(self->ended, true);
        return st;
    }
    if (atomic_load_explicit(self->ended, memory_order_relaxed))
        return mdn_fail(err, MDN_CALLBACK, "interrupted");
    return self->inner->next(self->inner, out, err);
}

static void
watched_rewind(mdn_metadata_stream *stream)
{
    watched_stream *self = (watched_stream *)stream;

    self->inner->rewind(self->inner);
}

static void
watched_free(mdn_metadata_stream *stream)
{
    watched_stream *self = (watched_stream *)stream;

    self->inner->free(self->inner);
    free(self);
}

mdn_status
mdn_metadata_watched(mdn_metadata_stream *inner, const mdn_pulse *pulse,
                     atomic_bool *ended, mdn_metadata_stream **out,
                     mdn_error *err)
{
    watched_stream *self = malloc(sizeof *self);

    *out = NULL;
    if (self == NULL) {
        inner->free(inner);
        return mdn_fail_nomem(err, sizeof *self);
    }
    *self = (watched_stream){
        .base = {.count = inner->count,
                 .next = watched_next,
                 .rewind = watched_rewind,
                 .free = watched_free},
        .inner = inner,
        .beat = {.pulse = pulse},
        .ended = ended,
    };
    *out = &self->base;
    return MDN_OK;
}
