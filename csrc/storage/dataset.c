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
#include "storage/dataset.h"

#include "base/file.h"
#include "storage/columns.h"
#include "storage/manifest.h"
#include "storage/segment.h"
#include "storage/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define NOTE_SIZE 256 /* of the lock file */
/* Room of the first store, in segments beyond twice those that are there. */
#define SPARE_SEGMENTS 6

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
    mdn_store *store;   /* of the current view */
    mdn_view *view;
};

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

static mdn_status
take_lock(mdn_dataset *dataset, mdn_error *err)
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

/* A view as of tail, with a store that has room for it. */
static mdn_status
make_view(mdn_dataset *dataset, const mdn_tail *tail, mdn_view **out,
          mdn_error *err)
{
    uint64_t segments = (tail->count >> dataset->layout.segment_shift) + 1;
    mdn_store *store = NULL;
    mdn_status st;

    if (dataset->store == NULL || segments > dataset->store->capacity) {
        st = mdn_store_new(dataset->io, dataset->path, dataset->schema,
                           &dataset->layout, 2 * segments + SPARE_SEGMENTS,
                           &store, err);
        if (st != MDN_OK)
            return st;
        mdn_store_release(dataset->store);
        dataset->store = store;
    }
    return mdn_view_new(dataset->store, tail, out, err);
}

static void
show_view(mdn_dataset *dataset, mdn_view *view)
{
    mdn_view_release(dataset->view);
    dataset->view = view;
}

/* Life. */

static mdn_status
new_handle(const mdn_io *io, const char *path, bool writable, mdn_dataset **out,
           mdn_error *err)
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
    if (dataset->path == NULL) {
        mdn_dataset_free(dataset);
        return mdn_fail_nomem(err, strlen(path) + 1);
    }
    *out = dataset;
    return MDN_OK;
}

/* Are the columns of the last sample there?  A manifest without its segments,
 * or one that claims more than there is, is noticed before memory is taken for
 * what it claims. */
static mdn_status
check_last_segment(const mdn_dataset *dataset, mdn_error *err)
{
    uint64_t count = dataset->manifest.tail.count;
    mdn_file file;
    mdn_status st;

    if (count == 0)
        return MDN_OK;
    st = mdn_columns_open(dataset->io, dataset->path, &dataset->layout,
                          (count - 1) >> dataset->layout.segment_shift, false,
                          &file, err);
    mdn_file_close(&file);
    return st;
}

/* The manifest is read; a writer has the lock already. */
static mdn_status
start(mdn_dataset *dataset, mdn_error *err)
{
    mdn_manifest *manifest = &dataset->manifest;
    mdn_status st;

    st = mdn_manifest_open(dataset->io, dataset->path, dataset->writable,
                           manifest, &dataset->layout, &dataset->schema, err);
    if (st == MDN_OK)
        st = mdn_manifest_advance(manifest, &dataset->layout, err);
    if (st == MDN_OK)
        st = check_last_segment(dataset, err);
    if (st == MDN_OK && dataset->writable)
        st = mdn_manifest_cut(manifest, &dataset->layout, err);
    if (st == MDN_OK && dataset->writable)
        st = mdn_writer_open(dataset->io, dataset->path, &dataset->layout,
                             dataset->schema, &manifest->tail, &dataset->writer,
                             err);
    if (st == MDN_OK)
        st = make_view(dataset, &manifest->tail, &dataset->view, err);
    return st;
}

mdn_status
mdn_dataset_open(const mdn_io *io, const char *path, bool writable,
                 mdn_dataset **out, mdn_error *err)
{
    mdn_dataset *dataset = NULL;
    mdn_status st;

    *out = NULL;
    if ((st = new_handle(io, path, writable, &dataset, err)) != MDN_OK)
        return st;
    if (writable)
        st = take_lock(dataset, err);
    if (st == MDN_OK)
        st = start(dataset, err);
    if (st != MDN_OK) {
        mdn_dataset_free(dataset);
        return st;
    }
    *out = dataset;
    return MDN_OK;
}

/* Creating. */

static mdn_status
refuse_existing(const mdn_io *io, const char *path, mdn_error *err)
{
    char *manifest = mdn_path_join(path, "manifest");
    mdn_file file;
    mdn_error inner;
    mdn_status st;

    if (manifest == NULL)
        return mdn_fail_nomem(err, strlen(path) + 10);
    st = mdn_file_open(io, manifest, O_RDONLY | O_NONBLOCK, &file, &inner);
    free(manifest);
    if (st == MDN_IO && inner.sys_errno == ENOENT)
        return MDN_OK;
    if (st != MDN_OK) {
        if (err != NULL)
            *err = inner;
        return st;
    }
    mdn_file_close(&file);
    return mdn_fail_errno(err, EEXIST, "%s: a dataset is there already", path);
}

static mdn_status
make_directory(const mdn_io *io, const char *path, mdn_error *err)
{
    int result;

    do
        result = io->mkdir(io->self, path, 0777);
    while (result == -EINTR);
    if (result < 0 && result != -EEXIST)
        return mdn_fail_errno(err, -result, "%s: the directory cannot be made",
                              path);
    return MDN_OK;
}

/* The name of the directory itself has to be durable, too. */
static mdn_status
sync_parent(const mdn_io *io, const char *path, mdn_error *err)
{
    size_t size = strlen(path);
    char *parent;
    mdn_status st;

    while (size > 1 && path[size - 1] == '/')
        size--;
    while (size > 0 && path[size - 1] != '/')
        size--;
    if (size == 0)
        return mdn_dir_sync(io, ".", err);
    if ((parent = strndup(path, size)) == NULL)
        return mdn_fail_nomem(err, size);
    st = mdn_dir_sync(io, parent, err);
    free(parent);
    return st;
}

