/* records.c - pieces of records, side by side.
 *
 * A slice of samples is cut into pieces of about a mebibyte, run by run.  The
 * block is given its room before the threads start, so that each writes to
 * places of its own and nothing has to be joined afterwards. */
#include "ingest/records.h"

#include "base/bytes.h"
#include "ingest/crew.h"

#include <stdlib.h>
#include <string.h>

#define PIECE_SIZE (UINT64_C(1) << 20)
/* Of a slice: so many mebibytes of each run together, one piece at least. */
#define SLICE_PIECES 64
#define PIECES_MAX (MDN_FIELDS_MAX + 2)

typedef unsigned long long ull;

typedef struct {
    const mdn_run *run;
    uint64_t first, count; /* samples of the slice */
    uint64_t good;         /* how many of them were sound */
} piece;

typedef struct {
    mdn_records *records;
    mdn_block *block;
    uint64_t count; /* samples */
    piece pieces[PIECES_MAX];
    uint32_t piece_count;
} slice;

mdn_part
mdn_part_of_field(const mdn_schema *schema, uint32_t field, uint64_t offset,
                  bool big_endian)
{
    mdn_dtype dtype = schema->fields[field].dtype;
    uint64_t item = mdn_dtype_size(dtype);

    if (dtype == MDN_COMPLEX64 || dtype == MDN_COMPLEX128)
        item /= 2;
    return (mdn_part){.role = MDN_PART_FIELD,
                      .field = field,
                      .offset = offset,
                      .size = schema->fields[field].size_bytes,
                      .item = (uint32_t)item,
                      .swap = big_endian && item > 1,
                      .is_bool = dtype == MDN_BOOL};
}

mdn_status
mdn_records_init(mdn_records *records, const mdn_reader_file *file,
                 const mdn_input *input, uint32_t run_count,
                 uint32_t part_count, mdn_error *err)
{
    uint32_t threads =
        file->threads < MDN_CREW_MAX ? file->threads : MDN_CREW_MAX;

    *records = (mdn_records){.input = input,
                             .schema = file->schema,
                             .threads = threads,
                             .run_count = run_count,
                             .piece_size = PIECE_SIZE};
    records->runs = calloc(run_count, sizeof *records->runs);
    records->buffers = calloc(threads, sizeof *records->buffers);
    if (records->runs == NULL || records->buffers == NULL)
        return mdn_fail_nomem(err, run_count * sizeof *records->runs);
    for (uint32_t r = 0; r < run_count; r++) {
        mdn_run *run = &records->runs[r];

        run->parts = calloc(part_count, sizeof *run->parts);
        if (run->parts == NULL)
            return mdn_fail_nomem(err, part_count * sizeof *run->parts);
    }
    return MDN_OK;
}

void
mdn_records_clear(mdn_records *records)
{
    for (uint32_t r = 0; records->runs != NULL && r < records->run_count; r++)
        free(records->runs[r].parts);
    for (uint32_t t = 0; records->buffers != NULL && t < records->threads; t++)
        free(records->buffers[t].bytes);
    free(records->runs);
    free(records->buffers);
    *records = (mdn_records){.runs = NULL};
}

/* Numbers --------------------------------------------------------------- */

static void
swap_items(uint8_t *at, uint64_t size, uint32_t item)
{
    uint16_t two;
    uint32_t four;
    uint64_t eight;

    for (uint8_t *end = at + size; at < end; at += item) {
        switch (item) {
        case 2:
            memcpy(&two, at, 2);
            two = __builtin_bswap16(two);
            memcpy(at, &two, 2);
            break;
        case 4:
            memcpy(&four, at, 4);
            four = __builtin_bswap32(four);
            memcpy(at, &four, 4);
            break;
        default:
            memcpy(&eight, at, 8);
            eight = __builtin_bswap64(eight);
            memcpy(at, &eight, 8);
        }
    }
}

/* An integer of 1 to 8 bytes as int64; false if it is too large for it. */
static bool
load_integer(const mdn_part *part, const uint8_t *at, int64_t *out)
{
    uint8_t bytes[8] = {0};
    unsigned unused = 8 * (8 - part->item);
    uint64_t value;

    for (uint32_t i = 0; i < part->item; i++)
        bytes[i] = at[part->swap ? part->item - 1 - i : i];
    value = mdn_load_u64(bytes);
    if (part->is_signed) { /* the sign bit moves up, and is shifted down */
        *out = (int64_t)(value << unused) >> unused;
        return true;
    }
    *out = (int64_t)value;
    return value <= INT64_MAX && !(part->is_bool && value > 1);
}

static mdn_status
fail_value(const slice *s, const piece *p, const mdn_part *part, uint64_t at,
           const char *what, mdn_error *err)
{
    const mdn_records *records = s->records;
    uint64_t record = records->next + p->first + at;
    const char *name = part->role == MDN_PART_LABEL ? "label"
                       : part->role == MDN_PART_TIMESTAMP
                           ? "timestamp"
                           : records->schema->fields[part->field].name;

    return mdn_fail(
        err, MDN_INVALID, "%s: record %llu at byte %llu: %s holds %s",
        records->input->name, (ull)record,
        (ull)(p->run->start + record * p->run->record_size), name, what);
}

