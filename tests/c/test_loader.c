/* test_loader.c - loaders over a real, tiny dataset. */
#include "check.h"

#include "base/random.h"
#include "prefetch/loader.h"
#include "storage/dataset.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT 20000 /* in three segments */
#define SHIFT 13

static char directory[] = "/tmp/test_loader.XXXXXX";
static mdn_view *view;

/* ----- the dataset: what a sample holds follows from its key ----- */

static int64_t
number_of(uint64_t key)
{
    return (int64_t)mdn_mix(key);
}

static float
float_of(uint64_t key, uint64_t j)
{
    return (float)(mdn_mix(key * 13 + j) % 1000000);
}

static uint64_t
length_of(uint64_t key)
{
    return mdn_mix(key) % 20;
}

static uint8_t
byte_of(uint64_t key, uint64_t j)
{
    return (uint8_t)(key + j);
}

static void
fill_dataset(mdn_dataset *dataset)
{
    float *floats = malloc(COUNT * 3 * sizeof *floats);
    int64_t *numbers = malloc(COUNT * sizeof *numbers);
    int64_t *offsets = malloc((COUNT + 1) * sizeof *offsets);
    int64_t *labels = malloc(COUNT * sizeof *labels);
    int64_t *timestamps = calloc(COUNT, sizeof *timestamps);
    uint8_t *payloads = malloc(COUNT * 20);
    uint64_t first = 1;
    mdn_column columns[3] = {
        {.values = floats},
        {.values = numbers},
        {.values = payloads, .offsets = offsets},
    };

    offsets[0] = 0;
    for (uint64_t key = 0; key < COUNT; key++) {
        for (uint64_t j = 0; j < 3; j++)
            floats[3 * key + j] = float_of(key, j);
        numbers[key] = number_of(key);
        labels[key] = (int64_t)key % 7;
        for (uint64_t j = 0; j < length_of(key); j++)
            payloads[(uint64_t)offsets[key] + j] = byte_of(key, j);
        offsets[key + 1] = offsets[key] + (int64_t)length_of(key);
    }
    CHECK(mdn_dataset_append(dataset, COUNT, columns, labels, timestamps,
                             &first, NULL)
          == MDN_OK);
    CHECK(first == 0);
    free(floats);
    free(numbers);
    free(offsets);
    free(labels);
    free(timestamps);
    free(payloads);
}

