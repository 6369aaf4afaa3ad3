/* libpq.h - what the files over libpq share; nobody else includes it.
 *
 *     postgres.c          waiting, results, statements, COPY
 *     postgres_connect.c  connection strings, connecting, the session
 *     postgres_errors.c   what a failure says
 *     postgres_leave.c    cancelling
 *     postgres_probe.c    is somebody still there? */
#ifndef MDN_METADATA_LIBPQ_H
#define MDN_METADATA_LIBPQ_H

#include "metadata/postgres.h"

#include <libpq-fe.h>
#include <sys/types.h>

#define MDN_LIBPQ_NS_PER_MS UINT64_C(1000000)
#define MDN_LIBPQ_SLICE_MS 50

struct mdn_postgres {
    PGconn *conn;      /* owned; NULL when not connected */
    pid_t pid;         /* of the process that connected */
    char *conninfo;    /* owned */
    char *password;    /* owned; NULL without one in conninfo */
    char **settings;   /* owned; as in the options, or NULL */
    char *row;         /* libpq's, of the last get */
    uint64_t asked_ns; /* when the pulse was asked last */
    uint64_t limit_ns; /* when the statement must be over; 0: no limit */
    uint64_t heard_ns; /* when something moved last, or it was probed */
    char session[64];  /* "backend start-of-server"; "": unknown */
    uint32_t connect_ms, statement_ms, lock_ms;
    int server_version;
    bool bare;
    char sqlstate[6];
};

/* postgres_errors.c ------------------------------------------------------- */

/* Copy the first line of text to out, every occurrence of secret as "***". */
void mdn_libpq_copy_line(const char *text, const char *secret, char *out,
                         size_t size);

void mdn_libpq_set_sqlstate(mdn_postgres *pg, const char *sqlstate);

/* "sql: reason (detail) [SQLSTATE 23505]; advice", each where there is one:
 * sql and detail may be NULL. */
mdn_status mdn_libpq_fail_saying(const mdn_postgres *pg, const char *sql,
                                 const char *reason, const char *detail,
                                 mdn_error *err);

/* The connection is lost, in libpq's own words. */
mdn_status mdn_libpq_fail_lost(mdn_postgres *pg, const char *sql,
                               mdn_error *err);

/* What the server says in the result of a failed statement. */
mdn_status mdn_libpq_fail_result(mdn_postgres *pg, const char *sql,
                                 const PGresult *result, mdn_error *err);

/* postgres.c -------------------------------------------------------------- */

/* Ask the pulse, if it is time or a signal came, and look at the deadlines. */
mdn_status mdn_libpq_ask(mdn_postgres *pg,
                         const mdn_postgres_patience *patience, bool signalled,
                         mdn_error *err);

/* Until one of the events comes, and 50 ms at most; then ask.  The caller
 * looks again in any case: what TLS holds back already does not show on the
 * socket. */
mdn_status mdn_libpq_wait(mdn_postgres *pg, short events,
                          const mdn_postgres_patience *patience,
                          mdn_error *err);

/* The next result, without letting libpq wait; *out NULL: there is no more. */
mdn_status mdn_libpq_next_result(mdn_postgres *pg,
                                 const mdn_postgres_patience *patience,
                                 PGresult **out, mdn_error *err);

/* postgres_probe.c -------------------------------------------------------- */

/* Nothing has come for long: is the session still at work?  MDN_DATABASE if
 * not, and the connection is dropped. */
mdn_status mdn_libpq_probe(mdn_postgres *pg,
                           const mdn_postgres_patience *patience,
                           mdn_error *err);

#endif
