/* source.h - a stream of samples that can be opened again and again, anywhere.
 *
 * A metadata stream (stream.h) is read once, in blocks.  A source is what such
 * streams come from when the samples lie in a database: whoever holds one opens
 * the part between two positions, as often as needed and from several threads.
 *
 * A source crosses from modyn._postgres, which makes it, to modyn._core, which
 * reads it, in a capsule of this name: */
#ifndef MDN_METADATA_SOURCE_H
#define MDN_METADATA_SOURCE_H

#include "base/error.h"
#include "base/pulse.h"
#include "metadata/stream.h"

#include <stdbool.h>
#include <stdint.h>

#define MDN_SOURCE_CAPSULE "modyn.metadata.source.2"

/* What a reader looks at besides the keys: what nobody wants is not sent. */
typedef enum {
    MDN_WANT_KEYS = 0,
    MDN_WANT_TIMESTAMPS = 1,
    MDN_WANT_LABELS = 2, /* where there are some */
    MDN_WANT_ALL = 3,
} mdn_wanted;

/* An interface, filled in by its maker.  All of it may be called from any
 * thread, several at a time, without the GIL.  Who waits for a server waits in
 * slices; between two of them the pulse (if not NULL; borrowed, for as long as
 * the stream lives) is asked, on the thread that called, and what it returns
 * other than MDN_OK ends the wait. */
typedef struct mdn_metadata_source mdn_metadata_source;
struct mdn_metadata_source {
    uint64_t count; /* positions of the whole stream */
    bool has_labels;
    /* Samples at positions first .. last-1 that a stream of them would hold. */
    mdn_status (*living)(mdn_metadata_source *source, uint64_t first,
                         uint64_t last, const mdn_pulse *pulse, uint64_t *out,
                         mdn_error *err);
    /* The stream of them, in stream order, in blocks of block_count at most.
     * Nothing is asked of a server before the first next().  Positions that
     * hold no sample any more, or none that was asked for, are left out, and
     * blocks then say their positions; the stream's count is no less than what
     * it holds.  Columns that are not wanted are NULL in its blocks. */
    mdn_status (*open)(mdn_metadata_source *source, uint64_t first,
                       uint64_t last, uint64_t block_count, mdn_wanted wanted,
                       const mdn_pulse *pulse, mdn_metadata_stream **out,
                       mdn_error *err);
    mdn_metadata_source *(*retain)(mdn_metadata_source *source);
    void (*release)(mdn_metadata_source *source); /* accepts its last one */
};

#endif
