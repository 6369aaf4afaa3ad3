#include "truth.h"
#include "truth_marks.h"

#include "base/bytes.h"
#include "base/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CELL 32
#define LARGE_ONE_IN 64 /* payloads, if there are large ones */

typedef unsigned long long ull;

static void *
allocate(uint64_t size)
{
    void *room = malloc(size + 1);

    if (room == NULL)
        abort();
    return room;
}

/* Content. */

/* size bytes of cells, the last of which may be cut. */
static void
fill(uint8_t *to, uint64_t size, uint64_t key, uint32_t take, uint32_t field)
{
    uint8_t cell[CELL];

    memcpy(cell, TRUTH_MARK, sizeof TRUTH_MARK);
    mdn_store_u64(cell + 8, key);
    mdn_store_u32(cell + 16, take);
    mdn_store_u32(cell + 20, field);
    mdn_store_u64(cell + 24, mdn_mix(key * 1000003 + take * 8 + field));
    for (uint64_t at = 0; at < size; at += CELL)
        memcpy(to + at, cell, size - at < CELL ? size - at : CELL);
}

static uint64_t
payload_size(const truth *t, uint64_t key, uint32_t take, uint32_t field)
{
    uint64_t draw = mdn_mix(mdn_mix(key * 16 + field) ^ take);

    if (t->large_payload > 0 && take > 1 && draw % LARGE_ONE_IN == 1)
        return t->large_payload;
    if (draw % 4 == 0)
        return 0;
    return (draw >> 32) % 80;
}

static int32_t
number(uint64_t key, uint32_t take)
{
    return (int32_t)(mdn_mix(key * 4 + 3) ^ take);
}

/* Timestamps and labels say whose they are, too, so that their bytes can be
 * searched for; +1, so that none is zero. */
static int64_t
stamp(uint64_t tag, uint64_t key, uint32_t take)
{
    return (int64_t)(tag << 48 | truth_reversed(key) << 24 | (take & 0xffffff));
}

/* Added to the number of an entry of `sources`, whose content is no sample's.
 */
#define SOURCE_KEY (UINT64_C(1) << 40)

/* States. */

static void
reserve(truth_state *state, uint64_t count)
{
    if (count <= state->room)
        return;
    state->room = count * 2 + 64;
    state->take = realloc(state->take, state->room * sizeof *state->take);
    state->erased = realloc(state->erased, state->room);
    if (state->take == NULL || state->erased == NULL)
        abort();
}

static void
reserve_sources(truth_state *state, uint64_t count)
{
    if (count <= state->source_room)
        return;
    state->source_room = count * 2 + 16;
    state->sources =
        realloc(state->sources, state->source_room * sizeof *state->sources);
    if (state->sources == NULL)
        abort();
}

void
truth_copy(truth_state *to, const truth_state *from)
{
    reserve(to, from->count);
    if (from->count > 0) {
        memcpy(to->take, from->take, from->count * sizeof *to->take);
        memcpy(to->erased, from->erased, from->count);
    }
    to->count = from->count;
    to->erased_count = from->erased_count;
    reserve_sources(to, from->source_count);
    if (from->source_count > 0)
        memcpy(to->sources, from->sources,
               from->source_count * sizeof *to->sources);
    to->source_count = from->source_count;
}

void
truth_free_state(truth_state *state)
{
    free(state->take);
    free(state->erased);
    free(state->sources);
    *state = (truth_state){0};
}

void
truth_init(truth *t, bool ragged, bool labels)
{
    *t = (truth){.ragged = ragged, .labels = labels};
}

void
truth_free(truth *t)
{
    truth_free_state(&t->now);
    truth_free_state(&t->then);
}

mdn_dataset *
truth_create(const truth *t, const mdn_io *io, const char *path)
{
    mdn_dataset_options options = {.schema =
                                       t->ragged ? TRUTH_RAGGED : TRUTH_FIXED,
                                   .has_labels = t->labels,
                                   .time_unit = MDN_MS,
                                   .segment_shift = 13};
    mdn_dataset *dataset;
    mdn_error err;

    if (mdn_dataset_create(io, path, &options, &dataset, &err) != MDN_OK) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    return dataset;
}

void
truth_append(const truth *t, uint64_t count, bool source, truth_state *out)
{
    truth_copy(out, &t->now);
    reserve(out, t->now.count + count);
    for (uint64_t i = 0; i < count; i++) {
        out->take[out->count] = t->takes;
        out->erased[out->count++] = 0;
    }
    if (source) {
        reserve_sources(out, out->source_count + 1);
        out->sources[out->source_count++] = t->takes;
    }
}

