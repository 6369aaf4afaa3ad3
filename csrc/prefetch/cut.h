/* cut.h - the rows of a pass cut into batches, and batches among ranks.
 *
 * Batch b of a pass is rows [b * batch_size, (b + 1) * batch_size), whatever
 * the number of ranks; each of world_size ranks has an equal share of it, the
 * first rows for rank 0 and so on.  Only the last batch of a pass may have
 * fewer rows, n: then rank r has the rows from n * r / world_size on.  Where
 * there are not even world_size rows, the first ones of the pass fill it up to
 * one row for each rank.  So every rank has the same number of batches, none of
 * them without a row, and nobody waits in vain for another. */
#ifndef MDN_PREFETCH_CUT_H
#define MDN_PREFETCH_CUT_H

#include <stdbool.h>
#include <stdint.h>

#define MDN_ENDLESS UINT64_MAX /* rows of a pass that never ends */

typedef struct {
    uint64_t rows;             /* of the pass, or MDN_ENDLESS */
    uint64_t batch_size;       /* of all ranks; a multiple of world_size */
    uint32_t rank, world_size; /* rank < world_size */
    bool drop_last;            /* leave out a batch of fewer rows */
} mdn_cut;

/* Rows [first, first + count) of the pass. */
typedef struct {
    uint64_t first, count;
    bool is_fill_up; /* a row that is in a batch before, too */
} mdn_share;

/* Of a pass that never ends: as many whole ones as rows can be counted. */
uint64_t mdn_cut_batch_count(const mdn_cut *cut);
/* The rows that are in some batch. */
uint64_t mdn_cut_rows(const mdn_cut *cut);
/* Rows of this batch, of all ranks; batch < batch_count. */
uint64_t mdn_cut_batch_rows(const mdn_cut *cut, uint64_t batch);
/* What this rank has of it. */
mdn_share mdn_cut_share(const mdn_cut *cut, uint64_t batch);

#endif
