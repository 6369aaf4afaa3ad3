/* segment.h - the writer's side of segments.
 *
 * A writer puts rows behind the rows that are committed and makes them
 * durable.  It commits nothing: the tail it hands out says what there would be
 * once the manifest says so. */
#ifndef MDN_STORAGE_SEGMENT_H
#define MDN_STORAGE_SEGMENT_H

#include "base/file.h"
#include "base/pulse.h"
#include "storage/dataset.h"
#include "storage/layout.h"

typedef struct mdn_writer mdn_writer;

/* directory, layout and schema are borrowed and must outlive the writer.  The
 * files of the last segment of tail, which are of this generation, are opened
 * and their sizes checked. */
mdn_status mdn_writer_open(const mdn_io *io, const char *directory,
                           const mdn_layout *layout, const mdn_schema *schema,
                           const mdn_tail *tail, uint64_t generation,
                           mdn_writer **out, mdn_error *err);
void mdn_writer_close(mdn_writer *writer); /* frees; accepts NULL */

/* Write count >= 1 samples behind *tail and sync them.  On success *tail has
 * moved behind them.  On failure it has not and the next call may try again,
 * except after a failed sync, when every call is refused. */
mdn_status mdn_writer_put(mdn_writer *writer, uint64_t count,
                          const mdn_column *columns, const int64_t *labels,
                          const int64_t *timestamps, mdn_tail *tail,
                          mdn_error *err);

/* Close the files; the next put opens those it needs. */
void mdn_writer_rest(mdn_writer *writer);
/* What puts ask between chunks; NULL for none.  Borrowed until the next. */
void mdn_writer_set_pulse(mdn_writer *writer, const mdn_pulse *pulse);

/* After this every put is refused: something could not be synced. */
void mdn_writer_break(mdn_writer *writer);
/* MDN_CLOSED if that was so. */
mdn_status mdn_writer_check(const mdn_writer *writer, mdn_error *err);

#endif
