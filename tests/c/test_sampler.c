/* test_sampler.c - choices by weight and rank, in shards and threads. */
#include "base/crc32c.h"
#include "base/random.h"
#include "metadata/stream.h"
#include "metadata/watched.h"
#include "selector/band.h"
#include "selector/bits.h"
#include "selector/exact.h"
#include "selector/lowest.h"
#include "selector/sampler.h"
#include "selector/sampler_state.h"
#include "selector/systematic.h"

#include "check.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 20000, SHARDS = 5 };

static uint64_t
some(uint64_t index)
{
    return mdn_draw(mdn_stream(2025, 98), index);
}

/* ---- candidates ---- */

typedef struct {
    uint64_t keys[N];
    int64_t timestamps[N], labels[N];
    double weights[N];
    mdn_values values;
    mdn_shard shards[SHARDS];
    uint32_t shard_count;
} candidates;

/* The same N candidates, cut into shards and turned by so many places. */
static candidates *
candidates_new(uint32_t shard_count, uint64_t turned)
{
    candidates *c = calloc(1, sizeof *c);

    for (uint64_t i = 0; i < N; i++) {
        uint64_t name = (i + turned) % N;

        c->keys[i] = name * 3 + 1;
        c->timestamps[i] = (int64_t)(some(name) % 700);
        c->labels[i] = (int64_t)(some(name + N) % 9);
        c->weights[i] =
            some(name) % 50 == 0 ? 0 : exp((double)(some(name) % 1000) / 120);
    }
    c->values = (mdn_values){
        .kind = MDN_VALUES_DOUBLES, .doubles = c->weights, .count = N};
    c->shard_count = shard_count;
    for (uint32_t s = 0; s < shard_count; s++) {
        uint64_t first = N * (uint64_t)s / shard_count;
        uint64_t last = N * (uint64_t)(s + 1) / shard_count;

        c->shards[s].row = first;
        CHECK(mdn_metadata_from_arrays(c->keys + first, c->timestamps + first,
                                       c->labels + first, last - first, 777,
                                       &c->shards[s].stream, NULL)
              == MDN_OK);
    }
    return c;
}

static void
candidates_free(candidates *c)
{
    for (uint32_t s = 0; s < c->shard_count; s++)
        c->shards[s].stream->free(c->shards[s].stream);
    free(c);
}

static bool
same(const mdn_drawn *a, const mdn_drawn *b)
{
    return a->count == b->count
           && memcmp(a->keys, b->keys, a->count * sizeof *a->keys) == 0
           && (a->weights == NULL) == (b->weights == NULL)
           && (a->weights == NULL
               || memcmp(a->weights, b->weights, a->count * sizeof(double))
                      == 0);
}

/* ---- the parts ---- */

static void
exact_sums_do_not_depend_on_order_and_round_once(void)
{
    const double hard[] = {0x1p53, 1, 1, 0x1p-1074, 0x1p-1074, 0};
    mdn_exact *sum = calloc(1, sizeof *sum), *other = calloc(1, sizeof *other);

    for (int i = 0; i < 6; i++)
        mdn_exact_add(sum, hard[i]);
    CHECK(mdn_exact_round(sum) == 0x1p53 + 2);
    mdn_exact_subtract(sum, 0x1p53);
    mdn_exact_subtract(sum, 1);
    mdn_exact_subtract(sum, 1);
    CHECK(mdn_exact_round(sum) == 0x1p-1073);
    mdn_exact_subtract(sum, 0x1p-1074);
    mdn_exact_subtract(sum, 0x1p-1074);
    CHECK(mdn_exact_round(sum) == 0);
    mdn_exact_add(sum, 0x1p53); /* a tie, and a little more than one */
    mdn_exact_add(sum, 1);
    CHECK(mdn_exact_round(sum) == 0x1p53);
    mdn_exact_add(sum, 0x1p-600);
    CHECK(mdn_exact_round(sum) == 0x1p53 + 2);
    for (int i = 0; i < 4; i++)
        mdn_exact_add(other, DBL_MAX);
    mdn_exact_merge(sum, other);
    CHECK(mdn_exact_round(sum) == INFINITY);
    free(sum);
    free(other);
}

