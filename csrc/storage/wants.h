/* wants.h - which bytes of which files a fetch of some keys will read.
 *
 * A block that was not verified in this process yet is read whole by whoever
 * touches it first, so it is wanted whole; of a verified one, the pages of the
 * records.  What the columns say is needed to know where records with bytes
 * fields lie: those parts of it are read in first. */
#ifndef MDN_STORAGE_WANTS_H
#define MDN_STORAGE_WANTS_H

#include "storage/resident.h"
#include "storage/view.h"

/* What is wanted of each sample, as bits. */
#define MDN_WANT_RECORDS 1u
#define MDN_WANT_LABELS 2u
#define MDN_WANT_TIMESTAMPS 4u

/* Add to *spans, which is empty, what these keys need, in ascending order, each
 * byte once.  Keys in any order, repeats allowed; such as are not there are
 * left out, as is what cannot be mapped: the fetch says why.  MDN_NOMEM, and
 * *spans is empty; or, once *stop is set, MDN_CANCELLED. */
mdn_status mdn_wants_of(mdn_view *view, const uint64_t *keys, uint64_t count,
                        unsigned what, const atomic_bool *stop,
                        mdn_spans *spans, mdn_error *err);

/* The same for all samples of a segment, and their timestamps. */
mdn_status mdn_wants_segment(mdn_view *view, uint64_t segment, mdn_spans *spans,
                             mdn_error *err);

/* Is what keys need in memory?  At most 256 of them are looked at, evenly
 * spread.  False, too, when the kernel does not say: it does only to those who
 * own the files. */
bool mdn_wants_resident(mdn_view *view, const uint64_t *keys, uint64_t count,
                        unsigned what);

#endif
