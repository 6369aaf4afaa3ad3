/* csv.c - rows of cells become columns of typed samples.
 *
 * A target is one number of a sample: an element of a field, the label or the
 * timestamp.  Targets are sorted by the column of the file that feeds them, so
 * that a row is one walk over its cells.  One column may feed several targets
 * (a timestamp that is a feature, too). */
#include "ingest/csv.h"

#include "ingest/csv_header.h"
#include "ingest/csv_rows.h"
#include "ingest/number.h"

#include <stdlib.h>
#include <string.h>

#define SLICE_SIZE (UINT64_C(1) << 20)

typedef unsigned long long ull;

enum { TO_FIELD, TO_LABEL, TO_TIMESTAMP };

typedef struct {
    uint32_t column; /* of the file */
    uint32_t field;
    int kind; /* TO_... */
    mdn_dtype dtype;
    uint64_t offset; /* within the value of the field, bytes */
    uint64_t stride; /* bytes from one sample to the next */
} target;

typedef struct {
    mdn_reader reader; /* first */
    mdn_csv_rows *rows;
    mdn_csv_header header; /* owned */
    uint64_t data_start;   /* of the file, behind the header */
    uint64_t data_line;
    target *targets; /* owned; by column */
    uint64_t target_count;
} mdn_csv;

static mdn_status
fail_cell(const mdn_csv *csv, const mdn_csv_row *row, const target *t,
          mdn_number_result result, mdn_error *err)
{
    const mdn_csv_cell *cell = &row->cells[t->column];
    char column[MDN_CSV_SHOWN], value[MDN_CSV_SHOWN];
    const char *what = result == MDN_NUMBER_RANGE ? "does not fit" : "is not";
    const char *article = mdn_dtype_name(t->dtype)[0] == 'i' ? "an" : "a";
    const char *role = t->kind == TO_LABEL       ? " label"
                       : t->kind == TO_TIMESTAMP ? " timestamp"
                                                 : "";

    return mdn_fail(err, MDN_INVALID, "%s: line %llu, %s: %s %s %s %s%s",
                    mdn_csv_rows_name(csv->rows),
                    (ull)mdn_csv_cell_line(row, cell),
                    mdn_csv_show_column(&csv->header, t->column, column),
                    mdn_csv_show(cell->text, cell->size, value), what, article,
                    mdn_dtype_name(t->dtype), role);
}

/* Opening --------------------------------------------------------------- */

static mdn_status
check_options(const mdn_csv_options *options, mdn_error *err)
{
    const mdn_schema *schema = options->file.schema;
    uint64_t count = 0;

    if (options->separator == '\n' || options->separator == '\r'
        || options->quote == '\n' || options->quote == '\r')
        return mdn_fail(err, MDN_INVALID,
                        "separator and quote must not be line ends");
    if (options->quote == (unsigned char)options->separator)
        return mdn_fail(err, MDN_INVALID,
                        "separator and quote must not be the same byte");
    for (uint32_t f = 0; f < schema->field_count; f++) {
        const mdn_field *field = &schema->fields[f];
        if (field->dtype == MDN_COMPLEX64 || field->dtype == MDN_COMPLEX128)
            return mdn_fail(err, MDN_INVALID,
                            "field %s: %s cannot be read from CSV", field->name,
                            mdn_dtype_name(field->dtype));
        count += field->dtype == MDN_BYTES
                     ? 1
                     : field->size_bytes / mdn_dtype_size(field->dtype);
    }
    if (count != options->element_count)
        return mdn_fail(err, MDN_INVALID,
                        "the fields have %llu elements, but %llu columns are "
                        "given for them",
                        (ull)count, (ull)options->element_count);
    return MDN_OK;
}

static mdn_status
add_target(mdn_csv *csv, const mdn_csv_source *source, target t, mdn_error *err)
{
    mdn_status st =
        mdn_csv_header_find(&csv->header, mdn_csv_rows_name(csv->rows),
                            source->name, source->index, &t.column, err);

    if (st == MDN_OK)
        csv->targets[csv->target_count++] = t;
    return st;
}

