/* pass.c - positions of rows, a run at a time.
 *
 * Shuffled by partitions, an epoch looks like this, S being the place at which
 * the last, shorter partition comes:
 *
 *     | full | full | ... | short | full | ... | full |
 *     0      1            S                     partition_count
 *
 * Before the short one place q begins at row q * size, after it by size - short
 * rows earlier.  So the place of a row is one division, and S is one inverse of
 * the permutation of the partitions. */
#include "prefetch/pass.h"

#include "base/random.h"

#include <assert.h>
#include <stdbool.h>

static uint64_t
smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void
turn_to(const mdn_pass *pass, uint64_t epoch, mdn_turn *turn)
{
    uint64_t order;

    *turn = pass->first; /* the sides stay */
    if (pass->shuffle == MDN_GLOBAL) {
        order = mdn_stream(pass->seed, MDN_STREAM_SHUFFLE);
        mdn_permutation_rekey(&turn->positions, mdn_draw(order, epoch));
    } else if (pass->shuffle == MDN_PARTITION) {
        order = mdn_stream(pass->seed, MDN_STREAM_PARTITIONS);
        mdn_deal_by(&turn->partitions, mdn_draw(order, epoch));
        turn->short_at =
            mdn_deal_find(&turn->partitions, pass->partition_count - 1);
        turn->word = mdn_draw(mdn_stream(pass->seed, MDN_STREAM_WITHIN), epoch);
    }
}

void
mdn_pass_init(mdn_pass *pass, uint64_t count, mdn_shuffle shuffle,
              uint64_t partition_size, uint64_t seed, uint64_t epoch)
{
    assert(partition_size >= 1);
    *pass = (mdn_pass){
        .shuffle = shuffle, .count = count, .seed = seed, .epoch = epoch};
    if (count == 0)
        return;
    pass->partition_size = smaller(partition_size, count);
    pass->partition_count = (count - 1) / pass->partition_size + 1;
    pass->short_size =
        count - (pass->partition_count - 1) * pass->partition_size;
    if (shuffle == MDN_GLOBAL)
        mdn_permutation_init_by(&pass->first.positions, count, 0);
    if (shuffle == MDN_PARTITION) {
        mdn_deal_init(&pass->first.partitions, pass->partition_count);
        mdn_deal_init(&pass->inner[0], pass->partition_size);
        mdn_deal_init(&pass->inner[1], pass->short_size);
    }
    turn_to(pass, epoch, &pass->first);
}

/* The place that row `row` of an epoch lies in, and its first row. */
static uint64_t
place_of(const mdn_pass *pass, const mdn_turn *turn, uint64_t row,
         uint64_t *begin)
{
    uint64_t size = pass->partition_size, missing = size - pass->short_size;
    uint64_t short_begin = turn->short_at * size, place;

    if (row < short_begin + pass->short_size) {
        place = row / size; /* short_at for all rows of the short one */
        *begin = place * size;
        return place;
    }
    place = (row + missing) / size;
    *begin = place * size - missing;
    return place;
}

/* The positions of rows of one partition, as many as there are up to size. */
static uint64_t
run_within(const mdn_pass *pass, const mdn_turn *turn, uint64_t row,
           uint64_t size, uint64_t *out)
{
    uint64_t begin, place = place_of(pass, turn, row, &begin);
    uint64_t partition = mdn_deal_at(&turn->partitions, place);
    uint64_t base = partition * pass->partition_size;
    bool is_short = place == turn->short_at;
    uint64_t end = is_short ? pass->short_size : pass->partition_size;
    uint64_t run = smaller(size, end - (row - begin));
    mdn_deal inner = pass->inner[is_short];

    mdn_deal_by(&inner, mdn_draw(turn->word, partition));
    mdn_deal_range(&inner, row - begin, run, out);
    for (uint64_t i = 0; i < run; i++)
        out[i] += base;
    return run;
}

/* The positions of rows of one epoch. */
static void
rows_of_epoch(const mdn_pass *pass, const mdn_turn *turn, uint64_t row,
              uint64_t size, uint64_t *out)
{
    switch (pass->shuffle) { /* no default: -Wswitch rejects a missing case */
    case MDN_AS_GIVEN:
        for (uint64_t i = 0; i < size; i++)
            out[i] = row + i;
        break;
    case MDN_GLOBAL:
        mdn_permutation_range(&turn->positions, row, size, out);
        break;
    case MDN_PARTITION:
        for (uint64_t done = 0; done < size;)
            done += run_within(pass, turn, row + done, size - done, out + done);
        break;
    }
}

void
mdn_pass_positions(const mdn_pass *pass, uint64_t first, uint64_t size,
                   uint64_t *out)
{
    assert(size == 0 || pass->count > 0);
    while (size > 0) {
        uint64_t lap = first / pass->count, row = first % pass->count;
        uint64_t run = smaller(size, pass->count - row);
        mdn_turn other;

        if (lap == 0)
            rows_of_epoch(pass, &pass->first, row, run, out);
        else {
            turn_to(pass, pass->epoch + lap, &other);
            rows_of_epoch(pass, &other, row, run, out);
        }
        first += run;
        out += run;
        size -= run;
    }
}