void
truth_erase(const truth *t, const uint64_t *keys, uint64_t count,
            truth_state *out)
{
    truth_copy(out, &t->now);
    for (uint64_t i = 0; i < count; i++) {
        out->erased_count += !out->erased[keys[i]];
        out->erased[keys[i]] = 1;
    }
}

/* Batches. */

static mdn_column
draw_payloads(const truth *t, uint64_t count, uint32_t field)
{
    uint64_t first = t->now.count;
    int64_t *ends = allocate((count + 1) * 8);
    uint8_t *values;

    ends[0] = 0;
    for (uint64_t i = 0; i < count; i++)
        ends[i + 1] =
            ends[i] + (int64_t)payload_size(t, first + i, t->takes, field);
    values = allocate((uint64_t)ends[count]);
    for (uint64_t i = 0; i < count; i++)
        fill(values + ends[i], (uint64_t)(ends[i + 1] - ends[i]), first + i,
             t->takes, field);
    return (mdn_column){values, ends};
}

static mdn_column
draw_cells(const truth *t, uint64_t count)
{
    uint8_t *values = allocate(count * CELL);

    for (uint64_t i = 0; i < count; i++)
        fill(values + i * CELL, CELL, t->now.count + i, t->takes, 0);
    return (mdn_column){values, NULL};
}

truth_batch
truth_draw(truth *t, uint64_t count)
{
    uint64_t first = t->now.count;
    int32_t *numbers = allocate(count * 4);
    truth_batch batch = {.count = count,
                         .labels = t->labels ? allocate(count * 8) : NULL,
                         .timestamps = allocate(count * 8)};

    t->takes++;
    for (uint64_t i = 0; i < count; i++) {
        numbers[i] = number(first + i, t->takes);
        batch.timestamps[i] = stamp(TRUTH_TIMESTAMP_TAG, first + i, t->takes);
        if (t->labels)
            batch.labels[i] = stamp(TRUTH_LABEL_TAG, first + i, t->takes);
    }
    batch.columns[0] =
        t->ragged ? draw_payloads(t, count, 0) : draw_cells(t, count);
    batch.columns[1] = (mdn_column){numbers, NULL};
    if (t->ragged)
        batch.columns[2] = draw_payloads(t, count, 2);
    return batch;
}

void
truth_free_batch(truth_batch *batch)
{
    for (int f = 0; f < 3; f++) {
        free((void *)(uintptr_t)batch->columns[f].values);
        free((void *)(uintptr_t)batch->columns[f].offsets);
    }
    free(batch->labels);
    free(batch->timestamps);
    *batch = (truth_batch){0};
}

static uint64_t
source_size(uint64_t index, uint32_t take)
{
    return mdn_mix(index * 77 + take) % 300;
}

uint8_t *
truth_draw_source(const truth *t, uint64_t *size)
{
    uint64_t index = t->now.source_count;
    uint8_t *source;

    *size = source_size(index, t->takes);
    source = allocate(*size);
    fill(source, *size, SOURCE_KEY + index, t->takes, 0);
    return source;
}

/* Comparing. */

/* One fetch of some keys, into new arrays. */
typedef struct {
    mdn_target targets[3];
    uint32_t target_count;
    int64_t *labels, *timestamps;
} fetched;

static void
free_fetched(fetched *f)
{
    for (uint32_t i = 0; i < f->target_count; i++) {
        free(f->targets[i].values);
        free(f->targets[i].offsets);
    }
    free(f->labels);
    free(f->timestamps);
}

static mdn_status
fetch(const truth *t, mdn_view *view, const uint64_t *keys, uint64_t count,
      uint32_t threads, fetched *out, mdn_error *err)
{
    uint32_t fields = t->ragged ? 3 : 2;
    mdn_status st = MDN_OK;

    *out = (fetched){.labels = t->labels ? allocate(count * 8) : NULL,
                     .timestamps = allocate(count * 8)};
    for (uint32_t f = 0; f < fields && st == MDN_OK; f++) {
        mdn_target *target = &out->targets[out->target_count++];
        uint64_t size = f == 1 ? count * 4 : count * CELL;

        *target = (mdn_target){.field = f};
        if (t->ragged && f != 1) {
            target->offsets = allocate((count + 1) * 8);
            st = mdn_view_offsets(view, keys, count, f, target->offsets, err);
            size = st == MDN_OK ? (uint64_t)target->offsets[count] : 0;
        }
        target->values = allocate(size);
    }
    if (st == MDN_OK)
        st = mdn_view_fetch(view, keys, count, out->targets, fields,
                            out->labels, out->timestamps, threads, err);
    return st;
}

