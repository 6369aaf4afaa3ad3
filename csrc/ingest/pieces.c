/* pieces.c - where to cut a file of rows.
 *
 * Most pieces hold no quote at all, and are cut behind their last line feed.
 * In others every quote is looked at once, from the beginning, since only what
 * stands before it says whether it opens a cell.  What lies behind the cut is
 * read again with the next piece. */
#include "ingest/pieces.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_SIZE (UINT64_C(1) << 20)
#define HEAD_SIZE 8
#define NAME_SHOWN_MAX 160

static const char *
kind_of(const char *head, uint64_t size)
{
    static const struct {
        const char *magic;
        uint64_t size;
        const char *kind;
    } kinds[] = {
        {"\x1f\x8b", 2, "compressed by gzip; decompress it first"},
        {"\xfd"
         "7zXZ",
         5, "compressed by xz; decompress it first"},
        {"\x28\xb5\x2f\xfd", 4, "compressed by zstd; decompress it first"},
        {"BZh", 3, "compressed by bzip2; decompress it first"},
        {"PK\x03\x04", 4, "a zip archive; unpack it first"},
        {"\xff\xfe", 2, "UTF-16; convert it to UTF-8 first"},
        {"\xfe\xff", 2, "UTF-16; convert it to UTF-8 first"},
    };

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (size >= kinds[i].size
            && memcmp(head, kinds[i].magic, kinds[i].size) == 0)
            return kinds[i].kind;
    }
    return NULL;
}

static mdn_status
check_head(mdn_pieces *pieces, mdn_error *err)
{
    char head[HEAD_SIZE];
    uint64_t size = pieces->size < HEAD_SIZE ? pieces->size : HEAD_SIZE;
    const char *kind;
    mdn_status st;

    if (size == 0 && !pieces->growing)
        return mdn_fail(err, MDN_INVALID, "%s: the file is empty",
                        pieces->name);
    if ((st = mdn_file_read(&pieces->file, head, size, 0, err)) != MDN_OK)
        return st;
    if ((kind = kind_of(head, size)) != NULL)
        return mdn_fail(err, MDN_INVALID, "%s: the file is %s", pieces->name,
                        kind);
    if (size >= 3 && memcmp(head, "\xef\xbb\xbf", 3) == 0)
        pieces->start = 3;
    return MDN_OK;
}

mdn_status
mdn_pieces_open(const mdn_reader_file *file, uint64_t piece_size,
                char separator, int quote, mdn_pieces *out, mdn_error *err)
{
    size_t length = strlen(file->path);
    mdn_status st;

    if (piece_size > MDN_ROW_MAX)
        piece_size = MDN_ROW_MAX;
    *out = (mdn_pieces){.file = MDN_FILE_CLOSED,
                        .piece_size = piece_size ? piece_size : PIECE_SIZE,
                        .growing = file->growing,
                        .separator = separator,
                        .quote = quote};
    if ((st = mdn_file_open(file->io, file->path, O_RDONLY, &out->file, err))
        != MDN_OK)
        return st;
    out->name = out->file.path;
    if (length > NAME_SHOWN_MAX)
        out->name += length - NAME_SHOWN_MAX;
    if ((st = mdn_file_size(&out->file, &out->size, err)) != MDN_OK
        || (st = check_head(out, err)) != MDN_OK)
        return st;
    out->next = out->start;
    return MDN_OK;
}

void
mdn_pieces_close(mdn_pieces *pieces)
{
    mdn_file_close(&pieces->file);
}

void
mdn_piece_clear(mdn_piece *piece)
{
    free(piece->text);
    *piece = (mdn_piece){.text = NULL};
}

/* Cutting --------------------------------------------------------------- */

/* Behind the last line feed of [from, to); NULL without one. */
static const char *
behind_last_line(const char *from, const char *to)
{
    const char *found = memrchr(from, '\n', (size_t)(to - from));

    return found ? found + 1 : NULL;
}

