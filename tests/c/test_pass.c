/* test_pass.c - the order of rows, how they are cut, what windows share. */
#include "check.h"

#include "base/deal.h"
#include "base/random.h"
#include "prefetch/cut.h"
#include "prefetch/lookup.h"
#include "prefetch/pass.h"
#include "prefetch/windows.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* ----- the order ----- */

static const mdn_shuffle shuffles[] = {MDN_AS_GIVEN, MDN_GLOBAL, MDN_PARTITION};

/* These rows are all positions, each of them once. */
static bool
holds_each_once(const uint64_t *rows, uint64_t count)
{
    uint8_t *seen = calloc(count, 1);
    bool good = true;

    for (uint64_t i = 0; i < count; i++) {
        good = good && rows[i] < count && !seen[rows[i]];
        if (rows[i] < count)
            seen[rows[i]] = 1;
    }
    free(seen);
    return good;
}

static void
check_epochs(uint64_t count, mdn_shuffle shuffle, uint64_t partition_size,
             uint64_t seed)
{
    uint64_t *rows = malloc(3 * count * sizeof *rows);
    uint64_t *again = malloc(count * sizeof *again);
    mdn_pass pass, next;

    mdn_pass_init(&pass, count, shuffle, partition_size, seed, UINT64_MAX);
    mdn_pass_positions(&pass, 0, 3 * count, rows);
    for (uint64_t lap = 0; lap < 3; lap++) {
        CHECK(holds_each_once(rows + lap * count, count));
        mdn_pass_init(&next, count, shuffle, partition_size, seed, lap - 1);
        mdn_pass_positions(&next, 0, count, again);
        CHECK(memcmp(rows + lap * count, again, count * sizeof *again) == 0);
    }
    for (uint64_t first = 0; first < 3 * count; first += 1 + count / 3)
        for (uint64_t size = 1; size < count; size = 2 * size + 1) {
            uint64_t n = size < 3 * count - first ? size : 3 * count - first;

            mdn_pass_positions(&pass, first, n, again);
            CHECK(memcmp(rows + first, again, n * sizeof *again) == 0);
        }
    free(rows);
    free(again);
}

static void
every_position_comes_once_in_an_epoch_wherever_one_begins(void)
{
    static const uint64_t counts[] = {1,  2,  3,   5,   31,  32, 33,
                                      64, 99, 100, 101, 257, 700};

    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (size_t s = 0; s < 3; s++)
            for (uint64_t size = 1; size <= 2 * counts[c]; size += 1 + size / 3)
                check_epochs(counts[c], shuffles[s], size, c);
}

/* Partitions stay together, and each comes as a permutation of its own. */
static void
partitions_come_one_after_the_other(void)
{
    enum { COUNT = 1000, SIZE = 64 };
    uint64_t rows[COUNT], short_places = 0, seen;
    bool came[COUNT / SIZE + 1];
    mdn_pass pass;

    for (uint64_t epoch = 0; epoch < 200; epoch++) {
        mdn_pass_init(&pass, COUNT, MDN_PARTITION, SIZE, 7, epoch);
        mdn_pass_positions(&pass, 0, COUNT, rows);
        memset(came, 0, sizeof came);
        for (uint64_t r = 0; r < COUNT; r += seen) {
            uint64_t partition = rows[r] / SIZE;

            CHECK(!came[partition]);
            came[partition] = true;
            for (seen = 1; r + seen < COUNT; seen++)
                if (rows[r + seen] / SIZE != partition)
                    break;
            CHECK(seen == (partition == COUNT / SIZE ? COUNT % SIZE : SIZE));
            if (partition == COUNT / SIZE)
                short_places |= UINT64_C(1) << (r / SIZE);
        }
    }
    CHECK(short_places == (1 << (COUNT / SIZE + 1)) - 1); /* it was anywhere */
}

