/* npy.c - arrays as runs of records (records.h).
 *
 * A plain array is a run with one part, a structured one a run with a part for
 * each name that is asked for, an archive a run for each array. */
#include "ingest/npy.h"

#include "base/bytes.h"
#include "base/crc32.h"
#include "ingest/npy_header.h"
#include "ingest/records.h"
#include "ingest/zip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHAT_SIZE 260
#define CHECK_SIZE (UINT64_C(1) << 20) /* read at a time */
#define CHECK_SLICE 32                 /* times, in one call */

typedef unsigned long long ull;

/* Bytes of an archive whose checksum is known. */
typedef struct {
    uint64_t at, size;
    uint32_t crc;
    char name[MDN_NAME_SIZE + 64];
} member;

typedef struct {
    mdn_reader reader; /* first */
    mdn_input input;
    mdn_records records;
    bool archive;
    /* Members of an archive, and how far they have been verified. */
    member *members; /* owned; one per run */
    uint32_t verified;
    uint64_t verified_bytes; /* of the next one */
    uint32_t verified_crc;
    uint8_t *buffer; /* owned; while verifying */
} npy;

static npy *
npy_of(mdn_reader *reader)
{
    return (npy *)reader; /* its first member */
}

/* Shapes and types ------------------------------------------------------ */

static void
show_shape(char *out, uint64_t size, const uint64_t *shape, uint32_t ndim)
{
    uint64_t used = 0;

    out[0] = '\0';
    for (uint32_t d = 0; d < ndim && used + 24 < size; d++)
        used += (uint64_t)snprintf(out + used, size - used, "%s%llu",
                                   d > 0 ? ", " : "", (ull)shape[d]);
}

static mdn_status
check_type(const char *what, const mdn_npy_member *from, const mdn_field *field,
           mdn_error *err)
{
    if (mdn_npy_is(from, field->dtype))
        return MDN_OK;
    if (field->dtype == MDN_BYTES)
        return mdn_fail(err, MDN_INVALID,
                        "field %s: bytes cannot be read from an array; a "
                        "schema with uint8[n] can",
                        field->name);
    return mdn_fail(err, MDN_INVALID,
                    "%s: holds type '%c%llu', but field %s is %s; convert it "
                    "with .astype('%s')",
                    what, from->kind, (ull)from->item, field->name,
                    mdn_dtype_name(field->dtype), mdn_dtype_name(field->dtype));
}

static mdn_status
check_shape(const char *what, const uint64_t *shape, uint32_t ndim,
            const mdn_field *field, mdn_error *err)
{
    char have[120], want[120];

    if (ndim == field->ndim
        && memcmp(shape, field->shape, ndim * sizeof *shape) == 0)
        return MDN_OK;
    show_shape(have, sizeof have, shape, ndim);
    show_shape(want, sizeof want, field->shape, field->ndim);
    return mdn_fail(err, MDN_INVALID,
                    "%s: each sample has shape (%s), but field %s has shape "
                    "(%s)",
                    what, have, field->name, want);
}

/* The part of a field, of an array or of one of its members. */
static mdn_status
field_part(const char *what, const mdn_schema *schema, uint32_t f,
           const mdn_npy_member *from, const uint64_t *shape, uint32_t ndim,
           mdn_part *out, mdn_error *err)
{
    const mdn_field *field = &schema->fields[f];
    mdn_status st = check_type(what, from, field, err);

    if (st == MDN_OK)
        st = check_shape(what, shape, ndim, field, err);
    if (st == MDN_OK)
        *out = mdn_part_of_field(schema, f, from->offset, from->big_endian);
    return st;
}

