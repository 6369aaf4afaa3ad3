/* reader.h - samples from one incoming file, whatever its format.
 *
 * An interface, filled in by its format (csv.h, jsonl.h, fixed.h, npy.h,
 * tar.h, files.h); the first member of each format's own struct.
 *
 *     <format>_open          what the file is, checked against the schema
 *     mdn_reader_fill        samples into a block, a slice of work at a time
 *     mdn_reader_position    how far whole samples have been handed out
 *     mdn_reader_seek        go on where an earlier reader of the file stopped
 *     mdn_reader_free
 *
 * A reader is for one thread at a time (it may use threads of its own) and
 * reads through the I/O table.  What it gives does not depend on the number of
 * threads, nor on how the work is cut into slices.
 *
 * Errors of the file are MDN_INVALID and name file, place and value; what was
 * put into the block before stays. */
#ifndef MDN_INGEST_READER_H
#define MDN_INGEST_READER_H

#include "base/io.h"
#include "ingest/block.h"

#include <stddef.h>

typedef enum {
    MDN_READER_MORE, /* a slice of work (some ms) is done: call again */
    MDN_READER_FULL, /* the block has reached its budget */
    MDN_READER_END,  /* every whole sample of the file was handed out */
} mdn_progress;

typedef struct mdn_reader mdn_reader;
struct mdn_reader {
    /* Add samples until the block holds size_max bytes or more (at least one
     * sample), the file ends, or a slice of work is done. */
    mdn_status (*fill)(mdn_reader *reader, mdn_block *block, uint64_t size_max,
                       mdn_progress *out, mdn_error *err);
    /* Bytes of the file behind which the next sample begins; for a file of
     * many members (tar, npz) or many files, whatever _seek understands. */
    uint64_t (*position)(const mdn_reader *reader);
    mdn_status (*seek)(mdn_reader *reader, uint64_t position, mdn_error *err);
    void (*free)(mdn_reader *reader);
    /* Facts, set when it was opened. */
    bool labels;     /* blocks have labels */
    bool timestamps; /* blocks have timestamps */
};

/* What the options of every format begin with. */
typedef struct {
    const mdn_io *io;         /* borrowed; must outlive the reader */
    const char *path;         /* copied */
    const mdn_schema *schema; /* borrowed; must outlive the reader */
    uint32_t threads;         /* >= 1: to parse with */
    /* More may be appended to the file: an unfinished line or record at its
     * end is left for later instead of being the last one, or an error. */
    bool growing;
} mdn_reader_file;

static inline mdn_status
mdn_reader_fill(mdn_reader *reader, mdn_block *block, uint64_t size_max,
                mdn_progress *out, mdn_error *err)
{
    return reader->fill(reader, block, size_max, out, err);
}

static inline uint64_t
mdn_reader_position(const mdn_reader *reader)
{
    return reader->position(reader);
}

static inline mdn_status
mdn_reader_seek(mdn_reader *reader, uint64_t position, mdn_error *err)
{
    return reader->seek(reader, position, err);
}

static inline void
mdn_reader_free(mdn_reader *reader)
{
    if (reader != NULL)
        reader->free(reader);
}

#endif
