/* ahead.c - from the batches of an epoch to the pages that they need.
 *
 *   (1) tickets become batches, batches rows, rows keys: those of our rank
 *   (2) keys become ranges of mappings (wants.h); how many bytes these are is
 *       what staging.c holds against the budget
 *   (3) they are brought in
 *
 * Rows that are sorted by length in windows are those of the whole window, for
 * it is read to be sorted.
 *
 * Probing is (3) in slices, each with another number of requests in turn, until
 * every number has had its turns or two seconds are over.  What was in memory
 * already is not counted.  Then as many partitions are kept ahead as take half
 * a second to be read: enough for a consumer that is not steady. */
#include "prefetch/ahead.h"

#include "base/bytes.h"
#include "prefetch/staging.h"
#include "storage/verify.h"
#include "storage/wants.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROWS_MAX (UINT64_C(1) << 21) /* whose keys are in memory at a time */
#define SAMPLE UINT64_C(256)
#define SLICE_SPANS UINT64_C(1024)
#define SLICE_BYTES (UINT64_C(32) << 20)
#define TURNS 4 /* of each number of requests */
#define PROBE_SECONDS 2.0
#define CLOSE_TO_BEST 0.9
#define SECONDS_AHEAD 0.5
#define OPEN_PARTITIONS 2 /* ahead, until it is known better */
#define OPEN_PARTITIONS_MAX 8

static const uint32_t REQUESTS[MDN_AHEAD_TRIED] = {8, 32, 128};

/* What the turns of one number of requests have come to. */
typedef struct {
    uint32_t requests;
    double bytes, seconds;
} trial;

struct mdn_ahead {
    mdn_ahead_options opt;
    mdn_staging *staging;
    /* The rest is of its thread. */
    bool is_probing;
    trial trials[MDN_AHEAD_TRIED];
    uint32_t trial_count, turn;
    double probe_seconds;
    mdn_ahead_choice choice;
};

typedef struct {
    mdn_spans spans;
} plan;

/* ----- memory ----- */

mdn_status
mdn_ahead_memory_init(mdn_ahead_memory *memory, mdn_error *err)
{
    int code = pthread_mutex_init(&memory->lock, NULL);

    if (code != 0)
        return mdn_fail_errno(err, code, "reading ahead: no lock");
    memory->pid = getpid();
    memory->choice = memory->probed = (mdn_ahead_choice){0};
    return MDN_OK;
}

void
mdn_ahead_memory_destroy(mdn_ahead_memory *memory)
{
    if (memory->pid == getpid())
        pthread_mutex_destroy(&memory->lock);
}

mdn_ahead_choice
mdn_ahead_memory_look(mdn_ahead_memory *memory)
{
    mdn_ahead_choice choice = {.state = MDN_AHEAD_NOT_YET};

    if (memory->pid != getpid())
        return choice;
    pthread_mutex_lock(&memory->lock);
    choice = memory->choice;
    pthread_mutex_unlock(&memory->lock);
    return choice;
}

static mdn_ahead_choice
recall_probed(mdn_ahead_memory *memory)
{
    mdn_ahead_choice choice;

    pthread_mutex_lock(&memory->lock);
    choice = memory->probed;
    pthread_mutex_unlock(&memory->lock);
    return choice;
}

static void
remember(mdn_ahead_memory *memory, const mdn_ahead_choice *choice)
{
    pthread_mutex_lock(&memory->lock);
    memory->choice = *choice;
    if (choice->state == MDN_AHEAD_PROBED)
        memory->probed = *choice;
    pthread_mutex_unlock(&memory->lock);
}

/* ----- (1) ----- */

static uint64_t
batch_of(const mdn_ahead *a, uint64_t ticket)
{
    return a->opt.first_batch + ticket * a->opt.stride;
}

static uint64_t
up_to(uint64_t value, uint64_t unit)
{
    return value / unit + (value % unit != 0);
}

/* Tickets for which there is memory for keys. */
static uint64_t
tickets_max(const mdn_ahead *a)
{
    const mdn_cut *cut = a->opt.cut;
    uint64_t rows = cut->batch_size / cut->world_size;

    return rows < ROWS_MAX ? ROWS_MAX / rows : 1;
}

/* The batch behind the partition that a batch is in: the first that begins at
 * or behind the end of its slice of rows, or a whole number of windows. */
static uint64_t
partition_end(const mdn_ahead *a, uint64_t batch)
{
    uint64_t size = a->opt.partition_size, unit = a->opt.cut->batch_size, end;
    uint64_t window = a->opt.window_batches;

    if (mdn_mul_overflows(batch * unit / size + 1, size, &end))
        return UINT64_MAX;
    end = up_to(end, unit);
    if (window > 0 && mdn_mul_overflows(up_to(end, window), window, &end))
        return UINT64_MAX;
    return end > batch ? end : batch + 1;
}

