/* nth_call.c - a library to preload: the process ends, or a call fails, at the
 * n-th call of libc that touches a file below one directory.
 *
 *     cc -shared -fPIC -o nth_call.so nth_call.c
 *     LD_PRELOAD=$PWD/nth_call.so python ...
 *         library = ctypes.CDLL(None)
 *         library.nth_call_arm(b"/directory", 17, DIE, False)
 *
 * Counted are calls that change what is there, or may say that it is durable;
 * with the acts that fail a call those that read, too; to tear, writes alone.
 * Between two calls of the first kind nothing changes, so ending before each of
 * them, and in the middle of each write, is ending at every moment.
 *
 * What goes over sockets is counted where that is asked for: a message before
 * it goes, and to die once more when it has gone, before its answer is there.
 * A call that fails there takes the connection with it.
 *
 * What calls the kernel itself, or libc's own stdio, is not seen: neither
 * Python, nor SQLite, nor the core (csrc/base/io.c) does. One process arms it
 * once, before it starts threads that touch files. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum act { DIE, TEAR, EIO_ONCE, EIO_EVER, ENOSPC_ONCE, ENOSPC_EVER };
enum kind { READS, CHANGES, WRITES };

#define DIED 99 /* exit status, as in tests/python/crash_driver.py */

static char place[PATH_MAX]; /* empty: nothing is counted */
static size_t place_length;
static bool sockets;
static long target;
static enum act act;
static _Atomic long counted;

/* Count calls below `path`, and those of sockets or not, from now on; act at
 * number `at` from 0, -1: never. */
void
nth_call_arm(const char *path, long at, int how, bool with_sockets)
{
    sockets = with_sockets;
    target = at;
    act = (enum act)how;
    atomic_store(&counted, 0);
    place_length = strlen(path);
    memcpy(place, path, place_length + 1);
}

long
nth_call_count(void)
{
    return atomic_load(&counted);
}

static void
die(void)
{
    syscall(SYS_exit_group, DIED);
}

static bool
is_ours(const char *path)
{
    return place_length > 0 && strncmp(path, place, place_length) == 0
           && (path[place_length] == '/' || path[place_length] == '\0');
}

static bool
is_fd_ours(int fd)
{
    char name[64], path[PATH_MAX];
    if (place_length == 0 || fd < 0)
        return false;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0)
        return false;
    path[length] = '\0';
    return is_ours(path);
}

/* Whether a path relative to a directory is ours. */
static bool
is_at_ours(int fd, const char *path)
{
    if (path == NULL || place_length == 0)
        return false;
    return path[0] == '/' || fd == AT_FDCWD ? is_ours(path) : is_fd_ours(fd);
}

/* Count a call; whether it is the one to act at. */
static bool
is_hit(bool ours, enum kind kind)
{
    bool fails = act != DIE && act != TEAR;
    if (!ours || (kind == READS && !fails) || (kind != WRITES && act == TEAR))
        return false;
    long number = atomic_fetch_add(&counted, 1);
    if (target < 0)
        return false;
    if (act == EIO_EVER || act == ENOSPC_EVER)
        return number >= target;
    return number == target;
}

/* Act at a call that cannot be torn: end, or set errno and return true. */
static bool
fails(bool hit)
{
    if (!hit)
        return false;
    if (act == DIE)
        die();
    errno = act == ENOSPC_ONCE || act == ENOSPC_EVER ? ENOSPC : EIO;
    return true;
}

/* There is no room where nothing is written. */
static bool
fails_read(bool ours)
{
    bool hit = is_hit(ours, READS);
    return hit && (act == EIO_ONCE || act == EIO_EVER) && fails(hit);
}

#define REAL(name)                                                             \
    static __typeof__(&name) real;                                             \
    if (real == NULL)                                                          \
    real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define READ(name, parameters, arguments)                                      \
    ssize_t name parameters                                                    \
    {                                                                          \
        REAL(name);                                                            \
        if (fails_read(is_fd_ours(fd)))                                        \
            return -1;                                                         \
        return real arguments;                                                 \
    }

READ(read, (int fd, void *to, size_t size), (fd, to, size))
READ(pread, (int fd, void *to, size_t size, off_t at), (fd, to, size, at))
READ(pread64, (int fd, void *to, size_t size, off64_t at), (fd, to, size, at))

/* A write that is torn leaves its first half. */
#define WRITE(name, parameters, half, arguments)                               \
    ssize_t name parameters                                                    \
    {                                                                          \
        REAL(name);                                                            \
        bool hit = is_hit(is_fd_ours(fd), WRITES);                             \
        if (hit && act == TEAR) {                                              \
            real half;                                                         \
            die();                                                             \
        }                                                                      \
        if (fails(hit))                                                        \
            return -1;                                                         \
        return real arguments;                                                 \
    }

WRITE(write, (int fd, const void *from, size_t size), (fd, from, size / 2),
      (fd, from, size))
WRITE(pwrite, (int fd, const void *from, size_t size, off_t at),
      (fd, from, size / 2, at), (fd, from, size, at))
WRITE(pwrite64, (int fd, const void *from, size_t size, off64_t at),
      (fd, from, size / 2, at), (fd, from, size, at))
