/* stream.c - the metadata stream of a view.
 *
 * In arrival order a block is a slice of the mapped columns, without a copy of
 * anything but its keys; in any other order, and where samples are erased,
 * timestamps and labels are gathered by key into the stream's own arrays. */
#include "metadata/stream.h"

#include "base/bytes.h"

#include <stdbool.h>
#include <stdlib.h>

typedef struct {
    mdn_metadata_stream base; /* first: a stream is a view_stream */
    mdn_view *view;           /* one reference */
    const uint64_t *order;    /* borrowed; NULL for arrival order */
    uint64_t first, last, next;
    uint64_t block_count;
    bool erased; /* samples of the view are: look at each */
    /* Owned, block_count of each in a set, a block in each set in turn; NULL
     * where blocks are slices of something. */
    uint64_t *keys, *positions;
    int64_t *timestamps, *labels;
    uint64_t sets, set;
} view_stream;

static uint64_t
key_at(const view_stream *s, uint64_t position)
{
    return s->order == NULL ? position : s->order[position];
}

/* Keys of the next positions: a slice of the order, or put down. */
static const uint64_t *
next_keys(const view_stream *s, uint64_t *keys, uint64_t count)
{
    if (s->order != NULL)
        return s->order + s->next;
    for (uint64_t i = 0; i < count; i++)
        keys[i] = s->next + i;
    return keys;
}

/* The same without those that are erased; *count becomes how many are left.
 * A position beyond the view stays: fetching it says what is wrong. */
static const uint64_t *
living_keys(const view_stream *s, uint64_t *keys, uint64_t *positions,
            uint64_t *count)
{
    uint64_t have = mdn_view_count(s->view), n = 0;

    for (uint64_t i = 0; i < *count; i++) {
        uint64_t key = key_at(s, s->next + i);

        if (key >= have || !mdn_view_is_erased(s->view, key)) {
            positions[n] = s->next + i + 1;
            keys[n++] = key;
        }
    }
    *count = n;
    return keys;
}

static mdn_status
fill_block(view_stream *s, uint64_t positions, mdn_metadata_block *out,
           mdn_error *err)
{
    uint64_t at = s->set * s->block_count;
    uint64_t *keys = s->keys ? s->keys + at : NULL;

    out->count = positions;
    if (s->erased) {
        out->positions = s->positions + at;
        out->keys = living_keys(s, keys, s->positions + at, &out->count);
    } else {
        out->keys = next_keys(s, keys, positions);
    }
    if (s->order == NULL && !s->erased)
        return mdn_view_columns(s->view, s->next, positions, &out->timestamps,
                                &out->labels, err);
    out->timestamps = s->timestamps + at;
    out->labels = s->labels ? s->labels + at : NULL;
    return mdn_view_fetch(s->view, out->keys, out->count, NULL, 0,
                          s->labels ? s->labels + at : NULL, s->timestamps + at,
                          1, err);
}

static mdn_status
stream_next(mdn_metadata_stream *stream, mdn_metadata_block *out,
            mdn_error *err)
{
    view_stream *s = (view_stream *)stream;
    mdn_status st = MDN_OK;

    *out = (mdn_metadata_block){.count = 0};
    s->set = (s->set + 1) % s->sets;
    while (st == MDN_OK && out->count == 0 && s->next < s->last) {
        uint64_t left = s->last - s->next;
        uint64_t count = left < s->block_count ? left : s->block_count;

        st = fill_block(s, count, out, err);
        if (st == MDN_OK)
            s->next += count;
    }
    if (st != MDN_OK || out->count == 0)
        *out = (mdn_metadata_block){.count = 0};
    return st;
}

static void
stream_rewind(mdn_metadata_stream *stream)
{
    view_stream *s = (view_stream *)stream;

    s->next = s->first;
}

static void
free_sets(view_stream *s)
{
    free(s->keys);
    free(s->positions);
    free(s->timestamps);
    free(s->labels);
    s->keys = s->positions = NULL;
    s->timestamps = s->labels = NULL;
}

static void
stream_free(mdn_metadata_stream *stream)
{
    view_stream *s = (view_stream *)stream;

    mdn_view_release(s->view);
    free_sets(s);
    free(s);
}

/* The arrays of so many blocks. */
static mdn_status
allocate(view_stream *s, uint64_t sets, mdn_error *err)
{
    bool gathers = s->order != NULL || s->erased;
    bool labels = gathers && mdn_view_has_labels(s->view);
    uint64_t count, size;

    s->sets = sets;
    s->set = 0;
    if (mdn_mul_overflows(s->block_count, sets, &count)
        || mdn_mul_overflows(count, 8, &size))
        return mdn_fail_nomem(err, UINT64_MAX);
    if (s->order == NULL || s->erased)
        s->keys = malloc(size);
    if (s->erased)
        s->positions = malloc(size);
    if (gathers)
        s->timestamps = malloc(size);
    if (labels)
        s->labels = malloc(size);
    if (((s->order == NULL || s->erased) && !s->keys)
        || (s->erased && !s->positions) || (gathers && !s->timestamps)
        || (labels && !s->labels))
        return mdn_fail_nomem(err, size);
    return MDN_OK;
}

static mdn_status
stream_hold(mdn_metadata_stream *stream, uint64_t calls, mdn_error *err)
{
    view_stream *s = (view_stream *)stream;
    view_stream before = *s;
    mdn_status st;

    s->keys = s->positions = NULL;
    s->timestamps = s->labels = NULL;
    if ((st = allocate(s, calls + 1, err)) == MDN_OK) {
        free_sets(&before);
        return MDN_OK;
    }
    free_sets(s);
    *s = before;
    return st;
}

static uint64_t
living_count(const view_stream *s)
{
    uint64_t have = mdn_view_count(s->view), count = s->last - s->first;

    if (s->order == NULL)
        return count - mdn_view_erased_between(s->view, s->first, count);
    for (uint64_t i = s->first; i < s->last; i++) {
        if (s->order[i] < have && mdn_view_is_erased(s->view, s->order[i]))
            count--;
    }
    return count;
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
                                    .hold = stream_hold,
                                    .free = stream_free};
    s->view = mdn_view_retain(view);
    s->order = order;
    s->first = s->next = first;
    s->last = last;
    s->block_count = block_count < last - first ? block_count : last - first;
    if (s->block_count == 0)
        s->block_count = 1;
    s->erased = mdn_view_erased_count(view) > 0;
    if (s->erased)
        s->base.count = living_count(s);
    s->base.in_place = order == NULL && !s->erased;
    if ((st = allocate(s, 1, err)) != MDN_OK) {
        stream_free(&s->base);
        return st;
    }
    *out = &s->base;
    return MDN_OK;
}
