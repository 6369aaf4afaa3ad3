/* test_selector.c - sampling, shares, classes and the sorts beneath them. */
#include "base/random.h"
#include "metadata/stream.h"
#include "selector/bottom.h"
#include "selector/classes.h"
#include "selector/sampler.h"
#include "selector/shares.h"
#include "selector/sort.h"

#include "check.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* ---- plain twins ---- */

static int
by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

typedef struct {
    uint64_t draw, key;
} ticket;

static int
by_draw(const void *a, const void *b)
{
    const ticket *x = a, *y = b;

    return x->draw != y->draw ? (x->draw > y->draw) - (x->draw < y->draw)
                              : (x->key > y->key) - (x->key < y->key);
}

/* Of the n keys, which are all different, the count with the smallest draws,
 * ascending; returns how many. */
static uint64_t
plain_uniform(const uint64_t *keys, uint64_t n, uint64_t count, uint64_t start,
              uint64_t *out)
{
    ticket *tickets = malloc((n > 0 ? n : 1) * sizeof *tickets);

    for (uint64_t i = 0; i < n; i++)
        tickets[i] = (ticket){mdn_draw(start, keys[i]), keys[i]};
    qsort(tickets, n, sizeof *tickets, by_draw);
    count = count < n ? count : n;
    for (uint64_t i = 0; i < count; i++)
        out[i] = tickets[i].key;
    qsort(out, count, sizeof *out, by_value);
    free(tickets);
    return count;
}

/* ---- helpers ---- */

static uint64_t
some(uint64_t index)
{
    return mdn_draw(mdn_stream(2024, 99), index);
}

/* The keys `some` gives, below `range` if that is not 0. */
static uint64_t *
some_keys(uint64_t n, uint64_t range)
{
    uint64_t *keys = malloc((n > 0 ? n : 1) * sizeof *keys);

    for (uint64_t i = 0; i < n; i++)
        keys[i] = range ? some(i) % range : some(i);
    return keys;
}

static uint64_t *
count_up(uint64_t n)
{
    uint64_t *keys = malloc((n > 0 ? n : 1) * sizeof *keys);

    for (uint64_t i = 0; i < n; i++)
        keys[i] = i;
    return keys;
}

static mdn_metadata_stream *
stream_of(const uint64_t *keys, const int64_t *labels, uint64_t n,
          uint64_t block_count)
{
    mdn_metadata_stream *stream;

    CHECK(mdn_metadata_from_arrays(keys, NULL, labels, n, block_count, &stream,
                                   NULL)
          == MDN_OK);
    return stream;
}

/* What a sampler chooses from a stream; *keys is NULL when it fails. */
static mdn_status
sample(const mdn_sampler_options *options, mdn_metadata_stream *stream,
       uint64_t **keys, uint64_t *count, bool *repeated, mdn_error *err)
{
    const mdn_shard shard = {.stream = stream};
    mdn_sampler *sampler;
    mdn_drawn drawn = {0};
    mdn_status st;

    CHECK(mdn_sampler_new(options, &sampler, err) == MDN_OK);
    st = mdn_sampler_offer(sampler, &shard, 1, NULL, err);
    if (st == MDN_OK)
        st = mdn_sampler_finish(sampler, &drawn, repeated, err);
    mdn_sampler_free(sampler);
    *keys = drawn.keys;
    *count = drawn.count;
    return st;
}

/* Again, merging, when a key came more than once. */
static mdn_status
sample_uniform(mdn_metadata_stream *stream, uint64_t count, uint64_t seed,
               uint64_t **keys, uint64_t *key_count, mdn_error *err)
{
    mdn_sampler_options options = {.limit = count, .seed = seed};
    bool repeated = false;
    mdn_status st = sample(&options, stream, keys, key_count, &repeated, err);

    if (st != MDN_OK || !repeated)
        return st;
    free(*keys);
    options.merging = true;
    st = sample(&options, stream, keys, key_count, &repeated, err);
    CHECK(!repeated);
    return st;
}

