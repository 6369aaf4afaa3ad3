/* text.h - a reader of rows of text, parsed piece by piece on some threads.
 *
 * A format (csv.c, jsonl.c) gives the function that parses one piece; all else
 * of its mdn_reader is here.
 *
 *     mdn_text_open       the file; the first piece can be looked at
 *     mdn_text_begin      where the rows begin, and who parses them
 *     mdn_text_fill ...   what mdn_reader says
 *
 * Pieces are handed out in the order of the file, sample by sample, so that
 * neither the number of threads nor the size of pieces shows.  A piece that
 * failed gives its samples before the bad row; then it is parsed once more by
 * the caller of mdn_text_fill, who knows by then on which line it begins. */
#ifndef MDN_INGEST_TEXT_H
#define MDN_INGEST_TEXT_H

#include "ingest/pieces.h"

/* One piece on its way through a parser. */
typedef struct {
    const char *text, *end; /* whole rows; *end is a line feed, see pieces.h */
    mdn_block *block;
    uint64_t line;       /* of what is parsed next; the parser moves it on */
    const char *name;    /* the file, for messages */
    uint64_t line_after; /* lines are counted from this byte, 0: the start */
    /* Where each row ended, behind text; mdn_text_end_sample keeps it. */
    uint32_t *ends;
    uint64_t end_capacity;
} mdn_text_job;

/* Add a sample to the block for every row of the job.  MDN_INVALID for a bad
 * row, with a message that begins as mdn_text_place says; what was put for
 * this row counts for nothing.  Runs on any thread: self is read only. */
typedef mdn_status mdn_text_parse(const void *self, mdn_text_job *job,
                                  mdn_error *err);

/* Room for one more sample in the block, and for its end. */
mdn_status mdn_text_grow(mdn_text_job *job, mdn_error *err);

static inline mdn_status
mdn_text_reserve(mdn_text_job *job, mdn_error *err)
{
    if (job->block->count < job->block->capacity
        && job->block->count < job->end_capacity)
        return MDN_OK;
    return mdn_text_grow(job, err);
}

/* The sample is whole, and its row ends here. */
static inline void
mdn_text_end_sample(mdn_text_job *job, const char *row_end)
{
    job->ends[job->block->count] = (uint32_t)(row_end - job->text);
    mdn_block_end_sample(job->block);
}

#define MDN_TEXT_PLACE 256
/* "a.csv: line 7", or "a.csv: line 7 after byte 1200". */
const char *mdn_text_place(const mdn_text_job *job, uint64_t line,
                           char out[MDN_TEXT_PLACE]);

typedef struct mdn_text mdn_text;

/* As mdn_pieces_open. */
mdn_status mdn_text_open(const mdn_reader_file *file, uint64_t piece_size,
                         char separator, int quote, mdn_text **out,
                         mdn_error *err);
void mdn_text_free(mdn_text *text); /* accepts NULL */

const char *mdn_text_name(const mdn_text *text); /* for messages */
bool mdn_text_is_growing(const mdn_text *text);

/* The next piece of whole rows, to be looked at only; job->text == job->end at
 * the end of the file.  Only before mdn_text_begin. */
mdn_status mdn_text_look(mdn_text *text, mdn_text_job *job, mdn_error *err);
/* Rows begin at this byte of the file, on this line; self is borrowed.  A text
 * that was not begun has no rows. */
mdn_status mdn_text_begin(mdn_text *text, uint64_t at, uint64_t line,
                          mdn_text_parse *parse, const void *self, bool labels,
                          bool timestamps, mdn_error *err);
/* Bytes from the start of the file to here, of the job that was looked at. */
uint64_t mdn_text_offset(const mdn_text *text, const char *at);

mdn_status mdn_text_fill(mdn_text *text, mdn_block *block, uint64_t size_max,
                         mdn_progress *out, mdn_error *err);
uint64_t mdn_text_position(const mdn_text *text);
mdn_status mdn_text_seek(mdn_text *text, uint64_t position, mdn_error *err);

#endif
