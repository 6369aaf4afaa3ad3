/* io.h - the table through which the core reaches the file system.
 *
 * One table per dataset handle; tests pass a faulty one (tests/c/faulty_io.h).
 * No other file of csrc calls open, pread, fsync and friends directly.  Calls
 * return what the system call would, or -errno; they may be interrupted and
 * short.  base/file.h adds the loops, the messages and the rules. */
#ifndef MDN_BASE_IO_H
#define MDN_BASE_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What a file system knows of an open file. */
typedef struct {
    uint64_t size;
    int64_t mtime_ns; /* since 1970 */
    uint64_t device, inode;
    bool regular; /* neither directory nor pipe nor device */
} mdn_file_facts;

/* What the system is told of mapped pages. */
typedef enum {
    MDN_ADVICE_HUGE, /* use huge pages */
    MDN_ADVICE_SOON, /* begin to read them in, and do not wait for it */
    MDN_ADVICE_NOW,  /* read in and map: -EFAULT where the file has ended,
                        -EINVAL where the kernel is too old for it */
} mdn_advice;

typedef struct mdn_io {
    void *self; /* passed back to every call */
    int (*open)(void *self, const char *path, int flags, unsigned mode);
    int (*close)(void *self, int fd);
    int64_t (*pread)(void *self, int fd, void *buf, uint64_t size, uint64_t at);
    int64_t (*pwrite)(void *self, int fd, const void *buf, uint64_t size,
                      uint64_t at);
    int (*sync)(void *self, int fd, bool data_only);
    /* Begin to write out a range, without waiting for it; may be NULL. */
    int (*start)(void *self, int fd, uint64_t at, uint64_t size);
    int (*sync_dir)(void *self, const char *path);
    int (*truncate)(void *self, int fd, uint64_t size);
    int (*allocate)(void *self, int fd, uint64_t at, uint64_t size);
    int (*size)(void *self, int fd, uint64_t *out);
    int (*stat)(void *self, int fd, mdn_file_facts *out);
    int (*look)(void *self, const char *path, mdn_file_facts *out);
    int (*rename)(void *self, const char *from, const char *to);
    int (*unlink)(void *self, const char *path);
    int (*mkdir)(void *self, const char *path, unsigned mode);
    /* Each name in a directory but . and .., in any order. */
    int (*list)(void *self, const char *path,
                void (*visit)(void *ctx, const char *name), void *ctx);
    int (*lock)(void *self, int fd); /* exclusive, no wait: -EWOULDBLOCK */
    int (*map)(void *self, void *want, uint64_t size, int fd, uint64_t at,
               void **out); /* read-only, shared; want != NULL is MAP_FIXED */
    /* Of mapped pages; at is the beginning of one. */
    int (*advise)(void *self, const void *at, uint64_t size, mdn_advice advice);
    /* pages[i] & 1: page number i is in memory. */
    int (*resident)(void *self, const void *at, uint64_t size, uint8_t *pages);
} mdn_io;

/* The system's own calls. */
extern const mdn_io mdn_io_system;

#endif