static uint64_t
end_of(void *ctx, uint64_t first)
{
    const mdn_ahead *a = ctx;
    uint64_t batch = batch_of(a, first);
    uint64_t tickets = up_to(partition_end(a, batch) - batch, a->opt.stride);
    uint64_t left = a->opt.ticket_count - first;

    if (tickets > tickets_max(a))
        tickets = tickets_max(a);
    return first + (tickets < left ? tickets : left);
}

/* Rows [first, first + count) of the pass, for the windows of tickets. */
static mdn_share
rows_of_windows(const mdn_ahead *a, uint64_t first, uint64_t end)
{
    uint64_t batches = a->opt.window_batches, size = a->opt.cut->batch_size;
    uint64_t from = batch_of(a, first) / batches * batches * size;
    uint64_t to = (batch_of(a, end - 1) / batches + 1) * batches * size;
    uint64_t last = mdn_cut_rows(a->opt.cut);

    return (mdn_share){.first = from, .count = (to < last ? to : last) - from};
}

/* Keys that are collected; NULL once there was no memory. */
typedef struct {
    uint64_t *keys;
    uint64_t count, room;
    bool failed;
} key_list;

/* Room for so many more, to be filled in; NULL: none. */
static uint64_t *
make_room(key_list *list, uint64_t count)
{
    uint64_t need = list->count + count;

    if (need > list->room && !list->failed) {
        uint64_t room = need > 2 * list->room ? need : 2 * list->room;
        uint64_t *keys = realloc(list->keys, room * sizeof *keys);

        list->failed = keys == NULL;
        if (keys != NULL) {
            list->keys = keys;
            list->room = room;
        }
    }
    if (list->failed)
        return NULL;
    list->count = need;
    return list->keys + need - count;
}

static void
add_rows(const mdn_ahead *a, mdn_share share, key_list *list)
{
    uint64_t *keys = make_room(list, share.count);

    if (keys != NULL)
        mdn_lookup_rows(a->opt.samples, a->opt.pass, share.first, share.count,
                        keys, NULL);
}

static void
add_tickets(const mdn_ahead *a, uint64_t first, uint64_t end, key_list *list)
{
    for (uint64_t t = first; t < end; t++)
        add_rows(a, mdn_cut_share(a->opt.cut, batch_of(a, t)), list);
}

/* The partition of the samples that the first row of a ticket is from. */
static uint64_t
partition_of(const mdn_ahead *a, uint64_t ticket)
{
    uint64_t row = mdn_cut_share(a->opt.cut, batch_of(a, ticket)).first;
    uint64_t position;

    mdn_pass_positions(a->opt.pass, row, 1, &position);
    return position / a->opt.partition_size;
}

/* Tickets first .. end-1 begin in this partition.  If they are a good part of
 * it, all of it is taken as it lies in memory, which needs no permutation; the
 * last one may reach into the next. */
static void
add_partition(const mdn_ahead *a, uint64_t partition, uint64_t first,
              uint64_t end, key_list *list)
{
    uint64_t size = a->opt.partition_size, left, *keys;

    if ((end - first) * a->opt.cut->batch_size < size / 4) {
        add_tickets(a, first, end, list);
        return;
    }
    left = a->opt.samples->count - partition * size;
    size = size < left ? size : left;
    keys = make_room(list, size);
    if (keys != NULL)
        memcpy(keys, a->opt.samples->keys + partition * a->opt.partition_size,
               size * sizeof *keys);
    add_tickets(a, end - 1, end, list);
}

static void
add_by_partition(const mdn_ahead *a, uint64_t first, uint64_t end,
                 key_list *list)
{
    while (first < end) {
        uint64_t partition = partition_of(a, first), next = first + 1;

        while (next < end && partition_of(a, next) == partition)
            next++;
        add_partition(a, partition, first, next, list);
        first = next;
    }
}

/* The keys that tickets first .. end-1 read, perhaps some more; malloc'd, or
 * NULL. */
static uint64_t *
keys_of(const mdn_ahead *a, uint64_t first, uint64_t end, uint64_t *count)
{
    key_list list = {0};
    mdn_share share;

    if (a->opt.window_batches > 0) {
        share = rows_of_windows(a, first, end);
        if (share.count <= 2 * ROWS_MAX)
            add_rows(a, share, &list);
    } else if (a->opt.pass->shuffle == MDN_PARTITION && a->opt.stride == 1
               && a->opt.cut->world_size == 1)
        add_by_partition(a, first, end, &list);
    else
        add_tickets(a, first, end, &list);
    if (list.failed) {
        free(list.keys);
        list.keys = NULL;
    }
    *count = list.count;
    return list.keys;
}

