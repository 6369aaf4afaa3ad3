/* watched.h - a stream that can be ended from outside.
 *
 * For the streams of one piece of work, each read by a thread of its own: the
 * one that has the pulse asks it, and when that says to end, all end at their
 * next block. */
#ifndef MDN_METADATA_WATCHED_H
#define MDN_METADATA_WATCHED_H

#include "base/pulse.h"
#include "metadata/stream.h"

#include <stdatomic.h>

/* pulse: borrowed; NULL for streams that another thread reads than the one
 * that may ask.  ended: borrowed, shared by the streams of the work, false at
 * first.  Takes over inner, also when it fails; MDN_NOMEM. */
mdn_status mdn_metadata_watched(mdn_metadata_stream *inner,
                                const mdn_pulse *pulse, atomic_bool *ended,
                                mdn_metadata_stream **out, mdn_error *err);

#endif
