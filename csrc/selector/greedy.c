/* greedy.c - naive, lazy, stochastic and approximate-lazy greedy.
 *
 * Lazy keeps all rows in a heap by (bound, lowest row).  Those on top are
 * evaluated, a few at a time, and go back with their gain; a row on top whose
 * gain is of this step is the answer, because all others are bounded by theirs.
 * How many are evaluated at once changes the work, never the choice. */
#include "selector/greedy.h"

#include "base/random.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BATCH                                                            \
    8 /* rows evaluated at first in a step; then twice as many */

typedef struct {
    double bound;
    uint32_t row;
    uint32_t step; /* at which the bound was the gain; 0: none */
} entry;

typedef struct {
    const mdn_objective *objective;
    const mdn_greedy_options *options;
    entry *heap;       /* owned; lazy */
    uint64_t count;    /* rows not taken */
    uint32_t *rows;    /* owned: not taken, or those on their way */
    double *gains;     /* owned */
    uint64_t computed; /* gains so far */
    mdn_status status; /* what the beat said */
    mdn_error *err;
} chooser;

static void
chooser_free(chooser *c)
{
    free(c->heap);
    free(c->rows);
    free(c->gains);
}

static mdn_status
chooser_init(chooser *c, const mdn_objective *objective,
             const mdn_greedy_options *options, mdn_error *err)
{
    uint64_t n = objective->count;

    *c = (chooser){
        .objective = objective, .options = options, .count = n, .err = err};
    c->heap = malloc((n + 1) * sizeof *c->heap);
    c->rows = malloc((n + 1) * sizeof *c->rows);
    c->gains = malloc((n + 1) * sizeof *c->gains);
    if (c->heap != NULL && c->rows != NULL && c->gains != NULL)
        return MDN_OK;
    chooser_free(c);
    return mdn_fail_nomem(err, n * (sizeof *c->heap + sizeof *c->gains));
}

/* The gains of rows from number `first` of c->rows on, `batch` at a time; zeros
 * when the work is to end. */
static void
evaluate(chooser *c, uint64_t first, uint64_t count)
{
    const mdn_objective *f = c->objective;
    uint64_t batch = c->options->batch;

    for (uint64_t i = first; i < first + count; i += batch) {
        uint64_t rest = first + count - i;

        rest = rest < batch ? rest : batch;
        if (c->status == MDN_OK)
            c->status = mdn_beat_ask(f->beat, c->err);
        if (c->status == MDN_OK)
            f->evaluate(f->ctx, c->rows + i, rest, c->gains + i);
        else
            memset(c->gains + i, 0, rest * sizeof *c->gains);
    }
    c->computed += count;
}

/* ---- naive and stochastic: the best of some ---- */

static bool
is_before(double gain, uint32_t row, double other_gain, uint32_t other_row)
{
    return gain != other_gain ? gain > other_gain : row < other_row;
}

/* The best of the first `count` of c->rows leaves them. */
static entry
take_best(chooser *c, uint64_t count)
{
    uint64_t best = 0;
    entry found;

    evaluate(c, 0, count);
    for (uint64_t i = 1; i < count; i++) {
        if (is_before(c->gains[i], c->rows[i], c->gains[best], c->rows[best]))
            best = i;
    }
    found = (entry){.bound = c->gains[best], .row = c->rows[best]};
    c->count--;
    c->rows[best] = c->rows[c->count];
    return found;
}

static entry
next_naive(chooser *c, uint64_t step, uint64_t wanted)
{
    (void)step;
    (void)wanted;
    return take_best(c, c->count);
}

/* How many rows a stochastic step looks at. */
static uint64_t
sample_size(const chooser *c, uint64_t wanted)
{
    double size = ceil((double)c->objective->count / (double)wanted
                       * log(1.0 / c->options->epsilon));

    return size < (double)c->count ? (uint64_t)size : c->count;
}

static entry
next_stochastic(chooser *c, uint64_t step, uint64_t wanted)
{
    uint64_t start = mdn_stream(c->options->seed, MDN_STREAM_GREEDY);
    uint64_t size = sample_size(c, wanted);

    for (uint64_t r = 0; r < size; r++) { /* a shuffle's beginning */
        uint64_t number = mdn_draw(start, (step << 32) + r) >> 32;
        uint64_t other = r + (number * (c->count - r) >> 32);
        uint32_t row = c->rows[r];

        c->rows[r] = c->rows[other];
        c->rows[other] = row;
    }
    return take_best(c, size);
}

/* ---- lazy ---- */

static bool
is_above(const entry *a, const entry *b)
{
    return is_before(a->bound, a->row, b->bound, b->row);
}

