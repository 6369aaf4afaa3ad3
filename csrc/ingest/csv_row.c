/* csv_row.c - cutting a row of CSV text into cells, without haste. */
#include "ingest/csv_row.h"

#include <stdlib.h>
#include <string.h>

static mdn_csv_cell *
add_cell(mdn_csv_row *row)
{
    if (row->cell_count == row->cell_capacity) {
        uint32_t capacity = row->cell_capacity ? 2 * row->cell_capacity : 64;
        mdn_csv_cell *grown = realloc(row->cells, capacity * sizeof *grown);

        if (grown == NULL)
            return NULL;
        row->cells = grown;
        row->cell_capacity = capacity;
    }
    return &row->cells[row->cell_count++];
}

void
mdn_csv_row_clear(mdn_csv_row *row)
{
    free(row->cells);
    *row = (mdn_csv_row){.text = NULL};
}

/* The cell whose opening quote is at `at`; returns what is behind its closing
 * one, NULL if there is none. */
static const char *
scan_quoted(const char *at, const char *end, int quote, mdn_csv_cell *cell)
{
    const char *from = at + 1;

    *cell = (mdn_csv_cell){.text = from};
    for (;;) {
        const char *close = memchr(from, quote, (size_t)(end - from));

        if (close == NULL)
            return NULL;
        if (close + 1 == end || close[1] != (char)quote) {
            cell->size = (uint64_t)(close - cell->text);
            return close + 1;
        }
        cell->doubled = true;
        from = close + 2;
    }
}

/* Ends at a separator, a line end (a CR before it is part of it) or `end`. */
static const char *
scan_plain(const char *at, const char *end, char separator, mdn_csv_cell *cell)
{
    const char *from = at, *next;

    while (at < end && *at != separator && *at != '\n')
        at++;
    next = at;
    if ((at == end || *at == '\n') && at > from && at[-1] == '\r')
        at--;
    *cell = (mdn_csv_cell){.text = from, .size = (uint64_t)(at - from)};
    return next;
}

/* Step over the CR of a line end. */
static const char *
step_over_cr(const char *at, const char *end)
{
    if (at < end && *at == '\r' && (at + 1 == end || at[1] == '\n'))
        at++;
    return at;
}

mdn_csv_row_result
mdn_csv_row_scan(mdn_csv_row *row, const char *at, const char *end,
                 char separator, int quote, const char **next)
{
    row->text = at;
    row->cell_count = 0;
    for (;;) {
        mdn_csv_cell *cell;

        if (row->cell_count == MDN_CSV_CELLS_MAX)
            return MDN_CSV_ROW_CELLS;
        if ((cell = add_cell(row)) == NULL)
            return MDN_CSV_ROW_NOMEM;
        if (at < end && quote >= 0 && *at == (char)quote) {
            at = scan_quoted(at, end, quote, cell);
            if (at == NULL)
                return MDN_CSV_ROW_UNCLOSED;
            at = step_over_cr(at, end);
        } else {
            at = scan_plain(at, end, separator, cell);
        }
        *next = at < end ? at + 1 : end;
        if (at == end || *at == '\n')
            return MDN_CSV_ROW_OK;
        if (*at != separator)
            return MDN_CSV_ROW_AFTER;
        at++;
    }
}

mdn_status
mdn_csv_row_fail(const mdn_csv_row *row, mdn_csv_row_result result,
                 const char *place, mdn_error *err)
{
    if (result == MDN_CSV_ROW_NOMEM)
        return mdn_fail_nomem(err, 2 * sizeof(mdn_csv_cell)
                                       * (uint64_t)row->cell_capacity);
    if (result == MDN_CSV_ROW_CELLS)
        return mdn_fail(err, MDN_INVALID, "%s: more than %d columns", place,
                        MDN_CSV_CELLS_MAX);
    if (result == MDN_CSV_ROW_UNCLOSED)
        return mdn_fail(err, MDN_INVALID,
                        "%s, column %u: the quote that opens here is never "
                        "closed",
                        place, row->cell_count);
    return mdn_fail(err, MDN_INVALID,
                    "%s, column %u: text after the closing quote", place,
                    row->cell_count);
}

uint64_t
mdn_csv_count_lines(const char *from, const char *to)
{
    uint64_t count = 0;

    while ((from = memchr(from, '\n', (size_t)(to - from))) != NULL) {
        count++;
        from++;
    }
    return count;
}

const char *
mdn_csv_skip_empty(const char *at, const char *end, uint64_t *line_count)
{
    while (at < end) {
        const char *line_end = step_over_cr(at, end);

        if (line_end < end && *line_end != '\n')
            return at;
        at = line_end < end ? line_end + 1 : end;
        ++*line_count;
    }
    return end;
}

uint64_t
mdn_csv_cell_copy(const mdn_csv_cell *cell, char *out)
{
    const char *at = cell->text, *end = at + cell->size, *quote;
    char *to = out;

    /* Inside a cell with doubled quotes every quote is the first of two; the
     * quote itself is not known here, but it is the byte behind the cell. */
    while (cell->doubled
           && (quote = memchr(at, *end, (size_t)(end - at))) != NULL) {
        memcpy(to, at, (size_t)(quote + 1 - at));
        to += quote + 1 - at;
        at = quote + 2;
    }
    memcpy(to, at, (size_t)(end - at));
    return (uint64_t)(to + (end - at) - out);
}

uint64_t
mdn_csv_cell_line(const mdn_csv_row *row, const mdn_csv_cell *cell)
{
    return mdn_csv_count_lines(row->text, cell->text);
}
