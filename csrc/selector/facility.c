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
 * LIST_BYTES together. */
#include "selector/facility.h"

#include "base/parallel.h"
#include "selector/facility_gain.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LIST_BYTES (UINT64_C(256) << 20)
#define LIST_MOST 4096u
#define LIST_SHARE 8u /* at most one in so many rows: more are no gain */
#define THREADS_MOST 64u

typedef struct {
    double similarity;
    uint64_t row;
} contributor;

typedef struct {
    contributor *rows; /* owned; ascending */
    uint32_t count;
    bool known;
} list;

/* What one thread needs for a group of columns. */
typedef struct {
    double *columns;                   /* owned */
    contributor *found[MDN_COLUMNS];   /* owned */
    uint32_t found_count[MDN_COLUMNS]; /* above list_most: too many */
    double sums[MDN_COLUMNS][MDN_LANES];
} bench;

typedef struct {
    const mdn_features *features;
    mdn_facility_rule rule;
    double *own;      /* owned: what the rule needs of each row */
    double *current;  /* owned; infinite behind the last row */
    double *bounds;   /* owned; or NULL */
    double *products; /* owned: of a row that is taken */
    double *scratch;  /* owned */
    double *column;   /* owned */
    uint32_t *server; /* owned: which of those chosen serves each row */
    list *lists;      /* owned */
    bench *benches;   /* owned */
    uint32_t bench_count, list_most, taken;
    /* one call of evaluate */
    uint32_t *dense; /* owned: numbers of the rows without a list */
    uint64_t dense_count;
    const uint32_t *rows;
    double *gains;
    uint32_t parts, row; /* row: being taken */
} facility;

