/* kcenter.c - one distance for each row, brought up to date at each choice. */
#include "selector/kcenter.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const mdn_features *features;
    double *column;             /* owned: of the row chosen last */
    double *products, *scratch; /* owned */
    double *nearest; /* owned: squared distance to the nearest one chosen */
    uint8_t *taken;  /* owned */
    double square;   /* of the row chosen last */
} centers;

static void
centers_free(centers *c)
{
    free(c->column);
    free(c->products);
    free(c->scratch);
    free(c->nearest);
    free(c->taken);
}

static mdn_status
centers_init(const mdn_features *features, centers *c, mdn_error *err)
{
    uint64_t room = mdn_features_room(features);

    *c = (centers){.features = features};
    c->column = malloc((mdn_features_numbers(features) + 1) * sizeof(double));
    c->products = malloc(room * sizeof(double));
    c->scratch = malloc(room * sizeof(double));
    c->nearest = malloc(room * sizeof(double));
    c->taken = calloc(room, 1);
    if (!c->column || !c->products || !c->scratch || !c->nearest || !c->taken) {
        centers_free(c);
        return mdn_fail_nomem(err, 3 * room * sizeof(double));
    }
    for (uint64_t i = 0; i < room; i++)
        c->nearest[i] = INFINITY;
    return MDN_OK;
}

/* The squares are sums in the same order as the products, so that equal rows
 * are at a distance of exactly 0. */
static void
approach(void *ctx, uint64_t first, uint64_t count)
{
    const centers *c = ctx;
    uint64_t from = first * MDN_LANES;
    const double *squares = c->features->squares + from;
    double *nearest = c->nearest + from;
    double *products = c->products + from;

    mdn_features_column(c->features, first, count, c->column, products,
                        c->scratch + from);
    for (uint64_t i = 0; i < count * MDN_LANES; i++) {
        double square = squares[i] + c->square - 2.0 * products[i];

        if (square < nearest[i])
            nearest[i] = square > 0 ? square : 0;
    }
}

static void
take(centers *c, uint64_t row)
{
    const mdn_features *f = c->features;

    mdn_features_one(f, row, c->column);
    c->square = f->squares[row];
    c->taken[row] = 1;
    mdn_features_each(f, approach, c);
}

static mdn_status
take_start(centers *c, const uint64_t *start, uint64_t count, mdn_error *err)
{
    mdn_status st;

    for (uint64_t s = 0; s < count; s++) {
        if (start[s] >= c->features->count || c->taken[start[s]])
            return mdn_fail(err, MDN_INVALID,
                            "start must be different rows below %" PRIu64
                            ", got %" PRIu64,
                            c->features->count, start[s]);
        if ((st = mdn_beat_ask(c->features->beat, err)) != MDN_OK)
            return st;
        take(c, start[s]);
    }
    return MDN_OK;
}

mdn_status
mdn_kcenter(const mdn_features *features, const uint64_t *start,
            uint64_t start_count, uint64_t count, uint64_t *chosen,
            double *radii, double *distances, mdn_error *err)
{
    uint64_t n = features->count;
    centers c;
    mdn_status st;

    if (start_count == 0 || start_count > n || count > n - start_count)
        return mdn_fail(err, MDN_INVALID,
                        "cannot choose %" PRIu64 " rows beside %" PRIu64
                        " of %" PRIu64,
                        count, start_count, n);
    if ((st = centers_init(features, &c, err)) != MDN_OK)
        return st;
    st = take_start(&c, start, start_count, err);
    for (uint64_t k = 0; st == MDN_OK && k < count; k++) {
        chosen[k] = mdn_largest(c.nearest, c.taken, n);
        radii[k] = sqrt(c.nearest[chosen[k]]);
        take(&c, chosen[k]);
        st = mdn_beat_ask(features->beat, err);
    }
    for (uint64_t i = 0; st == MDN_OK && i < n; i++)
        distances[i] = sqrt(c.nearest[i]);
    centers_free(&c);
    return st;
}
