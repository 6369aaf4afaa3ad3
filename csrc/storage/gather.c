/* gather.c - samples by key into one array per field.
 *
 * The time of a gather goes into waiting for memory: records lie anywhere.  So
 * keys are taken in groups.  While one group is copied, the records of the next
 * are on their way:
 *
 *     resolve group g+1:  key -> block bit -> address -> prefetch its lines
 *     copy group g:       field by field, a group of rows each
 *
 * (With bytes fields the address itself has to be read from the offsets
 * column, which is prefetched one group earlier still.)  Groups of 64 records
 * of 160 bytes were 1.15 times as fast as groups of 16: the longer the run of
 * requests, the more of them overlap.  A key resolves by shift and table.
 * Whether its block is verified is one bit; if not, the slow path of verify.c
 * maps and checks.
 *
 * Several threads take contiguous parts of the rows.  The error reported is
 * that of the first bad row, so that it does not depend on the threads. */
#include "storage/copy.h"
#include "storage/linked.h"
#include "storage/payloads.h"

#include <pthread.h>
#include <stdlib.h>

#define GROUP_MAX UINT64_C(64)
#define GROUP_MIN UINT64_C(4)
#define GROUP_BYTES UINT64_C(16384) /* of records: two groups fit L1 */
#define COLUMN_AHEAD UINT64_C(32)   /* rows between prefetch and use */
#define LINE UINT64_C(64)
#define PREFETCH_MAX UINT64_C(1024) /* bytes; beyond, the processor streams */
#define ROWS_PER_THREAD UINT64_C(4096) /* fewer are not worth a thread */
#define THREADS_MAX 256u

/* What one fetch is about, shared by its threads and not changed. */
typedef struct {
    mdn_view *view;
    const uint64_t *keys;
    const mdn_target *targets;
    uint32_t target_count;
    uint64_t from, size; /* the bytes of a record that are prefetched */
    uint64_t group;      /* keys of a group */
    int64_t *labels, *timestamps;
} job;

/* Rows of the group that begins at first; none at or beyond last. */
static inline uint64_t
group_size(const job *j, uint64_t first, uint64_t last)
{
    uint64_t left = first < last ? last - first : 0;

    return left < j->group ? left : j->group;
}

static mdn_status
fail_key(const mdn_view *view, uint64_t key, mdn_error *err)
{
    if (key < view->tail.count)
        return mdn_fail(err, MDN_NO_KEY, "sample %llu of %s was erased",
                        (unsigned long long)key, view->store->path);
    if (view->tail.count == 0)
        return mdn_fail(err, MDN_NO_KEY, "no sample has key %llu: %s is empty",
                        (unsigned long long)key, view->store->path);
    return mdn_fail(
        err, MDN_NO_KEY, "no sample has key %llu: keys are 0 to %llu",
        (unsigned long long)key, (unsigned long long)view->tail.count - 1);
}

/* Request the lines of `size` bytes.  As many requests for each record of a
 * gather, wherever it begins in its first line: no branch to mispredict. */
static inline void
prefetch(const uint8_t *at, uint64_t size)
{
    for (uint64_t line = 0; line < size; line += LINE)
        __builtin_prefetch(at + line, 0, 3);
    __builtin_prefetch(at + size - 1, 0, 3);
}

/* The slow path: a key that is not there, or the first touch of its block. */
static __attribute__((noinline)) mdn_status
touch(mdn_view *view, uint64_t key, mdn_error *err)
{
    if (key >= view->tail.count || mdn_view_erased(view, key))
        return fail_key(view, key, err);
    return mdn_verify_record(view, key, err);
}

/* The word of the bitmap that says whether this sample is erased; NULL if none
 * of its segment is. */
static inline const uint64_t *
erased_word(const uint64_t *const *erased, uint32_t shift, uint64_t key)
{
    const uint64_t *words = erased[key >> shift];
    uint64_t row = key & ((UINT64_C(1) << shift) - 1);

    return words == NULL ? NULL : words + row / 64;
}

/* MDN_NO_KEY if one of these keys, all of them below the count, is erased.  A
 * pass of its own: its loads then overlap, and a view in which nothing is
 * erased pays nothing. */
