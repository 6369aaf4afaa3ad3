/* segment.c - rows from columns: packing, checksums, files.
 *
 * A batch is cut at the ends of segments; each part goes, in chunks of about
 * PIECE bytes, through one buffer in which the records are packed:
 *
 *     columns --pack--> records --> .seg          checksums of full blocks
 *                          `--continue checksum-->  --> .col
 *     timestamps, labels, ends of records --------> .col
 *
 * All of it lies behind the committed rows, in places that no reader looks at
 * before the manifest says so.  The disk is told to begin with each piece while
 * the next one is packed, so that the syncs at the end find little to wait
 * for: it is they that make a batch durable, and they report what failed. */
#include "storage/segment.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "storage/columns.h"
#include "storage/copy.h"
#include "storage/frames.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define PIECE (UINT64_C(2) << 20)       /* bytes written to .seg at once */
#define CHUNK_ROWS (UINT64_C(1) << 16)  /* rows packed at once, at most */
#define PACKED_MAX (UINT64_C(64) << 10) /* larger records are streamed */
#define ALLOCATE_MIN (UINT64_C(1) << 20)
#define NO_SEGMENT UINT64_MAX

struct mdn_writer {
    const mdn_io *io; /* borrowed, as the next three */
    const char *directory;
    const mdn_layout *layout;
    const mdn_schema *schema;
    const mdn_pulse *pulse;

    uint64_t segment;    /* whose files are open, or NO_SEGMENT */
    uint64_t first;      /* segment that was the last when it was opened, */
    uint64_t generation; /* and its generation; later ones have none yet */
    mdn_file seg, col;
    uint64_t allocated; /* bytes of seg that have room on disk */
    bool new_names;     /* the directory is to be synced */
    bool broken;        /* a sync failed */

    uint8_t *buffer;   /* PIECE bytes, owned */
    uint32_t *checks;  /* CHUNK_ROWS + 1, owned: of full blocks */
    int64_t *ends;     /* CHUNK_ROWS, owned: with bytes fields */
    mdn_frames frames; /* of payloads, if they are compressed */
};

/* A batch on its way: the arguments of put, and how far it has come. */
typedef struct {
    const mdn_column *columns;
    const int64_t *labels, *timestamps;
    uint64_t next;  /* index of the next row of the batch */
    mdn_tail *tail; /* behind the rows before it */
} batch;

static uint64_t
segment_of(const mdn_layout *layout, uint64_t key)
{
    return key >> layout->segment_shift;
}

/* Files. */

static void
close_files(mdn_writer *writer)
{
    mdn_file_close(&writer->seg);
    mdn_file_close(&writer->col);
    writer->segment = NO_SEGMENT;
}

static mdn_status
open_seg(mdn_writer *writer, uint64_t segment, uint64_t generation, int flags,
         mdn_error *err)
{
    char *path = mdn_layout_path(writer->directory, segment, generation, "seg");
    mdn_status st;

    if (path == NULL)
        return mdn_fail_nomem(err, strlen(writer->directory) + 16);
    st = mdn_file_open(writer->io, path,
                       O_RDWR | O_NOFOLLOW | O_NONBLOCK | flags, &writer->seg,
                       err);
    free(path);
    return st;
}

/* The files may be there, left by a batch that was never committed: they are
 * overwritten and not cut, since a mapping of a cut file is a trap. */
static mdn_status
create_files(mdn_writer *writer, uint64_t segment, mdn_error *err)
{
    mdn_status st;

    writer->new_names = true;
    if ((st = open_seg(writer, segment, 0, O_CREAT, err)) != MDN_OK)
        return st;
    st = mdn_file_size(&writer->seg, &writer->allocated, err);
    if (st != MDN_OK)
        return st;
    return mdn_columns_create(writer->io, writer->directory, writer->layout,
                              segment, 0, &writer->col, err);
}

static mdn_status
open_files(mdn_writer *writer, uint64_t segment, const mdn_tail *tail,
           mdn_error *err)
{
    uint64_t generation = segment == writer->first ? writer->generation : 0;
    uint64_t size = 0;
    mdn_status st;

    st = open_seg(writer, segment, generation, 0, err);
    if (st != MDN_OK)
        return st;
    if ((st = mdn_file_size(&writer->seg, &size, err)) != MDN_OK)
        return st;
    if (size < tail->segment_bytes)
        return mdn_fail(err, MDN_CORRUPT,
                        "%s: truncated: %llu bytes, of %llu committed",
                        writer->seg.path, (unsigned long long)size,
                        (unsigned long long)tail->segment_bytes);
    writer->allocated = size;
    return mdn_columns_open(writer->io, writer->directory, writer->layout,
                            segment, generation, true, &writer->col, err);
}

