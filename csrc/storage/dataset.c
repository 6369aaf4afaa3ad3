/* dataset.c - the handle: who may write, what is committed, the current view.
 *
 *     <directory>/manifest     the commits: manifest.c
 *     <directory>/lock         who writes
 *     <directory>/NNNNNN.seg   records: segment.c writes, store.c maps
 *     <directory>/NNNNNN.col   their columns and checksums: columns.c
 *
 * An append writes and syncs the rows, then commits them in the manifest, then
 * shows them in a new view.  What can fail for want of memory is done before
 * the commit. */
#include "storage/handle.h"

#include "storage/columns.h"
#include "storage/compact.h"
#include "storage/link.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NOTE_SIZE 256 /* of the lock file */
/* Room of the first store, in segments beyond twice those that are there. */
#define SPARE_SEGMENTS 6
#define LOOKS 8 /* at a dataset that is compacted again and again */

/* The lock. */

static void
describe_writer(const mdn_file *lock, char out[NOTE_SIZE])
{
    int64_t got =
        lock->io->pread(lock->io->self, lock->fd, out, NOTE_SIZE - 1, 0);
    char *end;

    out[got > 0 ? got : 0] = '\0';
    for (end = out; *end >= ' ' && *end <= '~'; end++)
        ;
    *end = '\0';
}

/* For people; the lock itself is what counts, so that a full disk is no
 * reason to fail here. */
static void
write_note(mdn_file *lock)
{
    char note[NOTE_SIZE], host[65] = "", since[32] = "";
    time_t now = time(NULL);
    struct tm utc;
    int size;

    gethostname(host, sizeof host - 1);
    if (gmtime_r(&now, &utc) != NULL)
        strftime(since, sizeof since, "%Y-%m-%dT%H:%M:%SZ", &utc);
    size = snprintf(note, sizeof note, "pid %ld on %s since %s\n",
                    (long)getpid(), host, since);
    if (mdn_file_truncate(lock, 0, NULL) == MDN_OK)
        mdn_file_write(lock, note, (uint64_t)size, 0, NULL);
}

mdn_status
mdn_handle_lock(mdn_dataset *dataset, mdn_error *err)
{
    char note[NOTE_SIZE];
    char *path = mdn_path_join(dataset->path, "lock");
    mdn_status st;
    int result;

    if (path == NULL)
        return mdn_fail_nomem(err, strlen(dataset->path) + 6);
    st = mdn_file_open(dataset->io, path,
                       O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK,
                       &dataset->lock, err);
    free(path);
    if (st != MDN_OK)
        return st;
    do
        result = dataset->io->lock(dataset->io->self, dataset->lock.fd);
    while (result == -EINTR);
    if (result == 0) {
        write_note(&dataset->lock);
        return MDN_OK;
    }
    if (result != -EWOULDBLOCK)
        return mdn_fail_errno(err, -result, "%s: cannot be locked",
                              dataset->lock.path);
    describe_writer(&dataset->lock, note);
    return mdn_fail(err, MDN_BUSY, "%s is open for writing already: %s",
                    dataset->path, *note ? note : "by another process");
}

/* Views. */

/* Map the files of the last segment now: later ones of it may be written by
 * others, but the last, not full blocks are checked against this commit and
 * have to be those of its files.  True if that came too late: they are of a
 * compaction since. */
static bool
pin_last_segment(mdn_view *view)
{
    const mdn_layout *layout = &view->store->layout;
    uint64_t segment = view->tail.count >> layout->segment_shift;

    if (mdn_layout_row(layout, view->tail.count) == 0)
        return false;
    /* What is missing or damaged is said to whoever asks for it. */
    if (mdn_store_map_columns(view->store, segment, NULL) == MDN_OK)
        mdn_store_map_records(view->store, segment, view->tail.segment_bytes,
                              NULL);
    return atomic_load(&view->store->segments[segment].late) != NULL;
}

static mdn_status
prepare_store(mdn_dataset *dataset, mdn_next *next, mdn_error *err)
{
    uint64_t segments = (next->tail.count >> dataset->layout.segment_shift) + 1;

    if (dataset->store != NULL && segments <= dataset->store->capacity
        && dataset->store->history->moves == next->history->moves) {
        next->store = mdn_store_retain(dataset->store);
        return MDN_OK;
    }
    return mdn_store_new(dataset->io, dataset->path, dataset->schema,
                         &dataset->layout, next->history,
                         2 * segments + SPARE_SEGMENTS, &next->store, err);
}

