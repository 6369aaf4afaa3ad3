/* fixed.c - a file of records is one run (records.h) of all its parts. */
#include "ingest/fixed.h"

#include "base/bytes.h"
#include "ingest/records.h"

#include <stdlib.h>

typedef unsigned long long ull;

typedef struct {
    mdn_reader reader; /* first */
    mdn_input input;
    mdn_records records;
    uint64_t first_record;
} fixed;

static fixed *
fixed_of(mdn_reader *reader)
{
    return (fixed *)reader; /* its first member */
}

/* Options --------------------------------------------------------------- */

static mdn_status
check_within(const mdn_fixed_options *options, const char *kind,
             const char *name, uint64_t offset, uint64_t size, mdn_error *err)
{
    uint64_t end;

    if (!mdn_add_overflows(offset, size, &end) && end <= options->record_size)
        return MDN_OK;
    return mdn_fail(err, MDN_INVALID,
                    "%s%s: %llu bytes at %llu of a record, but a record has "
                    "%llu bytes",
                    kind, name, (ull)size, (ull)offset,
                    (ull)options->record_size);
}

static mdn_status
check_number(const mdn_fixed_options *options, const char *name,
             const mdn_number_at *number, mdn_error *err)
{
    uint32_t size = number->size;

    if (size == 0)
        return MDN_OK;
    if (size != 1 && size != 2 && size != 4 && size != 8)
        return mdn_fail(err, MDN_INVALID,
                        "%s: a number of 1, 2, 4 or 8 bytes is needed, got %u",
                        name, size);
    return check_within(options, name, "", number->offset, size, err);
}

static mdn_status
check_options(const mdn_fixed_options *options, mdn_error *err)
{
    const mdn_schema *schema = options->file.schema;
    mdn_status st;

    if (options->record_size == 0 || options->record_size >= MDN_RECORD_MAX)
        return mdn_fail(err, MDN_INVALID,
                        "record_size must be 1 to %llu bytes, got %llu",
                        (ull)MDN_RECORD_MAX - 1, (ull)options->record_size);
    for (uint32_t f = 0; f < schema->field_count; f++) {
        const mdn_field *field = &schema->fields[f];

        if (field->dtype == MDN_BYTES)
            return mdn_fail(err, MDN_INVALID,
                            "field %s: bytes have no fixed size; a schema with "
                            "uint8[n] has",
                            field->name);
        st = check_within(options, "field ", field->name, options->offsets[f],
                          field->size_bytes, err);
        if (st != MDN_OK)
            return st;
    }
    st = check_number(options, "label", &options->label, err);
    if (st == MDN_OK)
        st = check_number(options, "timestamp", &options->timestamp, err);
    return st;
}

static void
add_number(mdn_run *run, mdn_part_role role, const mdn_number_at *number)
{
    if (number->size == 0)
        return;
    run->parts[run->part_count++] =
        (mdn_part){.role = role,
                   .offset = number->offset,
                   .size = number->size,
                   .item = number->size,
                   .swap = number->big_endian && number->size > 1,
                   .is_signed = number->is_signed};
}

/* Reader ---------------------------------------------------------------- */

static mdn_status
fixed_fill(mdn_reader *reader, mdn_block *block, uint64_t size_max,
           mdn_progress *out, mdn_error *err)
{
    return mdn_records_fill(&fixed_of(reader)->records, block, size_max, out,
                            err);
}

static uint64_t
fixed_position(const mdn_reader *reader)
{
    const fixed *self = (const fixed *)reader;
    const mdn_run *run = &self->records.runs[0];

    /* A growing file may not have reached its first record. */
    if (self->records.next == 0)
        return 0;
    return run->start + self->records.next * run->record_size;
}

static mdn_status
fixed_seek(mdn_reader *reader, uint64_t position, mdn_error *err)
{
    fixed *self = fixed_of(reader);
    const mdn_run *run = &self->records.runs[0];
    uint64_t at = position < run->start ? 0 : position - run->start;

    if (position != 0
        && (position < run->start || at % run->record_size != 0
            || at / run->record_size > self->records.count))
        return mdn_fail(err, MDN_INVALID,
                        "%s: no record of %llu bytes begins at byte %llu",
                        self->input.name, (ull)run->record_size, (ull)position);
    self->records.next = at / run->record_size;
    return MDN_OK;
}

static void
fixed_free(mdn_reader *reader)
{
    fixed *self = fixed_of(reader);

    mdn_records_clear(&self->records);
    mdn_input_close(&self->input);
    free(self);
}

/* Opening --------------------------------------------------------------- */

/* How many whole records the file has. */
static mdn_status
count_records(fixed *self, const mdn_fixed_options *options, mdn_error *err)
{
    uint64_t size = self->input.facts.size, first = options->first_record;
    uint64_t count = 0, rest = 0;

    if (size < first && !options->file.growing)
        return mdn_fail(err, MDN_INVALID,
                        "%s: ends in the middle of its header: %llu of %llu "
                        "bytes",
                        self->input.name, (ull)size, (ull)first);
    if (size > first) {
        count = (size - first) / options->record_size;
        rest = (size - first) % options->record_size;
    }
    if (rest > 0 && !options->file.growing)
        return mdn_fail(err, MDN_INVALID,
                        "%s: ends in the middle of record %llu: %llu of %llu "
                        "bytes",
                        self->input.name, (ull)count, (ull)rest,
                        (ull)options->record_size);
    self->records.count = count;
    return MDN_OK;
}

static mdn_status
bind_parts(fixed *self, const mdn_fixed_options *options, mdn_error *err)
{
    const mdn_schema *schema = options->file.schema;
    mdn_status st =
        mdn_records_init(&self->records, &options->file, &self->input, 1,
                         schema->field_count + 2, err);
    mdn_run *run;

    if (st != MDN_OK)
        return st;
    run = &self->records.runs[0];
    run->start = options->first_record;
    run->record_size = options->record_size;
    for (uint32_t f = 0; f < schema->field_count; f++)
        run->parts[run->part_count++] = mdn_part_of_field(
            schema, f, options->offsets[f], options->big_endian[f]);
    add_number(run, MDN_PART_LABEL, &options->label);
    add_number(run, MDN_PART_TIMESTAMP, &options->timestamp);
    return MDN_OK;
}

mdn_status
mdn_fixed_open(const mdn_fixed_options *options, mdn_reader **out,
               mdn_error *err)
{
    mdn_status st = check_options(options, err);
    fixed *self;

    *out = NULL;
    if (st != MDN_OK)
        return st;
    self = calloc(1, sizeof *self);
    if (self == NULL)
        return mdn_fail_nomem(err, sizeof *self);
    self->reader = (mdn_reader){.fill = fixed_fill,
                                .position = fixed_position,
                                .seek = fixed_seek,
                                .free = fixed_free,
                                .labels = options->label.size > 0,
                                .timestamps = options->timestamp.size > 0};
    self->input = MDN_INPUT_CLOSED;
    if ((st = mdn_input_open(options->file.io, options->file.path, true,
                             &self->input, err))
            != MDN_OK
        || (st = bind_parts(self, options, err)) != MDN_OK
        || (st = count_records(self, options, err)) != MDN_OK) {
        fixed_free(&self->reader);
        return st;
    }
    *out = &self->reader;
    return MDN_OK;
}
