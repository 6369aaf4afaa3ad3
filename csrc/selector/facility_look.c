/* facility_look.c - gains of rows, and bounds of them: see facility.c. */
#include "base/parallel.h"
#include "selector/facility_state.h"

#include <stdlib.h>
#include <string.h>

static double
sum_lanes(const double *s)
{
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

/* From the list of its contributors, which loses those that are none now; a
 * bound of the gain when the list holds bounds, because each rounding is
 * monotone. */
static double
gain_from_list(const mdn_facility_state *f, mdn_facility_list *known)
{
    double sums[MDN_LANES] = {0};
    uint32_t kept = 0;

    for (uint32_t i = 0; i < known->count; i++) {
        mdn_facility_near one = known->rows[i];
        double more = one.similarity - f->current[one.row];

        if (more > 0) {
            sums[one.row % MDN_LANES] += more;
            known->rows[kept++] = one;
        }
    }
    known->count = kept;
    return sum_lanes(sums);
}

void
mdn_facility_make_exact(const mdn_facility_state *f, uint32_t row,
                        mdn_facility_list *known)
{
    double similar[MDN_LANES], scratch[MDN_LANES];
    uint64_t panel = UINT64_MAX;

    if (known->exact)
        return;
    mdn_features_one(f->features, row, f->column);
    for (uint32_t i = 0; i < known->count; i++) {
        mdn_facility_near *one = &known->rows[i];

        if (one->row / MDN_LANES != panel) {
            panel = one->row / MDN_LANES;
            mdn_features_column(f->features, panel, 1, f->column, similar,
                                scratch);
            mdn_facility_similar(&f->rule, f->own + panel * MDN_LANES,
                                 f->own[row], MDN_LANES, similar);
        }
        one->similarity = one->row == row ? mdn_facility_own(&f->rule)
                                          : similar[one->row % MDN_LANES];
    }
    known->exact = true;
}

/* Keep the contributors among the rows of one panel. */
static void
note(const mdn_facility_state *f, mdn_facility_bench *b, uint32_t c,
     uint64_t panel, const double *similar)
{
    uint64_t at = panel * MDN_LANES;

    if (b->found_count[c] > f->list_most)
        return;
    for (uint32_t l = 0; l < MDN_LANES; l++) {
        if (similar[l] > f->current[at + l])
            b->found[c][b->found_count[c]++] =
                (mdn_facility_near){similar[l], at + l};
    }
}

/* Keep what was found; without memory it is looked for again the next time. */
static void
keep(const mdn_facility_state *f, const mdn_facility_bench *b, uint32_t c,
     bool exact, mdn_facility_list *known)
{
    uint64_t bytes = b->found_count[c] * sizeof(mdn_facility_near);

    if (b->found_count[c] > f->list_most
        || (known->rows = malloc(bytes > 0 ? bytes : 1)) == NULL)
        return;
    memcpy(known->rows, b->found[c], bytes);
    known->count = b->found_count[c];
    known->known = true;
    known->exact = exact;
}

/* One strip of panels, of the similarities to row number c of a group. */
static void
add_strip(const mdn_facility_state *f, mdn_facility_bench *b, uint32_t c,
          uint32_t row, uint64_t first, uint64_t count, double *similar)
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
gains_of_group(const mdn_facility_state *f, mdn_facility_bench *b,
               const uint32_t *rows, uint32_t count, double *gains)
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
        keep(f, b, c, true, &f->lists[rows[c]]);
    }
}

/* Keep those above in one panel of the screen. */
static void
note_above(const mdn_facility_state *f, mdn_facility_bench *b, uint32_t c,
           uint64_t at, uint32_t above, const float *values)
{
    if (b->found_count[c] > f->list_most)
        return;
    for (; above != 0; above &= above - 1) {
        uint32_t lane = (uint32_t)__builtin_ctz(above);
        double similar =
            mdn_facility_screen_similarity(&f->screen, values[lane]);

        b->found[c][b->found_count[c]++] =
            (mdn_facility_near){similar, at + lane};
    }
}

