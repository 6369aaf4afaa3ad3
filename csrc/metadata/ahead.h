/* ahead.h - a stream whose next blocks are read while one is looked at.
 *
 * A thread reads; what it read is handed out in order, errors too, each at the
 * block that failed, so that nobody sees a difference but in time.  The thread
 * begins with the first next() and ends with the stream, with an error, or with
 * free() and rewind(), which wait for the pulse of the stream that is read to
 * be asked, at most.  It takes no signals.
 *
 * Where blocks are mapped columns there is little to read, as long as they are
 * in memory: then nobody reads ahead until a block has taken long.  Nor does
 * anybody where all is one block, or where blocks are very large.
 *
 * In the child of a fork, which has no thread, the stream is opened anew at the
 * position where it was. */
#ifndef MDN_METADATA_AHEAD_H
#define MDN_METADATA_AHEAD_H

#include "base/pulse.h"
#include "metadata/stream.h"

#define MDN_METADATA_AHEAD_MAX (UINT64_C(1) << 20) /* samples of a block */

/* How the stream to read is opened: its samples from a position on.  The pulse
 * is to be asked while it waits, on whatever thread that is. */
typedef struct {
    mdn_status (*open)(void *ctx, uint64_t first, const mdn_pulse *pulse,
                       mdn_metadata_stream **out, mdn_error *err);
    void *ctx; /* borrowed; must outlive the stream */
} mdn_metadata_opening;

/* Opened at once.  The pulse (borrowed, or NULL) is asked while next() waits,
 * and on its thread; what it returns other than MDN_OK ends the wait, and the
 * next call waits on: nothing that was read is lost.  Fails as open does, and
 * with MDN_NOMEM. */
mdn_status mdn_metadata_ahead(const mdn_metadata_opening *opening,
                              uint64_t first, uint64_t block_count,
                              const mdn_pulse *pulse, mdn_metadata_stream **out,
                              mdn_error *err);

#endif