static void
facility_free(facility *f)
{
    for (uint64_t i = 0; f->lists != NULL && i < f->features->count; i++)
        free(f->lists[i].rows);
    for (uint32_t b = 0; f->benches != NULL && b < f->bench_count; b++) {
        free(f->benches[b].columns);
        for (uint32_t c = 0; c < MDN_COLUMNS; c++)
            free(f->benches[b].found[c]);
    }
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
benches_init(facility *f)
{
    uint64_t numbers = mdn_features_numbers(f->features) * MDN_COLUMNS + 1;

    f->benches = calloc(f->bench_count, sizeof *f->benches);
    if (f->benches == NULL)
        return false;
    for (uint32_t b = 0; b < f->bench_count; b++) {
        f->benches[b].columns = malloc(numbers * sizeof(double));
        if (f->benches[b].columns == NULL)
            return false;
        for (uint32_t c = 0; c < MDN_COLUMNS; c++) {
            f->benches[b].found[c] =
                malloc((f->list_most + MDN_LANES) * sizeof(contributor));
            if (f->benches[b].found[c] == NULL)
                return false;
        }
    }
    return true;
}

static void
prepare_rows(facility *f)
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
bound_first_gains(facility *f)
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
facility_init(facility *f, const mdn_features *features,
              mdn_similarity similarity, uint64_t batch, mdn_error *err)
{
    uint64_t room = mdn_features_room(features);
    uint64_t each = LIST_BYTES / (sizeof(contributor) * features->count);

    *f = (facility){.features = features, .rule = {.similarity = similarity}};
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
    f->dense = malloc(batch * sizeof *f->dense);
    if (f->own && f->current && f->products && f->scratch && f->column
        && f->server && f->lists && f->dense && benches_init(f)) {
        prepare_rows(f);
        if (bound_first_gains(f))
            return MDN_OK;
    }
    facility_free(f);
    return mdn_fail_nomem(err, room * 6 * sizeof(double));
}

/* ---- gains ---- */

static double
sum_lanes(const double *s)
{
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

/* From the list of its contributors, which loses those that are none now. */
static double
gain_from_list(const facility *f, list *known)
{
    double sums[MDN_LANES] = {0};
    uint32_t kept = 0;

    for (uint32_t i = 0; i < known->count; i++) {
        contributor one = known->rows[i];
        double more = one.similarity - f->current[one.row];

        if (more > 0) {
            sums[one.row % MDN_LANES] += more;
            known->rows[kept++] = one;
        }
    }
    known->count = kept;
    return sum_lanes(sums);
}

/* Keep the contributors among the rows of one panel. */
static void
note(const facility *f, bench *b, uint32_t c, uint64_t panel,
     const double *similar)
{
    uint64_t at = panel * MDN_LANES;

    if (b->found_count[c] > f->list_most)
        return;
    for (uint32_t l = 0; l < MDN_LANES; l++) {
        if (similar[l] > f->current[at + l])
            b->found[c][b->found_count[c]++] =
                (contributor){similar[l], at + l};
    }
}

/* Keep what was found; without memory it is looked for again the next time. */
static void
keep(const facility *f, const bench *b, uint32_t c, list *known)
{
    uint64_t bytes = b->found_count[c] * sizeof(contributor);

    if (b->found_count[c] > f->list_most
        || (known->rows = malloc(bytes > 0 ? bytes : 1)) == NULL)
        return;
    memcpy(known->rows, b->found[c], bytes);
    known->count = b->found_count[c];
    known->known = true;
}

/* One strip of panels, of the similarities to row number c of a group. */
static void
add_strip(const facility *f, bench *b, uint32_t c, uint32_t row, uint64_t first,
          uint64_t count, double *similar)
{
    uint64_t at = first * MDN_LANES;
    bool ask = b->found_count[c] <= f->list_most;
    uint32_t found = 0;

    mdn_facility_similar(&f->rule, f->own + at, f->own[row], count * MDN_LANES,
                         similar);
    if (row / MDN_LANES >= first && row / MDN_LANES < first + count)
        similar[row - at] = mdn_facility_own(&f->rule);
    mdn_facility_add(similar, f->current + at, count, b->sums[c],
                     ask ? &found : NULL);
    for (uint32_t p = 0; found != 0; p++, found >>= 1) {
        if (found & 1)
            note(f, b, c, first + p, similar + (uint64_t)p * MDN_LANES);
    }
}

/* The gains of up to MDN_COLUMNS rows, in one pass over all features. */
static void
gains_of_group(const facility *f, bench *b, const uint32_t *rows,
               uint32_t count, double *gains)
{
    double tile[MDN_COLUMNS * MDN_STRIP * MDN_LANES];
    uint64_t panels = f->features->rows.panels;

    mdn_features_gather(f->features, rows, count, b->columns);
    memset(b->found_count, 0, sizeof b->found_count);
    memset(b->sums, 0, sizeof b->sums);
    for (uint64_t p = 0; p < panels; p += MDN_STRIP) {
        uint64_t strip = panels - p < MDN_STRIP ? panels - p : MDN_STRIP;

        mdn_features_tile(f->features, p, strip, b->columns, tile);
        for (uint32_t c = 0; c < count; c++)
            add_strip(f, b, c, rows[c], p, strip,
                      tile + (uint64_t)c * MDN_STRIP * MDN_LANES);
    }
    for (uint32_t c = 0; c < count; c++) {
        gains[c] = sum_lanes(b->sums[c]);
        keep(f, b, c, &f->lists[rows[c]]);
    }
}

static void
gains_of_part(void *ctx, uint32_t part)
{
    facility *f = ctx;
    uint64_t groups = (f->dense_count + MDN_COLUMNS - 1) / MDN_COLUMNS;
    uint64_t first = mdn_part_first(groups, f->parts, part) * MDN_COLUMNS;
    uint64_t next = mdn_part_first(groups, f->parts, part + 1) * MDN_COLUMNS;

    for (uint64_t i = first; i < next && i < f->dense_count; i += MDN_COLUMNS) {
        uint64_t rest = f->dense_count - i;
        uint32_t count = rest < MDN_COLUMNS ? (uint32_t)rest : MDN_COLUMNS;
        uint32_t rows[MDN_COLUMNS];
        double gains[MDN_COLUMNS];

        for (uint32_t c = 0; c < count; c++)
            rows[c] = f->rows[f->dense[i + c]];
        gains_of_group(f, &f->benches[part], rows, count, gains);
        for (uint32_t c = 0; c < count; c++)
            f->gains[f->dense[i + c]] = gains[c];
    }
}

static void
evaluate(void *ctx, const uint32_t *rows, uint64_t count, double *gains)
{
    facility *f = ctx;
    uint64_t size = mdn_features_room(f->features)
                    * (mdn_features_numbers(f->features) + 4);
    uint64_t least = (UINT64_C(1) << 18) / size + 1;

    f->rows = rows;
    f->gains = gains;
    f->dense_count = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (f->lists[rows[i]].known)
            gains[i] = gain_from_list(f, &f->lists[rows[i]]);
        else
            f->dense[f->dense_count++] = (uint32_t)i;
    }
    if (f->dense_count == 0)
        return;
    f->parts =
        mdn_parallel_parts((f->dense_count + MDN_COLUMNS - 1) / MDN_COLUMNS,
                           least, f->bench_count);
    mdn_parallel(f->parts, gains_of_part, f);
}

/* ---- taking ---- */

static void
serve(facility *f, uint64_t row, double similarity)
{
    if (similarity > f->current[row]) {
        f->current[row] = similarity;
        f->server[row] = f->taken;
    }
}

static void
serve_range(void *ctx, uint64_t first, uint64_t count)
{
    facility *f = ctx;
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
    facility *f = ctx;
    const mdn_features *features = f->features;
    list *known = &f->lists[row];

    f->row = row;
    if (known->known) {
        for (uint32_t i = 0; i < known->count; i++)
            serve(f, known->rows[i].row, known->rows[i].similarity);
    } else {
        mdn_features_one(features, row, f->column);
        mdn_features_each(features, serve_range, f);
    }
    f->current[row] = mdn_facility_own(&f->rule);
    f->server[row] = f->taken++;
    free(known->rows);
    *known = (list){0};
}

mdn_status
mdn_facility(const mdn_features *features, mdn_similarity similarity,
             const mdn_greedy_options *options, uint64_t count,
             uint64_t *chosen, double *gains, uint64_t *served,
             uint64_t *evaluations, mdn_error *err)
{
    mdn_objective objective = {.count = features->count,
                               .beat = features->beat,
                               .evaluate = evaluate,
                               .take = take};
    uint64_t batch = options->batch > 0 ? options->batch : 1;
    facility f;
    mdn_status st;

    if (batch > features->count)
        batch = features->count;
    if ((st = facility_init(&f, features, similarity, batch, err)) != MDN_OK)
        return st;
    objective.ctx = &f;
    objective.bounds = f.bounds;
    st = mdn_greedy_choose(&objective, options, count, chosen, gains,
                           evaluations, err);
    for (uint64_t k = 0; st == MDN_OK && k < count; k++)
        served[k] = 0;
    for (uint64_t i = 0; st == MDN_OK && count > 0 && i < features->count; i++)
        served[f.server[i]]++;
    facility_free(&f);
    return st;
}
