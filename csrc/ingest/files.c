/* files.c - samples from single files, several threads at it.
 *
 * A round takes the next lots of consecutive samples; a thread reads one lot
 * into a block of its own, until it holds LOT_BYTES or the lot is done.  Then
 * the samples are handed out in order, from lot to lot, as many as were asked
 * for; what remains waits for the next call.  A lot that stopped early is
 * taken up again when its samples have been handed out.  An error belongs to
 * the sample at which it happened and comes when it is that one's turn. */
#include "ingest/files.h"

#include "ingest/content.h"
#include "ingest/crew.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOT_SAMPLES 128
#define LOT_BYTES (UINT64_C(4) << 20)
#define LOTS_PER_THREAD 4

typedef unsigned long long ull;

typedef struct {
    mdn_block *block;    /* owned; samples read and not handed out */
    uint64_t handed_out; /* of the block */
    uint64_t next, end;  /* samples not read yet */
    mdn_status status;   /* of sample `next` */
    mdn_error error;
} lot;

typedef struct {
    mdn_reader reader; /* first */
    const mdn_io *io;
    const mdn_schema *schema;
    uint32_t threads, width; /* files of a sample */
    char *paths;             /* owned */
    uint64_t *starts;        /* owned; in paths, of each sample */
    uint64_t count;
    uint64_t next; /* the sample that is handed out next */
    int64_t time_unit_ns;
    lot *lots;                          /* owned; this round's, in order */
    uint32_t lot_count, lots_used, lot; /* room, in use, handed out from */
} files;

static files *
files_of(mdn_reader *reader)
{
    return (files *)reader; /* its first member */
}

/* One sample ------------------------------------------------------------ */

/* File number `place` of the sample that is being put. */
static mdn_status
take_file(const files *self, mdn_block *block, const char *path, uint32_t place,
          mdn_error *err)
{
    mdn_input input;
    mdn_content content;
    mdn_status st = mdn_input_open(self->io, path, false, &input, err);

    if (st != MDN_OK)
        return st;
    content = (mdn_content){
        .input = &input, .size = input.facts.size, .what = input.name};
    if (place == 0 && self->time_unit_ns > 0)
        block->timestamps[block->count] =
            mdn_time_in_units(input.facts.mtime_ns, self->time_unit_ns);
    if (place == self->schema->field_count)
        st = mdn_content_integer(&content, "label",
                                 &block->labels[block->count], err);
    else
        st = mdn_content_field(&content, block, self->schema, place, err);
    mdn_input_close(&input);
    return st;
}

static mdn_status
take_sample(const files *self, mdn_block *block, uint64_t sample,
            mdn_error *err)
{
    const char *path = self->paths + self->starts[sample];
    mdn_status st = mdn_block_reserve(block, 1, err);

    for (uint32_t p = 0; st == MDN_OK && p < self->width; p++) {
        st = take_file(self, block, path, p, err);
        path += strlen(path) + 1;
    }
    if (st == MDN_OK)
        mdn_block_end_sample(block);
    return st;
}

/* Lots ------------------------------------------------------------------ */

static mdn_status
read_lot(void *argument, uint64_t item, uint32_t worker, mdn_error *err)
{
    const files *self = argument;
    lot *l = &self->lots[item];

    (void)worker, (void)err;
    if (l->handed_out < l->block->count || l->status != MDN_OK)
        return MDN_OK;
    mdn_block_clear(l->block);
    l->handed_out = 0;
    while (l->next < l->end && l->block->size_bytes < LOT_BYTES) {
        l->status = take_sample(self, l->block, l->next, &l->error);
        if (l->status != MDN_OK)
            break;
        l->next++;
    }
    return MDN_OK; /* the lot keeps its error until it is its turn */
}

/* Deal out the samples behind the last round. */
static void
deal(files *self)
{
    uint64_t at = self->next;

    self->lot = self->lots_used = 0;
    while (at < self->count && self->lots_used < self->lot_count) {
        lot *l = &self->lots[self->lots_used++];

        mdn_block_clear(l->block);
        l->handed_out = 0;
        l->status = MDN_OK;
        l->next = at;
        at = self->count - at > LOT_SAMPLES ? at + LOT_SAMPLES : self->count;
        l->end = at;
    }
}

/* Sample `from` of a lot behind those of the block. */
static mdn_status
hand_out(const files *self, mdn_block *block, const lot *l, mdn_error *err)
{
    uint64_t from = l->handed_out, to = block->count;
    mdn_status st = mdn_block_reserve(block, 1, err);

    for (uint32_t f = 0; st == MDN_OK && f < self->schema->field_count; f++) {
        const mdn_column *column = &l->block->columns[f];
        const uint8_t *values = column->values;
        uint64_t size = self->schema->fields[f].size_bytes;

        if (size > 0) {
            memcpy((uint8_t *)block->columns[f].values + to * size,
                   values + from * size, size);
            continue;
        }
        size = (uint64_t)(column->offsets[from + 1] - column->offsets[from]);
        st = mdn_block_put_payload(block, f, values + column->offsets[from],
                                   size, err);
    }
    if (st != MDN_OK)
        return st;
    if (block->labels != NULL)
        block->labels[to] = l->block->labels[from];
    if (block->timestamps != NULL)
        block->timestamps[to] = l->block->timestamps[from];
    mdn_block_end_sample(block);
    return MDN_OK;
}

/* Reader ---------------------------------------------------------------- */

