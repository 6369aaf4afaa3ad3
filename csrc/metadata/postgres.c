/* postgres.c - connecting to Postgres without waiting for ever, or telling
 * secrets.
 *
 * libpq connects in steps: PQconnectPoll says which event of its socket it
 * needs, and is called again after that event.  The waiting is ours, so that
 * the caller can bound it and look at signals in between.
 *
 * A connection string with an unescaped '@', '/' or space in its password is
 * split in the wrong places, and libpq's message then quotes a piece of the
 * password as a host or a port.  So its messages are not passed on as they
 * are.  After "failed: " speaks the server or the system, and what it says is
 * kept, less the password; before that only we speak. */
#include "metadata/postgres.h"

#include <assert.h>
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct mdn_postgres {
    PGconn *conn;
    char *password; /* owned; NULL without one */
    PostgresPollingStatusType wants;
};

static int64_t
now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A piece of a misread URI: host, port and name of a database hold no '@'. */
static bool
is_misread(const PQconninfoOption *option)
{
    static const char *const plain[] = {"host", "hostaddr", "port", "dbname"};

    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        if (strcmp(option->keyword, plain[i]) == 0)
            return option->val != NULL && strchr(option->val, '@') != NULL;
    }
    return false;
}

/* Check conninfo and keep its password, to be able not to say it. */
static mdn_status
read_conninfo(const char *conninfo, char **password, mdn_error *err)
{
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    mdn_status st = MDN_OK;

    if (options == NULL)
        return mdn_fail(err, MDN_INVALID,
                        "conninfo: expected keyword=value pairs or a "
                        "postgresql:// URI that libpq can read");
    for (PQconninfoOption *o = options; o->keyword != NULL; o++) {
        if (is_misread(o)) {
            st = mdn_fail(err, MDN_INVALID,
                          "conninfo: %s holds an '@'; in a URI write %%40 "
                          "for an '@' in the user name or password",
                          o->keyword);
            break;
        }
        if (strcmp(o->keyword, "password") == 0 && o->val != NULL
            && o->val[0] != '\0' && (*password = strdup(o->val)) == NULL) {
            st = mdn_fail_nomem(err, strlen(o->val) + 1);
            break;
        }
    }
    PQconninfoFree(options);
    return st;
}

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

static mdn_status
fail_to_connect(const mdn_postgres *pg, mdn_error *err)
{
    static const char mark[] = "failed: ";
    char reason[256];
    const char *text = PQerrorMessage(pg->conn);
    const char *said = NULL;

    /* With several hosts there are several: the last one counts. */
    for (const char *at = text; (at = strstr(at, mark)) != NULL;)
        said = at += sizeof mark - 1;
    if (said == NULL)
        return mdn_fail(err, MDN_DATABASE,
                        "cannot connect to Postgres: no server was reached; "
                        "check host, port and options of the connection "
                        "string (not shown)");
    copy_line_without(said, pg->password, reason, sizeof reason);
    return mdn_fail(err, MDN_DATABASE, "cannot connect to Postgres: %s",
                    reason);
}

int
mdn_postgres_libpq_version(void)
{
    return PQlibVersion();
}

mdn_status
mdn_postgres_start(const char *conninfo, mdn_postgres **out, mdn_error *err)
{
    mdn_postgres *pg = calloc(1, sizeof *pg);
    mdn_status st;

    *out = NULL;
    if (pg == NULL)
        return mdn_fail_nomem(err, sizeof *pg);
    if ((st = read_conninfo(conninfo, &pg->password, err)) != MDN_OK)
        goto fail;

    pg->conn = PQconnectStart(conninfo);
    if (pg->conn == NULL) {
        st = mdn_fail(err, MDN_NOMEM, "no memory for a connection");
        goto fail;
    }
    if (PQstatus(pg->conn) == CONNECTION_BAD) {
        st = fail_to_connect(pg, err);
        goto fail;
    }
    pg->wants = PGRES_POLLING_WRITING; /* as PQconnectStart's manual says */

    *out = pg;
    return MDN_OK;

fail:
    mdn_postgres_free(pg);
    return st;
}

mdn_status
mdn_postgres_wait(mdn_postgres *pg, int wait_ms, mdn_error *err)
{
    int64_t end_ms = now_ms() + wait_ms;

    while (pg->wants != PGRES_POLLING_OK) {
        int64_t left_ms = end_ms - now_ms();
        struct pollfd event = {
            .fd = PQsocket(pg->conn), /* may change between two steps */
            .events = pg->wants == PGRES_POLLING_READING ? POLLIN : POLLOUT,
        };
        int ready = poll(&event, 1, left_ms > 0 ? (int)left_ms : 0);

        if (ready < 0 && errno != EINTR)
            return mdn_fail_errno(err, errno, "waiting for Postgres");
        if (ready <= 0)
            return MDN_TIMEOUT; /* after a signal, too: the caller looks */
        pg->wants = PQconnectPoll(pg->conn);
        if (pg->wants == PGRES_POLLING_FAILED)
            return fail_to_connect(pg, err);
    }
    return MDN_OK;
}

mdn_status
mdn_postgres_server_version(const mdn_postgres *pg, int *out, mdn_error *err)
{
    int version;

    assert(pg->wants == PGRES_POLLING_OK);
    if ((version = PQserverVersion(pg->conn)) == 0)
        return mdn_fail(err, MDN_DATABASE,
                        "the connection to Postgres is lost");
    *out = version;
    return MDN_OK;
}

void
mdn_postgres_free(mdn_postgres *pg)
{
    if (pg == NULL)
        return;
    PQfinish(pg->conn); /* accepts NULL */
    free(pg->password);
    free(pg);
}
