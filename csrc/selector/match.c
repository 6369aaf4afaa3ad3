/* match.c - orthogonal matching pursuit.
 *
 * The residual target - sum of w_j G_j is one vector (a matrix, of gradients
 * times embeddings), computed anew from those chosen after each fit, so that
 * errors do not add up.  A step is a pass over all features, and a fit. */
#include "selector/match.h"

#include "selector/fit.h"
#include "selector/moment.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NOTHING 1e-12 /* inner products this small are rounding errors */

typedef struct {
    const mdn_features *features;
    double *target, *residual; /* owned */
    double *along;             /* owned: <G_i, residual> */
    double *scratch;           /* owned */
    double *column, *other;    /* owned: g and h of two rows */
    uint8_t *taken;            /* owned: chosen, or of no use */
    uint64_t numbers;
    double ridge, mean_square;
    mdn_fit fit;
} pursuit;

static void
pursuit_free(pursuit *p)
{
    free(p->target);
    free(p->residual);
    free(p->along);
    free(p->scratch);
    free(p->column);
    free(p->other);
    free(p->taken);
    mdn_fit_free(&p->fit);
}

void
mdn_matching_free(mdn_matching *matching)
{
    free(matching->rows);
    free(matching->weights);
    free(matching->objectives);
    *matching = (mdn_matching){0};
}

static mdn_status
pursuit_alloc(pursuit *p, const mdn_features *features, mdn_error *err)
{
    uint64_t room = mdn_features_room(features);
    uint64_t column = mdn_features_numbers(features) + 1;

    *p = (pursuit){.features = features};
    p->numbers = mdn_moment_numbers(features);
    p->target = malloc((p->numbers + 1) * sizeof(double));
    p->residual = malloc((p->numbers + 1) * sizeof(double));
    p->along = malloc(room * sizeof(double));
    p->scratch = malloc(room * sizeof(double));
    p->column = malloc(column * sizeof(double));
    p->other = malloc(column * sizeof(double));
    p->taken = calloc(room, 1);
    if (p->target && p->residual && p->along && p->scratch && p->column
        && p->other && p->taken)
        return MDN_OK;
    pursuit_free(p);
    return mdn_fail_nomem(err, (2 * room + p->numbers) * sizeof(double));
}

static mdn_status
pursuit_init(pursuit *p, const mdn_features *features, const double *target,
             double ridge, mdn_error *err)
{
    mdn_status st = pursuit_alloc(p, features, err);

    if (st != MDN_OK)
        return st;
    if (target == NULL)
        mdn_moment_sum(features, NULL, p->target, p->column);
    for (uint64_t t = 0; t < p->numbers; t++) {
        p->target[t] =
            target ? target[t] : p->target[t] / (double)features->count;
        if (!isfinite(p->target[t])) {
            pursuit_free(p);
            return mdn_fail(err, MDN_INVALID,
                            "target is not finite at %" PRIu64, t);
        }
    }
    for (uint64_t i = 0; i < features->count; i++)
        p->mean_square += features->squares[i];
    p->mean_square /= (double)features->count;
    p->ridge = ridge * p->mean_square;
    return MDN_OK;
}

/* ---- a step ---- */

static void
along_range(void *ctx, uint64_t first, uint64_t count)
{
    pursuit *p = ctx;
    uint64_t at = first * MDN_LANES;

    mdn_moment_times(p->features, first, count, p->residual, p->along + at,
                     p->scratch + at);
}

static double
inner(const double *a, const double *b, uint64_t count)
{
    double sum = 0;

    for (uint64_t t = 0; t < count; t++)
        sum += a[t] * b[t];
    return sum;
}

/* <G, G'> of the rows in p->column and p->other. */
static double
product(const pursuit *p)
{
    uint32_t width = p->features->rows.width;
    uint32_t depth = p->features->embeddings.width;
    double found = inner(p->column, p->other, width);

    return depth == 0
               ? found
               : found
                     * (1.0
                        + inner(p->column + width, p->other + width, depth));
}

/* The sum of a row's vector and the target, from the pieces of the vector. */
static double
against_target(const pursuit *p)
{
    uint32_t width = p->features->rows.width;
    uint32_t depth = p->features->embeddings.width;
    double sum = 0;

    for (uint32_t t = 0; t < width; t++) {
        const double *from = p->target + (uint64_t)t * (1 + depth);

        sum += p->column[t]
               * (from[0] + inner(from + 1, p->column + width, depth));
    }
    return sum;
}

