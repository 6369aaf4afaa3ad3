/* test_ahead.c - reading ahead of an epoch, over real, tiny datasets. */
#include "check.h"
#include "samples.h"

#include "base/random.h"
#include "prefetch/loader.h"
#include "storage/verify.h"
#include "storage/wants.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define COUNT UINT64_C(20000)
#define SLICE_MS 100
#define TOLD_MAX 65536

static const char *const SCHEMAS[] = {FIXED, RAGGED};

/* ----- a disk on which nothing is in memory until it is populated ----- */

typedef struct {
    mdn_io io;
    bool is_warm; /* all is in memory */
    pthread_mutex_t lock;
    mdn_span populated[TOLD_MAX]; /* guarded */
    uint64_t count;
    uint64_t questions;
} cold_disk;

static int
note_advice(void *self, const void *at, uint64_t size, mdn_advice advice)
{
    cold_disk *disk = self;

    pthread_mutex_lock(&disk->lock);
    if (advice == MDN_ADVICE_NOW && disk->count < TOLD_MAX)
        disk->populated[disk->count++] = (mdn_span){at, size};
    pthread_mutex_unlock(&disk->lock);
    return 0;
}

static bool
was_populated(cold_disk *disk, const uint8_t *at)
{
    bool found = false;

    pthread_mutex_lock(&disk->lock);
    for (uint64_t i = disk->count; i-- > 0 && !found;)
        found = at >= disk->populated[i].at
                && at < disk->populated[i].at + disk->populated[i].size;
    pthread_mutex_unlock(&disk->lock);
    return found;
}

static int
answer(void *self, const void *at, uint64_t size, uint8_t *pages)
{
    cold_disk *disk = self;

    (void)at;
    disk->questions++;
    memset(pages, disk->is_warm, (size + 4095) / 4096);
    return 0;
}

static cold_disk *
new_disk(void)
{
    cold_disk *disk = calloc(1, sizeof *disk);

    disk->io = mdn_io_system;
    disk->io.self = disk;
    disk->io.advise = note_advice;
    disk->io.resident = answer;
    pthread_mutex_init(&disk->lock, NULL);
    return disk;
}

/* ----- loaders ----- */

typedef struct {
    const char *path;
    mdn_dataset *writer, *dataset;
    cold_disk *disk;
    mdn_view *view;
} place;

static place
make_place(int schema)
{
    place p = {.path = samples_path(), .disk = new_disk()};

    p.writer = samples_create(&mdn_io_system, p.path, SCHEMAS[schema], true);
    CHECK(samples_append(p.writer, 0, COUNT, NULL) == MDN_OK);
    if (mdn_dataset_open(&p.disk->io, p.path, false, &p.dataset, NULL) != MDN_OK
        || mdn_dataset_view(p.dataset, &p.view, NULL) != MDN_OK)
        abort();
    return p;
}

static void
leave_place(place *p)
{
    mdn_view_release(p->view);
    mdn_dataset_free(p->dataset);
    mdn_dataset_free(p->writer);
    samples_remove(p->path);
    free(p->disk);
}

static uint64_t *
random_keys(uint64_t count, uint64_t seed)
{
    uint64_t *keys = malloc(count * sizeof *keys + 1);

    for (uint64_t i = 0; i < count; i++)
        keys[i] = mdn_mix(seed * 1000003 + i) % COUNT;
    return keys;
}

static mdn_loader *
new_loader(const place *p, mdn_loader_options options)
{
    static const uint32_t all[] = {0, 1, 2, 3};
    mdn_loader *loader = NULL;
    mdn_error err;

    options.view = p->view;
    options.fields = all;
    options.field_count = mdn_view_schema(p->view)->field_count;
    if (mdn_loader_new(&options, &loader, &err) != MDN_OK) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    return loader;
}

static mdn_status
take(mdn_epoch *epoch, mdn_batch **out, mdn_error *err)
{
    mdn_status st;

    do
        st = mdn_epoch_take(epoch, SLICE_MS, out, err);
    while (st == MDN_TIMEOUT);
    return st;
}

static bool
are_same(const mdn_batch *a, const mdn_batch *b)
{
    for (uint32_t i = 0; i < mdn_batch_part_count(a); i++) {
        const mdn_part *p = mdn_batch_part(a, i), *q = mdn_batch_part(b, i);

        if (p->shape[0] != q->shape[0]
            || memcmp(p->data, q->data, mdn_part_size(p)) != 0)
            return false;
    }
    return true;
}

/* ----- what it changes, and what it does not ----- */

/* Any settings of both; every batch against the one filled alone, and every
 * record of it was populated before it came. */
