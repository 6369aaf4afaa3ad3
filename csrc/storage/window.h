/* window.h - a file read front to back through a buffer that moves with it.
 *
 * What cannot be read is not there: neither a short file nor a bad sector is an
 * error here, and nothing is mapped, so that nothing can be cut off under it.
 */
#ifndef MDN_STORAGE_WINDOW_H
#define MDN_STORAGE_WINDOW_H

#include "base/file.h"

#define MDN_WINDOW_SIZE (UINT64_C(1) << 20)

typedef struct {
    const mdn_file *file; /* borrowed; may be closed */
    uint64_t at, size;    /* the part of it that is in the buffer */
    uint8_t *bytes;       /* MDN_WINDOW_SIZE of them, the caller's */
} mdn_window;

/* Bytes of the file from `at` on, at least one and at most *size; *size is how
 * many.  NULL where there are none. */
const uint8_t *mdn_window_look(mdn_window *w, uint64_t at, uint64_t *size);

/* Copy a part of the file; false if it is not there. */
bool mdn_window_copy(mdn_window *w, uint64_t at, uint64_t size, void *out);

#endif
