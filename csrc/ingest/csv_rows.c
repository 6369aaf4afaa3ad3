/* csv_rows.c - cutting a CSV file into rows and cells.
 *
 * The file passes through a buffer.  A row is scanned from its first byte; if
 * the buffer ends first, what is there of the row moves to the front, the rest
 * of the buffer is filled, and the row is scanned again.  A row that fills the
 * whole buffer doubles it, up to MDN_CSV_ROW_MAX: each byte is scanned a few
 * times at most, and cells always point to one piece of memory. */
#include "ingest/csv_rows.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_SIZE (UINT64_C(256) << 10) /* at the start */
#define NAME_MAX_SHOWN 160

typedef unsigned long long ull;

struct mdn_csv_rows {
    mdn_file file;
    uint64_t file_size; /* when opened; what is added later is not read */
    uint64_t read_at;   /* of the file, where the next chunk begins */
    char *buffer;       /* owned */
    uint64_t capacity;
    uint64_t start, end; /* of what is not handed out yet */
    uint64_t line;       /* on which buffer[start] lies */
    mdn_csv_cell *cells; /* owned */
    uint32_t cell_capacity;
    char separator;
    int quote;
    char *name; /* within file.path */
};

typedef enum {
    SCAN_DONE,
    SCAN_MORE,     /* the buffer ends inside the row */
    SCAN_UNCLOSED, /* the file ends inside quotes */
    SCAN_AFTER,    /* something stands after a closing quote */
    SCAN_CELLS,    /* too many cells */
    SCAN_NOMEM,
} scan_result;

static const char *
kind_of(const char *head, uint64_t size)
{
    static const struct {
        const char *magic;
        uint64_t size;
        const char *kind;
    } kinds[] = {
        {"\x1f\x8b", 2, "compressed by gzip; decompress it first"},
        {"\xfd"
         "7zXZ",
         5, "compressed by xz; decompress it first"},
        {"\x28\xb5\x2f\xfd", 4, "compressed by zstd; decompress it first"},
        {"BZh", 3, "compressed by bzip2; decompress it first"},
        {"PK\x03\x04", 4, "a zip archive; unpack it first"},
        {"\xff\xfe", 2, "UTF-16; convert it to UTF-8 first"},
        {"\xfe\xff", 2, "UTF-16; convert it to UTF-8 first"},
    };

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (size >= kinds[i].size
            && memcmp(head, kinds[i].magic, kinds[i].size) == 0)
            return kinds[i].kind;
    }
    return NULL;
}

/* Read until the buffer is full or the file has ended. */
static mdn_status
fill(mdn_csv_rows *rows, mdn_error *err)
{
    uint64_t room = rows->capacity - rows->end;
    uint64_t left = rows->file_size - rows->read_at;
    uint64_t size = left < room ? left : room;
    mdn_status st = mdn_file_read(&rows->file, rows->buffer + rows->end, size,
                                  rows->read_at, err);

    if (st != MDN_OK)
        return st;
    rows->end += size;
    rows->read_at += size;
    return MDN_OK;
}

/* Fill the buffer from the start of the file, and step over a BOM. */
static mdn_status
begin(mdn_csv_rows *rows, mdn_error *err)
{
    mdn_status st;

    rows->read_at = rows->start = rows->end = 0;
    rows->line = 1;
    st = fill(rows, err);
    if (st == MDN_OK && rows->end >= 3
        && memcmp(rows->buffer, "\xef\xbb\xbf", 3) == 0)
        rows->start = 3;
    return st;
}

static mdn_status
check_head(const mdn_csv_rows *rows, mdn_error *err)
{
    const char *kind = kind_of(rows->buffer, rows->end);

    if (rows->file_size == 0)
        return mdn_fail(err, MDN_INVALID, "%s: the file is empty", rows->name);
    if (kind != NULL)
        return mdn_fail(err, MDN_INVALID, "%s: the file is %s", rows->name,
                        kind);
    return MDN_OK;
}

mdn_status
mdn_csv_rows_open(const mdn_io *io, const char *path, char separator, int quote,
                  mdn_csv_rows **out, mdn_error *err)
{
    mdn_csv_rows *rows = calloc(1, sizeof *rows);
    size_t length = strlen(path);
    mdn_status st;

    *out = NULL;
    if (rows == NULL)
        return mdn_fail_nomem(err, sizeof *rows);
    rows->separator = separator;
    rows->quote = quote;
    rows->capacity = BUFFER_SIZE;
    if ((st = mdn_file_open(io, path, O_RDONLY, &rows->file, err)) != MDN_OK)
        goto fail;
    rows->name = rows->file.path;
    if (length > NAME_MAX_SHOWN)
        rows->name += length - NAME_MAX_SHOWN;
    if ((st = mdn_file_size(&rows->file, &rows->file_size, err)) != MDN_OK)
        goto fail;
    rows->buffer = malloc(rows->capacity);
    if (rows->buffer == NULL) {
        st = mdn_fail_nomem(err, rows->capacity);
        goto fail;
    }
    if ((st = begin(rows, err)) != MDN_OK
        || (st = check_head(rows, err)) != MDN_OK)
        goto fail;
    *out = rows;
    return MDN_OK;

fail:
    mdn_csv_rows_free(rows);
    return st;
}