/* Have the files open into which the row behind tail goes. */
static mdn_status
use_segment(mdn_writer *writer, const mdn_tail *tail, mdn_error *err)
{
    uint64_t segment = segment_of(writer->layout, tail->count);
    mdn_status st;

    if (writer->segment == segment)
        return MDN_OK;
    close_files(writer);
    st = mdn_layout_row(writer->layout, tail->count) == 0
             ? create_files(writer, segment, err)
             : open_files(writer, segment, tail, err);
    if (st == MDN_OK)
        writer->segment = segment;
    else
        close_files(writer);
    return st;
}

static mdn_status
sync_files(mdn_writer *writer, mdn_error *err)
{
    mdn_status st =
        mdn_file_start(&writer->col, 0, writer->layout->col_size, err);

    if (st == MDN_OK)
        st = mdn_file_sync(&writer->seg, err);
    if (st == MDN_OK)
        st = mdn_file_sync(&writer->col, err);
    if (st == MDN_OK && writer->new_names)
        st = mdn_dir_sync(writer->io, writer->directory, err);
    if (st == MDN_OK)
        writer->new_names = false;
    else
        writer->broken = true;
    return st;
}

/* Room for the records up to end: in growing steps, so that the file lies in
 * few pieces, or just what is needed when the disk has no more. */
static mdn_status
allocate(mdn_writer *writer, uint64_t end, mdn_error *err)
{
    const mdn_layout *layout = writer->layout;
    uint64_t full = layout->record_size << layout->segment_shift;
    uint64_t goal = 2 * writer->allocated;
    mdn_status st;

    if (end <= writer->allocated)
        return MDN_OK;
    if (goal < ALLOCATE_MIN)
        goal = ALLOCATE_MIN;
    if (!layout->has[MDN_OFFSETS] && goal > full)
        goal = full;
    if (goal < end)
        goal = end;
    st = mdn_file_allocate(&writer->seg, writer->allocated,
                           goal - writer->allocated, NULL);
    if (st != MDN_OK) {
        goal = end;
        st = mdn_file_allocate(&writer->seg, writer->allocated,
                               goal - writer->allocated, err);
    }
    if (st == MDN_OK)
        writer->allocated = goal;
    return st;
}

static mdn_status
write_records(mdn_writer *writer, const void *data, uint64_t size,
              mdn_tail *tail, mdn_error *err)
{
    mdn_status st = allocate(writer, tail->segment_bytes + size, err);

    if (st == MDN_OK)
        st = mdn_file_write(&writer->seg, data, size, tail->segment_bytes, err);
    if (st != MDN_OK)
        return st;
    st = mdn_file_start(&writer->seg, tail->segment_bytes, size, err);
    if (st == MDN_OK)
        tail->segment_bytes += size;
    else
        writer->broken = true;
    return st;
}

/* Checksums. */

/* Continue the checksum *crc of blocks of this kind over count rows from key
 * on; those that become full go to writer->checks and then into the file. */
static mdn_status
put_checksums(mdn_writer *writer, mdn_kind kind, uint64_t key, uint64_t count,
              const void *rows, uint64_t row_size, uint32_t *crc,
              mdn_error *err)
{
    const mdn_layout *layout = writer->layout;
    uint32_t shift = layout->block_shift[kind];
    uint64_t block_rows = UINT64_C(1) << shift;
    uint64_t first_block = key >> shift, full = 0;
    const uint8_t *at = rows;

    while (count > 0) {
        uint64_t in_block = key & (block_rows - 1);
        uint64_t n = block_rows - in_block;

        if (n > count)
            n = count;
        if (in_block == 0)
            *crc = mdn_layout_seed(layout, kind, key >> shift);
        *crc = mdn_crc32c(*crc, at, n * row_size);
        if (in_block + n == block_rows) {
            writer->checks[full++] = *crc;
            *crc = 0;
        }
        key += n;
        count -= n;
        at += n * row_size;
    }
    return mdn_file_write(&writer->col, writer->checks, full * 4,
                          mdn_layout_checksum_at(layout, kind, first_block),
                          err);
}

