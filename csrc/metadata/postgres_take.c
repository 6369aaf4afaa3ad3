/* postgres_take.c - are these the rows that are due?
 *
 * Rows come with their positions, and what is due is known: the position behind
 * the last one or, where some may be missing, any behind it.  Decoded columns
 * are handed out as they are; only what erased samples leave is copied. */
#include "metadata/postgres_take.h"

#include <inttypes.h>

static uint64_t
smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

bool
mdn_postgres_is_gappy(const mdn_postgres_stream *s)
{
    if (s->tables->options.blocks)
        return s->filtered && (s->filter.has_start || s->filter.has_stop);
    return s->filtered || mdn_postgres_part_of(s)->erased > 0;
}

bool
mdn_postgres_is_behind(const mdn_postgres_stream *s, uint64_t position)
{
    const mdn_postgres_part *part = mdn_postgres_part_of(s);

    return !mdn_postgres_tables_full(s->tables, s->part)
           && position >= part->first + part->count;
}

/* ---- what is wrong with a table ---- */

mdn_status
mdn_postgres_missing(const mdn_postgres_stream *s, mdn_error *err)
{
    return mdn_fail(err, MDN_CORRUPT,
                    "%s: the row of position %" PRIu64
                    " is missing; if samples were erased meanwhile, open the "
                    "source again",
                    mdn_postgres_part_of(s)->table, s->position);
}

static mdn_status
twice(const mdn_postgres_stream *s, uint64_t position, mdn_error *err)
{
    return mdn_fail(err, MDN_CORRUPT,
                    "%s: the row of position %" PRIu64 " is there twice",
                    mdn_postgres_part_of(s)->table, position);
}

static mdn_status
wrong_block(const mdn_postgres_stream *s, uint64_t first, const char *what,
            mdn_error *err)
{
    return mdn_fail(err, MDN_CORRUPT, "%s: the row of position %" PRIu64 " %s",
                    mdn_postgres_part_of(s)->table, first, what);
}

/* ---- rows ---- */

