/* batch.c - see batch.h.
 *
 * attempt() goes once through the transaction, may_pass() decides whether it
 * is done again.  The answer to COMMIT counts only with the tag COMMIT: a
 * failed transaction answers it, too, with ROLLBACK. */
#include "metadata/batch.h"

#include "base/clock.h"
#include "metadata/sqlstate.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define NS_PER_MS UINT64_C(1000000)
#define SLICE_MS 50
#define FIRST_DELAY_MS 50
#define LAST_DELAY_MS 2000

typedef struct {
    mdn_postgres *pg;
    const mdn_postgres_work *work;
    mdn_postgres_patience patience;
    bool committing; /* COMMIT was sent, and not answered */
    bool fresh;
    int attempts;
} batch;

/* Fail with where it was before what is already said. */
static mdn_status
fail_at(const char *where, mdn_status st, mdn_error *err)
{
    char said[sizeof err->message];

    if (err == NULL || (st != MDN_DATABASE && st != MDN_INVALID))
        return st;
    memcpy(said, err->message, sizeof said);
    return mdn_fail(err, st, "%s: %s", where, said);
}

/* Statements. ------------------------------------------------------------- */

static bool
is_fence(const mdn_postgres_statement *statement)
{
    static const char fence[] = MDN_POSTGRES_FENCE;

    return strncmp(statement->sql, fence, sizeof fence - 1) == 0;
}

static mdn_status
run_statement(batch *self, const mdn_postgres_statement *statement,
              mdn_error *err)
{
    mdn_postgres_outcome outcome;
    mdn_status st = mdn_postgres_exec(self->pg, statement->sql,
                                      statement->params, statement->param_count,
                                      &self->patience, &outcome, err);

    if (st != MDN_OK || statement->rows < 0 || statement->rows == outcome.rows)
        return st;
    if (is_fence(statement))
        return mdn_fail(err, MDN_FENCED,
                        "another process has taken this pipeline over; this "
                        "one may not write any more");
    return mdn_fail(err, MDN_DATABASE,
                    "%.80s: affected or returned %lld rows, and must %lld",
                    statement->sql, (long long)outcome.rows,
                    (long long)statement->rows);
}

static mdn_status
run_statements(batch *self, const mdn_postgres_statement *statements,
               size_t first, size_t last, mdn_error *err)
{
    mdn_status st = MDN_OK;

    for (size_t i = first; i < last && st == MDN_OK; i++)
        st = run_statement(self, &statements[i], err);
    return st;
}

/* COPY. ------------------------------------------------------------------- */

/* "COPY into modyn.t": the table's name is the second word. */
static void
name_copy(const char *sql, char *out, size_t size)
{
    size_t skip = strcspn(sql, " ");

    skip += strspn(sql + skip, " ");
    snprintf(out, size, "COPY into %.*s", (int)strcspn(sql + skip, " ("),
             sql + skip);
}

static mdn_status
put_rows(batch *self, mdn_encoder *encoder, uint64_t rows, mdn_error *err)
{
    const void *piece;
    size_t size;
    mdn_status st;

    while ((st = mdn_encoder_next(encoder, &piece, &size, err)) == MDN_OK
           && size > 0) {
        st = mdn_postgres_put(self->pg, piece, size, &self->patience, err);
        if (st != MDN_OK)
            return st;
    }
    if (st != MDN_OK)
        return st;
    return mdn_postgres_copy_end(self->pg, rows, &self->patience, err);
}

static mdn_status
run_copy(batch *self, const mdn_postgres_copy *copy, mdn_error *err)
{
    mdn_encoder *encoder;
    char where[96], place[160];
    mdn_status st;

    name_copy(copy->sql, where, sizeof where);
    st = mdn_encoder_new(copy->columns, copy->column_count, copy->rows,
                         &encoder, err);
    if (st != MDN_OK)
        return fail_at(where, st, err);
    st = mdn_postgres_copy_in(self->pg, copy->sql, &self->patience, err);
    if (st == MDN_OK) {
        st = put_rows(self, encoder, copy->rows, err);
        snprintf(place, sizeof place,
                 "%s failed after %llu of %llu rows were sent", where,
                 (unsigned long long)mdn_encoder_rows(encoder),
                 (unsigned long long)copy->rows);
        st = fail_at(place, st, err);
    }
    mdn_encoder_free(encoder);
    return st;
}

/* The transaction. -------------------------------------------------------- */

/* False in *fresh: the id is there already. */
static mdn_status
insert_id(batch *self, mdn_error *err)
{
    mdn_postgres_outcome outcome;
    mdn_status st;

    self->fresh = true;
    if (self->work->id == NULL)
        return MDN_OK;
    st = mdn_postgres_exec(
        self->pg,
        "INSERT INTO modyn.batches (id) VALUES ($1) ON CONFLICT DO NOTHING",
        &self->work->id, 1, &self->patience, &outcome, err);
    self->fresh = st != MDN_OK || outcome.rows == 1;
    return st;
}

static mdn_status
run_work(batch *self, mdn_error *err)
{
    const mdn_postgres_work *work = self->work;
    size_t fences = work->before_count > 0 && is_fence(&work->before[0]);
    mdn_status st;

    if ((st = run_statements(self, work->before, 0, fences, err)) != MDN_OK
        || (st = insert_id(self, err)) != MDN_OK || !self->fresh)
        return st;
    st = run_statements(self, work->before, fences, work->before_count, err);
    for (size_t i = 0; i < work->copy_count && st == MDN_OK; i++)
        st = run_copy(self, &work->copies[i], err);
    if (st == MDN_OK)
        st = run_statements(self, work->after, 0, work->after_count, err);
    return st;
}

