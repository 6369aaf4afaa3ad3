/* postgres_stream.c - one pass over a range of positions.
 *
 *     first ... position ... to ... last
 *               |            the query under way ends here
 *               everything before it was handed out, or is in the block at hand
 *
 * next() fills a decode block with rows, holds their positions against
 * `position`, and hands them out as they are (rows) or cut (blocks).  A query
 * that fails, or whose rows do not come in order, is left; the next one begins
 * at `position`, so that nothing else is to be remembered. */
#include "metadata/postgres_take.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TID_RANGE_VERSION                                                      \
    140000             /* from which servers read a range of pages             \
                        */
#define PAGES_MORE 3   /* around a guess; the last page is not full */
#define ROWS_MAX 65536 /* of a decode block */
#define ASK_NS UINT64_C(50000000) /* between two pulses */
#define FIELDS_MAX 6

static uint64_t
smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static mdn_postgres_patience
patience_of(const mdn_postgres_stream *s)
{
    mdn_postgres_patience patience = {.deadline_ns = 0};

    if (s->pulse != NULL)
        patience.pulse = *s->pulse;
    return patience;
}

/* Where a server always has more to send, nobody waits, and so nobody asks. */
static mdn_status
ask(mdn_postgres_stream *s, mdn_error *err)
{
    uint64_t now_ns = mdn_steady_ns();

    if (s->pulse == NULL || now_ns - s->asked_ns < ASK_NS)
        return MDN_OK;
    s->asked_ns = now_ns;
    return mdn_pulse_ask(s->pulse, err);
}

/* ---- the query ---- */

/* Leave it, whatever it is doing; the connection stays ours if it can. */
static void
stop(mdn_postgres_stream *s)
{
    if (s->active && s->pg != NULL && !s->ended)
        mdn_postgres_leave(s->pg);
    s->active = s->ended = s->cutting = false;
    s->rest_size = 0;
    s->rows->count = 0;
}

static void
give_back(mdn_postgres_stream *s)
{
    stop(s);
    mdn_postgres_tables_give(s->tables, s->pg);
    s->pg = NULL;
}

/* Rows of a table are of one size, so that a page holds as many as the next:
 * where some positions lie is a guess, which the check of positions proves.
 * Without it the server would read all of a table for any part of it. */
static mdn_status
guess_pages(mdn_postgres_stream *s, mdn_query *query,
            const mdn_postgres_patience *patience, mdn_error *err)
{
    const mdn_postgres_part *part = mdn_postgres_part_of(s);
    /* The last table may hold more than its part; the first one does not. */
    uint64_t like = s->tables->options.part_count > 1 ? 0 : s->part, pages;
    double per_position;
    mdn_status st;

    s->guessed = false;
    if (s->tables->options.blocks || query->whole || query->ordered
        || mdn_postgres_is_gappy(s)
        || mdn_postgres_server_version(s->pg) < TID_RANGE_VERSION
        || mdn_postgres_tables_known(s->tables, s->part) & MDN_POSTGRES_UNEVEN)
        return MDN_OK;
    st = mdn_postgres_tables_pages(s->tables, s->pg, like, patience, &pages,
                                   err);
    if (st != MDN_OK)
        return st;
    per_position = (double)pages / (double)s->tables->options.parts[like].count;
    query->first_page =
        (uint64_t)((double)(s->from - part->first) * per_position);
    query->first_page -= smaller(query->first_page, PAGES_MORE);
    query->last_page =
        (uint64_t)((double)(s->to - part->first) * per_position) + PAGES_MORE;
    s->guessed = true;
    return MDN_OK;
}

static mdn_status
send_query(mdn_postgres_stream *s, const mdn_postgres_patience *patience,
           mdn_error *err)
{
    const mdn_postgres_part *part = mdn_postgres_part_of(s);
    mdn_query query = {
        .table = mdn_postgres_tables_table(s->tables, s->part),
        .first = s->from,
        .last = s->to,
        .whole = s->from == part->first && s->to == part->first + part->count
                 && (mdn_postgres_tables_full(s->tables, s->part)
                     || (!s->ordered && !mdn_postgres_is_gappy(s))),
        .ordered = s->ordered,
        .wanted = s->wanted,
        .filter = s->filtered ? &s->filter : NULL,
    };
    char *sql;
    mdn_status st = guess_pages(s, &query, patience, err);

    if (st != MDN_OK || (st = mdn_query_copy(&query, &sql, err)) != MDN_OK)
        return st;
    st = mdn_postgres_copy_out(s->pg, sql, patience, err);
    free(sql);
    return st;
}