static mdn_status
draw_uuid(uint8_t uuid[MDN_UUID_SIZE], mdn_error *err)
{
    if (getrandom(uuid, MDN_UUID_SIZE, 0) != MDN_UUID_SIZE)
        return mdn_fail_errno(err, errno, "no random numbers for a uuid");
    uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40); /* version 4: random */
    uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
    return MDN_OK;
}

/* Header and schema from the options, into the handle's own layout. */
static mdn_status
plan(const mdn_dataset_options *options, mdn_layout *layout, char **text,
     mdn_error *err)
{
    mdn_schema *schema;
    mdn_status st;

    st = mdn_schema_parse(options->schema, strlen(options->schema), &schema,
                          err);
    if (st != MDN_OK)
        return st;
    st = mdn_layout_init(layout, schema, options->has_labels,
                         options->segment_shift, err);
    if (st == MDN_OK)
        st = draw_uuid(layout->uuid, err);
    layout->time_unit = options->time_unit;
    *text = mdn_schema_text(schema);
    mdn_schema_free(schema);
    if (st == MDN_OK && *text == NULL)
        st = mdn_fail_nomem(err, strlen(options->schema));
    return st;
}

/* Creating failed late: leave no dataset that the caller does not know of. */
static void
remove_manifest(const mdn_io *io, const char *path)
{
    char *manifest = mdn_path_join(path, "manifest");

    if (manifest != NULL)
        io->unlink(io->self, manifest);
    free(manifest);
}

mdn_status
mdn_dataset_create(const mdn_io *io, const char *path,
                   const mdn_dataset_options *options, mdn_dataset **out,
                   mdn_error *err)
{
    mdn_dataset *dataset = NULL;
    mdn_layout layout;
    char *schema = NULL;
    bool ours = false; /* the manifest, if there is one by now */
    mdn_status st;

    *out = NULL;
    if ((st = plan(options, &layout, &schema, err)) != MDN_OK
        || (st = new_handle(io, path, true, &dataset, err)) != MDN_OK
        || (st = refuse_existing(io, path, err)) != MDN_OK
        || (st = make_directory(io, path, err)) != MDN_OK
        || (st = take_lock(dataset, err)) != MDN_OK
        || (st = refuse_existing(io, path, err)) != MDN_OK /* in the meantime */
        || (st = sync_parent(io, path, err)) != MDN_OK)
        goto fail;
    ours = true;
    st = mdn_manifest_create(io, path, &layout, schema, err);
    if (st != MDN_OK || (st = start(dataset, err)) != MDN_OK)
        goto fail;
    free(schema);
    *out = dataset;
    return MDN_OK;

fail:
    if (ours)
        remove_manifest(io, path);
    free(schema);
    mdn_dataset_free(dataset);
    return st;
}

void
mdn_dataset_close(mdn_dataset *dataset)
{
    dataset->closed = true;
    show_view(dataset, NULL);
    mdn_store_release(dataset->store);
    dataset->store = NULL;
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

static mdn_status
check_open(const mdn_dataset *dataset, mdn_error *err)
{
    if (dataset->closed)
        return mdn_fail(err, MDN_CLOSED, "%s was closed", dataset->path);
    return MDN_OK;
}

static mdn_status
check_append(const mdn_dataset *dataset, uint64_t count, const int64_t *labels,
             mdn_error *err)
{
    mdn_status st = check_open(dataset, err);

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
    mdn_tail tail = dataset->manifest.tail;
    mdn_view *view = NULL;
    mdn_status st = check_append(dataset, count, labels, err);

    if (st != MDN_OK)
        return st;
    *first_key = tail.count;
    if (count == 0)
        return MDN_OK;
    st = mdn_writer_put(dataset->writer, count, columns, labels, timestamps,
                        &tail, err);
    if (st == MDN_OK)
        st = make_view(dataset, &tail, &view, err);
    if (st != MDN_OK)
        return st;
    st = mdn_manifest_commit(&dataset->manifest, &dataset->layout, &tail, err);
    if (st != MDN_OK) {
        if (dataset->manifest.file.poisoned)
            mdn_writer_break(dataset->writer);
        mdn_view_release(view);
        return st;
    }
    show_view(dataset, view);
    return MDN_OK;
}

mdn_status
mdn_dataset_refresh(mdn_dataset *dataset, bool *grown, mdn_error *err)
{
    mdn_manifest before = dataset->manifest;
    mdn_view *view = NULL;
    mdn_status st;

    *grown = false;
    if ((st = check_open(dataset, err)) != MDN_OK || dataset->writable)
        return st;
    st = mdn_manifest_advance(&dataset->manifest, &dataset->layout, err);
    if (st != MDN_OK || dataset->manifest.sequence == before.sequence)
        return st;
    st = make_view(dataset, &dataset->manifest.tail, &view, err);
    if (st != MDN_OK) {
        dataset->manifest = before;
        return st;
    }
    show_view(dataset, view);
    *grown = true;
    return MDN_OK;
}

mdn_status
mdn_dataset_view(mdn_dataset *dataset, mdn_view **out, mdn_error *err)
{
    mdn_status st = check_open(dataset, err);

    *out = NULL;
    if (st == MDN_OK)
        *out = mdn_view_retain(dataset->view);
    return st;
}
