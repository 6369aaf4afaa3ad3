/* postgres_tables.c - the tables of a source, the idle connections to them, and
 * trying again.
 *
 * No lock is held while a server is waited for: it guards the idle connections
 * and what is known of the tables, nothing else. */
#include "base/clock.h"
#include "base/random.h"
#include "metadata/postgres_stream.h"
#include "metadata/sqlstate.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS UINT64_C(1000000)
#define SLICE_MS 50
#define WAIT_MIN_MS 50
#define WAIT_MAX_MS 2000

mdn_postgres_tables *
mdn_postgres_tables_retain(mdn_postgres_tables *tables)
{
    atomic_fetch_add(&tables->references, 1);
    return tables;
}

void
mdn_postgres_tables_release(mdn_postgres_tables *tables)
{
    mdn_postgres_source_options *o = &tables->options;

    if (atomic_fetch_sub(&tables->references, 1) > 1)
        return;
    for (int i = 0; i < tables->idle_count; i++)
        mdn_postgres_free(tables->idle[i]);
    pthread_mutex_destroy(&tables->lock);
    for (uint64_t i = 0; o->parts != NULL && i < o->part_count; i++)
        free((char *)o->parts[i].table);
    free((void *)o->parts);
    free((char *)o->connection.conninfo);
    for (size_t i = 0;
         o->connection.settings != NULL && o->connection.settings[i] != NULL;
         i++)
        free((char *)o->connection.settings[i]);
    free((void *)o->connection.settings);
    free(tables->known);
    free(tables->pages);
    free(tables);
}

mdn_status
mdn_postgres_tables_take(mdn_postgres_tables *tables, mdn_postgres **out,
                         mdn_error *err)
{
    *out = NULL;
    pthread_mutex_lock(&tables->lock);
    if (tables->pid == getpid() && tables->idle_count > 0)
        *out = tables->idle[--tables->idle_count];
    pthread_mutex_unlock(&tables->lock);
    return *out != NULL
               ? MDN_OK
               : mdn_postgres_new(&tables->options.connection, out, err);
}

void
mdn_postgres_tables_give(mdn_postgres_tables *tables, mdn_postgres *pg)
{
    if (pg == NULL)
        return;
    mdn_postgres_leave(pg);
    if (mdn_postgres_state(pg) == MDN_POSTGRES_READY) {
        pthread_mutex_lock(&tables->lock);
        if (tables->pid == getpid()
            && tables->idle_count < MDN_POSTGRES_IDLE_MAX) {
            tables->idle[tables->idle_count++] = pg;
            pg = NULL;
        }
        pthread_mutex_unlock(&tables->lock);
    }
    mdn_postgres_free(pg);
}

uint64_t
mdn_postgres_tables_find(const mdn_postgres_tables *tables, uint64_t position)
{
    const mdn_postgres_part *parts = tables->options.parts;
    uint64_t low = 0, high = tables->options.part_count;

    while (high - low > 1) { /* parts[low].first <= position */
        uint64_t middle = low + (high - low) / 2;

        if (parts[middle].first <= position)
            low = middle;
        else
            high = middle;
    }
    return low;
}

mdn_query_table
mdn_postgres_tables_table(const mdn_postgres_tables *tables, uint64_t part)
{
    const mdn_postgres_source_options *o = &tables->options;

    return (mdn_query_table){.name = o->parts[part].table,
                             .blocks = o->blocks,
                             .position = o->has_keys ? "position" : "key",
                             .has_keys = o->has_keys,
                             .has_labels = o->has_labels};
}

uint8_t
mdn_postgres_tables_known(mdn_postgres_tables *tables, uint64_t part)
{
    uint8_t known;

    pthread_mutex_lock(&tables->lock);
    known = tables->known[part];
    pthread_mutex_unlock(&tables->lock);
    return known;
}

void
mdn_postgres_tables_note(mdn_postgres_tables *tables, uint64_t part,
                         uint8_t bits)
{
    pthread_mutex_lock(&tables->lock);
    tables->known[part] |= bits;
    pthread_mutex_unlock(&tables->lock);
}

bool
mdn_postgres_tables_full(const mdn_postgres_tables *tables, uint64_t part)
{
    const mdn_postgres_source_options *o = &tables->options;

    /* Tables are filled one after the other, each with as many positions. */
    return part + 1 < o->part_count
           || (part > 0 && o->parts[part].count == o->parts[0].count);
}

