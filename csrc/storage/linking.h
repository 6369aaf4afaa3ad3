/* linking.h - a link on its way: what link.c and link_scan.c share. */
#ifndef MDN_STORAGE_LINKING_H
#define MDN_STORAGE_LINKING_H

#include "storage/handle.h"
#include "storage/link.h"

typedef struct {
    mdn_dataset *dataset;
    const mdn_layout *layout;
    const mdn_link_options *opt;
    const mdn_pulse *pulse;
    mdn_file file;
    mdn_file_facts facts; /* when it was opened */
    uint64_t rows;        /* of the file */
    uint64_t first_row;   /* of the first linked segment */
    uint64_t first_segment, segments;
} mdn_linking;

/* link.c: whole records from row on. */
mdn_status mdn_linking_read(const mdn_linking *l, uint64_t row, uint64_t count,
                            uint8_t *out, mdn_error *err);
/* link.c: timestamps and labels of rows whose records are given. */
mdn_status mdn_linking_columns(const mdn_linking *l, const uint8_t *records,
                               uint64_t row, uint64_t count,
                               int64_t *timestamps, int64_t *labels,
                               mdn_error *err);

/* link_scan.c: write the .col files of the linked segments, durably with their
 * names. */
mdn_status mdn_linking_scan(const mdn_linking *l, mdn_error *err);

#endif
