/* postgres_source.h - a source of samples (source.h) whose tables are in
 * Postgres.
 *
 * A stream of positions is cut into parts, one leaf table each, in rows or in
 * blocks.  Each open stream has a connection of its own; those that are done
 * with one leave it to the next.
 *
 * Tables are read as they lie, which is in order where they were filled by one
 * COPY; each row's position is checked against the one that is due, and a table
 * that does not lie in order is read again from there with ORDER BY.  So no row
 * can be missing or be there twice without notice: that is MDN_CORRUPT, naming
 * table and position.  Where rows may be missing (samples are erased, or
 * filtered by the server) that cannot be seen from the stream; such a table is
 * counted as a whole before it is read for the first time.
 *
 * Reading is idempotent: after a lost connection, and whatever else may pass,
 * it goes on from the position reached, with longer and longer waits, until
 * nothing has come for retry_ms. */
#ifndef MDN_METADATA_POSTGRES_SOURCE_H
#define MDN_METADATA_POSTGRES_SOURCE_H

#include "metadata/filter.h"
#include "metadata/postgres.h"
#include "metadata/source.h"

typedef struct {
    const char *table; /* qualified; see mdn_query_is_name */
    uint64_t first;    /* position */
    uint64_t count;    /* positions; at least 1 */
    uint64_t erased;   /* of these; their rows are gone, or marked */
} mdn_postgres_part;

typedef struct {
    mdn_postgres_options connection;
    uint32_t retry_ms; /* 0: never try again */
    bool blocks;       /* else rows */
    bool has_keys;     /* else the position, column "key", is the key */
    bool has_labels;
    const mdn_postgres_part *parts; /* one behind the other, from position 0 */
    uint64_t part_count;
} mdn_postgres_source_options;

/* Copies all of the options; no I/O.  MDN_INVALID for parts that are not as
 * said, and what mdn_postgres_new says. */
mdn_status mdn_postgres_source_new(const mdn_postgres_source_options *options,
                                   mdn_metadata_source **out, mdn_error *err);

/* The same samples, connections and knowledge, as far as the filter keeps them;
 * another filter is forgotten.  source is one of the above. */
mdn_status mdn_postgres_source_where(mdn_metadata_source *source,
                                     const mdn_filter *filter,
                                     mdn_metadata_source **out, mdn_error *err);

#endif