/* Rows of one column from key on, all in the open segment. */
static mdn_status
put_column(mdn_writer *writer, mdn_kind kind, uint64_t key, uint64_t count,
           const int64_t *values, uint32_t *crc, mdn_error *err)
{
    const mdn_layout *layout = writer->layout;
    uint64_t at = layout->column_at[kind] + 8 * mdn_layout_row(layout, key);
    mdn_status st;

    st = mdn_file_write(&writer->col, values, count * 8, at, err);
    if (st == MDN_OK)
        st = put_checksums(writer, kind, key, count, values, 8, crc, err);
    return st;
}

/* Records of one size. */

/* Rows next .. next+count of all fields, one record after the other. */
static void
pack(const mdn_writer *writer, const batch *b, uint64_t count)
{
    const mdn_schema *schema = writer->schema;
    uint64_t record_size = schema->head_size;

    for (uint64_t done = 0; done < count; done += 64) {
        uint64_t n = count - done < 64 ? count - done : 64;

        for (uint32_t f = 0; f < schema->field_count; f++) {
            const mdn_field *field = &schema->fields[f];
            uint64_t size = field->size_bytes;
            const uint8_t *from =
                (const uint8_t *)b->columns[f].values + (b->next + done) * size;
            uint8_t *to = writer->buffer + done * record_size + field->offset;

            for (uint64_t i = 0; i < n; i++)
                mdn_copy(to + i * record_size, from + i * size, size);
        }
    }
}

static mdn_status
put_packed(mdn_writer *writer, const batch *b, uint64_t count, mdn_error *err)
{
    uint64_t size = writer->layout->record_size;
    const uint8_t *records = writer->buffer;
    mdn_status st;

    if (writer->schema->field_count == 1) /* the column is the records */
        records = (const uint8_t *)b->columns[0].values + b->next * size;
    else
        pack(writer, b, count);
    st = write_records(writer, records, count * size, b->tail, err);
    if (st == MDN_OK)
        st = put_checksums(writer, MDN_RECORDS, b->tail->count, count, records,
                           size, &b->tail->crc[MDN_RECORDS], err);
    return st;
}

/* Records of many sizes, or large: each goes through the buffer piecewise. */

typedef struct {
    mdn_writer *writer;
    mdn_tail *tail;
    uint64_t filled; /* bytes in the buffer */
    uint32_t crc;    /* of the record so far */
} stream;

static mdn_status
flush(stream *s, mdn_error *err)
{
    uint64_t size = s->filled;

    s->filled = 0;
    return write_records(s->writer, s->writer->buffer, size, s->tail, err);
}

static mdn_status
stream_bytes(stream *s, const void *data, uint64_t size, mdn_error *err)
{
    mdn_status st;

    s->crc = mdn_crc32c(s->crc, data, size);
    if (size > PIECE - s->filled && (st = flush(s, err)) != MDN_OK)
        return st;
    if (size > PIECE)
        return write_records(s->writer, data, size, s->tail, err);
    if (size > 0)
        memcpy(s->writer->buffer + s->filled, data, size);
    s->filled += size;
    return MDN_OK;
}

static uint64_t
payload_size(const mdn_column *column, uint64_t row)
{
    return (uint64_t)(column->offsets[row + 1] - column->offsets[row]);
}

/* All payloads of a row as they are, or as one frame. */
static mdn_status
stream_payloads(stream *s, const batch *b, uint64_t row, mdn_error *err)
{
    const mdn_schema *schema = s->writer->schema;
    mdn_status st = MDN_OK;
    const uint8_t *frame;
    uint64_t size;

    if (s->writer->layout->compressed
        && (size = mdn_frames_get(&s->writer->frames, row, &frame)) > 0)
        return stream_bytes(s, frame, size, err);
    for (uint32_t f = 0; f < schema->field_count && st == MDN_OK; f++) {
        if (schema->fields[f].dtype == MDN_BYTES)
            st = stream_bytes(s,
                              (const uint8_t *)b->columns[f].values
                                  + b->columns[f].offsets[row],
                              payload_size(&b->columns[f], row), err);
    }
    return st;
}

