/* csv_header.c - finding columns, and saying which one is meant. */
#include "ingest/csv_header.h"

#include "ingest/csv_row.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEAREST 3 /* names suggested for one that is missing */

typedef unsigned long long ull;

static const char *
show_name(const char *name, char out[MDN_SHOWN])
{
    return mdn_show(name, strlen(name), out);
}

const char *
mdn_csv_show_column(const mdn_csv_header *header, uint32_t column,
                    char out[MDN_SHOWN])
{
    char name[MDN_SHOWN];

    if (header->names == NULL)
        snprintf(out, MDN_SHOWN, "column %u", column);
    else
        snprintf(out, MDN_SHOWN, "column %.280s",
                 show_name(header->names[column], name));
    return out;
}

/* The names in the cells of a row. */
static mdn_status
take_names(const mdn_csv_row *row, mdn_csv_header *out, mdn_error *err)
{
    out->names = calloc(row->cell_count, sizeof *out->names);
    if (out->names == NULL)
        return mdn_fail_nomem(err, row->cell_count * sizeof *out->names);
    for (uint32_t c = 0; c < row->cell_count; c++) {
        out->names[c] = calloc(1, row->cells[c].size + 1);
        if (out->names[c] == NULL)
            return mdn_fail_nomem(err, row->cells[c].size + 1);
        mdn_csv_cell_copy(&row->cells[c], out->names[c]);
    }
    return MDN_OK;
}

/* The first row of the job's text, which begins at `at`. */
static mdn_status
read_first(const mdn_text *text, const mdn_text_job *job, const char *at,
           char separator, int quote, mdn_csv_row *row, mdn_csv_header *out,
           mdn_error *err)
{
    char place[MDN_TEXT_PLACE];
    const char *next = at;
    mdn_csv_row_result result =
        mdn_csv_row_scan(row, at, job->end, separator, quote, &next);
    uint64_t line = job->line;

    if (result != MDN_CSV_ROW_OK) {
        if (result != MDN_CSV_ROW_CELLS && result != MDN_CSV_ROW_NOMEM)
            line += mdn_csv_cell_line(row, &row->cells[row->cell_count - 1]);
        return mdn_csv_row_fail(row, result, mdn_text_place(job, line, place),
                                err);
    }
    out->end = mdn_text_offset(text, next);
    out->end_line = line + 1 + mdn_csv_count_lines(at, next - 1);
    return MDN_OK;
}

mdn_status
mdn_csv_header_read(mdn_text *text, char separator, int quote, bool named,
                    mdn_csv_header *out, mdn_error *err)
{
    mdn_csv_row row = {.text = NULL};
    uint64_t line = 1;
    mdn_text_job job;
    mdn_status st;

    *out = (mdn_csv_header){.count = 0};
    for (;;) {
        const char *at;

        if ((st = mdn_text_look(text, &job, err)) != MDN_OK)
            return st;
        if (job.text == job.end)
            return mdn_text_is_growing(text)
                       ? MDN_OK
                       : mdn_fail(err, MDN_INVALID,
                                  "%s: the file holds empty lines only",
                                  job.name);
        job.line = line;
        at = mdn_csv_skip_empty(job.text, job.end, &job.line);
        line = job.line;
        if (at == job.end)
            continue;
        st = read_first(text, &job, at, separator, quote, &row, out, err);
        break;
    }
    if (st == MDN_OK && named)
        st = take_names(&row, out, err);
    if (!named) {
        out->end = 0;
        out->end_line = 1;
    }
    out->count = row.cell_count;
    mdn_csv_row_clear(&row);
    return st;
}

void
mdn_csv_header_clear(mdn_csv_header *header)
{
    for (uint32_t c = 0; header->names != NULL && c < header->count; c++)
        free(header->names[c]);
    free(header->names);
    *header = (mdn_csv_header){.count = 0};
}

/* Edits that turn one name into the other; names are cut at 64 bytes. */
static uint32_t
distance(const char *a, const char *b)
{
    uint32_t costs[65];
    size_t length = strnlen(b, 64);

    for (uint32_t j = 0; j <= length; j++)
        costs[j] = j;
    for (uint32_t i = 1; i <= strnlen(a, 64); i++) {
        uint32_t diagonal = costs[0];
        costs[0] = i;
        for (size_t j = 1; j <= length; j++) {
            uint32_t change = diagonal + (a[i - 1] != b[j - 1]);
            uint32_t skip =
                1 + (costs[j] < costs[j - 1] ? costs[j] : costs[j - 1]);
            diagonal = costs[j];
            costs[j] = change < skip ? change : skip;
        }
    }
    return costs[length];
}

/* Append the names of the header that are nearest to this one. */
static void
suggest(const mdn_csv_header *header, const char *name, char *out, size_t room)
{
    char shown[MDN_SHOWN];
    uint32_t best[NEAREST];
    uint32_t count = 0;

    for (uint32_t c = 0; c < header->count; c++) {
        uint32_t at = count < NEAREST ? count++ : NEAREST;
        uint32_t far = distance(name, header->names[c]);
        while (at > 0 && far < distance(name, header->names[best[at - 1]])) {
            if (at < NEAREST)
                best[at] = best[at - 1];
            at--;
        }
        if (at < NEAREST)
            best[at] = c;
    }
    for (uint32_t k = 0; k < count; k++) {
        const char *near = header->names[best[k]];
        size_t used = strlen(out);
        snprintf(out + used, room - used, "%s%s", k ? ", " : "",
                 show_name(near, shown));
    }
}

static mdn_status
find_name(const mdn_csv_header *header, const char *file, const char *name,
          uint32_t *out, mdn_error *err)
{
    char shown[MDN_SHOWN], nearest[200] = "";
    uint32_t found = 0;

    show_name(name, shown);
    if (header->names == NULL)
        return mdn_fail(err, MDN_INVALID,
                        "%s: column %s is given by name, but the file is said "
                        "to have no header",
                        file, shown);
    for (uint32_t c = 0; c < header->count; c++) {
        if (strcmp(header->names[c], name) == 0) {
            found++;
            *out = c;
        }
    }
    if (found == 1)
        return MDN_OK;
    if (found > 1)
        return mdn_fail(err, MDN_INVALID,
                        "%s: the header has %u columns named %s; give the "
                        "index of one",
                        file, found, shown);
    suggest(header, name, nearest, sizeof nearest);
    return mdn_fail(err, MDN_INVALID,
                    "%s: the header has no column %s; the nearest are %s", file,
                    shown, nearest);
}

mdn_status
mdn_csv_header_find(const mdn_csv_header *header, const char *file,
                    const char *name, uint64_t index, uint32_t *out,
                    mdn_error *err)
{
    if (name != NULL)
        return find_name(header, file, name, out, err);
    if (index >= header->count)
        return mdn_fail(err, MDN_INVALID,
                        "%s: there is no column %llu (counted from 0), since "
                        "the %s has %u columns",
                        file, (ull)index,
                        header->names ? "header" : "first row", header->count);
    *out = (uint32_t)index;
    return MDN_OK;
}
