/* postgres.c - libpq without waiting for ever.
 *
 * libpq works in steps: it says which event of its socket it needs, and is
 * called again after that event.  The waiting is ours, in slices of 50 ms, so
 * that the caller can bound it and look at signals in between (mdn_libpq_wait
 * is the only place that waits).
 *
 * While a COPY comes in, a server speaks only to refuse it (notices are turned
 * off), but libpq does not show that before the COPY is ended.  So as soon as
 * there is something to read we end it, and ask why. */
#include "metadata/libpq.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of one PQputCopyData; libpq moves what the socket did not take. */
#define PUT_BYTES (64 * 1024)
/* How long a server may take nothing at all of a COPY. */
#define STALL_MS 30000
/* How long one may say nothing before we ask what it does. */
#define SILENCE_MS 20000
/* What a server may need to act on its own statement_timeout. */
#define TIMEOUT_GRACE_MS 10000

/* Anything that the caller asked to be told of, or may not wait for longer? */
mdn_status
mdn_libpq_ask(mdn_postgres *pg, const mdn_postgres_patience *patience,
              bool signalled, mdn_error *err)
{
    uint64_t now_ns = mdn_steady_ns();

    if (pg->limit_ns != 0 && now_ns > pg->limit_ns) {
        mdn_postgres_drop(pg);
        mdn_libpq_set_sqlstate(pg, "08006");
        return mdn_libpq_fail_saying(
            pg, NULL,
            "the server has not answered in time, not even to "
            "say that it timed out; the connection was dropped",
            NULL, err);
    }
    if (patience == NULL)
        return MDN_OK;
    if (patience->pulse.ask != NULL
        && (signalled
            || now_ns - pg->asked_ns
                   >= MDN_LIBPQ_SLICE_MS * MDN_LIBPQ_NS_PER_MS)) {
        mdn_status st = patience->pulse.ask(patience->pulse.ctx, err);

        pg->asked_ns = mdn_steady_ns();
        if (st != MDN_OK)
            return st;
    }
    if (patience->deadline_ns != 0 && now_ns > patience->deadline_ns)
        return mdn_fail(err, MDN_TIMEOUT, "Postgres did not answer in time");
    return MDN_OK;
}

/* Until one of the events comes, and 50 ms at most.  The caller looks again
 * in any case: what TLS holds back already does not show on the socket. */
mdn_status
mdn_libpq_wait(mdn_postgres *pg, short events,
               const mdn_postgres_patience *patience, mdn_error *err)
{
    struct pollfd event = {.fd = PQsocket(pg->conn), .events = events};
    uint64_t now_ns = mdn_steady_ns(), wait_ms = MDN_LIBPQ_SLICE_MS;
    int ready;

    if (patience != NULL && patience->deadline_ns != 0) {
        uint64_t end_ns = patience->deadline_ns;
        uint64_t left_ms =
            end_ns > now_ns ? (end_ns - now_ns) / MDN_LIBPQ_NS_PER_MS : 0;

        if (left_ms + 1 < wait_ms)
            wait_ms = left_ms + 1;
    }
    ready = poll(&event, 1, (int)wait_ms);
    if (ready < 0 && errno != EINTR)
        return mdn_fail_errno(err, errno, "waiting for Postgres");
    now_ns = mdn_steady_ns();
    if (ready > 0)
        pg->heard_ns = now_ns;
    if (pg->session[0] != '\0'
        && now_ns - pg->heard_ns > SILENCE_MS * MDN_LIBPQ_NS_PER_MS) {
        mdn_status st = mdn_libpq_probe(pg, patience, err);

        if (st != MDN_OK)
            return st;
        pg->heard_ns = mdn_steady_ns();
    }
    return mdn_libpq_ask(pg, patience, ready < 0, err);
}

/* The next result, without letting libpq wait; *out NULL: there is no more. */
mdn_status
mdn_libpq_next_result(mdn_postgres *pg, const mdn_postgres_patience *patience,
                      PGresult **out, mdn_error *err)
{
    mdn_status st;

    *out = NULL;
    while (PQisBusy(pg->conn) && PQstatus(pg->conn) == CONNECTION_OK) {
        /* A failed flush shows in the results. */
        bool unsent = PQflush(pg->conn) == 1;

        st = mdn_libpq_wait(pg, unsent ? POLLIN | POLLOUT : POLLIN, patience,
                            err);
        if (st != MDN_OK)
            return st;
        if (!PQconsumeInput(pg->conn))
            break;
    }
    *out = PQgetResult(pg->conn);
    return MDN_OK;
}