mdn_status
mdn_postgres_tables_check(mdn_postgres_tables *tables, mdn_postgres *pg,
                          uint64_t index, const mdn_postgres_patience *patience,
                          mdn_error *err)
{
    const mdn_postgres_part *part = &tables->options.parts[index];
    mdn_query_table table = mdn_postgres_tables_table(tables, index);
    uint64_t due = part->count - (table.blocks ? 0 : part->erased);
    unsigned long long count, disorder;
    mdn_postgres_outcome outcome;
    char *sql, *end;
    mdn_status st;

    if (mdn_postgres_tables_known(tables, index) & MDN_POSTGRES_COUNTED)
        return MDN_OK;
    if ((st = mdn_query_check(&table, part->first + part->count, &sql, err))
        != MDN_OK)
        return st;
    st = mdn_postgres_exec(pg, sql, NULL, 0, patience, &outcome, err);
    free(sql);
    if (st != MDN_OK)
        return st;
    count = strtoull(outcome.value, &end, 10);
    disorder = strtoull(end, NULL, 10);
    if (count != due)
        return mdn_fail(err, MDN_CORRUPT,
                        "%s holds %llu samples at positions %" PRIu64
                        " to %" PRIu64 " where %" PRIu64
                        " are due; if samples were erased meanwhile, open the "
                        "source again",
                        part->table, count, part->first,
                        part->first + part->count - 1, due);
    mdn_postgres_tables_note(tables, index,
                             disorder == 0 ? MDN_POSTGRES_COUNTED
                                           : MDN_POSTGRES_COUNTED
                                                 | MDN_POSTGRES_UNSORTED);
    return MDN_OK;
}

mdn_status
mdn_postgres_tables_pages(mdn_postgres_tables *tables, mdn_postgres *pg,
                          uint64_t part, const mdn_postgres_patience *patience,
                          uint64_t *out, mdn_error *err)
{
    mdn_query_table table = mdn_postgres_tables_table(tables, part);
    mdn_postgres_outcome outcome;
    mdn_status st;
    char *sql;

    pthread_mutex_lock(&tables->lock);
    *out = tables->pages[part];
    pthread_mutex_unlock(&tables->lock);
    if (*out > 0)
        return MDN_OK;
    if ((st = mdn_query_pages(&table, &sql, err)) != MDN_OK)
        return st;
    st = mdn_postgres_exec(pg, sql, NULL, 0, patience, &outcome, err);
    free(sql);
    if (st != MDN_OK)
        return st;
    *out = strtoull(outcome.value, NULL, 10);
    pthread_mutex_lock(&tables->lock);
    tables->pages[part] = *out;
    pthread_mutex_unlock(&tables->lock);
    return MDN_OK;
}

/* ---- trying again ---- */

static mdn_status
sleep_asking(uint64_t wait_ms, const mdn_pulse *pulse, mdn_error *err)
{
    uint64_t end_ns = mdn_steady_ns() + wait_ms * NS_PER_MS;
    mdn_status st = mdn_pulse_ask(pulse, err);

    while (st == MDN_OK && mdn_steady_ns() < end_ns) {
        uint64_t left_ns = end_ns - mdn_steady_ns();
        struct timespec slice = {.tv_nsec = SLICE_MS * (long)NS_PER_MS};

        if (left_ns < SLICE_MS * NS_PER_MS)
            slice.tv_nsec = (long)left_ns;
        nanosleep(&slice, NULL);
        st = mdn_pulse_ask(pulse, err);
    }
    return st;
}

mdn_status
mdn_postgres_retry_wait(mdn_postgres_retry *retry, uint32_t retry_ms,
                        mdn_postgres *pg, const mdn_pulse *pulse,
                        mdn_status status, mdn_error *err)
{
    uint64_t now_ns = mdn_steady_ns(), wait_ms;
    bool passes = (status == MDN_DATABASE || status == MDN_TIMEOUT)
                  && pg != NULL
                  && mdn_sqlstate_may_pass(mdn_postgres_sqlstate(pg));

    if (pg != NULL)
        mdn_postgres_drop(pg);
    if (retry->until_ns == 0) {
        retry->until_ns = now_ns + retry_ms * NS_PER_MS;
        retry->wait_ms = WAIT_MIN_MS;
    }
    if (!passes || now_ns >= retry->until_ns)
        return status;
    /* 75 to 125 percent, so that many who lost a server come back apart. */
    wait_ms = retry->wait_ms * (75 + mdn_mix(now_ns) % 51) / 100;
    if (retry->wait_ms < WAIT_MAX_MS)
        retry->wait_ms *= 2;
    return sleep_asking(wait_ms, pulse, err);
}