/* By order, then key. */
static int
by_entry(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return x[0] != y[0] ? (x[0] > y[0]) - (x[0] < y[0])
                        : (x[1] > y[1]) - (x[1] < y[1]);
}

static void
the_lowest_entries_are_kept_whatever_the_ties(void)
{
    const uint64_t limits[] = {0, 1, 2, 700, 4999, 9999, 10000, 20000};
    const uint64_t ranges[] = {1, 3, 1000, UINT64_MAX};
    static uint64_t entries[10000][2], got[20000][2];

    for (int l = 0; l < 8; l++) {
        for (int r = 0; r < 4; r++) {
            uint64_t want = limits[l] < 10000 ? limits[l] : 10000;
            mdn_lowest lowest;

            mdn_lowest_init(&lowest, limits[l], true);
            for (uint64_t i = 0; i < 10000; i++) {
                entries[i][0] = some(i) % ranges[r];
                entries[i][1] = some(i + 10000);
                CHECK(mdn_lowest_put(&lowest, entries[i][0], entries[i][1],
                                     (double)entries[i][1], NULL)
                      == MDN_OK);
            }
            mdn_lowest_trim(&lowest);
            CHECK(lowest.count == want);
            for (uint64_t i = 0; i < lowest.count; i++) {
                got[i][0] = lowest.orders[i];
                got[i][1] = lowest.keys[i];
                CHECK(lowest.weights[i] == (double)lowest.keys[i]);
            }
            qsort(entries, 10000, sizeof *entries, by_entry);
            qsort(got, want, sizeof *got, by_entry);
            CHECK(memcmp(entries, got, want * sizeof *got) == 0);
            mdn_lowest_free(&lowest);
        }
    }
}

static void
bits_are_put_in_and_taken_out(void)
{
    const uint64_t keys[] = {0, 63, 64, 127, 63}, beyond[] = {1, 128};
    uint64_t words[2] = {0}, changed;
    uint8_t found[2];

    CHECK(mdn_bits_set(words, 2, keys, 5, true, &changed, NULL) == MDN_OK);
    CHECK(changed == 4 && words[0] == (1 | UINT64_C(1) << 63));
    CHECK(mdn_bits_set(words, 2, beyond, 2, true, &changed, NULL)
          == MDN_INVALID);
    CHECK(words[0] == (1 | UINT64_C(1) << 63));
    mdn_bits_get(words, 2, beyond, 2, found);
    CHECK(found[0] == 0 && found[1] == 0);
    CHECK(mdn_bits_set(words, 2, beyond, 2, false, &changed, NULL) == MDN_OK);
    CHECK(changed == 0);
    CHECK(mdn_bits_set(words, 2, keys, 5, false, &changed, NULL) == MDN_OK);
    CHECK(changed == 4 && words[0] == 0 && words[1] == 0);
}

/* ---- choices ---- */

static mdn_drawn
choose(const mdn_sampler_options *options, candidates *c)
{
    mdn_sampler *sampler;
    mdn_drawn drawn;
    bool repeated;

    if (options->kind == MDN_SAMPLER_NEWEST)
        c->values.kind = MDN_VALUES_TIMESTAMPS;
    CHECK(mdn_sampler_new(options, &sampler, NULL) == MDN_OK);
    CHECK(
        mdn_sampler_offer(sampler, c->shards, c->shard_count, &c->values, NULL)
        == MDN_OK);
    CHECK(mdn_sampler_finish(sampler, &drawn, &repeated, NULL) == MDN_OK);
    CHECK(!repeated);
    mdn_sampler_free(sampler);
    return drawn;
}