static mdn_status
sample_balanced(mdn_metadata_stream *stream, uint64_t count,
                mdn_shares_mode mode, uint64_t seed, uint64_t **keys,
                uint64_t *key_count, mdn_error *err)
{
    const mdn_sampler_options options = {MDN_SAMPLER_BALANCED, count, seed,
                                         mode, false};
    bool repeated;

    return sample(&options, stream, keys, key_count, &repeated, err);
}

static bool
uniform_is(const uint64_t *keys, uint64_t n, uint64_t block_count,
           uint64_t count, uint64_t seed, const uint64_t *want,
           uint64_t want_count)
{
    mdn_metadata_stream *stream = stream_of(keys, NULL, n, block_count);
    uint64_t *got, got_count;
    bool same;

    CHECK(sample_uniform(stream, count, seed, &got, &got_count, NULL)
          == MDN_OK);
    same = got_count == want_count
           && memcmp(got, want, want_count * sizeof *got) == 0;
    free(got);
    stream->free(stream);
    return same;
}

/* ---- sorts ---- */

static void
words_sort_like_qsort_whatever_their_range(void)
{
    const uint64_t counts[] = {0, 1, 2, 63, 64, 65, 1000, 20000};
    const uint64_t ranges[] = {0, 1, 2, 300, 70000, UINT64_C(1) << 40};

    for (int c = 0; c < 8; c++) {
        for (int r = 0; r < 6; r++) {
            uint64_t n = counts[c];
            uint64_t *got = some_keys(n, ranges[r]);
            uint64_t *want = some_keys(n, ranges[r]);
            uint64_t *scratch = malloc((n > 0 ? n : 1) * sizeof *scratch);

            mdn_sort_words(got, n, scratch);
            qsort(want, n, sizeof *want, by_value);
            CHECK(memcmp(got, want, n * sizeof *got) == 0);
            free(got);
            free(want);
            free(scratch);
        }
    }
}

static void
the_smallest_come_to_the_front_whatever_their_range(void)
{
    const uint64_t ranges[] = {0, 1, 2, 300, 70000, UINT64_C(1) << 40};
    const uint64_t n = 5000;
    const uint64_t limits[] = {1, 2, 2047, 2048, 2500, 4999, 5000};

    for (int r = 0; r < 6; r++) {
        for (int l = 0; l < 7; l++) {
            uint64_t *got = some_keys(n, ranges[r]);
            uint64_t *want = some_keys(n, ranges[r]);

            qsort(want, n, sizeof *want, by_value);
            CHECK(mdn_sort_smallest(got, n, limits[l]) == want[limits[l] - 1]);
            qsort(got, limits[l], sizeof *got, by_value);
            CHECK(memcmp(got, want, limits[l] * sizeof *got) == 0);
            free(got);
            free(want);
        }
    }
}

/* ---- draws ---- */

static void
a_draw_names_its_key(void)
{
    const uint64_t ends[] = {0, 1, UINT64_MAX, UINT64_C(1) << 63};

    for (uint64_t seed = 0; seed < 50; seed++) {
        uint64_t start = mdn_stream(seed, 1);

        for (uint64_t i = 0; i < 40; i++) {
            uint64_t key = i < 4 ? ends[i] : some(i);
            uint64_t draw = mdn_draw(start, key);

            mdn_bottom_keys(start, &draw, 1);
            CHECK(draw == key);
        }
    }
}

static void
vector_and_plain_draws_keep_the_same_keys(void)
{
    for (uint64_t n = 0; n < 70; n++) {
        uint64_t *keys = some_keys(n, 0);
        uint64_t a[200], b[200];
        mdn_bottom fast, plain;

        mdn_bottom_init(&fast, a, 200, 10);
        mdn_bottom_init(&plain, b, 200, 10);
        for (int round = 0; round < 5; round++) {
            mdn_bottom_offer(&fast, 7 + (uint64_t)round, keys, n);
            mdn_bottom_offer_portable(&plain, 7 + (uint64_t)round, keys, n);
            CHECK(fast.count == plain.count && fast.cut == plain.cut);
            CHECK(memcmp(a, b, fast.count * sizeof *a) == 0);
            mdn_bottom_trim(&fast);
            mdn_bottom_trim(&plain);
        }
        free(keys);
    }
}

