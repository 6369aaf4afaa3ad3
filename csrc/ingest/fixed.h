/* fixed.h - samples from binary files of records of one size.
 *
 *   file    = header of any content, records
 *   record  = label, timestamp and fields anywhere in it; what is not asked
 *             for is skipped
 *
 * Numbers are little- or big-endian, each as it is said.  A label or timestamp
 * is an integer of 1, 2, 4 or 8 bytes.  Fields of type bytes have no size and
 * cannot be read. */
#ifndef MDN_INGEST_FIXED_H
#define MDN_INGEST_FIXED_H

#include "ingest/reader.h"
#include "storage/number_at.h"

typedef struct {
    mdn_reader_file file;
    uint64_t first_record; /* bytes in front of the first one */
    uint64_t record_size;
    /* Of each field, in schema order.  Borrowed until mdn_fixed_open returns.
     */
    const uint64_t *offsets;
    const bool *big_endian;
    mdn_number_at label, timestamp;
} mdn_fixed_options;

/* MDN_INVALID: the options contradict each other or the schema, or the file
 * ends in the middle of a record (of a growing file, that record is left for
 * later).  Positions are those of records, in bytes. */
mdn_status mdn_fixed_open(const mdn_fixed_options *options, mdn_reader **out,
                          mdn_error *err);

#endif