static inline mdn_status
refuse_erased(const mdn_view *view, const uint64_t *keys, uint64_t count,
              mdn_error *err)
{
    const uint64_t *const *erased = view->erased;
    const uint32_t shift = view->store->layout.segment_shift;
    uint64_t found = 0;

    if (erased == NULL)
        return MDN_OK;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t *word = erased_word(erased, shift, keys[i]);

        /* The bit of a row is that of its key: segments hold 2^13 or more. */
        found |= word == NULL ? 0 : *word >> (keys[i] % 64);
    }
    if (!(found & 1))
        return MDN_OK;
    while (!mdn_view_erased(view, *keys))
        keys++;
    return fail_key(view, *keys, err);
}

/* Addresses of the records of one group; their lines are requested.  What is
 * the same for all keys is held in locals: the atomic loads would have it read
 * anew each time. */
static inline mdn_status
resolve(const job *j, uint64_t first, uint64_t last, const uint8_t **records,
        mdn_error *err)
{
    const uint64_t count = group_size(j, first, last);
    const mdn_store *store = j->view->store;
    const uint64_t end = j->view->tail.count, from = j->from, size = j->size;
    const uint32_t shift = store->layout.block_shift[MDN_RECORDS];
    mdn_status st = MDN_OK, before;
    uint64_t i;

    for (i = 0; i < count; i++) {
        uint64_t key = j->keys[first + i];

        if (__builtin_expect(
                key >= end
                    || !mdn_store_verified(store, MDN_RECORDS, key >> shift),
                0)
            && (st = touch(j->view, key, err)) != MDN_OK)
            break;
        records[i] = mdn_view_record(j->view, key);
        prefetch(records[i] + from, size);
    }
    /* The first bad row is the one that is reported. */
    before = refuse_erased(j->view, j->keys + first, i, err);
    return before != MDN_OK ? before : st;
}

/* Request what resolve will read for these keys: the ends of records. */
static inline void
prepare(const job *j, uint64_t first, uint64_t last)
{
    const uint64_t count = group_size(j, first, last);
    const mdn_store *store = j->view->store;
    const int64_t *ends = mdn_store_column(store, MDN_OFFSETS);

    if (!store->layout.has[MDN_OFFSETS])
        return;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t key = j->keys[first + i];

        if (key < j->view->tail.count) {
            __builtin_prefetch(ends + key, 0, 3);
            if (key > 0)
                __builtin_prefetch(ends + key - 1, 0, 3);
        }
    }
}

/* Copying.  With a constant size the moves of mdn_copy_by_16 are unrolled. */

#define COPY_ROWS(move)                                                        \
    for (uint64_t i = 0; i < count; i++)                                       \
    move(to + i * size, records[i] + offset, size)

#define COPY_CLASS(pieces)                                                     \
    case pieces:                                                               \
        for (uint64_t i = 0; i < count; i++)                                   \
            copy_pieces(to + i * size, records[i] + offset, size, pieces);     \
        break

/* pieces - 1 moves of 16 bytes and one that ends with the field. */
static inline __attribute__((always_inline)) void
copy_pieces(uint8_t *to, const uint8_t *from, uint64_t size, uint64_t pieces)
{
#pragma GCC unroll 16
    for (uint64_t p = 0; p + 1 < pieces; p++)
        memcpy(to + 16 * p, from + 16 * p, 16);
    memcpy(to + size - 16, from + size - 16, 16);
}

static inline __attribute__((always_inline)) void
move_exactly(uint8_t *to, const uint8_t *from, uint64_t count_bytes)
{
    memcpy(to, from, count_bytes);
}

static void
copy_field(uint8_t *to, const uint8_t *const *records, uint64_t count,
           uint64_t offset, uint64_t size)
{
    if (size == 8) {
        for (uint64_t i = 0; i < count; i++)
            move_exactly(to + i * 8, records[i] + offset, 8);
        return;
    }
    if (size == 4) {
        for (uint64_t i = 0; i < count; i++)
            move_exactly(to + i * 4, records[i] + offset, 4);
        return;
    }
    if (size < 16) {
        COPY_ROWS(mdn_copy);
        return;
    }
    switch ((size + 15) / 16) {
        COPY_CLASS(1);
        COPY_CLASS(2);
        COPY_CLASS(3);
        COPY_CLASS(4);
        COPY_CLASS(5);
        COPY_CLASS(6);
        COPY_CLASS(7);
        COPY_CLASS(8);
        COPY_CLASS(9);
        COPY_CLASS(10);
        COPY_CLASS(11);
        COPY_CLASS(12);
    default: COPY_ROWS(mdn_copy);
    }
}

