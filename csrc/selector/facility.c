/* facility.c - gains without a matrix of similarities.
 *
 * current[i] is the similarity of row i to the best one chosen.  The gain of a
 * candidate x is the sum over all rows of max(0, s(i, x) - current[i]); its
 * terms are added in eight lanes, lane i % 8 for row i.
 *
 * Few rows contribute once some dozens are chosen, and a row that contributes
 * nothing to x never will again, because current[] only grows.  So the first
 * time that x is found to have few contributors, they are kept with their
 * similarities; from then on its gain, with the same bits, costs a look at each
 * of them, instead of a pass over all features.  These lists take at most
 * LIST_BYTES together.
 *
 * Lazy greedy needs gains only of rows whose bound is the largest.  So rows are
 * first looked at with floats (facility_screen.h), which bound a gain from
 * above closely enough that few gains are computed: a list then holds bounds of
 * similarities, until a gain is asked for.  The choice and all gains have the
 * bits of the sums above. */
#include "selector/facility.h"

#include "base/parallel.h"
#include "selector/facility_state.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LIST_BYTES (UINT64_C(512) << 20)
#define LIST_MOST 4096u
#define LIST_SHARE 8u /* at most one in so many rows: more are no gain */
#define THREADS_MOST 64u

static void
facility_free(mdn_facility_state *f)
{
    for (uint64_t i = 0; f->lists != NULL && i < f->features->count; i++)
        free(f->lists[i].rows);
    for (uint32_t b = 0; f->benches != NULL && b < f->bench_count; b++) {
        free(f->benches[b].columns);
        free(f->benches[b].screened);
        for (uint32_t c = 0; c < MDN_COLUMNS; c++)
            free(f->benches[b].found[c]);
    }
    mdn_facility_screen_free(&f->screen);
    free(f->lists);
    free(f->benches);
    free(f->own);
    free(f->current);
    free(f->bounds);
    free(f->products);
    free(f->scratch);
    free(f->column);
    free(f->server);
    free(f->dense);
}

static bool
benches_init(mdn_facility_state *f)
{
    uint64_t numbers = mdn_features_numbers(f->features) * MDN_COLUMNS + 1;

    f->benches = calloc(f->bench_count, sizeof *f->benches);
    if (f->benches == NULL)
        return false;
    for (uint32_t b = 0; b < f->bench_count; b++) {
        f->benches[b].columns = malloc(numbers * sizeof(double));
        f->benches[b].screened =
            malloc((numbers + MDN_COLUMNS) * sizeof(float));
        if (f->benches[b].columns == NULL || f->benches[b].screened == NULL)
            return false;
        for (uint32_t c = 0; c < MDN_COLUMNS; c++) {
            f->benches[b].found[c] = malloc((f->list_most + MDN_SCREEN_LANES)
                                            * sizeof(mdn_facility_near));
            if (f->benches[b].found[c] == NULL)
                return false;
        }
    }
    return true;
}

static void
prepare_rows(mdn_facility_state *f)
{
    uint64_t n = f->features->count, room = mdn_features_room(f->features);
    const double *squares = f->features->squares;
    double largest = squares[mdn_largest(squares, NULL, n)];

    f->rule.far = 2.0 * sqrt(largest);
    for (uint64_t i = 0; i < room; i++) {
        bool by_cosine = f->rule.similarity == MDN_SIMILAR_COSINE;
        double inverse = squares[i] > 0 ? 1.0 / sqrt(squares[i]) : 0;

        f->own[i] = by_cosine ? inverse : squares[i];
        f->current[i] = i < n ? 0 : INFINITY;
    }
}

/* Without embeddings the first gains follow from the sum of all directions:
 * sum over i of (1 + cos) / 2 = (n + <u_x, sum u_i>) / 2, up to rounding. */
static bool
bound_first_gains(mdn_facility_state *f)
{
    const mdn_panels *rows = &f->features->rows;
    uint64_t n = f->features->count;
    double *sum;

    if (f->rule.similarity != MDN_SIMILAR_COSINE
        || f->features->embeddings.width > 0)
        return true;
    sum = calloc(rows->width + 1, sizeof *sum);
    f->bounds = malloc(mdn_features_room(f->features) * sizeof *f->bounds);
    if (sum == NULL || f->bounds == NULL) {
        free(sum);
        return false;
    }
    for (uint64_t i = 0; i < n; i++) {
        mdn_panels_row(rows, i, f->column, 1);
        for (uint32_t t = 0; t < rows->width; t++)
            sum[t] += f->column[t] * f->own[i];
    }
    mdn_panels_times(rows, 0, rows->panels, sum, f->bounds);
    for (uint64_t i = 0; i < n; i++) {
        double about = 0.5 * ((double)n + f->bounds[i] * f->own[i])
                       + (f->own[i] > 0 ? 0 : 0.5);

        f->bounds[i] = about + 1e-9 * (double)n;
    }
    free(sum);
    return true;
}

