/* postgres.c - libpq without waiting for ever, and without telling secrets.
 *
 * libpq works in steps: it says which event of its socket it needs, and is
 * called again after that event.  The waiting is ours, in slices of 50 ms, so
 * that the caller can bound it and look at signals in between (wait_slice is
 * the only place that waits).
 *
 * A connection string with an unescaped '@', '/' or space in its password is
 * split in the wrong places, and libpq's message then quotes a piece of the
 * password as a host or a port.  So its messages are not passed on as they
 * are.  After "failed: " speaks the server or the system, and what it says is
 * kept, less the password; before that only we speak.
 *
 * While a COPY comes in, a server speaks only to refuse it (notices are turned
 * off), but libpq does not show that before the COPY is ended.  So as soon as
 * there is something to read we end it, and ask why. */
#include "metadata/postgres.h"

#include "base/clock.h"
#include "metadata/sqlstate.h"

#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS UINT64_C(1000000)
#define SLICE_MS 50
/* Of one PQputCopyData; libpq moves what the socket did not take. */
#define PUT_BYTES (256 * 1024)
/* How long a server may take nothing at all of a COPY. */
#define STALL_MS 30000
/* What a server may need to act on its own statement_timeout. */
#define TIMEOUT_GRACE_MS 10000
#define OLDEST_SERVER 130000
#define MOST_SETTINGS 32

struct mdn_postgres {
    PGconn *conn;      /* owned; NULL when not connected */
    pid_t pid;         /* of the process that connected */
    char *conninfo;    /* owned */
    char *password;    /* owned; NULL without one in conninfo */
    char **settings;   /* owned; as in the options, or NULL */
    char *row;         /* libpq's, of the last get */
    uint64_t asked_ns; /* when the pulse was asked last */
    uint64_t limit_ns; /* when the statement must be over; 0: no limit */
    uint32_t connect_ms, statement_ms, lock_ms;
    int server_version;
    bool bare;
    char sqlstate[6];
};

/* Messages. -------------------------------------------------------------- */

/* Copy the first line of text to out, every occurrence of secret as "***". */
static void
copy_line_without(const char *text, const char *secret, char *out, size_t size)
{
    size_t length = secret ? strlen(secret) : 0;
    size_t used = 0;

    while (*text != '\0' && *text != '\n' && used + 4 < size) {
        if (length > 0 && strncmp(text, secret, length) == 0) {
            memcpy(out + used, "***", 3);
            used += 3;
            text += length;
        } else
            out[used++] = *text++;
    }
    out[used] = '\0';
}

/* How a statement begins, its white space squeezed. */
static void
begin_of(const char *sql, char *out, size_t size)
{
    size_t used = 0;

    for (; *sql != '\0' && used + 5 < size; sql++) {
        bool space = strchr(" \t\r\n", *sql) != NULL;

        if (!space)
            out[used++] = *sql;
        else if (used > 0 && out[used - 1] != ' ')
            out[used++] = ' ';
    }
    snprintf(out + used, size - used, "%s", *sql != '\0' ? " ..." : "");
}

static void
set_sqlstate(mdn_postgres *pg, const char *sqlstate)
{
    snprintf(pg->sqlstate, sizeof pg->sqlstate, "%s", sqlstate);
}

/* "sql: reason (detail) [23505]; advice", each where there is one. */
static mdn_status
fail_saying(const mdn_postgres *pg, const char *sql, const char *reason,
            const char *detail, mdn_error *err)
{
    const char *advice = mdn_sqlstate_advice(pg->sqlstate);
    char begin[72] = "", first[200], more[128] = "";

    if (sql != NULL)
        begin_of(sql, begin, sizeof begin);
    copy_line_without(reason, pg->password, first, sizeof first);
    if (detail != NULL)
        copy_line_without(detail, pg->password, more, sizeof more);
    return mdn_fail(err, MDN_DATABASE, "%s%s%s%s%s%s%s%s%s%s%s", begin,
                    sql ? ": " : "", first, detail ? " (" : "", more,
                    detail ? ")" : "", pg->sqlstate[0] ? " [SQLSTATE " : "",
                    pg->sqlstate, pg->sqlstate[0] ? "]" : "",
                    advice ? "; " : "", advice ? advice : "");
}

