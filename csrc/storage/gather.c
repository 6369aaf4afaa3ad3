/* gather.c - samples by key into one array per field.
 *
 * The time of a gather goes into waiting for memory: records lie anywhere.  So
 * addresses run ahead of the copies, by a number of rows, in steps of a few:
 *
 *     find step s + ahead:  key -> one bit -> address -> request its lines
 *     copy step s:          field by field, a step of rows each (scatter.c)
 *
 * and some lines are on their way all of the time.  They are asked into the
 * second-level cache, which has room for more requests at a time than the
 * first: that alone made a gather of 160-byte records 1.3 times as fast. Labels
 * and timestamps are found and copied with the records.  (With bytes fields the
 * address itself has to be read from the offsets column, which is requested
 * earlier still.)
 *
 * The bit says that a record may be read.  As long as nothing is erased it is
 * that of a block of records: verified.  A view with erased samples has bits of
 * its own, one per key: verified, and not erased.  Whatever is not set takes
 * the slow path of touch(), which maps, checks, and sets.
 *
 * Several threads take contiguous parts of the rows.  The error reported is
 * that of the first bad row, so that it does not depend on the threads: rows
 * before a key that is not there are copied, as one of them may be bad, too. */
#include "storage/linked.h"
#include "storage/scatter.h"

#include <pthread.h>
#include <stdlib.h>

#define STEP UINT64_C(16)          /* rows */
#define AHEAD_MAX UINT64_C(32)     /* rows: a multiple of STEP */
#define RING (AHEAD_MAX + STEP)    /* rows found and not yet copied */
#define AHEAD_BYTES UINT64_C(8192) /* of records that are on their way */
#define LINE UINT64_C(64)
#define NEAR 2 /* as __builtin_prefetch has it: to the second-level cache */
#define REQUEST_MAX UINT64_C(1024) /* bytes; beyond, the processor streams */
#define ROWS_PER_THREAD UINT64_C(4096)       /* fewer are not worth a thread, */
#define BYTES_PER_THREAD (UINT64_C(1) << 20) /* unless they are so long */
#define THREADS_MAX 256u

/* Numbers that are gathered with the records. */
typedef struct {
    mdn_kind kind;
    const int64_t *from;
    int64_t *to;
} column;

/* How many of the rows first .. first+count-1 come before one that cannot be
 * read, which *st is then about; their records, if that is asked for. */
typedef struct job job;
typedef uint64_t (*find_rows)(const job *j, uint64_t first, uint64_t count,
                              const uint8_t **records, mdn_status *st,
                              mdn_error *err);

/* What one fetch is about, shared by its threads and not changed. */
struct job {
    mdn_view *view;
    const uint64_t *keys;
    mdn_scatter scatter;
    /* Lines of a record to request: one at `from` and at each 64 bytes behind,
     * `lines` of them, the last not beyond `last`. */
    uint64_t from, lines, last;
    uint64_t ahead; /* rows, a multiple of STEP */
    column columns[2];
    uint32_t column_count;
    find_rows find;
};

static inline uint64_t
least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
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

/* The slow path: a key that is not there, or the first touch of its block. */
static __attribute__((noinline)) mdn_status
touch(mdn_view *view, uint64_t key, mdn_error *err)
{
    mdn_status st;

    if (key >= view->tail.count || mdn_view_erased(view, key))
        return fail_key(view, key, err);
    st = mdn_verify_record(view, key, err);
    if (st == MDN_OK)
        mdn_view_show_block(view, key);
    return st;
}

/* Finding. */

/* The bits that say which records may be read, and of how many keys each is. */
typedef struct {
    const _Atomic uint64_t *words;
    uint32_t shift;
} gate;

static inline gate
gate_of(const mdn_view *view)
{
    const mdn_store *store = view->store;

    if (view->shown != NULL)
        return (gate){view->shown, 0};
    return (gate){store->verified[MDN_RECORDS],
                  store->layout.block_shift[MDN_RECORDS]};
}