static mdn_status
connect(mdn_postgres_stream *s, const mdn_postgres_patience *patience,
        mdn_error *err)
{
    mdn_status st = MDN_OK;

    if (s->pg == NULL) {
        s->pid = getpid();
        st = mdn_postgres_tables_take(s->tables, &s->pg, err);
    }
    if (st == MDN_OK && mdn_postgres_state(s->pg) != MDN_POSTGRES_READY)
        st = mdn_postgres_connect(s->pg, patience, err);
    return st;
}

/* Sorted, rows that are there twice show only from where the sorting began;
 * their number shows them all. */
static mdn_status
count_part(mdn_postgres_stream *s, mdn_error *err)
{
    mdn_postgres_patience patience = patience_of(s);
    mdn_status st = connect(s, &patience, err);

    if (st == MDN_OK)
        st = mdn_postgres_tables_check(s->tables, s->pg, s->part, &patience,
                                       err);
    if (st == MDN_OK)
        s->counting = false;
    return st;
}

/* Begin to read the part at `position`. */
static mdn_status
begin(mdn_postgres_stream *s, mdn_error *err)
{
    mdn_postgres_patience patience = patience_of(s);
    const mdn_postgres_part *part;
    mdn_status st = connect(s, &patience, err);

    s->part = mdn_postgres_tables_find(s->tables, s->position);
    part = mdn_postgres_part_of(s);
    s->from = s->position;
    s->to = smaller(part->first + part->count, s->last);
    if (st == MDN_OK && mdn_postgres_is_gappy(s))
        st = mdn_postgres_tables_check(s->tables, s->pg, s->part, &patience,
                                       err);
    if (st != MDN_OK)
        return st;
    s->ordered =
        mdn_postgres_tables_known(s->tables, s->part) & MDN_POSTGRES_UNSORTED;
    if ((st = send_query(s, &patience, err)) != MDN_OK)
        return st;
    mdn_decoder_restart(s->decoder);
    s->active = true;
    s->ended = false;
    return MDN_OK;
}

/* The decoder knows what is wrong, but not of what. */
static mdn_status
say_where(const mdn_postgres_stream *s, mdn_status st, mdn_error *err)
{
    mdn_error why;

    if (st == MDN_OK || err == NULL)
        return st;
    why = *err;
    return mdn_fail(err, st, "%s: %.400s", mdn_postgres_part_of(s)->table,
                    why.message);
}

/* Rows of the query, until the block is full or there are no more. */
static mdn_status
fill(mdn_postgres_stream *s, mdn_error *err)
{
    mdn_postgres_patience patience = patience_of(s);
    mdn_decode_block *rows = s->rows;
    mdn_status st;
    size_t used;

    rows->count = 0;
    if ((st = ask(s, err)) != MDN_OK)
        return st;
    for (;;) {
        if (s->rest_size > 0) {
            st = mdn_decoder_feed(s->decoder, rows, s->rest, s->rest_size,
                                  &used, err);
            s->rest += used;
            s->rest_size -= used;
            if (st != MDN_OK)
                return say_where(s, st, err);
        }
        if (rows->count == rows->capacity)
            return MDN_OK;
        st = mdn_postgres_get(s->pg, &s->rest, &s->rest_size, &patience, err);
        if (st != MDN_OK)
            return st;
        if (s->rest_size == 0) {
            s->ended = true;
            return say_where(s, mdn_decoder_finish(s->decoder, err), err);
        }
    }
}

/* The table does not lie as it should: read the rest of it wherever it is, or
 * sorted. */
static void
sort_from_here(mdn_postgres_stream *s)
{
    mdn_postgres_tables_note(s->tables, s->part,
                             s->guessed ? MDN_POSTGRES_UNEVEN
                                        : MDN_POSTGRES_UNSORTED);
    stop(s);
}