static int
by_column(const void *a, const void *b)
{
    uint32_t x = ((const target *)a)->column, y = ((const target *)b)->column;

    return (x > y) - (x < y);
}

static mdn_status
bind_fields(mdn_csv *csv, const mdn_schema *schema,
            const mdn_csv_options *options, mdn_error *err)
{
    const mdn_csv_source *source = options->elements;

    for (uint32_t f = 0; f < schema->field_count; f++) {
        const mdn_field *field = &schema->fields[f];
        uint64_t step = mdn_dtype_size(field->dtype), at = 0;
        target t = {.field = f, .kind = TO_FIELD, .dtype = field->dtype};
        mdn_status st = MDN_OK;

        t.stride = field->size_bytes;
        if (step == 0)
            st = add_target(csv, source++, t, err);
        for (; st == MDN_OK && at < field->size_bytes; at += step) {
            t.offset = at;
            st = add_target(csv, source++, t, err);
        }
        if (st != MDN_OK)
            return st;
    }
    return MDN_OK;
}

static mdn_status
bind_columns(mdn_csv *csv, const mdn_csv_options *options, mdn_error *err)
{
    uint64_t count = options->element_count + 2;
    target t = {.dtype = MDN_INT64, .stride = sizeof(int64_t)};
    mdn_status st;

    csv->reader.labels = options->label != NULL;
    csv->reader.timestamps = options->timestamp != NULL;
    csv->targets = calloc(count, sizeof *csv->targets);
    if (csv->targets == NULL)
        return mdn_fail_nomem(err, count * sizeof *csv->targets);
    if ((st = bind_fields(csv, options->file.schema, options, err)) != MDN_OK)
        return st;
    t.kind = TO_TIMESTAMP;
    if (options->timestamp != NULL
        && (st = add_target(csv, options->timestamp, t, err)) != MDN_OK)
        return st;
    t.kind = TO_LABEL;
    if (options->label != NULL
        && (st = add_target(csv, options->label, t, err)) != MDN_OK)
        return st;
    qsort(csv->targets, csv->target_count, sizeof *csv->targets, by_column);
    return MDN_OK;
}

/* Rows ------------------------------------------------------------------ */

/* The content of a cell behind the payloads of the samples before. */
static mdn_status
put_bytes(mdn_block *block, const target *t, const mdn_csv_cell *cell,
          mdn_error *err)
{
    uint8_t *room;
    mdn_status st =
        mdn_block_payload_room(block, t->field, cell->size, &room, err);

    if (st == MDN_OK)
        mdn_block_payload_end(block, t->field,
                              mdn_csv_cell_copy(cell, (char *)room));
    return st;
}

static mdn_status
put_number(const mdn_csv *csv, mdn_block *block, const mdn_csv_row *row,
           const target *t, mdn_error *err)
{
    const mdn_csv_cell *cell = &row->cells[t->column];
    mdn_number_result result;
    char *out;

    switch (t->kind) {
    case TO_LABEL: out = (char *)block->labels; break;
    case TO_TIMESTAMP: out = (char *)block->timestamps; break;
    default: out = (char *)block->columns[t->field].values; break;
    }
    out += block->count * t->stride + t->offset;
    if (cell->size == 0
        && (t->dtype == MDN_FLOAT16 || t->dtype == MDN_FLOAT32
            || t->dtype == MDN_FLOAT64))
        result = mdn_number_parse(t->dtype, "nan", 3, out);
    else
        result = mdn_number_parse(t->dtype, cell->text, cell->size, out);
    if (result != MDN_NUMBER_OK)
        return fail_cell(csv, row, t, result, err);
    return MDN_OK;
}

