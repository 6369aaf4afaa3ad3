/* test_kernelsum.c - sums over pairs of rows, against plain loops. */
#include "base/random.h"
#include "selector/kernelsum.h"

#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST 1100
#define WIDTH 40

static double doubles[MOST * WIDTH];
static float floats[MOST * WIDTH];

/* Numbers around 5, between 4 and 6; every seventh row is the one before. */
static void
fill(uint32_t width)
{
    uint64_t start = mdn_stream(2026, width);

    for (uint64_t i = 0; i < MOST * (uint64_t)width; i++)
        doubles[i] = 4.0 + (double)(mdn_draw(start, i) >> 11) * 0x1p-52;
    for (uint64_t i = 7; i < MOST; i += 7)
        memcpy(doubles + i * width, doubles + (i - 1) * width,
               width * sizeof *doubles);
    for (uint64_t i = 0; i < MOST * (uint64_t)width; i++)
        floats[i] = (float)doubles[i];
}

static mdn_pair_rows
some(uint64_t first, uint64_t count, uint32_t width, bool is_double)
{
    const void *cells = is_double ? (const void *)(doubles + first * width)
                                  : (const void *)(floats + first * width);

    return (mdn_pair_rows){cells, count, width, is_double};
}

static double
number(const mdn_pair_rows *rows, uint64_t i, uint32_t t)
{
    uint64_t at = i * rows->width + t;

    return rows->is_double ? ((const double *)rows->cells)[at]
                           : (double)((const float *)rows->cells)[at];
}

static double
squared(const mdn_pair_rows *one, uint64_t i, const mdn_pair_rows *two,
        uint64_t j)
{
    double sum = 0;

    for (uint32_t t = 0; t < one->width; t++) {
        double apart = number(one, i, t) - number(two, j, t);

        sum += apart * apart;
    }
    return sum;
}

static double
plain_sum(const mdn_pair_rows *rows, const mdn_pair_rows *others,
          mdn_pair_kernel kernel, double gamma)
{
    const mdn_pair_rows *columns = others != NULL ? others : rows;
    double sum = 0;

    for (uint64_t i = 0; i < rows->count; i++) {
        for (uint64_t j = 0; j < columns->count; j++) {
            double square = squared(rows, i, columns, j);

            if (others == NULL && i == j)
                continue;
            sum +=
                kernel == MDN_PAIR_NORM ? sqrt(square) : exp(-gamma * square);
        }
    }
    return sum;
}

static double
core_sum(const mdn_pair_rows *rows, const mdn_pair_rows *others,
         mdn_pair_kernel kernel, double gamma, uint32_t threads)
{
    mdn_pair_options options = {.threads = threads};
    double sum = -1;

    CHECK(mdn_kernelsum(rows, others, kernel, gamma, &options, &sum, NULL)
          == MDN_OK);
    return sum;
}

static bool
near(double got, double expected)
{
    return fabs(got - expected) <= 1e-12 * fabs(expected);
}

static void
check_sums(uint64_t n, uint64_t m, uint32_t width, bool is_double)
{
    mdn_pair_rows rows = some(0, n, width, is_double);
    mdn_pair_rows others = some(n, m, width, is_double);
    double gamma = 1.0 / width;

    for (int k = 0; k < 2; k++) {
        mdn_pair_kernel kernel = k == 0 ? MDN_PAIR_GAUSSIAN : MDN_PAIR_NORM;

        CHECK(near(core_sum(&rows, &others, kernel, gamma, 1),
                   plain_sum(&rows, &others, kernel, gamma)));
        CHECK(near(core_sum(&rows, NULL, kernel, gamma, 1),
                   plain_sum(&rows, NULL, kernel, gamma)));
    }
}

static void
sums_are_those_of_plain_loops(void)
{
    static const uint64_t sizes[] = {1, 2, 7, 8, 9, 255, 256, 257, 300};
    static const uint32_t widths[] = {1, 3, WIDTH};

    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        fill(widths[w]);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            check_sums(sizes[s], 300 - sizes[s] + 1, widths[w], s % 2 == 0);
            check_sums(sizes[s], 20, widths[w], s % 2 == 1);
        }
    }
}

