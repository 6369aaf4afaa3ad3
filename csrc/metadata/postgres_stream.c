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
#include "metadata/postgres_stream.h"

#include "base/clock.h"
#include "metadata/decode.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MAX 65536                /* of a decode block */
#define BLOCK_MAX (UINT64_C(1) << 20) /* samples in a row of blocks */
#define ASK_NS UINT64_C(50000000)     /* between two pulses */
#define FIELDS_MAX 6

typedef struct {
    mdn_metadata_stream base;    /* first: a stream is a pg_stream */
    mdn_postgres_tables *tables; /* one reference */
    bool filtered;
    mdn_filter filter; /* its labels are owned */
    uint64_t first, last;
    uint64_t block_count;
    mdn_wanted wanted;
    bool gaps;              /* blocks have to say their positions */
    const mdn_pulse *pulse; /* borrowed, or NULL */
    uint64_t asked_ns;
    mdn_postgres_retry retry;
    uint64_t position;

    mdn_postgres *pg; /* owned, while reading */
    bool active;      /* a query is under way */
    bool ended;       /* and all of it was received */
    bool ordered;     /* by the server */
    bool counting;    /* what was read in order is to be counted as a whole */
    uint64_t part;    /* that it reads */
    uint64_t from, to;
    mdn_decoder *decoder;
    mdn_decode_block *rows;
    const char *rest; /* of a message, borrowed from pg; not yet decoded */
    size_t rest_size;

    /* Columns of rows; -1: not asked for. */
    int erased, keys_at, timestamps_at, labels_at;
    /* Of blocks: samples of the row at hand that are still to be cut. */
    bool cutting;
    /* Owned, block_count of each where needed. */
    uint64_t *keys, *positions;
    int64_t *timestamps, *labels;
} pg_stream;

static const mdn_postgres_part *
part_of(const pg_stream *s)
{
    return &s->tables->options.parts[s->part];
}

static uint64_t
smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static mdn_postgres_patience
patience_of(const pg_stream *s)
{
    mdn_postgres_patience patience = {.deadline_ns = 0};

    if (s->pulse != NULL)
        patience.pulse = *s->pulse;
    return patience;
}

/* Where a server always has more to send, nobody waits, and so nobody asks. */
static mdn_status
ask(pg_stream *s, mdn_error *err)
{
    uint64_t now_ns = mdn_steady_ns();

    if (s->pulse == NULL || now_ns - s->asked_ns < ASK_NS)
        return MDN_OK;
    s->asked_ns = now_ns;
    return mdn_pulse_ask(s->pulse, err);
}

/* ---- what is wrong with a table ---- */

static mdn_status
missing(const pg_stream *s, mdn_error *err)
{
    return mdn_fail(err, MDN_CORRUPT,
                    "%s: the row of position %" PRIu64
                    " is missing; if samples were erased meanwhile, open the "
                    "source again",
                    part_of(s)->table, s->position);
}

static mdn_status
twice(const pg_stream *s, uint64_t position, mdn_error *err)
{
    return mdn_fail(err, MDN_CORRUPT,
                    "%s: the row of position %" PRIu64 " is there twice",
                    part_of(s)->table, position);
}

static mdn_status
wrong_block(const pg_stream *s, uint64_t first, const char *what,
            mdn_error *err)
{
    return mdn_fail(err, MDN_CORRUPT, "%s: the row of position %" PRIu64 " %s",
                    part_of(s)->table, first, what);
}

/* ---- the query ---- */

/* Leave it, whatever it is doing; the connection stays ours if it can. */
static void
stop(pg_stream *s)
{
    if (s->active && s->pg != NULL && !s->ended)
        mdn_postgres_leave(s->pg);
    s->active = s->ended = s->cutting = false;
    s->rest_size = 0;
    s->rows->count = 0;
}

static void
give_back(pg_stream *s)
{
    stop(s);
    mdn_postgres_tables_give(s->tables, s->pg);
    s->pg = NULL;
}

/* Rows of which some may be missing for a reason. */
static bool
is_gappy(const pg_stream *s, const mdn_postgres_part *part)
{
    if (s->tables->options.blocks)
        return s->filtered && (s->filter.has_start || s->filter.has_stop);
    return s->filtered || part->erased > 0;
}

