/* moment.h - weighted sums of samples' vectors G_i, and products with them.
 *
 * A sum of G_i = [g_i, g_i x h_i] is a matrix with a row for each number of g:
 * first the weight of g's, then those of g x h.  Without embeddings it is a
 * vector.  One such sum is held, never one for each sample. */
#ifndef MDN_SELECTOR_MOMENT_H
#define MDN_SELECTOR_MOMENT_H

#include "selector/features.h"

/* How many numbers a sum has. */
static inline uint64_t
mdn_moment_numbers(const mdn_features *features)
{
    return (uint64_t)features->rows.width
           * (1 + (uint64_t)features->embeddings.width);
}

/* moment += weight * G_row.  column: room for mdn_features_numbers. */
void mdn_moment_add(const mdn_features *features, uint64_t row, double weight,
                    double *moment, double *column);

/* moment = sum over all rows of weights[i] * G_i; NULL weighs all by 1. */
void mdn_moment_sum(const mdn_features *features, const double *weights,
                    double *moment, double *column);

/* out[i] = <G_i, moment> for the rows of `count` panels from `first` on;
 * scratch has the length of out. */
void mdn_moment_times(const mdn_features *features, uint64_t first,
                      uint64_t count, const double *moment, double *out,
                      double *scratch);

#endif