/* The part of a label or timestamp. */
static mdn_status
number_part(const char *what, mdn_part_role role, const mdn_npy_member *from,
            uint32_t ndim, mdn_part *out, mdn_error *err)
{
    uint64_t item = from->item;
    bool integer = strchr("biu", from->kind) != NULL
                   && (item == 1 || item == 2 || item == 4 || item == 8);

    if (!integer || ndim != 0)
        return mdn_fail(err, MDN_INVALID,
                        "%s: one integer per sample is needed for the %s, not "
                        "type '%c%llu' with %u dimensions",
                        what, role == MDN_PART_LABEL ? "label" : "timestamp",
                        from->kind, (ull)item, ndim);
    *out = (mdn_part){.role = role,
                      .offset = from->offset,
                      .size = item,
                      .item = (uint32_t)item,
                      .swap = from->big_endian && item > 1,
                      .is_signed = from->kind == 'i',
                      .is_bool = from->kind == 'b'};
    return MDN_OK;
}

/* Arrays ---------------------------------------------------------------- */

/* Dimensions and order of an array that holds samples. */
static mdn_status
check_array(const char *what, const mdn_npy_header *header, mdn_error *err)
{
    if (header->ndim == 0)
        return mdn_fail(err, MDN_INVALID,
                        "%s: a single value, not an array of samples", what);
    if (header->fortran_order && header->ndim > 1)
        return mdn_fail(err, MDN_INVALID,
                        "%s: in Fortran order; save np.ascontiguousarray of it",
                        what);
    if (header->structured && header->ndim != 1)
        return mdn_fail(err, MDN_INVALID,
                        "%s: a structured array of %u dimensions; one is "
                        "needed",
                        what, header->ndim);
    return MDN_OK;
}

/* The one part of a plain array: a field, or the label or timestamp. */
static mdn_status
bind_plain(npy *self, const char *what, const mdn_npy_header *header,
           mdn_run *run, mdn_part_role role, uint32_t f, mdn_error *err)
{
    const mdn_schema *schema = self->records.schema;
    mdn_status st;

    if (header->structured)
        return mdn_fail(err, MDN_INVALID,
                        "%s: a structured array within an archive; save it as "
                        "an .npy of its own",
                        what);
    if (role == MDN_PART_FIELD)
        st = field_part(what, schema, f, header->members, header->shape + 1,
                        header->ndim - 1, &run->parts[0], err);
    else
        st = number_part(what, role, header->members, header->ndim - 1,
                         &run->parts[0], err);
    if (st != MDN_OK)
        return st;
    run->part_count = 1;
    run->record_size = run->parts[0].size;
    return MDN_OK;
}

static mdn_status
find_member(const char *what, const mdn_npy_header *header, const char *name,
            const mdn_npy_member **out, mdn_error *err)
{
    uint64_t size = strlen(name);

    *out = NULL;
    for (uint32_t m = 0; m < header->member_count; m++) {
        const mdn_npy_member *one = &header->members[m];

        if (one->name_size != size || memcmp(one->name, name, size) != 0)
            continue;
        if (*out != NULL)
            return mdn_fail(err, MDN_INVALID, "%s: two fields are called %s",
                            what, name);
        *out = one;
    }
    if (*out == NULL)
        return mdn_fail(err, MDN_INVALID, "%s: the array has no field %s", what,
                        name);
    return MDN_OK;
}

static mdn_status
bind_number(const char *what, const mdn_npy_header *header, mdn_run *run,
            mdn_part_role role, const char *name, mdn_error *err)
{
    const mdn_npy_member *from;
    mdn_status st;

    if (name == NULL)
        return MDN_OK;
    if ((st = find_member(what, header, name, &from, err)) != MDN_OK)
        return st;
    return number_part(what, role, from, from->ndim,
                       &run->parts[run->part_count++], err);
}

static const char *
name_of(const mdn_npy_options *options, uint32_t f)
{
    return options->names != NULL && options->names[f] != NULL
               ? options->names[f]
               : options->file.schema->fields[f].name;
}

