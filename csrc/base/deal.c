/* deal.c - a list by exchanges (Fisher and Yates), or a network. */
#include "base/deal.h"

#include "base/random.h"

#include <assert.h>
#include <stdbool.h>

static bool
is_list(const mdn_deal *deal)
{
    return deal->network.count <= MDN_DEAL_MAX;
}

void
mdn_deal_init(mdn_deal *deal, uint64_t count)
{
    mdn_permutation_init_by(&deal->network, count, 0);
}

void
mdn_deal_by(mdn_deal *deal, uint64_t word)
{
    uint64_t count = deal->network.count;

    if (!is_list(deal)) {
        mdn_permutation_rekey(&deal->network, word);
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t j = (mdn_draw(word, i) >> 32) * (i + 1) >> 32; /* <= i */

        deal->list[i] = deal->list[j];
        deal->list[j] = (uint16_t)i;
    }
}

uint64_t
mdn_deal_at(const mdn_deal *deal, uint64_t index)
{
    assert(index < deal->network.count);
    return is_list(deal) ? deal->list[index]
                         : mdn_permutation_at(&deal->network, index);
}

uint64_t
mdn_deal_find(const mdn_deal *deal, uint64_t element)
{
    uint64_t index = 0;

    assert(element < deal->network.count);
    if (!is_list(deal))
        return mdn_permutation_find(&deal->network, element);
    while (deal->list[index] != element)
        index++;
    return index;
}

void
mdn_deal_range(const mdn_deal *deal, uint64_t first, uint64_t size,
               uint64_t *out)
{
    if (!is_list(deal)) {
        mdn_permutation_range(&deal->network, first, size, out);
        return;
    }
    assert(first <= deal->network.count && size <= deal->network.count - first);
    for (uint64_t i = 0; i < size; i++)
        out[i] = deal->list[first + i];
}
