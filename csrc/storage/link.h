/* link.h - large files of fixed records, served from where they lie. */
#ifndef MDN_STORAGE_LINK_H
#define MDN_STORAGE_LINK_H

#include "storage/dataset.h"
#include "storage/number_at.h"
#include "storage/rewrite.h"

/* An integer in each record of the file. */

typedef struct {
    const char *path;      /* absolute */
    uint64_t size;         /* of the file, as far as it was looked at; or 0 */
    uint64_t first_record; /* bytes in front of the first record */
    uint64_t record_size;  /* from one record to the next */
    uint64_t fields_at;    /* in the record: all fields of the schema, back to
                              back in its order, little-endian */
    mdn_number_at label;   /* given if and only if the dataset has labels */
    /* The timestamps are in the file, or given: one for all, or one each. */
    mdn_number_at timestamp;
    int64_t timestamp_of_all;
    const int64_t *timestamps; /* NULL: timestamp_of_all */
    uint64_t timestamp_count;  /* must be the number of records */
    uint32_t threads;          /* >= 1 */
} mdn_link_options;

typedef struct {
    uint64_t first_key, samples;
    uint64_t linked; /* of these; the others were copied */
} mdn_link_report;

/* Add all records of a file in one commit, together with an entry of the
 * journal `sources`, if source is not NULL.  Those that fill whole segments
 * stay in the file; what goes into the segment that is open, and what is behind
 * the last whole one, is copied.  The file is read once, in bounded memory, for
 * its checksums, and never written.  The pulse (or NULL) is asked all along.
 *
 * MDN_INVALID, with nothing added: the file cannot be linked, ends within a
 * record, or changed meanwhile. */
mdn_status mdn_dataset_link(mdn_dataset *dataset,
                            const mdn_link_options *options, const void *source,
                            uint64_t source_size, const mdn_pulse *pulse,
                            mdn_link_report *out, mdn_error *err);

/* Remove what a link that was interrupted left behind; as far as possible. */
void mdn_link_clean(mdn_dataset *dataset);

#endif