/* Behind the closing quote of the cell that opens at `at`; NULL if the text
 * ends first, or with what may be the first of two quotes. */
static const char *
behind_quoted(const char *at, const char *end, int quote)
{
    for (at++; at < end; at += 2) {
        at = memchr(at, quote, (size_t)(end - at));
        if (at == NULL || at + 1 == end)
            return NULL;
        if (at[1] != (char)quote)
            return at + 1;
    }
    return NULL;
}

/* How many bytes of the text, which begins with a row, are whole rows. */
static uint64_t
whole_rows(const mdn_pieces *pieces, const char *text, uint64_t size)
{
    const char *from = text, *end = text + size, *cut = text, *found;

    while (from < end) {
        const char *at = from, *to = end;

        /* The next quote that opens a cell; [from, to) is outside quotes. */
        while (pieces->quote >= 0
               && (at = memchr(at, pieces->quote, (size_t)(end - at)))) {
            if (at == text || at[-1] == '\n' || at[-1] == pieces->separator) {
                to = at;
                break;
            }
            at++;
        }
        if ((found = behind_last_line(from, to)) != NULL)
            cut = found;
        from = to < end ? behind_quoted(to, end, pieces->quote) : NULL;
        if (from == NULL)
            break;
    }
    return (uint64_t)(cut - text);
}

/* Reading --------------------------------------------------------------- */

static mdn_status
make_room(mdn_piece *piece, uint64_t capacity, mdn_error *err)
{
    if (piece->text != NULL && piece->capacity >= capacity)
        return MDN_OK;
    mdn_piece_clear(piece);
    piece->text = calloc(1, capacity + MDN_PIECE_SLACK);
    if (piece->text == NULL)
        return mdn_fail_nomem(err, capacity + MDN_PIECE_SLACK);
    piece->capacity = capacity;
    return MDN_OK;
}

mdn_status
mdn_pieces_next(mdn_pieces *pieces, mdn_piece *piece, mdn_error *err)
{
    uint64_t left = pieces->size - pieces->next, room = pieces->piece_size;

    for (;; room = room > MDN_ROW_MAX / 2 ? MDN_ROW_MAX : 2 * room) {
        uint64_t size = left < room ? left : room;
        mdn_status st;

        piece->size = 0;
        if ((st = make_room(piece, size, err)) != MDN_OK
            || (st = mdn_file_read(&pieces->file, piece->text, size,
                                   pieces->next, err))
                   != MDN_OK)
            return st;
        piece->at = pieces->next;
        piece->size = size;
        if (size < left || pieces->growing)
            piece->size = whole_rows(pieces, piece->text, size);
        piece->too_long =
            piece->size == 0 && room >= MDN_ROW_MAX && left > MDN_ROW_MAX;
        if (piece->size > 0 || size == left || piece->too_long)
            break;
    }
    piece->text[piece->size] = '\n';
    pieces->next += piece->size;
    pieces->ended = piece->size == 0 || pieces->next == pieces->size;
    return MDN_OK;
}

mdn_status
mdn_pieces_seek(mdn_pieces *pieces, uint64_t position, mdn_error *err)
{
    char before = '\n';
    mdn_status st;

    if (position < pieces->start)
        position = pieces->start;
    if (position > pieces->size)
        return mdn_fail(err, MDN_INVALID,
                        "%s: position %llu is beyond the end of the file, "
                        "which has %llu bytes; was it cut or replaced?",
                        pieces->name, (unsigned long long)position,
                        (unsigned long long)pieces->size);
    if (position > pieces->start && position < pieces->size
        && (st = mdn_file_read(&pieces->file, &before, 1, position - 1, err))
               != MDN_OK)
        return st;
    if (before != '\n')
        return mdn_fail(err, MDN_INVALID,
                        "%s: no row begins at byte %llu: the line before it "
                        "has no end; was the file changed?",
                        pieces->name, (unsigned long long)position);
    pieces->next = position;
    pieces->ended = position == pieces->size;
    return MDN_OK;
}