/* All of the query was received. */
static mdn_status
end_query(mdn_postgres_stream *s, mdn_error *err)
{
    s->active = s->ended = false;
    s->counting = s->ordered;
    if (s->position < s->to && s->guessed) {
        sort_from_here(s);
        return MDN_OK;
    }
    if (s->position < s->to && !mdn_postgres_is_gappy(s))
        return mdn_postgres_missing(s, err);
    if (s->position < s->to)
        s->position = s->to;
    return MDN_OK;
}

/* ---- the stream ---- */

/* A failure: MDN_OK when the query is to be begun again. */
static mdn_status
recover(mdn_postgres_stream *s, mdn_status st, mdn_error *err)
{
    if (st != MDN_DATABASE && st != MDN_TIMEOUT)
        return st; /* and leave the query */
    s->active = s->ended = false;
    s->rest_size = 0;
    return mdn_postgres_retry_wait(&s->retry, s->tables->options.retry_ms,
                                   s->pg, s->pulse, st, err);
}

/* One query more, or more of it.  out->count 0: there may still be more. */
static mdn_status
go_on(mdn_postgres_stream *s, mdn_metadata_block *out, mdn_error *err)
{
    mdn_status st = MDN_OK;

    if (s->cutting) {
        mdn_postgres_cut(s, out);
        return MDN_OK;
    }
    s->rows->count = 0;
    if (s->counting && (st = count_part(s, err)) == MDN_OK)
        return MDN_OK;
    if (st == MDN_OK && !s->active)
        st = begin(s, err);
    if (st == MDN_OK)
        st = fill(s, err);
    if ((st == MDN_DATABASE || st == MDN_TIMEOUT) && s->rows->count > 0) {
        /* Whole rows came before it; what it was comes again. */
        s->active = s->ended = false;
        s->rest_size = 0;
        mdn_postgres_drop(s->pg);
        st = MDN_OK;
    }
    if (st != MDN_OK)
        return recover(s, st, err);
    if (s->rows->count > 0)
        s->retry.until_ns = 0;
    if ((st = mdn_postgres_take(s, out, err)) != MDN_OK)
        return st;
    if (s->disorder) {
        /* What was handed out stays in place until the next fill. */
        sort_from_here(s);
        return MDN_OK;
    }
    if (s->behind && !s->cutting) {
        stop(s); /* nobody asked for what comes now */
        s->ended = true;
    }
    return s->ended && !s->cutting ? end_query(s, err) : MDN_OK;
}

static mdn_status
stream_next(mdn_metadata_stream *stream, mdn_metadata_block *out,
            mdn_error *err)
{
    mdn_postgres_stream *s = (mdn_postgres_stream *)stream;
    mdn_status st = MDN_OK;

    *out = (mdn_metadata_block){.count = 0};
    if (s->pg != NULL && s->pid != getpid())
        give_back(s); /* the parent's: a child begins again from here */
    while (st == MDN_OK && out->count == 0
           && (s->position < s->last || s->active || s->counting))
        st = go_on(s, out, err);
    if (st != MDN_OK)
        *out = (mdn_metadata_block){.count = 0};
    if (st != MDN_OK || out->count == 0)
        give_back(s);
    return st;
}

static void
stream_rewind(mdn_metadata_stream *stream)
{
    mdn_postgres_stream *s = (mdn_postgres_stream *)stream;

    stop(s);
    s->position = s->first;
    s->counting = false;
    s->retry.until_ns = 0;
}

static void
stream_free(mdn_metadata_stream *stream)
{
    mdn_postgres_stream *s = (mdn_postgres_stream *)stream;

    if (s->rows != NULL)
        give_back(s);
    mdn_decoder_free(s->decoder);
    mdn_decode_block_free(s->rows);
    free((void *)s->filter.labels);
    free(s->keys);
    free(s->positions);
    free(s->timestamps);
    free(s->labels);
    mdn_postgres_tables_release(s->tables);
    free(s);
}

/* ---- making one ---- */

static bool
says_positions(const mdn_postgres_stream *s)
{
    const mdn_postgres_source_options *o = &s->tables->options;

    if (s->filtered || s->first == s->last)
        return true;
    for (uint64_t i = mdn_postgres_tables_find(s->tables, s->first);
         i < o->part_count && o->parts[i].first < s->last; i++) {
        if (o->parts[i].erased > 0)
            return true;
    }
    return false;
}