/* size bytes are those that fill would write. */
static bool
is_filled(const uint8_t *at, uint64_t size, uint64_t key, uint32_t take,
          uint32_t field)
{
    uint8_t cell[CELL];

    fill(cell, CELL, key, take, field);
    for (uint64_t n; size > 0; at += n, size -= n) {
        n = size < CELL ? size : CELL;
        if (memcmp(at, cell, n) != 0)
            return false;
    }
    return true;
}

/* Field f of row i is that of this key. */
static bool
field_is_right(const truth *t, const mdn_target *target, uint64_t i,
               uint64_t key, uint32_t take)
{
    const uint8_t *at = (const uint8_t *)target->values + i * CELL;
    uint64_t size = CELL;

    if (target->field == 1)
        return ((const int32_t *)target->values)[i] == number(key, take);
    if (t->ragged) {
        at = (const uint8_t *)target->values + target->offsets[i];
        size = payload_size(t, key, take, target->field);
        if (target->offsets[i + 1] - target->offsets[i] != (int64_t)size)
            return false;
    }
    return is_filled(at, size, key, take, target->field);
}

static mdn_status
compare_keys(const truth *t, const truth_state *state, mdn_view *view,
             const uint64_t *keys, uint64_t count, uint32_t threads,
             mdn_error *err)
{
    fetched got;
    mdn_status st = fetch(t, view, keys, count, threads, &got, err);

    for (uint64_t i = 0; i < count && st == MDN_OK; i++) {
        uint32_t take = state->take[keys[i]];
        bool right =
            got.timestamps[i] == stamp(TRUTH_TIMESTAMP_TAG, keys[i], take)
            && (!t->labels
                || got.labels[i] == stamp(TRUTH_LABEL_TAG, keys[i], take));

        for (uint32_t f = 0; f < got.target_count && right; f++)
            right = field_is_right(t, &got.targets[f], i, keys[i], take);
        if (!right)
            st = mdn_fail(err, MDN_INVALID,
                          "sample %llu is not that of append %u", (ull)keys[i],
                          take);
    }
    free_fetched(&got);
    return st;
}

/* The mapped columns say the same; 0 where a sample is erased. */
static mdn_status
compare_columns(const truth *t, const truth_state *state, mdn_view *view,
                mdn_error *err)
{
    const int64_t *timestamps, *labels;
    mdn_status st =
        mdn_view_columns(view, 0, state->count, &timestamps, &labels, err);

    for (uint64_t key = 0; key < state->count && st == MDN_OK; key++) {
        uint32_t take = state->take[key];

        if (state->erased[key])
            continue;
        if (timestamps[key] != stamp(TRUTH_TIMESTAMP_TAG, key, take)
            || (t->labels && labels[key] != stamp(TRUTH_LABEL_TAG, key, take)))
            st = mdn_fail(err, MDN_INVALID, "columns of sample %llu are wrong",
                          (ull)key);
    }
    return st;
}

/* What is erased is said to be, and one of it is refused. */
static mdn_status
compare_erased(const truth_state *state, mdn_view *view, mdn_error *err)
{
    int64_t timestamp;

    if (mdn_view_erased_count(view) != state->erased_count)
        return mdn_fail(err, MDN_INVALID, "%llu samples erased, not %llu",
                        (ull)mdn_view_erased_count(view),
                        (ull)state->erased_count);
    for (uint64_t key = 0, seen = 0; key < state->count; key++) {
        if (mdn_view_is_erased(view, key) != (state->erased[key] != 0))
            return mdn_fail(err, MDN_INVALID, "sample %llu is %serased",
                            (ull)key, state->erased[key] ? "not " : "");
        if (state->erased[key] && seen++ % 1024 == 0
            && mdn_view_fetch(view, &key, 1, NULL, 0, NULL, &timestamp, 1, NULL)
                   != MDN_NO_KEY)
            return mdn_fail(err, MDN_INVALID, "erased sample %llu is fetched",
                            (ull)key);
    }
    return MDN_OK;
}

/* What a journal was found to hold. */
typedef struct {
    const truth_state *state; /* NULL: only count */
    uint64_t sources, erased;
} found;

static mdn_status
visit_source(void *ctx, const mdn_entry *entry, mdn_error *err)
{
    found *f = ctx;
    uint64_t index = f->sources++;

    if (f->state == NULL)
        return MDN_OK;
    if (index >= f->state->source_count
        || entry->payload_size != source_size(index, f->state->sources[index])
        || !is_filled(entry->payload, entry->payload_size, SOURCE_KEY + index,
                      f->state->sources[index], 0))
        return mdn_fail(err, MDN_INVALID, "entry %llu of sources is wrong",
                        (ull)index);
    return MDN_OK;
}

static mdn_status
visit_event(void *ctx, const mdn_entry *entry, mdn_error *err)
{
    found *f = ctx;

    (void)err;
    if (entry->kind == 1) /* an erasure */
        f->erased += mdn_load_u64(entry->payload);
    return MDN_OK;
}

