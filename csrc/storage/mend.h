/* mend.h - the files of one segment, as far as they can be put right. */
#ifndef MDN_STORAGE_MEND_H
#define MDN_STORAGE_MEND_H

#include "storage/finding.h"
#include "storage/history.h"

/* A segment of a dataset, its rows as of a commit. */
typedef struct {
    const mdn_io *io; /* borrowed, as the next two */
    const char *path;
    const mdn_layout *layout;
    uint64_t segment, generation, rows;
    uint64_t bytes; /* of its records, if it is not full; else 0 */
    bool linked;    /* its records lie in a file of the user: not looked at */
} mdn_mending;

/* What its files are like. */
typedef struct {
    char seg_name[64], col_name[64];
    bool seg_there, col_there;
    bool header_damaged; /* of .col; there is only one that is right */
    bool foreign;        /* .col is whole, and of another place */
    uint64_t seg_size, col_size;
    uint64_t needed;     /* bytes of .seg for all rows, as far as is known */
    uint64_t rows_there; /* the bytes of so many rows, from the first on */
} mdn_condition;

/* MDN_OK also for files that are missing; that is their condition. */
mdn_status mdn_mend_look(const mdn_mending *place, mdn_condition *out,
                         mdn_error *err);

/* Write a damaged header anew, and make files that are too short long enough
 * again, with zeros that no checksum vouches for.  `create`: also the files
 * that are missing.  Durable, but for names. */
mdn_status mdn_mend_files(const mdn_mending *place,
                          const mdn_condition *condition, bool create,
                          mdn_error *err);

/* The checksums of the last, not full blocks, and the bytes of the records, as
 * they follow from what is in the files; rows > 0, the segment is not full. */
mdn_status mdn_mend_tail(const mdn_mending *place, mdn_tail *tail,
                         mdn_error *err);

#endif