/* Fixed fields, lengths, payloads. */
static mdn_status
stream_record(stream *s, const batch *b, uint64_t row, mdn_error *err)
{
    const mdn_schema *schema = s->writer->schema;
    mdn_status st = MDN_OK;

    for (uint32_t f = 0; f < schema->field_count && st == MDN_OK; f++) {
        uint64_t size = schema->fields[f].size_bytes;

        if (schema->fields[f].dtype != MDN_BYTES)
            st = stream_bytes(
                s, (const uint8_t *)b->columns[f].values + row * size, size,
                err);
    }
    for (uint32_t f = 0; f < schema->field_count && st == MDN_OK; f++) {
        uint32_t length;

        if (schema->fields[f].dtype != MDN_BYTES)
            continue;
        length = (uint32_t)payload_size(&b->columns[f], row);
        st = stream_bytes(s, &length, 4, err);
    }
    return st == MDN_OK ? stream_payloads(s, b, row, err) : st;
}

static mdn_status
put_streamed(mdn_writer *writer, const batch *b, uint64_t count, mdn_error *err)
{
    const mdn_layout *layout = writer->layout;
    stream s = {.writer = writer, .tail = b->tail};
    uint64_t key = b->tail->count, packed = 0;
    mdn_status st = MDN_OK;

    for (uint64_t i = 0; i < count && st == MDN_OK; i++) {
        if (layout->compressed && i == packed) {
            st = mdn_frames_fill(&writer->frames, writer->schema, b->columns,
                                 b->next + i, count - i, err);
            if (st != MDN_OK)
                break;
            packed += writer->frames.count;
        }
        s.crc = mdn_layout_seed(layout, MDN_RECORDS, key + i);
        st = stream_record(&s, b, b->next + i, err);
        writer->checks[i] = s.crc;
        writer->ends[i] = (int64_t)(b->tail->segment_bytes + s.filled);
    }
    if (st == MDN_OK)
        st = flush(&s, err);
    if (st == MDN_OK) /* a record is a block, and full */
        st = mdn_file_write(&writer->col, writer->checks, count * 4,
                            mdn_layout_checksum_at(layout, MDN_RECORDS, key),
                            err);
    if (st == MDN_OK && layout->has[MDN_OFFSETS])
        st = put_column(writer, MDN_OFFSETS, key, count, writer->ends,
                        &b->tail->crc[MDN_OFFSETS], err);
    return st;
}

/* A chunk: rows that fit the buffer and lie in the open segment. */
static mdn_status
put_chunk(mdn_writer *writer, const batch *b, uint64_t count, mdn_error *err)
{
    const mdn_layout *layout = writer->layout;
    uint64_t key = b->tail->count;
    mdn_status st;

    if (layout->has[MDN_OFFSETS] || layout->record_size > PACKED_MAX)
        st = put_streamed(writer, b, count, err);
    else
        st = put_packed(writer, b, count, err);
    if (st == MDN_OK)
        st = put_column(writer, MDN_TIMESTAMPS, key, count,
                        b->timestamps + b->next, &b->tail->crc[MDN_TIMESTAMPS],
                        err);
    if (st == MDN_OK && layout->has[MDN_LABELS])
        st = put_column(writer, MDN_LABELS, key, count, b->labels + b->next,
                        &b->tail->crc[MDN_LABELS], err);
    if (st == MDN_OK)
        b->tail->count += count;
    return st;
}

/* Chunks end where blocks do, which is mostly where pages do. */
static uint64_t
chunk_rows(const mdn_writer *writer, const batch *b, uint64_t count)
{
    const mdn_layout *layout = writer->layout;
    uint64_t block = UINT64_C(1) << layout->block_shift[MDN_RECORDS];
    uint64_t rows = (UINT64_C(1) << layout->segment_shift)
                    - mdn_layout_row(layout, b->tail->count);
    uint64_t over;

    if (rows > count)
        rows = count;
    if (rows > CHUNK_ROWS)
        rows = CHUNK_ROWS;
    if (!layout->has[MDN_OFFSETS] && layout->record_size <= PACKED_MAX
        && rows > PIECE / layout->record_size)
        rows = PIECE / layout->record_size;
    over = (b->tail->count + rows) % block;
    return rows < count && over < rows ? rows - over : rows;
}

