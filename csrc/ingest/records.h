/* records.h - records of one size, back to back in a file, into columns.
 *
 * What fixed.c and npy.c have in common.  A file holds one or more runs; run r
 * begins at byte `start` and gives some parts (a field, the label, the
 * timestamp) of every sample.  Sample i of a run is record_size bytes, i
 * records from its start.  Samples are read in pieces by several threads;
 * where a record is the field, straight into the column.
 *
 * Checked on the way: a bool is 0 or 1, an unsigned label or timestamp fits
 * int64. */
#ifndef MDN_INGEST_RECORDS_H
#define MDN_INGEST_RECORDS_H

#include "ingest/input.h"
#include "ingest/reader.h"

#define MDN_RECORD_MAX (UINT64_C(1) << 31) /* bytes, less than that */

typedef enum {
    MDN_PART_FIELD,
    MDN_PART_LABEL,
    MDN_PART_TIMESTAMP,
} mdn_part_role;

typedef struct {
    mdn_part_role role;
    uint32_t field;  /* of the schema, for MDN_PART_FIELD */
    uint64_t offset; /* in the record */
    uint64_t size;   /* bytes in the record */
    uint32_t item;   /* bytes of one number: 1, 2, 4, 8 */
    bool swap;       /* the numbers are big-endian */
    bool is_signed;  /* for label and timestamp */
    bool is_bool;
} mdn_part;

/* The part that a whole field is; complex numbers are two items each. */
mdn_part mdn_part_of_field(const mdn_schema *schema, uint32_t field,
                           uint64_t offset, bool big_endian);

typedef struct {
    uint64_t start;       /* of the first record, in the file */
    uint64_t record_size; /* >= 1, < MDN_RECORD_MAX */
    mdn_part *parts;      /* owned; each within the record */
    uint32_t part_count;
} mdn_run;

typedef struct {
    const mdn_input *input; /* borrowed */
    const mdn_schema *schema;
    uint32_t threads;
    mdn_run *runs; /* owned */
    uint32_t run_count;
    uint64_t count; /* samples; all their records lie within the file */
    uint64_t next;  /* the one that is handed out next */
    uint64_t piece_size;
    struct {
        uint8_t *bytes;
        uint64_t size;
    } *buffers; /* owned; one per thread, as large as its pieces were */
} mdn_records;

/* Room for that many runs, each with room for so many parts. */
mdn_status mdn_records_init(mdn_records *records, const mdn_reader_file *file,
                            const mdn_input *input, uint32_t run_count,
                            uint32_t part_count, mdn_error *err);
void mdn_records_clear(mdn_records *records); /* accepts a zeroed one */

/* As mdn_reader's. */
mdn_status mdn_records_fill(mdn_records *records, mdn_block *block,
                            uint64_t size_max, mdn_progress *out,
                            mdn_error *err);

#endif
