/* rewrite.h - the files of a segment anew, without what was erased.
 *
 * Rows of one size become zeros where they were erased (and holes of the file
 * where that fills pages), so that every key keeps its place; records with
 * bytes fields become empty.  Timestamps and labels become 0.
 *
 * Of a linked segment there is only the .col file: the records stay as they
 * are in the file of the user, and so do their checksums. */
#ifndef MDN_STORAGE_REWRITE_H
#define MDN_STORAGE_REWRITE_H

#include "base/pulse.h"
#include "storage/verify.h"

/* Write segment `segment` of the view as this generation, durably but for the
 * names of the files.  Every block with a living row is verified on the way.
 * *tail, which is the view's, becomes what it is with the new files, and
 * *bytes how many bytes of records they hold. */
mdn_status mdn_rewrite_segment(mdn_view *view, uint64_t segment,
                               uint64_t generation, const mdn_pulse *pulse,
                               mdn_tail *tail, uint64_t *bytes, mdn_error *err);

#endif
