/* link.c - a file of the user becomes part of a dataset.
 *
 *     rows      [ fill the open segment ][ whole segments ... ][ the rest ]
 *                 copied, as by append     linked                copied
 *
 * Of a linked segment only the .col file is written: link_scan.c.  At the end
 * everything becomes visible with one commit: samples, the link in the journal
 * `events`, and where they came from in `sources`.
 *
 * A crash before that leaves .col files behind the last segment, one after the
 * other.  They mean nothing, and a writer removes them when it opens. */
#include "storage/linking.h"

#include "base/bytes.h"
#include "storage/copy.h"
#include "storage/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define COPY_PIECE (UINT64_C(32) << 20) /* bytes appended at once */
#define RECORD_MAX (UINT64_C(1) << 31)  /* bytes; a thread has room for one */

typedef unsigned long long ull;

/* The file. */

static mdn_status
check_number(const mdn_linking *l, const char *what,
             const mdn_number_at *number, mdn_error *err)
{
    uint64_t end;

    if (number->size == 0)
        return MDN_OK;
    if (number->size > 8 || (number->size & (number->size - 1)) != 0
        || mdn_add_overflows(number->offset, number->size, &end)
        || end > l->opt->record_size)
        return mdn_fail(err, MDN_INVALID,
                        "%s: a %s of %u bytes at byte %llu of a record of %llu",
                        l->opt->path, what, number->size, (ull)number->offset,
                        (ull)l->opt->record_size);
    return MDN_OK;
}

static mdn_status
check_options(const mdn_linking *l, mdn_error *err)
{
    const mdn_link_options *opt = l->opt;
    const char *reason = NULL;
    uint64_t end;

    if (l->layout->has[MDN_OFFSETS])
        reason = "the schema has bytes fields, whose records have no fixed "
                 "size";
    else if (opt->path[0] != '/' || strlen(opt->path) > MDN_LINK_PATH_MAX)
        reason = "its path must be absolute, with at most 4095 bytes";
    else if (mdn_add_overflows(opt->fields_at, l->layout->record_size, &end)
             || end > opt->record_size)
        reason = "the fields of the schema do not fit into its records";
    else if (opt->record_size > RECORD_MAX)
        reason = "its records have more than 2 GiB";
    if (reason != NULL)
        return mdn_fail(err, MDN_INVALID,
                        "%s: cannot be linked, since %s; use mode='copy'",
                        opt->path, reason);
    if ((opt->label.size != 0) != l->layout->has[MDN_LABELS])
        return mdn_fail(err, MDN_INVALID, "%s %s", l->dataset->path,
                        opt->label.size ? "has no labels" : "needs labels");
    if (check_number(l, "label", &opt->label, err) != MDN_OK)
        return MDN_INVALID;
    return check_number(l, "timestamp", &opt->timestamp, err);
}

static mdn_status
fail_changed(const mdn_linking *l, mdn_error *err)
{
    return mdn_fail(err, MDN_INVALID,
                    "%s: has changed while it was linked; nothing was added",
                    l->opt->path);
}

static mdn_status
open_file(mdn_linking *l, mdn_error *err)
{
    const mdn_link_options *opt = l->opt;
    uint64_t have = l->dataset->manifest.tail.count, left;
    mdn_status st =
        mdn_file_open(l->dataset->io, opt->path,
                      O_RDONLY | O_NONBLOCK | O_NOCTTY, &l->file, err);

    if (st != MDN_OK)
        return st;
    if ((st = mdn_file_facts_of(&l->file, &l->facts, err)) != MDN_OK)
        return st;
    if (!l->facts.regular)
        return mdn_fail(err, MDN_INVALID, "%s: is no regular file", opt->path);
    if (opt->size != 0 && l->facts.size != opt->size)
        return fail_changed(l, err);
    if (l->facts.size < opt->first_record)
        return mdn_fail(err, MDN_INVALID,
                        "%s: has %llu bytes, but the first record is to begin "
                        "at %llu",
                        opt->path, (ull)l->facts.size, (ull)opt->first_record);
    left = (l->facts.size - opt->first_record) % opt->record_size;
    l->rows = (l->facts.size - opt->first_record) / opt->record_size;
    if (left != 0)
        return mdn_fail(err, MDN_INVALID,
                        "%s: ends in the middle of a record: record %llu has "
                        "%llu bytes of %llu",
                        opt->path, (ull)l->rows, (ull)left,
                        (ull)opt->record_size);
    if (opt->timestamps != NULL && opt->timestamp_count != l->rows)
        return mdn_fail(err, MDN_INVALID,
                        "%s: %llu timestamps for %llu records", opt->path,
                        (ull)opt->timestamp_count, (ull)l->rows);
    if (l->rows > MDN_COUNT_MAX - have)
        return mdn_fail(err, MDN_INVALID, "%s: more than 2^48 samples",
                        l->dataset->path);
    return MDN_OK;
}