/* All results up to the last.  What the first failed one says is the failure,
 * and *last the last good one, which the caller clears. */
static mdn_status
all_results(mdn_postgres *pg, const char *sql,
            const mdn_postgres_patience *patience, PGresult **last,
            mdn_error *err)
{
    mdn_status failed = MDN_OK, st;
    PGresult *result;

    *last = NULL;
    while ((st = mdn_libpq_next_result(pg, patience, &result, err)) == MDN_OK
           && result != NULL) {
        ExecStatusType status = PQresultStatus(result);

        if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
            PQclear(*last);
            *last = result;
            continue;
        }
        if (failed == MDN_OK)
            failed =
                status == PGRES_FATAL_ERROR
                    ? mdn_libpq_fail_result(pg, sql, result, err)
                    : mdn_fail(err, MDN_DATABASE, "Postgres answered with %s",
                               PQresStatus(status));
        PQclear(result);
        if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT) {
            mdn_postgres_drop(pg); /* not asked for; it would never end */
            break;
        }
    }
    if (st == MDN_OK)
        st = failed;
    if (st == MDN_OK && *last == NULL)
        st = mdn_libpq_fail_lost(pg, sql, err);
    if (st != MDN_OK) {
        PQclear(*last);
        *last = NULL;
    }
    return st;
}

/* Whatever else there is to hear changes nothing any more. */
static mdn_status
skip_results(mdn_postgres *pg, const mdn_postgres_patience *patience,
             mdn_error *err)
{
    PGresult *result;
    mdn_status st;

    while ((st = mdn_libpq_next_result(pg, patience, &result, err)) == MDN_OK
           && result != NULL)
        PQclear(result);
    return st;
}

/* Where a statement begins. */
static mdn_status
begin_call(mdn_postgres *pg, const char *sql, mdn_error *err)
{
    if (pg->conn != NULL && pg->pid != getpid())
        return mdn_fail(err, MDN_INVALID,
                        "this connection to Postgres was made by process %ld; "
                        "after a fork the child needs one of its own",
                        (long)pg->pid);
    if (PQstatus(pg->conn) != CONNECTION_OK) /* accepts NULL */
        return mdn_libpq_fail_lost(pg, sql, err);
    PQfreemem(pg->row);
    pg->row = NULL;
    pg->sqlstate[0] = '\0';
    pg->heard_ns = mdn_steady_ns();
    pg->limit_ns = pg->statement_ms == 0
                       ? 0
                       : mdn_steady_ns()
                             + (pg->statement_ms + (uint64_t)TIMEOUT_GRACE_MS)
                                   * MDN_LIBPQ_NS_PER_MS;
    return MDN_OK;
}

int
mdn_postgres_libpq_version(void)
{
    return PQlibVersion();
}

int
mdn_postgres_server_version(const mdn_postgres *pg)
{
    return pg->server_version;
}

const char *
mdn_postgres_sqlstate(const mdn_postgres *pg)
{
    return pg->sqlstate;
}

mdn_postgres_state_t
mdn_postgres_state(const mdn_postgres *pg)
{
    if (pg->pid != getpid() || PQstatus(pg->conn) != CONNECTION_OK)
        return MDN_POSTGRES_LOST;
    switch (PQtransactionStatus(pg->conn)) {
    case PQTRANS_IDLE: return MDN_POSTGRES_READY;
    case PQTRANS_INTRANS: return MDN_POSTGRES_INSIDE;
    case PQTRANS_INERROR: return MDN_POSTGRES_FAILED;
    case PQTRANS_ACTIVE: return MDN_POSTGRES_ACTIVE;
    case PQTRANS_UNKNOWN: break;
    }
    return MDN_POSTGRES_LOST;
}

static mdn_status
send_statement(mdn_postgres *pg, const char *sql, const char *const *params,
               int param_count, mdn_error *err)
{
    int sent = param_count == 0
                   ? PQsendQuery(pg->conn, sql)
                   : PQsendQueryParams(pg->conn, sql, param_count, NULL, params,
                                       NULL, NULL, 0);

    if (sent)
        return MDN_OK;
    if (PQstatus(pg->conn) != CONNECTION_OK)
        return mdn_libpq_fail_lost(pg, sql, err);
    return mdn_libpq_fail_saying(pg, sql, PQerrorMessage(pg->conn), NULL, err);
}

