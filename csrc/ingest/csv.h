/* csv.h - samples from CSV files, typed by the schema of a dataset.
 *
 * Columns of the file are bound to the elements of the fields, to the label
 * and to the timestamp; each of the last two may be absent.
 *
 * Cells are whole numbers (number.h); a field of type bytes takes the content
 * of its cell as it is.  An empty cell is NaN for a float, and an error for
 * any other number.  Every row has as many cells as the header or, without
 * one, as the first row.
 *
 * A growing file whose header (or, without one, whose first row) is not whole
 * yet is one without samples, read up to position 0.
 *
 * Errors are MDN_INVALID and name file, line, column and value:
 *     a.csv: line 7, column 'temp': 'warm' is not a float32 */
#ifndef MDN_INGEST_CSV_H
#define MDN_INGEST_CSV_H

#include "ingest/reader.h"

/* A column of the file: by its name in the header, or by its place. */
typedef struct {
    const char *name; /* NULL: by index */
    uint64_t index;   /* from 0 */
} mdn_csv_source;

typedef struct {
    mdn_reader_file file;
    bool header; /* the first row holds names */
    char separator;
    int quote; /* a byte, or -1 for none */
    /* One per element of every field, in schema order; a field of type bytes
     * counts as one element.  Borrowed until mdn_csv_open returns. */
    const mdn_csv_source *elements;
    uint64_t element_count;
    const mdn_csv_source *label;     /* NULL: there is none */
    const mdn_csv_source *timestamp; /* NULL: there is none */
    uint64_t piece_size;             /* to read at a time; 0: what is best */
} mdn_csv_options;

/* MDN_INVALID: the options contradict each other, the schema or the file; a
 * name that the header lacks is answered with the nearest ones it has. */
mdn_status mdn_csv_open(const mdn_csv_options *options, mdn_reader **out,
                        mdn_error *err);

#endif
