/* csv_header.h - the columns of a CSV file: how many, their names if they have
 * any, and how messages speak of them and of what stands in them. */
#ifndef MDN_INGEST_CSV_HEADER_H
#define MDN_INGEST_CSV_HEADER_H

#include "ingest/show.h"
#include "ingest/text.h"

typedef struct {
    uint32_t count; /* 0: a growing file has no whole row yet */
    char **names;   /* owned, count of them; NULL for a file without a header */
    uint64_t end;   /* bytes of the file before the first row of data */
    uint64_t end_line; /* on which that begins */
} mdn_csv_header;

/* Take the first row as names, or only count its cells.  *out is fit for
 * mdn_csv_header_clear also after a failure. */
mdn_status mdn_csv_header_read(mdn_text *text, char separator, int quote,
                               bool named, mdn_csv_header *out, mdn_error *err);
void mdn_csv_header_clear(mdn_csv_header *header);

/* The index of the column of this name or, for NULL, of this index.
 * MDN_INVALID suggests the nearest names; file is for the message. */
mdn_status mdn_csv_header_find(const mdn_csv_header *header, const char *file,
                               const char *name, uint64_t index, uint32_t *out,
                               mdn_error *err);

/* "column 'temp'", or "column 2": counted from 0, as callers count. */
const char *mdn_csv_show_column(const mdn_csv_header *header, uint32_t column,
                                char out[MDN_SHOWN]);

#endif
