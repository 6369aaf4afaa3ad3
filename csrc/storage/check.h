/* check.h - is a dataset what was written?  All of it, and on past damage.
 *
 * For a path, since what is damaged may not open.  Nothing is written, no lock
 * is taken: others may read, append and compact meanwhile. */
#ifndef MDN_STORAGE_CHECK_H
#define MDN_STORAGE_CHECK_H

#include "base/pulse.h"
#include "storage/check_segment.h"
#include "storage/survey.h"

typedef struct {
    uint64_t commits, samples, erased; /* as of the last good commit */
    uint64_t entries;                  /* of both journals */
    uint64_t segments;
    mdn_checked checked;
    uint64_t findings; /* all of them, strays included */
    uint64_t more;     /* of these were counted and not visited */
} mdn_check_report;

#define MDN_FINDINGS_MAX 100000 /* that are visited, of segments */

/* Visit all that is wrong, from the calling thread: first the manifest, then
 * journals, segments in ascending order, and files that are no part of it; the
 * order is the same for any number of threads.  The pulse (or NULL) is asked
 * every few ms, in the calling thread.
 *
 * A damaged header of the manifest is the only finding where it is damaged,
 * since nothing can be read without it; so is a version that is not known.
 * Fails where the directory or its manifest is not there, when the pulse or a
 * visit does, and for want of memory or threads. */
mdn_status mdn_check_dataset(const mdn_io *io, const char *path,
                             uint32_t threads, mdn_finding_visit visit,
                             void *ctx, const mdn_pulse *pulse,
                             mdn_check_report *out, mdn_error *err);

/* What events make of the last good commit.  With a damaged journal, what its
 * whole entries make of it; *why says what is wrong with it, or MDN_OK. */
mdn_status mdn_check_history(const mdn_survey *survey, const mdn_io *io,
                             const char *path, mdn_history **out,
                             mdn_error *why, mdn_error *err);

#endif