static mdn_status
commit(batch *self, mdn_error *err)
{
    mdn_postgres_outcome outcome;
    mdn_status st;

    /* COMMIT would be answered with COMMIT here, too. */
    if (mdn_postgres_state(self->pg) != MDN_POSTGRES_INSIDE)
        return mdn_fail(err, MDN_DATABASE,
                        "a statement of the batch has ended its transaction");
    self->committing = true;
    st = mdn_postgres_exec(self->pg, "COMMIT", NULL, 0, &self->patience,
                           &outcome, err);
    /* A server that refuses and stays has rolled back. */
    if (st == MDN_OK
        || (st == MDN_DATABASE
            && mdn_postgres_state(self->pg) == MDN_POSTGRES_READY))
        self->committing = false;
    if (st == MDN_OK && strcmp(outcome.tag, "COMMIT") != 0)
        return mdn_fail(err, MDN_DATABASE,
                        "COMMIT was answered with %s: nothing was committed",
                        outcome.tag);
    return st;
}

static mdn_status
attempt(batch *self, mdn_error *err)
{
    mdn_status st = MDN_OK;

    self->attempts++;
    self->committing = false;
    if (mdn_postgres_state(self->pg) != MDN_POSTGRES_READY)
        st = mdn_postgres_connect(self->pg, &self->patience, err);
    if (st == MDN_OK)
        st = mdn_postgres_exec(self->pg, "BEGIN", NULL, 0, &self->patience,
                               NULL, err);
    if (st == MDN_OK)
        st = run_work(self, err);
    if (st == MDN_OK && self->fresh)
        return commit(self, err);
    return st;
}

/* Again. ------------------------------------------------------------------ */

/* Whether what failed may succeed when done again. */
static bool
may_pass(const batch *self, mdn_status st)
{
    if (st != MDN_DATABASE && st != MDN_TIMEOUT)
        return false;
    if (self->committing && self->work->id == NULL)
        return false;
    return mdn_sqlstate_may_pass(mdn_postgres_sqlstate(self->pg));
}

static mdn_status
pause_for(batch *self, uint64_t delay_ns, mdn_error *err)
{
    uint64_t end_ns = mdn_steady_ns() + delay_ns, now_ns;
    mdn_status st = MDN_OK;

    while (st == MDN_OK && (now_ns = mdn_steady_ns()) < end_ns) {
        uint64_t left_ns = end_ns - now_ns;
        struct timespec slice = {
            .tv_nsec =
                (long)(left_ns < SLICE_MS * NS_PER_MS ? left_ns
                                                      : SLICE_MS * NS_PER_MS),
        };

        nanosleep(&slice, NULL);
        if (self->work->pulse.ask != NULL)
            st = self->work->pulse.ask(self->work->pulse.ctx, err);
    }
    return st;
}

/* Some attempts come together: three quarters to five quarters of it. */
static uint64_t
jittered(uint64_t delay_ns)
{
    uint64_t noise = mdn_steady_ns() * UINT64_C(0x9E3779B97F4A7C15) >> 40;

    return delay_ns / 4 * 3 + delay_ns / 2 * (noise & 0xffff) / 0xffff;
}

/* Say that it was the last of several attempts, or that nobody knows. */
static mdn_status
give_up(const batch *self, mdn_status st, mdn_error *err)
{
    char where[128];

    if (st != MDN_DATABASE && st != MDN_TIMEOUT)
        return st; /* what the pulse said, or a value that does not fit */
    if (self->committing && self->work->id == NULL)
        return fail_at("COMMIT was not answered: the outcome is unknown, and "
                       "without a batch id it cannot be found out",
                       MDN_DATABASE, err);
    if (st == MDN_TIMEOUT) /* of connecting */
        st = MDN_DATABASE;
    if (self->attempts < 2)
        return st;
    snprintf(where, sizeof where, "given up after %d attempts; the last",
             self->attempts);
    return fail_at(where, st, err);
}

mdn_status
mdn_postgres_batch(mdn_postgres *pg, const mdn_postgres_work *work, bool *fresh,
                   mdn_error *err)
{
    batch self = {
        .pg = pg,
        .work = work,
        .patience = {.pulse = work->pulse},
    };
    uint64_t delay_ns = FIRST_DELAY_MS * NS_PER_MS, end_ns = 0;
    mdn_status st;

    *fresh = false;
    while ((st = attempt(&self, err)) != MDN_OK) {
        uint64_t pause_ns = jittered(delay_ns);
        bool again = may_pass(&self, st);

        mdn_postgres_leave(pg);
        if (end_ns == 0)
            end_ns = mdn_steady_ns() + work->retry_ms * NS_PER_MS;
        if (!again || mdn_steady_ns() + pause_ns > end_ns)
            return give_up(&self, st, err);
        if ((st = pause_for(&self, pause_ns, err)) != MDN_OK)
            return st;
        delay_ns = 2 * delay_ns < LAST_DELAY_MS * NS_PER_MS
                       ? 2 * delay_ns
                       : LAST_DELAY_MS * NS_PER_MS;
    }
    if (!self.fresh)
        mdn_postgres_leave(pg);
    *fresh = self.fresh;
    return MDN_OK;
}
