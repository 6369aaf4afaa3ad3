/* resize.h - arrays that grow. */
#ifndef MDN_BASE_RESIZE_H
#define MDN_BASE_RESIZE_H

#include "base/error.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Make an array, malloc'd or NULL, so long; `array` is where the pointer to it
 * lies, of any type.  MDN_NOMEM, and then it is what it was. */
static inline mdn_status
mdn_resize(void *array, uint64_t bytes, mdn_error *err)
{
    void *old, *moved;

    memcpy(&old, array, sizeof old);
    moved = realloc(old, bytes > 0 ? bytes : 1);
    if (moved == NULL)
        return mdn_fail_nomem(err, bytes);
    memcpy(array, &moved, sizeof moved);
    return MDN_OK;
}

#endif