void
mdn_csv_rows_free(mdn_csv_rows *rows)
{
    if (rows == NULL)
        return;
    mdn_file_close(&rows->file);
    free(rows->buffer);
    free(rows->cells);
    free(rows);
}

static mdn_csv_cell *
add_cell(mdn_csv_rows *rows, uint32_t count)
{
    uint32_t capacity = rows->cell_capacity;

    if (count == capacity) {
        mdn_csv_cell *grown;
        capacity = capacity ? 2 * capacity : 64;
        grown = realloc(rows->cells, capacity * sizeof *grown);
        if (grown == NULL)
            return NULL;
        rows->cells = grown;
        rows->cell_capacity = capacity;
    }
    return &rows->cells[count];
}

/* The cell whose opening quote is at `at`; *next is behind its closing one. */
static scan_result
scan_quoted(const mdn_csv_rows *rows, const char *at, const char *end,
            bool last, mdn_csv_cell *cell, const char **next)
{
    const char *from = at + 1;

    *cell = (mdn_csv_cell){.text = from};
    for (;;) {
        const char *close = memchr(from, rows->quote, (size_t)(end - from));
        if (close == NULL)
            return last ? SCAN_UNCLOSED : SCAN_MORE;
        if (close + 1 == end && !last)
            return SCAN_MORE; /* perhaps the first of two */
        if (close + 1 == end || close[1] != (char)rows->quote) {
            cell->size = (uint64_t)(close - cell->text);
            *next = close + 1;
            return SCAN_DONE;
        }
        cell->doubled = true;
        from = close + 2;
    }
}

/* Ends at a separator, a line end (a CR before it is part of it) or `end`. */
static scan_result
scan_plain(const mdn_csv_rows *rows, const char *at, const char *end, bool last,
           mdn_csv_cell *cell, const char **next)
{
    const char *from = at;
    char separator = rows->separator;

    while (at < end && *at != separator && *at != '\n')
        at++;
    if (at == end && !last)
        return SCAN_MORE;
    *next = at;
    if ((at == end || *at == '\n') && at > from && at[-1] == '\r')
        at--;
    *cell = (mdn_csv_cell){.text = from, .size = (uint64_t)(at - from)};
    return SCAN_DONE;
}

/* Step over the CR of a line end behind a closing quote. */
static scan_result
step_over_cr(const char **at, const char *end, bool last)
{
    if (*at == end || **at != '\r')
        return SCAN_DONE;
    if (*at + 1 == end && !last)
        return SCAN_MORE;
    if (*at + 1 == end || (*at)[1] == '\n')
        ++*at;
    return SCAN_DONE;
}

/* The row that begins at `at`, into rows->cells; *next is behind its end. */
static scan_result
scan_row(mdn_csv_rows *rows, const char *at, const char *end, bool last,
         uint32_t *cell_count, const char **next)
{
    uint32_t count = 0;

    for (;;) {
        scan_result result;
        mdn_csv_cell *cell = add_cell(rows, count);
        if (cell == NULL)
            return SCAN_NOMEM;
        if (count++ == MDN_CSV_CELLS_MAX)
            return SCAN_CELLS;
        *cell_count = count;
        if (at < end && rows->quote >= 0 && *at == (char)rows->quote) {
            result = scan_quoted(rows, at, end, last, cell, &at);
            if (result == SCAN_DONE)
                result = step_over_cr(&at, end, last);
        } else {
            result = scan_plain(rows, at, end, last, cell, &at);
        }
        if (result != SCAN_DONE)
            return result;
        if (at == end && !last)
            return SCAN_MORE;
        *next = at;
        if (at == end)
            return SCAN_DONE;
        *next = ++at;
        if (at[-1] == '\n')
            return SCAN_DONE;
        if (at[-1] != rows->separator)
            return SCAN_AFTER;
    }
}

/* Make room behind `end` and fill it. */
static mdn_status
read_more(mdn_csv_rows *rows, mdn_error *err)
{
    if (rows->start > 0) {
        rows->end -= rows->start;
        memmove(rows->buffer, rows->buffer + rows->start, rows->end);
        rows->start = 0;
    } else {
        char *grown;
        if (rows->capacity >= MDN_CSV_ROW_MAX)
            return mdn_fail(err, MDN_INVALID,
                            "%s: line %llu: a row of more than %llu bytes; is "
                            "a quote not closed?",
                            rows->name, (ull)rows->line, (ull)MDN_CSV_ROW_MAX);
        grown = realloc(rows->buffer, 2 * rows->capacity);
        if (grown == NULL)
            return mdn_fail_nomem(err, 2 * rows->capacity);
        rows->buffer = grown;
        rows->capacity *= 2;
    }
    return fill(rows, err);
}

