/* pieces.h - a text file in pieces of whole rows.
 *
 *     mdn_pieces_open     what the file is; a byte order mark is stepped over
 *     mdn_pieces_next     read the next piece and cut it behind its last row
 *     mdn_pieces_seek     go on elsewhere
 *
 * A row ends with a line end (LF, or CR LF) that is not inside quotes.  A
 * quote opens at the beginning of a cell only, a doubled quote closes nothing:
 * the grammar of csv_row.h, of which a file of plain lines is the case without
 * quotes.  Where the cuts lie depends on the size of pieces; what the rows are
 * does not.  The last line may lack its end, unless the file is growing: then
 * it is not there yet. */
#ifndef MDN_INGEST_PIECES_H
#define MDN_INGEST_PIECES_H

#include "base/file.h"
#include "ingest/reader.h"

#define MDN_ROW_MAX (UINT64_C(64) << 20) /* bytes */
/* Behind the rows of a piece stands a line feed that is not of the file, and
 * so many bytes may be read, whatever they are: no scan needs to look out for
 * the end. */
#define MDN_PIECE_SLACK 64

typedef struct {
    mdn_file file;
    const char *name; /* for messages: the end of the path, if it is long */
    uint64_t start;   /* of the first row: 0, or behind a byte order mark */
    uint64_t size;    /* when opened; what is added later is not read */
    uint64_t next;    /* of the file, where the next piece begins */
    uint64_t piece_size;
    bool growing;
    bool ended; /* no piece is left */
    char separator;
    int quote; /* a byte, or -1 for none */
} mdn_pieces;

typedef struct {
    char *text;        /* owned; whole rows, and MDN_PIECE_SLACK */
    uint64_t capacity; /* of text, without the slack */
    uint64_t size;
    uint64_t at;   /* of the file */
    bool too_long; /* the row that begins here exceeds MDN_ROW_MAX */
} mdn_piece;

/* MDN_IO; MDN_INVALID for a file that is plainly no text (compressed, UTF-16),
 * and for an empty one, unless it is growing.  On failure *out is fit for
 * mdn_pieces_close.  piece_size: bytes, 0 for what is best; a piece with a
 * longer row is longer. */
mdn_status mdn_pieces_open(const mdn_reader_file *file, uint64_t piece_size,
                           char separator, int quote, mdn_pieces *out,
                           mdn_error *err);
void mdn_pieces_close(mdn_pieces *pieces);

/* Into *piece, whose memory is used again; a zeroed one will do.  A piece of no
 * bytes is the end.  MDN_IO, MDN_NOMEM, MDN_CORRUPT for a file that shrank. */
mdn_status mdn_pieces_next(mdn_pieces *pieces, mdn_piece *piece,
                           mdn_error *err);
void mdn_piece_clear(mdn_piece *piece);

/* Go on at this byte.  MDN_INVALID if it lies beyond the end, or not behind a
 * line end. */
mdn_status mdn_pieces_seek(mdn_pieces *pieces, uint64_t position,
                           mdn_error *err);

#endif
