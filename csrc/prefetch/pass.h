/* pass.h - which sample comes when: the order of the rows of a pass.
 *
 * A position is the place of a sample in the training set, 0 .. count-1; a row
 * is a place in the order of a pass.  A pass is epochs epoch, epoch + 1, ...
 * (modulo 2^64) one after the other: row r belongs to epoch epoch + r / count,
 * and the rows of an epoch are the positions in an order of its own,
 *
 *     MDN_AS_GIVEN   0, 1, 2, ...
 *     MDN_GLOBAL     one permutation of all positions
 *     MDN_PARTITION  a permutation of the partitions, and in each of them one
 *                    of its positions.  Partition p is positions
 *                    [p * partition_size, (p + 1) * partition_size); the last
 *                    may be shorter, and comes anywhere like any other
 *
 * It is a function of (count, shuffle, partition_size, seed, epoch) and costs
 * some nanoseconds a row and no memory, so that a pass begins anywhere. */
#ifndef MDN_PREFETCH_PASS_H
#define MDN_PREFETCH_PASS_H

#include "base/deal.h"

#include <stdint.h>

typedef enum { MDN_AS_GIVEN, MDN_GLOBAL, MDN_PARTITION } mdn_shuffle;

/* The order of one epoch: of all positions, or of partitions, the last of
 * which comes in place short_at; inside partition p the draw of word at p. */
typedef struct {
    mdn_permutation positions;
    mdn_deal partitions;
    uint64_t short_at, word;
} mdn_turn;

typedef struct {
    mdn_shuffle shuffle;
    uint64_t count, partition_size, partition_count, short_size;
    uint64_t seed, epoch;
    mdn_deal inner[2]; /* of a partition, of the last: for any word */
    mdn_turn first;    /* of `epoch` */
} mdn_pass;

/* count <= MDN_PERMUTATION_MAX; partition_size >= 1. */
void mdn_pass_init(mdn_pass *pass, uint64_t count, mdn_shuffle shuffle,
                   uint64_t partition_size, uint64_t seed, uint64_t epoch);

/* The positions of rows first .. first+size-1.  Without samples there are no
 * rows; otherwise there is no last one. */
void mdn_pass_positions(const mdn_pass *pass, uint64_t first, uint64_t size,
                        uint64_t *out);

#endif