/* The cells of a row, to the place behind the last sample of the block. */
static mdn_status
put_row(const mdn_csv *csv, mdn_block *block, const mdn_csv_row *row,
        mdn_error *err)
{
    mdn_status st = MDN_OK;

    if (row->cell_count != csv->header.count)
        return mdn_fail(
            err, MDN_INVALID, "%s: line %llu: %u columns, but the %s has %u",
            mdn_csv_rows_name(csv->rows), (ull)row->line, row->cell_count,
            csv->header.names ? "header" : "first row", csv->header.count);
    for (uint64_t i = 0; st == MDN_OK && i < csv->target_count; i++) {
        const target *t = &csv->targets[i];
        if (t->dtype == MDN_BYTES)
            st = put_bytes(block, t, &row->cells[t->column], err);
        else
            st = put_number(csv, block, row, t, err);
    }
    return st;
}

static mdn_status
csv_fill(mdn_reader *reader, mdn_block *block, uint64_t size_max,
         mdn_progress *out, mdn_error *err)
{
    mdn_csv *csv = (mdn_csv *)reader;
    uint64_t slice_end = mdn_csv_rows_position(csv->rows) + SLICE_SIZE;
    uint64_t size_before;
    mdn_csv_row row;
    mdn_status st;

    *out = MDN_READER_MORE;
    while (mdn_csv_rows_position(csv->rows) < slice_end) {
        if (block->size_bytes >= size_max && block->count > 0) {
            *out = MDN_READER_FULL;
            return MDN_OK;
        }
        if ((st = mdn_csv_rows_next(csv->rows, &row, err)) != MDN_OK)
            return st;
        if (row.cell_count == 0) {
            *out = MDN_READER_END;
            return MDN_OK;
        }
        size_before = block->size_bytes;
        if ((st = mdn_block_reserve(block, 1, err)) != MDN_OK)
            return st;
        if ((st = put_row(csv, block, &row, err)) != MDN_OK) {
            block->size_bytes = size_before;
            return st;
        }
        mdn_block_end_sample(block);
    }
    return MDN_OK;
}

static uint64_t
csv_position(const mdn_reader *reader)
{
    return mdn_csv_rows_position(((const mdn_csv *)reader)->rows);
}

static mdn_status
csv_seek(mdn_reader *reader, uint64_t position, mdn_error *err)
{
    mdn_csv *csv = (mdn_csv *)reader;

    (void)err;
    if (position <= csv->data_start)
        mdn_csv_rows_seek(csv->rows, csv->data_start, csv->data_line);
    else
        mdn_csv_rows_seek(csv->rows, position, 1);
    return MDN_OK;
}

static void
csv_free(mdn_reader *reader)
{
    mdn_csv *csv = (mdn_csv *)reader;

    mdn_csv_rows_free(csv->rows);
    mdn_csv_header_clear(&csv->header);
    free(csv->targets);
    free(csv);
}

mdn_status
mdn_csv_open(const mdn_csv_options *options, mdn_reader **out, mdn_error *err)
{
    const mdn_reader_file *file = &options->file;
    mdn_csv *csv;
    mdn_status st = check_options(options, err);

    *out = NULL;
    if (st != MDN_OK)
        return st;
    csv = calloc(1, sizeof *csv);
    if (csv == NULL)
        return mdn_fail_nomem(err, sizeof *csv);
    csv->reader.fill = csv_fill;
    csv->reader.position = csv_position;
    csv->reader.seek = csv_seek;
    csv->reader.free = csv_free;
    if ((st = mdn_csv_rows_open(file->io, file->path, options->separator,
                                options->quote, &csv->rows, err))
            != MDN_OK
        || (st = mdn_csv_header_read(csv->rows, options->header, &csv->header,
                                     err))
               != MDN_OK
        || (st = bind_columns(csv, options, err)) != MDN_OK)
        goto fail;
    csv->data_start = mdn_csv_rows_position(csv->rows);
    csv->data_line = mdn_csv_rows_line(csv->rows);
    *out = &csv->reader;
    return MDN_OK;

fail:
    csv_free(&csv->reader);
    return st;
}