/* ---- uniform ---- */

static void
uniform_equals_its_twin_for_any_cut_into_blocks(void)
{
    const uint64_t counts[] = {0, 1, 2, 63, 64, 65, 1000, 9999, 10000, 20000};
    const uint64_t blocks[] = {1, 7, 4096, 5000, 65536};
    const uint64_t n = 10000;
    uint64_t *keys = some_keys(n, 0);
    uint64_t *want = malloc(n * sizeof *want);

    for (int c = 0; c < 10; c++) {
        uint64_t seed = some(1000 + (uint64_t)c);
        uint64_t start = mdn_stream(seed, MDN_STREAM_UNIFORM);
        uint64_t want_count = plain_uniform(keys, n, counts[c], start, want);

        for (int b = 0; b < 5; b++)
            CHECK(uniform_is(keys, n, blocks[b], counts[c], seed, want,
                             want_count));
    }
    free(keys);
    free(want);
}

static void
uniform_does_not_depend_on_the_order_of_the_stream(void)
{
    const uint64_t n = 30000;
    uint64_t *keys = count_up(n);
    uint64_t *want = malloc(n * sizeof *want);
    uint64_t start = mdn_stream(5, MDN_STREAM_UNIFORM);
    uint64_t want_count = plain_uniform(keys, n, 100, start, want);

    for (uint64_t i = 0; i < n / 2; i++) { /* backwards */
        uint64_t key = keys[i];

        keys[i] = keys[n - 1 - i];
        keys[n - 1 - i] = key;
    }
    CHECK(uniform_is(keys, n, 512, 100, 5, want, want_count));
    free(keys);
    free(want);
}

static void
a_key_that_comes_more_than_once_counts_once(void)
{
    const uint64_t counts[] = {1, 2, 64, 65, 999, 1000, 3000};
    const uint64_t n = 1000, copies = 23;
    uint64_t *keys = count_up(n), *repeated, *want;
    uint64_t start = mdn_stream(9, MDN_STREAM_UNIFORM);

    repeated = malloc(n * copies * sizeof *repeated);
    want = malloc(n * sizeof *want);
    for (uint64_t i = 0; i < n * copies; i++)
        repeated[i] = keys[i % n];
    for (int c = 0; c < 7; c++) {
        uint64_t want_count = plain_uniform(keys, n, counts[c], start, want);

        CHECK(uniform_is(repeated, n * copies, 300, counts[c], 9, want,
                         want_count));
    }
    free(keys);
    free(repeated);
    free(want);
}

/* Inclusion counts of n keys over T seeds: with count = n/4 each is binomial
 * with p = 1/4.  Sum of squared standard scores, corrected by (n-1)/n for the
 * fixed total, is chi-squared with n - 1 degrees of freedom; 1e-4 of its upper
 * tail begins near (n-1) + 3.72 * sqrt(2 (n-1)) + 8.  The seeds are fixed, so
 * the test is not a matter of luck. */
static void
every_key_is_as_likely_as_any_other(void)
{
    enum { N = 400, SEEDS = 4000 };
    static int hits[N], pairs;
    const double p = 0.25, variance = SEEDS * p * (1 - p);
    uint64_t *keys = count_up(N);
    double chi2 = 0, expected_pairs;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        mdn_metadata_stream *stream = stream_of(keys, NULL, N, 128);
        uint64_t *got, count;
        bool first = false, second = false;

        sample_uniform(stream, N / 4, seed, &got, &count, NULL);
        for (uint64_t i = 0; i < count; i++) {
            hits[got[i]]++;
            first = first || got[i] == 17;
            second = second || got[i] == 18;
        }
        pairs += first && second;
        free(got);
        stream->free(stream);
    }
    for (int i = 0; i < N; i++)
        chi2 += (hits[i] - SEEDS * p) * (hits[i] - SEEDS * p) / variance;
    chi2 *= (N - 1.0) / N;
    CHECK(chi2 < N - 1 + 3.72 * sqrt(2 * (N - 1.0)) + 8);
    CHECK(chi2 > N - 1 - 3.72 * sqrt(2 * (N - 1.0)));
    /* Neighbours are drawn together as often as without replacement they
     * should be; four standard deviations. */
    expected_pairs = SEEDS * p * (N / 4.0 - 1) / (N - 1);
    CHECK(fabs(pairs - expected_pairs) < 4 * sqrt(expected_pairs));
    free(keys);
}

