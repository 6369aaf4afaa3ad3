/* handle.h - a dataset's handle from the inside, for the files that write.
 *
 * dataset.c opens, appends and refreshes; create.c, erase.c and compact.c do
 * what their names say.  All that changes a dataset ends in the same way:
 *
 *     content is written and synced
 *     mdn_handle_prepare   what there would be to see: history, store, view
 *     mdn_handle_commit    one record of the manifest, and the view is shown */
#ifndef MDN_STORAGE_HANDLE_H
#define MDN_STORAGE_HANDLE_H

#include "base/file.h"
#include "storage/dataset.h"
#include "storage/history.h"
#include "storage/journal.h"
#include "storage/manifest.h"
#include "storage/segment.h"
#include "storage/verify.h"

struct mdn_dataset {
    const mdn_io *io; /* borrowed */
    char *path;       /* owned */
    bool writable, closed;
    pid_t pid; /* a forked child does not write */
    mdn_file lock;
    mdn_manifest manifest;
    mdn_schema *schema;
    mdn_layout layout;
    mdn_writer *writer; /* NULL for a reader */
    mdn_journal journals[MDN_JOURNALS];
    mdn_history *history; /* of the current view */
    mdn_store *store;     /* of the current view */
    mdn_view *view;
};

/* A handle without files; *out is to be freed by mdn_dataset_free. */
mdn_status mdn_handle_new(const mdn_io *io, const char *path, bool writable,
                          mdn_dataset **out, mdn_error *err);
mdn_status mdn_handle_lock(mdn_dataset *dataset, mdn_error *err);
/* Read what is there; a writer has the lock already, and cleans up. */
mdn_status mdn_handle_start(mdn_dataset *dataset, mdn_error *err);

mdn_status mdn_handle_check_open(const mdn_dataset *dataset, mdn_error *err);
mdn_status mdn_handle_check_writable(const mdn_dataset *dataset,
                                     mdn_error *err);
/* A writer with its files open behind tail. */
mdn_status mdn_handle_make_writer(mdn_dataset *dataset,
                                  const mdn_history *history,
                                  const mdn_tail *tail, mdn_writer **out,
                                  mdn_error *err);

/* Append an entry to a journal; a handle that cannot know what is in it writes
 * no more. */
mdn_status mdn_handle_note(mdn_dataset *dataset, mdn_journal_kind which,
                           uint32_t kind, const void *payload, uint64_t size,
                           mdn_tail *tail, mdn_error *err);

/* What a commit will show.  Everything that can fail is done before it. */
typedef struct {
    mdn_tail tail;
    mdn_history *history;
    mdn_store *store;
    mdn_view *view;
} mdn_next;

/* Fill in all but the tail, which is given; tail's events are in the file. */
mdn_status mdn_handle_prepare(mdn_dataset *dataset, mdn_next *next,
                              mdn_error *err);
void mdn_handle_drop(mdn_next *next); /* accepts what is half filled in */
/* Show it; it is emptied. */
void mdn_handle_show(mdn_dataset *dataset, mdn_next *next);
/* Commit and show; on failure it is dropped, and a handle that cannot know
 * what stands in the manifest writes no more. */
mdn_status mdn_handle_commit(mdn_dataset *dataset, mdn_next *next,
                             mdn_error *err);

#endif
