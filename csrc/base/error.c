/* error.c - filling the error record. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* vsnprintf returns what it wanted to write; this, what it did write. */
static size_t
format(char *out, size_t size, const char *fmt, va_list args)
{
    int wanted = vsnprintf(out, size, fmt, args);

    if (wanted < 0) {
        out[0] = '\0';
        return 0;
    }
    return (size_t)wanted < size ? (size_t)wanted : size - 1;
}

mdn_status
mdn_fail(mdn_error *err, mdn_status status, const char *fmt, ...)
{
    va_list args;

    if (err == NULL)
        return status;
    err->status = status;
    err->sys_errno = 0;
    va_start(args, fmt);
    format(err->message, sizeof err->message, fmt, args);
    va_end(args);
    return status;
}

mdn_status
mdn_fail_errno(mdn_error *err, int sys_errno, const char *fmt, ...)
{
    char reason[128];
    size_t used;
    va_list args;

    if (err == NULL)
        return MDN_IO;
    err->status = MDN_IO;
    err->sys_errno = sys_errno;
    va_start(args, fmt);
    used = format(err->message, sizeof err->message, fmt, args);
    va_end(args);
    /* The GNU strerror_r: it returns the text, in the buffer or elsewhere. */
    snprintf(err->message + used, sizeof err->message - used, ": %s",
             strerror_r(sys_errno, reason, sizeof reason));
    return MDN_IO;
}

mdn_status
mdn_fail_nomem(mdn_error *err, unsigned long long size_bytes)
{
    return mdn_fail(err, MDN_NOMEM, "no memory for %llu bytes", size_bytes);
}