static void
run_with(const place *p, uint64_t seed)
{
    uint64_t count = 1 + mdn_mix(seed) % 6000;
    uint64_t *keys = random_keys(count, seed);
    uint32_t world = 1 + (uint32_t)(seed / 3 % 2), n = 0;
    mdn_loader_options plan = {
        .keys = keys,
        .count = count,
        .batch_size = world * (1 + mdn_mix(seed + 1) % 300),
        .drop_last = seed % 5 == 0,
        .shuffle = (mdn_shuffle)(seed % 3),
        .seed = seed,
        .partition_size = 1 + mdn_mix(seed + 2) % 3000,
        .pass_rows = seed % 7 == 0 ? count + count / 3 : 0,
        .rank = world - 1,
        .world_size = world,
    };
    mdn_epoch_options options = {
        .epoch = seed,
        .first_batch = mdn_mix(seed + 3) % 3,
        .stride = 1 + seed % 4 / 3,
        .thread_count = 1 + (uint32_t)(seed % 3),
        .depth = 1 + (uint32_t)(mdn_mix(seed + 4) % 6),
        .partitions = seed % 4 == 0 ? MDN_AHEAD_OPEN
                                    : 1 + (uint32_t)(mdn_mix(seed + 5) % 4),
        .requests = seed % 2 == 0 ? MDN_AHEAD_OPEN : 16,
        .budget_bytes =
            seed % 6 == 0 ? 100000 + mdn_mix(seed) % 1000000 : UINT64_MAX,
    };
    uint64_t at = options.first_batch, late = 0;
    mdn_batch *batch = NULL, *alone = NULL;
    mdn_loader *loader;
    mdn_epoch *epoch;

    if (p->view->store->layout.has[MDN_OFFSETS] && seed % 8 < 4) {
        plan.bucket_batches = 1 + seed % 5;
        plan.bucket_field = 0;
    }
    loader = new_loader(p, plan);
    if (options.first_batch > mdn_loader_batch_count(loader))
        at = options.first_batch = 0;
    CHECK(mdn_loader_begin(loader, &options, &epoch, NULL) == MDN_OK);
    while (take(epoch, &batch, NULL) == MDN_OK && batch != NULL) {
        const uint64_t *got = mdn_batch_part(batch, 0)->data;

        for (uint64_t i = 0; i < mdn_batch_part(batch, 0)->shape[0]; i += 7)
            late += !was_populated(p->disk, mdn_view_record(p->view, got[i]));
        CHECK(mdn_loader_fill(loader, seed, at, &alone, NULL) == MDN_OK);
        CHECK(are_same(batch, alone));
        mdn_batch_release(alone);
        mdn_batch_release(batch);
        at += options.stride;
        n++;
        if (seed % 9 == 8 && n == 5)
            break; /* and closed while it is under way */
    }
    if (options.budget_bytes == UINT64_MAX && plan.partition_size > 1500
        && plan.batch_size * 8 < plan.partition_size)
        CHECK(late == 0); /* there was room for the whole window */
    mdn_epoch_close(epoch);
    mdn_epoch_free(epoch);
    mdn_loader_free(loader);
    free(keys);
}

static void
batches_are_the_same_and_their_records_were_populated(void)
{
    for (uint64_t seed = 0; seed < 72; seed++) {
        place p = make_place((int)(seed % 2));

        run_with(&p, seed);
        leave_place(&p);
    }
}

static mdn_ahead_choice
run_pass(mdn_loader *loader, uint64_t epoch_number, uint32_t partitions,
         uint32_t requests)
{
    mdn_epoch_options options = {.epoch = epoch_number,
                                 .thread_count = 2,
                                 .depth = 4,
                                 .partitions = partitions,
                                 .requests = requests,
                                 .budget_bytes = UINT64_MAX};
    mdn_batch *batch = NULL;
    mdn_epoch *epoch;

    CHECK(mdn_loader_begin(loader, &options, &epoch, NULL) == MDN_OK);
    while (take(epoch, &batch, NULL) == MDN_OK && batch != NULL)
        mdn_batch_release(batch);
    mdn_epoch_free(epoch);
    return mdn_loader_ahead(loader);
}

