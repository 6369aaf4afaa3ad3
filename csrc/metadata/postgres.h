/* postgres.h - a connection to a Postgres server, and what it is asked.
 *
 *     mdn_postgres *pg;
 *     mdn_postgres_new(&options, &pg, err);          no I/O yet
 *     mdn_postgres_connect(pg, &patience, err);      again after a loss
 *     mdn_postgres_exec(pg, "BEGIN", NULL, 0, &patience, &outcome, err);
 *     mdn_postgres_copy_in(pg, sql, &patience, err);
 *     mdn_postgres_put(pg, bytes, size, &patience, err);     as often as needed
 *     mdn_postgres_copy_end(pg, rows, &patience, err);   only this proves it
 *
 *     mdn_postgres_copy_out(pg, sql, &patience, err);
 *     mdn_postgres_get(pg, &row, &size, &patience, err);   until size is 0
 *
 *     mdn_postgres_free(pg);
 *
 * The files over libpq (see libpq.h) are built into the optional extension
 * modyn._postgres, not into modyn._core.
 *
 * One connection belongs to one thread at a time, and to the process that made
 * it: in a forked child every call but free fails, and free leaves the
 * parent's connection alone.
 *
 * What calls return, beside MDN_OK, and what is then true:
 *   MDN_DATABASE  the server refused or is gone; mdn_postgres_sqlstate says
 *                 what, mdn_postgres_state whether the connection is lost
 *   MDN_TIMEOUT   the deadline of the patience (or of connecting) has passed
 *   other         what the pulse returned, which ended the wait
 * After the last two the connection is in the middle of something: call
 * mdn_postgres_leave (or connect anew, or free it).
 *
 * No message holds the connection string or a password, not even in part:
 * what libpq says is quoted only from where a server, or the system, speaks. */
#ifndef MDN_METADATA_POSTGRES_H
#define MDN_METADATA_POSTGRES_H

#include "base/error.h"
#include "base/pulse.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mdn_postgres mdn_postgres;

/* How long a call may wait.  Every function takes one; NULL waits as long as
 * it takes. */
typedef struct {
    mdn_pulse pulse;      /* asked every 50 ms; .ask NULL: nobody */
    uint64_t deadline_ns; /* of mdn_steady_ns(); 0: none */
} mdn_postgres_patience;

typedef struct {
    /* keyword=value pairs or a URI; libpq adds what the environment, pgpass
     * and service files say. */
    const char *conninfo;
    uint32_t connect_ms;   /* to connect, above 0 */
    uint32_t statement_ms; /* a statement may take; 0: as long as it takes */
    uint32_t lock_ms;      /* a statement may wait for a lock; 0: likewise */
    /* More settings of the session: name, value, name, value, ..., NULL; NULL
     * without. */
    const char *const *settings;
    /* No settings at all, and servers of any version. */
    bool bare;
} mdn_postgres_options;

typedef enum {
    MDN_POSTGRES_LOST,   /* or not yet connected */
    MDN_POSTGRES_READY,  /* for a statement, outside a transaction */
    MDN_POSTGRES_INSIDE, /* a transaction */
    MDN_POSTGRES_FAILED, /* a transaction that can only be rolled back */
    MDN_POSTGRES_ACTIVE, /* in the middle of a statement or a COPY */
} mdn_postgres_state_t;

/* Of the linked libpq; 150004 is 15.4. */
int mdn_postgres_libpq_version(void);

/* Copies the options.  MDN_INVALID when conninfo cannot be understood. */
mdn_status mdn_postgres_new(const mdn_postgres_options *options,
                            mdn_postgres **out, mdn_error *err);

/* Connect, anew if there was a connection, and set the session up.  A host
 * name is looked up by the system, which nobody can bound (hostaddr= avoids
 * it).  MDN_TIMEOUT after connect_ms. */
mdn_status mdn_postgres_connect(mdn_postgres *pg,
                                const mdn_postgres_patience *patience,
                                mdn_error *err);

/* Accepts NULL. */
void mdn_postgres_free(mdn_postgres *pg);

/* 150004 for 15.4; 0 before it was first connected. */
int mdn_postgres_server_version(const mdn_postgres *pg);

mdn_postgres_state_t mdn_postgres_state(const mdn_postgres *pg);

/* Of the last failure, five characters: the server's, "08006" for a lost
 * connection, "08001" for one that was not made and may be tried again; ""
 * where there is none. */
const char *mdn_postgres_sqlstate(const mdn_postgres *pg);

typedef struct {
    int64_t rows;    /* affected, or returned */
    char tag[24];    /* the command's, "COMMIT"; cut */
    char value[104]; /* first column of the first row, cut; "" for NULL */
} mdn_postgres_outcome;

/* One statement and its bound parameters, as text (NULL for SQL's NULL).
 * outcome may be NULL. */
mdn_status mdn_postgres_exec(mdn_postgres *pg, const char *sql,
                             const char *const *params, int param_count,
                             const mdn_postgres_patience *patience,
                             mdn_postgres_outcome *outcome, mdn_error *err);

/* "COPY t (a, b) FROM STDIN (FORMAT binary)": from then on put its bytes. */
mdn_status mdn_postgres_copy_in(mdn_postgres *pg, const char *sql,
                                const mdn_postgres_patience *patience,
                                mdn_error *err);

/* Pieces of any size, cut anywhere.  MDN_OK means sent, nothing more.  An
 * error of the server is seen as soon as it has come, and has then ended the
 * COPY. */
mdn_status mdn_postgres_put(mdn_postgres *pg, const void *bytes, size_t size,
                            const mdn_postgres_patience *patience,
                            mdn_error *err);

/* The server has taken them all, and counts as many rows. */
mdn_status mdn_postgres_copy_end(mdn_postgres *pg, uint64_t rows,
                                 const mdn_postgres_patience *patience,
                                 mdn_error *err);

/* "COPY t TO STDOUT (FORMAT binary)": from then on get its bytes. */
mdn_status mdn_postgres_copy_out(mdn_postgres *pg, const char *sql,
                                 const mdn_postgres_patience *patience,
                                 mdn_error *err);

/* The next row, valid until the next call on pg; the first has the header of
 * the format before it, and one with the trailer alone may come last.  *size 0
 * (and *row NULL): the COPY has ended, and the server said that it is whole.
 */
mdn_status mdn_postgres_get(mdn_postgres *pg, const char **row, size_t *size,
                            const mdn_postgres_patience *patience,
                            mdn_error *err);

/* Leave whatever is going on, within 150 ms: the server is told to cancel it,
 * what still comes is thrown away, and an open transaction is rolled back.
 * Afterwards the connection is MDN_POSTGRES_READY, or dropped
 * (MDN_POSTGRES_LOST) where that could not be had in time.  The SQLSTATE stays
 * that of the last failure. */
void mdn_postgres_leave(mdn_postgres *pg);

/* Close the connection; it can be connected anew. */
void mdn_postgres_drop(mdn_postgres *pg);

/* What conninfo says, and only that: called for each keyword that has a value.
 * MDN_INVALID when it cannot be understood; what visit returns other than
 * MDN_OK ends it. */
mdn_status mdn_postgres_parse(const char *conninfo,
                              mdn_status (*visit)(void *ctx,
                                                  const char *keyword,
                                                  const char *value),
                              void *ctx, mdn_error *err);

#endif