static void
tell_outcome(PGresult *result, mdn_postgres_outcome *out)
{
    const char *affected = PQcmdTuples(result);

    out->rows = PQresultStatus(result) == PGRES_TUPLES_OK
                    ? PQntuples(result)
                    : strtoll(affected, NULL, 10);
    snprintf(out->tag, sizeof out->tag, "%s", PQcmdStatus(result));
    out->value[0] = '\0';
    if (PQntuples(result) > 0 && PQnfields(result) > 0)
        snprintf(out->value, sizeof out->value, "%s", PQgetvalue(result, 0, 0));
}

mdn_status
mdn_postgres_exec(mdn_postgres *pg, const char *sql, const char *const *params,
                  int param_count, const mdn_postgres_patience *patience,
                  mdn_postgres_outcome *outcome, mdn_error *err)
{
    PGresult *result;
    mdn_status st;

    if ((st = begin_call(pg, sql, err)) != MDN_OK
        || (st = send_statement(pg, sql, params, param_count, err)) != MDN_OK
        || (st = all_results(pg, sql, patience, &result, err)) != MDN_OK)
        return st;
    if (outcome != NULL)
        tell_outcome(result, outcome);
    PQclear(result);
    return MDN_OK;
}

/* Send a statement that the server answers with a COPY of this kind. */
static mdn_status
begin_copy(mdn_postgres *pg, const char *sql, ExecStatusType kind,
           const mdn_postgres_patience *patience, mdn_error *err)
{
    PGresult *result;
    ExecStatusType status;
    mdn_status st, skipped = MDN_OK;

    if ((st = begin_call(pg, sql, err)) != MDN_OK
        || (st = send_statement(pg, sql, NULL, 0, err)) != MDN_OK
        || (st = mdn_libpq_next_result(pg, patience, &result, err)) != MDN_OK)
        return st;
    status = PQresultStatus(result); /* PGRES_FATAL_ERROR for NULL */
    if (status == kind) {
        PQclear(result);
        return MDN_OK;
    }
    st = result == NULL ? mdn_libpq_fail_lost(pg, sql, err)
         : status == PGRES_FATAL_ERROR
             ? mdn_libpq_fail_result(pg, sql, result, err)
             : mdn_fail(err, MDN_INVALID, "not a COPY of this kind: %.100s",
                        sql);
    PQclear(result);
    if (status == PGRES_FATAL_ERROR)
        skipped = skip_results(pg, patience, err);
    if (status != PGRES_FATAL_ERROR || skipped != MDN_OK)
        mdn_postgres_drop(pg);
    return skipped != MDN_OK ? skipped : st; /* what the pulse said counts */
}

mdn_status
mdn_postgres_copy_in(mdn_postgres *pg, const char *sql,
                     const mdn_postgres_patience *patience, mdn_error *err)
{
    return begin_copy(pg, sql, PGRES_COPY_IN, patience, err);
}

/* The server has something to say: let it, and return what it is. */
static mdn_status
hear_refusal(mdn_postgres *pg, const mdn_postgres_patience *patience,
             mdn_error *err)
{
    PGresult *last;
    mdn_status st;

    while (PQputCopyEnd(pg->conn, "the server spoke before the end") == 0) {
        PQflush(pg->conn);
        if ((st = mdn_libpq_wait(pg, POLLIN | POLLOUT, patience, err))
            != MDN_OK)
            return st;
        PQconsumeInput(pg->conn);
    }
    st = all_results(pg, NULL, patience, &last, err);
    if (st != MDN_OK)
        return st;
    PQclear(last);
    return mdn_fail(err, MDN_DATABASE, "the server ended a COPY by itself");
}

/* Whether there is something to read, and take it in if so. */
static bool
has_spoken(mdn_postgres *pg)
{
    struct pollfd event = {.fd = PQsocket(pg->conn), .events = POLLIN};

    if (poll(&event, 1, 0) <= 0)
        return PQstatus(pg->conn) != CONNECTION_OK;
    PQconsumeInput(pg->conn);
    return true;
}