static void
rows_beyond_counting_cost_no_list(void)
{
    uint64_t count = MDN_PERMUTATION_MAX, rows[100], again[50];
    mdn_pass pass;

    for (size_t s = 0; s < 3; s++) {
        mdn_pass_init(&pass, count, shuffles[s], UINT64_C(3) << 40, 1, 2);
        mdn_pass_positions(&pass, count - 50, 100, rows); /* two epochs */
        for (int i = 0; i < 100; i++)
            CHECK(rows[i] < count);
        mdn_pass_init(&pass, count, shuffles[s], UINT64_C(3) << 40, 1, 3);
        mdn_pass_positions(&pass, 0, 50, again);
        CHECK(memcmp(rows + 50, again, sizeof again) == 0);
    }
}

static void
find_is_the_inverse_of_at(void)
{
    static const uint64_t counts[] = {
        1, 2, 31, 1000, 1023, 1024, 1025, 99999, MDN_PERMUTATION_MAX,
    };
    mdn_permutation perm;

    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        mdn_permutation_init(&perm, counts[c], 3, c);
        for (uint64_t i = 0; i < 2000; i++) {
            uint64_t index = counts[c] > 2000 ? mdn_mix(i) % counts[c] : i;

            if (index < counts[c])
                CHECK(mdn_permutation_find(&perm,
                                           mdn_permutation_at(&perm, index))
                      == index);
        }
    }
}

static void
a_deal_is_a_permutation_of_few_and_of_many(void)
{
    static const uint64_t counts[] = {
        1, 2, 3, 17, 255, MDN_DEAL_MAX, MDN_DEAL_MAX + 1, 1025, 5000,
    };

    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        uint64_t count = counts[c], order[5000], part[5000];
        mdn_deal deal;

        mdn_deal_init(&deal, count);
        mdn_deal_by(&deal, mdn_mix(c));
        mdn_deal_range(&deal, 0, count, order);
        CHECK(holds_each_once(order, count));
        for (uint64_t i = 0; i < count; i++) {
            CHECK(mdn_deal_at(&deal, i) == order[i]);
            CHECK(mdn_deal_find(&deal, order[i]) == i);
        }
        mdn_deal_range(&deal, count / 3, count / 2, part);
        CHECK(memcmp(part, order + count / 3, count / 2 * 8) == 0);
    }
}

/* Each of the 24 orders of four comes about equally often: 5 sigma are 155. */
static void
a_deal_favours_no_order(void)
{
    uint64_t order[4], found[256] = {0}, word = mdn_stream(3, 9);
    int orders = 0;
    mdn_deal deal;

    mdn_deal_init(&deal, 4);
    for (uint64_t i = 0; i < 24000; i++) {
        mdn_deal_by(&deal, mdn_draw(word, i));
        mdn_deal_range(&deal, 0, 4, order);
        found[order[0] << 6 | order[1] << 4 | order[2] << 2 | order[3]]++;
    }
    for (int i = 0; i < 256; i++) {
        CHECK(found[i] == 0 || (found[i] > 845 && found[i] < 1155));
        orders += found[i] > 0;
    }
    CHECK(orders == 24);
}

/* ----- lookup ----- */

static void
check_lookup(const uint64_t *keys, const double *weights, uint64_t count)
{
    enum { ROWS = 3000 };
    static uint64_t positions[ROWS], got[ROWS];
    static double got_weights[ROWS];
    mdn_samples samples = mdn_samples_of(keys, weights, count, false);
    double *to = weights != NULL ? got_weights : NULL;
    mdn_pass pass;

    for (size_t s = 0; s < 3; s++)
        for (uint64_t rows = 0; rows < ROWS; rows = 3 * rows + 1) {
            mdn_pass_init(&pass, count, shuffles[s], 100, 5, 6);
            mdn_pass_positions(&pass, rows, rows, positions);
            for (int at = 0; at < 2; at++) {
                if (at == 0)
                    mdn_lookup_rows(&samples, &pass, rows, rows, got, to);
                else
                    mdn_lookup_at(&samples, positions, rows, got, to);
                for (uint64_t i = 0; i < rows; i++) {
                    CHECK(got[i] == keys[positions[i]]);
                    if (to != NULL)
                        CHECK(to[i] == weights[positions[i]]);
                }
            }
        }
}