static mdn_status
broken_next(mdn_metadata_stream *stream, mdn_metadata_block *out,
            mdn_error *err)
{
    (void)stream;
    (void)out;
    return mdn_fail(err, MDN_CORRUPT, "block 3 is damaged");
}

static void
broken_rewind(mdn_metadata_stream *stream)
{
    (void)stream;
}

static void
a_stream_that_fails_fails_the_choice(void)
{
    mdn_metadata_stream broken = {
        .count = 10, .next = broken_next, .rewind = broken_rewind};
    uint64_t junk, *keys = &junk, count;
    mdn_error err;

    CHECK(sample_uniform(&broken, 5, 1, &keys, &count, &err) == MDN_CORRUPT);
    CHECK(keys == NULL && strcmp(err.message, "block 3 is damaged") == 0);
    keys = &junk;
    CHECK(sample_balanced(&broken, 5, MDN_SHARES_LEVEL, 1, &keys, &count, &err)
          == MDN_CORRUPT);
    CHECK(keys == NULL);
}

static void
a_count_beyond_all_memory_takes_all_candidates(void)
{
    uint64_t *keys = count_up(100);

    CHECK(uniform_is(keys, 100, 10, UINT64_MAX, 3, keys, 100));
    free(keys);
}

static mdn_status
long_next(mdn_metadata_stream *stream, mdn_metadata_block *out, mdn_error *err)
{
    static uint64_t keys[9000];
    static int blocks;

    (void)stream;
    (void)err;
    for (uint64_t i = 0; i < 9000; i++)
        keys[i] = (uint64_t)blocks * 9000 + i;
    *out = (mdn_metadata_block){.count = blocks++ < 5 ? 9000 : 0, .keys = keys};
    return MDN_OK;
}

static void
a_stream_longer_than_it_said_overruns_nothing(void)
{
    mdn_metadata_stream liar = {
        .count = 30, .next = long_next, .rewind = broken_rewind};
    uint64_t *got, count;

    CHECK(sample_uniform(&liar, 1000, 3, &got, &count, NULL) == MDN_OK);
    CHECK(count == 30);
    free(got);
}

/* ---- shares ---- */

static uint64_t
total(const uint64_t *values, uint64_t count)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++)
        sum += values[i];
    return sum;
}

static void
d20_equal_small_groups_lose_no_capacity(void)
{
    const uint64_t sizes[] = {5, 5, 5, 5, 400, 5, 5, 5, 5};
    uint64_t shares[9];

    CHECK(mdn_shares_fill(sizes, 9, 100, MDN_SHARES_LEVEL, 0, shares, NULL)
          == MDN_OK);
    CHECK(total(shares, 9) == 100 && shares[4] == 60 && shares[0] == 5);
}

/* Pour one sample at a time into every group that still has one. */
static uint64_t
plain_level(const uint64_t *sizes, uint64_t n, uint64_t capacity)
{
    uint64_t level = 0;

    for (;; level++) {
        uint64_t need = 0, more = 0;

        for (uint64_t i = 0; i < n; i++) {
            need += sizes[i] < level + 1 ? sizes[i] : level + 1;
            more += sizes[i] > level;
        }
        if (need > capacity || more == 0)
            return level;
    }
}

