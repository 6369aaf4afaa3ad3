/* moment.c - sums of samples' vectors. */
#include "selector/moment.h"

#include <string.h>

#define BLOCK 32u /* panels whose embeddings stay in a near cache */

void
mdn_moment_add(const mdn_features *features, uint64_t row, double weight,
               double *moment, double *column)
{
    uint32_t width = features->rows.width, depth = features->embeddings.width;

    mdn_features_one(features, row, column);
    for (uint32_t t = 0; t < width; t++) {
        double *to = moment + (uint64_t)t * (1 + depth);
        double factor = weight * column[t];

        to[0] += factor;
        for (uint32_t u = 0; u < depth; u++)
            to[1 + u] += factor * column[width + u];
    }
}

void
mdn_moment_sum(const mdn_features *features, const double *weights,
               double *moment, double *column)
{
    memset(moment, 0, mdn_moment_numbers(features) * sizeof *moment);
    for (uint64_t i = 0; i < features->count; i++)
        mdn_moment_add(features, i, weights ? weights[i] : 1.0, moment, column);
}

static void
times_block(const mdn_features *features, uint64_t first, uint64_t count,
            const double *moment, double *out, double *scratch)
{
    uint32_t width = features->rows.width, depth = features->embeddings.width;

    memset(out, 0, count * MDN_LANES * sizeof *out);
    for (uint32_t t = 0; t < width; t++) {
        const double *from = moment + (uint64_t)t * (1 + depth);

        mdn_panels_times(&features->embeddings, first, count, from + 1,
                         scratch);
        for (uint64_t p = 0; p < count; p++) {
            const float *g =
                features->rows.cells + ((first + p) * width + t) * MDN_LANES;

            for (uint32_t l = 0; l < MDN_LANES; l++)
                out[p * MDN_LANES + l] +=
                    (double)g[l] * (from[0] + scratch[p * MDN_LANES + l]);
        }
    }
}

void
mdn_moment_times(const mdn_features *features, uint64_t first, uint64_t count,
                 const double *moment, double *out, double *scratch)
{
    if (features->embeddings.width == 0) {
        mdn_panels_times(&features->rows, first, count, moment, out);
        return;
    }
    for (uint64_t p = 0; p < count; p += BLOCK) {
        uint64_t rest = count - p;

        times_block(features, first + p, rest < BLOCK ? rest : BLOCK, moment,
                    out + p * MDN_LANES, scratch + p * MDN_LANES);
    }
}
