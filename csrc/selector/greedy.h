/* greedy.h - choose one after the other, always by the largest gain.
 *
 * An objective f answers what a row would add, f(S + row) - f(S), and is told
 * which row was taken.  When gains only ever shrink (f is submodular), an old
 * gain is an upper bound, and most rows need not be looked at again. */
#ifndef MDN_SELECTOR_GREEDY_H
#define MDN_SELECTOR_GREEDY_H

#include "base/error.h"
#include "base/pulse.h"

#include <stdint.h>

typedef enum {
    MDN_GREEDY_NAIVE,       /* every row is evaluated before each choice */
    MDN_GREEDY_LAZY,        /* the same choice: Minoux 1978 */
    MDN_GREEDY_STOCHASTIC,  /* the best of some rows: Mirzasoleiman et al. 2015
                             */
    MDN_GREEDY_APPROXIMATE, /* lazy, and content with `beta` of the bound */
} mdn_greedy_how;

typedef struct {
    mdn_greedy_how how;
    uint64_t batch; /* rows to be evaluated at once, at most; at least 1 */
    double epsilon; /* stochastic: of ceil(n / k ln(1 / epsilon)) rows */
    double beta;    /* approximate */
    uint64_t seed;  /* stochastic */
} mdn_greedy_options;

/* What is maximised.  Neither function may fail. */
typedef struct {
    void *ctx;
    uint64_t count;       /* rows */
    const double *bounds; /* borrowed: not below the first gains; or NULL */
    mdn_beat *beat;       /* borrowed: asked all along; or NULL */
    /* The gains of these rows, none of which was taken. */
    void (*evaluate)(void *ctx, const uint32_t *rows, uint64_t count,
                     double *gains);
    void (*take)(void *ctx, uint32_t row);
} mdn_objective;

/* Take `count` rows: into chosen in the order of choice, with what each added.
 * Ties go to the lowest row.  *evaluations, which may be NULL, says how many
 * gains were computed.  MDN_INVALID when there are fewer rows, for an epsilon
 * or beta outside (0, 1), and for a batch of 0; or what the beat said. */
mdn_status mdn_greedy_choose(const mdn_objective *objective,
                             const mdn_greedy_options *options, uint64_t count,
                             uint64_t *chosen, double *gains,
                             uint64_t *evaluations, mdn_error *err);

#endif
