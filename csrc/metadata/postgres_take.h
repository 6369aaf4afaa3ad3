/* postgres_take.h - from decoded rows to blocks of a stream.
 *
 *     mdn_postgres_take   are these the rows that are due? then hand them out
 *     mdn_postgres_cut    more of a row of blocks
 *
 * Shared by postgres_stream.c, which asks the server, and postgres_take.c,
 * which looks at what came. */
#ifndef MDN_METADATA_POSTGRES_TAKE_H
#define MDN_METADATA_POSTGRES_TAKE_H

#include "metadata/decode.h"
#include "metadata/postgres_stream.h"

#define MDN_POSTGRES_BLOCK_MAX (UINT64_C(1) << 20) /* samples in a row */

typedef struct {
    mdn_metadata_stream base;    /* first: a stream is one of these */
    mdn_postgres_tables *tables; /* one reference */
    bool filtered;
    mdn_filter filter; /* its labels are owned */
    uint64_t first, last;
    uint64_t block_count;
    mdn_wanted wanted;
    bool gaps;              /* blocks have to say their positions */
    const mdn_pulse *pulse; /* borrowed, or NULL */
    uint64_t asked_ns;
    mdn_postgres_retry retry;
    uint64_t position;

    mdn_postgres *pg; /* owned, while reading */
    pid_t pid;        /* of the process that began to */
    bool active;      /* a query is under way */
    bool ended;       /* and all of it was received */
    bool ordered;     /* by the server */
    bool counting;    /* what was read in order is to be counted as a whole */
    uint64_t part;    /* that it reads */
    uint64_t from, to;
    bool guessed; /* only pages that should hold those are read */
    mdn_decoder *decoder;
    mdn_decode_block *rows;
    const char *rest; /* of a message, borrowed from pg; not yet decoded */
    size_t rest_size;

    /* Columns of rows; -1: not asked for. */
    int erased_at, keys_at, timestamps_at, labels_at;
    bool behind;   /* rows behind the last part have come: leave the query */
    bool disorder; /* behind what was taken last */
    /* Of blocks: samples of the row at hand that are still to be cut. */
    bool cutting;
    /* Owned, block_count of each where needed. */
    uint64_t *keys, *positions;
    int64_t *timestamps, *labels;
} mdn_postgres_stream;

static inline const mdn_postgres_part *
mdn_postgres_part_of(const mdn_postgres_stream *s)
{
    return &s->tables->options.parts[s->part];
}

/* Whether some rows of its part may be missing for a reason. */
bool mdn_postgres_is_gappy(const mdn_postgres_stream *s);

/* MDN_CORRUPT: the row of `position` is missing. */
mdn_status mdn_postgres_missing(const mdn_postgres_stream *s, mdn_error *err);

/* Whether a row of that position is behind all that is wanted: in the table of
 * the last part, which may hold more. */
bool mdn_postgres_is_behind(const mdn_postgres_stream *s, uint64_t position);

/* Hand out what is in s->rows.  s->disorder afterwards: from `position` on the
 * table does not lie in order.  s->cutting: cut the rest before filling. */
mdn_status mdn_postgres_take(mdn_postgres_stream *s, mdn_metadata_block *out,
                             mdn_error *err);

/* The next piece of the row of blocks at hand; out->count 0 if what was left
 * of it is erased. */
void mdn_postgres_cut(mdn_postgres_stream *s, mdn_metadata_block *out);

#endif
