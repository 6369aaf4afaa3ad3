/* file.h - an open file with a name, for everything the core reads or writes.
 *
 * Interrupted and short transfers are retried; every error names the file, the
 * offset and errno.  A file whose sync failed once is poisoned: every later
 * write or sync of it fails, since a retried fsync may claim success for data
 * that is gone (the kernel drops dirty pages after reporting once). */
#ifndef MDN_BASE_FILE_H
#define MDN_BASE_FILE_H

#include "base/error.h"
#include "base/io.h"

typedef struct {
    const mdn_io *io; /* borrowed; must outlive the file */
    char *path;       /* owned */
    int fd;           /* -1 when closed */
    bool poisoned;
} mdn_file;

#define MDN_FILE_CLOSED ((mdn_file){.fd = -1})

/* On failure *out is MDN_FILE_CLOSED.  flags as for open(2). */
mdn_status mdn_file_open(const mdn_io *io, const char *path, int flags,
                         mdn_file *out, mdn_error *err);
/* Accepts MDN_FILE_CLOSED.  Errors of close are not errors of ours: what must
 * be durable was synced before. */
void mdn_file_close(mdn_file *file);

/* Exactly size bytes, or MDN_CORRUPT ("%s: ends at ...") at an early end. */
mdn_status mdn_file_read(const mdn_file *file, void *buf, uint64_t size,
                         uint64_t at, mdn_error *err);
mdn_status mdn_file_write(mdn_file *file, const void *buf, uint64_t size,
                          uint64_t at, mdn_error *err);
mdn_status mdn_file_sync(mdn_file *file, mdn_error *err); /* fdatasync */
/* Let the disk begin with bytes that were written, so that the sync to come
 * waits less; promises nothing.  A failure counts as that of a sync, except
 * where there is no such call. */
mdn_status mdn_file_start(mdn_file *file, uint64_t at, uint64_t size,
                          mdn_error *err);
mdn_status mdn_file_sync_all(mdn_file *file, mdn_error *err); /* fsync */
mdn_status mdn_file_size(const mdn_file *file, uint64_t *out, mdn_error *err);
mdn_status mdn_file_facts_of(const mdn_file *file, mdn_file_facts *out,
                             mdn_error *err);
mdn_status mdn_file_truncate(mdn_file *file, uint64_t size, mdn_error *err);
/* Reserve room; a file system that cannot (EOPNOTSUPP) is not an error. */
mdn_status mdn_file_allocate(mdn_file *file, uint64_t at, uint64_t size,
                             mdn_error *err);

/* Create path with this content, durably and all or nothing: a temporary
 * sibling, sync, rename, sync of the directory.  Replaces an existing file. */
mdn_status mdn_file_replace(const mdn_io *io, const char *path,
                            const void *content, uint64_t size, mdn_error *err);
mdn_status mdn_dir_sync(const mdn_io *io, const char *path, mdn_error *err);
/* Sync the directory that holds path; slashes at its end do not count. */
mdn_status mdn_parent_sync(const mdn_io *io, const char *path, mdn_error *err);

/* directory + "/" + name, malloc'd; NULL without memory. */
char *mdn_path_join(const char *directory, const char *name);

#endif
