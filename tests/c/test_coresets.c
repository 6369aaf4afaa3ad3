/* test_coresets.c - the greedy methods over features: threads, and against
 * plain loops over explicit vectors. */
#include "base/random.h"
#include "selector/cut.h"
#include "selector/facility.h"
#include "selector/herding.h"
#include "selector/kcenter.h"
#include "selector/match.h"
#include "selector/volume.h"

#include "check.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH 6
#define DEPTH 3
#define MOST 120000
#define FEW 1200

static const mdn_greedy_options lazily = {
    .how = MDN_GREEDY_LAZY, .batch = 1000, .epsilon = 0.1, .beta = 0.9};

static float rows[MOST * WIDTH], embeddings[MOST * DEPTH];

/* Numbers between -1 and 1; every seventh row is the one before it. */
static void
fill(float *numbers, uint32_t width, uint64_t stream)
{
    uint64_t start = mdn_stream(2024, stream);

    for (uint64_t i = 0; i < MOST * (uint64_t)width; i++)
        numbers[i] =
            (float)((double)(mdn_draw(start, i) >> 40) / (1 << 23) - 1.0);
    for (uint64_t i = 7; i < MOST; i += 7)
        memcpy(numbers + i * width, numbers + (i - 1) * width,
               width * sizeof *numbers);
}

static mdn_features
some(uint64_t count, bool more, uint32_t threads)
{
    mdn_features features;

    CHECK(mdn_features_init(rows, WIDTH, more ? embeddings : NULL,
                            more ? DEPTH : 0, count, threads, &features, NULL)
          == MDN_OK);
    return features;
}

/* <G_i, G_j>, from the vectors themselves. */
static double
product(uint64_t i, uint64_t j, bool more)
{
    double g = 0, h = 0;

    for (uint32_t t = 0; t < WIDTH; t++)
        g += (double)rows[i * WIDTH + t] * (double)rows[j * WIDTH + t];
    for (uint32_t t = 0; more && t < DEPTH; t++)
        h += (double)embeddings[i * DEPTH + t]
             * (double)embeddings[j * DEPTH + t];
    return more ? g * (1.0 + h) : g;
}

static double
distance(uint64_t i, uint64_t j, bool more)
{
    double square =
        product(i, i, more) + product(j, j, more) - 2.0 * product(i, j, more);

    return sqrt(square > 0 ? square : 0);
}

/* ---- products ---- */

static void
every_product_has_the_bits_of_a_plain_loop(void)
{
    for (uint64_t n = 1; n < 30; n++) {
        mdn_features f = some(n, true, 1);
        double column[WIDTH + DEPTH], out[32], scratch[32];

        mdn_features_one(&f, n - 1, column);
        mdn_features_column(&f, 0, f.rows.panels, column, out, scratch);
        for (uint64_t i = 0; i < n; i++) {
            CHECK(out[i] == product(i, n - 1, true));
            CHECK(f.squares[i] == product(i, i, true));
        }
        mdn_features_free(&f);
    }
}

static void
numbers_that_are_not_finite_are_refused(void)
{
    float bad[] = {1, 2, 3, INFINITY};
    mdn_features f;
    mdn_error err;

    CHECK(mdn_features_init(bad, 2, NULL, 0, 2, 1, &f, &err) == MDN_INVALID);
    CHECK(strcmp(err.message, "row 1 holds a number that is not finite, at 1")
          == 0);
    CHECK(mdn_features_init(bad, 2, NULL, 0, 0, 1, &f, &err) == MDN_INVALID);
}

/* ---- what is chosen ---- */

static void
kcenter_takes_the_farthest(void)
{
    mdn_features f = some(100, true, 1);
    uint64_t start = 3, chosen[30];
    double radii[30], distances[100];

    CHECK(mdn_kcenter(&f, &start, 1, 30, chosen, radii, distances, NULL)
          == MDN_OK);
    for (uint64_t k = 0; k < 30; k++) {
        double farthest = 0;

        for (uint64_t i = 0; i < 100; i++) {
            double nearest = distance(i, start, true);

            for (uint64_t b = 0; b < k; b++)
                nearest = fmin(nearest, distance(i, chosen[b], true));
            farthest = fmax(farthest, nearest);
        }
        CHECK(radii[k] == farthest);
    }
    mdn_features_free(&f);
}