WRITE(writev, (int fd, const struct iovec *parts, int count),
      (fd, parts, count / 2), (fd, parts, count))

static bool
is_socket(int fd)
{
    struct stat about;
    return sockets && fstat(fd, &about) == 0 && S_ISSOCK(about.st_mode);
}

/* Lose the connection at a call of it. */
static bool
is_cut(int fd, bool hit)
{
    if (!hit || act == ENOSPC_ONCE || act == ENOSPC_EVER)
        return false;
    if (act == DIE)
        die();
    shutdown(fd, SHUT_RDWR);
    errno = ECONNRESET;
    return true;
}

ssize_t
send(int fd, const void *from, size_t size, int flags)
{
    REAL(send);
    bool ours = is_socket(fd);
    bool hit = is_hit(ours, WRITES);
    if (hit && act == TEAR) {
        real(fd, from, size / 2, flags);
        die();
    }
    if (is_cut(fd, hit))
        return -1;
    ssize_t sent = real(fd, from, size, flags);
    if (act == DIE && is_hit(ours, CHANGES))
        die();
    return sent;
}

ssize_t
recv(int fd, void *to, size_t size, int flags)
{
    REAL(recv);
    if (is_cut(fd, is_hit(is_socket(fd), READS)))
        return -1;
    return real(fd, to, size, flags);
}

#define CHANGE(name, parameters, ours, arguments)                              \
    int name parameters                                                        \
    {                                                                          \
        REAL(name);                                                            \
        if (fails(is_hit(ours, CHANGES)))                                      \
            return -1;                                                         \
        return real arguments;                                                 \
    }

CHANGE(fsync, (int fd), is_fd_ours(fd), (fd))
CHANGE(fdatasync, (int fd), is_fd_ours(fd), (fd))
CHANGE(ftruncate, (int fd, off_t size), is_fd_ours(fd), (fd, size))
CHANGE(ftruncate64, (int fd, off64_t size), is_fd_ours(fd), (fd, size))
CHANGE(truncate, (const char *path, off_t size), is_at_ours(AT_FDCWD, path),
       (path, size))
CHANGE(fallocate, (int fd, int mode, off_t at, off_t size), is_fd_ours(fd),
       (fd, mode, at, size))
CHANGE(fallocate64, (int fd, int mode, off64_t at, off64_t size),
       is_fd_ours(fd), (fd, mode, at, size))
CHANGE(rename, (const char *from, const char *to), is_at_ours(AT_FDCWD, to),
       (from, to))
CHANGE(renameat, (int a, const char *from, int b, const char *to),
       is_at_ours(b, to), (a, from, b, to))
CHANGE(renameat2,
       (int a, const char *from, int b, const char *to, unsigned flags),
       is_at_ours(b, to), (a, from, b, to, flags))
CHANGE(link, (const char *from, const char *to), is_at_ours(AT_FDCWD, to),
       (from, to))
CHANGE(linkat, (int a, const char *from, int b, const char *to, int flags),
       is_at_ours(b, to), (a, from, b, to, flags))
CHANGE(unlink, (const char *path), is_at_ours(AT_FDCWD, path), (path))
CHANGE(unlinkat, (int fd, const char *path, int flags), is_at_ours(fd, path),
       (fd, path, flags))
CHANGE(rmdir, (const char *path), is_at_ours(AT_FDCWD, path), (path))
CHANGE(mkdir, (const char *path, mode_t mode), is_at_ours(AT_FDCWD, path),
       (path, mode))
CHANGE(mkdirat, (int fd, const char *path, mode_t mode), is_at_ours(fd, path),
       (fd, path, mode))

/* An open file is a change where it makes one, or empties it. */
static bool
fails_open(int fd, const char *path, int flags)
{
    bool ours = is_at_ours(fd, path);
    if ((flags & (O_CREAT | O_TRUNC)) == 0)
        return fails_read(ours);
    return fails(is_hit(ours, CHANGES));
}

#define OPEN(name, parameters, fd, arguments)                                  \
    int name parameters                                                        \
    {                                                                          \
        REAL(name);                                                            \
        mode_t mode = 0;                                                       \
        if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) {      \
            va_list rest;                                                      \
            va_start(rest, flags);                                             \
            mode = va_arg(rest, mode_t);                                       \
            va_end(rest);                                                      \
        }                                                                      \
        if (fails_open(fd, path, flags))                                       \
            return -1;                                                         \
        return real arguments;                                                 \
    }

OPEN(open, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPEN(openat, (int fd, const char *path, int flags, ...), fd,
     (fd, path, flags, mode))
OPEN(openat64, (int fd, const char *path, int flags, ...), fd,
     (fd, path, flags, mode))

#define MAP(name, offset)                                                      \
    void *name(void *to, size_t size, int access, int flags, int fd,           \
               offset at)                                                      \
    {                                                                          \
        REAL(name);                                                            \
        if (fails_read(is_fd_ours(fd)))                                        \
            return MAP_FAILED;                                                 \
        return real(to, size, access, flags, fd, at);                          \
    }

MAP(mmap, off_t)
MAP(mmap64, off64_t)