/* Bounds of the gains of up to MDN_COLUMNS rows. */
static void
bounds_of_group(const mdn_facility_state *f, mdn_facility_bench *b,
                const uint32_t *rows, uint32_t count, double *bounds)
{
    float tile[MDN_COLUMNS * MDN_SCREEN_STRIP];
    uint32_t above[MDN_SCREEN_PANELS];
    double sums[MDN_COLUMNS] = {0};
    uint64_t panels = f->screen.panels;

    mdn_facility_screen_gather(&f->screen, rows, count, b->screened);
    memset(b->found_count, 0, sizeof b->found_count);
    for (uint64_t p = 0; p < panels; p += MDN_SCREEN_PANELS) {
        uint64_t rest = panels - p;
        uint64_t strip = rest < MDN_SCREEN_PANELS ? rest : MDN_SCREEN_PANELS;

        mdn_facility_screen_values(&f->screen, p, strip, rows, count,
                                   b->screened, tile);
        for (uint32_t c = 0; c < count; c++) {
            const float *values = tile + (uint64_t)c * MDN_SCREEN_STRIP;

            sums[c] +=
                mdn_facility_screen_add(&f->screen, p, strip, values, above);
            for (uint64_t i = 0; i < strip; i++)
                note_above(f, b, c, (p + i) * MDN_SCREEN_LANES, above[i],
                           values + i * MDN_SCREEN_LANES);
        }
    }
    for (uint32_t c = 0; c < count; c++) {
        bounds[c] = mdn_facility_screen_gain(&f->screen, sums[c]);
        keep(f, b, c, false, &f->lists[rows[c]]);
    }
}

static void
gains_of_part(void *ctx, uint32_t part)
{
    mdn_facility_state *f = ctx;
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
        if (f->bounding)
            bounds_of_group(f, &f->benches[part], rows, count, gains);
        else
            gains_of_group(f, &f->benches[part], rows, count, gains);
        for (uint32_t c = 0; c < count; c++) {
            double *gain = &f->gains[f->dense[i + c]];

            *gain = f->bounding && *gain < gains[c] ? *gain : gains[c];
        }
    }
}

/* The gains, or bounds, of the rows without a list, side by side. */
static void
look_at_dense(mdn_facility_state *f)
{
    uint64_t groups = (f->dense_count + MDN_COLUMNS - 1) / MDN_COLUMNS;
    uint64_t size = mdn_features_room(f->features)
                    * (mdn_features_numbers(f->features) + 4);
    uint64_t least = (UINT64_C(1) << (f->bounding ? 20 : 18)) / size + 1;

    if (f->dense_count == 0)
        return;
    f->parts = mdn_parallel_parts(groups, least, f->bench_count);
    mdn_parallel(f->parts, gains_of_part, f);
}

void
mdn_facility_evaluate(void *ctx, const uint32_t *rows, uint64_t count,
                      double *gains)
{
    mdn_facility_state *f = ctx;

    f->rows = rows;
    f->gains = gains;
    f->bounding = false;
    f->dense_count = 0;
    for (uint64_t i = 0; i < count; i++) {
        mdn_facility_list *known = &f->lists[rows[i]];

        if (known->known) {
            mdn_facility_make_exact(f, rows[i], known);
            gains[i] = gain_from_list(f, known);
        } else {
            f->dense[f->dense_count++] = (uint32_t)i;
        }
    }
    look_at_dense(f);
}

void
mdn_facility_bound(void *ctx, const uint32_t *rows, uint64_t count,
                   double *bounds)
{
    mdn_facility_state *f = ctx;

    f->rows = rows;
    f->gains = bounds;
    f->bounding = true;
    f->dense_count = 0;
    for (uint64_t i = 0; i < count; i++) {
        mdn_facility_list *known = &f->lists[rows[i]];

        if (known->known) {
            double above = gain_from_list(f, known);

            bounds[i] = above < bounds[i] ? above : bounds[i];
        } else {
            f->dense[f->dense_count++] = (uint32_t)i;
        }
    }
    look_at_dense(f);
}