static void
facilities_of_naive_and_lazy_greedy_are_the_same(void)
{
    mdn_greedy_options naively = lazily;

    naively.how = MDN_GREEDY_NAIVE;
    for (int similarity = 0; similarity < 2; similarity++) {
        mdn_features f = some(300, similarity == 1, 2);
        uint64_t a[80], b[80], served[80], sum = 0;
        double x[80], y[80];

        CHECK(mdn_facility(&f, (mdn_similarity)similarity, &naively, 80, a, x,
                           served, NULL, NULL)
              == MDN_OK);
        for (uint64_t k = 0; k < 80; k++)
            sum += served[k];
        CHECK(sum == 300);
        CHECK(mdn_facility(&f, (mdn_similarity)similarity, &lazily, 80, b, y,
                           served, NULL, NULL)
              == MDN_OK);
        CHECK(memcmp(a, b, sizeof a) == 0);
        CHECK(memcmp(x, y, sizeof x) == 0);
        mdn_features_free(&f);
    }
}

static void
both_ways_to_a_determinant_agree(void)
{
    for (int kind = 0; kind < 2; kind++) {
        mdn_features f = some(120, false, 2);
        uint64_t a[40], b[40];
        double x[40], y[40];

        CHECK(mdn_volume(&f, (mdn_volume_kind)kind, 1e-3, MDN_VOLUME_SPACE,
                         &lazily, 40, a, x, NULL)
              == MDN_OK);
        CHECK(mdn_volume(&f, (mdn_volume_kind)kind, 1e-3, MDN_VOLUME_KERNEL,
                         &lazily, 40, b, y, NULL)
              == MDN_OK);
        for (uint64_t k = 0; k < 40; k++)
            CHECK(fabs(x[k] - y[k]) < 1e-6);
        mdn_features_free(&f);
    }
}

static void
weights_of_a_matching_are_stationary(void)
{
    for (int more = 0; more < 2; more++) {
        mdn_features f = some(60, more != 0, 2);
        mdn_matching found;
        double mean = 0;

        for (uint64_t i = 0; i < 60; i++)
            mean += f.squares[i] / 60;
        CHECK(mdn_match(&f, NULL, 0.5, 40, &found, NULL) == MDN_OK);
        CHECK(found.count > 3);
        for (uint64_t k = 0; k < found.count; k++) {
            double slope = 0.5 * mean * found.weights[k];

            for (uint64_t i = 0; i < 60; i++)
                slope -= product(found.rows[k], i, more != 0) / 60;
            for (uint64_t j = 0; j < found.count; j++)
                slope += found.weights[j]
                         * product(found.rows[k], found.rows[j], more != 0);
            CHECK(fabs(slope) < 1e-9 * mean);
            CHECK(found.weights[k] > 0);
        }
        for (uint64_t s = 1; s < found.steps; s++)
            CHECK(found.objectives[s] <= found.objectives[s - 1] + 1e-12);
        mdn_matching_free(&found);
        mdn_features_free(&f);
    }
}

/* ---- threads ---- */

typedef struct {
    uint64_t chosen[7][20];
    double values[7][20];
} answers;

/* Those that look at one candidate after the other. */
static void
ask_of_few(uint32_t threads, answers *out)
{
    mdn_features f = some(FEW, true, threads);
    uint64_t served[20];

    CHECK(mdn_facility(&f, MDN_SIMILAR_PLACE, &lazily, 20, out->chosen[0],
                       out->values[0], served, NULL, NULL)
          == MDN_OK);
    CHECK(mdn_volume(&f, MDN_VOLUME_SIMILAR, 1e-3, MDN_VOLUME_KERNEL, &lazily,
                     20, out->chosen[1], out->values[1], NULL)
          == MDN_OK);
    mdn_features_free(&f);
}

/* Those that pass over all rows for each choice. */
static void
ask_of_many(uint32_t threads, answers *out)
{
    mdn_features f = some(MOST, false, threads);
    uint64_t start = 0;
    mdn_matching found;
    double *distances = malloc(MOST * sizeof *distances);

    CHECK(mdn_kcenter(&f, &start, 1, 20, out->chosen[2], out->values[2],
                      distances, NULL)
          == MDN_OK);
    CHECK(mdn_cut(&f, 2.0, &lazily, 20, out->chosen[3], out->values[3], NULL)
          == MDN_OK);
    CHECK(mdn_volume(&f, MDN_VOLUME_LINEAR, 1.0, MDN_VOLUME_SPACE, &lazily, 20,
                     out->chosen[4], out->values[4], NULL)
          == MDN_OK);
    CHECK(mdn_herding(&f, 20, out->chosen[5], out->values[5], NULL) == MDN_OK);
    CHECK(mdn_match(&f, NULL, 0.5, 20, &found, NULL) == MDN_OK);
    memcpy(out->chosen[6], found.rows, found.count * sizeof *found.rows);
    memcpy(out->values[6], found.weights, found.count * sizeof *found.weights);
    mdn_matching_free(&found);
    free(distances);
    mdn_features_free(&f);
}