/* Whoever runs the tests owns the files, so that residency is told. */
static void
what_is_chosen_is_told(void)
{
    place p = make_place(0);
    uint64_t *keys = random_keys(4000, 1);
    mdn_loader *loader =
        new_loader(&p, (mdn_loader_options){.keys = keys,
                                            .count = 4000,
                                            .batch_size = 50,
                                            .partition_size = 100});
    mdn_ahead_choice choice = mdn_loader_ahead(loader);

    CHECK(choice.state == MDN_AHEAD_NOT_YET);
    choice = run_pass(loader, 0, 0, 1);
    CHECK(choice.state == MDN_AHEAD_OFF && choice.partitions == 0);
    choice = run_pass(loader, 0, 3, 5);
    CHECK(choice.state == MDN_AHEAD_GIVEN && choice.partitions == 3
          && choice.requests == 5);
    choice = run_pass(loader, 0, MDN_AHEAD_OPEN, MDN_AHEAD_OPEN);
    CHECK(choice.state == MDN_AHEAD_PROBED && choice.tried_count == 3);
    CHECK(choice.partitions >= 1 && choice.partitions <= 8);
    CHECK(choice.requests == 8 || choice.requests == 32
          || choice.requests == 128);
    for (int i = 0; i < 3; i++)
        CHECK(choice.rates[i] > 0);
    p.disk->is_warm = true;
    p.disk->count = 0;
    choice = run_pass(loader, 1, MDN_AHEAD_OPEN, MDN_AHEAD_OPEN);
    CHECK(choice.state == MDN_AHEAD_RESIDENT && choice.partitions == 0);
    CHECK(p.disk->count == 0);
    p.disk->is_warm = false; /* what was probed for is not forgotten */
    choice = run_pass(loader, 2, MDN_AHEAD_OPEN, MDN_AHEAD_OPEN);
    CHECK(choice.state == MDN_AHEAD_PROBED);
    mdn_loader_free(loader);
    free(keys);
    leave_place(&p);
}

static void
what_is_in_memory_is_asked_for_once_in_a_partition_and_not_read(void)
{
    place p = make_place(0);
    uint64_t *keys = random_keys(4000, 1);
    mdn_loader *loader =
        new_loader(&p, (mdn_loader_options){.keys = keys,
                                            .count = 4000,
                                            .batch_size = 50,
                                            .partition_size = 1000});

    p.disk->is_warm = true;
    run_pass(loader, 0, 2, 5);
    CHECK(p.disk->count == 0);
    CHECK(p.disk->questions > 0 && p.disk->questions <= 4 * 256);
    mdn_loader_free(loader);
    free(keys);
    leave_place(&p);
}

static void
a_bad_key_is_still_an_error_of_its_batch(void)
{
    place p = make_place(0);
    uint64_t *keys = random_keys(1000, 2);
    mdn_epoch_options options = {.thread_count = 2,
                                 .depth = 4,
                                 .partitions = 2,
                                 .requests = 8,
                                 .budget_bytes = UINT64_MAX};
    mdn_loader *loader;
    mdn_epoch *epoch;
    mdn_batch *batch;
    mdn_status st;
    mdn_error err;
    int good = 0;

    keys[730] = COUNT + 5;
    loader = new_loader(&p, (mdn_loader_options){.keys = keys,
                                                 .count = 1000,
                                                 .batch_size = 100,
                                                 .partition_size = 200});
    CHECK(mdn_loader_begin(loader, &options, &epoch, NULL) == MDN_OK);
    while ((st = take(epoch, &batch, &err)) == MDN_OK && batch != NULL) {
        mdn_batch_release(batch);
        good++;
    }
    CHECK(good == 7 && st == MDN_NO_KEY);
    CHECK(strstr(err.message, "batch 7: ") == err.message);
    mdn_epoch_free(epoch);
    mdn_loader_free(loader);
    free(keys);
    leave_place(&p);
}

static void
settings_out_of_range_are_named(void)
{
    place p = make_place(0);
    uint64_t key = 3;
    mdn_loader *loader = new_loader(
        &p, (mdn_loader_options){.keys = &key, .count = 1, .batch_size = 1});
    mdn_epoch_options options = {
        .thread_count = 1, .depth = 1, .partitions = 5000, .requests = 1};
    mdn_epoch *epoch;
    mdn_error err;

    CHECK(mdn_loader_begin(loader, &options, &epoch, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "num_prefetched_partitions") && epoch == NULL);
    options.partitions = 1;
    options.requests = 0;
    CHECK(mdn_loader_begin(loader, &options, &epoch, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "parallel_prefetch_requests") && epoch == NULL);
    mdn_loader_free(loader);
    leave_place(&p);
}

int
main(void)
{
    RUN(batches_are_the_same_and_their_records_were_populated);
    RUN(what_is_chosen_is_told);
    RUN(what_is_in_memory_is_asked_for_once_in_a_partition_and_not_read);
    RUN(a_bad_key_is_still_an_error_of_its_batch);
    RUN(settings_out_of_range_are_named);
    return check_report("test_ahead");
}