static void
threads_change_no_bit(void)
{
    fill(WIDTH);
    for (int is_double = 0; is_double < 2; is_double++) {
        mdn_pair_rows rows = some(0, 700, WIDTH, is_double != 0);
        mdn_pair_rows others = some(700, 400, WIDTH, is_double != 0);

        for (uint32_t threads = 2; threads < 5; threads++) {
            CHECK(core_sum(&rows, &others, MDN_PAIR_GAUSSIAN, 0.1, threads)
                  == core_sum(&rows, &others, MDN_PAIR_GAUSSIAN, 0.1, 1));
            CHECK(core_sum(&rows, NULL, MDN_PAIR_NORM, 0, threads)
                  == core_sum(&rows, NULL, MDN_PAIR_NORM, 0, 1));
        }
    }
}

/* One feature, and one pair: the sum is the kernel. */
static void
the_exponential_is_right_to_the_last_places(void)
{
    double zero = 0, x;
    mdn_pair_rows rows = {&zero, 1, 1, true}, others = {&x, 1, 1, true};

    for (double exponent = 1e-9; exponent < 707; exponent = exponent * 1.01) {
        double got, expected;

        x = sqrt(exponent);
        got = core_sum(&rows, &others, MDN_PAIR_GAUSSIAN, 1.0, 1);
        expected = exp(-(x * x));
        CHECK(fabs(got - expected) <= 4.5e-16 * expected);
    }
    x = 1e100;
    CHECK(core_sum(&rows, &others, MDN_PAIR_GAUSSIAN, 1.0, 1) == 0);
    x = 0;
    CHECK(core_sum(&rows, &others, MDN_PAIR_GAUSSIAN, 1.0, 1) == 1);
}

static void
without_pairs_the_sum_is_zero(void)
{
    mdn_pair_rows none = some(0, 0, 3, true), one = some(0, 1, 3, true);

    CHECK(core_sum(&none, &one, MDN_PAIR_GAUSSIAN, 1, 2) == 0);
    CHECK(core_sum(&one, &none, MDN_PAIR_GAUSSIAN, 1, 2) == 0);
    CHECK(core_sum(&one, NULL, MDN_PAIR_GAUSSIAN, 1, 2) == 0);
}

static void
check_squares(uint64_t count, uint32_t threads)
{
    mdn_pair_rows rows = some(0, count, WIDTH, true);
    mdn_pair_options options = {.threads = threads};
    uint64_t pairs = count * (count - 1) / 2, at = 0;
    double *squares = calloc(pairs + 1, sizeof *squares);

    CHECK(squares != NULL);
    squares[pairs] = -1;
    CHECK(mdn_pair_squares(&rows, &options, squares, NULL) == MDN_OK);
    for (uint64_t i = 0; i < count; i++) {
        for (uint64_t j = i + 1; j < count; j++, at++) {
            double expected = squared(&rows, i, &rows, j);

            CHECK(near(squares[at], expected));
            CHECK((squares[at] == 0) == (expected == 0));
        }
    }
    CHECK(squares[pairs] == -1);
    free(squares);
}

static void
squares_stand_in_the_order_of_pairs(void)
{
    static const uint64_t sizes[] = {1, 2, 9, 256, 257, 521};

    fill(WIDTH);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        check_squares(sizes[s], 1);
        check_squares(sizes[s], 3);
    }
}

static mdn_status
refuse(void *ctx, mdn_error *err)
{
    (*(int *)ctx)++;
    return mdn_fail(err, MDN_CALLBACK, "no more");
}

static void
work_ends_when_the_pulse_says_so(void)
{
    for (uint32_t threads = 1; threads < 4; threads++) {
        int asked = 0;
        mdn_pulse pulse = {refuse, &asked};
        mdn_beat beat = {.pulse = &pulse};
        mdn_pair_options options = {.threads = threads, .beat = &beat};
        mdn_pair_rows rows = some(0, 1000, WIDTH, true);
        mdn_error err;
        double sum;

        /* On more threads than cores another may have done all by then. */
        mdn_status st =
            mdn_kernelsum(&rows, NULL, MDN_PAIR_NORM, 0, &options, &sum, &err);

        CHECK(st == (asked > 0 ? MDN_CALLBACK : MDN_OK));
        CHECK(threads > 1 || asked == 1);
    }
}

int
main(void)
{
    RUN(sums_are_those_of_plain_loops);
    RUN(threads_change_no_bit);
    RUN(the_exponential_is_right_to_the_last_places);
    RUN(without_pairs_the_sum_is_zero);
    RUN(squares_stand_in_the_order_of_pairs);
    RUN(work_ends_when_the_pulse_says_so);
    return check_report("test_kernelsum");
}