static mdn_status
put_rows(mdn_writer *writer, batch *b, uint64_t count, mdn_error *err)
{
    mdn_status st;

    while (count > 0) {
        uint64_t rows = chunk_rows(writer, b, count);

        if ((st = mdn_pulse_ask(writer->pulse, err)) != MDN_OK)
            return st;
        if ((st = use_segment(writer, b->tail, err)) != MDN_OK)
            return st;
        if ((st = put_chunk(writer, b, rows, err)) != MDN_OK)
            return st;
        b->next += rows;
        count -= rows;
        if (mdn_layout_row(writer->layout, b->tail->count) == 0) {
            /* The segment is full; the next has its own files. */
            b->tail->segment_bytes = 0;
            if ((st = sync_files(writer, err)) != MDN_OK)
                return st;
            close_files(writer);
        }
    }
    return writer->segment == NO_SEGMENT ? MDN_OK : sync_files(writer, err);
}

/* The rows of bytes fields must make sense before any is written. */
static mdn_status
check_offsets(const mdn_schema *schema, const mdn_column *columns,
              uint64_t count, mdn_error *err)
{
    for (uint32_t f = 0; f < schema->field_count; f++) {
        const int64_t *offsets = columns[f].offsets;

        if (schema->fields[f].dtype != MDN_BYTES)
            continue;
        for (uint64_t i = 0; i < count; i++) {
            if (offsets[i] < 0 || offsets[i + 1] < offsets[i]
                || offsets[i + 1] - offsets[i] > (int64_t)UINT32_MAX)
                return mdn_fail(err, MDN_INVALID,
                                "field '%s', row %llu: bytes from %lld to "
                                "%lld; a payload has 0 to 2^32 - 1 bytes",
                                schema->fields[f].name, (unsigned long long)i,
                                (long long)offsets[i],
                                (long long)offsets[i + 1]);
        }
    }
    return MDN_OK;
}

mdn_status
mdn_writer_open(const mdn_io *io, const char *directory,
                const mdn_layout *layout, const mdn_schema *schema,
                const mdn_tail *tail, uint64_t generation, mdn_writer **out,
                mdn_error *err)
{
    mdn_writer *writer = calloc(1, sizeof *writer);
    mdn_status st = MDN_OK;

    *out = NULL;
    if (writer == NULL)
        return mdn_fail_nomem(err, sizeof *writer);
    writer->io = io;
    writer->directory = directory;
    writer->layout = layout;
    writer->schema = schema;
    writer->segment = NO_SEGMENT;
    writer->first = segment_of(layout, tail->count);
    writer->generation = generation;
    writer->seg = writer->col = MDN_FILE_CLOSED;
    writer->buffer = malloc(PIECE);
    writer->checks = malloc((CHUNK_ROWS + 1) * sizeof *writer->checks);
    writer->ends = malloc(CHUNK_ROWS * sizeof *writer->ends);
    if (!writer->buffer || !writer->checks || !writer->ends)
        st = mdn_fail_nomem(err, PIECE);
    else if (mdn_layout_row(layout, tail->count) != 0)
        st = use_segment(writer, tail, err);
    if (st != MDN_OK) {
        mdn_writer_close(writer);
        return st;
    }
    *out = writer;
    return MDN_OK;
}

void
mdn_writer_close(mdn_writer *writer)
{
    if (writer == NULL)
        return;
    close_files(writer);
    free(writer->buffer);
    free(writer->checks);
    free(writer->ends);
    mdn_frames_free(&writer->frames);
    free(writer);
}

mdn_status
mdn_writer_put(mdn_writer *writer, uint64_t count, const mdn_column *columns,
               const int64_t *labels, const int64_t *timestamps, mdn_tail *tail,
               mdn_error *err)
{
    mdn_tail moved = *tail;
    batch b = {.columns = columns,
               .labels = labels,
               .timestamps = timestamps,
               .tail = &moved};
    mdn_status st;

    if ((st = mdn_writer_check(writer, err)) != MDN_OK)
        return st;
    st = check_offsets(writer->schema, columns, count, err);
    if (st == MDN_OK)
        st = put_rows(writer, &b, count, err);
    if (st == MDN_OK)
        *tail = moved;
    return st;
}

void
mdn_writer_rest(mdn_writer *writer)
{
    close_files(writer);
}

void
mdn_writer_set_pulse(mdn_writer *writer, const mdn_pulse *pulse)
{
    writer->pulse = pulse;
}

void
mdn_writer_break(mdn_writer *writer)
{
    writer->broken = true;
}

mdn_status
mdn_writer_check(const mdn_writer *writer, mdn_error *err)
{
    if (!writer->broken)
        return MDN_OK;
    return mdn_fail(err, MDN_CLOSED,
                    "%s: a sync failed, so that what is on disk is not known; "
                    "close the dataset and open it again",
                    writer->directory);
}
