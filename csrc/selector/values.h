/* values.h - one number for each candidate: a weight, or what ranks it.
 *
 * It may lie in an array with a row for each candidate, be a column of the
 * metadata themselves, or be asked for block by block. */
#ifndef MDN_SELECTOR_VALUES_H
#define MDN_SELECTOR_VALUES_H

#include "base/error.h"
#include "metadata/stream.h"

#include <stdbool.h>
#include <stdint.h>

/* Weights are 0 or within these bounds, so that neither their quotients nor
 * their sums leave what a double can hold. */
#define MDN_WEIGHT_MIN 0x1p-500
#define MDN_WEIGHT_MAX 0x1p+500

#define MDN_VALUES_CHUNK 512 /* candidates that are worked on at a time */

typedef struct {
    enum {
        MDN_VALUES_DOUBLES,
        MDN_VALUES_INTS,
        MDN_VALUES_TIMESTAMPS,
        MDN_VALUES_LABELS,
        MDN_VALUES_ASKED,
    } kind;
    const double *doubles; /* borrowed: DOUBLES, by row */
    const int64_t *ints;   /* borrowed: INTS, by row */
    uint64_t count;        /* rows of either */
    /* ASKED: one double for each sample of a block, valid until asked again.
     * By one thread at a time. */
    mdn_status (*ask)(void *ctx, const mdn_metadata_block *block,
                      const double **out, mdn_error *err);
    void *ctx;
    double offset; /* added to every weight */
} mdn_values;

/* Candidates that are read one after the other, and the row of the first. */
typedef struct {
    mdn_metadata_stream *stream; /* borrowed */
    uint64_t row;
} mdn_shard;

/* The values of a block: one of the two is NULL. */
typedef struct {
    const double *doubles;
    const int64_t *ints;
    const uint64_t *keys;
} mdn_value_block;

/* Some of them as weights.  MDN_INVALID names the first that is none. */
mdn_status mdn_values_weights(const mdn_values *values,
                              const mdn_value_block *block, uint64_t first,
                              uint64_t count, double *out, mdn_error *err);

/* Some of them as words that order as they do, or the other way around;
 * integers are compared as such.  MDN_INVALID names the first that is NaN. */
mdn_status mdn_values_orders(const mdn_value_block *block, uint64_t first,
                             uint64_t count, bool descending, uint64_t *out,
                             mdn_error *err);

/* Call some(ctx, keys, values, first, count, err) for the samples of a shard
 * from its start to its end, MDN_VALUES_CHUNK at most at a time; *seen grows
 * by their number.  MDN_INVALID when the column is missing, or the rows of the
 * values are too few; else what the stream or some() says. */
typedef mdn_status mdn_values_visit(void *ctx, const mdn_value_block *block,
                                    uint64_t first, uint64_t count,
                                    mdn_error *err);
mdn_status mdn_values_each(const mdn_shard *shard, const mdn_values *values,
                           mdn_values_visit *some, void *ctx, uint64_t *seen,
                           mdn_error *err);

#endif
