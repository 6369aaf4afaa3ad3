/* csv_row.h - the cells of one row of CSV text.
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
 * separator, a quote or a line end is passed on as it is.
 *
 * The text is whole rows (pieces.h): its end is the end of a row. */
#ifndef MDN_INGEST_CSV_ROW_H
#define MDN_INGEST_CSV_ROW_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define MDN_CSV_CELLS_MAX 65536 /* per row */

typedef struct {
    const char *text; /* without the outer quotes */
    uint64_t size;
    bool doubled; /* holds doubled quotes; see mdn_csv_cell_copy */
} mdn_csv_cell;

/* One row; its memory is used again by the next.  Zeroed at first. */
typedef struct {
    const char *text;    /* from the first byte of the first cell */
    mdn_csv_cell *cells; /* owned */
    uint32_t cell_count, cell_capacity;
} mdn_csv_row;

typedef enum {
    MDN_CSV_ROW_OK,
    MDN_CSV_ROW_UNCLOSED, /* the text ends inside quotes */
    MDN_CSV_ROW_AFTER,    /* something stands after a closing quote */
    MDN_CSV_ROW_CELLS,    /* too many cells */
    MDN_CSV_ROW_NOMEM,
} mdn_csv_row_result;

/* The first row at or behind `at`: step over empty lines, and count them. */
const char *mdn_csv_skip_empty(const char *at, const char *end,
                               uint64_t *line_count);

/* The row that begins at `at`, which is before `end`; *next is behind it.  On
 * failure the last cell is the one at fault. */
mdn_csv_row_result mdn_csv_row_scan(mdn_csv_row *row, const char *at,
                                    const char *end, char separator, int quote,
                                    const char **next);
void mdn_csv_row_clear(mdn_csv_row *row);

/* MDN_INVALID (or MDN_NOMEM) for a row that was not OK; place says where the
 * line is on which the last cell begins. */
mdn_status mdn_csv_row_fail(const mdn_csv_row *row, mdn_csv_row_result result,
                            const char *place, mdn_error *err);

/* The content of a cell to out, which has room for cell->size bytes.  Returns
 * how many they are: fewer, if quotes were doubled. */
uint64_t mdn_csv_cell_copy(const mdn_csv_cell *cell, char *out);
/* How many lines below the row's first one this cell begins. */
uint64_t mdn_csv_cell_line(const mdn_csv_row *row, const mdn_csv_cell *cell);
uint64_t mdn_csv_count_lines(const char *from, const char *to);

#endif
