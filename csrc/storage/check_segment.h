/* check_segment.h - the files of one segment, held against all checksums. */
#ifndef MDN_STORAGE_CHECK_SEGMENT_H
#define MDN_STORAGE_CHECK_SEGMENT_H

#include "storage/finding.h"
#include "storage/history.h"

#include <stdatomic.h>

typedef struct {
    uint64_t blocks, bytes; /* that were held against a checksum */
} mdn_checked;

/* What is to be checked; all of it is borrowed. */
typedef struct {
    const mdn_io *io;
    const char *path;
    const mdn_layout *layout;
    const mdn_schema *schema;
    const mdn_tail *tail;
    const mdn_history *history;
    bool blind; /* the journal of events is damaged: a file that is missing may
                   be one of another generation */
    const atomic_bool *cancelled;
} mdn_subject;

typedef mdn_status (*mdn_finding_visit)(void *ctx, const mdn_finding *finding,
                                        mdn_error *err);

/* Visit what is wrong with a segment that has rows.  Neighbouring blocks with
 * the same damage are one finding.  Damage is no failure; MDN_CANCELLED, want
 * of memory and a failing visit are. */
mdn_status mdn_check_segment(const mdn_subject *subject, uint64_t segment,
                             mdn_finding_visit visit, void *ctx,
                             mdn_checked *checked, mdn_error *err);

#endif