/* A lot that failed is read again if it is asked once more. */
static mdn_status
fail_lot(files *self, lot *l, mdn_error *err)
{
    mdn_status st = l->status;

    if (err != NULL)
        *err = l->error;
    self->lot = self->lots_used;
    return st;
}

static mdn_status
files_fill(mdn_reader *reader, mdn_block *block, uint64_t size_max,
           mdn_progress *out, mdn_error *err)
{
    files *self = files_of(reader);
    bool has_read = false;

    for (;;) {
        lot *l = &self->lots[self->lot];
        mdn_status st;

        *out = self->next == self->count ? MDN_READER_END : MDN_READER_FULL;
        if (self->next == self->count
            || (block->count > 0 && block->size_bytes >= size_max))
            return MDN_OK;
        if (self->lot < self->lots_used && l->handed_out < l->block->count) {
            if ((st = hand_out(self, block, l, err)) != MDN_OK)
                return st;
            l->handed_out++;
            self->next++;
        } else if (self->lot < self->lots_used && l->status != MDN_OK) {
            return fail_lot(self, l, err);
        } else if (self->lot < self->lots_used && l->next == l->end) {
            self->lot++;
        } else if (has_read) {
            *out = MDN_READER_MORE;
            return MDN_OK;
        } else {
            uint64_t failed;

            if (self->lot == self->lots_used)
                deal(self);
            mdn_crew_run(self->threads, self->lots_used, read_lot, self,
                         &failed, NULL);
            has_read = true;
        }
    }
}

static uint64_t
files_position(const mdn_reader *reader)
{
    return ((const files *)reader)->next;
}

static mdn_status
files_seek(mdn_reader *reader, uint64_t position, mdn_error *err)
{
    files *self = files_of(reader);

    if (position > self->count)
        return mdn_fail(err, MDN_INVALID,
                        "there are %llu samples in files, and none begins at "
                        "%llu",
                        (ull)self->count, (ull)position);
    self->next = position;
    self->lot = self->lots_used = 0;
    return MDN_OK;
}

static void
files_free(mdn_reader *reader)
{
    files *self = files_of(reader);

    for (uint32_t i = 0; self->lots != NULL && i < self->lot_count; i++)
        mdn_block_free(self->lots[i].block);
    free(self->lots);
    free(self->paths);
    free(self->starts);
    free(self);
}

/* Opening --------------------------------------------------------------- */

/* Copy the paths and find where those of each sample begin. */
static mdn_status
take_paths(files *self, const mdn_files_options *options, mdn_error *err)
{
    uint64_t size = options->paths_size, at = 0;

    self->paths = malloc(size + 1);
    self->starts = calloc(options->count + 1, sizeof *self->starts);
    if (self->paths == NULL || self->starts == NULL)
        return mdn_fail_nomem(err, size + options->count * 8);
    memcpy(self->paths, options->paths, size);
    for (uint64_t i = 0; i < options->count; i++) {
        self->starts[i] = at;
        for (uint32_t p = 0; p < self->width; p++) {
            const char *end = memchr(self->paths + at, '\0', size - at);

            if (end == NULL)
                return mdn_fail(err, MDN_INVALID,
                                "%llu samples of %u files each, but the paths "
                                "end in sample %llu",
                                (ull)options->count, self->width, (ull)i);
            at = (uint64_t)(end - self->paths) + 1;
        }
    }
    if (at != size)
        return mdn_fail(err, MDN_INVALID,
                        "%llu samples of %u files each, but more paths",
                        (ull)options->count, self->width);
    return MDN_OK;
}

static mdn_status
make_lots(files *self, mdn_error *err)
{
    self->lot_count = LOTS_PER_THREAD * self->threads;
    self->lots = calloc(self->lot_count, sizeof *self->lots);
    if (self->lots == NULL)
        return mdn_fail_nomem(err, self->lot_count * sizeof *self->lots);
    for (uint32_t i = 0; i < self->lot_count; i++) {
        mdn_status st =
            mdn_block_new(self->schema, self->reader.labels,
                          self->reader.timestamps, &self->lots[i].block, err);
        if (st != MDN_OK)
            return st;
    }
    return MDN_OK;
}

mdn_status
mdn_files_open(const mdn_files_options *options, mdn_reader **out,
               mdn_error *err)
{
    const mdn_schema *schema = options->file.schema;
    uint32_t threads = options->file.threads;
    files *self;
    mdn_status st;

    *out = NULL;
    if (options->time_unit_ns > INT64_MAX
        || options->count > options->paths_size)
        return mdn_fail(err, MDN_INVALID, "%llu samples need as many paths",
                        (ull)options->count);
    self = calloc(1, sizeof *self);
    if (self == NULL)
        return mdn_fail_nomem(err, sizeof *self);
    self->reader = (mdn_reader){.fill = files_fill,
                                .position = files_position,
                                .seek = files_seek,
                                .free = files_free,
                                .labels = options->labels,
                                .timestamps = options->time_unit_ns > 0};
    self->io = options->file.io;
    self->schema = schema;
    self->threads = threads < MDN_CREW_MAX ? threads : MDN_CREW_MAX;
    self->width = schema->field_count + options->labels;
    self->count = options->count;
    self->time_unit_ns = (int64_t)options->time_unit_ns;
    if ((st = take_paths(self, options, err)) != MDN_OK
        || (st = make_lots(self, err)) != MDN_OK) {
        files_free(&self->reader);
        return st;
    }
    *out = &self->reader;
    return MDN_OK;
}