static void
rows_become_keys_and_weights(void)
{
    enum { COUNT = 1000 };
    uint64_t keys[COUNT];
    double weights[COUNT];

    for (uint64_t i = 0; i < COUNT; i++) {
        keys[i] = mdn_mix(i);
        weights[i] = (double)i / 2;
    }
    CHECK(!mdn_samples_of(keys, NULL, COUNT, false).is_range);
    check_lookup(keys, NULL, COUNT);
    check_lookup(keys, weights, COUNT);
    for (uint64_t i = 0; i < COUNT; i++)
        keys[i] = i - 7; /* modulo 2^64, as bad keys may be */
    CHECK(mdn_samples_of(keys, NULL, COUNT, false).is_range);
    CHECK(mdn_samples_of(keys, NULL, COUNT, true).is_range);
    check_lookup(keys, NULL, COUNT);
    check_lookup(keys, weights, COUNT);
    keys[COUNT - 1]++;
    CHECK(!mdn_samples_of(keys, NULL, COUNT, false).is_range);
    CHECK(!mdn_samples_of(keys, NULL, COUNT, true).is_range);
    keys[COUNT - 1]--; /* the ends are those of a range, the middle is not */
    keys[COUNT / 2] = keys[0];
    CHECK(!mdn_samples_of(keys, NULL, COUNT, false).is_range);
    check_lookup(keys, NULL, COUNT);
    CHECK(mdn_samples_of(keys, NULL, 1, false).is_range);
    CHECK(!mdn_samples_of(keys, NULL, 0, false).is_range);
    CHECK(!mdn_samples_of(keys, NULL, 0, true).is_range);
}

/* ----- batches ----- */

/* Whoever shares it, batch by batch the rows are those of one rank alone, with
 * nothing left out or given twice but what fills up a tail. */
static void
check_cut(uint64_t rows, uint64_t batch_size, uint32_t world_size, bool drop)
{
    mdn_cut cut = {.rows = rows,
                   .batch_size = batch_size,
                   .world_size = world_size,
                   .drop_last = drop};
    uint64_t count = mdn_cut_batch_count(&cut), in_all = 0;

    CHECK(count == (rows + (drop ? 0 : batch_size - 1)) / batch_size);
    for (uint64_t b = 0; b < count; b++) {
        uint64_t here = mdn_cut_batch_rows(&cut, b), next = b * batch_size;

        CHECK(here == batch_size || (b + 1 == count && !drop));
        for (cut.rank = 0; cut.rank < world_size; cut.rank++) {
            mdn_share share = mdn_cut_share(&cut, b);

            CHECK(share.count >= 1 && share.first + share.count <= rows);
            CHECK(share.is_fill_up == (next == b * batch_size + here));
            if (share.is_fill_up)
                CHECK(share.count == 1
                      && share.first == (cut.rank - here) % rows);
            else {
                CHECK(share.first == next);
                next += share.count;
            }
        }
        CHECK(next == b * batch_size + here);
        in_all += here;
    }
    CHECK(mdn_cut_rows(&cut) == in_all);
    CHECK(in_all == rows - (drop ? rows % batch_size : 0));
}

static void
ranks_share_each_batch(void)
{
    for (uint64_t rows = 0; rows < 40; rows++)
        for (uint32_t world = 1; world <= 12; world++)
            for (uint64_t size = world; size <= 36; size += world)
                for (int drop = 0; drop < 2; drop++)
                    check_cut(rows, size, world, drop == 1);
}

