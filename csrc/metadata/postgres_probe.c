/* postgres_probe.c - is a server that says nothing still at work for us?
 *
 * A statement may rightly take hours, and a connection whose other end has
 * silently gone looks the same (keepalives find a dead machine, but not a
 * proxy that has lost its way).  So after 20 s without a word a second
 * connection asks the server what our session does.  If it is not there, or
 * waits for us while we wait for it, the first connection is given up.  Where
 * that cannot be learnt, the wait goes on. */
#include "metadata/libpq.h"

#include "base/clock.h"

#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#define PROBE_MS 10000

/* What is the session waiting for?  No row: it is another server. */
static const char question[] =
    "SELECT CASE WHEN count(*) = 0 THEN 'gone' ELSE "
    "coalesce(max(wait_event), '') END FROM pg_stat_activity "
    "WHERE pid = split_part($1, ' ', 1)::int HAVING "
    "extract(epoch FROM pg_postmaster_start_time())::text "
    "= split_part($1, ' ', 2)";

/* Whether something that we sent has not yet been taken off our hands. */
static bool
is_sending(const mdn_postgres *pg)
{
    int unsent = 0;

    return ioctl(PQsocket(pg->conn), SIOCOUTQ, &unsent) != 0 || unsent > 0;
}

/* What it said last may still be on its way: a second more. */
static mdn_status
hear(mdn_postgres *pg, const mdn_postgres_patience *patience, bool *heard,
     mdn_error *err)
{
    struct pollfd event = {.fd = PQsocket(pg->conn), .events = POLLIN};
    mdn_status st = MDN_OK;

    *heard = false;
    for (int i = 0; i < 20 && st == MDN_OK && !*heard; i++) {
        *heard = poll(&event, 1, MDN_LIBPQ_SLICE_MS) > 0;
        st = mdn_libpq_ask(pg, patience, false, err);
    }
    return st;
}

static mdn_status
ask_server(const mdn_postgres *pg, const mdn_postgres_patience *patience,
           mdn_postgres_outcome *outcome, mdn_error *err)
{
    mdn_postgres_options options = {
        .conninfo = pg->conninfo,
        .connect_ms = PROBE_MS,
        .bare = true,
    };
    const char *params[] = {pg->session};
    mdn_postgres_patience brief = *patience;
    mdn_postgres *other;
    mdn_status st = mdn_postgres_new(&options, &other, err);

    if (st != MDN_OK)
        return st;
    brief.deadline_ns = mdn_steady_ns() + PROBE_MS * MDN_LIBPQ_NS_PER_MS;
    st = mdn_postgres_connect(other, &brief, err);
    if (st == MDN_OK)
        st =
            mdn_postgres_exec(other, question, params, 1, &brief, outcome, err);
    mdn_postgres_free(other);
    return st;
}

mdn_status
mdn_libpq_probe(mdn_postgres *pg, const mdn_postgres_patience *patience,
                mdn_error *err)
{
    static const mdn_postgres_patience none;
    mdn_postgres_outcome outcome = {.rows = 0};
    mdn_error said = {.message = ""};
    mdn_status st;
    bool heard;

    if (is_sending(pg))
        return MDN_OK;
    st = ask_server(pg, patience != NULL ? patience : &none, &outcome, &said);
    if (st == MDN_DATABASE || st == MDN_TIMEOUT || st == MDN_NOMEM)
        return MDN_OK;
    if (st != MDN_OK) {
        if (err != NULL)
            *err = said;
        return st;
    }
    if (outcome.rows == 0
        || (strcmp(outcome.value, "gone") != 0
            && strcmp(outcome.value, "ClientRead") != 0
            && strcmp(outcome.value, "ClientWrite") != 0))
        return MDN_OK;
    if ((st = hear(pg, patience, &heard, err)) != MDN_OK || heard)
        return st;
    mdn_postgres_drop(pg);
    mdn_libpq_set_sqlstate(pg, "08006");
    return mdn_libpq_fail_saying(pg, NULL,
                                 "the connection to the server is dead, though "
                                 "nobody said so: its session does not work "
                                 "for us any more",
                                 NULL, err);
}
