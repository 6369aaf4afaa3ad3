/* herding.c - with wanted = t * mean - sum of those chosen, choice t is the row
 * that makes norm(wanted - G)^2 smallest: that has the largest
 * 2 <G, wanted> - norm(G)^2. */
#include "selector/herding.h"

#include "selector/moment.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const mdn_features *features;
    double *mean, *wanted, *values, *scratch, *column; /* owned */
    uint8_t *taken;                                    /* owned */
    uint64_t numbers;
} herd;

static void
herd_free(herd *h)
{
    free(h->mean);
    free(h->wanted);
    free(h->values);
    free(h->scratch);
    free(h->column);
    free(h->taken);
}

static mdn_status
herd_init(herd *h, const mdn_features *features, mdn_error *err)
{
    uint64_t room = mdn_features_room(features);

    *h = (herd){.features = features};
    h->numbers = mdn_moment_numbers(features);
    h->mean = malloc((h->numbers + 1) * sizeof(double));
    h->wanted = calloc(h->numbers + 1, sizeof(double));
    h->values = malloc(room * sizeof(double));
    h->scratch = malloc(room * sizeof(double));
    h->column = malloc((mdn_features_numbers(features) + 1) * sizeof(double));
    h->taken = calloc(room, 1);
    if (!h->mean || !h->wanted || !h->values || !h->scratch || !h->column
        || !h->taken) {
        herd_free(h);
        return mdn_fail_nomem(err, 2 * room * sizeof(double));
    }
    mdn_moment_sum(features, NULL, h->mean, h->column);
    for (uint64_t t = 0; t < h->numbers; t++)
        h->mean[t] /= (double)features->count;
    return MDN_OK;
}

static void
value_range(void *ctx, uint64_t first, uint64_t count)
{
    herd *h = ctx;
    uint64_t at = first * MDN_LANES, end = at + count * MDN_LANES;

    mdn_moment_times(h->features, first, count, h->wanted, h->values + at,
                     h->scratch + at);
    for (uint64_t i = at; i < end; i++)
        h->values[i] = 2.0 * h->values[i] - h->features->squares[i];
}

mdn_status
mdn_herding(const mdn_features *features, uint64_t count, uint64_t *chosen,
            double *errors, mdn_error *err)
{
    herd h;
    mdn_status st;

    if (count > features->count)
        return mdn_fail(err, MDN_INVALID,
                        "cannot choose %" PRIu64 " of %" PRIu64 " rows", count,
                        features->count);
    if ((st = herd_init(&h, features, err)) != MDN_OK)
        return st;
    for (uint64_t k = 0; st == MDN_OK && k < count; k++) {
        double square = 0;

        for (uint64_t t = 0; t < h.numbers; t++)
            h.wanted[t] += h.mean[t];
        mdn_features_each(features, value_range, &h);
        chosen[k] = mdn_largest(h.values, h.taken, features->count);
        h.taken[chosen[k]] = 1;
        mdn_moment_add(features, chosen[k], -1.0, h.wanted, h.column);
        for (uint64_t t = 0; t < h.numbers; t++)
            square += h.wanted[t] * h.wanted[t];
        errors[k] = sqrt(square) / (double)(k + 1);
        st = mdn_beat_ask(features->beat, err);
    }
    herd_free(&h);
    return st;
}