static void
no_choice_depends_on_shards_or_on_the_order_of_candidates(void)
{
    const uint64_t limits[] = {0, 1, 300, 12000, 30000};

    for (int kind = MDN_SAMPLER_UNIFORM; kind <= MDN_SAMPLER_ARRIVALS; kind++) {
        for (int l = 0; l < 5; l++) {
            mdn_sampler_options options = {
                .kind = (mdn_sampler_kind)kind,
                .limit = limits[l],
                .seed = 4,
                .mode = (mdn_shares_mode)(l % 3),
                .merging = l % 2 == 0,
            };
            candidates *one = candidates_new(1, 0);
            candidates *many = candidates_new(SHARDS, 7777);
            mdn_drawn a = choose(&options, one), b = choose(&options, many);

            CHECK(same(&a, &b));
            CHECK(kind == MDN_SAMPLER_ARRIVALS || kind == MDN_SAMPLER_BALANCED
                  || a.count == (limits[l] < N ? limits[l] : N));
            mdn_drawn_free(&a);
            mdn_drawn_free(&b);
            candidates_free(one);
            candidates_free(many);
        }
    }
}

/* The candidates of a shard, in a sampler of its own that is saved and loaded;
 * words of its state are damaged, too: that is seen, and if the checksum were
 * right, what is loaded would be of no use but do no harm. */
static mdn_sampler *
travelled(const mdn_sampler_options *options, candidates *c, uint32_t shard)
{
    mdn_sampler *sampler, *loaded;
    uint64_t *words, count;

    CHECK(mdn_sampler_new(options, &sampler, NULL) == MDN_OK);
    CHECK(mdn_sampler_offer(sampler, &c->shards[shard], 1, &c->values, NULL)
          == MDN_OK);
    CHECK(mdn_sampler_save(sampler, &words, &count, NULL) == MDN_OK);
    mdn_sampler_free(sampler);
    for (uint64_t i = 0; i < count; i += 1 + count / 40) {
        uint64_t word = words[i], sum = words[count - 1];

        words[i] = some(i) % 3 == 0 ? UINT64_MAX : some(i) % 3000 + 5000;
        CHECK(mdn_sampler_load(words, count, &loaded, NULL) == MDN_INVALID);
        words[count - 1] = mdn_crc32c(0, words, (count - 1) * sizeof *words);
        if (mdn_sampler_load(words, count, &loaded, NULL) == MDN_OK)
            mdn_sampler_free(loaded);
        words[i] = word;
        words[count - 1] = sum;
    }
    CHECK(mdn_sampler_load(words, count - 1, &loaded, NULL) == MDN_INVALID);
    CHECK(loaded == NULL);
    CHECK(mdn_sampler_load(words, count, &loaded, NULL) == MDN_OK);
    free(words);
    return loaded;
}

static void
states_travel_and_choose_the_same(void)
{
    for (int kind = MDN_SAMPLER_UNIFORM; kind <= MDN_SAMPLER_ARRIVALS; kind++) {
        mdn_sampler_options options = {
            .kind = (mdn_sampler_kind)kind, .limit = 500, .merging = true};
        candidates *one = candidates_new(1, 0), *many;
        mdn_drawn a = choose(&options, one), b;
        mdn_sampler *sampler;
        bool repeated;

        many = candidates_new(SHARDS, 99);
        many->values.kind = one->values.kind;
        CHECK(mdn_sampler_new(&options, &sampler, NULL) == MDN_OK);
        for (uint32_t s = 0; s < SHARDS; s++) {
            mdn_sampler *other = travelled(&options, many, s);

            CHECK(mdn_sampler_merge(sampler, other, NULL) == MDN_OK);
            mdn_sampler_free(other);
        }
        CHECK(mdn_sampler_finish(sampler, &b, &repeated, NULL) == MDN_OK);
        CHECK(same(&a, &b));
        mdn_sampler_free(sampler);
        mdn_drawn_free(&a);
        mdn_drawn_free(&b);
        candidates_free(one);
        candidates_free(many);
    }
}