/* Some of them, evenly spread; as many as there are. */
static uint64_t
some_keys_of(const mdn_ahead *a, uint64_t first, uint64_t end,
             uint64_t keys[SAMPLE])
{
    uint64_t tickets = end - first, n = 0;

    for (uint64_t i = 0; i < SAMPLE; i++) {
        uint64_t ticket =
            first + tickets / SAMPLE * i + tickets % SAMPLE * i / SAMPLE;
        mdn_share share = mdn_cut_share(a->opt.cut, batch_of(a, ticket));
        uint64_t row = i * UINT64_C(0x9e3779b97f4a7c15) >> 32;

        if (share.count > 0)
            mdn_lookup_rows(a->opt.samples, a->opt.pass,
                            share.first + row % share.count, 1, &keys[n++],
                            NULL);
    }
    return n;
}

static bool
is_resident(const mdn_ahead *a, uint64_t first, uint64_t end)
{
    uint64_t keys[SAMPLE], count = some_keys_of(a, first, end, keys);

    return mdn_wants_resident(a->opt.view, keys, count, a->opt.what);
}

/* ----- (2) ----- */

static void *
make_plan(void *ctx, uint64_t first, uint64_t end, const atomic_bool *stop,
          uint64_t *bytes)
{
    const mdn_ahead *a = ctx;
    uint64_t count, *keys;
    plan *p;

    if (is_resident(a, first, end))
        return NULL;
    p = calloc(1, sizeof *p);
    keys = keys_of(a, first, end, &count);
    if (p == NULL || keys == NULL
        || mdn_wants_of(a->opt.view, keys, count, a->opt.what, stop, &p->spans,
                        NULL)
               != MDN_OK) {
        free(p);
        p = NULL;
    } else
        *bytes = p->spans.bytes;
    free(keys);
    return p;
}

static void
drop_plan(void *ctx, void *made)
{
    plan *p = made;

    (void)ctx;
    mdn_spans_free(&p->spans);
    free(p);
}

/* ----- (3) ----- */

static double
now_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double
rate_of(const trial *t)
{
    return t->seconds > 0 ? t->bytes / t->seconds : 0;
}

/* The fewest requests that are close to the best. */
static const trial *
best_trial(const mdn_ahead *a)
{
    double best = 0;
    const trial *t = a->trials;

    for (uint32_t i = 0; i < a->trial_count; i++)
        best = rate_of(&a->trials[i]) > best ? rate_of(&a->trials[i]) : best;
    if (best <= 0) /* time was up before anything was read */
        return &a->trials[a->trial_count / 2];
    while (rate_of(t) < CLOSE_TO_BEST * best)
        t++;
    return t;
}

static uint32_t
choose_partitions(const mdn_ahead *a, double rate)
{
    double bytes = (double)a->choice.partition_bytes;
    double count = bytes > 0 ? SECONDS_AHEAD * rate / bytes : 1;

    if (a->opt.partitions != MDN_AHEAD_OPEN)
        return a->opt.partitions;
    if (count >= OPEN_PARTITIONS_MAX)
        return OPEN_PARTITIONS_MAX;
    return 1 + (uint32_t)count;
}

static void
end_probe(mdn_ahead *a)
{
    const trial *best = best_trial(a);
    mdn_ahead_choice *choice = &a->choice;

    a->is_probing = false;
    choice->state = MDN_AHEAD_PROBED;
    choice->requests = best->requests;
    choice->partitions = choose_partitions(a, rate_of(best));
    choice->probe_seconds = a->probe_seconds;
    choice->tried_count = a->trial_count;
    for (uint32_t i = 0; i < a->trial_count; i++) {
        choice->tried[i] = a->trials[i].requests;
        choice->rates[i] = rate_of(&a->trials[i]);
    }
    remember(a->opt.memory, choice);
}

/* Spans first .. of a slice, which ends before the one returned. */
static uint64_t
slice_end(const mdn_spans *spans, uint64_t first)
{
    uint64_t bytes = 0, end = first;

    while (end < spans->count && end - first < SLICE_SPANS
           && bytes < SLICE_BYTES)
        bytes += spans->items[end++].size;
    return end;
}

/* One turn; the time of what was in memory already is not counted. */
static void
probe_slice(mdn_ahead *a, const mdn_spans *spans, uint64_t first, uint64_t end,
            const atomic_bool *stop)
{
    trial *t = &a->trials[a->turn % a->trial_count];
    const mdn_io *io = a->opt.view->store->io;
    mdn_spans slice = {.items = spans->items + first, .count = end - first};
    uint64_t missing = 0;
    double since;

    for (uint64_t i = 0; i < slice.count; i++)
        missing += slice.items[i].size;
    slice.bytes = missing;
    missing -= mdn_spans_resident(&slice, io);
    since = now_seconds();
    mdn_spans_bring(spans, first, end, io, t->requests, stop);
    since = now_seconds() - since;
    a->probe_seconds += since;
    if (missing > slice.bytes / 2) {
        t->bytes += (double)missing;
        t->seconds += since;
        a->turn++;
    }
}

