/* postgres_leave.c - leaving what is going on.
 *
 * libpq can only cancel by waiting for the server, which may be stopped; so a
 * thread of its own does that, and lives for as long as it takes. */
#include "metadata/libpq.h"

#include "base/clock.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

/* Ask the server to stop what it does; wait 50 ms at most until it knows.
 * False if it does not: what comes late would hit the next statement. */
static bool
cancel(mdn_postgres *pg)
{
    cancellation *self = calloc(1, sizeof *self);
    struct timespec ms = {.tv_nsec = 1000000};
    bool done;

    if (self == NULL)
        return false;
    self->cancel = PQgetCancel(pg->conn);
    atomic_init(&self->users, 2);
    atomic_init(&self->done, false);
    if (self->cancel == NULL || !start_detached(run_cancellation, self)) {
        atomic_store(&self->users, 1);
        release_cancellation(self);
        return false;
    }
    for (int i = 0; i < 50 && !atomic_load(&self->done); i++)
        nanosleep(&ms, NULL);
    done = atomic_load(&self->done);
    release_cancellation(self);
    return done;
}

/* Throw away what still comes, for at most 50 ms. */
static void
drain(mdn_postgres *pg)
{
    mdn_postgres_patience brief = {
        .deadline_ns =
            mdn_steady_ns() + MDN_LIBPQ_SLICE_MS * MDN_LIBPQ_NS_PER_MS,
    };
    PGresult *result;

    pg->limit_ns = 0;
    pg->heard_ns = mdn_steady_ns(); /* a probe would take longer */
    while (mdn_libpq_next_result(pg, &brief, &result, NULL) == MDN_OK
           && result != NULL) {
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

/* In 50 ms, or not at all. */
static void
roll_back(mdn_postgres *pg)
{
    mdn_postgres_patience brief = {
        .deadline_ns =
            mdn_steady_ns() + MDN_LIBPQ_SLICE_MS * MDN_LIBPQ_NS_PER_MS,
    };

    mdn_postgres_exec(pg, "ROLLBACK", NULL, 0, &brief, NULL, NULL);
}

void
mdn_postgres_leave(mdn_postgres *pg)
{
    mdn_postgres_state_t state = mdn_postgres_state(pg);
    char sqlstate[sizeof pg->sqlstate];

    memcpy(sqlstate, pg->sqlstate, sizeof sqlstate);
    if (state == MDN_POSTGRES_ACTIVE) {
        if (PQputCopyEnd(pg->conn, "left by the client") > 0 || cancel(pg))
            drain(pg); /* it was a COPY in, or is cancelled */
        else
            mdn_postgres_drop(pg);
        state = mdn_postgres_state(pg);
    }
    if (state == MDN_POSTGRES_INSIDE || state == MDN_POSTGRES_FAILED)
        roll_back(pg);
    if (mdn_postgres_state(pg) != MDN_POSTGRES_READY)
        mdn_postgres_drop(pg);
    memcpy(pg->sqlstate, sqlstate, sizeof sqlstate);
}
