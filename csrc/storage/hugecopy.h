/* hugecopy.h - a view whose records lie in huge pages of its own.
 *
 * It shows what the view shows that it is made of, and keeps it: what is erased
 * later is still there, as in any view, until the last user is gone.  Its
 * records of a range of keys are copied and verified when it is made, and never
 * leave memory.  Columns are mapped as in any view. */
#ifndef MDN_STORAGE_HUGECOPY_H
#define MDN_STORAGE_HUGECOPY_H

#include "base/error.h"
#include "base/pulse.h"
#include "storage/view.h"

#include <stdint.h>

/* Bytes of memory that a copy of the records of keys first .. end-1 takes,
 * which are in whole huge pages; first < end <= count.  MDN_CORRUPT and MDN_IO
 * as a fetch. */
mdn_status mdn_hugecopy_size(mdn_view *view, uint64_t first, uint64_t end,
                             uint64_t *bytes, mdn_error *err);

/* One reference to a view with such a copy; threads >= 1.  MDN_CORRUPT and
 * MDN_IO as a fetch of all these keys; MDN_NOMEM; what the pulse says. */
mdn_status mdn_hugecopy_new(mdn_view *view, uint64_t first, uint64_t end,
                            uint32_t threads, const mdn_pulse *pulse,
                            mdn_view **out, mdn_error *err);

#endif