static void
d20_shares_equal_brute_force(void)
{
    for (uint64_t trial = 0; trial < 3000; trial++) {
        uint64_t sizes[12], shares[12], exact[12];
        uint64_t n = 1 + some(trial) % 12, capacity = some(trial + 5000) % 90;
        uint64_t level, largest = 0, sum;

        for (uint64_t i = 0; i < n; i++)
            sizes[i] = some(trial * 20 + i) % (trial % 2 ? 25 : 4);
        for (uint64_t i = 0; i < n; i++)
            largest = sizes[i] > largest ? sizes[i] : largest;
        sum = total(sizes, n);
        level = plain_level(sizes, n, capacity);
        mdn_shares_fill(sizes, n, capacity, MDN_SHARES_LEVEL, trial, shares,
                        NULL);
        mdn_shares_fill(sizes, n, capacity, MDN_SHARES_EXACT, trial, exact,
                        NULL);
        for (uint64_t i = 0; i < n; i++) {
            CHECK(shares[i] == (sizes[i] < level ? sizes[i] : level));
            CHECK(exact[i] <= sizes[i]);
            CHECK(exact[i] == shares[i]
                  || (sizes[i] > level && exact[i] == level + 1));
        }
        CHECK(total(exact, n) == (capacity < sum ? capacity : sum));
    }
}

static void
the_rest_falls_on_every_group_alike(void)
{
    enum { GROUPS = 7, SEEDS = 7000 };
    uint64_t sizes[GROUPS], shares[GROUPS];
    int extra[GROUPS] = {0};

    for (int i = 0; i < GROUPS; i++)
        sizes[i] = 100 + (uint64_t)i;
    for (uint64_t seed = 0; seed < SEEDS; seed++) { /* 45 = 7 * 6 + 3 */
        mdn_shares_fill(sizes, GROUPS, 45, MDN_SHARES_EXACT, seed, shares,
                        NULL);
        for (int i = 0; i < GROUPS; i++)
            extra[i] += shares[i] == 7;
    }
    for (int i = 0; i < GROUPS; i++) /* 3/7, four standard deviations */
        CHECK(fabs(extra[i] - SEEDS * 3 / 7.0)
              < 4 * sqrt(SEEDS * (3 / 7.0) * (4 / 7.0)));
}

static void
equal_shares_follow_the_smallest_group(void)
{
    const uint64_t sizes[] = {30, 4, 100};
    uint64_t shares[3];

    mdn_shares_fill(sizes, 3, 90, MDN_SHARES_EQUAL, 0, shares, NULL);
    CHECK(shares[0] == 4 && shares[1] == 4 && shares[2] == 4);
    mdn_shares_fill(sizes, 3, 11, MDN_SHARES_EQUAL, 0, shares, NULL);
    CHECK(shares[0] == 3 && shares[1] == 3 && shares[2] == 3);
    CHECK(mdn_shares_fill(sizes, 0, 11, MDN_SHARES_EXACT, 0, NULL, NULL)
          == MDN_OK);
}

static void
sizes_near_the_end_of_64_bits_do_not_overflow(void)
{
    const uint64_t sizes[] = {UINT64_MAX, UINT64_MAX - 1, 3};
    uint64_t shares[3];

    mdn_shares_fill(sizes, 3, UINT64_MAX, MDN_SHARES_EXACT, 0, shares, NULL);
    CHECK(shares[2] == 3 && shares[0] + shares[1] == UINT64_MAX - 3);
}

/* ---- classes ---- */