static void
a_pass_that_never_ends_has_whole_batches_only(void)
{
    mdn_cut cut = {.rows = MDN_ENDLESS, .batch_size = 10, .world_size = 2};
    uint64_t count = mdn_cut_batch_count(&cut);
    mdn_share share = mdn_cut_share(&cut, count - 1);

    CHECK(count == UINT64_MAX / 10);
    CHECK(mdn_cut_rows(&cut) == count * 10);
    CHECK(share.first == (count - 1) * 10 && share.count == 5);
}

/* ----- windows ----- */

enum { USES = 7, WINDOWS = 300, THREADS = 6, BAD = 123 };

typedef struct {
    mdn_windows *windows;
    atomic_uint_least64_t next_use, planned;
} table;

static mdn_status
make_plan(void *ctx, uint64_t window, uint64_t **out, mdn_error *err)
{
    table *t = ctx;

    atomic_fetch_add(&t->planned, 1);
    sched_yield();
    if (window == BAD)
        return mdn_fail(err, MDN_CORRUPT, "window %d", BAD);
    *out = malloc(2 * sizeof **out);
    (*out)[0] = window;
    (*out)[1] = mdn_mix(window);
    return MDN_OK;
}

static uint64_t
uses_of(void *ctx, uint64_t window)
{
    (void)ctx;
    return window % 2 == 0 ? USES : 1;
}

/* Uses in the order of windows, as workers have them. */
static void *
use_windows(void *arg)
{
    table *t = arg;

    for (;;) {
        uint64_t use = atomic_fetch_add(&t->next_use, 1);
        uint64_t pair = use / (USES + 1), rest = use % (USES + 1);
        uint64_t window = 2 * pair + (rest == USES);
        const uint64_t *plan = NULL;
        mdn_error err = {0};
        mdn_status st;

        if (window >= WINDOWS)
            return NULL;
        st = mdn_windows_get(t->windows, window, &plan, &err);
        if (window == BAD)
            CHECK(st == MDN_CORRUPT && strcmp(err.message, "window 123") == 0);
        else
            CHECK(st == MDN_OK && plan[0] == window
                  && plan[1] == mdn_mix(window));
        if (use % 5 == 0)
            sched_yield();
        mdn_windows_put(t->windows, window);
    }
}

static void
each_window_is_planned_once_and_forgotten_after_its_last_use(void)
{
    table t = {.windows = NULL};
    mdn_windows_options options = {
        .live_max = THREADS + 1, .ctx = &t, .plan = make_plan, .uses = uses_of};
    pthread_t threads[THREADS];

    CHECK(mdn_windows_new(&options, &t.windows, NULL) == MDN_OK);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, use_windows, &t) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(atomic_load(&t.planned) == WINDOWS);
    mdn_windows_free(t.windows); /* ASan says what was not freed before */
}

static void
windows_that_were_not_used_up_go_with_the_table(void)
{
    table t = {.windows = NULL};
    mdn_windows_options options = {
        .live_max = 3, .ctx = &t, .plan = make_plan, .uses = uses_of};
    const uint64_t *plan = NULL;

    CHECK(mdn_windows_new(&options, &t.windows, NULL) == MDN_OK);
    for (uint64_t window = 0; window < 6; window += 2) {
        CHECK(mdn_windows_get(t.windows, window, &plan, NULL) == MDN_OK);
        mdn_windows_put(t.windows, window);
    }
    mdn_windows_free(t.windows);
    mdn_windows_free(NULL);
}

int
main(void)
{
    RUN(every_position_comes_once_in_an_epoch_wherever_one_begins);
    RUN(partitions_come_one_after_the_other);
    RUN(rows_beyond_counting_cost_no_list);
    RUN(find_is_the_inverse_of_at);
    RUN(a_deal_is_a_permutation_of_few_and_of_many);
    RUN(a_deal_favours_no_order);
    RUN(rows_become_keys_and_weights);
    RUN(ranks_share_each_batch);
    RUN(a_pass_that_never_ends_has_whole_batches_only);
    RUN(each_window_is_planned_once_and_forgotten_after_its_last_use);
    RUN(windows_that_were_not_used_up_go_with_the_table);
    return check_report("test_pass");
}