/* The target has room for this payload, and for no more. */
static mdn_status
check_room(const mdn_field *field, const mdn_target *target, uint64_t row,
           uint64_t size, mdn_error *err)
{
    int64_t room = target->offsets[row + 1] - target->offsets[row];

    if (room == (int64_t)size)
        return MDN_OK;
    return mdn_fail(err, MDN_INVALID,
                    "field '%s', row %llu: offsets leave %lld bytes "
                    "for %llu",
                    field->name, (unsigned long long)row, (long long)room,
                    (unsigned long long)size);
}

static mdn_status
copy_bytes(const job *j, const mdn_target *target,
           const uint8_t *const *records, uint64_t first, uint64_t count,
           mdn_error *err)
{
    const mdn_schema *schema = j->view->store->schema;
    const mdn_field *field = &schema->fields[target->field];
    uint64_t nth = (field->offset - schema->fixed_size) / 4;
    mdn_status st = MDN_OK;

    for (uint64_t i = 0; i < count && st == MDN_OK; i++) {
        uint64_t size = mdn_load_u32(records[i] + field->offset);

        st = check_room(field, target, first + i, size, err);
        if (st == MDN_OK && size > 0)
            memcpy((uint8_t *)target->values + target->offsets[first + i],
                   records[i] + schema->head_size
                       + mdn_payloads_before(schema, records[i], nth),
                   size);
    }
    return st;
}

/* Where the payload of a row goes, if the record has no other, so that its
 * frame can be unpacked there. */
static mdn_status
place_of(const job *j, const uint8_t *record, uint64_t row, uint8_t **out,
         mdn_error *err)
{
    const mdn_schema *schema = j->view->store->schema;
    const mdn_target *target = j->targets;
    const mdn_field *field;

    *out = NULL;
    if (schema->bytes_count != 1)
        return MDN_OK;
    while (schema->fields[target->field].dtype != MDN_BYTES)
        target++; /* there is one, or nothing would be unpacked */
    field = &schema->fields[target->field];
    *out = (uint8_t *)target->values + target->offsets[row];
    return check_room(field, target, row, mdn_load_u32(record + field->offset),
                      err);
}

/* The bytes fields of records that may hold a frame. */
static mdn_status
unpack_group(const job *j, mdn_unpacker *u, const uint8_t *const *records,
             uint64_t first, uint64_t count, mdn_error *err)
{
    const mdn_schema *schema = j->view->store->schema;
    const uint8_t *payloads = NULL;
    uint8_t *place = NULL;
    mdn_status st = MDN_OK;

    for (uint64_t i = 0; i < count && st == MDN_OK; i++) {
        st = place_of(j, records[i], first + i, &place, err);
        if (st == MDN_OK)
            st = mdn_payloads_find(j->view, u, j->keys[first + i], records[i],
                                   place, &payloads, err);
        for (uint32_t t = 0; t < j->target_count && st == MDN_OK; t++) {
            const mdn_target *target = &j->targets[t];
            const mdn_field *field = &schema->fields[target->field];
            uint64_t nth = (field->offset - schema->fixed_size) / 4, size;
            uint8_t *to;

            if (field->dtype != MDN_BYTES)
                continue;
            size = mdn_load_u32(records[i] + field->offset);
            to = (uint8_t *)target->values + target->offsets[first + i];
            st = check_room(field, target, first + i, size, err);
            if (st == MDN_OK && size > 0 && to != payloads)
                memcpy(to,
                       payloads + mdn_payloads_before(schema, records[i], nth),
                       size);
        }
    }
    return st;
}

static mdn_status
copy_group(const job *j, mdn_unpacker *u, const uint8_t *const *records,
           uint64_t first, uint64_t last, mdn_error *err)
{
    const uint64_t count = group_size(j, first, last);
    const mdn_schema *schema = j->view->store->schema;
    mdn_status st = MDN_OK;

    for (uint32_t t = 0; t < j->target_count && st == MDN_OK; t++) {
        const mdn_target *target = &j->targets[t];
        const mdn_field *field = &schema->fields[target->field];

        if (field->dtype != MDN_BYTES)
            copy_field((uint8_t *)target->values + first * field->size_bytes,
                       records, count, field->offset, field->size_bytes);
        else if (!j->view->store->layout.compressed)
            st = copy_bytes(j, target, records, first, count, err);
    }
    if (u != NULL && st == MDN_OK)
        st = unpack_group(j, u, records, first, count, err);
    return st;
}