static mdn_status
compare_journals(const truth_state *state, mdn_dataset *dataset, mdn_error *err)
{
    found f = {.state = state};
    mdn_status st =
        mdn_dataset_journal(dataset, MDN_SOURCES, visit_source, &f, err);

    if (st == MDN_OK)
        st = mdn_dataset_journal(dataset, MDN_EVENTS, visit_event, &f, err);
    if (st == MDN_OK
        && (f.sources != state->source_count
            || f.erased != state->erased_count))
        st = mdn_fail(err, MDN_INVALID,
                      "%llu sources and %llu erasures in the journals, not "
                      "%llu and %llu",
                      (ull)f.sources, (ull)f.erased, (ull)state->source_count,
                      (ull)state->erased_count);
    return st;
}

mdn_status
truth_compare_rest(const truth *t, const truth_state *state, mdn_view *view,
                   mdn_error *err)
{
    uint64_t count = mdn_view_count(view);

    if (count > state->count)
        return mdn_fail(err, MDN_INVALID, "%llu samples instead of %llu",
                        (ull)count, (ull)state->count);
    for (uint64_t key = 0; key < count; key++) {
        mdn_status st;

        if (mdn_view_is_erased(view, key) != (state->erased[key] != 0))
            return mdn_fail(err, MDN_INVALID, "sample %llu is %serased",
                            (ull)key, state->erased[key] ? "not " : "");
        if (state->erased[key])
            continue;
        st = compare_keys(t, state, view, &key, 1, 1, err);
        if (st != MDN_OK && st != MDN_CORRUPT)
            return st;
    }
    return MDN_OK;
}

mdn_status
truth_compare_order(mdn_view *view, uint32_t threads, mdn_error *err)
{
    uint64_t count = mdn_view_count(view);
    const int64_t *timestamps, *labels;
    uint8_t *seen = NULL;
    mdn_order *order = NULL;
    mdn_status st = mdn_view_time_order(view, threads, &order, err);

    if (st == MDN_OK)
        st = mdn_view_columns(view, 0, count, &timestamps, &labels, err);
    if (st == MDN_OK && mdn_order_count(order) != count)
        st = mdn_fail(err, MDN_INVALID, "an order of %llu samples",
                      (ull)mdn_order_count(order));
    if ((seen = calloc(1, count + 1)) == NULL)
        abort();
    for (uint64_t i = 0; i < count && st == MDN_OK; i++) {
        const uint64_t *keys = mdn_order_keys(order);
        uint64_t key = keys ? keys[i] : i, last = i == 0 ? key : i - 1;

        last = i > 0 && keys ? keys[i - 1] : last;
        if (key >= count || seen[key]++ || timestamps[last] > timestamps[key]
            || (timestamps[last] == timestamps[key] && last > key))
            st = mdn_fail(err, MDN_INVALID, "sample %llu is out of time order",
                          (ull)key);
    }
    free(seen);
    mdn_order_free(order);
    return st;
}

mdn_status
truth_compare(const truth *t, const truth_state *state, mdn_dataset *dataset,
              mdn_view *view, uint32_t threads, mdn_error *err)
{
    uint64_t *keys, live = 0, step = 7919;
    mdn_status st;

    if (mdn_view_count(view) != state->count)
        return mdn_fail(err, MDN_INVALID, "%llu samples instead of %llu",
                        (ull)mdn_view_count(view), (ull)state->count);
    keys = allocate((2 * state->count + 1) * 8);
    for (uint64_t key = 0; key < state->count; key++) {
        if (!state->erased[key])
            keys[live++] = key;
    }
    for (uint64_t i = 0; i < live; i++) /* scrambled, perhaps some twice */
        keys[live + i] = keys[i * step % live];
    st = compare_erased(state, view, err);
    if (st == MDN_OK)
        st = compare_keys(t, state, view, keys, live + (live < 999 ? live : 99),
                          threads, err);
    if (st == MDN_OK)
        st = compare_columns(t, state, view, err);
    if (st == MDN_OK)
        st = compare_journals(state, dataset, err);
    free(keys);
    return st;
}

const truth_state *
truth_state_of(const truth *t, mdn_dataset *dataset, const mdn_view *view)
{
    found f = {.state = NULL};

    if (!t->in_doubt)
        return &t->now;
    if (mdn_dataset_journal(dataset, MDN_SOURCES, visit_source, &f, NULL)
        != MDN_OK)
        return NULL;
    return mdn_view_count(view) == t->then.count
                   && mdn_view_erased_count(view) == t->then.erased_count
                   && f.sources == t->then.source_count
               ? &t->then
               : &t->now;
}