static mdn_status
bind_structured(npy *self, const mdn_npy_options *options,
                const mdn_npy_header *header, mdn_run *run, mdn_error *err)
{
    const mdn_schema *schema = self->records.schema;
    const char *what = self->input.name;
    const mdn_npy_member *from;
    mdn_status st = MDN_OK;

    for (uint32_t f = 0; st == MDN_OK && f < schema->field_count; f++) {
        st = find_member(what, header, name_of(options, f), &from, err);
        if (st == MDN_OK)
            st = field_part(what, schema, f, from, from->shape, from->ndim,
                            &run->parts[run->part_count++], err);
    }
    if (st == MDN_OK)
        st =
            bind_number(what, header, run, MDN_PART_LABEL, options->label, err);
    if (st == MDN_OK)
        st = bind_number(what, header, run, MDN_PART_TIMESTAMP,
                         options->timestamp, err);
    run->record_size = header->item_size;
    return st;
}

/* Hold the number of samples that the header claims against the bytes. */
static mdn_status
count_samples(const char *what, const mdn_npy_header *header,
              const mdn_run *run, uint64_t size, bool growing, uint64_t *count,
              mdn_error *err)
{
    uint64_t have = size / run->record_size, rest = size % run->record_size;

    *count = header->shape[0];
    if (growing) {
        *count = have < *count ? have : *count;
        return MDN_OK;
    }
    if (have < *count)
        return mdn_fail(err, MDN_INVALID,
                        "%s: ends in the middle of sample %llu of %llu: %llu "
                        "of %llu bytes",
                        what, (ull)have, (ull)*count, (ull)rest,
                        (ull)run->record_size);
    if (have > *count || rest > 0)
        return mdn_fail(err, MDN_INVALID,
                        "%s: %llu bytes behind the array's %llu samples", what,
                        (ull)(size - *count * run->record_size), (ull)*count);
    return MDN_OK;
}

/* .npy ------------------------------------------------------------------ */

static mdn_status
bind_array(npy *self, const mdn_npy_options *options,
           const mdn_npy_header *header, mdn_error *err)
{
    const mdn_schema *schema = self->records.schema;
    mdn_run *run = &self->records.runs[0];
    uint64_t size = self->input.facts.size - header->data_at;
    mdn_status st = check_array(self->input.name, header, err);

    if (st != MDN_OK)
        return st;
    run->start = header->data_at;
    if (header->structured)
        st = bind_structured(self, options, header, run, err);
    else if (schema->field_count > 1 || options->label != NULL
             || options->timestamp != NULL)
        st = mdn_fail(err, MDN_INVALID,
                      "%s: a plain array, which gives one field and no label "
                      "or timestamp; the others need a structured array or an "
                      ".npz",
                      self->input.name);
    else
        st = bind_plain(self, self->input.name, header, run, MDN_PART_FIELD, 0,
                        err);
    if (st != MDN_OK)
        return st;
    return count_samples(self->input.name, header, run, size,
                         options->file.growing, &self->records.count, err);
}

static mdn_status
open_array(npy *self, const mdn_npy_options *options, mdn_error *err)
{
    mdn_npy_header header;
    bool cut = false;
    mdn_status st =
        mdn_records_init(&self->records, &options->file, &self->input, 1,
                         options->file.schema->field_count + 2, err);

    if (st != MDN_OK)
        return st;
    self->records.runs[0].record_size = 1; /* until a header says more */
    st = mdn_npy_header_read(&self->input, 0, self->input.facts.size,
                             self->input.name, &header, &cut, err);
    if (cut && options->file.growing)
        return MDN_OK; /* nothing is there yet */
    if (st == MDN_OK)
        st = bind_array(self, options, &header, err);
    mdn_npy_header_clear(&header);
    return st;
}

/* .npz ------------------------------------------------------------------ */

