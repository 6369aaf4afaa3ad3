/* filter.h - a metadata stream without the samples that nobody asked for.
 *
 *     mdn_filter_stream   the samples of a time and of some labels
 *     mdn_filter_count    how many those are, by a pass over them */
#ifndef MDN_METADATA_FILTER_H
#define MDN_METADATA_FILTER_H

#include "metadata/stream.h"

#include <stdbool.h>

/* A sample is kept if its timestamp is start <= t < stop and its label is one
 * of these. */
typedef struct {
    bool has_start, has_stop; /* else unbounded at that end */
    int64_t start, stop;
    bool by_label; /* else any label, or none */
    uint64_t label_count;
    const int64_t *labels; /* ascending, each once */
} mdn_filter;

bool mdn_filter_keeps(const mdn_filter *filter, int64_t timestamp,
                      int64_t label);

/* What filter keeps of inner, whose first sample stands at position `first` of
 * its own stream; blocks say their positions.  Its count is that of inner: no
 * more samples than that.  Takes inner over, also when it fails; the filter is
 * copied.  next() is MDN_INVALID where inner has no timestamps, or no labels,
 * and the filter looks at them. */
mdn_status mdn_filter_stream(mdn_metadata_stream *inner, uint64_t first,
                             const mdn_filter *filter,
                             mdn_metadata_stream **out, mdn_error *err);

/* The samples of a stream from its start, by reading it. */
mdn_status mdn_filter_count(mdn_metadata_stream *stream, uint64_t *out,
                            mdn_error *err);

#endif
