/* batch.h - one batch into Postgres: whole, once, whatever happens on the way.
 *
 * A batch is one transaction:
 *
 *     BEGIN
 *     the fence, if `before` opens with it
 *     INSERT INTO modyn.batches (id) VALUES ($1) ON CONFLICT DO NOTHING
 *     the rest of `before`; each COPY; `after`
 *     COMMIT
 *
 * A connection may be lost, or a server stop, anywhere; around COMMIT nobody
 * then knows what became of the transaction.  So it is done again, and the
 * INSERT decides: it waits for a first attempt that is still on its way, and 0
 * rows mean that one was committed.  (A SELECT would not wait.) */
#ifndef MDN_METADATA_BATCH_H
#define MDN_METADATA_BATCH_H

#include "base/error.h"
#include "base/pulse.h"
#include "metadata/encode.h"
#include "metadata/postgres.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A statement that begins so is a fence: it returns 1 row as long as nobody
 * has taken the pipeline over. */
#define MDN_POSTGRES_FENCE                                                     \
    "SELECT 1 FROM modyn.pipelines WHERE id = $1 AND token = $2"

typedef struct {
    const char *sql;
    const char *const *params; /* text; NULL for SQL's NULL */
    int param_count;
    int64_t rows; /* that it must affect or return; -1: any */
} mdn_postgres_statement;

typedef struct {
    const char *sql; /* "COPY t (a, b) FROM STDIN (FORMAT binary)" */
    const mdn_encode_column *columns;
    size_t column_count;
    uint64_t rows;
} mdn_postgres_copy;

typedef struct {
    const char *id; /* NULL: the batch has none, see below */
    const mdn_postgres_statement *before, *after;
    size_t before_count, after_count;
    const mdn_postgres_copy *copies;
    size_t copy_count;
    uint32_t retry_ms; /* from the first failure on; 0: never again */
    mdn_pulse pulse;   /* asked every 50 ms; .ask NULL: nobody */
} mdn_postgres_work;

/* MDN_OK: committed, now (*fresh) or earlier under the same id.  All that may
 * pass by itself (sqlstate.h; a connection that is lost or cannot be made) is
 * done again after 50 ms, 100 ms, ... 2 s, until retry_ms have passed.
 * Otherwise nothing of the batch is there, unless a COMMIT was not answered:
 * with an id, and a server that did not come back in time, the same id finds
 * out later; without an id it cannot be resolved, is not done again, and the
 * message says that the outcome is unknown.
 *
 * MDN_FENCED: somebody took over.  MDN_DATABASE: the server refused, it never
 * came back, or a statement affected another number of rows than it must.
 * MDN_INVALID: a value that Postgres cannot hold.  Else what the pulse said,
 * and then a COMMIT on its way may yet arrive. */
mdn_status mdn_postgres_batch(mdn_postgres *pg, const mdn_postgres_work *work,
                              bool *fresh, mdn_error *err);

#endif
