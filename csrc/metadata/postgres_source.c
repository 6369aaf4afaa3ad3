/* postgres_source.c - the tables of a source, and how many samples they hold.
 *
 * No lock is held while a server is waited for: it guards the idle connections
 * and what is known of the tables, nothing else. */
#include "metadata/postgres_source.h"

#include "base/clock.h"
#include "base/random.h"
#include "metadata/postgres_stream.h"
#include "metadata/sqlstate.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS UINT64_C(1000000)
#define SLICE_MS 50
#define WAIT_MIN_MS 50
#define WAIT_MAX_MS 2000
#define COUNT_BLOCK 16384
#define COUNT_MAX ((uint64_t)INT64_MAX)

typedef struct {
    mdn_metadata_source base; /* first: a source is a pg_source */
    atomic_int references;
    mdn_postgres_tables *tables; /* one reference */
    bool filtered;
    mdn_filter filter; /* its labels are owned */
} pg_source;

/* ---- tables ---- */

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
    if ((st = mdn_query_check(&table, &sql, err)) != MDN_OK)
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

/* ---- the source ---- */

static mdn_status
copy_filter(const mdn_filter *from, mdn_filter *to, mdn_error *err)
{
    uint64_t size = from->by_label ? from->label_count * 8 : 0;
    int64_t *labels = malloc(size > 0 ? size : 1);

    if (labels == NULL)
        return mdn_fail_nomem(err, size);
    if (size > 0)
        memcpy(labels, from->labels, size);
    *to = *from;
    to->labels = labels;
    return MDN_OK;
}

/* Of one part, in the server's own count. */
static mdn_status
count_part(pg_source *s, mdn_postgres *pg, uint64_t part, uint64_t first,
           uint64_t last, const mdn_postgres_patience *patience, uint64_t *out,
           mdn_error *err)
{
    mdn_query query = {.table = mdn_postgres_tables_table(s->tables, part),
                       .first = first,
                       .last = last,
                       .filter = s->filtered ? &s->filter : NULL};
    mdn_postgres_outcome outcome;
    char *sql;
    mdn_status st = MDN_OK;

    if (mdn_postgres_state(pg) != MDN_POSTGRES_READY)
        st = mdn_postgres_connect(pg, patience, err);
    if (st != MDN_OK || (st = mdn_query_count(&query, &sql, err)) != MDN_OK)
        return st;
    st = mdn_postgres_exec(pg, sql, NULL, 0, patience, &outcome, err);
    free(sql);
    if (st == MDN_OK)
        *out = strtoull(outcome.value, NULL, 10);
    return st;
}

/* The same, again and again until it is known. */
static mdn_status
ask_part(pg_source *s, uint64_t part, uint64_t first, uint64_t last,
         const mdn_pulse *pulse, uint64_t *out, mdn_error *err)
{
    mdn_postgres_patience patience = {.deadline_ns = 0};
    mdn_postgres_retry retry = {0};
    mdn_postgres *pg;
    mdn_status st = mdn_postgres_tables_take(s->tables, &pg, err);

    if (st != MDN_OK)
        return st;
    if (pulse != NULL)
        patience.pulse = *pulse;
    do {
        st = count_part(s, pg, part, first, last, &patience, out, err);
        if (st == MDN_OK)
            break;
        st = mdn_postgres_retry_wait(&retry, s->tables->options.retry_ms, pg,
                                     pulse, st, err);
    } while (st == MDN_OK);
    mdn_postgres_tables_give(s->tables, pg);
    return st;
}

/* What the server cannot count: bits, and filters of blocks. */
static mdn_status
count_stream(pg_source *s, uint64_t first, uint64_t last,
             const mdn_pulse *pulse, uint64_t *out, mdn_error *err)
{
    mdn_metadata_stream *stream;
    mdn_status st = s->base.open(&s->base, first, last, COUNT_BLOCK,
                                 MDN_WANT_KEYS, pulse, &stream, err);

    if (st != MDN_OK)
        return st;
    st = mdn_filter_count(stream, out, err);
    stream->free(stream);
    return st;
}

