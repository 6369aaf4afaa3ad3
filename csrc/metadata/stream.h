/* stream.h - sample metadata as a sequence of blocks, wherever it lies.
 *
 * A metadata stream yields (key, timestamp, label) columns, block by block and
 * in bounded memory; samplers and the orchestrator read nothing else.  The
 * first source is a dataset's own columns (below); Postgres is another. */
#ifndef MDN_METADATA_STREAM_H
#define MDN_METADATA_STREAM_H

#include "base/error.h"
#include "storage/view.h"

#include <stdbool.h>
#include <stdint.h>

/* A block is valid until the next call on its stream, or longer: hold(). */
typedef struct {
    uint64_t count; /* 0: the stream has ended */
    const uint64_t *keys;
    const int64_t *timestamps;
    const int64_t *labels; /* NULL without labels */
    /* Where the stream is behind each sample, if some positions of it hold no
     * sample any more; NULL: one further with each. */
    const uint64_t *positions;
} mdn_metadata_block;

/* An interface, filled in by its source.  For one thread at a time. */
typedef struct mdn_metadata_stream mdn_metadata_stream;
struct mdn_metadata_stream {
    uint64_t count; /* samples in the whole stream */
    bool in_place;  /* columns of blocks are where they lie, and stay there */
    mdn_status (*next)(mdn_metadata_stream *stream, mdn_metadata_block *out,
                       mdn_error *err);
    void (*rewind)(mdn_metadata_stream *stream); /* next() starts over */
    /* Before the first next(): each block is to stay valid for so many more
     * calls of it.  NULL where it cannot; MDN_NOMEM, and then it does not. */
    mdn_status (*hold)(mdn_metadata_stream *stream, uint64_t calls,
                       mdn_error *err);
    void (*free)(mdn_metadata_stream *stream);
};

/* Positions first .. last-1 of a view in stream order.  order holds the keys
 * in stream order (borrowed; must outlive the stream), or is NULL when stream
 * order is arrival order.  Blocks have block_count samples at most.  Erased
 * samples are left out, and do not count.  Retains the view. */
mdn_status mdn_metadata_from_view(mdn_view *view, const uint64_t *order,
                                  uint64_t first, uint64_t last,
                                  uint64_t block_count,
                                  mdn_metadata_stream **out, mdn_error *err);

/* Columns in memory, of count samples each (borrowed; must outlive the
 * stream).  timestamps may be NULL for readers that look at keys and labels
 * only (samplers), labels when there are none; blocks then hold NULL there.
 * Blocks have block_count samples, the last fewer; they are views, no copies.
 */
mdn_status mdn_metadata_from_arrays(const uint64_t *keys,
                                    const int64_t *timestamps,
                                    const int64_t *labels, uint64_t count,
                                    uint64_t block_count,
                                    mdn_metadata_stream **out, mdn_error *err);

#endif