/* libpq's own words, of a connection that it has given up. */
static mdn_status
fail_lost(mdn_postgres *pg, const char *sql, mdn_error *err)
{
    const char *said = pg->conn ? PQerrorMessage(pg->conn) : "";
    char detail[120];

    copy_line_without(said, pg->password, detail, sizeof detail);
    set_sqlstate(pg, "08006");
    return fail_saying(pg, sql, "the connection to the server is lost",
                       detail[0] != '\0' ? detail : NULL, err);
}

static mdn_status
fail_result(mdn_postgres *pg, const char *sql, const PGresult *result,
            mdn_error *err)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *reason = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

    if (state == NULL && PQstatus(pg->conn) == CONNECTION_BAD)
        return fail_lost(pg, sql, err);
    set_sqlstate(pg, state != NULL ? state : "");
    return fail_saying(pg, sql, reason ? reason : PQresultErrorMessage(result),
                       PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL), err);
}

/* The code in "FATAL:  28P01: text", and the text; the word is translated. */
static const char *
split_verbose(mdn_postgres *pg, const char *said)
{
    const char *code = strstr(said, ":  ");

    if (code == NULL || strlen(code += 3) < 7
        || strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 5
        || code[5] != ':')
        return said;
    memcpy(pg->sqlstate, code, 5);
    pg->sqlstate[5] = '\0';
    return code + 7;
}

static mdn_status
fail_to_connect(mdn_postgres *pg, mdn_error *err)
{
    static const char mark[] = "failed: ";
    const char *text = PQerrorMessage(pg->conn);
    const char *said = NULL;
    char reason[256];
    mdn_status st;

    /* With several hosts there are several: the last one counts. */
    for (const char *at = text; (at = strstr(at, mark)) != NULL;)
        said = at += sizeof mark - 1;
    /* A name that cannot be looked up now was known when we first connected. */
    set_sqlstate(pg, said != NULL || pg->server_version != 0 ? "08001" : "");
    if (said == NULL)
        snprintf(reason, sizeof reason,
                 "no server was reached; check host, port and options of the "
                 "connection string (not shown)");
    else
        copy_line_without(split_verbose(pg, said), pg->password, reason,
                          sizeof reason);
    st = fail_saying(pg, "cannot connect to Postgres", reason, NULL, err);
    mdn_postgres_drop(pg);
    return st;
}

/* Waiting. --------------------------------------------------------------- */