static void
classes_are_numbered_as_they_come_and_ordered_by_label(void)
{
    enum { N = 20000 };
    static uint64_t order[4 * 1002];
    int64_t *labels = malloc(N * sizeof *labels);
    mdn_classes classes = {0};

    for (uint64_t i = 0; i < N; i++)
        labels[i] = (int64_t)(some(i) % 1000) * INT64_C(9000000000000000)
                    - INT64_C(4500000000000000000);
    labels[3] = INT64_MIN;
    labels[4] = INT64_MAX;
    for (uint64_t i = 0; i < N; i++) {
        uint32_t number = mdn_classes_number(&classes, labels[i]);

        if (number == 0) {
            CHECK(mdn_classes_add(&classes, labels[i], NULL) == MDN_OK);
            number = classes.count;
        }
        CHECK(classes.labels[number - 1] == labels[i]);
        classes.sizes[number - 1]++;
    }
    CHECK(classes.count == 1002);
    CHECK(total(classes.sizes, classes.count) == N);
    mdn_classes_order(&classes, order, order + 1002);
    CHECK(classes.labels[order[0]] == INT64_MIN
          && classes.labels[order[1001]] == INT64_MAX);
    for (uint32_t c = 1; c < classes.count; c++)
        CHECK(classes.labels[order[c]] > classes.labels[order[c - 1]]);
    CHECK(mdn_classes_number(&classes, 7) == 0
          && mdn_classes_number(&classes, -7) == 0);
    mdn_classes_free(&classes);
    mdn_classes_free(&classes);
    free(labels);
}

static void
more_labels_than_the_limit_are_refused(void)
{
    const uint64_t n = MDN_CLASSES_MAX + 1;
    uint64_t *keys = count_up(n);
    mdn_metadata_stream *stream =
        stream_of(keys, (const int64_t *)(const void *)keys, n, 65536);
    uint64_t *got, count;
    mdn_error err;

    CHECK(sample_balanced(stream, 5, MDN_SHARES_LEVEL, 1, &got, &count, &err)
          == MDN_INVALID);
    CHECK(got == NULL && strstr(err.message, "4194304") != NULL);
    stream->free(stream);
    free(keys);
}

/* ---- balanced ---- */

/* A uniform choice of its share inside each class, by the twin. */
static uint64_t
plain_balanced(const uint64_t *keys, const int64_t *labels, uint64_t n,
               int64_t label_count, const uint64_t *shares, uint64_t seed,
               uint64_t *out)
{
    uint64_t start = mdn_stream(seed, MDN_STREAM_BALANCED);
    uint64_t *members = malloc(n * sizeof *members), count = 0;

    for (int64_t label = 0; label < label_count; label++) {
        uint64_t size = 0;

        for (uint64_t i = 0; i < n; i++)
            if (labels[i] == label)
                members[size++] = keys[i];
        count +=
            plain_uniform(members, size, shares[label], start, out + count);
    }
    qsort(out, count, sizeof *out, by_value);
    free(members);
    return count;
}

static void
balanced_equals_its_twin_in_every_mode(void)
{
    enum { N = 6000, LABELS = 11 };
    const uint64_t counts[] = {0, 1, 2, 63, 64, 65, 1000, 3000, 6000, 9000};
    const uint64_t blocks[] = {1, 64, 100000};
    uint64_t *keys = some_keys(N, 0), sizes[LABELS] = {0}, shares[LABELS];
    uint64_t *want = malloc(N * sizeof *want);
    int64_t *labels = malloc(N * sizeof *labels);

    for (uint64_t i = 0; i < N; i++) { /* from many to few of a label */
        labels[i] =
            (int64_t)(some(i) % LABELS * (some(i + N) % LABELS) / LABELS);
        sizes[labels[i]]++;
    }
    for (int c = 0; c < 10; c++) {
        for (int mode = 0; mode < 3; mode++) {
            uint64_t seed = some((uint64_t)c * 7), want_count;

            /* Labels without samples are no classes; here all have some. */
            mdn_shares_fill(sizes, LABELS - 1, counts[c], (mdn_shares_mode)mode,
                            seed, shares, NULL);
            want_count =
                plain_balanced(keys, labels, N, LABELS - 1, shares, seed, want);
            for (int b = 0; b < 3; b++) {
                mdn_metadata_stream *stream =
                    stream_of(keys, labels, N, blocks[b]);
                uint64_t *got, got_count;

                CHECK(sample_balanced(stream, counts[c], (mdn_shares_mode)mode,
                                      seed, &got, &got_count, NULL)
                      == MDN_OK);
                CHECK(got_count == want_count
                      && memcmp(got, want, got_count * sizeof *got) == 0);
                free(got);
                stream->free(stream);
            }
        }
    }
    CHECK(sizes[LABELS - 1] == 0 && sizes[LABELS - 2] > 0);
    free(keys);
    free(labels);
    free(want);
}