static mdn_status
source_living(mdn_metadata_source *source, uint64_t first, uint64_t last,
              const mdn_pulse *pulse, uint64_t *out, mdn_error *err)
{
    pg_source *s = (pg_source *)source;
    const mdn_postgres_source_options *o = &s->tables->options;
    uint64_t total = 0;

    while (first < last) {
        uint64_t index = mdn_postgres_tables_find(s->tables, first);
        const mdn_postgres_part *part = &o->parts[index];
        uint64_t end = part->first + part->count, count;
        mdn_status st = MDN_OK;

        end = end < last ? end : last;
        if (!s->filtered && end - first == part->count)
            count = part->count - part->erased;
        else if (!s->filtered && part->erased == 0)
            count = end - first;
        else if (o->blocks)
            st = count_stream(s, first, end, pulse, &count, err);
        else
            st = ask_part(s, index, first, end, pulse, &count, err);
        if (st != MDN_OK)
            return st;
        total += count;
        first = end;
    }
    *out = total;
    return MDN_OK;
}

static mdn_status
source_open(mdn_metadata_source *source, uint64_t first, uint64_t last,
            uint64_t block_count, mdn_wanted wanted, const mdn_pulse *pulse,
            mdn_metadata_stream **out, mdn_error *err)
{
    pg_source *s = (pg_source *)source;
    const mdn_filter *filter = s->filtered ? &s->filter : NULL;
    mdn_metadata_stream *stream;
    mdn_status st;

    *out = NULL;
    if (first > last || last > source->count || block_count == 0)
        return mdn_fail(err, MDN_INVALID,
                        "positions %" PRIu64 " to %" PRIu64
                        " in blocks of %" PRIu64 "; the source has %" PRIu64,
                        first, last, block_count, source->count);
    if (filter != NULL && filter->by_label && !source->has_labels)
        return mdn_fail(err, MDN_INVALID,
                        "the samples have no labels to choose by");
    if (filter != NULL && s->tables->options.blocks) {
        if (filter->has_start || filter->has_stop)
            wanted |= MDN_WANT_TIMESTAMPS;
        if (filter->by_label)
            wanted |= MDN_WANT_LABELS;
    }
    st = mdn_postgres_stream_new(s->tables, filter, first, last, block_count,
                                 wanted, pulse, &stream, err);
    if (st == MDN_OK && filter != NULL && s->tables->options.blocks)
        return mdn_filter_stream(stream, first, filter, out, err);
    *out = stream;
    return st;
}

static mdn_metadata_source *
source_retain(mdn_metadata_source *source)
{
    atomic_fetch_add(&((pg_source *)source)->references, 1);
    return source;
}

static void
source_release(mdn_metadata_source *source)
{
    pg_source *s = (pg_source *)source;

    if (atomic_fetch_sub(&s->references, 1) > 1)
        return;
    mdn_postgres_tables_release(s->tables);
    free((void *)s->filter.labels);
    free(s);
}

/* Takes over a reference to the tables, also when it fails. */
static mdn_status
new_source(mdn_postgres_tables *tables, pg_source **out, mdn_error *err)
{
    pg_source *s = calloc(1, sizeof *s);

    *out = s;
    if (s == NULL) {
        mdn_postgres_tables_release(tables);
        return mdn_fail_nomem(err, sizeof *s);
    }
    s->base = (mdn_metadata_source){.count = tables->count,
                                    .has_labels = tables->options.has_labels,
                                    .living = source_living,
                                    .open = source_open,
                                    .retain = source_retain,
                                    .release = source_release};
    atomic_init(&s->references, 1);
    s->tables = tables;
    return MDN_OK;
}

/* ---- making one ---- */