/* The columns of the query, as mdn_query_copy orders them. */
static uint32_t
plan_fields(mdn_postgres_stream *s, mdn_decode_field fields[FIELDS_MAX])
{
    const mdn_postgres_source_options *o = &s->tables->options;
    mdn_decode_field number = {.type = MDN_DECODE_INT8};
    mdn_decode_field column =
        o->blocks ? (mdn_decode_field){.type = MDN_DECODE_BYTEA,
                                       .bytes_max = 8 * MDN_POSTGRES_BLOCK_MAX}
                  : number;
    int n = 0;

    s->keys_at = s->timestamps_at = s->labels_at = s->erased_at = -1;
    fields[n++] = number;
    if (o->blocks) {
        fields[n++] = (mdn_decode_field){.type = MDN_DECODE_INT4};
        s->erased_at = n;
        fields[n++] =
            (mdn_decode_field){.type = MDN_DECODE_BYTEA,
                               .nullable = true,
                               .bytes_max = MDN_POSTGRES_BLOCK_MAX / 8};
    }
    if (o->has_keys)
        fields[s->keys_at = n++] = column;
    else if (!o->blocks)
        s->keys_at = 0;
    if (s->wanted & MDN_WANT_TIMESTAMPS)
        fields[s->timestamps_at = n++] = column;
    if (o->has_labels && s->wanted & MDN_WANT_LABELS)
        fields[s->labels_at = n++] = column;
    return (uint32_t)n;
}

/* The arrays that blocks are put together in, where they are. */
static mdn_status
allocate(mdn_postgres_stream *s, mdn_error *err)
{
    bool blocks = s->tables->options.blocks;
    size_t size = s->block_count * sizeof(uint64_t);

    if (s->gaps || blocks)
        s->positions = malloc(size);
    if (blocks) {
        s->keys = malloc(size);
        s->timestamps = malloc(size);
        s->labels = malloc(size);
    }
    if (((s->gaps || blocks) && s->positions == NULL)
        || (blocks
            && (s->keys == NULL || s->timestamps == NULL || s->labels == NULL)))
        return mdn_fail_nomem(err, size);
    return MDN_OK;
}

static mdn_status
prepare(mdn_postgres_stream *s, const mdn_filter *filter, mdn_error *err)
{
    mdn_decode_field fields[FIELDS_MAX];
    uint32_t count = plan_fields(s, fields);
    uint64_t capacity = s->tables->options.blocks ? 1 : s->block_count;
    mdn_status st;

    if (filter != NULL) {
        uint64_t size = filter->label_count * 8;
        int64_t *labels = malloc(size > 0 ? size : 1);

        if (labels == NULL)
            return mdn_fail_nomem(err, size);
        if (size > 0)
            memcpy(labels, filter->labels, size);
        s->filter = *filter;
        s->filter.labels = labels;
        s->filtered = true;
    }
    s->gaps = says_positions(s);
    if ((st = allocate(s, err)) != MDN_OK
        || (st = mdn_decode_block_new(fields, count, capacity, &s->rows, err))
               != MDN_OK)
        return st;
    return mdn_decoder_new(fields, count, &s->decoder, err);
}

mdn_status
mdn_postgres_stream_new(mdn_postgres_tables *tables, const mdn_filter *filter,
                        uint64_t first, uint64_t last, uint64_t block_count,
                        mdn_wanted wanted, const mdn_pulse *pulse,
                        mdn_metadata_stream **out, mdn_error *err)
{
    mdn_postgres_stream *s = calloc(1, sizeof *s);
    mdn_status st;

    *out = NULL;
    if (s == NULL)
        return mdn_fail_nomem(err, sizeof *s);
    s->base = (mdn_metadata_stream){.count = last - first,
                                    .next = stream_next,
                                    .rewind = stream_rewind,
                                    .free = stream_free};
    s->tables = mdn_postgres_tables_retain(tables);
    s->first = s->position = first;
    s->last = last;
    s->block_count = smaller(block_count, ROWS_MAX);
    s->wanted = wanted;
    s->pulse = pulse;
    if ((st = prepare(s, filter, err)) != MDN_OK) {
        stream_free(&s->base);
        return st;
    }
    *out = &s->base;
    return MDN_OK;
}