static void
a_systematic_draw_does_not_depend_on_shards_either(void)
{
    const uint64_t counts[] = {0, 1, 300, 5000, 12000, 19900, 30000};

    for (int i = 0; i < 7; i++) {
        for (uint64_t seed = 0; seed < 4; seed++) {
            candidates *one = candidates_new(1, 0);
            candidates *many = candidates_new(SHARDS, 7777);
            double thin_from = seed % 2 == 0 ? MDN_THIN_FROM : 100;
            mdn_drawn a, b;

            CHECK(mdn_systematic(one->shards, 1, &one->values, counts[i], seed,
                                 thin_from, &a, NULL)
                  == MDN_OK);
            CHECK(mdn_systematic(many->shards, SHARDS, &many->values, counts[i],
                                 seed, thin_from, &b, NULL)
                  == MDN_OK);
            CHECK(a.count == (counts[i] < N ? counts[i] : N));
            CHECK(same(&a, &b));
            mdn_drawn_free(&a);
            mdn_drawn_free(&b);
            candidates_free(one);
            candidates_free(many);
        }
    }
}

static void
bands_hold_every_candidate_once(void)
{
    const uint64_t bounds[] = {0, 0, 1, 5000, 5001, 19999, N, N};
    const int kinds[] = {MDN_VALUES_DOUBLES, MDN_VALUES_TIMESTAMPS};

    for (int k = 0; k < 2; k++) {
        candidates *c = candidates_new(SHARDS, 0);
        uint64_t sum = 0, want = 0, count;
        double last = -1;

        c->values.kind = kinds[k];
        for (uint64_t i = 0; i < N; i++)
            want += c->keys[i];
        for (int b = 0; b + 1 < 8; b++) {
            double least = INFINITY, most = -INFINITY;
            uint64_t *keys;

            CHECK(mdn_band(c->shards, SHARDS, &c->values, N, bounds[b],
                           bounds[b + 1], &keys, &count, NULL)
                  == MDN_OK);
            CHECK(count == bounds[b + 1] - bounds[b]);
            for (uint64_t i = 0; i < count; i++) {
                uint64_t at = (keys[i] - 1) / 3;
                double value =
                    k == 0 ? c->weights[at] : (double)c->timestamps[at];

                sum += keys[i];
                least = value < least ? value : least;
                most = value > most ? value : most;
                CHECK(i == 0 || keys[i] > keys[i - 1]);
            }
            CHECK(count == 0 || least >= last);
            last = count > 0 ? most : last;
            free(keys);
        }
        CHECK(sum == want);
        candidates_free(c);
    }
}

static void
what_is_wrong_in_one_shard_fails_all(void)
{
    candidates *c = candidates_new(SHARDS, 0);
    const mdn_sampler_options options = {.kind = MDN_SAMPLER_SEQUENTIAL,
                                         .limit = 10};
    mdn_sampler *sampler;
    mdn_drawn drawn;
    uint64_t *keys, count;
    mdn_error err;

    c->weights[N - 5] = NAN;
    CHECK(mdn_sampler_new(&options, &sampler, NULL) == MDN_OK);
    CHECK(mdn_sampler_offer(sampler, c->shards, SHARDS, &c->values, &err)
          == MDN_INVALID);
    CHECK(strstr(err.message, "key 59986 is nan") != NULL);
    mdn_sampler_free(sampler);
    CHECK(
        mdn_systematic(c->shards, SHARDS, &c->values, 10, 0, 4096, &drawn, &err)
        == MDN_INVALID);
    CHECK(drawn.keys == NULL && drawn.weights == NULL);
    CHECK(mdn_band(c->shards, SHARDS, &c->values, N, 5, 10, &keys, &count, &err)
          == MDN_INVALID);
    CHECK(keys == NULL && strstr(err.message, "not a number") != NULL);
    c->values.count = N - 6; /* rows that are too few */
    CHECK(
        mdn_systematic(c->shards, SHARDS, &c->values, 10, 0, 4096, &drawn, &err)
        == MDN_INVALID);
    CHECK(strstr(err.message, "19994 candidates") != NULL);
    candidates_free(c);
}

/* A stream that ends early, or weights that are others, in the second and all
 * later readings. */
typedef struct {
    mdn_metadata_stream base;
    mdn_metadata_stream *inner; /* borrowed */
    int readings;
    bool ends_early, ended;
    double *weights;
} fickle;