static void
ask_all(uint32_t threads, answers *out)
{
    memset(out, 0, sizeof *out);
    ask_of_few(threads, out);
    ask_of_many(threads, out);
}

static void
the_answers_do_not_depend_on_threads(void)
{
    static answers base, found;

    ask_all(1, &base);
    for (uint32_t threads = 2; threads < 5; threads++) {
        ask_all(threads, &found);
        CHECK(memcmp(&base, &found, sizeof base) == 0);
    }
}

/* ---- refusals ---- */

static void
more_rows_than_there_are_cannot_be_chosen(void)
{
    mdn_features f = some(5, false, 1);
    mdn_matching found;
    mdn_error err;
    uint64_t chosen[8], served[8], start = 0;
    double values[8], distances[8];

    CHECK(mdn_kcenter(&f, &start, 1, 5, chosen, values, distances, &err)
          == MDN_INVALID);
    CHECK(mdn_facility(&f, MDN_SIMILAR_COSINE, &lazily, 6, chosen, values,
                       served, NULL, &err)
          == MDN_INVALID);
    CHECK(mdn_cut(&f, 2.0, &lazily, 6, chosen, values, &err) == MDN_INVALID);
    CHECK(mdn_volume(&f, MDN_VOLUME_LINEAR, 1.0, MDN_VOLUME_KERNEL, &lazily, 6,
                     chosen, values, &err)
          == MDN_INVALID);
    CHECK(mdn_herding(&f, 6, chosen, values, &err) == MDN_INVALID);
    CHECK(mdn_match(&f, NULL, 0.5, 6, &found, &err) == MDN_INVALID);
    CHECK(found.rows == NULL && found.count == 0);
    mdn_features_free(&f);
}

static mdn_status
say_no(void *ctx, mdn_error *err)
{
    ++*(int *)ctx;
    return mdn_fail(err, MDN_CALLBACK, "no");
}

static void
every_method_ends_when_the_pulse_says_so(void)
{
    static uint64_t chosen[FEW], served[FEW], evaluations;
    static double gains[FEW], more[FEW];
    const uint64_t start = 0;
    mdn_features features = some(FEW, false, 1);
    mdn_matching matching;
    int asked = 0;
    mdn_pulse pulse = {.ask = say_no, .ctx = &asked};

    for (int method = 0; method < 6; method++) {
        mdn_beat beat = {.pulse = &pulse};
        mdn_status st = MDN_OK;
        mdn_error err;

        features.beat = &beat;
        if (method == 0)
            st =
                mdn_kcenter(&features, &start, 1, 9, chosen, gains, more, &err);
        else if (method == 1)
            st = mdn_herding(&features, 9, chosen, gains, &err);
        else if (method == 2)
            st = mdn_match(&features, NULL, 0.1, 9, &matching, &err);
        else if (method == 3)
            st = mdn_cut(&features, 2, &lazily, 9, chosen, gains, &err);
        else if (method == 4)
            st = mdn_volume(&features, MDN_VOLUME_LINEAR, 1, MDN_VOLUME_AUTO,
                            &lazily, 9, chosen, gains, &err);
        else
            st = mdn_facility(&features, MDN_SIMILAR_PLACE, &lazily, 9, chosen,
                              gains, served, &evaluations, &err);
        CHECK(st == MDN_CALLBACK && strcmp(err.message, "no") == 0);
        CHECK(asked == method + 1);
    }
    mdn_features_free(&features);
}

int
main(void)
{
    fill(rows, WIDTH, 1);
    fill(embeddings, DEPTH, 2);
    RUN(every_product_has_the_bits_of_a_plain_loop);
    RUN(numbers_that_are_not_finite_are_refused);
    RUN(kcenter_takes_the_farthest);
    RUN(facilities_of_naive_and_lazy_greedy_are_the_same);
    RUN(both_ways_to_a_determinant_agree);
    RUN(weights_of_a_matching_are_stationary);
    RUN(the_answers_do_not_depend_on_threads);
    RUN(more_rows_than_there_are_cannot_be_chosen);
    RUN(every_method_ends_when_the_pulse_says_so);
    return check_report("test_coresets");
}