static void
make_dataset(void)
{
    char path[sizeof directory + 8];
    mdn_dataset_options options = {
        .schema = "x: float32[3]\nn: int64\ntext: bytes\n",
        .time_unit = MDN_S,
        .has_labels = true,
        .segment_shift = SHIFT,
    };
    mdn_dataset *dataset = NULL;
    mdn_error err = {0};

    CHECK(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/data", directory);
    if (mdn_dataset_create(&mdn_io_system, path, &options, &dataset, &err)
        != MDN_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    fill_dataset(dataset);
    CHECK(mdn_dataset_view(dataset, &view, NULL) == MDN_OK);
    mdn_dataset_free(dataset);
}

static void
remove_dataset(void)
{
    char command[sizeof directory + 16];

    mdn_view_release(view);
    snprintf(command, sizeof command, "rm -r %s", directory);
    CHECK(system(command) == 0);
}

/* ----- loaders ----- */

static mdn_loader *
new_loader(mdn_loader_options options)
{
    static const uint32_t all[] = {2, 0, 1};
    mdn_loader *loader = NULL;

    options.view = view;
    if (options.fields == NULL) {
        options.fields = all;
        options.field_count = 3;
    }
    CHECK(mdn_loader_new(&options, &loader, NULL) == MDN_OK);
    return loader;
}

static const void *
data(const mdn_batch *batch, uint32_t part)
{
    return mdn_batch_part(batch, part)->data;
}

static uint64_t
rows(const mdn_batch *batch)
{
    return mdn_batch_part(batch, 0)->shape[0];
}

/* Every part of a batch of all fields belongs to its keys.  Parts: keys,
 * labels, payloads, offsets, x, n. */
static bool
is_right(const mdn_batch *batch)
{
    const uint64_t *keys = data(batch, 0);
    const int64_t *labels = data(batch, 1), *offsets = data(batch, 3);
    const uint8_t *payloads = data(batch, 2);
    const float *x = data(batch, 4);
    const int64_t *n = data(batch, 5);
    bool right = mdn_batch_part_count(batch) == 6 && offsets[0] == 0;

    for (uint64_t i = 0; i < rows(batch); i++) {
        uint64_t key = keys[i], length = length_of(key);

        right = right && labels[i] == (int64_t)key % 7;
        right = right && n[i] == number_of(key);
        for (uint64_t j = 0; j < 3; j++)
            right = right && x[3 * i + j] == float_of(key, j);
        right = right && offsets[i + 1] - offsets[i] == (int64_t)length;
        for (uint64_t j = 0; right && j < length; j++)
            right = payloads[(uint64_t)offsets[i] + j] == byte_of(key, j);
    }
    return right;
}

/* The keys of an epoch, in order, into out; how many. */
static uint64_t
run(mdn_loader *loader, uint64_t number, uint32_t threads, uint32_t depth,
    uint64_t *out)
{
    mdn_epoch_options options = {
        .epoch = number, .thread_count = threads, .depth = depth};
    mdn_epoch *epoch = NULL;
    mdn_batch *batch = NULL;
    uint64_t count = 0;
    mdn_status st;

    CHECK(mdn_loader_begin(loader, &options, &epoch, NULL) == MDN_OK);
    for (;;) {
        st = mdn_epoch_take(epoch, 100, &batch, NULL);
        if (st == MDN_TIMEOUT)
            continue;
        CHECK(st == MDN_OK);
        if (batch == NULL)
            break;
        CHECK(is_right(batch));
        memcpy(out + count, data(batch, 0), rows(batch) * sizeof *out);
        count += rows(batch);
        mdn_batch_release(batch);
    }
    mdn_epoch_free(epoch);
    return count;
}

static uint64_t *
random_keys(uint64_t count)
{
    uint64_t *keys = malloc(count * sizeof *keys);

    for (uint64_t i = 0; i < count; i++)
        keys[i] = mdn_mix(i + 1) % COUNT;
    return keys;
}

static void
the_order_is_that_of_the_keys(void)
{
    uint64_t *keys = random_keys(5000), *got = malloc(5000 * sizeof *got);
    mdn_loader *loader = new_loader(
        (mdn_loader_options){.keys = keys, .count = 5000, .batch_size = 512});

    CHECK(mdn_loader_batch_count(loader) == 10);
    CHECK(run(loader, 0, 2, 3, got) == 5000);
    CHECK(memcmp(got, keys, 5000 * sizeof *got) == 0);
    mdn_loader_free(loader);
    free(keys);
    free(got);
}

static void
an_epoch_is_a_permutation_whatever_the_threads(void)
{
    uint64_t *keys = malloc(3000 * sizeof *keys), *once = calloc(3000, 8);
    uint64_t *first = malloc(3000 * sizeof *first);
    uint64_t *got = malloc(3000 * sizeof *got);
    mdn_loader *loader;

    for (uint64_t i = 0; i < 3000; i++)
        keys[i] = 2 * i;
    loader = new_loader((mdn_loader_options){.keys = keys,
                                             .count = 3000,
                                             .batch_size = 128,
                                             .shuffle = true,
                                             .seed = 4});
    CHECK(run(loader, 9, 1, 1, first) == 3000);
    for (uint64_t i = 0; i < 3000; i++)
        once[first[i] / 2]++;
    for (uint64_t i = 0; i < 3000; i++)
        CHECK(once[i] == 1);
    CHECK(memcmp(first, keys, 3000 * sizeof *keys) != 0);
    for (uint32_t threads = 1; threads <= 4; threads++)
        for (uint32_t depth = 1; depth <= 8; depth += threads) {
            CHECK(run(loader, 9, threads, depth, got) == 3000);
            CHECK(memcmp(first, got, 3000 * sizeof *got) == 0);
        }
    CHECK(run(loader, 10, 2, 2, got) == 3000);
    CHECK(memcmp(first, got, 3000 * sizeof *got) != 0);
    mdn_loader_free(loader);
    free(keys);
    free(once);
    free(first);
    free(got);
}

static void
a_batch_filled_alone_is_that_of_the_epoch(void)
{
    uint64_t *keys = random_keys(1000), *got = malloc(1000 * sizeof *got);
    mdn_loader *loader = new_loader((mdn_loader_options){
        .keys = keys, .count = 1000, .batch_size = 300, .shuffle = true});
    mdn_batch *batch = NULL;
    mdn_error err;

    CHECK(run(loader, 5, 2, 2, got) == 1000);
    for (uint64_t b = 0; b < 4; b++) {
        CHECK(mdn_loader_fill(loader, 5, b, &batch, NULL) == MDN_OK);
        CHECK(rows(batch) == (b < 3 ? 300 : 100));
        CHECK(memcmp(data(batch, 0), got + 300 * b, rows(batch) * 8) == 0);
        mdn_batch_release(batch);
    }
    CHECK(mdn_loader_fill(loader, 5, 4, &batch, &err) == MDN_INVALID);
    CHECK(batch == NULL);
    mdn_loader_free(loader);
    free(keys);
    free(got);
}

static void
the_last_batch_may_be_left_out(void)
{
    static const struct {
        uint64_t count, size, with, without;
    } cases[] = {
        {0, 4, 0, 0}, {1, 4, 1, 0},          {4, 4, 1, 1},
        {5, 4, 2, 1}, {5, UINT64_MAX, 1, 0}, {5, 1, 5, 5},
    };
    uint64_t *keys = random_keys(5);

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int drop = 0; drop < 2; drop++) {
            mdn_loader *loader =
                new_loader((mdn_loader_options){.keys = keys,
                                                .count = cases[i].count,
                                                .batch_size = cases[i].size,
                                                .drop_last = drop == 1,
                                                .shuffle = true});
            uint64_t got[5];
            uint64_t batches = drop ? cases[i].without : cases[i].with;

            CHECK(mdn_loader_batch_count(loader) == batches);
            CHECK(run(loader, 0, 2, 2, got)
                  == (drop ? batches * cases[i].size : cases[i].count));
            mdn_loader_free(loader);
        }
    free(keys);
}

/* ----- passes, ranks, strides and buckets, whatever the threads ----- */

#define ROWS_MAX 700

/* A number below high, the n-th of a seed. */
static uint64_t
below(uint64_t seed, uint64_t n, uint64_t high)
{
    return mdn_draw(seed, n) % high;
}

static mdn_loader_options
draw_options(uint64_t seed, const uint64_t *keys)
{
    mdn_loader_options options = {
        .keys = keys,
        .count = 1 + below(seed, 0, 300),
        .batch_size = 12 * (1 + below(seed, 1, 5)),
        .drop_last = below(seed, 2, 2) == 1,
        .shuffle = (mdn_shuffle)below(seed, 3, 3),
        .seed = seed,
        .partition_size = 1 + below(seed, 4, 100),
        .pass_rows = below(seed, 5, 2) * below(seed, 6, ROWS_MAX),
        .bucket_batches = below(seed, 7, 2) * (1 + below(seed, 8, 4)),
        .bucket_field = 2,
    };

    return options;
}

/* The batches first, first + stride, ... of an epoch are those that are filled
 * alone. */
static void
check_epoch(mdn_loader *loader, const mdn_epoch_options *options)
{
    uint64_t number = options->first_batch;
    mdn_epoch *epoch = NULL;
    mdn_batch *batch = NULL, *alone = NULL;
    mdn_status st;

    CHECK(mdn_loader_begin(loader, options, &epoch, NULL) == MDN_OK);
    for (;;) {
        while ((st = mdn_epoch_take(epoch, 100, &batch, NULL)) == MDN_TIMEOUT)
            continue;
        CHECK(st == MDN_OK);
        if (batch == NULL)
            break;
        CHECK(mdn_loader_fill(loader, options->epoch, number, &alone, NULL)
              == MDN_OK);
        CHECK(is_right(batch) && rows(batch) == rows(alone));
        CHECK(memcmp(data(batch, 0), data(alone, 0), 8 * rows(batch)) == 0);
        mdn_batch_release(batch);
        mdn_batch_release(alone);
        number += options->stride;
    }
    CHECK(number >= mdn_loader_batch_count(loader));
    CHECK(number < mdn_loader_batch_count(loader) + options->stride);
    mdn_epoch_free(epoch);
}

static void
an_epoch_is_the_batches_that_are_filled_alone(void)
{
    uint64_t *keys = random_keys(300);

    for (uint64_t seed = 0; seed < 60; seed++) {
        mdn_loader_options options = draw_options(seed, keys);
        mdn_epoch_options how = {
            .epoch = seed,
            .stride = 1 + below(seed, 10, 3),
            .thread_count = 1 + (uint32_t)below(seed, 11, 4),
            .depth = 1 + (uint32_t)below(seed, 12, 8),
        };
        mdn_loader *loader;

        options.world_size = 1 + (uint32_t)below(seed, 13, 4);
        options.rank = (uint32_t)below(seed, 14, options.world_size);
        loader = new_loader(options);
        how.first_batch =
            below(seed, 15, mdn_loader_batch_count(loader) + how.stride);
        check_epoch(loader, &how);
        mdn_loader_free(loader);
    }
    free(keys);
}

/* How often each key is in these. */
static void
count_keys(const uint64_t *keys, uint64_t count, int by, int32_t *found)
{
    for (uint64_t i = 0; i < count; i++)
        found[keys[i]] += by;
}

/* Batch by batch ranks have together what one alone has, and all of a batch is
 * in the rows that are said to be read for it. */
static void
check_ranks(mdn_loader_options options, uint32_t world_size)
{
    int32_t *found = calloc(COUNT, sizeof *found);
    uint64_t *span = malloc(ROWS_MAX * sizeof *span);
    mdn_loader *alone = new_loader(options), *ranks[4];
    uint64_t in_all = 0, first, end;

    options.world_size = world_size;
    for (uint32_t r = 0; r < world_size; r++) {
        options.rank = r;
        ranks[r] = new_loader(options);
        CHECK(mdn_loader_batch_count(ranks[r])
              == mdn_loader_batch_count(alone));
    }
    for (uint64_t b = 0; b < mdn_loader_batch_count(alone); b++) {
        mdn_batch *whole = NULL, *part = NULL;
        uint64_t at = 0;

        CHECK(mdn_loader_fill(alone, 3, b, &whole, NULL) == MDN_OK);
        for (uint32_t r = 0; r < world_size; r++) {
            CHECK(mdn_loader_fill(ranks[r], 3, b, &part, NULL) == MDN_OK);
            CHECK(is_right(part) && rows(part) >= 1);
            if (at < rows(whole))
                CHECK(memcmp((const uint64_t *)data(whole, 0) + at,
                             data(part, 0), 8 * rows(part))
                      == 0);
            at += rows(part);
            mdn_batch_release(part);
        }
        CHECK(at == (rows(whole) < world_size ? world_size : rows(whole)));
        mdn_loader_span(alone, b, &first, &end);
        mdn_loader_rows(alone, 3, first, end - first, span);
        count_keys(span, end - first, 1, found);
        for (uint64_t i = 0; i < rows(whole); i++)
            CHECK(found[((const uint64_t *)data(whole, 0))[i]] > 0);
        count_keys(span, end - first, -1, found);
        in_all += rows(whole);
        mdn_batch_release(whole);
    }
    CHECK(in_all == mdn_loader_row_count(alone));
    for (uint32_t r = 0; r < world_size; r++)
        mdn_loader_free(ranks[r]);
    mdn_loader_free(alone);
    free(found);
    free(span);
}

static void
ranks_have_together_what_one_alone_has(void)
{
    uint64_t *keys = random_keys(300);

    for (uint64_t seed = 100; seed < 140; seed++)
        for (uint32_t world_size = 1; world_size <= 4; world_size++)
            check_ranks(draw_options(seed, keys), world_size);
    free(keys);
}

static void
windows_hold_the_rows_they_would_without_buckets(void)
{
    uint64_t *keys = random_keys(300);
    uint64_t *plain = malloc(ROWS_MAX * sizeof *plain);
    uint64_t *sorted = malloc(ROWS_MAX * sizeof *sorted);
    int32_t *found = calloc(COUNT, sizeof *found);

    for (uint64_t seed = 200; seed < 230; seed++) {
        mdn_loader_options options = draw_options(seed, keys);
        uint64_t window = options.bucket_batches * options.batch_size, count;
        mdn_loader *loader = new_loader(options), *without;

        if (window == 0)
            window = ROWS_MAX;
        options.bucket_batches = 0;
        without = new_loader(options);
        count = run(without, 1, 1, 1, plain);
        CHECK(run(loader, 1, 3, 7, sorted) == count);
        for (uint64_t at = 0; at < count; at += window) {
            uint64_t here = count - at < window ? count - at : window;

            count_keys(plain + at, here, 1, found);
            count_keys(sorted + at, here, -1, found);
            for (uint64_t i = 0; i < here; i++)
                CHECK(found[sorted[at + i]] == 0);
        }
        mdn_loader_free(loader);
        mdn_loader_free(without);
    }
    free(keys);
    free(plain);
    free(sorted);
    free(found);
}

/* Closing at any moment ends workers that wait for a plan, and those that make
 * one. */
static void
windows_are_left_at_any_moment(void)
{
    uint64_t *keys = random_keys(4000);
    mdn_loader *loader = new_loader((mdn_loader_options){
        .keys = keys,
        .count = 4000,
        .batch_size = 50,
        .pass_rows = MDN_ENDLESS,
        .bucket_batches = 3,
        .bucket_field = 2,
        .shuffle = MDN_PARTITION,
    });
    mdn_epoch_options options = {.thread_count = 4, .depth = 9};

    CHECK(mdn_loader_is_endless(loader));
    for (int taken = 0; taken < 40; taken++) {
        mdn_epoch *epoch = NULL;
        mdn_batch *batch = NULL;

        CHECK(mdn_loader_begin(loader, &options, &epoch, NULL) == MDN_OK);
        for (int i = 0; i < taken;)
            if (mdn_epoch_take(epoch, 100, &batch, NULL) == MDN_OK) {
                mdn_batch_release(batch);
                i++;
            }
        mdn_epoch_close(epoch);
        mdn_epoch_free(epoch);
    }
    mdn_loader_free(loader);
    free(keys);
}

static void
a_bad_key_is_an_error_of_its_batch(void)
{
    uint64_t *keys = random_keys(100);
    mdn_epoch_options options = {.thread_count = 3, .depth = 4};
    mdn_loader *loader;
    mdn_epoch *epoch = NULL;
    mdn_batch *batch = NULL;
    mdn_status st = MDN_OK;
    mdn_error err;
    int good = 0;

    keys[57] = COUNT;
    loader = new_loader(
        (mdn_loader_options){.keys = keys, .count = 100, .batch_size = 10});
    CHECK(mdn_loader_begin(loader, &options, &epoch, NULL) == MDN_OK);
    while (st == MDN_OK || st == MDN_TIMEOUT) {
        st = mdn_epoch_take(epoch, 100, &batch, &err);
        if (st == MDN_OK) {
            CHECK(memcmp(data(batch, 0), keys + 10 * good, 80) == 0);
            mdn_batch_release(batch);
            good++;
        }
    }
    CHECK(good == 5);
    CHECK(st == MDN_NO_KEY && err.status == MDN_NO_KEY);
    CHECK(strstr(err.message, "batch 5: ") == err.message);
    CHECK(strstr(err.message, "20000") != NULL);
    mdn_epoch_free(epoch);
    mdn_loader_free(loader);
    free(keys);
}

static void
what_makes_no_sense_is_refused(void)
{
    static const uint32_t bad_fields[] = {3}, many[] = {0, 1, 2, 0};
    uint64_t key = 0;
    mdn_loader_options good = {
        .view = view, .keys = &key, .count = 1, .batch_size = 1};
    mdn_loader_options options = good;
    mdn_loader *loader = NULL;
    mdn_epoch *epoch = NULL;
    mdn_error err;

    options.batch_size = 0;
    CHECK(mdn_loader_new(&options, &loader, &err) == MDN_INVALID);
    options = good;
    options.fields = bad_fields;
    options.field_count = 1;
    CHECK(mdn_loader_new(&options, &loader, &err) == MDN_INVALID);
    options.fields = many;
    options.field_count = 4;
    CHECK(mdn_loader_new(&options, &loader, &err) == MDN_INVALID);
    options = good;
    options.count = UINT64_MAX;
    CHECK(mdn_loader_new(&options, &loader, &err) == MDN_INVALID);
    options = good;
    options.rank = 1;
    CHECK(mdn_loader_new(&options, &loader, &err) == MDN_INVALID);
    options.world_size = 2;
    CHECK(mdn_loader_new(&options, &loader, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "multiple of world_size") != NULL);
    options = good;
    options.count = 0;
    options.pass_rows = 1;
    CHECK(mdn_loader_new(&options, &loader, &err) == MDN_INVALID);
    options = good;
    options.bucket_batches = 1;
    CHECK(mdn_loader_new(&options, &loader, &err) == MDN_INVALID);
    options.bucket_field = 99;
    CHECK(mdn_loader_new(&options, &loader, &err) == MDN_INVALID);
    options.bucket_field = 2;
    options.bucket_batches = UINT64_MAX;
    options.batch_size = 4;
    CHECK(mdn_loader_new(&options, &loader, &err) == MDN_INVALID);
    CHECK(loader == NULL);
    mdn_loader_free(loader);
    CHECK(mdn_loader_new(&good, &loader, &err) == MDN_OK);
    for (int i = 0; i < 5; i++) {
        mdn_epoch_options bad[] = {
            {.thread_count = 0, .depth = 1},
            {.thread_count = 1, .depth = 0},
            {.thread_count = MDN_LOADER_THREADS_MAX + 1, .depth = 1},
            {.thread_count = 1, .depth = MDN_LOADER_DEPTH_MAX + 1},
            {.thread_count = 1, .depth = 1, .first_batch = 2},
        };

        CHECK(mdn_loader_begin(loader, &bad[i], &epoch, &err) == MDN_INVALID);
        CHECK(epoch == NULL);
    }
    mdn_epoch_free(NULL);
    mdn_loader_free(loader);
}

static void
the_parts_are_as_promised(void)
{
    static const uint32_t fields[] = {2, 1};
    double weights[] = {0.25, 0.5};
    uint64_t keys[] = {11, 22};
    mdn_loader *loader = new_loader((mdn_loader_options){.keys = keys,
                                                         .weights = weights,
                                                         .count = 2,
                                                         .batch_size = 2,
                                                         .fields = fields,
                                                         .field_count = 2});
    static const mdn_part_role expected[] = {
        {MDN_PART_KEYS, 0},     {MDN_PART_LABELS, 0},  {MDN_PART_WEIGHTS, 0},
        {MDN_PART_PAYLOADS, 2}, {MDN_PART_OFFSETS, 2}, {MDN_PART_FIELD, 1},
    };
    mdn_batch *batch = NULL;

    CHECK(mdn_loader_part_count(loader) == 6);
    CHECK(mdn_loader_fill(loader, 0, 0, &batch, NULL) == MDN_OK);
    CHECK(mdn_batch_part_count(batch) == 6);
    for (uint32_t i = 0; i < 6; i++) {
        mdn_part_role role = mdn_loader_part_role(loader, i);

        CHECK(role.kind == expected[i].kind);
        CHECK(role.field == expected[i].field);
    }
    CHECK(memcmp(data(batch, 2), weights, sizeof weights) == 0);
    CHECK(mdn_batch_part(batch, 4)->shape[0] == 3);
    CHECK(mdn_batch_part(batch, 3)->shape[0] == length_of(11) + length_of(22));
    mdn_batch_release(batch);
    mdn_loader_free(loader);
}

static void *
check_later(void *arg)
{
    mdn_batch *batch = arg;

    usleep(20000); /* the loader is gone by then, or going */
    CHECK(is_right(batch));
    mdn_batch_release(batch);
    return NULL;
}

static void
batches_outlive_their_loader_on_any_thread(void)
{
    uint64_t *keys = random_keys(4000);
    mdn_loader *loader = new_loader(
        (mdn_loader_options){.keys = keys, .count = 4000, .batch_size = 500});
    mdn_epoch_options options = {.thread_count = 2, .depth = 3};
    mdn_epoch *epoch = NULL;
    pthread_t threads[4];
    int taken = 0;

    CHECK(mdn_loader_begin(loader, &options, &epoch, NULL) == MDN_OK);
    while (taken < 4) {
        mdn_batch *batch = NULL;

        if (mdn_epoch_take(epoch, 100, &batch, NULL) == MDN_OK)
            CHECK(pthread_create(&threads[taken++], NULL, check_later, batch)
                  == 0);
    }
    mdn_epoch_close(epoch);
    mdn_epoch_free(epoch);
    mdn_loader_free(loader);
    free(keys);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

int
main(void)
{
    make_dataset();
    RUN(the_order_is_that_of_the_keys);
    RUN(an_epoch_is_a_permutation_whatever_the_threads);
    RUN(a_batch_filled_alone_is_that_of_the_epoch);
    RUN(the_last_batch_may_be_left_out);
    RUN(an_epoch_is_the_batches_that_are_filled_alone);
    RUN(ranks_have_together_what_one_alone_has);
    RUN(windows_hold_the_rows_they_would_without_buckets);
    RUN(windows_are_left_at_any_moment);
    RUN(a_bad_key_is_an_error_of_its_batch);
    RUN(what_makes_no_sense_is_refused);
    RUN(the_parts_are_as_promised);
    RUN(batches_outlive_their_loader_on_any_thread);
    remove_dataset();
    return check_report("test_loader");
}