/* All bytes are 0 or 1, or the index of the first that is not. */
static uint64_t
first_bad_bool(const uint8_t *at, uint64_t size)
{
    uint8_t any = 0;

    for (uint64_t i = 0; i < size; i++)
        any |= at[i];
    if (any <= 1)
        return size;
    for (uint64_t i = 0;; i++) {
        if (at[i] > 1)
            return i;
    }
}

/* Parts ----------------------------------------------------------------- */

/* Where sample `at` of the piece lies in the column of a field. */
static uint8_t *
column_at(const slice *s, const piece *p, const mdn_part *part, uint64_t at)
{
    uint8_t *values = (uint8_t *)s->block->columns[part->field].values;

    return values + (s->block->count + p->first + at) * part->size;
}

/* What was copied to the column is made right, or found wrong. */
static mdn_status
finish_field(const slice *s, piece *p, const mdn_part *part, uint64_t at,
             uint64_t count, mdn_error *err)
{
    uint8_t *column = column_at(s, p, part, at);
    uint64_t size = count * part->size, bad;

    if (part->swap)
        swap_items(column, size, part->item);
    if (!part->is_bool || (bad = first_bad_bool(column, size)) == size)
        return MDN_OK;
    p->good = at + bad / part->size;
    return fail_value(s, p, part, p->good, "a bool that is neither 0 nor 1",
                      err);
}

/* Numbers of some usual sizes are moved as such. */
static void
copy_strided(uint8_t *to, uint64_t size, const uint8_t *from, uint64_t stride,
             uint64_t count)
{
    switch (size) {
    case 1:
        for (uint64_t i = 0; i < count; i++)
            to[i] = from[i * stride];
        break;
    case 4:
        for (uint64_t i = 0; i < count; i++)
            memcpy(to + 4 * i, from + i * stride, 4);
        break;
    case 8:
        for (uint64_t i = 0; i < count; i++)
            memcpy(to + 8 * i, from + i * stride, 8);
        break;
    default:
        for (uint64_t i = 0; i < count; i++)
            memcpy(to + i * size, from + i * stride, size);
    }
}

/* One part of `count` records that lie at `from`, `stride` apart. */
static mdn_status
take_part(const slice *s, piece *p, const mdn_part *part, const uint8_t *from,
          uint64_t stride, uint64_t count, mdn_error *err)
{
    int64_t *out =
        part->role == MDN_PART_LABEL ? s->block->labels : s->block->timestamps;

    if (part->role == MDN_PART_FIELD) {
        copy_strided(column_at(s, p, part, 0), part->size, from, stride, count);
        return finish_field(s, p, part, 0, count, err);
    }
    out += s->block->count + p->first;
    for (uint64_t i = 0; i < count; i++) {
        if (load_integer(part, from + i * stride, &out[i]))
            continue;
        p->good = i;
        return fail_value(s, p, part, i,
                          part->is_bool ? "a bool that is neither 0 nor 1"
                                        : "a number above 2^63 - 1",
                          err);
    }
    return MDN_OK;
}

/* Pieces ---------------------------------------------------------------- */

/* The first failure is the one of the lowest record, then of the first part:
 * once one part has failed, the next ones are only taken before it. */
static mdn_status
take_parts(const slice *s, piece *p, const uint8_t *from, mdn_error *err)
{
    const mdn_run *run = p->run;
    mdn_status st = MDN_OK;

    p->good = p->count;
    for (uint32_t i = 0; i < run->part_count && p->good > 0; i++) {
        const mdn_part *part = &run->parts[i];
        mdn_error error;
        mdn_status one = take_part(s, p, part, from + part->offset,
                                   run->record_size, p->good, &error);

        if (one == MDN_OK)
            continue;
        st = one;
        if (err != NULL)
            *err = error;
    }
    return st;
}

/* A record that is one field goes where it belongs at once. */
static bool
is_direct(const mdn_run *run)
{
    return run->part_count == 1 && run->parts[0].role == MDN_PART_FIELD
           && run->parts[0].size == run->record_size;
}

/* Records too large for a buffer are taken part by part; those that are no
 * field are a few bytes. */
static mdn_status
read_large(const slice *s, piece *p, uint64_t at, mdn_error *err)
{
    mdn_status st = MDN_OK;

    p->good = 0;
    for (uint32_t i = 0; st == MDN_OK && i < p->run->part_count; i++) {
        const mdn_part *part = &p->run->parts[i];
        const mdn_input *input = s->records->input;
        uint8_t number[8];

        if (part->role == MDN_PART_FIELD) {
            st = mdn_input_read(input, column_at(s, p, part, 0), part->size,
                                at + part->offset, err);
            if (st == MDN_OK)
                st = finish_field(s, p, part, 0, 1, err);
        } else {
            st = mdn_input_read(input, number, part->item, at + part->offset,
                                err);
            if (st == MDN_OK)
                st = take_part(s, p, part, number, 0, 1, err);
        }
    }
    p->good = st == MDN_OK;
    return st;
}

