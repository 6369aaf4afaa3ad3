/* volume_space.c - log determinants in the space of the features.
 *
 * A row has a vector v with K_ij = <v_i, v_j>: g itself, or for the similarity
 * of directions [1, g / norm(g)] / sqrt(2), where a row of zeros has 1 /
 * sqrt(2) in a direction of its own.  With M = ridge I + sum over S of v v^T,
 *
 *     K_xx + ridge - K_xS (K_SS + ridge I)^-1 K_Sx = ridge (1 + q_x),
 *     q_x = v_x^T M^-1 v_x
 *
 * When j is taken, with w = M^-1 v_j, M^-1 loses w w^T / (1 + q_j) and q_x
 * loses <v_x, w>^2 / (1 + q_j): one pass over the features, and no memory for
 * those chosen. */
#include "selector/volume_ways.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const mdn_features *features;
    uint32_t width; /* of v: a constant, and g */
    double constant, ridge, unit;
    double *scale;    /* owned: v is [constant, scale * g] */
    double *alone;    /* owned: square of v in a direction of its own */
    double *q;        /* owned */
    double *products; /* owned */
    double *inverse;  /* owned: M^-1, width x width */
    double *v, *w;    /* owned; of the row being taken */
    double rest;      /* 1 + q of it */
} space;

static void
space_free(space *s)
{
    if (s == NULL)
        return;
    free(s->scale);
    free(s->alone);
    free(s->q);
    free(s->products);
    free(s->inverse);
    free(s->v);
    free(s->w);
    free(s);
}

static mdn_status
space_new(const mdn_features *features, double ridge, space **out,
          mdn_error *err)
{
    uint64_t room = mdn_features_room(features);
    uint64_t width = (uint64_t)features->rows.width + 1;
    space *s = calloc(1, sizeof *s);

    *out = NULL;
    if (s != NULL) {
        s->features = features;
        s->width = (uint32_t)width;
        s->ridge = ridge;
        s->scale = malloc(room * sizeof(double));
        s->alone = calloc(room, sizeof(double));
        s->q = malloc(room * sizeof(double));
        s->products = malloc(room * sizeof(double));
        s->inverse = calloc(width * width, sizeof(double));
        s->v = malloc(width * sizeof(double));
        s->w = malloc(width * sizeof(double));
    }
    if (!s || !s->scale || !s->alone || !s->q || !s->products || !s->inverse
        || !s->v || !s->w) {
        space_free(s);
        return mdn_fail_nomem(err, (4 * room + width * width) * sizeof(double));
    }
    *out = s;
    return MDN_OK;
}

static void
prepare(space *s, mdn_volume_kind kind)
{
    const double *squares = s->features->squares;
    uint64_t room = mdn_features_room(s->features);

    s->constant = kind == MDN_VOLUME_SIMILAR ? sqrt(0.5) : 0;
    s->unit = kind == MDN_VOLUME_SIMILAR ? 1.0 : s->ridge;
    for (uint64_t i = 0; i < room; i++) {
        s->scale[i] = 1.0;
        if (kind == MDN_VOLUME_SIMILAR) {
            s->scale[i] = squares[i] > 0 ? sqrt(0.5 / squares[i]) : 0;
            s->alone[i] = squares[i] > 0 ? 0 : 0.5;
        }
        s->q[i] = (kind == MDN_VOLUME_SIMILAR ? 1.0 : squares[i]) / s->ridge;
    }
    for (uint32_t t = 0; t < s->width; t++)
        s->inverse[(uint64_t)t * s->width + t] = 1.0 / s->ridge;
}

static void
evaluate(void *ctx, const uint32_t *rows, uint64_t count, double *gains)
{
    const space *s = ctx;
    double first = log(s->ridge / s->unit);

    for (uint64_t i = 0; i < count; i++) {
        double q = s->q[rows[i]];

        gains[i] = first + log1p(q > 0 ? q : 0);
    }
}

static void
lessen(void *ctx, uint64_t first, uint64_t count)
{
    space *s = ctx;
    uint64_t at = first * MDN_LANES, end = at + count * MDN_LANES;

    mdn_panels_times(&s->features->rows, first, count, s->w + 1,
                     s->products + at);
    for (uint64_t i = at; i < end; i++) {
        double along = s->constant * s->w[0] + s->scale[i] * s->products[i];

        s->q[i] -= along * along / s->rest;
    }
}

static void
take(void *ctx, uint32_t row)
{
    space *s = ctx;
    uint64_t width = s->width;
    double q = s->alone[row] / s->ridge;

    s->v[0] = s->constant;
    mdn_panels_row(&s->features->rows, row, s->v + 1, 1);
    for (uint64_t t = 1; t < width; t++)
        s->v[t] *= s->scale[row];
    for (uint64_t t = 0; t < width; t++) {
        s->w[t] = 0;
        for (uint64_t u = 0; u < width; u++)
            s->w[t] += s->inverse[t * width + u] * s->v[u];
        q += s->v[t] * s->w[t];
    }
    s->rest = 1.0 + q;
    for (uint64_t t = 0; t < width; t++) {
        for (uint64_t u = 0; u < width; u++)
            s->inverse[t * width + u] -= s->w[t] * (s->w[u] / s->rest);
    }
    mdn_features_each(s->features, lessen, s);
}

mdn_status
mdn_volume_space_open(const mdn_features *features, mdn_volume_kind kind,
                      double ridge, mdn_objective *out, mdn_error *err)
{
    space *s;
    mdn_status st = space_new(features, ridge, &s, err);

    if (st != MDN_OK)
        return st;
    prepare(s, kind);
    *out = (mdn_objective){.ctx = s,
                           .count = features->count,
                           .beat = features->beat,
                           .evaluate = evaluate,
                           .take = take};
    return MDN_OK;
}

void
mdn_volume_space_close(mdn_objective *objective)
{
    space_free(objective->ctx);
}
