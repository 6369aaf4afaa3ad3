/* file.c - whole transfers, messages with names, and poisoning. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long ull;

mdn_status
mdn_file_open(const mdn_io *io, const char *path, int flags, mdn_file *out,
              mdn_error *err)
{
    mdn_file file = {.io = io, .fd = -1};

    *out = MDN_FILE_CLOSED;
    file.path = strdup(path);
    if (file.path == NULL)
        return mdn_fail_nomem(err, strlen(path) + 1);
    do
        file.fd = io->open(io->self, path, flags, 0666);
    while (file.fd == -EINTR);
    if (file.fd < 0) {
        free(file.path);
        return mdn_fail_errno(err, -file.fd, "%s: cannot be opened", path);
    }
    *out = file;
    return MDN_OK;
}

void
mdn_file_close(mdn_file *file)
{
    /* Not repeated when interrupted: Linux has closed the descriptor then. */
    if (file->fd >= 0)
        file->io->close(file->io->self, file->fd);
    free(file->path);
    *file = MDN_FILE_CLOSED;
}

mdn_status
mdn_file_read(const mdn_file *file, void *buf, uint64_t size, uint64_t at,
              mdn_error *err)
{
    uint64_t done = 0;

    while (done < size) {
        int64_t got =
            file->io->pread(file->io->self, file->fd, (char *)buf + done,
                            size - done, at + done);
        if (got == -EINTR)
            continue;
        if (got < 0)
            return mdn_fail_errno(err, (int)-got,
                                  "%s: reading %llu bytes at %llu failed",
                                  file->path, (ull)size, (ull)at);
        if (got == 0)
            return mdn_fail(err, MDN_CORRUPT,
                            "%s: ends at %llu, but %llu bytes at %llu are "
                            "expected",
                            file->path, (ull)(at + done), (ull)size, (ull)at);
        done += (uint64_t)got;
    }
    return MDN_OK;
}

/* Refuse to go on with a file that has lost writes without saying which. */
static mdn_status
check_sound(const mdn_file *file, mdn_error *err)
{
    if (!file->poisoned)
        return MDN_OK;
    return mdn_fail_errno(err, EIO,
                          "%s: not written, since an earlier sync failed; "
                          "open it again",
                          file->path);
}

mdn_status
mdn_file_write(mdn_file *file, const void *buf, uint64_t size, uint64_t at,
               mdn_error *err)
{
    uint64_t done = 0;
    mdn_status st = check_sound(file, err);

    if (st != MDN_OK)
        return st;
    while (done < size) {
        int64_t put =
            file->io->pwrite(file->io->self, file->fd, (const char *)buf + done,
                             size - done, at + done);
        if (put == -EINTR)
            continue;
        if (put == 0)
            put = -EIO; /* no progress and no reason: never tried for ever */
        if (put < 0)
            return mdn_fail_errno(err, (int)-put,
                                  "%s: writing %llu bytes at %llu failed",
                                  file->path, (ull)size, (ull)at);
        done += (uint64_t)put;
    }
    return MDN_OK;
}

static mdn_status
sync_file(mdn_file *file, bool data_only, mdn_error *err)
{
    int result;
    mdn_status st = check_sound(file, err);

    if (st != MDN_OK)
        return st;
    do /* an interrupted sync has reported nothing, so nothing is lost yet */
        result = file->io->sync(file->io->self, file->fd, data_only);
    while (result == -EINTR);
    if (result < 0) {
        file->poisoned = true;
        return mdn_fail_errno(err, -result, "%s: sync failed", file->path);
    }
    return MDN_OK;
}

mdn_status
mdn_file_sync(mdn_file *file, mdn_error *err)
{
    return sync_file(file, true, err);
}

mdn_status
mdn_file_sync_all(mdn_file *file, mdn_error *err)
{
    return sync_file(file, false, err);
}

mdn_status
mdn_file_start(mdn_file *file, uint64_t at, uint64_t size, mdn_error *err)
{
    int result;
    mdn_status st = check_sound(file, err);

    if (st != MDN_OK || size == 0 || file->io->start == NULL)
        return st;
    do
        result = file->io->start(file->io->self, file->fd, at, size);
    while (result == -EINTR);
    if (result == 0 || result == -EOPNOTSUPP || result == -ENOSYS
        || result == -EINVAL || result == -ESPIPE)
        return MDN_OK;
    file->poisoned = true;
    return mdn_fail_errno(err, -result,
                          "%s: writing out %llu bytes at %llu failed",
                          file->path, (ull)size, (ull)at);
}

