/* filter.c - what is kept of each block is copied into arrays of our own.
 *
 * Labels are few and small as a rule: those below 1024 are looked up in a
 * bitmap, the others by halving. */
#include "metadata/filter.h"

#include "base/bytes.h"

#include <stdlib.h>

#define SMALL 1024

typedef struct {
    mdn_metadata_stream base;   /* first: a stream is a filter_stream */
    mdn_metadata_stream *inner; /* owned */
    mdn_filter filter;
    int64_t *wanted;            /* owned: the labels of the filter */
    uint64_t small[SMALL / 64]; /* bit l: label l is wanted */
    uint64_t first, position;   /* of inner's next sample, without gaps */
    /* Owned, `room` of each; kept samples of the block at hand. */
    uint64_t room;
    uint64_t *keys, *positions;
    int64_t *timestamps, *labels;
} filter_stream;

static bool
has_label(const int64_t *labels, uint64_t count, int64_t label)
{
    uint64_t from = 0;

    while (count > 0) {
        uint64_t half = count / 2;

        if (labels[from + half] < label) {
            from += half + 1;
            count -= half + 1;
        } else
            count = half;
    }
    return labels[from] == label;
}

static bool
in_time(const mdn_filter *filter, int64_t timestamp)
{
    return (!filter->has_start || timestamp >= filter->start)
           && (!filter->has_stop || timestamp < filter->stop);
}

bool
mdn_filter_keeps(const mdn_filter *filter, int64_t timestamp, int64_t label)
{
    if (!in_time(filter, timestamp))
        return false;
    return !filter->by_label
           || (filter->label_count > 0
               && label <= filter->labels[filter->label_count - 1]
               && has_label(filter->labels, filter->label_count, label));
}

static bool
is_wanted(const filter_stream *s, int64_t label)
{
    if ((uint64_t)label < SMALL)
        return s->small[label / 64] >> (label % 64) & 1;
    return s->filter.label_count > 0
           && label <= s->wanted[s->filter.label_count - 1]
           && has_label(s->wanted, s->filter.label_count, label);
}

static bool
keeps(const filter_stream *s, const mdn_metadata_block *block, uint64_t i)
{
    return ((!s->filter.has_start && !s->filter.has_stop)
            || in_time(&s->filter, block->timestamps[i]))
           && (!s->filter.by_label || is_wanted(s, block->labels[i]));
}

static mdn_status
make_room(filter_stream *s, uint64_t count, mdn_error *err)
{
    uint64_t size;

    if (count <= s->room)
        return MDN_OK;
    if (mdn_mul_overflows(count, 8, &size))
        return mdn_fail_nomem(err, UINT64_MAX);
    free(s->keys);
    free(s->positions);
    free(s->timestamps);
    free(s->labels);
    s->keys = malloc(size);
    s->positions = malloc(size);
    s->timestamps = malloc(size);
    s->labels = malloc(size);
    s->room = 0;
    if (!s->keys || !s->positions || !s->timestamps || !s->labels)
        return mdn_fail_nomem(err, 4 * size);
    s->room = count;
    return MDN_OK;
}

static mdn_status
check_columns(const filter_stream *s, const mdn_metadata_block *block,
              mdn_error *err)
{
    if ((s->filter.has_start || s->filter.has_stop)
        && block->timestamps == NULL)
        return mdn_fail(err, MDN_INVALID,
                        "the samples have no timestamps to choose by");
    if (s->filter.by_label && block->labels == NULL)
        return mdn_fail(err, MDN_INVALID,
                        "the samples have no labels to choose by");
    return MDN_OK;
}

/* Copy what is kept, and say how many those are. */
static uint64_t
keep(filter_stream *s, const mdn_metadata_block *block)
{
    uint64_t n = 0;

    for (uint64_t i = 0; i < block->count; i++) {
        s->keys[n] = block->keys[i];
        s->positions[n] =
            block->positions ? block->positions[i] : s->position + i + 1;
        if (block->timestamps != NULL)
            s->timestamps[n] = block->timestamps[i];
        if (block->labels != NULL)
            s->labels[n] = block->labels[i];
        n += keeps(s, block, i);
    }
    s->position = block->positions ? block->positions[block->count - 1]
                                   : s->position + block->count;
    return n;
}

static mdn_status
filter_next(mdn_metadata_stream *stream, mdn_metadata_block *out,
            mdn_error *err)
{
    filter_stream *s = (filter_stream *)stream;
    mdn_metadata_block block;
    mdn_status st;

    *out = (mdn_metadata_block){.count = 0};
    while (out->count == 0) {
        if ((st = s->inner->next(s->inner, &block, err)) != MDN_OK
            || block.count == 0)
            return st;
        if ((st = check_columns(s, &block, err)) != MDN_OK
            || (st = make_room(s, block.count, err)) != MDN_OK)
            return st;
        out->count = keep(s, &block);
    }
    out->keys = s->keys;
    out->positions = s->positions;
    out->timestamps = block.timestamps ? s->timestamps : NULL;
    out->labels = block.labels ? s->labels : NULL;
    return MDN_OK;
}

static void
filter_rewind(mdn_metadata_stream *stream)
{
    filter_stream *s = (filter_stream *)stream;

    s->inner->rewind(s->inner);
    s->position = s->first;
}

static void
filter_free(mdn_metadata_stream *stream)
{
    filter_stream *s = (filter_stream *)stream;

    s->inner->free(s->inner);
    free(s->wanted);
    free(s->keys);
    free(s->positions);
    free(s->timestamps);
    free(s->labels);
    free(s);
}

static mdn_status
copy_labels(filter_stream *s, const mdn_filter *filter, mdn_error *err)
{
    uint64_t size, count = filter->by_label ? filter->label_count : 0;

    s->filter.label_count = count;
    if (count == 0)
        return MDN_OK;
    if (mdn_mul_overflows(count, sizeof *s->wanted, &size))
        return mdn_fail_nomem(err, UINT64_MAX);
    if ((s->wanted = malloc(size)) == NULL)
        return mdn_fail_nomem(err, size);
    memcpy(s->wanted, filter->labels, size);
    s->filter.labels = s->wanted;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t label = (uint64_t)filter->labels[i];

        if (label < SMALL)
            s->small[label / 64] |= UINT64_C(1) << (label % 64);
    }
    return MDN_OK;
}

mdn_status
mdn_filter_stream(mdn_metadata_stream *inner, uint64_t first,
                  const mdn_filter *filter, mdn_metadata_stream **out,
                  mdn_error *err)
{
    filter_stream *s = calloc(1, sizeof *s);
    mdn_status st;

    *out = NULL;
    if (s == NULL) {
        inner->free(inner);
        return mdn_fail_nomem(err, sizeof *s);
    }
    s->base = (mdn_metadata_stream){.count = inner->count,
                                    .next = filter_next,
                                    .rewind = filter_rewind,
                                    .free = filter_free};
    s->inner = inner;
    s->filter = *filter;
    s->filter.labels = NULL;
    s->first = s->position = first;
    if ((st = copy_labels(s, filter, err)) != MDN_OK) {
        filter_free(&s->base);
        return st;
    }
    *out = &s->base;
    return MDN_OK;
}

mdn_status
mdn_filter_count(mdn_metadata_stream *stream, uint64_t *out, mdn_error *err)
{
    mdn_metadata_block block;
    uint64_t count = 0;
    mdn_status st;

    stream->rewind(stream);
    while ((st = stream->next(stream, &block, err)) == MDN_OK
           && block.count > 0)
        count += block.count;
    if (st == MDN_OK)
        *out = count;
    return st;
}
