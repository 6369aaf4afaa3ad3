/* shares.c - exact water-filling. */
#include "selector/shares.h"

#include "base/bytes.h"
#include "base/random.h"
#include "selector/sort.h"

#include <stdbool.h>
#include <stdlib.h>

static uint64_t
smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Whether every group can give min(sizes[i], level); then *left is what
 * remains of the capacity.  Subtracting, it cannot overflow. */
static bool
fits(const uint64_t *sizes, uint64_t group_count, uint64_t capacity,
     uint64_t level, uint64_t *left)
{
    uint64_t rest = capacity;

    for (uint64_t i = 0; i < group_count; i++) {
        uint64_t share = smaller(sizes[i], level);

        if (share > rest)
            return false;
        rest -= share;
    }
    *left = rest;
    return true;
}

/* The largest level that fits, but no more than the largest size. */
static uint64_t
water_level(const uint64_t *sizes, uint64_t group_count, uint64_t capacity,
            uint64_t *left)
{
    uint64_t low = 0, high = 0;

    *left = capacity;
    for (uint64_t i = 0; i < group_count; i++)
        high = sizes[i] > high ? sizes[i] : high;
    while (low < high) { /* low fits; nothing above high is of interest */
        uint64_t middle = high - (high - low) / 2;

        if (fits(sizes, group_count, capacity, middle, left))
            low = middle;
        else
            high = middle - 1;
    }
    fits(sizes, group_count, capacity, low, left);
    return low;
}

/* Give one more to `left` of the groups that have more than level; there are
 * more such groups than that, or level + 1 would have fitted. */
static mdn_status
give_rest(const uint64_t *sizes, uint64_t group_count, uint64_t level,
          uint64_t left, uint64_t seed, uint64_t *shares, mdn_error *err)
{
    uint64_t start = mdn_stream(seed, MDN_STREAM_SHARES);
    uint64_t count = 0, last, bytes;
    uint64_t *draws;

    if (mdn_mul_overflows(group_count, sizeof *draws, &bytes)
        || (draws = malloc(bytes)) == NULL)
        return mdn_fail_nomem(err, group_count * sizeof *draws);
    for (uint64_t i = 0; i < group_count; i++)
        if (sizes[i] > level)
            draws[count++] = mdn_draw(start, i);
    last = mdn_sort_smallest(draws, count, left);
    free(draws);
    for (uint64_t i = 0; i < group_count; i++)
        if (sizes[i] > level && mdn_draw(start, i) <= last)
            shares[i]++;
    return MDN_OK;
}

mdn_status
mdn_shares_fill(const uint64_t *sizes, uint64_t group_count, uint64_t capacity,
                mdn_shares_mode mode, uint64_t seed, uint64_t *shares,
                mdn_error *err)
{
    uint64_t left, level;

    if (group_count == 0)
        return MDN_OK;
    if (mode == MDN_SHARES_EQUAL) {
        level = capacity / group_count;
        for (uint64_t i = 0; i < group_count; i++)
            level = smaller(level, sizes[i]);
        left = 0;
    } else {
        level = water_level(sizes, group_count, capacity, &left);
    }
    for (uint64_t i = 0; i < group_count; i++)
        shares[i] = smaller(sizes[i], level);
    if (mode != MDN_SHARES_EXACT || left == 0)
        return MDN_OK;
    for (uint64_t i = 0; i < group_count; i++)
        if (sizes[i] > level)
            return give_rest(sizes, group_count, level, left, seed, shares,
                             err);
    return MDN_OK; /* every group gives all it has */
}

uint64_t
mdn_shares_level(const uint64_t *sizes, uint64_t group_count, uint64_t capacity)
{
    uint64_t left;

    if (fits(sizes, group_count, capacity, UINT64_MAX, &left))
        return UINT64_MAX;
    return water_level(sizes, group_count, capacity, &left);
}