/* Whether frames may have to be unpacked for a target. */
static bool
unpacks(const job *j)
{
    const mdn_store *store = j->view->store;

    for (uint32_t t = 0; t < j->target_count && store->layout.compressed; t++) {
        if (store->schema->fields[j->targets[t].field].dtype == MDN_BYTES)
            return true;
    }
    return false;
}

static mdn_status
gather_records(const job *j, uint64_t first, uint64_t last, mdn_error *err)
{
    const uint8_t *records[2][GROUP_MAX];
    const uint64_t group = j->group;
    mdn_unpacker room = {.size = 0}, *u = unpacks(j) ? &room : NULL;
    mdn_status st;
    int now = 0;

    prepare(j, first, last);
    prepare(j, first + group, last);
    st = resolve(j, first, last, records[0], err);
    for (uint64_t i = first; i < last && st == MDN_OK; i += group, now = !now) {
        prepare(j, i + 2 * group, last);
        st = resolve(j, i + group, last, records[!now], err);
        if (st == MDN_OK)
            st = copy_group(j, u, records[now], i, last, err);
    }
    mdn_unpacker_free(&room);
    return st;
}

/* The same where segments are linked: their files may change meanwhile. */

typedef struct {
    const job *job;
    uint64_t first, last;
    mdn_status status;
    mdn_error *err;
} gathering;

static void
run_gathering(void *arg)
{
    gathering *g = arg;

    g->status = gather_records(g->job, g->first, g->last, g->err);
}

static mdn_status
gather_linked(const job *j, uint64_t first, uint64_t last, mdn_error *err)
{
    gathering g = {.job = j, .first = first, .last = last, .err = err};
    mdn_status st = mdn_linked_read(j->view->store, run_gathering, &g, err);

    if (st == MDN_OK)
        st = g.status;
    if (st == MDN_OK)
        st = mdn_linked_check(j->view, j->keys + first, last - first, err);
    return st;
}

/* Numbers of one column by key. */
static mdn_status
gather_column(mdn_view *view, mdn_kind kind, const uint64_t *keys,
              uint64_t first, uint64_t last, int64_t *out, mdn_error *err)
{
    const int64_t *column = mdn_store_column(view->store, kind);
    mdn_status st;

    for (uint64_t i = first; i < last; i++) {
        uint64_t key = keys[i];
        uint64_t ahead = i + COLUMN_AHEAD < last ? keys[i + COLUMN_AHEAD] : key;

        if (ahead < view->tail.count)
            __builtin_prefetch(column + ahead, 0, 3);
        if (__builtin_expect(
                key >= view->tail.count || mdn_view_erased(view, key), 0))
            return fail_key(view, key, err);
        if (__builtin_expect(!mdn_store_verified(view->store, kind,
                                                 key >> MDN_COLUMN_BLOCK_SHIFT),
                             0)
            && (st = mdn_verify_column(view, kind, key, err)) != MDN_OK)
            return st;
        out[i] = column[key];
    }
    return MDN_OK;
}

static mdn_status
gather_rows(const job *j, uint64_t first, uint64_t last, mdn_error *err)
{
    mdn_status st = MDN_OK;

    if (j->target_count > 0)
        st = j->view->history->link_count == 0
                 ? gather_records(j, first, last, err)
                 : gather_linked(j, first, last, err);
    if (st == MDN_OK && j->labels != NULL)
        st = gather_column(j->view, MDN_LABELS, j->keys, first, last, j->labels,
                           err);
    if (st == MDN_OK && j->timestamps != NULL)
        st = gather_column(j->view, MDN_TIMESTAMPS, j->keys, first, last,
                           j->timestamps, err);
    if (st == MDN_OK)
        st = mdn_store_check_late(j->view->store, j->keys + first, last - first,
                                  err);
    return st;
}

/* Threads. */

typedef struct {
    const job *job;
    uint64_t first, last;
    pthread_t thread;
    bool started;
    mdn_status status;
    mdn_error error;
} part;

static void *
run_part(void *argument)
{
    part *p = argument;

    p->status = gather_rows(p->job, p->first, p->last, &p->error);
    return NULL;
}

