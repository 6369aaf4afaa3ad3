/* csv.c - binding the columns of a CSV file to the fields of a schema. */
#include "ingest/csv.h"

#include "ingest/csv_parse.h"

#include <stdlib.h>

typedef unsigned long long ull;

typedef struct {
    mdn_reader reader; /* first */
    mdn_text *text;    /* owned */
    mdn_csv_plan plan;
} mdn_csv;

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
add_target(mdn_csv_plan *plan, const char *file, const mdn_csv_source *source,
           mdn_csv_target t, mdn_error *err)
{
    mdn_status st = mdn_csv_header_find(&plan->header, file, source->name,
                                        source->index, &t.column, err);

    if (st == MDN_OK)
        plan->targets[plan->target_count++] = t;
    return st;
}

static int
by_column(const void *a, const void *b)
{
    uint32_t x = ((const mdn_csv_target *)a)->column;
    uint32_t y = ((const mdn_csv_target *)b)->column;

    return (x > y) - (x < y);
}

static mdn_status
bind_fields(mdn_csv_plan *plan, const char *file,
            const mdn_csv_options *options, mdn_error *err)
{
    const mdn_schema *schema = options->file.schema;
    const mdn_csv_source *source = options->elements;

    for (uint32_t f = 0; f < schema->field_count; f++) {
        const mdn_field *field = &schema->fields[f];
        uint64_t step = mdn_dtype_size(field->dtype), at = 0;
        mdn_csv_target t = {.field = f,
                            .role = MDN_CSV_TO_FIELD,
                            .dtype = field->dtype,
                            .stride = field->size_bytes};
        mdn_status st = MDN_OK;

        if (step == 0)
            st = add_target(plan, file, source++, t, err);
        for (; st == MDN_OK && at < field->size_bytes; at += step) {
            t.offset = at;
            st = add_target(plan, file, source++, t, err);
        }
        if (st != MDN_OK)
            return st;
    }
    return MDN_OK;
}

static mdn_status
bind_columns(mdn_csv_plan *plan, const char *file,
             const mdn_csv_options *options, mdn_error *err)
{
    uint64_t count = options->element_count + 2;
    mdn_csv_target t = {.dtype = MDN_INT64, .stride = sizeof(int64_t)};
    mdn_status st;

    plan->targets = calloc(count, sizeof *plan->targets);
    plan->first = calloc(plan->header.count + 1, sizeof *plan->first);
    if (plan->targets == NULL || plan->first == NULL)
        return mdn_fail_nomem(err, count * sizeof *plan->targets);
    if ((st = bind_fields(plan, file, options, err)) != MDN_OK)
        return st;
    t.role = MDN_CSV_TO_TIMESTAMP;
    if (options->timestamp != NULL
        && (st = add_target(plan, file, options->timestamp, t, err)) != MDN_OK)
        return st;
    t.role = MDN_CSV_TO_LABEL;
    if (options->label != NULL
        && (st = add_target(plan, file, options->label, t, err)) != MDN_OK)
        return st;
    qsort(plan->targets, plan->target_count, sizeof *plan->targets, by_column);
    for (uint64_t i = 0; i < plan->target_count; i++)
        plan->first[plan->targets[i].column + 1] = i + 1;
    for (uint32_t c = 0; c < plan->header.count; c++) {
        if (plan->first[c + 1] < plan->first[c])
            plan->first[c + 1] = plan->first[c];
    }
    return MDN_OK;
}

/* The reader ------------------------------------------------------------ */

static mdn_status
csv_fill(mdn_reader *reader, mdn_block *block, uint64_t size_max,
         mdn_progress *out, mdn_error *err)
{
    return mdn_text_fill(((mdn_csv *)reader)->text, block, size_max, out, err);
}

static uint64_t
csv_position(const mdn_reader *reader)
{
    return mdn_text_position(((const mdn_csv *)reader)->text);
}

static mdn_status
csv_seek(mdn_reader *reader, uint64_t position, mdn_error *err)
{
    return mdn_text_seek(((mdn_csv *)reader)->text, position, err);
}

static void
csv_free(mdn_reader *reader)
{
    mdn_csv *csv = (mdn_csv *)reader;

    mdn_text_free(csv->text); /* first: its threads read the plan */
    mdn_csv_header_clear(&csv->plan.header);
    free(csv->plan.targets);
    free(csv->plan.first);
    free(csv);
}

/* Read the header, if it is there already, and bind what it names. */
static mdn_status
begin(mdn_csv *csv, const mdn_csv_options *options, mdn_error *err)
{
    mdn_csv_header *header = &csv->plan.header;
    mdn_status st =
        mdn_csv_header_read(csv->text, options->separator, options->quote,
                            options->header, header, err);

    if (st != MDN_OK || header->count == 0)
        return st;
    st = bind_columns(&csv->plan, mdn_text_name(csv->text), options, err);
    if (st != MDN_OK)
        return st;
    return mdn_text_begin(csv->text, header->end, header->end_line,
                          mdn_csv_parse, &csv->plan, csv->reader.labels,
                          csv->reader.timestamps, err);
}

mdn_status
mdn_csv_open(const mdn_csv_options *options, mdn_reader **out, mdn_error *err)
{
    mdn_csv *csv;
    mdn_status st = check_options(options, err);

    *out = NULL;
    if (st != MDN_OK)
        return st;
    csv = calloc(1, sizeof *csv);
    if (csv == NULL)
        return mdn_fail_nomem(err, sizeof *csv);
    csv->reader = (mdn_reader){.fill = csv_fill,
                               .position = csv_position,
                               .seek = csv_seek,
                               .free = csv_free,
                               .labels = options->label != NULL,
                               .timestamps = options->timestamp != NULL};
    csv->plan.separator = options->separator;
    csv->plan.quote = options->quote;
    st = mdn_text_open(&options->file, options->piece_size, options->separator,
                       options->quote, &csv->text, err);
    if (st == MDN_OK)
        st = begin(csv, options, err);
    if (st != MDN_OK) {
        csv_free(&csv->reader);
        return st;
    }
    *out = &csv->reader;
    return MDN_OK;
}