static void
fickle_rewind(mdn_metadata_stream *stream)
{
    fickle *f = (fickle *)stream;

    f->inner->rewind(f->inner);
    f->ended = false;
    if (++f->readings == 2 && !f->ends_early)
        for (uint64_t i = 0; i < N; i++)
            f->weights[i] *= i < N / 2 ? 3 : 0.1;
}

static mdn_status
fickle_next(mdn_metadata_stream *stream, mdn_metadata_block *out,
            mdn_error *err)
{
    fickle *f = (fickle *)stream;
    mdn_status st = f->inner->next(f->inner, out, err);

    if (f->ended)
        out->count = 0;
    f->ended = f->ends_early && f->readings > 1;
    return st;
}

static void
candidates_that_change_between_readings_are_refused(void)
{
    for (int how = 0; how < 4; how++) {
        candidates *c = candidates_new(1, 0);
        fickle changing = {
            .base = {.count = N, .next = fickle_next, .rewind = fickle_rewind},
            .inner = c->shards[0].stream,
            .ends_early = how % 2 == 1,
            .weights = c->weights};
        mdn_shard shard = {.stream = &changing.base};
        mdn_drawn drawn;
        mdn_error err;

        CHECK(mdn_systematic(&shard, 1, &c->values, 3000, 1,
                             how < 2 ? MDN_THIN_FROM : 100, &drawn, &err)
              == MDN_INVALID);
        CHECK(drawn.keys == NULL && strstr(err.message, "changed") != NULL);
        candidates_free(c);
    }
}

static mdn_status
say_no(void *ctx, mdn_error *err)
{
    ++*(int *)ctx;
    return mdn_fail(err, MDN_CALLBACK, "no");
}

static void
one_pulse_ends_all_shards(void)
{
    candidates *c = candidates_new(SHARDS, 0);
    int asked = 0;
    mdn_pulse pulse = {.ask = say_no, .ctx = &asked};
    atomic_bool ended = false;
    mdn_metadata_block block;
    mdn_drawn drawn;
    mdn_error err;

    for (uint32_t s = 0; s < SHARDS; s++)
        CHECK(mdn_metadata_watched(c->shards[s].stream, s == 0 ? &pulse : NULL,
                                   &ended, &c->shards[s].stream, NULL)
              == MDN_OK);
    CHECK(mdn_systematic(c->shards, SHARDS, &c->values, 10, 0, MDN_THIN_FROM,
                         &drawn, &err)
          == MDN_CALLBACK);
    CHECK(asked == 1 && strcmp(err.message, "no") == 0);
    for (uint32_t s = 1; s < SHARDS; s++) {
        c->shards[s].stream->rewind(c->shards[s].stream);
        CHECK(c->shards[s].stream->next(c->shards[s].stream, &block, NULL)
              == MDN_CALLBACK);
    }
    candidates_free(c);
}

static void
samplers_of_different_seeds_are_not_merged(void)
{
    mdn_sampler_options options = {.kind = MDN_SAMPLER_LARGEST, .limit = 10};
    mdn_sampler *one, *other;

    CHECK(mdn_sampler_new(&options, &one, NULL) == MDN_OK);
    options.seed = 1;
    CHECK(mdn_sampler_new(&options, &other, NULL) == MDN_OK);
    CHECK(mdn_sampler_merge(one, other, NULL) == MDN_INVALID);
    mdn_sampler_free(one);
    mdn_sampler_free(other);
    mdn_sampler_free(NULL);
}

int
main(void)
{
    RUN(exact_sums_do_not_depend_on_order_and_round_once);
    RUN(the_lowest_entries_are_kept_whatever_the_ties);
    RUN(bits_are_put_in_and_taken_out);
    RUN(no_choice_depends_on_shards_or_on_the_order_of_candidates);
    RUN(states_travel_and_choose_the_same);
    RUN(a_systematic_draw_does_not_depend_on_shards_either);
    RUN(bands_hold_every_candidate_once);
    RUN(what_is_wrong_in_one_shard_fails_all);
    RUN(candidates_that_change_between_readings_are_refused);
    RUN(one_pulse_ends_all_shards);
    RUN(samplers_of_different_seeds_are_not_merged);
    return check_report("test_sampler");
}