static inline bool
is_open(gate g, uint64_t key)
{
    uint64_t block = key >> g.shift;
    uint64_t word =
        atomic_load_explicit(&g.words[block / 64], memory_order_acquire);

    return (word >> (block % 64)) & 1;
}

/* Request lines of a record: as many for each record of a gather, wherever it
 * begins in its first line, so that there is no branch to mispredict. */
static inline __attribute__((always_inline)) void
request(const uint8_t *at, uint64_t lines, uint64_t last)
{
    for (uint64_t line = 0; line + 1 < lines; line++)
        __builtin_prefetch(at + line * LINE, 0, NEAR);
    __builtin_prefetch(at + last, 0, NEAR);
}

/* Addresses of records of one size, whose lines are requested.  What is the
 * same for all keys is held in locals: the atomic loads would have it read anew
 * each time. */
static inline __attribute__((always_inline)) uint64_t
find_fixed(const job *j, uint64_t first, uint64_t count, uint64_t lines,
           const uint8_t **records, mdn_status *st, mdn_error *err)
{
    const mdn_store *store = j->view->store;
    const uint64_t *keys = j->keys + first;
    const uint64_t end = j->view->tail.count, from = j->from, last = j->last;
    const uint32_t shift = store->layout.segment_shift;
    const uint64_t mask = (UINT64_C(1) << shift) - 1;
    mdn_place *places = store->places;
    const gate g = gate_of(j->view);

    for (uint64_t i = 0; i < count; i++) {
        uint64_t key = keys[i];
        mdn_place *place;

        if (__builtin_expect(key >= end || !is_open(g, key), 0)
            && (*st = touch(j->view, key, err)) != MDN_OK)
            return i;
        place = &places[key >> shift];
        records[i] = atomic_load_explicit(&place->base, memory_order_acquire)
                     + (key & mask) * place->stride;
        request(records[i] + from, lines, last);
    }
    return count;
}

/* Compiled for records of so many lines.  With BMI2 a shift by a variable takes
 * one instruction instead of three, and there are two for each key. */
#define FIND(name, target, lines)                                              \
    target static uint64_t name(const job *j, uint64_t first, uint64_t count,  \
                                const uint8_t **records, mdn_status *st,       \
                                mdn_error *err)                                \
    {                                                                          \
        return find_fixed(j, first, count, lines, records, st, err);           \
    }
#define PLAIN

FIND(find_1, PLAIN, 1)
FIND(find_2, PLAIN, 2)
FIND(find_3, PLAIN, 3)
FIND(find_4, PLAIN, 4)
FIND(find_many, PLAIN, j->lines)

#if defined(__x86_64__)
#define BMI2 __attribute__((target("bmi,bmi2")))
FIND(find_1_bmi2, BMI2, 1)
FIND(find_2_bmi2, BMI2, 2)
FIND(find_3_bmi2, BMI2, 3)
FIND(find_4_bmi2, BMI2, 4)
#endif

static find_rows
choose_find(uint64_t lines)
{
    static const find_rows plain[] = {find_1, find_2, find_3, find_4};

#if defined(__x86_64__)
    static const find_rows bmi2[] = {find_1_bmi2, find_2_bmi2, find_3_bmi2,
                                     find_4_bmi2};

    if (lines <= 4 && __builtin_cpu_supports("bmi2"))
        return bmi2[lines - 1];
#endif
    return lines <= 4 ? plain[lines - 1] : find_many;
}

/* The same with bytes fields: payloads that are wanted are requested, too. */
static uint64_t
find_ragged(const job *j, uint64_t first, uint64_t count,
            const uint8_t **records, mdn_status *st, mdn_error *err)
{
    const uint64_t *keys = j->keys + first;
    const uint64_t end = j->view->tail.count;
    const gate g = gate_of(j->view);

    for (uint64_t i = 0; i < count; i++) {
        uint64_t key = keys[i], from = j->from, size = j->last + 1;

        if (__builtin_expect(key >= end || !is_open(g, key), 0)
            && (*st = touch(j->view, key, err)) != MDN_OK)
            return i;
        records[i] = mdn_view_record(j->view, key);
        if (j->scatter.has_bytes) {
            from = 0;
            size = least(mdn_view_record_size(j->view, key), REQUEST_MAX);
        }
        request(records[i] + from, (size - 1) / LINE + 2, size - 1);
    }
    return count;
}