static void
sink(entry *heap, uint64_t count, uint64_t at)
{
    entry moved = heap[at];

    for (;;) {
        uint64_t child = 2 * at + 1;

        if (child >= count)
            break;
        if (child + 1 < count && is_above(&heap[child + 1], &heap[child]))
            child++;
        if (!is_above(&heap[child], &moved))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

static void
push(chooser *c, entry added)
{
    uint64_t at = c->count++;

    while (at > 0 && is_above(&added, &c->heap[(at - 1) / 2])) {
        c->heap[at] = c->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    c->heap[at] = added;
}

static entry
pop(chooser *c)
{
    entry top = c->heap[0];

    c->heap[0] = c->heap[--c->count];
    if (c->count > 0)
        sink(c->heap, c->count, 0);
    return top;
}

static void
fill_heap(chooser *c)
{
    const double *bounds = c->objective->bounds;

    for (uint64_t i = 0; i < c->count; i++)
        c->rows[i] = (uint32_t)i;
    if (bounds == NULL)
        evaluate(c, 0, c->count);
    for (uint64_t i = 0; i < c->count; i++)
        c->heap[i] = (entry){.bound = bounds ? bounds[i] : c->gains[i],
                             .row = (uint32_t)i,
                             .step = bounds ? 0 : 1};
    for (uint64_t i = c->count / 2; i-- > 0;)
        sink(c->heap, c->count, i);
}

/* Steps count from 1 in the heap. */
static entry
next_lazy(chooser *c, uint64_t step, uint64_t wanted)
{
    uint64_t most = c->options->batch;
    uint64_t batch = most < FIRST_BATCH ? most : FIRST_BATCH;
    uint32_t now = (uint32_t)step + 1;

    (void)wanted;
    while (c->heap[0].step != now) {
        uint64_t count = 0;

        while (count < batch && c->count > 0 && c->heap[0].step != now)
            c->rows[count++] = pop(c).row;
        evaluate(c, 0, count);
        for (uint64_t i = 0; i < count; i++)
            push(c, (entry){c->gains[i], c->rows[i], now});
        batch = 2 * batch < most ? 2 * batch : most;
    }
    return pop(c);
}

static entry
next_approximate(chooser *c, uint64_t step, uint64_t wanted)
{
    uint32_t now = (uint32_t)step + 1;

    (void)wanted;
    while (c->heap[0].step != now) {
        entry top = pop(c);
        double enough = c->options->beta * top.bound;

        c->rows[0] = top.row;
        evaluate(c, 0, 1);
        top = (entry){c->gains[0], top.row, now};
        if (top.bound >= enough)
            return top;
        push(c, top);
    }
    return pop(c);
}

/* ---- all ---- */

static mdn_status
check(const mdn_objective *objective, const mdn_greedy_options *options,
      uint64_t count, mdn_error *err)
{
    if (count > objective->count)
        return mdn_fail(err, MDN_INVALID,
                        "cannot choose %" PRIu64 " of %" PRIu64 " rows", count,
                        objective->count);
    if (options->batch == 0)
        return mdn_fail(err, MDN_INVALID, "batch must be at least 1, got 0");
    if (!(options->epsilon > 0 && options->epsilon < 1))
        return mdn_fail(err, MDN_INVALID,
                        "epsilon must be between 0 and 1, got %g",
                        options->epsilon);
    if (!(options->beta > 0 && options->beta < 1))
        return mdn_fail(err, MDN_INVALID,
                        "beta must be between 0 and 1, got %g", options->beta);
    return MDN_OK;
}

mdn_status
mdn_greedy_choose(const mdn_objective *objective,
                  const mdn_greedy_options *options, uint64_t count,
                  uint64_t *chosen, double *gains, uint64_t *evaluations,
                  mdn_error *err)
{
    entry (*const next[])(chooser *, uint64_t, uint64_t) = {
        [MDN_GREEDY_NAIVE] = next_naive,
        [MDN_GREEDY_LAZY] = next_lazy,
        [MDN_GREEDY_STOCHASTIC] = next_stochastic,
        [MDN_GREEDY_APPROXIMATE] = next_approximate,
    };
    chooser c;
    mdn_status st;

    if ((st = check(objective, options, count, err)) != MDN_OK
        || (st = chooser_init(&c, objective, options, err)) != MDN_OK)
        return st;
    for (uint64_t i = 0; i < c.count; i++)
        c.rows[i] = (uint32_t)i;
    if (count > 0
        && (options->how == MDN_GREEDY_LAZY
            || options->how == MDN_GREEDY_APPROXIMATE))
        fill_heap(&c);
    for (uint64_t step = 0; step < count && c.status == MDN_OK; step++) {
        entry best = next[options->how](&c, step, count);

        chosen[step] = best.row;
        gains[step] = best.bound;
        objective->take(objective->ctx, best.row);
    }
    if (evaluations != NULL)
        *evaluations = c.computed;
    chooser_free(&c);
    return c.status;
}
