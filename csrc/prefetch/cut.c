/* cut.c - the rows of a pass cut into batches, and batches among ranks. */
#include "prefetch/cut.h"

#include "base/parallel.h"

#include <assert.h>

static uint64_t
tail_rows(const mdn_cut *cut)
{
    bool has_none = cut->drop_last || cut->rows == MDN_ENDLESS;

    return has_none ? 0 : cut->rows % cut->batch_size;
}

uint64_t
mdn_cut_batch_count(const mdn_cut *cut)
{
    return cut->rows / cut->batch_size + (tail_rows(cut) > 0);
}

uint64_t
mdn_cut_rows(const mdn_cut *cut)
{
    return cut->rows / cut->batch_size * cut->batch_size + tail_rows(cut);
}

uint64_t
mdn_cut_batch_rows(const mdn_cut *cut, uint64_t batch)
{
    assert(batch < mdn_cut_batch_count(cut));
    return batch < cut->rows / cut->batch_size ? cut->batch_size
                                               : tail_rows(cut);
}

mdn_share
mdn_cut_share(const mdn_cut *cut, uint64_t batch)
{
    uint64_t rows = mdn_cut_batch_rows(cut, batch);
    uint64_t first = batch * cut->batch_size, from, to;

    if (rows < cut->world_size && cut->rank >= rows)
        return (mdn_share){(cut->rank - rows) % cut->rows, 1, true};
    if (rows < cut->world_size)
        return (mdn_share){first + cut->rank, 1, false};
    from = mdn_part_first(rows, cut->world_size, cut->rank);
    to = mdn_part_first(rows, cut->world_size, cut->rank + 1);
    return (mdn_share){first + from, to - from, false};
}