mdn_status
mdn_file_size(const mdn_file *file, uint64_t *out, mdn_error *err)
{
    int result;

    do
        result = file->io->size(file->io->self, file->fd, out);
    while (result == -EINTR);
    if (result < 0)
        return mdn_fail_errno(err, -result, "%s: its size cannot be read",
                              file->path);
    return MDN_OK;
}

mdn_status
mdn_file_facts_of(const mdn_file *file, mdn_file_facts *out, mdn_error *err)
{
    int result;

    do
        result = file->io->stat(file->io->self, file->fd, out);
    while (result == -EINTR);
    if (result < 0)
        return mdn_fail_errno(
            err, -result, "%s: its size and time cannot be read", file->path);
    return MDN_OK;
}

mdn_status
mdn_file_truncate(mdn_file *file, uint64_t size, mdn_error *err)
{
    int result;
    mdn_status st = check_sound(file, err);

    if (st != MDN_OK)
        return st;
    do
        result = file->io->truncate(file->io->self, file->fd, size);
    while (result == -EINTR);
    if (result < 0)
        return mdn_fail_errno(err, -result, "%s: cannot be set to %llu bytes",
                              file->path, (ull)size);
    return MDN_OK;
}

mdn_status
mdn_file_allocate(mdn_file *file, uint64_t at, uint64_t size, mdn_error *err)
{
    int result;
    mdn_status st = check_sound(file, err);

    if (st != MDN_OK)
        return st;
    if (size == 0)
        return MDN_OK;
    do
        result = file->io->allocate(file->io->self, file->fd, at, size);
    while (result == -EINTR);
    if (result == -EOPNOTSUPP || result == -ENOSYS)
        return MDN_OK;
    if (result < 0)
        return mdn_fail_errno(err, -result,
                              "%s: no room for %llu bytes at %llu", file->path,
                              (ull)size, (ull)at);
    return MDN_OK;
}

/* A fresh sibling of path, open for writing.  The name holds the process, so
 * that two processes which replace the same file do not write into the same
 * temporary one; O_EXCL steps over what a killed process left behind. */
static mdn_status
create_sibling(const mdn_io *io, const char *path, mdn_file *out,
               mdn_error *err)
{
    char *name = NULL;
    mdn_status st = MDN_OK;
    mdn_error ignored, *reason = err != NULL ? err : &ignored;

    *out = MDN_FILE_CLOSED;
    for (unsigned n = 0; n < 1000; n++) {
        if (asprintf(&name, "%s.%ld-%u.tmp", path, (long)getpid(), n) < 0)
            return mdn_fail_nomem(err, strlen(path) + 32);
        st = mdn_file_open(io, name, O_WRONLY | O_CREAT | O_EXCL, out, reason);
        free(name);
        if (st != MDN_IO || reason->sys_errno != EEXIST)
            return st;
    }
    return st;
}

static mdn_status
rename_file(const mdn_io *io, const char *from, const char *to, mdn_error *err)
{
    int result;

    do
        result = io->rename(io->self, from, to);
    while (result == -EINTR);
    if (result < 0)
        return mdn_fail_errno(err, -result, "%s: cannot be renamed to %s", from,
                              to);
    return MDN_OK;
}

mdn_status
mdn_file_replace(const mdn_io *io, const char *path, const void *content,
                 uint64_t size, mdn_error *err)
{
    mdn_file file;
    mdn_status st = create_sibling(io, path, &file, err);

    if (st != MDN_OK)
        return st;
    if ((st = mdn_file_write(&file, content, size, 0, err)) != MDN_OK
        || (st = mdn_file_sync_all(&file, err)) != MDN_OK
        || (st = rename_file(io, file.path, path, err)) != MDN_OK)
        io->unlink(io->self, file.path);
    mdn_file_close(&file);
    return st == MDN_OK ? mdn_parent_sync(io, path, err) : st;
}

mdn_status
mdn_dir_sync(const mdn_io *io, const char *path, mdn_error *err)
{
    int result;

    do
        result = io->sync_dir(io->self, path);
    while (result == -EINTR);
    if (result < 0)
        return mdn_fail_errno(err, -result, "%s: directory sync failed", path);
    return MDN_OK;
}

mdn_status
mdn_parent_sync(const mdn_io *io, const char *path, mdn_error *err)
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

char *
mdn_path_join(const char *directory, const char *name)
{
    char *path;

    return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}
