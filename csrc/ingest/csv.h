/* csv.h - samples from CSV files, typed by the schema of a dataset.
 *
 *     mdn_csv_open           bind columns of the file to elements of fields
 *     mdn_csv_block_new      room for samples
 *     mdn_csv_fill           parse rows into it, a slice at a time
 *     mdn_csv_check          parse rows and keep nothing: is the rest sound?
 *     mdn_csv_rewind         begin again at the first row
 *
 * A caller who wants all of a file or nothing fills one block up to its
 * budget; if the file has not ended by then, he checks the rest, rewinds, and
 * only then appends block by block.
 *
 * Cells are whole numbers (number.h); a field of type bytes takes the content
 * of its cell as it is.  An empty cell is NaN for a float, and an error for
 * any other number.  Every row has as many cells as the header or, without
 * one, as the first row.
 *
 * Errors are MDN_INVALID and name file, line, column and value:
 *     a.csv: line 7, column 'temp': 'warm' is not a float32 */
#ifndef MDN_INGEST_CSV_H
#define MDN_INGEST_CSV_H

#include "base/io.h"
#include "storage/dataset.h"
#include "storage/schema.h"

#include <stdbool.h>
#include <stdint.h>

/* A column of the file: by its name in the header, or by its place. */
typedef struct {
    const char *name; /* NULL: by index */
    uint64_t index;   /* from 0 */
} mdn_csv_source;

typedef struct {
    bool header; /* the first row holds names */
    char separator;
    int quote; /* a byte, or -1 for none */
    /* One per element of every field, in schema order; a field of type bytes
     * counts as one element.  Borrowed until mdn_csv_open returns. */
    const mdn_csv_source *elements;
    uint64_t element_count;
    const mdn_csv_source *label; /* NULL: there is none */
    const mdn_csv_source *timestamp;
} mdn_csv_options;

/* Parsed samples, laid out as mdn_dataset_append takes them.  Read only. */
typedef struct {
    uint64_t count;
    uint64_t size_bytes; /* of the samples, roughly */
    mdn_column *columns; /* one per field */
    int64_t *labels;     /* NULL without a label column */
    int64_t *timestamps;
    /* Its own. */
    uint64_t capacity; /* in samples */
    uint64_t *payload_capacity;
    uint32_t field_count;
} mdn_csv_block;

typedef struct mdn_csv mdn_csv;

/* MDN_INVALID: the options contradict each other, the schema or the file; a
 * name that the header lacks is answered with the nearest ones it has. */
mdn_status mdn_csv_open(const mdn_io *io, const char *path,
                        const mdn_schema *schema,
                        const mdn_csv_options *options, mdn_csv **out,
                        mdn_error *err);
void mdn_csv_free(mdn_csv *csv); /* accepts NULL; blocks stay */

mdn_status mdn_csv_block_new(const mdn_csv *csv, mdn_csv_block **out,
                             mdn_error *err);
void mdn_csv_block_free(mdn_csv_block *block); /* accepts NULL */

typedef enum {
    MDN_CSV_MORE, /* a slice of the file is done: call again */
    MDN_CSV_FULL, /* the block has reached its budget; rows may be left */
    MDN_CSV_END,  /* every row of the file has been read */
} mdn_csv_progress;

/* Add rows to the block, until it holds size_max bytes (at least one row), the
 * file ends, or a slice of the file (about 1 MiB) is done.  After a failure
 * the block still holds the rows before the bad one. */
mdn_status mdn_csv_fill(mdn_csv *csv, mdn_csv_block *block, uint64_t size_max,
                        mdn_csv_progress *out, mdn_error *err);
/* Check the rows of one slice of the file; never MDN_CSV_FULL. */
mdn_status mdn_csv_check(mdn_csv *csv, mdn_csv_progress *out, mdn_error *err);
mdn_status mdn_csv_rewind(mdn_csv *csv, mdn_error *err);

#endif
