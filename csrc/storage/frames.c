/* frames.c - compressing ahead of the writer, a few MiB at a time.
 *
 * Each row has room for its payloads as they are: a frame that does not fit
 * there is not smaller and not used.  So the places are known before anything
 * is compressed, and threads can take a part of the rows each. */
#include "storage/frames.h"

#include "base/parallel.h"
#include "storage/zstd.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROOM (UINT64_C(16) << 20) /* bytes of payloads; more for one record */
#define ROWS UINT64_C(4096)
#define PART_MIN (UINT64_C(1) << 20) /* bytes that are worth a thread */
#define THREADS_MAX 4

typedef struct {
    mdn_frames *frames;
    const mdn_schema *schema;
    const mdn_column *columns;
    uint32_t parts;
} job;

void
mdn_frames_free(mdn_frames *frames)
{
    free(frames->at);
    free(frames->sizes);
    free(frames->room);
    free(frames->joined);
    *frames = (mdn_frames){.first = 0};
}

static uint64_t
payloads_size(const mdn_schema *schema, const mdn_column *columns, uint64_t row)
{
    uint64_t size = 0;

    for (uint32_t f = 0; f < schema->field_count; f++) {
        const int64_t *offsets = columns[f].offsets;

        if (schema->fields[f].dtype == MDN_BYTES)
            size += (uint64_t)(offsets[row + 1] - offsets[row]);
    }
    return size;
}

/* All payloads of a row, one after the other: where they are, if that is so. */
static const uint8_t *
join(const job *j, uint64_t row, uint8_t *to)
{
    const uint8_t *from = NULL, *joined = to;

    for (uint32_t f = 0; f < j->schema->field_count; f++) {
        const int64_t *offsets = j->columns[f].offsets;
        uint64_t size;

        if (j->schema->fields[f].dtype != MDN_BYTES)
            continue;
        from = (const uint8_t *)j->columns[f].values + offsets[row];
        size = (uint64_t)(offsets[row + 1] - offsets[row]);
        if (j->schema->bytes_count > 1 && size > 0)
            memcpy(to, from, size);
        to += size;
    }
    return j->schema->bytes_count > 1 ? joined : from;
}

static void
pack_part(void *ctx, uint32_t part)
{
    const job *j = ctx;
    mdn_frames *frames = j->frames;
    uint64_t end = mdn_part_first(frames->count, j->parts, part + 1);
    mdn_zstd zstd = {NULL, NULL};

    for (uint64_t i = mdn_part_first(frames->count, j->parts, part); i < end;
         i++) {
        uint64_t at = frames->at[i];
        uint8_t *to = frames->joined == NULL ? NULL : frames->joined + at;

        frames->sizes[i] =
            mdn_zstd_pack(&zstd, join(j, frames->first + i, to),
                          frames->at[i + 1] - at, frames->room + at);
    }
    mdn_zstd_free(&zstd);
}

/* Room for that many bytes; what one great record needed is given back. */
static mdn_status
make_room(mdn_frames *frames, bool joined, uint64_t size, mdn_error *err)
{
    uint64_t want = size < ROOM ? ROOM : size;

    if (frames->size == want)
        return MDN_OK;
    mdn_frames_free(frames);
    frames->at = malloc((ROWS + 1) * sizeof *frames->at);
    frames->sizes = malloc(ROWS * sizeof *frames->sizes);
    frames->room = malloc(want);
    frames->joined = joined ? malloc(want) : NULL;
    if (!frames->at || !frames->sizes || !frames->room
        || (joined && !frames->joined)) {
        mdn_frames_free(frames);
        return mdn_fail_nomem(err, want);
    }
    frames->size = want;
    return MDN_OK;
}

static uint32_t
threads_here(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    return cores < 1 ? 1 : cores < THREADS_MAX ? (uint32_t)cores : THREADS_MAX;
}

mdn_status
mdn_frames_fill(mdn_frames *frames, const mdn_schema *schema,
                const mdn_column *columns, uint64_t first, uint64_t count,
                mdn_error *err)
{
    job j = {.frames = frames, .schema = schema, .columns = columns};
    uint64_t size = payloads_size(schema, columns, first), rows = 0;
    mdn_status st = make_room(frames, schema->bytes_count > 1, size, err);

    if (st != MDN_OK)
        return st;
    frames->first = first;
    frames->at[0] = 0;
    do {
        frames->at[rows + 1] = frames->at[rows] + size;
        rows++;
        size = rows < count ? payloads_size(schema, columns, first + rows) : 0;
    } while (rows < count && rows < ROWS
             && size <= frames->size - frames->at[rows]);
    frames->count = rows;
    j.parts = mdn_parallel_parts(frames->at[rows], PART_MIN, threads_here());
    if (j.parts > rows)
        j.parts = (uint32_t)rows;
    mdn_parallel(j.parts, pack_part, &j);
    return MDN_OK;
}