/* Without records: keys that are there. */
static uint64_t
find_none(const job *j, uint64_t first, uint64_t count, const uint8_t **records,
          mdn_status *st, mdn_error *err)
{
    const uint64_t *keys = j->keys + first;
    const uint64_t end = j->view->tail.count;

    (void)records;
    for (uint64_t i = 0; i < count; i++) {
        if (__builtin_expect(
                keys[i] >= end || mdn_view_erased(j->view, keys[i]), 0)) {
            *st = fail_key(j->view, keys[i], err);
            return i;
        }
    }
    return count;
}

/* How many of these rows, whose keys are there, a column has verified. */
static inline uint64_t
find_column(const job *j, const column *c, uint64_t first, uint64_t count,
            mdn_status *st, mdn_error *err)
{
    const uint64_t *keys = j->keys + first;
    const gate g = {j->view->store->verified[c->kind], MDN_COLUMN_BLOCK_SHIFT};

    for (uint64_t i = 0; i < count; i++) {
        mdn_status now;

        if (__builtin_expect(!is_open(g, keys[i]), 0)
            && (now = mdn_verify_column(j->view, c->kind, keys[i], err))
                   != MDN_OK) {
            *st = now; /* of an earlier row than what may be there */
            return i;
        }
        __builtin_prefetch(c->from + keys[i], 0, NEAR);
    }
    return count;
}

static uint64_t
find(const job *j, uint64_t first, uint64_t count, const uint8_t **records,
     mdn_status *st, mdn_error *err)
{
    uint64_t found = j->find(j, first, count, records, st, err);

    for (uint32_t c = 0; c < j->column_count; c++)
        found = find_column(j, &j->columns[c], first, found, st, err);
    return found;
}

/* Request what find_ragged will read for these keys: the ends of records. */
static inline void
prepare(const job *j, uint64_t first, uint64_t last)
{
    const mdn_store *store = j->view->store;
    const int64_t *ends = mdn_store_column(store, MDN_OFFSETS);
    const uint64_t end = j->view->tail.count;

    if (!store->layout.has[MDN_OFFSETS])
        return;
    for (uint64_t i = first; i < last; i++) {
        uint64_t key = j->keys[i];

        if (key > 0 && key < end) {
            __builtin_prefetch(ends + key, 0, NEAR);
            __builtin_prefetch(ends + key - 1, 0, NEAR);
        }
    }
}

/* Copying. */

static inline mdn_status
copy_step(const job *j, mdn_unpacker *unpacker, const uint8_t *const *records,
          uint64_t first, uint64_t count, mdn_error *err)
{
    const uint64_t *keys = j->keys + first;

    for (uint32_t c = 0; c < j->column_count; c++) {
        for (uint64_t i = 0; i < count; i++)
            j->columns[c].to[first + i] = j->columns[c].from[keys[i]];
    }
    return mdn_scatter_rows(&j->scatter, unpacker, records, first, count, err);
}

/* Rows below `found` are in the ring, or copied.  A row that cannot be found
 * becomes the end. */
