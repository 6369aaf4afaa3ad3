/* postgres_source.c - a source over tables: making it, its streams, and how
 * many samples they hold. */
#include "metadata/postgres_source.h"

#include "metadata/postgres_stream.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT_BLOCK 16384
#define COUNT_MAX ((uint64_t)INT64_MAX)

typedef struct {
    mdn_metadata_source base; /* first: a source is a pg_source */
    atomic_int references;
    mdn_postgres_tables *tables; /* one reference */
    bool filtered;
    mdn_filter filter; /* its labels are owned */
} pg_source;

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
    tables->pages = calloc(options->part_count + 1, sizeof *tables->pages);
    st = copy_options(options, &tables->options, err);
    if (st == MDN_OK && (tables->known == NULL || tables->pages == NULL))
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
