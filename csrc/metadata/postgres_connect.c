/* postgres_connect.c - connecting, without waiting for ever or telling secrets.
 *
 * A connection string with an unescaped '@', '/' or space in its password is
 * split in the wrong places, and libpq's message then quotes a piece of the
 * password as a host or a port.  So its messages are not passed on as they
 * are.  After "failed: " speaks the server or the system, and what it says is
 * kept, less the password; before that only we speak. */
#include "metadata/libpq.h"

#include "base/clock.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OLDEST_SERVER 130000
#define MOST_SETTINGS 32
#define OUR_SETTINGS 7

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
    if (count % 2 != 0 || count > 2 * (MOST_SETTINGS - OUR_SETTINGS))
        return mdn_fail(err, MDN_INVALID,
                        "%zu settings of a session: %d is "
                        "the most",
                        count / 2, MOST_SETTINGS - OUR_SETTINGS);
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
    mdn_libpq_set_sqlstate(pg, said != NULL || pg->server_version != 0 ? "08001"
                                                                       : "");
    if (PQconnectionNeedsPassword(pg->conn)) /* libpq's words have no code */
        mdn_libpq_set_sqlstate(pg, "28P01");
    if (said == NULL)
        snprintf(reason, sizeof reason,
                 "no server was reached; check host, port and options of the "
                 "connection string (not shown)");
    else
        mdn_libpq_copy_line(split_verbose(pg, said), pg->password, reason,
                            sizeof reason);
    st = mdn_libpq_fail_saying(pg, "cannot connect to Postgres", reason, NULL,
                               err);
    mdn_postgres_drop(pg);
    return st;
}

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
step_until_connected(mdn_postgres *pg, uint64_t end_ns,
                     const mdn_postgres_patience *patience, mdn_error *err)
{
    PostgresPollingStatusType wants = PGRES_POLLING_WRITING;

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
            st = mdn_libpq_wait(pg, events, patience, err);
        if (st != MDN_OK) {
            mdn_postgres_drop(pg);
            mdn_libpq_set_sqlstate(pg, st == MDN_TIMEOUT ? "08001" : "");
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
        "client_min_messages",
        "error",
        "synchronize_seqscans",
        "off",
        /* A server gives up what a dead machine has left open. */
        "tcp_keepalives_idle",
        "30",
        "tcp_keepalives_interval",
        "10",
        "tcp_keepalives_count",
        "4",
        "statement_timeout",
        statement_ms,
        "lock_timeout",
        lock_ms,
    };
    int count = 2 * OUR_SETTINGS;
    size_t used = 0;
    mdn_postgres_outcome outcome;
    mdn_status st;

    snprintf(statement_ms, sizeof statement_ms, "%u", pg->statement_ms);
    snprintf(lock_ms, sizeof lock_ms, "%u", pg->lock_ms);
    for (char **s = pg->settings; s != NULL && *s != NULL; s++)
        params[count++] = *s;
    used +=
        (size_t)snprintf(sql, sizeof sql,
                         "SELECT pg_backend_pid() || ' ' || extract(epoch FROM "
                         "pg_postmaster_start_time()),");
    for (int i = 0; i < count; i += 2)
        used += (size_t)snprintf(sql + used, sizeof sql - used,
                                 " set_config($%d, $%d, false),", i + 1, i + 2);
    /* A commit that was answered must not be forgotten. */
    snprintf(sql + used, sizeof sql - used,
             " CASE WHEN current_setting('synchronous_commit') IN ('off', "
             "'local') THEN set_config('synchronous_commit', 'on', false) "
             "END");
    if ((st =
             mdn_postgres_exec(pg, sql, params, count, patience, &outcome, err))
        == MDN_OK)
        snprintf(pg->session, sizeof pg->session, "%.63s", outcome.value);
    return st;
}

/* The same until end_ns: who has let us in (a pooler, say) need not answer. */
static mdn_status
set_session_until(mdn_postgres *pg, uint64_t end_ns,
                  const mdn_postgres_patience *patience, mdn_error *err)
{
    mdn_postgres_patience brief = {.deadline_ns = end_ns};
    mdn_status st;

    if (patience != NULL) {
        brief = *patience;
        if (brief.deadline_ns == 0 || brief.deadline_ns > end_ns)
            brief.deadline_ns = end_ns;
    }
    st = set_session(pg, &brief, err);
    if (st == MDN_TIMEOUT)
        mdn_libpq_set_sqlstate(pg, "08001");
    return st;
}

mdn_status
mdn_postgres_connect(mdn_postgres *pg, const mdn_postgres_patience *patience,
                     mdn_error *err)
{
    uint64_t end_ns = mdn_steady_ns() + pg->connect_ms * MDN_LIBPQ_NS_PER_MS;
    mdn_status st;

    mdn_postgres_drop(pg);
    pg->limit_ns = 0;
    pg->session[0] = '\0';
    pg->sqlstate[0] = '\0';
    pg->pid = getpid();
    pg->conn = start(pg);
    if (pg->conn == NULL)
        return mdn_fail(err, MDN_NOMEM, "no memory for a connection");
    PQsetNoticeReceiver(pg->conn, ignore_notice, NULL);
    PQsetErrorVerbosity(pg->conn, PQERRORS_VERBOSE); /* tells SQLSTATE */
    if (PQstatus(pg->conn) == CONNECTION_BAD)
        return fail_to_connect(pg, err);
    if ((st = step_until_connected(pg, end_ns, patience, err)) != MDN_OK)
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
        st = mdn_libpq_fail_lost(pg, NULL, err);
    else
        st = set_session_until(pg, end_ns, patience, err);
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
