/* features.h - what the greedy methods compare: a vector G_i for each sample.
 *
 * G_i is a row g_i; or, with embeddings h_i, the gradient of a linear layer's
 * weights and bias, [g_i, g_i x h_i], which is never built, because
 *
 *     <G_i, G_j> = <g_i, g_j> (1 + <h_i, h_j>)
 *
 * Numbers are float32, sums double, so that the memory is that of the input
 * and 8 bytes a sample, and no matrix of samples by samples is needed. */
#ifndef MDN_SELECTOR_FEATURES_H
#define MDN_SELECTOR_FEATURES_H

#include "base/error.h"
#include "base/pulse.h"
#include "selector/panels.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    mdn_panels rows;       /* g */
    mdn_panels embeddings; /* h; width 0: there are none */
    double *squares;       /* owned: norm(G_i)^2, 0 behind the last */
    uint64_t count;        /* rows */
    uint32_t threads;
    mdn_beat *beat; /* borrowed: asked all along whether to go on, or NULL */
} mdn_features;

/* embeddings may be NULL, with depth 0.  At least one row.  MDN_INVALID for
 * numbers that are not finite, for no rows and for more than 2^32 - 16. */
mdn_status mdn_features_init(const float *rows, uint32_t width,
                             const float *embeddings, uint32_t depth,
                             uint64_t count, uint32_t threads,
                             mdn_features *out, mdn_error *err);
void mdn_features_free(mdn_features *features);

/* Rows with those that fill the last panel: lengths of the arrays below. */
static inline uint64_t
mdn_features_room(const mdn_features *features)
{
    return features->rows.panels * MDN_LANES;
}

/* Numbers of one column (of four): g, then h. */
static inline uint64_t
mdn_features_numbers(const mdn_features *features)
{
    return (uint64_t)features->rows.width + features->embeddings.width;
}

/* g and then h of one row. */
void mdn_features_one(const mdn_features *features, uint64_t row,
                      double *column);

/* <G_i, G_x> for the rows i of `count` panels, from `first` on, at most
 * MDN_STRIP, and up to MDN_COLUMNS rows x, that are given by
 * mdn_features_gather: out[x * MDN_STRIP * MDN_LANES + i].  Columns that are
 * not used repeat the last. */
#define MDN_STRIP 16u
void mdn_features_gather(const mdn_features *features, const uint32_t *which,
                         uint32_t count, double *columns);
void mdn_features_tile(const mdn_features *features, uint64_t first,
                       uint64_t count, const double *columns, double *out);

/* <G_i, G_x> for the rows of `count` panels from `first` on; column is the g
 * of x and then its h.  scratch has the length of out. */
void mdn_features_column(const mdn_features *features, uint64_t first,
                         uint64_t count, const double *column, double *out,
                         double *scratch);

/* Call work(ctx, first, count) for ranges of panels, side by side where each
 * thread has enough to do; work must treat every row by itself. */
typedef void mdn_panel_work(void *ctx, uint64_t first, uint64_t count);
void mdn_features_each(const mdn_features *features, mdn_panel_work *work,
                       void *ctx);

/* The row with the largest value among those not taken (taken may be NULL), the
 * lowest of equals; count when all are taken.  NaN is never the largest. */
uint64_t mdn_largest(const double *values, const uint8_t *taken,
                     uint64_t count);

#endif
