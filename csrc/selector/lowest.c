/* lowest.c - buffers of entries, trimmed in linear time. */
#include "selector/lowest.h"

#include "base/bytes.h"
#include "base/resize.h"
#include "selector/sort.h"

#include <stdlib.h>

#define SLACK_MIN 1024
#define CAPACITY_MIN 4096

void
mdn_lowest_init(mdn_lowest *lowest, uint64_t limit, bool weighted)
{
    *lowest = (mdn_lowest){
        .limit = limit,
        .weighted = weighted,
        .cut_order = UINT64_MAX,
        .cut_key = UINT64_MAX,
    };
}

void
mdn_lowest_free(mdn_lowest *lowest)
{
    free(lowest->orders);
    free(lowest->keys);
    free(lowest->weights);
    mdn_lowest_init(lowest, lowest->limit, lowest->weighted);
}

static void
exchange(mdn_lowest *lowest, uint64_t a, uint64_t b)
{
    uint64_t order = lowest->orders[a], key = lowest->keys[a];

    lowest->orders[a] = lowest->orders[b];
    lowest->keys[a] = lowest->keys[b];
    lowest->orders[b] = order;
    lowest->keys[b] = key;
    if (lowest->weighted) {
        double weight = lowest->weights[a];

        lowest->weights[a] = lowest->weights[b];
        lowest->weights[b] = weight;
    }
}

/* Move the entries below or at a bound to the front, from `first` on; by order
 * or, among equal orders, by key.  Returns where they end. */
static uint64_t
gather(mdn_lowest *lowest, const uint64_t *by, uint64_t first, uint64_t bound,
       bool equal)
{
    uint64_t end = first;

    for (uint64_t i = first; i < lowest->count; i++)
        if (equal ? by[i] <= bound : by[i] < bound)
            exchange(lowest, i, end++);
    return end;
}

void
mdn_lowest_trim(mdn_lowest *lowest)
{
    uint64_t below, ties;

    if (lowest->count < lowest->limit || lowest->limit == 0) {
        lowest->count = lowest->limit == 0 ? 0 : lowest->count;
        return;
    }
    lowest->cut_order =
        mdn_sort_nth(lowest->orders, lowest->count, lowest->limit);
    below = gather(lowest, lowest->orders, 0, lowest->cut_order, false);
    ties = gather(lowest, lowest->orders, below, lowest->cut_order, true);
    lowest->count = ties;
    lowest->cut_key =
        mdn_sort_nth(lowest->keys + below, ties - below, lowest->limit - below);
    gather(lowest, lowest->keys, below, lowest->cut_key, true);
    lowest->count = lowest->limit; /* a key that came twice may go beyond */
}

static mdn_status
grow(mdn_lowest *lowest, uint64_t capacity, mdn_error *err)
{
    uint64_t bytes = UINT64_MAX;
    mdn_status st;

    if (mdn_mul_overflows(capacity, sizeof(uint64_t), &bytes))
        return mdn_fail_nomem(err, bytes);
    if ((st = mdn_resize(&lowest->orders, bytes, err)) != MDN_OK
        || (st = mdn_resize(&lowest->keys, bytes, err)) != MDN_OK
        || (lowest->weighted
            && (st = mdn_resize(&lowest->weights, bytes, err)) != MDN_OK))
        return st;
    lowest->capacity = capacity;
    return MDN_OK;
}

/* Room for one more: a longer buffer as long as that is short of the limit and
 * its slack, fewer entries after that. */
static mdn_status
make_room(mdn_lowest *lowest, mdn_error *err)
{
    uint64_t slack = lowest->limit > SLACK_MIN ? lowest->limit : SLACK_MIN;
    uint64_t most = UINT64_MAX, wanted = 2 * lowest->capacity;

    (void)mdn_add_overflows(lowest->limit, slack, &most);
    if (lowest->capacity >= most) {
        mdn_lowest_trim(lowest);
        return MDN_OK;
    }
    wanted = wanted > CAPACITY_MIN ? wanted : CAPACITY_MIN;
    return grow(lowest, wanted < most ? wanted : most, err);
}

mdn_status
mdn_lowest_store(mdn_lowest *lowest, uint64_t order, uint64_t key,
                 double weight, mdn_error *err)
{
    mdn_status st;

    if (lowest->limit == 0)
        return MDN_OK;
    if (lowest->count == lowest->capacity) {
        if ((st = make_room(lowest, err)) != MDN_OK)
            return st;
        if (!mdn_lowest_wants(lowest, order, key))
            return MDN_OK;
    }
    lowest->orders[lowest->count] = order;
    lowest->keys[lowest->count] = key;
    if (lowest->weighted)
        lowest->weights[lowest->count] = weight;
    lowest->count++;
    return MDN_OK;
}

mdn_status
mdn_lowest_merge(mdn_lowest *lowest, const mdn_lowest *other, mdn_error *err)
{
    mdn_status st = MDN_OK;

    for (uint64_t i = 0; st == MDN_OK && i < other->count; i++)
        st = mdn_lowest_put(lowest, other->orders[i], other->keys[i],
                            other->weighted ? other->weights[i] : 0, err);
    return st;
}