/* How many rows are those that are due. */
static uint64_t
good_rows(const mdn_postgres_stream *s)
{
    const uint64_t *positions = s->rows->columns[0].values;
    uint64_t count = s->rows->count, due = s->position, good = 0;

    if (!mdn_postgres_is_gappy(s)) {
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
hand_out_rows(mdn_postgres_stream *s, uint64_t count, mdn_metadata_block *out)
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
take_rows(mdn_postgres_stream *s, mdn_metadata_block *out, mdn_error *err)
{
    const uint64_t *positions = s->rows->columns[0].values;
    uint64_t good = good_rows(s);

    if (good < s->rows->count) {
        uint64_t found = positions[good];
        uint64_t due = good > 0 ? positions[good - 1] + 1 : s->position;

        /* All before it was read, so that what lies there is known already.
         */
        if (due == s->to && mdn_postgres_is_behind(s, found)) {
            hand_out_rows(s, good, out);
            s->behind = true;
            return MDN_OK;
        }
        if (s->ordered || found < due || due >= s->to
            || mdn_postgres_is_gappy(s)) {
            s->position = due;
            return found > due ? mdn_postgres_missing(s, err)
                               : twice(s, found, err);
        }
    }
    hand_out_rows(s, good, out);
    s->disorder = good < s->rows->count;
    return MDN_OK;
}

/* ---- blocks ---- */

static uint64_t
row_first(const mdn_postgres_stream *s)
{
    return ((const uint64_t *)s->rows->columns[0].values)[0];
}

static uint64_t
row_count(const mdn_postgres_stream *s)
{
    return (uint64_t)((const int32_t *)s->rows->columns[1].values)[0];
}

/* The bytes of a column, of so many. */
static const void *
blob(const mdn_postgres_stream *s, int column, uint64_t *size)
{
    const mdn_decode_column *from = &s->rows->columns[column];

    *size = from->starts[1] - from->starts[0];
    return from->bytes;
}

static bool
is_column(const mdn_postgres_stream *s, int column)
{
    uint64_t size;

    if (column < 0)
        return true;
    blob(s, column, &size);
    return size == 8 * row_count(s);
}

/* Whether a row of blocks is what it says. */
static mdn_status
check_row(const mdn_postgres_stream *s, mdn_error *err)
{
    const mdn_postgres_part *part = mdn_postgres_part_of(s);
    uint64_t first = row_first(s), count = row_count(s), size, bits;

    if (first < part->first || first >= s->to || count == 0
        || (count > part->first + part->count - first
            && mdn_postgres_tables_full(s->tables, s->part))
        || count > MDN_POSTGRES_BLOCK_MAX)
        return wrong_block(s, first, "does not say positions of its table",
                           err);
    if (is_column(s, s->keys_at) && is_column(s, s->timestamps_at)
        && is_column(s, s->labels_at)) {
        blob(s, s->erased_at, &size);
        bits = (count + 7) / 8;
        if (s->rows->columns[s->erased_at].nulls[0] || size == bits)
            return MDN_OK;
    }
    return wrong_block(s, first, "has columns of a wrong length", err);
}

/* Whether the row at hand is the one that is due. */
static bool
is_due(const mdn_postgres_stream *s)
{
    uint64_t first = row_first(s), end = first + row_count(s);

    if (s->position == s->from && first < s->position)
        return end > s->position;
    return mdn_postgres_is_gappy(s) ? first >= s->position
                                    : first == s->position;
}

/* Copy what is not erased of samples i.. of the row, up to `stop`; returns
 * where it came to. */
static uint64_t
cut_living(mdn_postgres_stream *s, const uint8_t *erased, uint64_t i,
           uint64_t end, mdn_metadata_block *out)
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
column_from(const mdn_postgres_stream *s, int column, uint64_t i)
{
    uint64_t size;

    return column < 0 ? NULL : (const uint8_t *)blob(s, column, &size) + 8 * i;
}

/* Samples i.. of a row of which none is erased: views, but for what is not
 * stored. */
static uint64_t
cut_all(mdn_postgres_stream *s, uint64_t i, uint64_t end,
        mdn_metadata_block *out)
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

void
mdn_postgres_cut(mdn_postgres_stream *s, mdn_metadata_block *out)
{
    uint64_t first = row_first(s), size;
    uint64_t from = s->position > first ? s->position - first : 0;
    uint64_t end = smaller(row_count(s), s->to - first);

    if (s->rows->columns[s->erased_at].nulls[0])
        s->position = first + cut_all(s, from, end, out);
    else
        s->position =
            first + cut_living(s, blob(s, s->erased_at, &size), from, end, out);
    s->cutting = s->position < first + end;
}

static mdn_status
take_block(mdn_postgres_stream *s, mdn_metadata_block *out, mdn_error *err)
{
    uint64_t found;
    mdn_status st;

    if (s->rows->count == 0)
        return MDN_OK;
    if (mdn_postgres_is_behind(s, row_first(s)) && !s->ordered) {
        s->behind = s->position == s->to;
        s->disorder = !s->behind;
        return MDN_OK;
    }
    if ((st = check_row(s, err)) != MDN_OK)
        return st;
    if (is_due(s)) {
        mdn_postgres_cut(s, out);
        return MDN_OK;
    }
    found = row_first(s);
    if (s->ordered || found < s->position || s->position >= s->to
        || mdn_postgres_is_gappy(s))
        return found > s->position ? mdn_postgres_missing(s, err)
                                   : twice(s, found, err);
    s->disorder = true;
    return MDN_OK;
}

mdn_status
mdn_postgres_take(mdn_postgres_stream *s, mdn_metadata_block *out,
                  mdn_error *err)
{
    s->disorder = s->behind = false;
    return s->tables->options.blocks ? take_block(s, out, err)
                                     : take_rows(s, out, err);
}