static mdn_status
facility_init(mdn_facility_state *f, const mdn_features *features,
              mdn_similarity similarity, mdn_error *err)
{
    uint64_t room = mdn_features_room(features);
    uint64_t each = LIST_BYTES / (sizeof(mdn_facility_near) * features->count);

    *f = (mdn_facility_state){.features = features,
                              .rule = {.similarity = similarity}};
    each = each < LIST_MOST ? each : LIST_MOST;
    if (each > features->count / LIST_SHARE)
        each = features->count / LIST_SHARE;
    f->list_most = (uint32_t)each;
    f->bench_count = mdn_parallel_parts(THREADS_MOST, 1, features->threads);
    f->own = malloc(room * sizeof(double));
    f->current = malloc(room * sizeof(double));
    f->products = malloc(room * sizeof(double));
    f->scratch = malloc(room * sizeof(double));
    f->column = malloc((mdn_features_numbers(features) + 1) * sizeof(double));
    f->server = calloc(room, sizeof *f->server);
    f->lists = calloc(features->count, sizeof *f->lists);
    f->dense = malloc(features->count * sizeof *f->dense);
    if (f->own && f->current && f->products && f->scratch && f->column
        && f->server && f->lists && f->dense && benches_init(f)) {
        prepare_rows(f);
        f->has_screen =
            mdn_facility_screen_init(&f->screen, features, &f->rule);
        if (bound_first_gains(f))
            return MDN_OK;
    }
    facility_free(f);
    return mdn_fail_nomem(err, room * 6 * sizeof(double));
}

/* ---- taking ---- */

static void
serve(mdn_facility_state *f, uint64_t row, double similarity)
{
    if (similarity > f->current[row]) {
        f->current[row] = similarity;
        f->server[row] = f->taken;
        if (f->has_screen)
            mdn_facility_screen_set(&f->screen, row, similarity);
    }
}

static void
serve_range(void *ctx, uint64_t first, uint64_t count)
{
    mdn_facility_state *f = ctx;
    uint64_t at = first * MDN_LANES, end = at + count * MDN_LANES;

    mdn_features_column(f->features, first, count, f->column, f->products + at,
                        f->scratch + at);
    mdn_facility_similar(&f->rule, f->own + at, f->own[f->row],
                         count * MDN_LANES, f->products + at);
    for (uint64_t i = at; i < end; i++)
        serve(f, i, f->products[i]);
}

static void
take(void *ctx, uint32_t row)
{
    mdn_facility_state *f = ctx;
    const mdn_features *features = f->features;
    mdn_facility_list *known = &f->lists[row];

    f->row = row;
    if (known->known) {
        mdn_facility_make_exact(f, row, known);
        for (uint32_t i = 0; i < known->count; i++)
            serve(f, known->rows[i].row, known->rows[i].similarity);
    } else {
        mdn_features_one(features, row, f->column);
        mdn_features_each(features, serve_range, f);
    }
    f->current[row] = mdn_facility_own(&f->rule);
    if (f->has_screen)
        mdn_facility_screen_set(&f->screen, row, f->current[row]);
    f->server[row] = f->taken++;
    free(known->rows);
    *known = (mdn_facility_list){0};
}

mdn_status
mdn_facility(const mdn_features *features, mdn_similarity similarity,
             const mdn_greedy_options *options, uint64_t count,
             uint64_t *chosen, double *gains, uint64_t *served,
             uint64_t *evaluations, mdn_error *err)
{
    mdn_objective objective = {.count = features->count,
                               .beat = features->beat,
                               .evaluate = mdn_facility_evaluate,
                               .take = take};
    mdn_facility_state f;
    mdn_status st;

    if ((st = facility_init(&f, features, similarity, err)) != MDN_OK)
        return st;
    objective.ctx = &f;
    objective.bounds = f.bounds;
    if (f.has_screen)
        objective.bound = mdn_facility_bound;
    st = mdn_greedy_choose(&objective, options, count, chosen, gains,
                           evaluations, err);
    for (uint64_t k = 0; st == MDN_OK && k < count; k++)
        served[k] = 0;
    for (uint64_t i = 0; st == MDN_OK && count > 0 && i < features->count; i++)
        served[f.server[i]]++;
    facility_free(&f);
    return st;
}
