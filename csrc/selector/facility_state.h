/* facility_state.h - inside facility: what is known between two choices. */
#ifndef MDN_SELECTOR_FACILITY_STATE_H
#define MDN_SELECTOR_FACILITY_STATE_H

#include "selector/facility_screen.h"

typedef struct {
    double similarity;
    uint64_t row;
} mdn_facility_near;

typedef struct {
    mdn_facility_near *rows; /* owned; ascending */
    uint32_t count;
    bool known;
    bool exact; /* else bounds of similarities, of a superset */
} mdn_facility_list;

/* What one thread needs for a group of columns. */
typedef struct {
    double *columns;                       /* owned */
    float *screened;                       /* owned: columns of the screen */
    mdn_facility_near *found[MDN_COLUMNS]; /* owned */
    uint32_t found_count[MDN_COLUMNS];     /* above list_most: too many */
    double sums[MDN_COLUMNS][MDN_LANES];
} mdn_facility_bench;

typedef struct {
    const mdn_features *features;
    mdn_facility_rule rule;
    mdn_facility_screen screen;
    bool has_screen;
    double *own;              /* owned: what the rule needs of each row */
    double *current;          /* owned; infinite behind the last row */
    double *bounds;           /* owned; or NULL */
    double *products;         /* owned: of a row that is taken */
    double *scratch;          /* owned */
    double *column;           /* owned */
    uint32_t *server;         /* owned: which of those chosen serves each row */
    mdn_facility_list *lists; /* owned */
    mdn_facility_bench *benches; /* owned */
    uint32_t bench_count, list_most, taken;
    /* one call of evaluate */
    uint32_t
        *dense; /* owned: numbers of the rows without a mdn_facility_list */
    uint64_t dense_count;
    const uint32_t *rows;
    double *gains;
    uint32_t parts, row; /* row: being taken */
    bool bounding;
} mdn_facility_state;

/* Of mdn_objective. */
void mdn_facility_evaluate(void *ctx, const uint32_t *rows, uint64_t count,
                           double *gains);
void mdn_facility_bound(void *ctx, const uint32_t *rows, uint64_t count,
                        double *bounds);

/* The similarities themselves, of a list that holds bounds of them. */
void mdn_facility_make_exact(const mdn_facility_state *f, uint32_t row,
                             mdn_facility_list *known);

#endif