mdn_status
mdn_handle_prepare(mdn_dataset *dataset, mdn_next *next, mdn_error *err)
{
    mdn_status st;

    next->history = NULL;
    next->store = NULL;
    next->view = NULL;
    st = mdn_history_extend(dataset->history, dataset->io, dataset->path,
                            &dataset->layout, &next->tail, &next->history, err);
    if (st == MDN_OK)
        st = prepare_store(dataset, next, err);
    if (st == MDN_OK)
        st = mdn_view_new(next->store, next->history, &next->tail, &next->view,
                          err);
    if (st != MDN_OK)
        mdn_handle_drop(next);
    return st;
}

mdn_status
mdn_handle_note(mdn_dataset *dataset, mdn_journal_kind which, uint32_t kind,
                const void *payload, uint64_t size, mdn_tail *tail,
                mdn_error *err)
{
    mdn_journal *journal = &dataset->journals[which];
    mdn_status st = mdn_journal_append(journal, kind, payload, size,
                                       &tail->journal[which], err);

    if (st != MDN_OK && journal->file.poisoned)
        mdn_writer_break(dataset->writer);
    return st;
}

void
mdn_handle_drop(mdn_next *next)
{
    mdn_view_release(next->view);
    mdn_store_release(next->store);
    mdn_history_release(next->history);
    next->view = NULL;
    next->store = NULL;
    next->history = NULL;
}

void
mdn_handle_show(mdn_dataset *dataset, mdn_next *next)
{
    mdn_next old = {.history = dataset->history,
                    .store = dataset->store,
                    .view = dataset->view};

    dataset->history = next->history;
    dataset->store = next->store;
    dataset->view = next->view;
    *next = old;
    mdn_handle_drop(next);
}

mdn_status
mdn_handle_commit(mdn_dataset *dataset, mdn_next *next, mdn_error *err)
{
    mdn_status st = mdn_manifest_commit(&dataset->manifest, &dataset->layout,
                                        &next->tail, err);

    if (st != MDN_OK) {
        if (dataset->manifest.file.poisoned)
            mdn_writer_break(dataset->writer);
        mdn_handle_drop(next);
        return st;
    }
    mdn_handle_show(dataset, next);
    return MDN_OK;
}

/* Life. */

mdn_status
mdn_handle_new(const mdn_io *io, const char *path, bool writable,
               mdn_dataset **out, mdn_error *err)
{
    mdn_dataset *dataset = calloc(1, sizeof *dataset);

    if (dataset == NULL)
        return mdn_fail_nomem(err, sizeof *dataset);
    dataset->io = io;
    dataset->writable = writable;
    dataset->pid = getpid();
    dataset->lock = MDN_FILE_CLOSED;
    dataset->manifest = MDN_MANIFEST_CLOSED;
    dataset->path = strdup(path);
    if (dataset->path == NULL
        || mdn_history_new(&dataset->history, NULL) != MDN_OK) {
        mdn_dataset_free(dataset);
        return mdn_fail_nomem(err, strlen(path) + 1);
    }
    for (int j = 0; j < MDN_JOURNALS; j++)
        mdn_journal_init(&dataset->journals[j], io, dataset->path,
                         &dataset->layout, (mdn_journal_kind)j);
    *out = dataset;
    return MDN_OK;
}

/* Are the columns of the last sample there?  A manifest without its segments,
 * or one that claims more than there is, is noticed before memory is taken for
 * what it claims. */
static mdn_status
check_last_segment(const mdn_dataset *dataset, const mdn_history *history,
                   const mdn_tail *tail, mdn_error *err)
{
    uint64_t segment;
    mdn_file file;
    mdn_status st;

    if (tail->count == 0)
        return MDN_OK;
    segment = (tail->count - 1) >> dataset->layout.segment_shift;
    st = mdn_columns_open(dataset->io, dataset->path, &dataset->layout, segment,
                          mdn_history_generation(history, segment), false,
                          &file, err);
    mdn_file_close(&file);
    return st;
}

/* Read on in the manifest and prepare what it says.  *again: files that it
 * names were gone already, because of a compaction that has committed since. */