/* Run `r` from the array of this name. */
static mdn_status
bind_member(npy *self, const mdn_zip *zip, uint32_t r, const char *name,
            mdn_part_role role, uint32_t f, mdn_error *err)
{
    char what[WHAT_SIZE];
    member *m = &self->members[r];
    mdn_run *run = &self->records.runs[r];
    const mdn_zip_entry *entry;
    mdn_npy_header header;
    uint64_t count = 0;
    bool cut;
    mdn_status st;

    if (strlen(name) + sizeof ".npy" > sizeof m->name)
        return mdn_fail(err, MDN_INVALID,
                        "an array's name of %llu bytes; %llu are the most",
                        (ull)strlen(name), (ull)(sizeof m->name - 5));
    snprintf(m->name, sizeof m->name, "%s.npy", name);
    snprintf(what, sizeof what, "%s: %.90s", self->input.name, m->name);
    st = mdn_zip_find(zip, &self->input, m->name, &entry, &m->at, err);
    if (st != MDN_OK)
        return st;
    m->size = entry->size;
    m->crc = entry->crc;
    st = mdn_npy_header_read(&self->input, m->at, m->size, what, &header, &cut,
                             err);
    if (st != MDN_OK)
        return st;
    if ((st = check_array(what, &header, err)) == MDN_OK
        && (st = bind_plain(self, what, &header, run, role, f, err)) == MDN_OK)
        st = count_samples(what, &header, run, m->size - header.data_at, false,
                           &count, err);
    run->start = m->at + header.data_at;
    mdn_npy_header_clear(&header);
    if (st != MDN_OK)
        return st;
    if (r > 0 && count != self->records.count)
        return mdn_fail(
            err, MDN_INVALID, "%s has %llu samples, but %s has %llu", what,
            (ull)count, self->members[0].name, (ull)self->records.count);
    self->records.count = count;
    return MDN_OK;
}

static mdn_status
bind_archive(npy *self, const mdn_npy_options *options, const mdn_zip *zip,
             mdn_error *err)
{
    uint32_t r = 0;
    mdn_status st = MDN_OK;

    for (; st == MDN_OK && r < options->file.schema->field_count; r++)
        st = bind_member(self, zip, r, name_of(options, r), MDN_PART_FIELD, r,
                         err);
    if (st == MDN_OK && options->label != NULL)
        st =
            bind_member(self, zip, r++, options->label, MDN_PART_LABEL, 0, err);
    if (st == MDN_OK && options->timestamp != NULL)
        st = bind_member(self, zip, r++, options->timestamp, MDN_PART_TIMESTAMP,
                         0, err);
    return st;
}

static mdn_status
open_archive(npy *self, const mdn_npy_options *options, mdn_error *err)
{
    uint32_t runs = options->file.schema->field_count + (options->label != NULL)
                    + (options->timestamp != NULL);
    mdn_zip zip;
    bool cut;
    mdn_status st = mdn_records_init(&self->records, &options->file,
                                     &self->input, runs, 1, err);

    if (st != MDN_OK)
        return st;
    for (uint32_t r = 0; r < runs; r++)
        self->records.runs[r].record_size = 1;
    self->archive = true;
    self->members = calloc(runs, sizeof *self->members);
    if (self->members == NULL)
        return mdn_fail_nomem(err, runs * sizeof *self->members);
    st = mdn_zip_open(&self->input, &zip, &cut, err);
    if (cut && options->file.growing) {
        self->verified = runs; /* nothing is there yet */
        return MDN_OK;
    }
    if (st == MDN_OK)
        st = bind_archive(self, options, &zip, err);
    mdn_zip_clear(&zip);
    return st;
}

