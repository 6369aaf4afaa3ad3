/* volume_kernel.c - log determinants by a Cholesky factor.
 *
 * L L^T = K_SS + ridge I, of the k rows chosen, and their vectors are kept:
 * k^2 / 2 + k * width numbers.  What is left of a row x is
 * K_xx + ridge - norm(z)^2 with L z = K_Sx; it is computed when asked for. */
#include "selector/volume_ways.h"

#include "base/bytes.h"
#include "base/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define THREADS_MOST 64u

typedef struct {
    const mdn_features *features;
    mdn_volume_kind kind;
    double ridge;
    uint64_t numbers; /* of a vector */
    double *factor;   /* owned: row r has r + 1 numbers */
    double *vectors;  /* owned: g and h of each row chosen */
    double *inverse;  /* owned: 1 / norm, of those chosen */
    double *benches;  /* owned: for each thread a vector and a z */
    uint64_t bench_numbers, taken;
    uint32_t threads, parts;
    /* one call of evaluate */
    const uint32_t *rows;
    uint64_t count;
    double *gains;
} kernel;

static void
kernel_free(kernel *k)
{
    if (k == NULL)
        return;
    free(k->factor);
    free(k->vectors);
    free(k->inverse);
    free(k->benches);
    free(k);
}

static mdn_status
kernel_new(const mdn_features *features, uint64_t count, kernel **out,
           mdn_error *err)
{
    uint64_t numbers = mdn_features_numbers(features);
    uint32_t threads = mdn_parallel_parts(THREADS_MOST, 1, features->threads);
    uint64_t pairs = UINT64_MAX;
    kernel *k = calloc(1, sizeof *k);

    *out = NULL;
    if (k != NULL
        && !mdn_mul_overflows(count + 1, (count + 2) * sizeof(double),
                              &pairs)) {
        k->features = features;
        k->numbers = numbers;
        k->threads = threads;
        k->bench_numbers = numbers + count + 1;
        k->factor = malloc(pairs / 2);
        k->vectors = malloc((count + 1) * numbers * sizeof(double));
        k->inverse = malloc((count + 1) * sizeof(double));
        k->benches = malloc(threads * k->bench_numbers * sizeof(double));
    }
    if (!k || !k->factor || !k->vectors || !k->inverse || !k->benches) {
        kernel_free(k);
        return mdn_fail_nomem(err, pairs);
    }
    *out = k;
    return MDN_OK;
}

static double
dot(const double *a, const double *b, uint64_t count)
{
    double sums[4] = {0};
    uint64_t t = 0;

    for (; t + 4 <= count; t += 4) {
        for (uint32_t l = 0; l < 4; l++)
            sums[l] += a[t + l] * b[t + l];
    }
    for (; t < count; t++)
        sums[0] += a[t] * b[t];
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

static double
inverse_norm(const kernel *k, uint64_t row)
{
    double square = k->features->squares[row];

    return square > 0 ? 1.0 / sqrt(square) : 0;
}

/* K of a vector and the one chosen as number r. */
static double
pair(const kernel *k, const double *vector, double inverse, uint64_t r)
{
    const double *other = k->vectors + r * k->numbers;
    uint32_t width = k->features->rows.width;
    uint32_t depth = k->features->embeddings.width;
    double product = dot(vector, other, width);
    double similar;

    if (depth > 0)
        product *= 1.0 + dot(vector + width, other + width, depth);
    if (k->kind == MDN_VOLUME_LINEAR)
        return product;
    similar = 0.5 + 0.5 * (product * (inverse * k->inverse[r]));
    return similar < 1.0 ? similar : 1.0;
}

/* What is left of a row, at least ridge; vector and z are filled. */
static double
left_of(const kernel *k, uint64_t row, double *vector, double *z)
{
    double inverse = inverse_norm(k, row);
    double left =
        k->ridge
        + (k->kind == MDN_VOLUME_LINEAR ? k->features->squares[row] : 1.0);

    mdn_features_one(k->features, row, vector);
    for (uint64_t r = 0; r < k->taken; r++) {
        const double *factor = k->factor + r * (r + 1) / 2;

        z[r] = (pair(k, vector, inverse, r) - dot(factor, z, r)) / factor[r];
        left -= z[r] * z[r];
    }
    return left > k->ridge ? left : k->ridge;
}

static double
unit(const kernel *k)
{
    return k->kind == MDN_VOLUME_LINEAR ? k->ridge : 1.0;
}

static void
gains_of_part(void *ctx, uint32_t part)
{
    kernel *k = ctx;
    double *vector = k->benches + part * k->bench_numbers;
    uint64_t next = mdn_part_first(k->count, k->parts, part + 1);

    for (uint64_t i = mdn_part_first(k->count, k->parts, part); i < next; i++) {
        double left = left_of(k, k->rows[i], vector, vector + k->numbers);

        k->gains[i] = log(left / unit(k));
    }
}

static void
evaluate(void *ctx, const uint32_t *rows, uint64_t count, double *gains)
{
    kernel *k = ctx;
    uint64_t work = (k->taken + 1) * (k->taken / 2 + k->numbers);
    uint64_t least = (UINT64_C(1) << 18) / work + 1;

    k->rows = rows;
    k->count = count;
    k->gains = gains;
    k->parts = mdn_parallel_parts(count, least, k->threads);
    mdn_parallel(k->parts, gains_of_part, k);
}

static void
take(void *ctx, uint32_t row)
{
    kernel *k = ctx;
    double *vector = k->vectors + k->taken * k->numbers;
    double *factor = k->factor + k->taken * (k->taken + 1) / 2;

    factor[k->taken] = sqrt(left_of(k, row, vector, factor));
    k->inverse[k->taken] = inverse_norm(k, row);
    k->taken++;
}

mdn_status
mdn_volume_kernel_open(const mdn_features *features, mdn_volume_kind kind,
                       double ridge, uint64_t count, mdn_objective *out,
                       mdn_error *err)
{
    uint64_t most = count < features->count ? count : features->count;
    kernel *k;
    mdn_status st = kernel_new(features, most, &k, err);

    if (st != MDN_OK)
        return st;
    k->kind = kind;
    k->ridge = ridge;
    *out = (mdn_objective){.ctx = k,
                           .count = features->count,
                           .beat = features->beat,
                           .evaluate = evaluate,
                           .take = take};
    return MDN_OK;
}

void
mdn_volume_kernel_close(mdn_objective *objective)
{
    kernel_free(objective->ctx);
}