/* Whole records from row on. */
mdn_status
mdn_linking_read(const mdn_linking *l, uint64_t row, uint64_t count,
                 uint8_t *out, mdn_error *err)
{
    uint64_t size = l->opt->record_size;
    mdn_status st = mdn_file_read(&l->file, out, count * size,
                                  l->opt->first_record + row * size, err);

    return st == MDN_CORRUPT ? fail_changed(l, err) : st;
}

/* Is it still what it was when it was opened? */
static mdn_status
check_unchanged(const mdn_linking *l, mdn_error *err)
{
    mdn_file_facts now;
    int result;

    do
        result = l->dataset->io->look(l->dataset->io->self, l->opt->path, &now);
    while (result == -EINTR);
    if (result < 0)
        return mdn_fail_errno(err, -result, "%s: cannot be read", l->opt->path);
    if (now.size != l->facts.size || now.mtime_ns != l->facts.mtime_ns
        || now.device != l->facts.device || now.inode != l->facts.inode)
        return fail_changed(l, err);
    return MDN_OK;
}

/* Numbers. */

static uint64_t
load_number(const mdn_number_at *number, const uint8_t *record)
{
    uint64_t value = 0;

    for (uint32_t i = 0; i < number->size; i++) {
        uint32_t at = number->big_endian ? i : number->size - 1 - i;

        value = value << 8 | record[number->offset + at];
    }
    if (number->is_signed && number->size < 8
        && value >> (8 * number->size - 1) != 0)
        value |= UINT64_MAX << (8 * number->size);
    return value;
}

static mdn_status
read_numbers(const mdn_linking *l, const char *what,
             const mdn_number_at *number, const uint8_t *records, uint64_t row,
             uint64_t count, int64_t *out, mdn_error *err)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t value = load_number(number, records + i * l->opt->record_size);

        if (!number->is_signed && value > INT64_MAX)
            return mdn_fail(err, MDN_INVALID,
                            "%s: record %llu: %s %llu does not fit into int64",
                            l->opt->path, (ull)(row + i), what, (ull)value);
        out[i] = (int64_t)value;
    }
    return MDN_OK;
}

/* Timestamps and labels of rows whose records are given. */
mdn_status
mdn_linking_columns(const mdn_linking *l, const uint8_t *records, uint64_t row,
                    uint64_t count, int64_t *timestamps, int64_t *labels,
                    mdn_error *err)
{
    const mdn_link_options *opt = l->opt;
    mdn_status st = MDN_OK;

    if (opt->timestamp.size != 0)
        st = read_numbers(l, "timestamp", &opt->timestamp, records, row, count,
                          timestamps, err);
    else
        for (uint64_t i = 0; i < count; i++)
            timestamps[i] = opt->timestamps != NULL ? opt->timestamps[row + i]
                                                    : opt->timestamp_of_all;
    if (st == MDN_OK && l->layout->has[MDN_LABELS])
        st = read_numbers(l, "label", &opt->label, records, row, count, labels,
                          err);
    return st;
}

/* Rows that are copied. */

typedef struct {
    uint8_t *records, *fields;
    int64_t *labels, *timestamps;
    mdn_column *columns;
} copying;

