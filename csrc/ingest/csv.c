/* csv.c - rows of cells become columns of typed samples.
 *
 * A target is one number of a sample: an element of a field, the label or the
 * timestamp.  Targets are sorted by the column of the file that feeds them, so
 * that a row is one walk over its cells.  One column may feed several targets
 * (a timestamp that is a feature, too). */
#include "ingest/csv.h"

#include "base/bytes.h"
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

struct mdn_csv {
    mdn_csv_rows *rows;
    mdn_csv_header header; /* owned */
    bool has_label;
    target *targets; /* owned; by column */
    uint64_t target_count;
    uint32_t field_count;
    uint64_t *field_sizes;  /* owned; 0 for bytes */
    uint64_t sample_size;   /* bytes, without payloads */
    mdn_csv_block *scratch; /* owned; one sample, for mdn_csv_check */
};

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
check_options(const mdn_schema *schema, const mdn_csv_options *options,
              mdn_error *err)
{
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

        t.stride = csv->field_sizes[f] = field->size_bytes;
        csv->sample_size += step ? field->size_bytes : sizeof(int64_t);
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
bind_columns(mdn_csv *csv, const mdn_schema *schema,
             const mdn_csv_options *options, mdn_error *err)
{
    uint64_t count = options->element_count + 2;
    target t = {.dtype = MDN_INT64, .stride = sizeof(int64_t)};
    mdn_status st;

    csv->field_count = schema->field_count;
    csv->has_label = options->label != NULL;
    csv->sample_size = sizeof(int64_t) * (csv->has_label ? 2 : 1);
    csv->targets = calloc(count, sizeof *csv->targets);
    csv->field_sizes = calloc(schema->field_count, sizeof *csv->field_sizes);
    if (csv->targets == NULL || csv->field_sizes == NULL)
        return mdn_fail_nomem(err, count * sizeof *csv->targets);
    if ((st = bind_fields(csv, schema, options, err)) != MDN_OK)
        return st;
    t.kind = TO_TIMESTAMP;
    if ((st = add_target(csv, options->timestamp, t, err)) != MDN_OK)
        return st;
    t.kind = TO_LABEL;
    if (csv->has_label
        && (st = add_target(csv, options->label, t, err)) != MDN_OK)
        return st;
    qsort(csv->targets, csv->target_count, sizeof *csv->targets, by_column);
    return MDN_OK;
}

mdn_status
mdn_csv_open(const mdn_io *io, const char *path, const mdn_schema *schema,
             const mdn_csv_options *options, mdn_csv **out, mdn_error *err)
{
    mdn_csv *csv;
    mdn_status st = check_options(schema, options, err);

    *out = NULL;
    if (st != MDN_OK)
        return st;
    csv = calloc(1, sizeof *csv);
    if (csv == NULL)
        return mdn_fail_nomem(err, sizeof *csv);
    if ((st = mdn_csv_rows_open(io, path, options->separator, options->quote,
                                &csv->rows, err))
            != MDN_OK
        || (st = mdn_csv_header_read(csv->rows, options->header, &csv->header,
                                     err))
               != MDN_OK
        || (st = bind_columns(csv, schema, options, err)) != MDN_OK
        || (st = mdn_csv_block_new(csv, &csv->scratch, err)) != MDN_OK)
        goto fail;
    *out = csv;
    return MDN_OK;

fail:
    mdn_csv_free(csv);
    return st;
}

void
mdn_csv_free(mdn_csv *csv)
{
    if (csv == NULL)
        return;
    mdn_csv_rows_free(csv->rows);
    mdn_csv_header_clear(&csv->header);
    free(csv->targets);
    free(csv->field_sizes);
    mdn_csv_block_free(csv->scratch);
    free(csv);
}

/* Blocks ---------------------------------------------------------------- */

/* Give *place room for count items of this size; false without memory. */
static bool
resize(void *place, uint64_t count, uint64_t size)
{
    void *memory;
    uint64_t bytes;

    memcpy(&memory, place, sizeof memory);
    if (mdn_mul_overflows(count, size, &bytes))
        return false;
    memory = realloc(memory, bytes ? bytes : 1);
    if (memory == NULL)
        return false;
    memcpy(place, &memory, sizeof memory);
    return true;
}

/* Room for `capacity` samples; what stands there stays. */
static mdn_status
reserve(const mdn_csv *csv, mdn_csv_block *block, uint64_t capacity,
        mdn_error *err)
{
    bool done = resize(&block->timestamps, capacity, sizeof(int64_t));

    if (csv->has_label)
        done = done && resize(&block->labels, capacity, sizeof(int64_t));
    for (uint32_t f = 0; done && f < csv->field_count; f++) {
        mdn_column *column = &block->columns[f];
        if (csv->field_sizes[f] > 0)
            done = resize(&column->values, capacity, csv->field_sizes[f]);
        else
            done = resize(&column->offsets, capacity + 1, sizeof(int64_t));
    }
    if (!done)
        return mdn_fail_nomem(err, capacity * csv->sample_size);
    block->capacity = capacity;
    return MDN_OK;
}

mdn_status
mdn_csv_block_new(const mdn_csv *csv, mdn_csv_block **out, mdn_error *err)
{
    mdn_csv_block *block = calloc(1, sizeof *block);
    mdn_status st;

    *out = NULL;
    if (block == NULL)
        return mdn_fail_nomem(err, sizeof *block);
    block->field_count = csv->field_count;
    block->columns = calloc(csv->field_count, sizeof *block->columns);
    block->payload_capacity =
        calloc(csv->field_count, sizeof *block->payload_capacity);
    if (block->columns == NULL || block->payload_capacity == NULL)
        st = mdn_fail_nomem(err, csv->field_count * sizeof *block->columns);
    else
        st = reserve(csv, block, 1, err);
    for (uint32_t f = 0; st == MDN_OK && f < csv->field_count; f++) {
        if (csv->field_sizes[f] > 0)
            continue;
        *(int64_t *)block->columns[f].offsets = 0;
        if (!resize(&block->columns[f].values, 1, 1))
            st = mdn_fail_nomem(err, 1);
    }
    if (st != MDN_OK) {
        mdn_csv_block_free(block);
        return st;
    }
    *out = block;
    return MDN_OK;
}

void
mdn_csv_block_free(mdn_csv_block *block)
{
    if (block == NULL)
        return;
    for (uint32_t f = 0; block->columns != NULL && f < block->field_count;
         f++) {
        free((void *)block->columns[f].values);
        free((void *)block->columns[f].offsets);
    }
    free(block->columns);
    free(block->payload_capacity);
    free(block->labels);
    free(block->timestamps);
    free(block);
}

/* Rows ------------------------------------------------------------------ */

/* The content of a cell behind the payloads of sample block->count - 1. */
static mdn_status
put_bytes(mdn_csv_block *block, const target *t, const mdn_csv_cell *cell,
          mdn_error *err)
{
    mdn_column *column = &block->columns[t->field];
    int64_t *offsets = (int64_t *)column->offsets;
    uint64_t start = (uint64_t)offsets[block->count];
    uint64_t needed = start + cell->size;
    uint64_t *capacity = &block->payload_capacity[t->field];

    if (needed > *capacity) {
        uint64_t grown = needed > 2 * *capacity ? needed : 2 * *capacity;
        if (!resize(&column->values, grown, 1))
            return mdn_fail_nomem(err, grown);
        *capacity = grown;
    }
    start += mdn_csv_cell_copy(cell, (char *)column->values + start);
    offsets[block->count + 1] = (int64_t)start;
    block->size_bytes += cell->size;
    return MDN_OK;
}

static mdn_status
put_number(const mdn_csv *csv, mdn_csv_block *block, const mdn_csv_row *row,
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
put_row(const mdn_csv *csv, mdn_csv_block *block, const mdn_csv_row *row,
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

mdn_status
mdn_csv_fill(mdn_csv *csv, mdn_csv_block *block, uint64_t size_max,
             mdn_csv_progress *out, mdn_error *err)
{
    uint64_t slice_end = mdn_csv_rows_position(csv->rows) + SLICE_SIZE;
    mdn_csv_row row;
    mdn_status st;

    *out = MDN_CSV_MORE;
    while (mdn_csv_rows_position(csv->rows) < slice_end) {
        if (block->size_bytes >= size_max && block->count > 0) {
            *out = MDN_CSV_FULL;
            return MDN_OK;
        }
        if ((st = mdn_csv_rows_next(csv->rows, &row, err)) != MDN_OK)
            return st;
        if (row.cell_count == 0) {
            *out = MDN_CSV_END;
            return MDN_OK;
        }
        if (block->count == block->capacity
            && (st = reserve(csv, block, 2 * block->capacity, err)) != MDN_OK)
            return st;
        if ((st = put_row(csv, block, &row, err)) != MDN_OK)
            return st;
        block->count++;
        block->size_bytes += csv->sample_size;
    }
    return MDN_OK;
}

mdn_status
mdn_csv_check(mdn_csv *csv, mdn_csv_progress *out, mdn_error *err)
{
    uint64_t slice_end = mdn_csv_rows_position(csv->rows) + SLICE_SIZE;
    mdn_csv_row row;
    mdn_status st;

    *out = MDN_CSV_MORE;
    while (mdn_csv_rows_position(csv->rows) < slice_end) {
        if ((st = mdn_csv_rows_next(csv->rows, &row, err)) != MDN_OK)
            return st;
        if (row.cell_count == 0) {
            *out = MDN_CSV_END;
            return MDN_OK;
        }
        if ((st = put_row(csv, csv->scratch, &row, err)) != MDN_OK)
            return st;
    }
    return MDN_OK;
}

mdn_status
mdn_csv_rewind(mdn_csv *csv, mdn_error *err)
{
    mdn_csv_row row;

    mdn_csv_rows_rewind(csv->rows);
    return csv->header.names ? mdn_csv_rows_next(csv->rows, &row, err) : MDN_OK;
}