static void
balanced_without_labels_or_with_a_repeated_key_is_refused(void)
{
    const uint64_t keys[] = {4, 7, 4, 9};
    const int64_t labels[] = {0, 0, 1, 1}, same[] = {0, 1, 0, 1};
    const int64_t *both[] = {labels, same};
    mdn_metadata_stream *stream = stream_of(keys, NULL, 4, 10);
    uint64_t *got, count;
    mdn_error err;

    CHECK(sample_balanced(stream, 4, MDN_SHARES_LEVEL, 1, &got, &count, &err)
          == MDN_INVALID);
    CHECK(got == NULL && strstr(err.message, "no labels") != NULL);
    stream->free(stream);
    for (int i = 0; i < 2; i++) {
        stream = stream_of(keys, both[i], 4, 10);
        CHECK(
            sample_balanced(stream, 4, MDN_SHARES_LEVEL, 1, &got, &count, &err)
            == MDN_INVALID);
        CHECK(got == NULL && strstr(err.message, "key 4") != NULL);
        stream->free(stream);
    }
}

static void
arrays_come_back_in_blocks_and_again_after_a_rewind(void)
{
    const int64_t times[] = {5, 6, 7, 8, 9}, labels[] = {1, 0, 1, 0, 1};
    uint64_t *keys = count_up(5);
    mdn_metadata_stream *stream;
    mdn_metadata_block block;

    CHECK(mdn_metadata_from_arrays(keys, times, labels, 5, 2, &stream, NULL)
          == MDN_OK);
    for (int round = 0; round < 2; round++) {
        uint64_t seen = 0;

        stream->rewind(stream);
        while (stream->next(stream, &block, NULL) == MDN_OK
               && block.count > 0) {
            CHECK(block.count == (seen < 4 ? 2 : 1));
            CHECK(block.keys == keys + seen && block.timestamps == times + seen
                  && block.labels == labels + seen);
            seen += block.count;
        }
        CHECK(seen == 5);
    }
    stream->free(stream);
    CHECK(mdn_metadata_from_arrays(keys, times, labels, 5, 0, &stream, NULL)
          == MDN_INVALID);
    CHECK(stream == NULL);
    free(keys);
}

int
main(void)
{
    RUN(words_sort_like_qsort_whatever_their_range);
    RUN(the_smallest_come_to_the_front_whatever_their_range);
    RUN(a_draw_names_its_key);
    RUN(vector_and_plain_draws_keep_the_same_keys);
    RUN(uniform_equals_its_twin_for_any_cut_into_blocks);
    RUN(uniform_does_not_depend_on_the_order_of_the_stream);
    RUN(a_key_that_comes_more_than_once_counts_once);
    RUN(every_key_is_as_likely_as_any_other);
    RUN(a_stream_that_fails_fails_the_choice);
    RUN(a_count_beyond_all_memory_takes_all_candidates);
    RUN(a_stream_longer_than_it_said_overruns_nothing);
    RUN(d20_equal_small_groups_lose_no_capacity);
    RUN(d20_shares_equal_brute_force);
    RUN(the_rest_falls_on_every_group_alike);
    RUN(equal_shares_follow_the_smallest_group);
    RUN(sizes_near_the_end_of_64_bits_do_not_overflow);
    RUN(classes_are_numbered_as_they_come_and_ordered_by_label);
    RUN(more_labels_than_the_limit_are_refused);
    RUN(balanced_equals_its_twin_in_every_mode);
    RUN(balanced_without_labels_or_with_a_repeated_key_is_refused);
    RUN(arrays_come_back_in_blocks_and_again_after_a_rewind);
    return check_report("test_selector");
}
