/* io.c - the table of the system's own calls.
 *
 * Nothing is retried here: an interrupted or a short call is passed on as it
 * is, so that the loops of file.c are what every caller relies on. */
#include "base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14; earlier ones answer EINVAL */
#endif

/* The result of a call that answers -1 and errno, as a result or -errno. */
static int
outcome(int result)
{
    return result < 0 ? -errno : result;
}

static int
sys_open(void *self, const char *path, int flags, unsigned mode)
{
    (void)self;
    return outcome(open(path, flags | O_CLOEXEC, (mode_t)mode));
}

static int
sys_close(void *self, int fd)
{
    (void)self;
    return outcome(close(fd));
}

static int64_t
sys_pread(void *self, int fd, void *buf, uint64_t size, uint64_t at)
{
    ssize_t got;

    (void)self;
    if (at > INT64_MAX)
        return -EINVAL;
    got = pread(fd, buf, size, (off_t)at);
    return got < 0 ? -errno : got;
}

static int64_t
sys_pwrite(void *self, int fd, const void *buf, uint64_t size, uint64_t at)
{
    ssize_t put;

    (void)self;
    if (at > INT64_MAX)
        return -EFBIG;
    put = pwrite(fd, buf, size, (off_t)at);
    return put < 0 ? -errno : put;
}

static int
sys_sync(void *self, int fd, bool data_only)
{
    (void)self;
    return outcome(data_only ? fdatasync(fd) : fsync(fd));
}

/* Neither waits nor consumes an error of an earlier write: both are left to
 * the sync that follows. */
static int
sys_start(void *self, int fd, uint64_t at, uint64_t size)
{
    (void)self;
    if (at > INT64_MAX || size > INT64_MAX - at)
        return -EFBIG;
    return outcome(
        sync_file_range(fd, (off_t)at, (off_t)size, SYNC_FILE_RANGE_WRITE));
}

static int
sys_sync_dir(void *self, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result;

    (void)self;
    if (fd < 0)
        return -errno;
    result = outcome(fsync(fd));
    close(fd);
    return result;
}

static int
sys_truncate(void *self, int fd, uint64_t size)
{
    (void)self;
    if (size > INT64_MAX)
        return -EFBIG;
    return outcome(ftruncate(fd, (off_t)size));
}

static int
sys_allocate(void *self, int fd, uint64_t at, uint64_t size)
{
    (void)self;
    if (at > INT64_MAX || size > INT64_MAX)
        return -EFBIG;
    return outcome(fallocate(fd, 0, (off_t)at, (off_t)size));
}

static int
sys_size(void *self, int fd, uint64_t *out)
{
    struct stat st;

    (void)self;
    if (fstat(fd, &st) < 0)
        return -errno;
    *out = (uint64_t)st.st_size;
    return 0;
}

/* Seconds beyond what 64 bits of nanoseconds hold (the year 2262) stand still
 * at the last one. */
static int64_t
nanoseconds(struct timespec time)
{
    int64_t ns;

    if (__builtin_mul_overflow((int64_t)time.tv_sec, 1000000000, &ns)
        || __builtin_add_overflow(ns, (int64_t)time.tv_nsec, &ns))
        return time.tv_sec < 0 ? INT64_MIN : INT64_MAX;
    return ns;
}

static mdn_file_facts
facts_of(const struct stat *st)
{
    return (mdn_file_facts){
        .size = (uint64_t)st->st_size,
        .mtime_ns = nanoseconds(st->st_mtim),
        .device = (uint64_t)st->st_dev,
        .inode = (uint64_t)st->st_ino,
        .regular = S_ISREG(st->st_mode),
    };
}

static int
sys_stat(void *self, int fd, mdn_file_facts *out)
{
    struct stat st;

    (void)self;
    if (fstat(fd, &st) < 0)
        return -errno;
    *out = facts_of(&st);
    return 0;
}

static int
sys_look(void *self, const char *path, mdn_file_facts *out)
{
    struct stat st;

    (void)self;
    if (stat(path, &st) < 0)
        return -errno;
    *out = facts_of(&st);
    return 0;
}

static int
sys_rename(void *self, const char *from, const char *to)
{
    (void)self;
    return outcome(rename(from, to));
}

static int
sys_unlink(void *self, const char *path)
{
    (void)self;
    return outcome(unlink(path));
}

static int
sys_mkdir(void *self, const char *path, unsigned mode)
{
    (void)self;
    return outcome(mkdir(path, (mode_t)mode));
}

static int
sys_list(void *self, const char *path,
         void (*visit)(void *ctx, const char *name), void *ctx)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    int failed;

    (void)self;
    if (directory == NULL)
        return -errno;
    errno = 0;
    while ((entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            visit(ctx, entry->d_name);
        errno = 0;
    }
    failed = errno;
    closedir(directory);
    return -failed;
}

static int
sys_lock(void *self, int fd)
{
    (void)self;
    return outcome(flock(fd, LOCK_EX | LOCK_NB));
}

static int
sys_map(void *self, void *want, uint64_t size, int fd, uint64_t at, void **out)
{
    int flags = want == NULL ? MAP_SHARED : MAP_SHARED | MAP_FIXED;
    void *place;

    (void)self;
    if (at > INT64_MAX)
        return -EINVAL;
    place = mmap(want, size, PROT_READ, flags, fd, (off_t)at);
    if (place == MAP_FAILED)
        return -errno;
    *out = place;
    return 0;
}

static int
sys_advise(void *self, const void *at, uint64_t size, mdn_advice advice)
{
    static const int advices[] = {
        [MDN_ADVICE_HUGE] = MADV_HUGEPAGE,
        [MDN_ADVICE_SOON] = MADV_WILLNEED,
        [MDN_ADVICE_NOW] = MADV_POPULATE_READ,
    };

    (void)self;
    return outcome(madvise((void *)(uintptr_t)at, size, advices[advice]));
}

static int
sys_resident(void *self, const void *at, uint64_t size, uint8_t *pages)
{
    (void)self;
    return outcome(mincore((void *)(uintptr_t)at, size, pages));
}

const mdn_io mdn_io_system = {
    .open = sys_open,
    .close = sys_close,
    .pread = sys_pread,
    .pwrite = sys_pwrite,
    .sync = sys_sync,
    .start = sys_start,
    .sync_dir = sys_sync_dir,
    .truncate = sys_truncate,
    .allocate = sys_allocate,
    .size = sys_size,
    .stat = sys_stat,
    .look = sys_look,
    .rename = sys_rename,
    .unlink = sys_unlink,
    .mkdir = sys_mkdir,
    .list = sys_list,
    .lock = sys_lock,
    .map = sys_map,
    .advise = sys_advise,
    .resident = sys_resident,
};