static mdn_status
look(mdn_dataset *dataset, mdn_next *next, bool *again, mdn_error *err)
{
    mdn_history *history;
    mdn_error inner;
    mdn_status st;

    *again = false;
    st = mdn_manifest_advance(&dataset->manifest, &dataset->layout, err);
    if (st != MDN_OK)
        return st;
    *next = (mdn_next){.tail = dataset->manifest.tail};
    st = mdn_history_extend(dataset->history, dataset->io, dataset->path,
                            &dataset->layout, &next->tail, &history, err);
    if (st != MDN_OK)
        return st;
    st = check_last_segment(dataset, history, &next->tail, &inner);
    mdn_history_release(history);
    if (st != MDN_OK) {
        *again = st == MDN_IO && inner.sys_errno == ENOENT;
        if (err != NULL)
            *err = inner;
        return st;
    }
    if ((st = mdn_handle_prepare(dataset, next, err)) != MDN_OK)
        return st;
    *again = pin_last_segment(next->view);
    return MDN_OK;
}

/* The same until nothing moves under our eyes. */
static mdn_status
look_on(mdn_dataset *dataset, mdn_next *next, mdn_error *err)
{
    uint64_t sequence;
    bool again = true;
    mdn_status st = MDN_OK;

    for (int tries = 0; tries < LOOKS && again; tries++) {
        if (tries > 0 && st == MDN_OK)
            mdn_handle_drop(next);
        sequence = dataset->manifest.sequence;
        st = look(dataset, next, &again, err);
        if (st != MDN_OK && tries > 0 && dataset->manifest.sequence == sequence)
            again = false; /* nothing new: the files are missing */
    }
    return st;
}

mdn_status
mdn_handle_make_writer(mdn_dataset *dataset, const mdn_history *history,
                       const mdn_tail *tail, mdn_writer **out, mdn_error *err)
{
    uint64_t segment = tail->count >> dataset->layout.segment_shift;

    return mdn_writer_open(dataset->io, dataset->path, &dataset->layout,
                           dataset->schema, tail,
                           mdn_history_generation(history, segment), out, err);
}

mdn_status
mdn_handle_start(mdn_dataset *dataset, mdn_error *err)
{
    mdn_manifest *manifest = &dataset->manifest;
    mdn_next next = {.view = NULL};
    mdn_status st;

    st = mdn_manifest_open(dataset->io, dataset->path, dataset->writable,
                           manifest, &dataset->layout, &dataset->schema, err);
    if (st == MDN_OK)
        st = look_on(dataset, &next, err);
    if (st != MDN_OK)
        return st;
    mdn_handle_show(dataset, &next);
    if (!dataset->writable)
        return MDN_OK;
    st = mdn_manifest_cut(manifest, &dataset->layout, err);
    if (st == MDN_OK)
        st = mdn_compact_clean(dataset, err);
    if (st == MDN_OK)
        mdn_link_clean(dataset);
    if (st == MDN_OK)
        st = mdn_handle_make_writer(dataset, dataset->history, &manifest->tail,
                                    &dataset->writer, err);
    return st;
}

mdn_status
mdn_dataset_open(const mdn_io *io, const char *path, bool writable,
                 mdn_dataset **out, mdn_error *err)
{
    mdn_dataset *dataset = NULL;
    mdn_status st;

    *out = NULL;
    if ((st = mdn_handle_new(io, path, writable, &dataset, err)) != MDN_OK)
        return st;
    if (writable)
        st = mdn_handle_lock(dataset, err);
    if (st == MDN_OK)
        st = mdn_handle_start(dataset, err);
    if (st != MDN_OK) {
        mdn_dataset_free(dataset);
        return st;
    }
    *out = dataset;
    return MDN_OK;
}

void
mdn_dataset_close(mdn_dataset *dataset)
{
    mdn_next none = {.view = NULL};

    dataset->closed = true;
    mdn_handle_show(dataset, &none);
    for (int j = 0; j < MDN_JOURNALS; j++)
        mdn_journal_close(&dataset->journals[j]);
    mdn_writer_close(dataset->writer);
    dataset->writer = NULL;
    mdn_manifest_close(&dataset->manifest);
    mdn_file_close(&dataset->lock); /* last: until here nobody else writes */
}

void
mdn_dataset_free(mdn_dataset *dataset)
{
    if (dataset == NULL)
        return;
    mdn_dataset_close(dataset);
    mdn_schema_free(dataset->schema);
    free(dataset->path);
    free(dataset);
}

/* Use. */

mdn_status
mdn_handle_check_open(const mdn_dataset *dataset, mdn_error *err)
{
    if (dataset->closed)
        return mdn_fail(err, MDN_CLOSED, "%s was closed", dataset->path);
    return MDN_OK;
}