static mdn_status
gather_plainly(const job *j, uint64_t first, uint64_t last, mdn_error *err)
{
    const uint8_t *ring[RING];
    mdn_unpacker unpacker = {.size = 0};
    mdn_status st = MDN_OK, missed = MDN_OK;
    uint64_t found = first;

    prepare(j, first, least(first + STEP + j->ahead, last));
    for (uint64_t i = first; i < last && st == MDN_OK; i += STEP) {
        while (found < last && found < i + STEP + j->ahead) {
            uint64_t count = least(STEP, last - found), got;

            prepare(j, least(found + STEP + j->ahead, last),
                    least(found + 2 * STEP + j->ahead, last));
            got = find(j, found, count, ring + (found - first) % RING, &missed,
                       err);
            found += got;
            last = got < count ? found : last;
        }
        if (i < last)
            st = copy_step(j, &unpacker, ring + (i - first) % RING, i,
                           least(STEP, last - i), err);
    }
    mdn_unpacker_free(&unpacker);
    return st != MDN_OK ? st : missed;
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

    g->status = gather_plainly(g->job, g->first, g->last, g->err);
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

static mdn_status
gather_rows(const job *j, uint64_t first, uint64_t last, mdn_error *err)
{
    bool linked = j->lines > 0 && j->view->history->link_count > 0;
    mdn_status st = linked ? gather_linked(j, first, last, err)
                           : gather_plainly(j, first, last, err);

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

/* Bytes from .. end of each record are what is read first.  Where records may
 * begin in a line follows from the stride; linked ones begin anywhere. */
static void
plan(job *j, uint64_t from, uint64_t end)
{
    const mdn_store *store = j->view->store;
    uint64_t stride = store->layout.record_size, step, begin;

    if (store->layout.has[MDN_OFFSETS] || j->view->history->link_count > 0)
        stride = 1;
    step = least(stride & (0 - stride), LINE); /* divides all their offsets */
    begin = LINE - step + from % step;         /* in a line, at most */
    j->from = from;
    j->last = least(end - from, REQUEST_MAX) - 1;
    j->lines = (begin + j->last) / LINE + 1;
    j->last = least(j->last, (j->lines - 1) * LINE);
    j->ahead = least(AHEAD_BYTES / (j->last + 1), AHEAD_MAX) / STEP * STEP;
    if (j->ahead < STEP)
        j->ahead = STEP;
    j->find =
        store->layout.has[MDN_OFFSETS] ? find_ragged : choose_find(j->lines);
}

/* The bytes of a record that the targets are read from. */
static void
plan_targets(job *j)
{
    const mdn_schema *schema = j->view->store->schema;
    uint64_t from = UINT64_MAX, end = 0;

    for (uint32_t t = 0; t < j->scatter.target_count; t++) {
        const mdn_field *field = &schema->fields[j->scatter.targets[t].field];

        if (field->offset < from)
            from = field->offset;
        if (field->offset + field->size_bytes > end)
            end = field->offset + field->size_bytes;
        if (field->dtype == MDN_BYTES)
            end = schema->head_size;
    }
    if (end > 0)
        plan(j, from, end);
}

static void
add_column(job *j, mdn_kind kind, int64_t *to)
{
    if (to != NULL)
        j->columns[j->column_count++] =
            (column){kind, mdn_store_column(j->view->store, kind), to};
}

/* Starting and joining a thread takes as long as 500 to 1,000 records. */
static uint32_t
worth_threads(const job *j, uint64_t count, uint32_t threads)
{
    uint64_t bytes = 0, parts;

    for (uint32_t t = 0; t < j->scatter.target_count; t++) {
        const mdn_target *target = &j->scatter.targets[t];

        if (target->offsets != NULL)
            bytes += (uint64_t)(target->offsets[count] - target->offsets[0]);
    }
    parts = count / ROWS_PER_THREAD + bytes / BYTES_PER_THREAD;
    parts = least(least(parts, count), THREADS_MAX);
    return (uint32_t)least(parts, threads);
}

mdn_status
mdn_view_fetch(mdn_view *view, const uint64_t *keys, uint64_t count,
               const mdn_target *targets, uint32_t target_count,
               int64_t *labels, int64_t *timestamps, uint32_t threads,
               mdn_error *err)
{
    job j = {.view = view, .keys = keys, .ahead = AHEAD_MAX, .find = find_none};
    mdn_status st =
        mdn_scatter_plan(&j.scatter, view, keys, targets, target_count, err);

    if (st != MDN_OK)
        return st;
    if (labels != NULL && !mdn_view_has_labels(view))
        return mdn_fail(err, MDN_INVALID, "%s has no labels",
                        view->store->path);
    plan_targets(&j);
    add_column(&j, MDN_LABELS, labels);
    add_column(&j, MDN_TIMESTAMPS, timestamps);
    threads = worth_threads(&j, count, threads);
    if (threads <= 1)
        return gather_rows(&j, 0, count, err);
    return gather_in_parts(&j, count, threads, err);
}

static mdn_status
check_bytes(const mdn_view *view, uint32_t field, mdn_error *err)
{
    const mdn_schema *schema = view->store->schema;

    if (field < schema->field_count && schema->fields[field].dtype == MDN_BYTES)
        return MDN_OK;
    return mdn_fail(err, MDN_INVALID, "field number %u is not bytes", field);
}

/* Lengths of a bytes field of some rows, into offsets[1], [2], ...  Of a record
 * with one payload and no frame, which was verified, its end says it all. */
static mdn_status
add_lengths(const job *j, uint64_t first, uint64_t count, int64_t *offsets,
            mdn_error *err)
{
    const mdn_schema *schema = j->view->store->schema;
    const bool plain =
        schema->bytes_count == 1 && !j->view->store->layout.compressed;
    const uint64_t *keys = j->keys + first, end = j->view->tail.count;
    const uint8_t *records[RING];
    const gate g = gate_of(j->view);
    mdn_status st = MDN_OK;

    if (!plain && find_ragged(j, first, count, records, &st, err) < count)
        return st;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t size;

        if (plain && __builtin_expect(keys[i] >= end || !is_open(g, keys[i]), 0)
            && (st = touch(j->view, keys[i], err)) != MDN_OK)
            return st;
        size = plain
                   ? mdn_view_record_size(j->view, keys[i]) - schema->head_size
                   : mdn_load_u32(records[i] + j->from);
        offsets[i + 1] = offsets[i] + (int64_t)size;
    }
    return MDN_OK;
}

mdn_status
mdn_view_offsets(mdn_view *view, const uint64_t *keys, uint64_t count,
                 uint32_t field, int64_t *offsets, mdn_error *err)
{
    const mdn_schema *schema = view->store->schema;
    job j = {.view = view, .keys = keys};
    mdn_status st = MDN_OK;

    if ((st = check_bytes(view, field, err)) != MDN_OK)
        return st;
    plan(&j, schema->fields[field].offset, schema->fields[field].offset + 4);
    offsets[0] = 0;
    prepare(&j, 0, least(RING, count));
    for (uint64_t i = 0; i < count && st == MDN_OK; i += RING) {
        prepare(&j, least(i + RING, count), least(i + 2 * RING, count));
        st = add_lengths(&j, i, least(RING, count - i), offsets + i, err);
    }
    return st;
}

/* Linked records have no bytes fields: all payloads are in files of ours. */
mdn_status
mdn_view_payloads(mdn_view *view, const uint64_t *keys, uint64_t count,
                  uint32_t field, const uint8_t **payloads, uint64_t *sizes,
                  mdn_error *err)
{
    const mdn_schema *schema = view->store->schema;
    job j = {.view = view, .keys = keys};
    mdn_status st = check_bytes(view, field, err);
    uint64_t nth;

    if (st == MDN_OK && view->store->layout.compressed)
        st = mdn_fail(err, MDN_INVALID,
                      "%s is compressed: its payloads can be fetched, not seen "
                      "where they are",
                      view->store->path);
    if (st != MDN_OK)
        return st;
    nth = (schema->fields[field].offset - schema->fixed_size) / 4;
    plan(&j, 0, schema->head_size);
    prepare(&j, 0, least(RING, count));
    for (uint64_t i = 0; i < count; i += RING) {
        uint64_t n = least(RING, count - i);

        prepare(&j, least(i + RING, count), least(i + 2 * RING, count));
        if (find_ragged(&j, i, n, payloads + i, &st, err) < n)
            return st;
        for (uint64_t k = i; k < i + n; k++) {
            const uint8_t *record = payloads[k];

            sizes[k] = mdn_load_u32(record + schema->fields[field].offset);
            payloads[k] = record + schema->head_size
                          + mdn_payloads_before(schema, record, nth);
        }
    }
    return mdn_store_check_late(view->store, keys, count, err);
}
