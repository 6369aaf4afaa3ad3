/* window.c - the buffer moves when something outside of it is asked for. */
#include "storage/window.h"

#include <errno.h>
#include <string.h>

const uint8_t *
mdn_window_look(mdn_window *w, uint64_t at, uint64_t *size)
{
    int64_t got = 0;

    if (at < w->at || at >= w->at + w->size) {
        w->at = at;
        w->size = 0;
        if (w->file->fd < 0 || at > INT64_MAX)
            return NULL;
        do
            got = w->file->io->pread(w->file->io->self, w->file->fd, w->bytes,
                                     MDN_WINDOW_SIZE, at);
        while (got == -EINTR);
        if (got <= 0)
            return NULL;
        w->size = (uint64_t)got;
    }
    if (*size > w->at + w->size - at)
        *size = w->at + w->size - at;
    return w->bytes + (at - w->at);
}

bool
mdn_window_copy(mdn_window *w, uint64_t at, uint64_t size, void *out)
{
    uint8_t *to = out;

    while (size > 0) {
        uint64_t n = size;
        const uint8_t *bytes = mdn_window_look(w, at, &n);

        if (bytes == NULL)
            return false;
        memcpy(to, bytes, n);
        to += n;
        at += n;
        size -= n;
    }
    return true;
}