/* Verify the next bytes of the members; *done: that was all. */
static mdn_status
verify_slice(npy *self, bool *done, mdn_error *err)
{
    if (self->buffer == NULL && (self->buffer = malloc(CHECK_SIZE)) == NULL)
        return mdn_fail_nomem(err, CHECK_SIZE);
    for (int i = 0; i < CHECK_SLICE && self->verified < self->records.run_count;
         i++) {
        const member *m = &self->members[self->verified];
        uint64_t at = self->verified_bytes, size = m->size - at;
        mdn_status st;

        size = size < CHECK_SIZE ? size : CHECK_SIZE;
        st = mdn_input_read(&self->input, self->buffer, size, m->at + at, err);
        if (st != MDN_OK)
            return st;
        self->verified_crc = mdn_crc32(self->verified_crc, self->buffer, size);
        self->verified_bytes += size;
        if (self->verified_bytes < m->size)
            continue;
        if (self->verified_crc != m->crc) {
            self->verified_crc = 0;
            self->verified_bytes = 0;
            return mdn_fail(err, MDN_INVALID,
                            "%s: %s at byte %llu: its bytes do not have the "
                            "checksum that the archive states",
                            self->input.name, m->name, (ull)m->at);
        }
        self->verified++;
        self->verified_crc = 0;
        self->verified_bytes = 0;
    }
    *done = self->verified == self->records.run_count;
    return MDN_OK;
}

/* Reader ---------------------------------------------------------------- */

static mdn_status
npy_fill(mdn_reader *reader, mdn_block *block, uint64_t size_max,
         mdn_progress *out, mdn_error *err)
{
    npy *self = npy_of(reader);
    bool done = true;
    mdn_status st;

    if (self->archive && self->verified < self->records.run_count) {
        *out = MDN_READER_MORE;
        if ((st = verify_slice(self, &done, err)) != MDN_OK || !done)
            return st;
        free(self->buffer);
        self->buffer = NULL;
    }
    return mdn_records_fill(&self->records, block, size_max, out, err);
}

static uint64_t
npy_position(const mdn_reader *reader)
{
    const npy *self = (const npy *)reader;
    const mdn_run *run = &self->records.runs[0];

    if (self->records.next == 0 || self->archive)
        return self->records.next;
    return run->start + self->records.next * run->record_size;
}

static mdn_status
npy_seek(mdn_reader *reader, uint64_t position, mdn_error *err)
{
    npy *self = npy_of(reader);
    const mdn_run *run = &self->records.runs[0];
    uint64_t start = self->archive ? 0 : run->start;
    uint64_t step = self->archive ? 1 : run->record_size;
    uint64_t at = position < start ? 0 : position - start;

    if (position != 0
        && (position < start || at % step != 0
            || at / step > self->records.count))
        return mdn_fail(err, MDN_INVALID, "%s: no sample begins at %s %llu",
                        self->input.name, self->archive ? "place" : "byte",
                        (ull)position);
    self->records.next = at / step;
    return MDN_OK;
}

static void
npy_free(mdn_reader *reader)
{
    npy *self = npy_of(reader);

    mdn_records_clear(&self->records);
    mdn_input_close(&self->input);
    free(self->members);
    free(self->buffer);
    free(self);
}

static mdn_status
open_either(npy *self, const mdn_npy_options *options, mdn_error *err)
{
    uint8_t magic[2] = {0};
    uint64_t size = self->input.facts.size < 2 ? self->input.facts.size : 2;
    mdn_status st = mdn_input_read(&self->input, magic, size, 0, err);

    if (st != MDN_OK)
        return st;
    return size > 0 && memcmp(magic, "PK", size) == 0
               ? open_archive(self, options, err)
               : open_array(self, options, err);
}

mdn_status
mdn_npy_open(const mdn_npy_options *options, mdn_reader **out, mdn_error *err)
{
    npy *self = calloc(1, sizeof *self);
    mdn_status st;

    *out = NULL;
    if (self == NULL)
        return mdn_fail_nomem(err, sizeof *self);
    self->reader = (mdn_reader){.fill = npy_fill,
                                .position = npy_position,
                                .seek = npy_seek,
                                .free = npy_free,
                                .labels = options->label != NULL,
                                .timestamps = options->timestamp != NULL};
    self->input = MDN_INPUT_CLOSED;
    if ((st = mdn_input_open(options->file.io, options->file.path, true,
                             &self->input, err))
            != MDN_OK
        || (st = open_either(self, options, err)) != MDN_OK) {
        npy_free(&self->reader);
        return st;
    }
    *out = &self->reader;
    return MDN_OK;
}