/* Until all that was put is on its way. */
static mdn_status
flush_put(mdn_postgres *pg, const mdn_postgres_patience *patience,
          mdn_error *err)
{
    uint64_t stalled_ns = mdn_steady_ns() + STALL_MS * MDN_LIBPQ_NS_PER_MS;
    mdn_status st;
    int unsent;

    for (;;) {
        if (has_spoken(pg) || (unsent = PQflush(pg->conn)) < 0)
            return hear_refusal(pg, patience, err);
        if (unsent == 0)
            return mdn_libpq_ask(pg, patience, false, err);
        if (mdn_steady_ns() > stalled_ns) {
            mdn_postgres_drop(pg);
            mdn_libpq_set_sqlstate(pg, "08006");
            return mdn_libpq_fail_saying(
                pg, NULL,
                "the server has taken nothing for 30 s; the "
                "connection was dropped",
                NULL, err);
        }
        if ((st = mdn_libpq_wait(pg, POLLIN | POLLOUT, patience, err))
            != MDN_OK)
            return st;
    }
}

mdn_status
mdn_postgres_put(mdn_postgres *pg, const void *bytes, size_t size,
                 const mdn_postgres_patience *patience, mdn_error *err)
{
    const char *at = bytes;
    mdn_status st;

    if (pg->conn == NULL)
        return mdn_libpq_fail_lost(pg, NULL, err);
    while (size > 0) {
        size_t part = size < PUT_BYTES ? size : PUT_BYTES;
        int put = PQputCopyData(pg->conn, at, (int)part);

        if (put < 0)
            return hear_refusal(pg, patience, err);
        if ((st = flush_put(pg, patience, err)) != MDN_OK)
            return st;
        if (put > 0) {
            at += part;
            size -= part;
        }
    }
    return MDN_OK;
}

mdn_status
mdn_postgres_copy_end(mdn_postgres *pg, uint64_t rows,
                      const mdn_postgres_patience *patience, mdn_error *err)
{
    PGresult *result;
    uint64_t counted;
    mdn_status st;
    int ended;

    if (pg->conn == NULL)
        return mdn_libpq_fail_lost(pg, NULL, err);
    while ((ended = PQputCopyEnd(pg->conn, NULL)) == 0) {
        if ((st = flush_put(pg, patience, err)) != MDN_OK)
            return st;
    }
    /* 1 means "queued": only the results tell, also what ended was. */
    if ((st = all_results(pg, NULL, patience, &result, err)) != MDN_OK)
        return st;
    counted = strtoull(PQcmdTuples(result), NULL, 10);
    PQclear(result);
    if (ended < 0 || counted != rows)
        return mdn_fail(err, MDN_DATABASE,
                        "the server counted %llu rows, and %llu were sent",
                        (unsigned long long)counted, (unsigned long long)rows);
    return MDN_OK;
}

mdn_status
mdn_postgres_copy_out(mdn_postgres *pg, const char *sql,
                      const mdn_postgres_patience *patience, mdn_error *err)
{
    return begin_copy(pg, sql, PGRES_COPY_OUT, patience, err);
}

/* PQgetCopyData says no more: only the results tell whether that is all. */
static mdn_status
end_of_rows(mdn_postgres *pg, const mdn_postgres_patience *patience,
            mdn_error *err)
{
    PGresult *result;
    mdn_status st = all_results(pg, NULL, patience, &result, err);

    if (st == MDN_OK)
        PQclear(result);
    return st;
}

mdn_status
mdn_postgres_get(mdn_postgres *pg, const char **row, size_t *size,
                 const mdn_postgres_patience *patience, mdn_error *err)
{
    bool waited = true;
    mdn_status st;
    int got;

    *row = NULL;
    *size = 0;
    PQfreemem(pg->row);
    pg->row = NULL;
    if (pg->conn == NULL)
        return mdn_libpq_fail_lost(pg, NULL, err);
    while ((got = PQgetCopyData(pg->conn, &pg->row, 1)) == 0) {
        /* Often more has come already: ask the socket only if not. */
        st = waited ? mdn_libpq_ask(pg, patience, false, err)
                    : mdn_libpq_wait(pg, POLLIN, patience, err);
        if (st != MDN_OK)
            return st;
        waited = !waited;
        if (!PQconsumeInput(pg->conn))
            break;
    }
    if (got <= 0)
        return end_of_rows(pg, patience, err);
    *row = pg->row;
    *size = (size_t)got;
    return MDN_OK;
}