static mdn_status
check_parts(const mdn_postgres_source_options *o, uint64_t *count,
            mdn_error *err)
{
    *count = 0;
    for (uint64_t i = 0; i < o->part_count; i++) {
        const mdn_postgres_part *part = &o->parts[i];

        if (!mdn_query_is_name(part->table))
            return mdn_fail(err, MDN_INVALID,
                            "part %" PRIu64 ": not the name of a table of ours",
                            i);
        if (part->first != *count || part->count == 0
            || part->count > COUNT_MAX - *count || part->erased > part->count)
            return mdn_fail(
                err, MDN_INVALID,
                "%s: %" PRIu64 " positions from %" PRIu64 " on, %" PRIu64
                " of them erased, cannot follow position %" PRIu64,
                part->table, part->count, part->first, part->erased, *count);
        *count += part->count;
    }
    return MDN_OK;
}

/* A copy of NULL-terminated strings; NULL without memory. */
static const char *const *
copy_strings(const char *const *strings)
{
    size_t count = 0;
    char **copy;

    while (strings[count] != NULL)
        count++;
    if ((copy = calloc(count + 1, sizeof *copy)) == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        if ((copy[i] = strdup(strings[i])) == NULL) {
            while (i > 0)
                free(copy[--i]);
            free(copy);
            return NULL;
        }
    }
    return (const char *const *)copy;
}

static mdn_status
copy_options(const mdn_postgres_source_options *from,
             mdn_postgres_source_options *to, mdn_error *err)
{
    const char *const *settings = from->connection.settings;
    mdn_postgres_part *parts;

    *to = *from;
    to->connection.settings = NULL;
    to->parts = NULL;
    to->connection.conninfo = strdup(from->connection.conninfo);
    if (settings != NULL)
        to->connection.settings = copy_strings(settings);
    parts = calloc(from->part_count + 1, sizeof *parts);
    to->parts = parts;
    if (to->connection.conninfo == NULL || parts == NULL
        || (settings != NULL && to->connection.settings == NULL))
        return mdn_fail(err, MDN_NOMEM, "no memory for a source");
    for (uint64_t i = 0; i < from->part_count; i++) {
        parts[i] = from->parts[i];
        if ((parts[i].table = strdup(from->parts[i].table)) == NULL)
            return mdn_fail(err, MDN_NOMEM, "no memory for a source");
    }
    return MDN_OK;
}

/* Whether a connection can be made of them, in form. */
static mdn_status
try_options(mdn_postgres_tables *tables, mdn_error *err)
{
    mdn_postgres *pg;
    mdn_status st = mdn_postgres_tables_take(tables, &pg, err);

    if (st == MDN_OK)
        mdn_postgres_free(pg);
    return st;
}

mdn_status
mdn_postgres_source_new(const mdn_postgres_source_options *options,
                        mdn_metadata_source **out, mdn_error *err)
{
    mdn_postgres_tables *tables;
    pg_source *source;
    uint64_t count;
    mdn_status st;

    *out = NULL;
    if ((st = check_parts(options, &count, err)) != MDN_OK)
        return st;
    if ((tables = calloc(1, sizeof *tables)) == NULL)
        return mdn_fail_nomem(err, sizeof *tables);
    atomic_init(&tables->references, 1);
    pthread_mutex_init(&tables->lock, NULL);
    tables->pid = getpid();
    tables->count = count;
    tables->known = calloc(options->part_count + 1, 1);
    st = copy_options(options, &tables->options, err);
    if (st == MDN_OK && tables->known == NULL)
        st = mdn_fail(err, MDN_NOMEM, "no memory for a source");
    if (st == MDN_OK)
        st = try_options(tables, err);
    if (st != MDN_OK) {
        mdn_postgres_tables_release(tables);
        return st;
    }
    if ((st = new_source(tables, &source, err)) == MDN_OK)
        *out = &source->base;
    return st;
}

mdn_status
mdn_postgres_source_where(mdn_metadata_source *source, const mdn_filter *filter,
                          mdn_metadata_source **out, mdn_error *err)
{
    pg_source *from = (pg_source *)source, *to;
    mdn_status st;

    *out = NULL;
    st = new_source(mdn_postgres_tables_retain(from->tables), &to, err);
    if (st != MDN_OK)
        return st;
    if ((st = copy_filter(filter, &to->filter, err)) != MDN_OK) {
        source_release(&to->base);
        return st;
    }
    to->filtered = true;
    *out = &to->base;
    return MDN_OK;
}