static uint32_t
bring(void *ctx, void *made, const atomic_bool *stop)
{
    mdn_ahead *a = ctx;
    plan *p = made;
    uint64_t at = 0;

    a->choice.partition_bytes = p->spans.bytes;
    while (a->is_probing && at < p->spans.count && !atomic_load(stop)) {
        uint64_t end = slice_end(&p->spans, at);

        probe_slice(a, &p->spans, at, end, stop);
        at = end;
        if (a->turn >= TURNS * a->trial_count
            || a->probe_seconds >= PROBE_SECONDS)
            end_probe(a);
    }
    mdn_spans_bring(&p->spans, at, p->spans.count, a->opt.view->store->io,
                    a->choice.requests, stop);
    return a->choice.partitions;
}

/* ----- life cycle ----- */

/* What is known before anything is read; and whether that is all. */
static void
begin_choice(mdn_ahead *a)
{
    const mdn_ahead_options *opt = &a->opt;
    mdn_ahead_choice probed = recall_probed(opt->memory);
    mdn_ahead_choice *choice = &a->choice;
    bool any_open =
        opt->partitions == MDN_AHEAD_OPEN || opt->requests == MDN_AHEAD_OPEN;

    if (opt->partitions == 0)
        choice->state = MDN_AHEAD_OFF;
    else if (opt->partitions == MDN_AHEAD_OPEN
             && (opt->ticket_count == 0
                 || is_resident(a, 0, opt->ticket_count)))
        choice->state = MDN_AHEAD_RESIDENT;
    else if (any_open && probed.state == MDN_AHEAD_PROBED)
        *choice = probed;
    else {
        choice->state = any_open ? MDN_AHEAD_PROBING : MDN_AHEAD_GIVEN;
        choice->partitions = opt->partitions == MDN_AHEAD_OPEN
                                 ? OPEN_PARTITIONS
                                 : opt->partitions;
        choice->requests =
            opt->requests == MDN_AHEAD_OPEN ? REQUESTS[1] : opt->requests;
    }
    a->is_probing = choice->state == MDN_AHEAD_PROBING;
    a->trial_count = opt->requests == MDN_AHEAD_OPEN ? MDN_AHEAD_TRIED : 1;
    for (uint32_t i = 0; i < a->trial_count; i++)
        a->trials[i].requests =
            opt->requests == MDN_AHEAD_OPEN ? REQUESTS[i] : opt->requests;
    remember(opt->memory, choice);
}

mdn_status
mdn_ahead_start(const mdn_ahead_options *options, mdn_ahead **out,
                mdn_error *err)
{
    mdn_ahead *a = calloc(1, sizeof *a);
    mdn_staging_options staging = {
        .ticket_count = options->ticket_count,
        .depth = options->depth,
        .budget_bytes = options->budget_bytes,
        .ctx = a,
        .end = end_of,
        .plan = make_plan,
        .bring = bring,
        .drop = drop_plan,
    };
    mdn_status st = MDN_OK;

    *out = NULL;
    if (a == NULL)
        return mdn_fail_nomem(err, sizeof *a);
    a->opt = *options;
    begin_choice(a);
    staging.ahead = a->choice.partitions;
    if (staging.ahead > 0)
        st = mdn_staging_start(&staging, &a->staging, err);
    if (a->staging == NULL)
        free(a);
    else
        *out = a;
    return st;
}

void
mdn_ahead_wait(mdn_ahead *a, uint64_t ticket)
{
    if (a != NULL)
        mdn_staging_wait(a->staging, ticket);
}

bool
mdn_ahead_is_ready(const mdn_ahead *a, uint64_t ticket)
{
    return a == NULL || mdn_staging_is_ready(a->staging, ticket);
}

void
mdn_ahead_done(mdn_ahead *a, uint64_t ticket)
{
    if (a != NULL)
        mdn_staging_done(a->staging, ticket);
}

void
mdn_ahead_close(mdn_ahead *a)
{
    if (a != NULL)
        mdn_staging_close(a->staging);
}

/* In a forked child its memory stays, as that of the staging does. */
void
mdn_ahead_free(mdn_ahead *a)
{
    if (a == NULL || a->opt.memory->pid != getpid())
        return;
    mdn_staging_free(a->staging);
    free(a);
}