static uint64_t
count_line_ends(const char *from, const char *to)
{
    uint64_t count = 0;

    while ((from = memchr(from, '\n', (size_t)(to - from))) != NULL) {
        count++;
        from++;
    }
    return count;
}

/* Step over empty lines.  True if at least one byte of a row is left in the
 * buffer, and it cannot be part of a line end that is not all there. */
static bool
skip_empty_lines(mdn_csv_rows *rows)
{
    bool last = rows->read_at == rows->file_size;

    while (rows->start < rows->end) {
        const char *at = rows->buffer + rows->start;
        uint64_t left = rows->end - rows->start;
        if (at[0] == '\r' && left == 1 && !last)
            return false;
        if (at[0] == '\r' && (left == 1 || at[1] == '\n'))
            rows->start += left == 1 ? 1 : 2;
        else if (at[0] == '\n')
            rows->start++;
        else
            return true;
        rows->line++;
    }
    return false;
}

static mdn_status
fail_scan(const mdn_csv_rows *rows, scan_result result, uint32_t cell_count,
          mdn_error *err)
{
    const mdn_csv_row row = {.line = rows->line,
                             .text = rows->buffer + rows->start};
    ull line;

    if (result == SCAN_NOMEM)
        return mdn_fail_nomem(err, 2 * sizeof(mdn_csv_cell)
                                       * (ull)rows->cell_capacity);
    if (result == SCAN_CELLS)
        return mdn_fail(err, MDN_INVALID, "%s: line %llu: more than %d columns",
                        rows->name, (ull)rows->line, MDN_CSV_CELLS_MAX);
    line = mdn_csv_cell_line(&row, &rows->cells[cell_count - 1]);
    if (result == SCAN_UNCLOSED)
        return mdn_fail(err, MDN_INVALID,
                        "%s: line %llu, column %u: the quote that opens here "
                        "is never closed",
                        rows->name, line, cell_count);
    return mdn_fail(err, MDN_INVALID,
                    "%s: line %llu, column %u: text after the closing quote",
                    rows->name, line, cell_count);
}

mdn_status
mdn_csv_rows_next(mdn_csv_rows *rows, mdn_csv_row *out, mdn_error *err)
{
    mdn_status st;

    *out = (mdn_csv_row){.line = rows->line};
    if (rows->read_at == 0 && (st = begin(rows, err)) != MDN_OK)
        return st; /* after a rewind */
    for (;;) {
        bool last = rows->read_at == rows->file_size;
        const char *at, *next = NULL;
        scan_result result = SCAN_MORE;

        if (skip_empty_lines(rows)) {
            at = rows->buffer + rows->start;
            result = scan_row(rows, at, rows->buffer + rows->end, last,
                              &out->cell_count, &next);
        } else if (last) {
            return MDN_OK;
        }
        if (result == SCAN_DONE) {
            out->line = rows->line;
            out->text = at;
            out->cells = rows->cells;
            rows->line += count_line_ends(at, next);
            rows->start = (uint64_t)(next - rows->buffer);
            return MDN_OK;
        }
        if (result != SCAN_MORE) {
            st = fail_scan(rows, result, out->cell_count, err);
            out->cell_count = 0;
            return st;
        }
        out->cell_count = 0;
        if ((st = read_more(rows, err)) != MDN_OK)
            return st;
    }
}

void
mdn_csv_rows_rewind(mdn_csv_rows *rows)
{
    rows->read_at = rows->start = rows->end = 0;
    rows->line = 1;
}

void
mdn_csv_rows_seek(mdn_csv_rows *rows, uint64_t position, uint64_t line)
{
    mdn_csv_rows_rewind(rows);
    rows->read_at = position < rows->file_size ? position : rows->file_size;
    rows->line = line;
}

uint64_t
mdn_csv_rows_line(const mdn_csv_rows *rows)
{
    return rows->line;
}

uint64_t
mdn_csv_rows_position(const mdn_csv_rows *rows)
{
    return rows->read_at - (rows->end - rows->start);
}

const char *
mdn_csv_rows_name(const mdn_csv_rows *rows)
{
    return rows->name;
}

uint64_t
mdn_csv_cell_copy(const mdn_csv_cell *cell, char *out)
{
    const char *at = cell->text, *end = at + cell->size;
    char *to = out;

    if (!cell->doubled) {
        memcpy(out, cell->text, cell->size);
        return cell->size;
    }
    /* Inside such a cell every quote is the first of two; the quote itself is
     * not known here, but it is the byte behind the cell. */
    while (at < end) {
        *to = *at;
        at += *at == *end ? 2 : 1;
        to++;
    }
    return (uint64_t)(to - out);
}

uint64_t
mdn_csv_cell_line(const mdn_csv_row *row, const mdn_csv_cell *cell)
{
    return row->line + count_line_ends(row->text, cell->text);
}
