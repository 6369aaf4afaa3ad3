/* storage_floor.c - what the file system itself can do, for storage.py.
 *
 * No checksums, no columns of their own, no commit: the calls that any store
 * would need to have these bytes on disk, or in memory.  Each function returns
 * 0, or -errno.  Compiled by benchmarks/machine.py and called through ctypes.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

/* A new file with room for size bytes: its descriptor. */
int
floor_create(const char *path, uint64_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);

    if (fd < 0)
        return -errno;
    if (size > 0 && fallocate(fd, 0, 0, (off_t)size) < 0) {
        int reason = errno;

        close(fd);
        return -reason;
    }
    return fd;
}

/* size bytes at an offset, in pieces of piece bytes, and durable; early: the
 * disk is told to begin with each piece. */
int
floor_write(int fd, const char *data, uint64_t size, uint64_t at,
            uint64_t piece, int early)
{
    while (size > 0) {
        uint64_t n = size < piece ? size : piece;
        ssize_t put = pwrite(fd, data, n, (off_t)at);

        if (put < 0)
            return -errno;
        if (early)
            sync_file_range(fd, (off_t)at, put, SYNC_FILE_RANGE_WRITE);
        data += put;
        at += (uint64_t)put;
        size -= (uint64_t)put;
    }
    return fdatasync(fd) < 0 ? -errno : 0;
}

/* All of one file into buffer: how many bytes. */
static int64_t
read_file(int folder, const char *name, char *buffer, uint64_t room)
{
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    uint64_t done = 0;
    ssize_t got = 0;

    if (fd < 0)
        return -errno;
    while (done < room && (got = read(fd, buffer + done, room - done)) > 0)
        done += (uint64_t)got;
    got = got < 0 ? -errno : 0;
    close(fd);
    return got < 0 ? got : (int64_t)done;
}

/* Every file of a folder, one after the other, in the order in which the folder
 * lists them, into the same buffer: how many bytes they have. */
int64_t
floor_read_folder(const char *path, char *buffer, uint64_t room)
{
    DIR *folder = opendir(path);
    const struct dirent *entry;
    int64_t total = 0;

    if (folder == NULL)
        return -errno;
    while (total >= 0 && (entry = readdir(folder)) != NULL) {
        int64_t got;

        if (entry->d_name[0] == '.')
            continue;
        got = read_file(dirfd(folder), entry->d_name, buffer, room);
        total = got < 0 ? got : total + got;
    }
    closedir(folder);
    return total;
}
