/* faulty_io.c - the system's calls, behind a counter that makes some fail.
 *
 * The record of unsynced writes is a list of what the bytes were before.  Each
 * entry has a descriptor of its own to the file (through /proc), so that it
 * survives close and rename; a power cut applies the list newest first. */
#include "faulty_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct faulty_undo {
    faulty_undo *next;
    int fd; /* owned */
    dev_t device;
    ino_t inode;
    uint64_t file_size; /* before the write */
    uint64_t at, size;
    char bytes[]; /* what stood at .. at+size, as far as there was a file */
};

static faulty_undo *
undo_free(faulty_undo *undo)
{
    faulty_undo *next = undo->next;

    close(undo->fd);
    free(undo);
    return next;
}

/* Remember [at, at+size) of fd, which is about to change. */
static void
remember(faulty *disk, int fd, uint64_t at, uint64_t size)
{
    char name[64];
    struct stat st;
    faulty_undo *undo;

    if (!disk->record || fstat(fd, &st) < 0)
        return;
    if (at >= (uint64_t)st.st_size)
        size = 0;
    else if (size > (uint64_t)st.st_size - at)
        size = (uint64_t)st.st_size - at;
    undo = malloc(sizeof *undo + size);
    if (undo == NULL)
        abort();
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    *undo = (faulty_undo){.next = disk->undo,
                          .fd = open(name, O_RDWR | O_CLOEXEC),
                          .device = st.st_dev,
                          .inode = st.st_ino,
                          .file_size = (uint64_t)st.st_size,
                          .at = at,
                          .size = size};
    if (undo->fd < 0
        || pread(undo->fd, undo->bytes, size, (off_t)at) != (ssize_t)size)
        abort();
    disk->undo = undo;
}

/* fd was synced: what is remembered of its file need not be taken back. */
static void
settle(faulty *disk, int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return;
    for (faulty_undo **link = &disk->undo; *link != NULL;) {
        if ((*link)->device == st.st_dev && (*link)->inode == st.st_ino)
            *link = undo_free(*link);
        else
            link = &(*link)->next;
    }
}

void
faulty_power_cut(faulty *disk)
{
    while (disk->undo != NULL) {
        faulty_undo *undo = disk->undo;
        if (pwrite(undo->fd, undo->bytes, undo->size, (off_t)undo->at)
                != (ssize_t)undo->size
            || ftruncate(undo->fd, (off_t)undo->file_size) < 0)
            abort();
        disk->undo = undo_free(undo);
    }
}

void
faulty_forget(faulty *disk)
{
    while (disk->undo != NULL)
        disk->undo = undo_free(disk->undo);
}

/* Count this call; true if the fault may strike it. */
static bool
struck(faulty *disk, unsigned kind)
{
    int n;

    if (disk->only != 0 && !(disk->only & kind))
        return false;
    n = disk->calls++;
    if (disk->fault == FAULT_NONE)
        return false;
    return disk->sticky ? n >= disk->fail_at : n == disk->fail_at;
}

/* 0, or what a call is refused with that can only be refused as a whole. */
static int
refusal(faulty *disk, unsigned kind)
{
    const unsigned need_room = FAULTY_OPEN | FAULTY_WRITE | FAULTY_SYNC
                               | FAULTY_ALLOCATE | FAULTY_TRUNCATE
                               | FAULTY_RENAME | FAULTY_MKDIR;
    bool strike = struck(disk, kind);

    if (disk->dead)
        return -EIO;
    if (!strike)
        return 0;
    switch (disk->fault) {
    case FAULT_EIO: disk->fired = true; return -EIO;
    case FAULT_EINTR: disk->fired = true; return -EINTR;
    case FAULT_KILL: disk->fired = disk->dead = true; return -EIO;
    case FAULT_ENOSPC:
        if (!(kind & need_room))
            return 0;
        disk->fired = true;
        return -ENOSPC;
    case FAULT_TORN: /* a call that cannot be torn is killed before it acts */
        disk->fired = disk->dead = true;
        return kind & FAULTY_WRITE ? 1 : -EIO;
    case FAULT_SHORT: return kind & (FAULTY_READ | FAULTY_WRITE) ? 1 : 0;
    case FAULT_LIE: return kind & (FAULTY_SYNC | FAULTY_SYNC_DIR) ? 1 : 0;
    case FAULT_FLIP: return kind & FAULTY_READ ? 1 : 0;
    case FAULT_NONE: return 0;
    }
    abort();
}

static int
faulty_open(void *self, const char *path, int flags, unsigned mode)
{
    faulty *disk = self;
    int fd = refusal(disk, FAULTY_OPEN);

    if (fd == 0)
        fd = mdn_io_system.open(NULL, path, flags & ~O_TRUNC, mode);
    if (fd >= 0 && (flags & O_TRUNC)) {
        remember(disk, fd, 0, UINT64_MAX);
        if (ftruncate(fd, 0) < 0)
            abort();
    }
    disk->open_files += fd >= 0;
    return fd;
}

static int
faulty_close(void *self, int fd)
{
    faulty *disk = self;

    disk->open_files--;
    return mdn_io_system.close(NULL, fd);
}

