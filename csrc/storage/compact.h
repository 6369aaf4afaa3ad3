/* compact.h - erased bytes leave the files. */
#ifndef MDN_STORAGE_COMPACT_H
#define MDN_STORAGE_COMPACT_H

#include "storage/dataset.h"
#include "storage/rewrite.h"

typedef struct {
    uint64_t segments; /* that were written anew */
    uint64_t samples;  /* whose bytes are gone; linked ones do not count */
} mdn_compaction;

/* Write every segment with erased bytes anew, so that no file of the dataset
 * holds them any more; keys and bytes of all other samples stay.  (Of samples
 * that are linked only the columns are ours: mdn_view_link says how many of
 * them are erased, and remain in files of the user.)  Readers go
 * on meanwhile.  Segment by segment, each all or nothing: on failure *out says
 * how far it came, and the next call goes on there.  The pulse (or NULL) is
 * asked all along. */
mdn_status mdn_dataset_compact(mdn_dataset *dataset, const mdn_pulse *pulse,
                               mdn_compaction *out, mdn_error *err);

/* Remove the files that an interrupted compaction left behind. */
mdn_status mdn_compact_clean(mdn_dataset *dataset, mdn_error *err);

#endif
