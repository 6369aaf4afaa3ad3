/* features.c - inner products of samples' vectors. */
#include "selector/features.h"

#include "base/parallel.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_NUMBERS (1u << 19) /* for one thread: about 100 microseconds */

void
mdn_features_one(const mdn_features *features, uint64_t row, double *column)
{
    mdn_panels_row(&features->rows, row, column, 1);
    if (features->embeddings.width > 0)
        mdn_panels_row(&features->embeddings, row,
                       column + features->rows.width, 1);
}

/* norm(G_i)^2 as the inner product of G_i with itself, with the same bits: a
 * column and a row are summed in the same order. */
static mdn_status
square_all(mdn_features *f, mdn_error *err)
{
    uint64_t room = mdn_features_room(f);
    double *column = malloc((mdn_features_numbers(f) + 1) * sizeof *column);

    f->squares = calloc(room, sizeof *f->squares);
    if (column == NULL || f->squares == NULL) {
        free(column);
        return mdn_fail_nomem(err, room * sizeof *f->squares);
    }
    for (uint64_t i = 0; i < f->count; i++) {
        double g = 0, h = 0;

        mdn_features_one(f, i, column);
        for (uint32_t t = 0; t < f->rows.width; t++)
            g += column[t] * column[t];
        for (uint32_t t = 0; t < f->embeddings.width; t++)
            h += column[f->rows.width + t] * column[f->rows.width + t];
        f->squares[i] = f->embeddings.width > 0 ? g * (1.0 + h) : g;
    }
    free(column);
    return MDN_OK;
}

mdn_status
mdn_features_init(const float *rows, uint32_t width, const float *embeddings,
                  uint32_t depth, uint64_t count, uint32_t threads,
                  mdn_features *out, mdn_error *err)
{
    mdn_status st;

    *out = (mdn_features){.count = count, .threads = threads};
    if (count == 0 || count > UINT32_MAX - 2 * MDN_LANES)
        return mdn_fail(err, MDN_INVALID,
                        "expected 1 to 2**32 - 17 rows, got %" PRIu64, count);
    if ((st = mdn_panels_init(rows, count, width, &out->rows, err)) == MDN_OK
        && depth > 0)
        st = mdn_panels_init(embeddings, count, depth, &out->embeddings, err);
    if (st == MDN_OK)
        st = square_all(out, err);
    if (st != MDN_OK)
        mdn_features_free(out);
    return st;
}

void
mdn_features_free(mdn_features *features)
{
    mdn_panels_free(&features->rows);
    mdn_panels_free(&features->embeddings);
    free(features->squares);
    features->squares = NULL;
}

void
mdn_features_gather(const mdn_features *features, const uint32_t *which,
                    uint32_t count, double *columns)
{
    uint64_t split = (uint64_t)features->rows.width * MDN_COLUMNS;

    for (uint32_t c = 0; c < MDN_COLUMNS; c++) {
        uint32_t row = which[c < count ? c : count - 1];

        mdn_panels_row(&features->rows, row, columns + c, MDN_COLUMNS);
        if (features->embeddings.width > 0)
            mdn_panels_row(&features->embeddings, row, columns + split + c,
                           MDN_COLUMNS);
    }
}

void
mdn_features_tile(const mdn_features *features, uint64_t first, uint64_t count,
                  const double *columns, double *out)
{
    uint64_t split = (uint64_t)features->rows.width * MDN_COLUMNS;
    double more[MDN_COLUMNS * MDN_STRIP * MDN_LANES];
    uint64_t room = MDN_STRIP * MDN_LANES;

    mdn_panels_tile(&features->rows, first, count, columns, out, room);
    if (features->embeddings.width == 0)
        return;
    mdn_panels_tile(&features->embeddings, first, count, columns + split, more,
                    room);
    for (uint64_t c = 0; c < MDN_COLUMNS; c++) {
        for (uint64_t i = c * room; i < c * room + count * MDN_LANES; i++)
            out[i] *= 1.0 + more[i];
    }
}

void
mdn_features_column(const mdn_features *features, uint64_t first,
                    uint64_t count, const double *column, double *out,
                    double *scratch)
{
    mdn_panels_times(&features->rows, first, count, column, out);
    if (features->embeddings.width == 0)
        return;
    mdn_panels_times(&features->embeddings, first, count,
                     column + features->rows.width, scratch);
    for (uint64_t i = 0; i < count * MDN_LANES; i++)
        out[i] *= 1.0 + scratch[i];
}

typedef struct {
    mdn_panel_work *work;
    void *ctx;
    uint64_t panels;
    uint32_t parts;
} ranges;

static void
one_range(void *ctx, uint32_t part)
{
    const ranges *r = ctx;
    uint64_t first = mdn_part_first(r->panels, r->parts, part);
    uint64_t next = mdn_part_first(r->panels, r->parts, part + 1);

    r->work(r->ctx, first, next - first);
}

void
mdn_features_each(const mdn_features *features, mdn_panel_work *work, void *ctx)
{
    uint64_t panels = features->rows.panels;
    uint64_t size = (mdn_features_numbers(features) + 1) * MDN_LANES;
    uint64_t least = LEAST_NUMBERS / size + 1;
    ranges r = {.work = work, .ctx = ctx, .panels = panels};

    r.parts = mdn_parallel_parts(panels, least, features->threads);
    mdn_parallel(r.parts, one_range, &r);
}

uint64_t
mdn_largest(const double *values, const uint8_t *taken, uint64_t count)
{
    uint64_t best = count;

    for (uint64_t i = 0; i < count; i++) {
        if (taken != NULL && taken[i])
            continue;
        if (best == count ? !isnan(values[i]) : values[i] > values[best])
            best = i;
    }
    return best;
}
