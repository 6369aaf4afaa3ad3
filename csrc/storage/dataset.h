/* dataset.h - a growing collection of samples in a directory.
 *
 * A handle is for one thread at a time; the views it gives are for all.  One
 * handle in one process may write (the lock file says who), any number read.
 * The io table must outlive the handle and its views.
 *
 *     mdn_dataset_create / open          a handle
 *     mdn_dataset_append                 one batch, all or nothing, durable
 *     mdn_dataset_erase                  samples that nobody is to see again
 *     mdn_dataset_refresh                see what others committed since
 *     mdn_dataset_view                   the samples as of now, counted
 *     mdn_dataset_close                  ends the handle, not its views */
#ifndef MDN_STORAGE_DATASET_H
#define MDN_STORAGE_DATASET_H

#include "base/io.h"
#include "base/pulse.h"
#include "storage/journal.h"
#include "storage/view.h"

typedef struct mdn_dataset mdn_dataset;

typedef struct {
    const char *schema; /* text form; see schema.h */
    mdn_time_unit time_unit;
    bool has_labels;
    bool compressed;        /* payloads by zstd; only with bytes fields */
    uint32_t segment_shift; /* records per segment are 2^shift; 0: chosen from
                               the record size; 13 .. 30 otherwise */
} mdn_dataset_options;

/* Make the directory and an empty dataset in it, open for writing.  MDN_IO
 * with EEXIST when there is one already: nothing is touched then. */
mdn_status mdn_dataset_create(const mdn_io *io, const char *path,
                              const mdn_dataset_options *options,
                              mdn_dataset **out, mdn_error *err);

/* Open for reading, or for writing: then a torn tail is cut.  MDN_BUSY names
 * the process that writes already. */
mdn_status mdn_dataset_open(const mdn_io *io, const char *path, bool writable,
                            mdn_dataset **out, mdn_error *err);

/* One column of an append: contiguous little-endian values in C order.  For a
 * bytes field, values holds all payloads and offsets count + 1 ends. */
typedef struct {
    const void *values;
    const int64_t *offsets;
} mdn_column;

/* Append count samples; columns in schema order.  On MDN_OK the batch is
 * durable and *first_key is its first key.  On failure nothing of it is ever
 * seen, with one exception: when the sync of the commit itself failed and the
 * commit could not be taken back, nobody knows, and the message says so.
 * After a failed write (a full disk) the handle can go on; after a failed sync
 * it refuses to write: open it again. */
mdn_status mdn_dataset_append(mdn_dataset *dataset, uint64_t count,
                              const mdn_column *columns, const int64_t *labels,
                              const int64_t *timestamps, uint64_t *first_key,
                              mdn_error *err);

/* The same, and with it, in one commit, an entry of the journal `sources`:
 * where the samples came from.  count may be 0 then.  source NULL: none. */
#define MDN_SOURCE_TAKEN 1
mdn_status mdn_dataset_append_from(mdn_dataset *dataset, uint64_t count,
                                   const mdn_column *columns,
                                   const int64_t *labels,
                                   const int64_t *timestamps,
                                   const void *source, uint64_t source_size,
                                   uint64_t *first_key, mdn_error *err);

/* What appends ask all along, so that they can be stopped: nothing of the
 * batch is there then.  Borrowed until it is set again; NULL for none. */
void mdn_dataset_set_pulse(mdn_dataset *dataset, const mdn_pulse *pulse);

/* Visit the entries of a journal, as of the current view, oldest first. */
mdn_status mdn_dataset_journal(const mdn_dataset *dataset,
                               mdn_journal_kind which, mdn_journal_visit visit,
                               void *ctx, mdn_error *err);

/* Erase samples: keys strictly ascending.  From when this returns they are in
 * no view made later, here or in any process; who and why go into the journal
 * `events`.  *erased is how many were not erased before.  MDN_NO_KEY for a key
 * that was never given; nothing is erased then. */
mdn_status mdn_dataset_erase(mdn_dataset *dataset, const uint64_t *keys,
                             uint64_t count, const char *who, const char *why,
                             uint64_t *erased, mdn_error *err);

/* See what was committed since; *grown says whether anything was. */
mdn_status mdn_dataset_refresh(mdn_dataset *dataset, bool *grown,
                               mdn_error *err);

/* One reference to the current view.  MDN_CLOSED after close. */
mdn_status mdn_dataset_view(mdn_dataset *dataset, mdn_view **out,
                            mdn_error *err);

void mdn_dataset_close(mdn_dataset *dataset); /* any number of times */
void mdn_dataset_free(mdn_dataset *dataset);  /* closes; accepts NULL */

#endif