/* The caller runs the first part, and every part that got no thread. */
static mdn_status
gather_in_parts(const job *j, uint64_t count, uint32_t threads, mdn_error *err)
{
    part *parts = calloc(threads, sizeof *parts);
    mdn_status st = MDN_OK;

    if (parts == NULL)
        return mdn_fail_nomem(err, threads * sizeof *parts);
    for (uint32_t t = 0; t < threads; t++) {
        part *p = &parts[t];

        p->job = j;
        p->first = count / threads * t + count % threads * t / threads;
        p->last =
            count / threads * (t + 1) + count % threads * (t + 1) / threads;
        p->started =
            t > 0 && pthread_create(&p->thread, NULL, run_part, p) == 0;
    }
    for (uint32_t t = 0; t < threads; t++) {
        if (!parts[t].started)
            run_part(&parts[t]);
    }
    for (uint32_t t = 0; t < threads; t++) {
        if (parts[t].started)
            pthread_join(parts[t].thread, NULL);
        if (st == MDN_OK && parts[t].status != MDN_OK) {
            st = parts[t].status;
            if (err != NULL)
                *err = parts[t].error;
        }
    }
    free(parts);
    return st;
}

/* Arguments. */

/* Bytes from .. end of each record are what is read first. */
static void
plan(job *j, uint64_t from, uint64_t end)
{
    j->from = from;
    j->size = end - from < PREFETCH_MAX ? end - from : PREFETCH_MAX;
    j->group = GROUP_BYTES / j->size;
    if (j->group > GROUP_MAX)
        j->group = GROUP_MAX;
    if (j->group < GROUP_MIN)
        j->group = GROUP_MIN;
}

static mdn_status
check_targets(job *j, mdn_error *err)
{
    const mdn_schema *schema = j->view->store->schema;
    uint64_t from = UINT64_MAX, end = 0;

    for (uint32_t t = 0; t < j->target_count; t++) {
        const mdn_field *field;

        if (j->targets[t].field >= schema->field_count)
            return mdn_fail(err, MDN_INVALID,
                            "field number %u; the schema has %u fields",
                            j->targets[t].field, schema->field_count);
        field = &schema->fields[j->targets[t].field];
        if (field->dtype == MDN_BYTES && j->targets[t].offsets == NULL)
            return mdn_fail(err, MDN_INVALID,
                            "field '%s' is bytes and needs offsets",
                            field->name);
        if (field->offset < from)
            from = field->offset;
        if (field->offset + field->size_bytes > end)
            end = field->offset + field->size_bytes;
        if (field->dtype == MDN_BYTES)
            end = schema->head_size;
    }
    if (j->target_count > 0)
        plan(j, from, end);
    if (j->labels != NULL && !mdn_view_has_labels(j->view))
        return mdn_fail(err, MDN_INVALID, "%s has no labels",
                        j->view->store->path);
    return MDN_OK;
}

mdn_status
mdn_view_fetch(mdn_view *view, const uint64_t *keys, uint64_t count,
               const mdn_target *targets, uint32_t target_count,
               int64_t *labels, int64_t *timestamps, uint32_t threads,
               mdn_error *err)
{
    job j = {.view = view,
             .keys = keys,
             .targets = targets,
             .target_count = target_count,
             .labels = labels,
             .timestamps = timestamps};
    mdn_status st = check_targets(&j, err);

    if (st != MDN_OK)
        return st;
    if (threads > THREADS_MAX)
        threads = THREADS_MAX;
    if (threads > count / ROWS_PER_THREAD)
        threads = (uint32_t)(count / ROWS_PER_THREAD);
    if (threads <= 1)
        return gather_rows(&j, 0, count, err);
    return gather_in_parts(&j, count, threads, err);
}

mdn_status
mdn_view_offsets(mdn_view *view, const uint64_t *keys, uint64_t count,
                 uint32_t field, int64_t *offsets, mdn_error *err)
{
    const mdn_schema *schema = view->store->schema;
    job j = {.view = view, .keys = keys};
    const uint8_t *records[GROUP_MAX];
    mdn_status st = MDN_OK;

    if (field >= schema->field_count
        || schema->fields[field].dtype != MDN_BYTES)
        return mdn_fail(err, MDN_INVALID, "field number %u is not bytes",
                        field);
    plan(&j, schema->fields[field].offset, schema->fields[field].offset + 4);
    offsets[0] = 0;
    prepare(&j, 0, count);
    for (uint64_t i = 0; i < count && st == MDN_OK; i += j.group) {
        prepare(&j, i + j.group, count);
        st = resolve(&j, i, count, records, err);
        for (uint64_t k = 0; k < group_size(&j, i, count) && st == MDN_OK; k++)
            offsets[i + k + 1] =
                offsets[i + k] + (int64_t)mdn_load_u32(records[k] + j.from);
    }
    return st;
}
