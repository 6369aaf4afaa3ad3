/* csv_rows.h - the rows of a CSV file and their cells, in bounded memory.
 *
 *   file  = [BOM] { row end }          the last end may be missing
 *   row   = cell { separator cell }
 *   cell  = plain | quote { any byte but quote | quote quote } quote
 *   end   = LF | CR LF
 *
 * Inside quotes, separators and line ends are ordinary bytes, and a doubled
 * quote stands for one.  A quote inside a plain cell is an ordinary byte; text
 * between a closing quote and the next separator is an error.  Lines with
 * nothing in them are skipped.  Nothing is said about encodings: what is not a
 * separator, a quote or a line end is passed on as it is. */
#ifndef MDN_INGEST_CSV_ROWS_H
#define MDN_INGEST_CSV_ROWS_H

#include "base/file.h"

#define MDN_CSV_ROW_MAX (UINT64_C(64) << 20) /* bytes */
#define MDN_CSV_CELLS_MAX 65536              /* per row */

typedef struct {
    const char *text; /* without the outer quotes */
    uint64_t size;
    bool doubled; /* holds doubled quotes; see mdn_csv_cell_copy */
} mdn_csv_cell;

/* One row; its memory is reused by the next. */
typedef struct {
    uint64_t line; /* on which it begins, from 1; line ends in quotes count */
    const char *text; /* from the first byte of the first cell */
    mdn_csv_cell *cells;
    uint32_t cell_count; /* 0: the file has ended */
} mdn_csv_row;

typedef struct mdn_csv_rows mdn_csv_rows;

/* quote: a byte, or -1 for none.  MDN_IO; MDN_INVALID for an empty file and
 * for one that is plainly no text (compressed, UTF-16). */
mdn_status mdn_csv_rows_open(const mdn_io *io, const char *path, char separator,
                             int quote, mdn_csv_rows **out, mdn_error *err);
void mdn_csv_rows_free(mdn_csv_rows *rows); /* accepts NULL */

/* The next row.  MDN_INVALID names file and line.  After a failure only
 * mdn_csv_rows_rewind and _free make sense. */
mdn_status mdn_csv_rows_next(mdn_csv_rows *rows, mdn_csv_row *out,
                             mdn_error *err);
void mdn_csv_rows_rewind(mdn_csv_rows *rows);
/* Go on at this byte of the file, where a row begins, on this line. */
void mdn_csv_rows_seek(mdn_csv_rows *rows, uint64_t position, uint64_t line);
uint64_t mdn_csv_rows_line(const mdn_csv_rows *rows); /* of the next row */

/* Bytes of the file that were handed out as rows so far. */
uint64_t mdn_csv_rows_position(const mdn_csv_rows *rows);
/* The file's name for messages: its end, if it is long. */
const char *mdn_csv_rows_name(const mdn_csv_rows *rows);

/* The content of a cell to out, which has room for cell->size bytes.  Returns
 * how many they are: fewer, if quotes were doubled. */
uint64_t mdn_csv_cell_copy(const mdn_csv_cell *cell, char *out);
/* The line on which a cell of this row begins. */
uint64_t mdn_csv_cell_line(const mdn_csv_row *row, const mdn_csv_cell *cell);

#endif