static int64_t
faulty_pread(void *self, int fd, void *buf, uint64_t size, uint64_t at)
{
    faulty *disk = self;
    int effect = refusal(disk, FAULTY_READ);
    int64_t got;

    if (effect < 0)
        return effect;
    if (effect > 0 && disk->fault == FAULT_SHORT && size > 1)
        size = 1, disk->fired = true;
    got = mdn_io_system.pread(NULL, fd, buf, size, at);
    if (effect > 0 && disk->fault == FAULT_FLIP && got > 0) {
        ((char *)buf)[got / 2] ^= 16;
        disk->fired = true;
    }
    return got;
}

static int64_t
faulty_pwrite(void *self, int fd, const void *buf, uint64_t size, uint64_t at)
{
    faulty *disk = self;
    int effect = refusal(disk, FAULTY_WRITE);

    if (effect < 0)
        return effect;
    if (effect > 0 && disk->fault == FAULT_SHORT && size > 1)
        size = 1, disk->fired = true;
    if (effect > 0 && disk->fault == FAULT_TORN)
        size /= 2;
    remember(disk, fd, at, size);
    effect = effect > 0 && disk->fault == FAULT_TORN;
    if (effect) { /* half of it is there, but nobody is told */
        mdn_io_system.pwrite(NULL, fd, buf, size, at);
        return -EIO;
    }
    return mdn_io_system.pwrite(NULL, fd, buf, size, at);
}

static int
faulty_sync(void *self, int fd, bool data_only)
{
    faulty *disk = self;
    int effect = refusal(disk, FAULTY_SYNC);

    if (effect < 0)
        return effect;
    if (effect > 0) {
        disk->fired = true;
        return 0;
    }
    effect = mdn_io_system.sync(NULL, fd, data_only);
    if (effect == 0)
        settle(disk, fd);
    return effect;
}

static int
faulty_sync_dir(void *self, const char *path)
{
    faulty *disk = self;
    int effect = refusal(disk, FAULTY_SYNC_DIR);

    if (effect < 0)
        return effect;
    if (effect > 0) {
        disk->fired = true;
        return 0;
    }
    return mdn_io_system.sync_dir(NULL, path);
}

static int
faulty_truncate(void *self, int fd, uint64_t size)
{
    faulty *disk = self;
    int refused = refusal(disk, FAULTY_TRUNCATE);

    if (refused != 0)
        return refused;
    remember(disk, fd, size, UINT64_MAX);
    return mdn_io_system.truncate(NULL, fd, size);
}

static int
faulty_allocate(void *self, int fd, uint64_t at, uint64_t size)
{
    faulty *disk = self;
    int refused = refusal(disk, FAULTY_ALLOCATE);

    if (refused != 0)
        return refused;
    remember(disk, fd, at, 0);
    return mdn_io_system.allocate(NULL, fd, at, size);
}

static int
faulty_size(void *self, int fd, uint64_t *out)
{
    int refused = refusal(self, FAULTY_SIZE);

    return refused ? refused : mdn_io_system.size(NULL, fd, out);
}

static int
faulty_stat(void *self, int fd, mdn_file_facts *out)
{
    int refused = refusal(self, FAULTY_STAT);

    return refused ? refused : mdn_io_system.stat(NULL, fd, out);
}

static int
faulty_rename(void *self, const char *from, const char *to)
{
    int refused = refusal(self, FAULTY_RENAME);

    return refused ? refused : mdn_io_system.rename(NULL, from, to);
}

static int
faulty_unlink(void *self, const char *path)
{
    int refused = refusal(self, FAULTY_UNLINK);

    return refused ? refused : mdn_io_system.unlink(NULL, path);
}

static int
faulty_mkdir(void *self, const char *path, unsigned mode)
{
    int refused = refusal(self, FAULTY_MKDIR);

    return refused ? refused : mdn_io_system.mkdir(NULL, path, mode);
}

static int
faulty_list(void *self, const char *path,
            void (*visit)(void *ctx, const char *name), void *ctx)
{
    int refused = refusal(self, FAULTY_LIST);

    return refused ? refused : mdn_io_system.list(NULL, path, visit, ctx);
}

static int
faulty_lock(void *self, int fd)
{
    int refused = refusal(self, FAULTY_LOCK);

    return refused ? refused : mdn_io_system.lock(NULL, fd);
}

static int
faulty_map(void *self, void *want, uint64_t size, int fd, uint64_t at,
           void **out)
{
    int refused = refusal(self, FAULTY_MAP);

    return refused ? refused : mdn_io_system.map(NULL, want, size, fd, at, out);
}

const mdn_io *
faulty_io(faulty *disk)
{
    disk->io = (mdn_io){.self = disk,
                        .open = faulty_open,
                        .close = faulty_close,
                        .pread = faulty_pread,
                        .pwrite = faulty_pwrite,
                        .sync = faulty_sync,
                        .sync_dir = faulty_sync_dir,
                        .truncate = faulty_truncate,
                        .allocate = faulty_allocate,
                        .size = faulty_size,
                        .stat = faulty_stat,
                        .rename = faulty_rename,
                        .unlink = faulty_unlink,
                        .mkdir = faulty_mkdir,
                        .list = faulty_list,
                        .lock = faulty_lock,
                        .map = faulty_map};
    return &disk->io;
}
