/* stream.c - the metadata stream of a view.
 *
 * In arrival order a block is a slice of the mapped columns, without a copy of
 * anything but its keys; in any other order timestamps and labels are gathered
 * by key into the stream's own arrays. */
#include "metadata/stream.h"

#include "base/bytes.h"

#include <stdlib.h>

typedef struct {
    mdn_metadata_stream base; /* first: a stream is a view_stream */
    mdn_view *view;           /* one reference */
    const uint64_t *order;    /* borrowed; NULL for arrival order */
    uint64_t first, last, next;
    uint64_t block_count;
    uint64_t *keys;               /* owned; block_count, in arrival order */
    int64_t *timestamps, *labels; /* owned; block_count, in another order */
} view_stream;

static mdn_status
slice_block(view_stream *s, uint64_t count, mdn_metadata_block *out,
            mdn_error *err)
{
    for (uint64_t i = 0; i < count; i++)
        s->keys[i] = s->next + i;
    out->keys = s->keys;
    return mdn_view_columns(s->view, s->next, count, &out->timestamps,
                            &out->labels, err);
}

static mdn_status
gather_block(view_stream *s, uint64_t count, mdn_metadata_block *out,
             mdn_error *err)
{
    out->keys = s->order + s->next;
    out->timestamps = s->timestamps;
    out->labels = s->labels;
    return mdn_view_fetch(s->view, out->keys, count, NULL, 0, s->labels,
                          s->timestamps, 1, err);
}

static mdn_status
stream_next(mdn_metadata_stream *stream, mdn_metadata_block *out,
            mdn_error *err)
{
    view_stream *s = (view_stream *)stream;
    uint64_t left = s->last - s->next;
    uint64_t count = left < s->block_count ? left : s->block_count;
    mdn_status st;

    *out = (mdn_metadata_block){.count = 0};
    if (count == 0)
        return MDN_OK;
    st = s->order == NULL ? slice_block(s, count, out, err)
                          : gather_block(s, count, out, err);
    if (st != MDN_OK) {
        *out = (mdn_metadata_block){.count = 0};
        return st;
    }
    out->count = count;
    s->next += count;
    return MDN_OK;
}

static void
stream_rewind(mdn_metadata_stream *stream)
{
    view_stream *s = (view_stream *)stream;

    s->next = s->first;
}

static void
stream_free(mdn_metadata_stream *stream)
{
    view_stream *s = (view_stream *)stream;

    mdn_view_release(s->view);
    free(s->keys);
    free(s->timestamps);
    free(s->labels);
    free(s);
}

/* The arrays of one block. */
static mdn_status
allocate(view_stream *s, mdn_error *err)
{
    uint64_t size;

    if (mdn_mul_overflows(s->block_count, 8, &size))
        return mdn_fail_nomem(err, UINT64_MAX);
    if (s->order == NULL) {
        s->keys = malloc(size);
        return s->keys ? MDN_OK : mdn_fail_nomem(err, size);
    }
    s->timestamps = malloc(size);
    if (mdn_view_has_labels(s->view))
        s->labels = malloc(size);
    if (!s->timestamps || (mdn_view_has_labels(s->view) && !s->labels))
        return mdn_fail_nomem(err, size);
    return MDN_OK;
}

mdn_status
mdn_metadata_from_view(mdn_view *view, const uint64_t *order, uint64_t first,
                       uint64_t last, uint64_t block_count,
                       mdn_metadata_stream **out, mdn_error *err)
{
    view_stream *s;
    mdn_status st;

    *out = NULL;
    if (first > last || last > mdn_view_count(view) || block_count == 0)
        return mdn_fail(err, MDN_INVALID,
                        "positions %llu to %llu in blocks of %llu; the view "
                        "has %llu samples",
                        (unsigned long long)first, (unsigned long long)last,
                        (unsigned long long)block_count,
                        (unsigned long long)mdn_view_count(view));
    if ((s = calloc(1, sizeof *s)) == NULL)
        return mdn_fail_nomem(err, sizeof *s);
    s->base = (mdn_metadata_stream){.count = last - first,
                                    .next = stream_next,
                                    .rewind = stream_rewind,
                                    .free = stream_free};
    s->view = mdn_view_retain(view);
    s->order = order;
    s->first = s->next = first;
    s->last = last;
    s->block_count = block_count < last - first ? block_count : last - first;
    if (s->block_count == 0)
        s->block_count = 1;
    if ((st = allocate(s, err)) != MDN_OK) {
        stream_free(&s->base);
        return st;
    }
    *out = &s->base;
    return MDN_OK;
}