static mdn_status
send_query(pg_stream *s, const mdn_postgres_patience *patience, mdn_error *err)
{
    const mdn_postgres_part *part = part_of(s);
    mdn_query query = {
        .table = mdn_postgres_tables_table(s->tables, s->part),
        .first = s->from,
        .last = s->to,
        .whole = s->from == part->first && s->to == part->first + part->count,
        .ordered = s->ordered,
        .wanted = s->wanted,
        .filter = s->filtered ? &s->filter : NULL,
    };
    char *sql;
    mdn_status st = mdn_query_copy(&query, &sql, err);

    if (st != MDN_OK)
        return st;
    st = mdn_postgres_copy_out(s->pg, sql, patience, err);
    free(sql);
    return st;
}

static mdn_status
connect(pg_stream *s, const mdn_postgres_patience *patience, mdn_error *err)
{
    mdn_status st = MDN_OK;

    if (s->pg == NULL)
        st = mdn_postgres_tables_take(s->tables, &s->pg, err);
    if (st == MDN_OK && mdn_postgres_state(s->pg) != MDN_POSTGRES_READY)
        st = mdn_postgres_connect(s->pg, patience, err);
    return st;
}

/* Sorted, rows that are there twice show only from where the sorting began;
 * their number shows them all. */
static mdn_status
count_part(pg_stream *s, mdn_error *err)
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
begin(pg_stream *s, mdn_error *err)
{
    mdn_postgres_patience patience = patience_of(s);
    const mdn_postgres_part *part;
    mdn_status st = connect(s, &patience, err);

    s->part = mdn_postgres_tables_find(s->tables, s->position);
    part = part_of(s);
    s->from = s->position;
    s->to = smaller(part->first + part->count, s->last);
    if (st == MDN_OK && is_gappy(s, part))
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
say_where(const pg_stream *s, mdn_status st, mdn_error *err)
{
    mdn_error why;

    if (st == MDN_OK || err == NULL)
        return st;
    why = *err;
    return mdn_fail(err, st, "%s: %.400s", part_of(s)->table, why.message);
}

/* Rows of the query, until the block is full or there are no more. */
static mdn_status
fill(pg_stream *s, mdn_error *err)
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

/* The table does not lie in order: read the rest of it sorted. */
static void
sort_from_here(pg_stream *s)
{
    mdn_postgres_tables_note(s->tables, s->part, MDN_POSTGRES_UNSORTED);
    stop(s);
}

/* All of the query was received. */
static mdn_status
end_query(pg_stream *s, mdn_error *err)
{
    s->active = s->ended = false;
    s->counting = s->ordered;
    if (s->position < s->to && !is_gappy(s, part_of(s)))
        return missing(s, err);
    if (s->position < s->to)
        s->position = s->to;
    return MDN_OK;
}

/* ---- rows ---- */

/* How many rows are those that are due. */
static uint64_t
good_rows(const pg_stream *s)
{
    const uint64_t *positions = s->rows->columns[0].values;
    uint64_t count = s->rows->count, due = s->position, good = 0;

    if (!is_gappy(s, part_of(s))) {
        count = smaller(count, s->to - due);
        while (good < count && positions[good] == due + good)
            good++;
        return good;
    }
    for (; good < count; good++) {
        if (positions[good] < due || positions[good] >= s->to)
            break;
        due = positions[good] + 1;
    }
    return good;
}

static void
hand_out_rows(pg_stream *s, uint64_t count, mdn_metadata_block *out)
{
    mdn_decode_column *columns = s->rows->columns;
    const uint64_t *positions = columns[0].values;

    if (count == 0)
        return;
    *out = (mdn_metadata_block){
        .count = count,
        .keys = columns[s->keys_at].values,
        .timestamps =
            s->timestamps_at < 0 ? NULL : columns[s->timestamps_at].values,
        .labels = s->labels_at < 0 ? NULL : columns[s->labels_at].values,
    };
    s->position = positions[count - 1] + 1;
    if (!s->gaps)
        return;
    for (uint64_t i = 0; i < count; i++)
        s->positions[i] = positions[i] + 1;
    out->positions = s->positions;
}

static mdn_status
take_rows(pg_stream *s, mdn_metadata_block *out, mdn_error *err)
{
    const uint64_t *positions = s->rows->columns[0].values;
    uint64_t good = good_rows(s);

    if (good < s->rows->count) {
        uint64_t found = positions[good];
        uint64_t due = good > 0 ? positions[good - 1] + 1 : s->position;

        /* All before it was read, so that what lies there is known already.
         */
        if (s->ordered || found < due || due >= s->to
            || is_gappy(s, part_of(s))) {
            s->position = due;
            return found > due ? missing(s, err) : twice(s, found, err);
        }
    }
    hand_out_rows(s, good, out);
    if (good < s->rows->count) {
        /* What was handed out stays in place until the next fill. */
        sort_from_here(s);
        return MDN_OK;
    }
    return s->ended ? end_query(s, err) : MDN_OK;
}

/* ---- blocks ---- */

static uint64_t
row_first(const pg_stream *s)
{
    return ((const uint64_t *)s->rows->columns[0].values)[0];
}

static uint64_t
row_count(const pg_stream *s)
{
    return (uint64_t)((const int32_t *)s->rows->columns[1].values)[0];
}

/* The bytes of a column, of so many. */
static const void *
blob(const pg_stream *s, int column, uint64_t *size)
{
    const mdn_decode_column *from = &s->rows->columns[column];

    *size = from->starts[1] - from->starts[0];
    return from->bytes;
}

static bool
is_column(const pg_stream *s, int column)
{
    uint64_t size;

    if (column < 0)
        return true;
    blob(s, column, &size);
    return size == 8 * row_count(s);
}

/* Whether a row of blocks is what it says. */
static mdn_status
check_row(const pg_stream *s, mdn_error *err)
{
    const mdn_postgres_part *part = part_of(s);
    uint64_t first = row_first(s), count = row_count(s), size, bits;

    if (first < part->first || first >= s->to || count == 0
        || count > part->first + part->count - first || count > BLOCK_MAX)
        return wrong_block(s, first, "does not say positions of its table",
                           err);
    if (is_column(s, s->keys_at) && is_column(s, s->timestamps_at)
        && is_column(s, s->labels_at)) {
        blob(s, s->erased, &size);
        bits = (count + 7) / 8;
        if (s->rows->columns[s->erased].nulls[0] || size == bits)
            return MDN_OK;
    }
    return wrong_block(s, first, "has columns of a wrong length", err);
}

/* Whether the row at hand is the one that is due. */
static bool
is_due(const pg_stream *s)
{
    uint64_t first = row_first(s), end = first + row_count(s);

    if (s->position == s->from && first < s->position)
        return end > s->position;
    return is_gappy(s, part_of(s)) ? first >= s->position
                                   : first == s->position;
}

/* Copy what is not erased of samples i.. of the row, up to `stop`; returns
 * where it came to. */
static uint64_t
cut_living(pg_stream *s, const uint8_t *erased, uint64_t i, uint64_t end,
           mdn_metadata_block *out)
{
    uint64_t size, n = 0, first = row_first(s);
    const uint64_t *keys = s->keys_at < 0 ? NULL : blob(s, s->keys_at, &size);
    const int64_t *timestamps =
        s->timestamps_at < 0 ? NULL : blob(s, s->timestamps_at, &size);
    const int64_t *labels =
        s->labels_at < 0 ? NULL : blob(s, s->labels_at, &size);

    for (; i < end && n < s->block_count; i++) {
        if (erased[i / 8] >> (i % 8) & 1)
            continue;
        s->keys[n] = keys ? keys[i] : first + i;
        if (timestamps != NULL)
            s->timestamps[n] = timestamps[i];
        if (labels != NULL)
            s->labels[n] = labels[i];
        s->positions[n++] = first + i + 1;
    }
    *out = (mdn_metadata_block){.count = n,
                                .keys = s->keys,
                                .timestamps = timestamps ? s->timestamps : NULL,
                                .labels = labels ? s->labels : NULL,
                                .positions = s->positions};
    return i;
}

static const void *
column_from(const pg_stream *s, int column, uint64_t i)
{
    uint64_t size;

    return column < 0 ? NULL : (const uint8_t *)blob(s, column, &size) + 8 * i;
}

/* Samples i.. of a row of which none is erased: views, but for what is not
 * stored. */
static uint64_t
cut_all(pg_stream *s, uint64_t i, uint64_t end, mdn_metadata_block *out)
{
    uint64_t count = smaller(end - i, s->block_count), first = row_first(s);

    *out = (mdn_metadata_block){
        .count = count,
        .keys = column_from(s, s->keys_at, i),
        .timestamps = column_from(s, s->timestamps_at, i),
        .labels = column_from(s, s->labels_at, i),
    };
    if (out->keys == NULL) {
        for (uint64_t n = 0; n < count; n++)
            s->keys[n] = first + i + n;
        out->keys = s->keys;
    }
    if (s->gaps) {
        for (uint64_t n = 0; n < count; n++)
            s->positions[n] = first + i + n + 1;
        out->positions = s->positions;
    }
    return i + count;
}

/* The next piece of the row at hand; out->count 0 if what was left is erased.
 */
static void
cut(pg_stream *s, mdn_metadata_block *out)
{
    uint64_t first = row_first(s), size;
    uint64_t from = s->position > first ? s->position - first : 0;
    uint64_t end = smaller(row_count(s), s->to - first);

    if (s->rows->columns[s->erased].nulls[0])
        s->position = first + cut_all(s, from, end, out);
    else
        s->position =
            first + cut_living(s, blob(s, s->erased, &size), from, end, out);
    s->cutting = s->position < first + end;
}

static mdn_status
take_block(pg_stream *s, mdn_metadata_block *out, mdn_error *err)
{
    mdn_status st;

    if (s->rows->count > 0) {
        if ((st = check_row(s, err)) != MDN_OK)
            return st;
        if (!is_due(s)) {
            uint64_t found = row_first(s);

            if (s->ordered || found < s->position || s->position >= s->to
                || is_gappy(s, part_of(s)))
                return found > s->position ? missing(s, err)
                                           : twice(s, found, err);
            sort_from_here(s);
            return MDN_OK;
        }
        cut(s, out);
        if (!s->ended)
            return MDN_OK;
    }
    return s->ended && !s->cutting ? end_query(s, err) : MDN_OK;
}

/* ---- the stream ---- */

/* A failure: MDN_OK when the query is to be begun again. */
static mdn_status
recover(pg_stream *s, mdn_status st, mdn_error *err)
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
go_on(pg_stream *s, mdn_metadata_block *out, mdn_error *err)
{
    mdn_status st = MDN_OK;

    if (s->cutting) {
        cut(s, out);
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
    return s->tables->options.blocks ? take_block(s, out, err)
                                     : take_rows(s, out, err);
}

static mdn_status
stream_next(mdn_metadata_stream *stream, mdn_metadata_block *out,
            mdn_error *err)
{
    pg_stream *s = (pg_stream *)stream;
    mdn_status st = MDN_OK;

    *out = (mdn_metadata_block){.count = 0};
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
    pg_stream *s = (pg_stream *)stream;

    stop(s);
    s->position = s->first;
    s->counting = false;
    s->retry.until_ns = 0;
}

static void
stream_free(mdn_metadata_stream *stream)
{
    pg_stream *s = (pg_stream *)stream;

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
says_positions(const pg_stream *s)
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
plan_fields(pg_stream *s, mdn_decode_field fields[FIELDS_MAX])
{
    const mdn_postgres_source_options *o = &s->tables->options;
    mdn_decode_field number = {.type = MDN_DECODE_INT8};
    mdn_decode_field column =
        o->blocks ? (mdn_decode_field){.type = MDN_DECODE_BYTEA,
                                       .bytes_max = 8 * BLOCK_MAX}
                  : number;
    int n = 0;

    s->keys_at = s->timestamps_at = s->labels_at = s->erased = -1;
    fields[n++] = number;
    if (o->blocks) {
        fields[n++] = (mdn_decode_field){.type = MDN_DECODE_INT4};
        s->erased = n;
        fields[n++] = (mdn_decode_field){.type = MDN_DECODE_BYTEA,
                                         .nullable = true,
                                         .bytes_max = BLOCK_MAX / 8};
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
allocate(pg_stream *s, mdn_error *err)
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
prepare(pg_stream *s, const mdn_filter *filter, mdn_error *err)
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
    pg_stream *s = calloc(1, sizeof *s);
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
