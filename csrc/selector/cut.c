/* cut.c - one gain for each row.
 *
 * The first gain of x is coverage * sum over i of s(i, x) - 1, where the sum
 * follows from the sum of all directions u_i:
 *
 *     sum over i of (1 + <u_i, u_x>) / 2 = (count + <sum of u_i, u_x>) / 2
 *
 * and 1/2 more for a row of zeros, whose similarity to itself is 1.  A row j
 * that is chosen takes 2 s(x, j) from the gain of every other x. */
#include "selector/cut.h"

#include "selector/moment.h"

#include <math.h>
#include <stdlib.h>

typedef struct {
    const mdn_features *features;
    double *inverse;  /* owned: 1 / norm, 0 for zeros */
    double *gains;    /* owned */
    double *products; /* owned */
    double *scratch;  /* owned */
    double *column;   /* owned */
    double own;       /* inverse of the row being taken */
} cut;

static void
cut_free(cut *c)
{
    free(c->inverse);
    free(c->gains);
    free(c->products);
    free(c->scratch);
    free(c->column);
}

static mdn_status
first_gains(cut *c, double coverage, mdn_error *err)
{
    const mdn_features *f = c->features;
    uint64_t numbers = mdn_moment_numbers(f);
    double *sum = malloc((numbers + 1) * sizeof *sum);

    if (sum == NULL)
        return mdn_fail_nomem(err, numbers * sizeof *sum);
    mdn_moment_sum(f, c->inverse, sum, c->column);
    mdn_moment_times(f, 0, f->rows.panels, sum, c->gains, c->scratch);
    for (uint64_t i = 0; i < f->count; i++) {
        double all = 0.5 * ((double)f->count + c->gains[i] * c->inverse[i]);

        c->gains[i] = coverage * (all + (c->inverse[i] > 0 ? 0 : 0.5)) - 1.0;
    }
    free(sum);
    return MDN_OK;
}

static mdn_status
cut_init(cut *c, const mdn_features *features, double coverage, mdn_error *err)
{
    uint64_t room = mdn_features_room(features);
    mdn_status st = MDN_OK;

    *c = (cut){.features = features};
    c->inverse = malloc(room * sizeof(double));
    c->gains = malloc(room * sizeof(double));
    c->products = malloc(room * sizeof(double));
    c->scratch = malloc(room * sizeof(double));
    c->column = malloc((mdn_features_numbers(features) + 1) * sizeof(double));
    if (!c->inverse || !c->gains || !c->products || !c->scratch || !c->column)
        st = mdn_fail_nomem(err, 4 * room * sizeof(double));
    for (uint64_t i = 0; st == MDN_OK && i < room; i++)
        c->inverse[i] =
            features->squares[i] > 0 ? 1.0 / sqrt(features->squares[i]) : 0;
    if (st == MDN_OK)
        st = first_gains(c, coverage, err);
    if (st != MDN_OK)
        cut_free(c);
    return st;
}

static void
evaluate(void *ctx, const uint32_t *rows, uint64_t count, double *gains)
{
    const cut *c = ctx;

    for (uint64_t i = 0; i < count; i++)
        gains[i] = c->gains[rows[i]];
}

static void
lessen(void *ctx, uint64_t first, uint64_t count)
{
    cut *c = ctx;
    uint64_t at = first * MDN_LANES, end = at + count * MDN_LANES;

    mdn_features_column(c->features, first, count, c->column, c->products + at,
                        c->scratch + at);
    for (uint64_t i = at; i < end; i++) {
        double s = 0.5 + 0.5 * (c->products[i] * (c->inverse[i] * c->own));

        c->gains[i] -= 2.0 * (s < 1.0 ? s : 1.0);
    }
}

static void
take(void *ctx, uint32_t row)
{
    cut *c = ctx;

    mdn_features_one(c->features, row, c->column);
    c->own = c->inverse[row];
    mdn_features_each(c->features, lessen, c);
}

mdn_status
mdn_cut(const mdn_features *features, double coverage,
        const mdn_greedy_options *options, uint64_t count, uint64_t *chosen,
        double *gains, mdn_error *err)
{
    cut c;
    mdn_objective objective = {.ctx = &c,
                               .count = features->count,
                               .beat = features->beat,
                               .evaluate = evaluate,
                               .take = take};
    mdn_status st = cut_init(&c, features, coverage, err);

    if (st != MDN_OK)
        return st;
    st =
        mdn_greedy_choose(&objective, options, count, chosen, gains, NULL, err);
    cut_free(&c);
    return st;
}
