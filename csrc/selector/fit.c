/* fit.c - the active set of non-negative least squares. */
#include "selector/fit.h"

#include "base/bytes.h"
#include "base/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define INDEPENDENT 1e-12 /* of a column's square must be its own */
#define FIRST_ROOM 16

void
mdn_fit_free(mdn_fit *fit)
{
    free(fit->gram);
    free(fit->factor);
    free(fit->target);
    free(fit->weights);
    free(fit->wanted);
    free(fit->names);
    *fit = (mdn_fit){0};
}

mdn_status
mdn_fit_grow(mdn_fit *fit, mdn_error *err)
{
    uint64_t room = fit->room > 0 ? fit->room + fit->room / 2 : FIRST_ROOM;
    uint64_t bytes = room * sizeof(double), pairs;
    mdn_status st;

    if (fit->count < fit->room)
        return MDN_OK;
    if (mdn_mul_overflows(bytes, (room + 1) / 2 + 1, &pairs))
        return mdn_fail_nomem(err, UINT64_MAX);
    if ((st = mdn_resize(&fit->gram, pairs, err)) != MDN_OK
        || (st = mdn_resize(&fit->factor, pairs, err)) != MDN_OK
        || (st = mdn_resize(&fit->target, bytes, err)) != MDN_OK
        || (st = mdn_resize(&fit->weights, bytes, err)) != MDN_OK
        || (st = mdn_resize(&fit->wanted, bytes, err)) != MDN_OK
        || (st = mdn_resize(&fit->names, bytes, err)) != MDN_OK)
        return st;
    fit->room = room;
    return MDN_OK;
}

static double *
triangle(double *numbers, uint64_t row)
{
    return numbers + row * (row + 1) / 2;
}

static double
dot(const double *a, const double *b, uint64_t count)
{
    double sum = 0;

    for (uint64_t t = 0; t < count; t++)
        sum += a[t] * b[t];
    return sum;
}

/* Row number `row` of the factor, from those above it. */
static bool
factor_row(mdn_fit *fit, uint64_t row)
{
    const double *gram = triangle(fit->gram, row);
    double *factor = triangle(fit->factor, row);
    double left;

    for (uint64_t i = 0; i < row; i++) {
        const double *above = triangle(fit->factor, i);

        factor[i] = (gram[i] - dot(above, factor, i)) / above[i];
    }
    left = gram[row] - dot(factor, factor, row);
    if (!(left > INDEPENDENT * gram[row]))
        return false;
    factor[row] = sqrt(left);
    return true;
}

/* wanted = (L L^T)^-1 target */
static void
solve(mdn_fit *fit)
{
    double *x = fit->wanted;

    for (uint64_t i = 0; i < fit->count; i++) {
        const double *row = triangle(fit->factor, i);

        x[i] = (fit->target[i] - dot(row, x, i)) / row[i];
    }
    for (uint64_t i = fit->count; i-- > 0;) {
        const double *row = triangle(fit->factor, i);

        x[i] /= row[i];
        for (uint64_t j = 0; j < i; j++)
            x[j] -= row[j] * x[i];
    }
}

/* Column `which` leaves.  What is left of independent columns is independent;
 * where rounding says otherwise, the last ones leave as well. */
static void
drop(mdn_fit *fit, uint64_t which)
{
    for (uint64_t i = which + 1; i < fit->count; i++) {
        const double *from = triangle(fit->gram, i);
        double *to = triangle(fit->gram, i - 1);

        memmove(to, from, which * sizeof *to);
        memmove(to + which, from + which + 1, (i - which) * sizeof *to);
        fit->target[i - 1] = fit->target[i];
        fit->weights[i - 1] = fit->weights[i];
        fit->wanted[i - 1] = fit->wanted[i];
        fit->names[i - 1] = fit->names[i];
    }
    fit->count--;
    for (uint64_t i = which; i < fit->count; i++) {
        if (!factor_row(fit, i))
            fit->count = i;
    }
}

/* From the weights towards those wanted, until one of them is 0: that leaves.
 * False when all that are wanted are above 0. */
static bool
step(mdn_fit *fit)
{
    double share = 1.0;
    uint64_t first = fit->count;

    for (uint64_t i = 0; i < fit->count; i++) {
        double away = fit->weights[i] - fit->wanted[i];

        if (fit->wanted[i] <= 0
            && (first == fit->count || fit->weights[i] < share * away)) {
            share = away > 0 ? fit->weights[i] / away : 0;
            first = i;
        }
    }
    if (first == fit->count) {
        memcpy(fit->weights, fit->wanted, fit->count * sizeof *fit->weights);
        return false;
    }
    for (uint64_t i = 0; i < fit->count; i++)
        fit->weights[i] += share * (fit->wanted[i] - fit->weights[i]);
    drop(fit, first);
    return true;
}

bool
mdn_fit_add(mdn_fit *fit)
{
    uint64_t added = fit->count;

    fit->weights[added] = 0;
    if (!factor_row(fit, added))
        return false;
    fit->count++;
    solve(fit);
    if (!(fit->wanted[added] > 0)) {
        fit->count--;
        return false;
    }
    while (step(fit))
        solve(fit);
    return true;
}