static mdn_status
add_row(pursuit *p, uint64_t row, bool *useful, mdn_error *err)
{
    mdn_fit *fit = &p->fit;
    mdn_status st = mdn_fit_grow(fit, err);
    double *gram;

    if (st != MDN_OK)
        return st;
    gram = fit->gram + fit->count * (fit->count + 1) / 2;
    mdn_features_one(p->features, row, p->column);
    for (uint64_t i = 0; i < fit->count; i++) {
        mdn_features_one(p->features, fit->names[i], p->other);
        gram[i] = product(p);
    }
    gram[fit->count] = p->features->squares[row] + p->ridge;
    fit->target[fit->count] = against_target(p);
    fit->names[fit->count] = row;
    *useful = mdn_fit_add(fit);
    return MDN_OK;
}

static double
objective(const pursuit *p)
{
    return inner(p->residual, p->residual, p->numbers)
           + p->ridge * inner(p->fit.weights, p->fit.weights, p->fit.count);
}

/* Of those chosen a row may have left: only the others are not to be taken. */
static void
take_stock(pursuit *p, const uint8_t *useless)
{
    memcpy(p->taken, useless, p->features->count);
    memcpy(p->residual, p->target, p->numbers * sizeof *p->residual);
    for (uint64_t i = 0; i < p->fit.count; i++) {
        p->taken[p->fit.names[i]] = 1;
        mdn_moment_add(p->features, p->fit.names[i], -p->fit.weights[i],
                       p->residual, p->column);
    }
    mdn_features_each(p->features, along_range, p);
}

/* The row to take next; the number of rows when none is of use. */
static uint64_t
next_row(const pursuit *p)
{
    uint64_t n = p->features->count;
    uint64_t row = mdn_largest(p->along, p->taken, n);
    double least;

    if (row == n)
        return n;
    least = NOTHING * sqrt(p->features->squares[row] * p->mean_square);
    return p->along[row] > least ? row : n;
}

static mdn_status
pursue(pursuit *p, uint64_t count, uint64_t steps_most, uint8_t *useless,
       mdn_matching *out, mdn_error *err)
{
    take_stock(p, useless);
    while (p->fit.count < count && out->steps < steps_most) {
        uint64_t row = next_row(p);
        bool useful;
        mdn_status st;

        if (row == p->features->count)
            break;
        if ((st = mdn_beat_ask(p->features->beat, err)) != MDN_OK
            || (st = add_row(p, row, &useful, err)) != MDN_OK)
            return st;
        useless[row] = !useful;
        if (!useful) {
            p->taken[row] = 1;
            continue;
        }
        take_stock(p, useless);
        out->objectives[out->steps++] = objective(p);
    }
    out->residual = sqrt(inner(p->residual, p->residual, p->numbers));
    return MDN_OK;
}

/* ---- all ---- */

static int
by_row(const void *a, const void *b)
{
    uint64_t x, y;

    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

typedef struct {
    uint64_t row;
    double weight;
} weighted;

static mdn_status
answer(const mdn_fit *fit, mdn_matching *out, mdn_error *err)
{
    weighted *sorted = malloc((fit->count + 1) * sizeof *sorted);

    out->rows = malloc((fit->count + 1) * sizeof *out->rows);
    out->weights = malloc((fit->count + 1) * sizeof *out->weights);
    if (!sorted || !out->rows || !out->weights) {
        free(sorted);
        return mdn_fail_nomem(err, fit->count * sizeof *sorted);
    }
    for (uint64_t i = 0; i < fit->count; i++)
        sorted[i] = (weighted){fit->names[i], fit->weights[i]};
    qsort(sorted, fit->count, sizeof *sorted, by_row);
    for (uint64_t i = 0; i < fit->count; i++) {
        out->rows[i] = sorted[i].row;
        out->weights[i] = sorted[i].weight;
    }
    out->count = fit->count;
    free(sorted);
    return MDN_OK;
}

mdn_status
mdn_match(const mdn_features *features, const double *target, double ridge,
          uint64_t count, mdn_matching *out, mdn_error *err)
{
    uint64_t steps_most = 4 * count + 16; /* rows that leave are rare */
    uint8_t *useless;
    pursuit p;
    mdn_status st;

    *out = (mdn_matching){0};
    if (count > features->count)
        return mdn_fail(err, MDN_INVALID,
                        "cannot choose %" PRIu64 " of %" PRIu64 " rows", count,
                        features->count);
    if (!(ridge >= 0 && isfinite(ridge)))
        return mdn_fail(err, MDN_INVALID, "ridge must be at least 0, got %g",
                        ridge);
    if ((st = pursuit_init(&p, features, target, ridge, err)) != MDN_OK)
        return st;
    useless = calloc(features->count, 1);
    out->objectives = malloc(steps_most * sizeof *out->objectives);
    if (useless == NULL || out->objectives == NULL)
        st = mdn_fail_nomem(err, steps_most * sizeof *out->objectives);
    if (st == MDN_OK)
        st = pursue(&p, count, steps_most, useless, out, err);
    if (st == MDN_OK)
        st = answer(&p.fit, out, err);
    if (st != MDN_OK)
        mdn_matching_free(out);
    free(useless);
    pursuit_free(&p);
    return st;
}
