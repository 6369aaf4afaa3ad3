/* csv_parse.h - rows of CSV text become samples.
 *
 * A target is one number of a sample, or its bytes: an element of a field, the
 * label or the timestamp.  Targets are sorted by the column of the file that
 * feeds them, so that a row is one walk over its cells.  One column may feed
 * several targets (a timestamp that is a feature, too). */
#ifndef MDN_INGEST_CSV_PARSE_H
#define MDN_INGEST_CSV_PARSE_H

#include "ingest/csv_header.h"
#include "ingest/text.h"

typedef enum {
    MDN_CSV_TO_FIELD,
    MDN_CSV_TO_LABEL,
    MDN_CSV_TO_TIMESTAMP,
} mdn_csv_role;

typedef struct {
    uint32_t column; /* of the file */
    uint32_t field;
    mdn_csv_role role;
    mdn_dtype dtype;
    uint64_t offset; /* within the value of the field, bytes */
    uint64_t stride; /* bytes from one sample to the next */
} mdn_csv_target;

typedef struct {
    mdn_csv_header header;
    char separator;
    int quote;               /* a byte, or -1 for none */
    mdn_csv_target *targets; /* owned; by column */
    uint64_t target_count;
    /* owned; targets first[c] .. first[c + 1] are those of column c */
    uint64_t *first;
} mdn_csv_plan;

/* A mdn_text_parse; self is a mdn_csv_plan. */
mdn_status mdn_csv_parse(const void *self, mdn_text_job *job, mdn_error *err);

#endif