static void
free_copying(copying *c)
{
    free(c->records);
    free(c->fields);
    free(c->labels);
    free(c->timestamps);
    free(c->columns);
}

static mdn_status
allocate_copying(const mdn_linking *l, uint64_t rows, copying *c,
                 mdn_error *err)
{
    const mdn_schema *schema = l->dataset->schema;
    uint64_t size = l->layout->record_size;

    c->records = malloc(rows * l->opt->record_size);
    c->fields = malloc(rows * size);
    c->labels = malloc(rows * 8);
    c->timestamps = malloc(rows * 8);
    c->columns = calloc(schema->field_count, sizeof *c->columns);
    if (!c->records || !c->fields || !c->labels || !c->timestamps
        || !c->columns)
        return mdn_fail_nomem(err, rows * (size + l->opt->record_size));
    for (uint32_t f = 0; f < schema->field_count; f++)
        c->columns[f].values = c->fields + rows * schema->fields[f].offset;
    return MDN_OK;
}

/* From records to columns of `count` rows. */
static void
spread(const mdn_linking *l, const copying *c, uint64_t count)
{
    const mdn_schema *schema = l->dataset->schema;
    uint64_t stride = l->opt->record_size;

    for (uint32_t f = 0; f < schema->field_count; f++) {
        uint64_t size = schema->fields[f].size_bytes;
        uint8_t *to = (uint8_t *)(uintptr_t)c->columns[f].values;
        const uint8_t *from =
            c->records + l->opt->fields_at + schema->fields[f].offset;

        for (uint64_t i = 0; i < count; i++)
            mdn_copy(to + i * size, from + i * stride, size);
    }
}

static mdn_status
copy_rows(const mdn_linking *l, uint64_t row, uint64_t count, mdn_tail *tail,
          mdn_error *err)
{
    uint64_t step = COPY_PIECE / l->opt->record_size + 1;
    copying c = {.records = NULL};
    mdn_status st;

    if (count == 0)
        return MDN_OK;
    if (step > count)
        step = count;
    st = allocate_copying(l, step, &c, err);
    for (uint64_t done = 0; done < count && st == MDN_OK; done += step) {
        uint64_t n = count - done < step ? count - done : step;

        st = mdn_pulse_ask(l->pulse, err);
        if (st == MDN_OK)
            st = mdn_linking_read(l, row + done, n, c.records, err);
        if (st == MDN_OK)
            st = mdn_linking_columns(l, c.records, row + done, n, c.timestamps,
                                     c.labels, err);
        if (st != MDN_OK)
            break;
        spread(l, &c, n);
        st = mdn_writer_put(l->dataset->writer, n, c.columns,
                            l->layout->has[MDN_LABELS] ? c.labels : NULL,
                            c.timestamps, tail, err);
    }
    free_copying(&c);
    return st;
}

/* All of it. */

/* Which rows are linked. */
static void
cut(mdn_linking *l, const mdn_tail *tail)
{
    uint64_t rows = UINT64_C(1) << l->layout->segment_shift;
    uint64_t in_segment = mdn_layout_row(l->layout, tail->count);

    l->first_row = in_segment == 0 ? 0 : rows - in_segment;
    l->first_segment = (tail->count + l->first_row) >> l->layout->segment_shift;
    if (l->rows >= l->first_row)
        l->segments = (l->rows - l->first_row) >> l->layout->segment_shift;
    if (l->segments == 0)
        l->first_row = l->rows; /* all of them are copied */
}

static mdn_status
put_rows(const mdn_linking *l, mdn_tail *tail, mdn_error *err)
{
    uint64_t linked = l->segments << l->layout->segment_shift;
    mdn_status st = copy_rows(l, 0, l->first_row, tail, err);

    if (st != MDN_OK)
        return st;
    /* What it may have open, left by an append that failed, is among the
     * files that are written now. */
    mdn_writer_rest(l->dataset->writer);
    if (l->segments > 0)
        st = mdn_linking_scan(l, err);
    tail->count += linked;
    if (st == MDN_OK)
        st = copy_rows(l, l->first_row + linked,
                       l->rows - l->first_row - linked, tail, err);
    return st == MDN_OK ? check_unchanged(l, err) : st;
}