/* Anything that the caller asked to be told of, or may not wait for longer? */
static mdn_status
ask(mdn_postgres *pg, const mdn_postgres_patience *patience, bool signalled,
    mdn_error *err)
{
    uint64_t now_ns = mdn_steady_ns();

    if (pg->limit_ns != 0 && now_ns > pg->limit_ns) {
        mdn_postgres_drop(pg);
        set_sqlstate(pg, "08006");
        return fail_saying(pg, NULL,
                           "the server has not answered in time, not even to "
                           "say that it timed out; the connection was dropped",
                           NULL, err);
    }
    if (patience == NULL)
        return MDN_OK;
    if (patience->pulse.ask != NULL
        && (signalled || now_ns - pg->asked_ns >= SLICE_MS * NS_PER_MS)) {
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
static mdn_status
wait_slice(mdn_postgres *pg, short events,
           const mdn_postgres_patience *patience, mdn_error *err)
{
    struct pollfd event = {.fd = PQsocket(pg->conn), .events = events};
    uint64_t now_ns = mdn_steady_ns(), wait_ms = SLICE_MS;
    int ready;

    if (patience != NULL && patience->deadline_ns != 0) {
        uint64_t end_ns = patience->deadline_ns;
        uint64_t left_ms = end_ns > now_ns ? (end_ns - now_ns) / NS_PER_MS : 0;

        if (left_ms + 1 < wait_ms)
            wait_ms = left_ms + 1;
    }
    ready = poll(&event, 1, (int)wait_ms);
    if (ready < 0 && errno != EINTR)
        return mdn_fail_errno(err, errno, "waiting for Postgres");
    return ask(pg, patience, ready < 0, err);
}

/* The next result, without letting libpq wait; *out NULL: there is no more. */
static mdn_status
next_result(mdn_postgres *pg, const mdn_postgres_patience *patience,
            PGresult **out, mdn_error *err)
{
    mdn_status st;

    *out = NULL;
    while (PQisBusy(pg->conn) && PQstatus(pg->conn) == CONNECTION_OK) {
        /* A failed flush shows in the results. */
        bool unsent = PQflush(pg->conn) == 1;

        st = wait_slice(pg, unsent ? POLLIN | POLLOUT : POLLIN, patience, err);
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
    while ((st = next_result(pg, patience, &result, err)) == MDN_OK
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
                    ? fail_result(pg, sql, result, err)
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
        st = fail_lost(pg, sql, err);
    if (st != MDN_OK) {
        PQclear(*last);
        *last = NULL;
    }
    return st;
}

/* Whatever else there is to hear changes nothing any more. */
static bool
skip_results(mdn_postgres *pg, const mdn_postgres_patience *patience)
{
    PGresult *result;
    mdn_status st;

    while ((st = next_result(pg, patience, &result, NULL)) == MDN_OK
           && result != NULL)
        PQclear(result);
    return st == MDN_OK;
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
        return fail_lost(pg, sql, err);
    PQfreemem(pg->row);
    pg->row = NULL;
    pg->sqlstate[0] = '\0';
    pg->limit_ns =
        pg->statement_ms == 0
            ? 0
            : mdn_steady_ns()
                  + (pg->statement_ms + (uint64_t)TIMEOUT_GRACE_MS) * NS_PER_MS;
    return MDN_OK;
}

/* Connecting. ------------------------------------------------------------ */

/* libpq would print notices. */
static void
ignore_notice(void *ctx, const PGresult *result)
{
    (void)ctx;
    (void)result;
}

static PGconn *
start(const mdn_postgres *pg)
{
    /* What comes before dbname may be overridden by the connection string. */
    static const char *const keywords[] = {
        "application_name",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
        "dbname",
        "client_encoding",
        NULL,
    };
    const char *const values[] = {
        "modyn", "1", "10", "5", "4", "30000", pg->conninfo, "UTF8", NULL,
    };

    return pg->bare ? PQconnectStart(pg->conninfo)
                    : PQconnectStartParams(keywords, values, 1);
}

/* Take the steps of connecting. */
static mdn_status
step_until_connected(mdn_postgres *pg, const mdn_postgres_patience *patience,
                     mdn_error *err)
{
    PostgresPollingStatusType wants = PGRES_POLLING_WRITING;
    uint64_t end_ns = mdn_steady_ns() + pg->connect_ms * NS_PER_MS;

    while (wants != PGRES_POLLING_OK) {
        short events = wants == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        struct pollfd event = {.fd = PQsocket(pg->conn), .events = events};
        mdn_status st = MDN_OK;

        if (poll(&event, 1, 0) > 0)
            wants = PQconnectPoll(pg->conn);
        else if (mdn_steady_ns() > end_ns)
            st = mdn_fail(err, MDN_TIMEOUT,
                          "cannot connect to Postgres: it did not answer in "
                          "time (%u ms)",
                          pg->connect_ms);
        else
            st = wait_slice(pg, events, patience, err);
        if (st != MDN_OK) {
            mdn_postgres_drop(pg);
            set_sqlstate(pg, st == MDN_TIMEOUT ? "08001" : "");
            return st;
        }
        if (wants == PGRES_POLLING_FAILED)
            return fail_to_connect(pg, err);
    }
    return MDN_OK;
}

/* Set the session up, in one statement: the settings are parameters. */
static mdn_status
set_session(mdn_postgres *pg, const mdn_postgres_patience *patience,
            mdn_error *err)
{
    char sql[MOST_SETTINGS * 32 + 256], statement_ms[16], lock_ms[16];
    const char *params[2 * MOST_SETTINGS] = {
        "client_min_messages", "error", "statement_timeout",    statement_ms,
        "lock_timeout",        lock_ms, "synchronize_seqscans", "off",
    };
    int count = 8;
    size_t used = 0;

    snprintf(statement_ms, sizeof statement_ms, "%u", pg->statement_ms);
    snprintf(lock_ms, sizeof lock_ms, "%u", pg->lock_ms);
    for (char **s = pg->settings; s != NULL && *s != NULL; s++)
        params[count++] = *s;
    used += (size_t)snprintf(sql, sizeof sql, "SELECT");
    for (int i = 0; i < count; i += 2)
        used += (size_t)snprintf(sql + used, sizeof sql - used,
                                 " set_config($%d, $%d, false),", i + 1, i + 2);
    /* A commit that was answered must not be forgotten. */
    snprintf(sql + used, sizeof sql - used,
             " CASE WHEN current_setting('synchronous_commit') IN ('off', "
             "'local') THEN set_config('synchronous_commit', 'on', false) "
             "END");
    return mdn_postgres_exec(pg, sql, params, count, patience, NULL, err);
}

mdn_status
mdn_postgres_connect(mdn_postgres *pg, const mdn_postgres_patience *patience,
                     mdn_error *err)
{
    mdn_status st;

    mdn_postgres_drop(pg);
    pg->limit_ns = 0;
    pg->sqlstate[0] = '\0';
    pg->pid = getpid();
    pg->conn = start(pg);
    if (pg->conn == NULL)
        return mdn_fail(err, MDN_NOMEM, "no memory for a connection");
    PQsetNoticeReceiver(pg->conn, ignore_notice, NULL);
    PQsetErrorVerbosity(pg->conn, PQERRORS_VERBOSE); /* tells SQLSTATE */
    if (PQstatus(pg->conn) == CONNECTION_BAD)
        return fail_to_connect(pg, err);
    if ((st = step_until_connected(pg, patience, err)) != MDN_OK)
        return st;

    PQsetErrorVerbosity(pg->conn, PQERRORS_DEFAULT);
    pg->server_version = PQserverVersion(pg->conn);
    if (pg->bare)
        return MDN_OK;
    if (pg->server_version < OLDEST_SERVER)
        st = mdn_fail(err, MDN_DATABASE,
                      "the server is PostgreSQL %d, and modyn needs %d or "
                      "newer",
                      pg->server_version / 10000, OLDEST_SERVER / 10000);
    else if (PQsetnonblocking(pg->conn, 1) != 0)
        st = fail_lost(pg, NULL, err);
    else
        st = set_session(pg, patience, err);
    if (st != MDN_OK)
        mdn_postgres_drop(pg);
    return st;
}

void
mdn_postgres_drop(mdn_postgres *pg)
{
    PQfreemem(pg->row);
    pg->row = NULL;
    /* A child must not say goodbye on its parent's socket: there it leaks. */
    if (pg->conn != NULL && pg->pid == getpid())
        PQfinish(pg->conn);
    pg->conn = NULL;
}

/* The connection string. ------------------------------------------------- */

mdn_status
mdn_postgres_parse(const char *conninfo,
                   mdn_status (*visit)(void *ctx, const char *keyword,
                                       const char *value),
                   void *ctx, mdn_error *err)
{
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    mdn_status st = MDN_OK;

    if (options == NULL)
        return mdn_fail(err, MDN_INVALID,
                        "conninfo: expected keyword=value pairs or a "
                        "postgresql:// URI that libpq can read");
    for (PQconninfoOption *o = options; o->keyword != NULL && st == MDN_OK; o++)
        st = o->val != NULL ? visit(ctx, o->keyword, o->val) : MDN_OK;
    PQconninfoFree(options);
    return st;
}

typedef struct {
    char *password; /* owned */
    mdn_error *err;
} reading;

/* Check conninfo and keep its password, to be able not to say it. */
static mdn_status
read_option(void *ctx, const char *keyword, const char *value)
{
    static const char *const plain[] = {"host", "hostaddr", "port", "dbname"};
    reading *self = ctx;

    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        /* A piece of a misread URI: none of these holds an '@'. */
        if (strcmp(keyword, plain[i]) == 0 && strchr(value, '@') != NULL)
            return mdn_fail(self->err, MDN_INVALID,
                            "conninfo: %s holds an '@'; in a URI write %%40 "
                            "for an '@' in the user name or password",
                            keyword);
    }
    if (strcmp(keyword, "password") == 0 && value[0] != '\0'
        && (self->password = strdup(value)) == NULL)
        return mdn_fail_nomem(self->err, strlen(value) + 1);
    return MDN_OK;
}

static mdn_status
copy_settings(mdn_postgres *pg, const char *const *settings, mdn_error *err)
{
    size_t count = 0;

    if (settings == NULL)
        return MDN_OK;
    while (settings[count] != NULL)
        count++;
    if (count % 2 != 0 || count > 2 * MOST_SETTINGS - 8)
        return mdn_fail(err, MDN_INVALID,
                        "%zu settings of a session: %d is "
                        "the most",
                        count / 2, MOST_SETTINGS - 4);
    if ((pg->settings = calloc(count + 1, sizeof *pg->settings)) == NULL)
        return mdn_fail_nomem(err, (count + 1) * sizeof *pg->settings);
    for (size_t i = 0; i < count; i++) {
        if ((pg->settings[i] = strdup(settings[i])) == NULL)
            return mdn_fail_nomem(err, strlen(settings[i]) + 1);
    }
    return MDN_OK;
}

mdn_status
mdn_postgres_new(const mdn_postgres_options *options, mdn_postgres **out,
                 mdn_error *err)
{
    mdn_postgres *pg = calloc(1, sizeof *pg);
    reading read = {.err = err};
    mdn_status st;

    *out = NULL;
    if (pg == NULL)
        return mdn_fail_nomem(err, sizeof *pg);
    pg->connect_ms = options->connect_ms;
    pg->statement_ms = options->statement_ms;
    pg->lock_ms = options->lock_ms;
    pg->bare = options->bare;
    st = mdn_postgres_parse(options->conninfo, read_option, &read, err);
    pg->password = read.password;
    if (st != MDN_OK)
        goto fail;
    if ((pg->conninfo = strdup(options->conninfo)) == NULL) {
        st = mdn_fail_nomem(err, strlen(options->conninfo) + 1);
        goto fail;
    }
    if ((st = copy_settings(pg, options->settings, err)) != MDN_OK)
        goto fail;
    *out = pg;
    return MDN_OK;

fail:
    mdn_postgres_free(pg);
    return st;
}

void
mdn_postgres_free(mdn_postgres *pg)
{
    if (pg == NULL)
        return;
    mdn_postgres_drop(pg);
    for (char **s = pg->settings; s != NULL && *s != NULL; s++)
        free(*s);
    free(pg->settings);
    free(pg->password);
    free(pg->conninfo);
    free(pg);
}

/* What is known without asking. ------------------------------------------ */

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

/* Statements. ------------------------------------------------------------ */

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
        return fail_lost(pg, sql, err);
    return fail_saying(pg, sql, PQerrorMessage(pg->conn), NULL, err);
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
    mdn_status st;

    if ((st = begin_call(pg, sql, err)) != MDN_OK
        || (st = send_statement(pg, sql, NULL, 0, err)) != MDN_OK
        || (st = next_result(pg, patience, &result, err)) != MDN_OK)
        return st;
    status = PQresultStatus(result); /* PGRES_FATAL_ERROR for NULL */
    if (status == kind) {
        PQclear(result);
        return MDN_OK;
    }
    st = result == NULL ? fail_lost(pg, sql, err)
         : status == PGRES_FATAL_ERROR
             ? fail_result(pg, sql, result, err)
             : mdn_fail(err, MDN_INVALID, "not a COPY of this kind: %.100s",
                        sql);
    PQclear(result);
    if (status != PGRES_FATAL_ERROR || !skip_results(pg, patience))
        mdn_postgres_drop(pg);
    return st;
}

/* COPY in. --------------------------------------------------------------- */

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
        if ((st = wait_slice(pg, POLLIN | POLLOUT, patience, err)) != MDN_OK)
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
    uint64_t stalled_ns = mdn_steady_ns() + STALL_MS * NS_PER_MS;
    mdn_status st;
    int unsent;

    for (;;) {
        if (has_spoken(pg) || (unsent = PQflush(pg->conn)) < 0)
            return hear_refusal(pg, patience, err);
        if (unsent == 0)
            return ask(pg, patience, false, err);
        if (mdn_steady_ns() > stalled_ns) {
            mdn_postgres_drop(pg);
            set_sqlstate(pg, "08006");
            return fail_saying(pg, NULL,
                               "the server has taken nothing for 30 s; the "
                               "connection was dropped",
                               NULL, err);
        }
        if ((st = wait_slice(pg, POLLIN | POLLOUT, patience, err)) != MDN_OK)
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
        return fail_lost(pg, NULL, err);
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
        return fail_lost(pg, NULL, err);
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

/* COPY out. -------------------------------------------------------------- */

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
        return fail_lost(pg, NULL, err);
    while ((got = PQgetCopyData(pg->conn, &pg->row, 1)) == 0) {
        /* Often more has come already: ask the socket only if not. */
        st = waited ? ask(pg, patience, false, err)
                    : wait_slice(pg, POLLIN, patience, err);
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

/* Leaving. --------------------------------------------------------------- */

/* A cancellation on its way: PQcancel connects, and waits for as long as the
 * server likes, so a thread of its own does it.  Whoever comes last frees. */
typedef struct {
    PGcancel *cancel; /* owned */
    atomic_int users;
    atomic_bool done;
} cancellation;

static void
release_cancellation(cancellation *self)
{
    if (atomic_fetch_sub(&self->users, 1) > 1)
        return;
    PQfreeCancel(self->cancel);
    free(self);
}

static void *
run_cancellation(void *arg)
{
    cancellation *self = arg;
    char said[256];

    PQcancel(self->cancel, said, sizeof said);
    atomic_store(&self->done, true);
    release_cancellation(self);
    return NULL;
}

/* Signals stay with the threads that had them. */
static bool
start_detached(void *(*run)(void *), void *arg)
{
    pthread_t thread;
    sigset_t all, before;
    int failed;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed)
        pthread_detach(thread);
    return !failed;
}

/* Ask the server to stop what it does; wait 50 ms at most until it knows. */
static void
cancel(mdn_postgres *pg)
{
    cancellation *self = calloc(1, sizeof *self);
    struct timespec ms = {.tv_nsec = 1000000};

    if (self == NULL)
        return;
    self->cancel = PQgetCancel(pg->conn);
    atomic_init(&self->users, 2);
    atomic_init(&self->done, false);
    if (self->cancel == NULL || !start_detached(run_cancellation, self)) {
        atomic_store(&self->users, 1);
        release_cancellation(self);
        return;
    }
    for (int i = 0; i < 50 && !atomic_load(&self->done); i++)
        nanosleep(&ms, NULL);
    release_cancellation(self);
}

/* Throw away what still comes, for at most 50 ms. */
static void
drain(mdn_postgres *pg)
{
    mdn_postgres_patience brief = {
        .deadline_ns = mdn_steady_ns() + SLICE_MS * NS_PER_MS,
    };
    PGresult *result;

    pg->limit_ns = 0;
    while (next_result(pg, &brief, &result, NULL) == MDN_OK && result != NULL) {
        ExecStatusType status = PQresultStatus(result);
        const char *row;
        size_t size;

        PQclear(result);
        if (status == PGRES_COPY_IN)
            return;
        while (status == PGRES_COPY_OUT
               && mdn_postgres_get(pg, &row, &size, &brief, NULL) == MDN_OK
               && size > 0)
            continue;
        if (pg->conn == NULL || mdn_steady_ns() > brief.deadline_ns)
            return;
    }
}

void
mdn_postgres_leave(mdn_postgres *pg)
{
    if (mdn_postgres_state(pg) == MDN_POSTGRES_ACTIVE) {
        cancel(pg);
        drain(pg);
    }
    if (mdn_postgres_state(pg) != MDN_POSTGRES_READY)
        mdn_postgres_drop(pg);
}