mdn_status
mdn_handle_check_writable(const mdn_dataset *dataset, mdn_error *err)
{
    mdn_status st = mdn_handle_check_open(dataset, err);

    if (st != MDN_OK)
        return st;
    if (!dataset->writable)
        return mdn_fail(err, MDN_INVALID,
                        "%s is open for reading; open it with mode 'w'",
                        dataset->path);
    if (dataset->pid != getpid())
        return mdn_fail(err, MDN_CLOSED,
                        "%s was opened for writing by process %ld; a child of "
                        "it cannot write through the same handle",
                        dataset->path, (long)dataset->pid);
    return mdn_writer_check(dataset->writer, err);
}

static mdn_status
check_append(const mdn_dataset *dataset, uint64_t count, const int64_t *labels,
             mdn_error *err)
{
    mdn_status st = mdn_handle_check_writable(dataset, err);

    if (st != MDN_OK || count == 0)
        return st;
    if (dataset->layout.has[MDN_LABELS] != (labels != NULL))
        return mdn_fail(err, MDN_INVALID, "%s %s", dataset->path,
                        labels ? "has no labels" : "needs labels");
    if (count > MDN_COUNT_MAX - dataset->manifest.tail.count)
        return mdn_fail(err, MDN_INVALID, "%s: more than 2^48 samples",
                        dataset->path);
    return MDN_OK;
}

mdn_status
mdn_dataset_append(mdn_dataset *dataset, uint64_t count,
                   const mdn_column *columns, const int64_t *labels,
                   const int64_t *timestamps, uint64_t *first_key,
                   mdn_error *err)
{
    return mdn_dataset_append_from(dataset, count, columns, labels, timestamps,
                                   NULL, 0, first_key, err);
}

mdn_status
mdn_dataset_append_from(mdn_dataset *dataset, uint64_t count,
                        const mdn_column *columns, const int64_t *labels,
                        const int64_t *timestamps, const void *source,
                        uint64_t source_size, uint64_t *first_key,
                        mdn_error *err)
{
    mdn_next next = {.tail = dataset->manifest.tail};
    mdn_status st = check_append(dataset, count, labels, err);

    if (st != MDN_OK)
        return st;
    *first_key = next.tail.count;
    if (count == 0 && source == NULL)
        return MDN_OK;
    if (count > 0)
        st = mdn_writer_put(dataset->writer, count, columns, labels, timestamps,
                            &next.tail, err);
    if (st == MDN_OK && source != NULL)
        st = mdn_handle_note(dataset, MDN_SOURCES, MDN_SOURCE_TAKEN, source,
                             source_size, &next.tail, err);
    if (st == MDN_OK)
        st = mdn_handle_prepare(dataset, &next, err);
    if (st != MDN_OK)
        return st;
    return mdn_handle_commit(dataset, &next, err);
}

void
mdn_dataset_set_pulse(mdn_dataset *dataset, const mdn_pulse *pulse)
{
    if (dataset->writer != NULL)
        mdn_writer_set_pulse(dataset->writer, pulse);
}

mdn_status
mdn_dataset_journal(const mdn_dataset *dataset, mdn_journal_kind which,
                    mdn_journal_visit visit, void *ctx, mdn_error *err)
{
    const mdn_mark nothing = {.size_bytes = 0};
    mdn_status st = mdn_handle_check_open(dataset, err);

    if (st != MDN_OK)
        return st;
    return mdn_journal_read(dataset->io, dataset->path, &dataset->layout, which,
                            &nothing, &dataset->manifest.tail.journal[which], 0,
                            visit, ctx, err);
}

mdn_status
mdn_dataset_refresh(mdn_dataset *dataset, bool *grown, mdn_error *err)
{
    mdn_manifest before = dataset->manifest;
    mdn_next next = {.view = NULL};
    mdn_status st = mdn_handle_check_open(dataset, err);

    *grown = false;
    if (st != MDN_OK || dataset->writable)
        return st;
    st = mdn_manifest_advance(&dataset->manifest, &dataset->layout, err);
    if (st != MDN_OK || dataset->manifest.sequence == before.sequence)
        return st;
    st = look_on(dataset, &next, err);
    if (st != MDN_OK) {
        dataset->manifest = before;
        return st;
    }
    mdn_handle_show(dataset, &next);
    *grown = true;
    return MDN_OK;
}

mdn_status
mdn_dataset_view(mdn_dataset *dataset, mdn_view **out, mdn_error *err)
{
    mdn_status st = mdn_handle_check_open(dataset, err);

    *out = NULL;
    if (st == MDN_OK)
        *out = mdn_view_retain(dataset->view);
    return st;
}