static mdn_status
note_link(const mdn_linking *l, mdn_tail *tail, mdn_error *err)
{
    const mdn_link_event event = {
        .size = l->facts.size,
        .mtime_ns = l->facts.mtime_ns,
        .offset = l->opt->first_record + l->opt->fields_at,
        .stride = l->opt->record_size,
        .first_row = l->first_row,
        .first_segment = l->first_segment,
        .segments = l->segments,
        .path = l->opt->path,
        .path_size = strlen(l->opt->path),
    };
    uint8_t *payload;
    uint64_t size;
    mdn_status st;

    if (l->segments == 0)
        return MDN_OK;
    if ((st = mdn_link_encode(&event, &payload, &size, err)) != MDN_OK)
        return st;
    st = mdn_handle_note(l->dataset, MDN_EVENTS, MDN_EVENT_LINK, payload, size,
                         tail, err);
    free(payload);
    return st;
}

/* Everything but the commit, of which `next` is what it will show. */
static mdn_status
prepare(const mdn_linking *l, const void *source, uint64_t source_size,
        mdn_next *next, mdn_error *err)
{
    mdn_status st = put_rows(l, &next->tail, err);

    if (st == MDN_OK)
        st = note_link(l, &next->tail, err);
    if (st == MDN_OK && source != NULL)
        st = mdn_handle_note(l->dataset, MDN_SOURCES, MDN_SOURCE_TAKEN, source,
                             source_size, &next->tail, err);
    return st == MDN_OK ? mdn_handle_prepare(l->dataset, next, err) : st;
}

mdn_status
mdn_dataset_link(mdn_dataset *dataset, const mdn_link_options *options,
                 const void *source, uint64_t source_size,
                 const mdn_pulse *pulse, mdn_link_report *out, mdn_error *err)
{
    mdn_linking l = {.dataset = dataset,
                     .layout = &dataset->layout,
                     .opt = options,
                     .pulse = pulse,
                     .file = MDN_FILE_CLOSED};
    mdn_next next = {.tail = dataset->manifest.tail};
    mdn_status st = mdn_handle_check_writable(dataset, err);

    *out = (mdn_link_report){.first_key = next.tail.count};
    if (st == MDN_OK)
        st = check_options(&l, err);
    if (st == MDN_OK)
        st = open_file(&l, err);
    if (st == MDN_OK && (l.rows > 0 || source != NULL)) {
        cut(&l, &next.tail);
        st = prepare(&l, source, source_size, &next, err);
        if (st == MDN_OK)
            st = mdn_handle_commit(dataset, &next, err);
        else
            mdn_link_clean(dataset);
    }
    mdn_file_close(&l.file);
    if (st == MDN_OK) {
        out->samples = l.rows;
        out->linked = l.segments << l.layout->segment_shift;
    }
    return st;
}

/* Leftovers.  From the last one to the first, so that a crash in between
 * leaves no gap behind which nobody would look. */
void
mdn_link_clean(mdn_dataset *dataset)
{
    const mdn_layout *layout = &dataset->layout;
    uint64_t rows = UINT64_C(1) << layout->segment_shift;
    uint64_t first =
        (dataset->manifest.tail.count + rows - 1) >> layout->segment_shift;
    uint64_t end = first;
    bool found = true;

    if (dataset->writer != NULL)
        mdn_writer_rest(dataset->writer);
    while (found) {
        char *path = mdn_layout_path(dataset->path, end, 0, "col");
        mdn_file file = MDN_FILE_CLOSED;

        found =
            path != NULL
            && mdn_file_open(dataset->io, path,
                             O_RDONLY | O_NOFOLLOW | O_NONBLOCK, &file, NULL)
                   == MDN_OK;
        end += found;
        mdn_file_close(&file);
        free(path);
    }
    while (end > first) {
        char *path = mdn_layout_path(dataset->path, --end, 0, "col");

        if (path != NULL)
            dataset->io->unlink(dataset->io->self, path);
        free(path);
    }
}
