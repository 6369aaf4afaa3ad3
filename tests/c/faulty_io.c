/* faulty_io.c - the system's calls, behind a counter that makes some fail.
 * What they change is remembered by faulty_record.c. */
#include "faulty_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

void
faulty_power_cut(faulty *disk)
{
    faulty_record_cut(&disk->changes);
}

void
faulty_power_cut_some(faulty *disk, uint64_t seed)
{
    faulty_record_cut_some(&disk->changes, seed);
}

void
faulty_forget(faulty *disk)
{
    faulty_record_forget(&disk->changes);
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
    case FAULT_EDQUOT:
        if (!(kind & need_room))
            return 0;
        disk->fired = true;
        return disk->fault == FAULT_ENOSPC ? -ENOSPC : -EDQUOT;
    case FAULT_EMFILE:
        if (!(kind & (FAULTY_OPEN | FAULTY_SYNC_DIR)))
            return 0;
        disk->fired = true;
        return -EMFILE;
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
    bool is_new = (flags & O_CREAT) && access(path, F_OK) < 0;

    if (fd == 0)
        fd = mdn_io_system.open(NULL, path, flags & ~O_TRUNC, mode);
    if (fd >= 0 && is_new)
        faulty_after_create(&disk->changes, path);
    if (fd >= 0 && (flags & O_TRUNC)) {
        faulty_before_resize(&disk->changes, fd, 0);
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

/* What a short transfer moves: one byte of a few, a part of many, so that a
 * disk on which all of them are short gets there. */
static uint64_t
shortened(uint64_t size)
{
    return size <= 4096 ? 1 + size / 64 : size / 3;
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
        size = shortened(size), disk->fired = true;
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
        size = shortened(size), disk->fired = true;
    if (effect > 0 && disk->fault == FAULT_TORN)
        size /= 2;
    faulty_before_write(&disk->changes, fd, at, size);
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
        faulty_after_sync(&disk->changes, fd);
    return effect;
}

/* Nothing is durable after it, so nothing is settled. */
static int
faulty_start(void *self, int fd, uint64_t at, uint64_t size)
{
    int refused = refusal(self, FAULTY_START);

    return refused ? refused : mdn_io_system.start(NULL, fd, at, size);
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
    effect = mdn_io_system.sync_dir(NULL, path);
    if (effect == 0)
        faulty_after_sync_dir(&disk->changes, path);
    return effect;
}

static int
faulty_truncate(void *self, int fd, uint64_t size)
{
    faulty *disk = self;
    int refused = refusal(disk, FAULTY_TRUNCATE);

    if (refused != 0)
        return refused;
    faulty_before_resize(&disk->changes, fd, size);
    return mdn_io_system.truncate(NULL, fd, size);
}

static int
faulty_allocate(void *self, int fd, uint64_t at, uint64_t size)
{
    faulty *disk = self;
    int refused = refusal(disk, FAULTY_ALLOCATE);

    if (refused != 0)
        return refused;
    if (disk->changes.on) {
        uint64_t before;

        if (mdn_io_system.size(NULL, fd, &before) < 0)
            abort();
        if (at + size > before)
            faulty_before_resize(&disk->changes, fd, at + size);
    }
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
faulty_look(void *self, const char *path, mdn_file_facts *out)
{
    int refused = refusal(self, FAULTY_STAT);

    return refused ? refused : mdn_io_system.look(NULL, path, out);
}

static int
faulty_rename(void *self, const char *from, const char *to)
{
    faulty *disk = self;
    int refused = refusal(disk, FAULTY_RENAME);

    if (refused != 0)
        return refused;
    faulty_before_rename(&disk->changes, from, to);
    return mdn_io_system.rename(NULL, from, to);
}

static int
faulty_unlink(void *self, const char *path)
{
    faulty *disk = self;
    int refused = refusal(disk, FAULTY_UNLINK);

    if (refused != 0)
        return refused;
    faulty_before_unlink(&disk->changes, path);
    return mdn_io_system.unlink(NULL, path);
}

static int
faulty_mkdir(void *self, const char *path, unsigned mode)
{
    faulty *disk = self;
    int result = refusal(disk, FAULTY_MKDIR);

    if (result == 0)
        result = mdn_io_system.mkdir(NULL, path, mode);
    if (result == 0 && !disk->dead)
        faulty_after_create(&disk->changes, path);
    return result;
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

static int
faulty_advise(void *self, const void *at, uint64_t size, mdn_advice advice)
{
    int refused = refusal(self, FAULTY_ADVISE);

    return refused ? refused : mdn_io_system.advise(NULL, at, size, advice);
}

static int
faulty_resident(void *self, const void *at, uint64_t size, uint8_t *pages)
{
    int refused = refusal(self, FAULTY_RESIDENT);

    return refused ? refused : mdn_io_system.resident(NULL, at, size, pages);
}

const mdn_io *
faulty_io(faulty *disk)
{
    disk->changes.on = disk->record;
    disk->io = (mdn_io){.self = disk,
                        .open = faulty_open,
                        .close = faulty_close,
                        .pread = faulty_pread,
                        .pwrite = faulty_pwrite,
                        .sync = faulty_sync,
                        .start = faulty_start,
                        .sync_dir = faulty_sync_dir,
                        .truncate = faulty_truncate,
                        .allocate = faulty_allocate,
                        .size = faulty_size,
                        .stat = faulty_stat,
                        .look = faulty_look,
                        .rename = faulty_rename,
                        .unlink = faulty_unlink,
                        .mkdir = faulty_mkdir,
                        .list = faulty_list,
                        .lock = faulty_lock,
                        .map = faulty_map,
                        .advise = faulty_advise,
                        .resident = faulty_resident};
    return &disk->io;
}
