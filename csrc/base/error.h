/* error.h - how every function of the core says that it failed.
 *
 *     mdn_status f(inputs, T **out, mdn_error *err);
 *
 * A function that can fail returns a status and takes an error record last,
 * which may be NULL.  On every failure *out is NULL (or untouched where it is
 * a number) and the caller has nothing to clean up.  The message names the
 * thing, the place and the numbers, in words a user can act on. */
#ifndef MDN_BASE_ERROR_H
#define MDN_BASE_ERROR_H

typedef enum {
    MDN_OK = 0,
    MDN_NOMEM,       /* no memory: MemoryError */
    MDN_INVALID,     /* an argument or an input is wrong: ValueError */
    MDN_IO,          /* the system refused; sys_errno says why: OSError */
    MDN_CORRUPT,     /* stored bytes are damaged: modyn.CorruptError */
    MDN_UNSUPPORTED, /* a format version we do not know: modyn.CorruptError */
    MDN_NO_KEY,      /* no sample has this key: KeyError */
    MDN_BUSY,        /* somebody else is writing: modyn.BusyError */
    MDN_CLOSED,      /* used after close: modyn.ClosedError */
    MDN_TIMEOUT,     /* nothing yet, ask again: never reaches Python */
    MDN_CANCELLED,   /* close() woke the waiter: modyn.ClosedError */
    MDN_CALLBACK,    /* a callback failed; its exception is already set */
    MDN_DATABASE,    /* a database refused or is gone: DatabaseError */
    MDN_FENCED,      /* another process took over: modyn.FencedError */
} mdn_status;

typedef struct {
    mdn_status status;
    int sys_errno;     /* errno for MDN_IO, otherwise 0 */
    char message[512]; /* always NUL-terminated */
} mdn_error;

/* Fill *err, if not NULL, and return status, so that failing is one line:
 *     return mdn_fail(err, MDN_CORRUPT, "%s: not a segment", path); */
mdn_status mdn_fail(mdn_error *err, mdn_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for MDN_IO: appends strerror(sys_errno) to the message. */
mdn_status mdn_fail_errno(mdn_error *err, int sys_errno, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* MDN_NOMEM with the number of bytes that could not be had. */
mdn_status mdn_fail_nomem(mdn_error *err, unsigned long long size_bytes);

#endif