/* The buffer of a thread, of this size at least; NULL without memory. */
static uint8_t *
buffer_of(mdn_records *records, uint32_t worker, uint64_t size)
{
    if (records->buffers[worker].size < size) {
        free(records->buffers[worker].bytes);
        records->buffers[worker].bytes = malloc(size);
        records->buffers[worker].size =
            records->buffers[worker].bytes != NULL ? size : 0;
    }
    return records->buffers[worker].bytes;
}

static mdn_status
read_piece(void *self, uint64_t item, uint32_t worker, mdn_error *err)
{
    slice *s = self;
    piece *p = &s->pieces[item];
    const mdn_run *run = p->run;
    uint8_t *buffer;
    uint64_t size = p->count * run->record_size;
    uint64_t at = run->start + (s->records->next + p->first) * run->record_size;
    mdn_status st;

    p->good = 0;
    if (is_direct(run)) {
        uint8_t *column = column_at(s, p, &run->parts[0], 0);

        st = mdn_input_read(s->records->input, column, size, at, err);
        if (st != MDN_OK)
            return st;
        p->good = p->count;
        return finish_field(s, p, &run->parts[0], 0, p->count, err);
    }
    if (size > s->records->piece_size)
        return read_large(s, p, at, err);
    if ((buffer = buffer_of(s->records, worker, size)) == NULL)
        return mdn_fail_nomem(err, size);
    st = mdn_input_read(s->records->input, buffer, size, at, err);
    return st == MDN_OK ? take_parts(s, p, buffer, err) : st;
}

/* Cut the next samples into pieces; how many fit depends on the runs only. */
static void
cut(slice *s, uint64_t wanted)
{
    mdn_records *records = s->records;
    uint32_t per_run = records->run_count < SLICE_PIECES
                           ? SLICE_PIECES / records->run_count
                           : 1;

    s->count = wanted;
    for (uint32_t r = 0; r < records->run_count; r++) {
        uint64_t size = records->runs[r].record_size;
        uint64_t rows = records->piece_size / size * per_run;

        if (rows == 0)
            rows = records->piece_size * per_run / size;
        if (rows == 0)
            rows = 1;
        if (rows < s->count)
            s->count = rows;
    }
    s->piece_count = 0;
    for (uint32_t r = 0; r < records->run_count; r++) {
        const mdn_run *run = &records->runs[r];
        uint64_t rows = records->piece_size / run->record_size;

        if (rows == 0)
            rows = 1;
        for (uint64_t at = 0; at < s->count; at += rows)
            s->pieces[s->piece_count++] =
                (piece){.run = run,
                        .first = at,
                        .count = s->count - at < rows ? s->count - at : rows};
    }
}

/* The next samples, at most that many; s->count says how many.  After a
 * failure only those before the bad one are read once more: another run may
 * have failed earlier, or not have been reached.  So the outcome is that of
 * the first bad sample, whatever the threads did. */
static mdn_status
read_slice(slice *s, uint64_t wanted, mdn_error *err)
{
    mdn_status first = MDN_OK;

    for (;;) {
        uint64_t failed;
        mdn_status st;

        cut(s, wanted);
        st = mdn_crew_run(s->records->threads, s->piece_count, read_piece, s,
                          &failed, err);
        if (st == MDN_OK)
            return first;
        first = st;
        wanted = s->pieces[failed].first + s->pieces[failed].good;
        if (wanted == 0) {
            s->count = 0;
            return first;
        }
    }
}

mdn_status
mdn_records_fill(mdn_records *records, mdn_block *block, uint64_t size_max,
                 mdn_progress *out, mdn_error *err)
{
    slice s = {.records = records, .block = block};
    uint64_t left = records->count - records->next, budget;
    mdn_status st;

    *out = left == 0 ? MDN_READER_END : MDN_READER_FULL;
    if (left == 0 || (block->count > 0 && block->size_bytes >= size_max))
        return MDN_OK;
    budget = size_max > block->size_bytes ? size_max - block->size_bytes : 1;
    budget = (budget - 1) / block->sample_size + 1;
    cut(&s, left < budget ? left : budget);
    if ((st = mdn_block_reserve(block, s.count, err)) != MDN_OK)
        return st;
    st = read_slice(&s, s.count, err);
    mdn_block_end_samples(block, s.count);
    records->next += s.count;
    if (st != MDN_OK)
        return st;
    *out = records->next == records->count ? MDN_READER_END
           : block->size_bytes >= size_max ? MDN_READER_FULL
                                           : MDN_READER_MORE;
    return MDN_OK;
}
