/* balance.c - a pool of draws of all classes. */
#include "selector/balance.h"

#include "base/bytes.h"
#include "base/random.h"
#include "base/resize.h"
#include "selector/bottom.h"
#include "selector/sort.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define DRAWS 512 /* computed at a time: they stay in the nearest cache */
#define CAPACITY_MIN 4096

void
mdn_balance_init(mdn_balance *balance, uint64_t limit, mdn_shares_mode mode,
                 uint64_t seed)
{
    *balance = (mdn_balance){
        .limit = limit,
        .mode = mode,
        .seed = seed,
        .start = mdn_stream(seed, MDN_STREAM_BALANCED),
    };
}

void
mdn_balance_free(mdn_balance *balance)
{
    mdn_classes_free(&balance->classes);
    free(balance->cuts);
    free(balance->draws);
    free(balance->scratch);
    free(balance->numbers);
    *balance = (mdn_balance){0};
}

/* ---- what may still be wanted ---- */

/* No class gives more than this. */
static uint64_t
most_of_a_class(const mdn_balance *balance)
{
    const mdn_classes *classes = &balance->classes;
    uint64_t level;

    if (classes->count == 0)
        return 0;
    if (balance->mode == MDN_SHARES_EQUAL)
        return balance->limit / classes->count;
    level = mdn_shares_level(classes->sizes, classes->count, balance->limit);
    if (balance->mode == MDN_SHARES_EXACT && level < UINT64_MAX)
        level++;
    return level;
}

/* Order the pool by class: ends[c] is where class c ends in it. */
static void
group(mdn_balance *balance, uint64_t *ends)
{
    uint64_t sum = 0, at = 0;

    memset(ends, 0, balance->classes.count * sizeof *ends);
    for (uint64_t i = 0; i < balance->count; i++)
        ends[balance->numbers[i]]++;
    for (uint32_t c = 0; c < balance->classes.count; c++) {
        uint64_t size = ends[c];

        ends[c] = sum;
        sum += size;
    }
    for (uint64_t i = 0; i < balance->count; i++)
        balance->scratch[ends[balance->numbers[i]]++] = balance->draws[i];
    memcpy(balance->draws, balance->scratch, balance->count * sizeof(uint64_t));
    for (uint32_t c = 0; c < balance->classes.count; c++)
        for (; at < ends[c]; at++)
            balance->numbers[at] = c;
}

/* Keep the shares[c] smallest draws of class c, or the same share of all. */
static mdn_status
keep(mdn_balance *balance, const uint64_t *shares, uint64_t share,
     mdn_error *err)
{
    uint32_t classes = balance->classes.count;
    uint64_t kept = 0, first = 0, bytes = classes * sizeof(uint64_t);
    uint64_t *ends = malloc(bytes > 0 ? bytes : 1);

    if (ends == NULL)
        return mdn_fail_nomem(err, bytes);
    group(balance, ends);
    for (uint32_t c = 0; c < classes; c++) {
        uint64_t size = ends[c] - first, most = shares ? shares[c] : share;
        uint64_t *draws = balance->draws + first;

        first = ends[c];
        if (most == 0)
            continue;
        if (size >= most) {
            balance->cuts[c] = mdn_sort_smallest(draws, size, most);
            size = most;
        }
        memmove(balance->draws + kept, draws, size * sizeof *draws);
        for (uint64_t end = kept + size; kept < end; kept++)
            balance->numbers[kept] = c;
    }
    balance->count = kept;
    free(ends);
    return MDN_OK;
}

/* ---- room ---- */

static mdn_status
grow(mdn_balance *balance, uint64_t capacity, mdn_error *err)
{
    uint64_t bytes = UINT64_MAX;
    mdn_status st;

    if (mdn_mul_overflows(capacity, sizeof(uint64_t), &bytes))
        return mdn_fail_nomem(err, bytes);
    if ((st = mdn_resize(&balance->draws, bytes, err)) != MDN_OK
        || (st = mdn_resize(&balance->scratch, bytes, err)) != MDN_OK
        || (st =
                mdn_resize(&balance->numbers, capacity * sizeof(uint32_t), err))
               != MDN_OK)
        return st;
    balance->capacity = capacity;
    return MDN_OK;
}

/* A longer pool as long as it is short of twice what can be wanted, fewer
 * draws after that. */
static mdn_status
make_room(mdn_balance *balance, mdn_error *err)
{
    uint64_t most = UINT64_MAX, wanted = 2 * balance->capacity;
    uint64_t wanted_draws = UINT64_MAX;

    if (!mdn_add_overflows(balance->limit, balance->classes.count,
                           &wanted_draws))
        (void)mdn_mul_overflows(wanted_draws, 2, &most);
    most = most > CAPACITY_MIN ? most : CAPACITY_MIN;
    if (balance->capacity >= most)
        return keep(balance, NULL, most_of_a_class(balance), err);
    wanted = wanted > CAPACITY_MIN ? wanted : CAPACITY_MIN;
    return grow(balance, wanted < most ? wanted : most, err);
}

/* Offer one draw of a class, whose size counts it already. */
static mdn_status
put(mdn_balance *balance, uint32_t number, uint64_t draw, mdn_error *err)
{
    if (draw > balance->cuts[number])
        return MDN_OK;
    if (balance->count == balance->capacity) {
        mdn_status st = make_room(balance, err);

        if (st != MDN_OK)
            return st;
        if (balance->count == balance->capacity)
            return mdn_fail(err, MDN_INVALID,
                            "a class has more draws than samples");
    }
    balance->draws[balance->count] = draw;
    balance->numbers[balance->count++] = number;
    return MDN_OK;
}

/* The number of a label, of a new class if need be, plus one; 0 and *st. */
static uint32_t
number_of(mdn_balance *balance, int64_t label, mdn_status *st, mdn_error *err)
{
    mdn_classes *classes = &balance->classes;
    uint32_t number = mdn_classes_number(classes, label);

    *st = MDN_OK;
    if (number > 0)
        return number;
    if ((*st = mdn_classes_add(classes, label, err)) != MDN_OK)
        return 0;
    if (balance->cut_room < classes->room) {
        *st = mdn_resize(&balance->cuts, classes->room * sizeof *balance->cuts,
                         err);
        if (*st != MDN_OK)
            return 0;
        balance->cut_room = classes->room;
    }
    balance->cuts[classes->count - 1] = UINT64_MAX;
    return classes->count;
}

/* ---- offering ---- */

/* Offer some samples of a block, at most DRAWS. */
static mdn_status
offer_some(mdn_balance *balance, const uint64_t *keys, const int64_t *labels,
           uint64_t count, mdn_error *err)
{
    uint64_t draws[DRAWS];
    mdn_status st;

    mdn_bottom_draws(balance->start, keys, count, draws);
    for (uint64_t i = 0; i < count; i++) {
        uint32_t number = mdn_classes_number(&balance->classes, labels[i]);

        if (number == 0
            && (number = number_of(balance, labels[i], &st, err)) == 0)
            return st;
        balance->classes.sizes[number - 1]++;
        if (draws[i] <= balance->cuts[number - 1]
            && (st = put(balance, number - 1, draws[i], err)) != MDN_OK)
            return st;
    }
    return MDN_OK;
}

mdn_status
mdn_balance_offer(mdn_balance *balance, mdn_metadata_stream *stream,
                  mdn_error *err)
{
    mdn_metadata_block block;
    mdn_status st;

    stream->rewind(stream);
    for (;;) {
        if ((st = stream->next(stream, &block, err)) != MDN_OK)
            return st;
        if (block.count == 0)
            return MDN_OK;
        if (block.labels == NULL)
            return mdn_fail(err, MDN_INVALID, "the candidates have no labels");
        for (uint64_t i = 0; i < block.count; i += DRAWS) {
            uint64_t rest = block.count - i;

            st = offer_some(balance, block.keys + i, block.labels + i,
                            rest < DRAWS ? rest : DRAWS, err);
            if (st != MDN_OK)
                return st;
        }
    }
}

mdn_status
mdn_balance_merge(mdn_balance *balance, const mdn_balance *other,
                  mdn_error *err)
{
    uint32_t number;
    mdn_status st;

    for (uint32_t c = 0; c < other->classes.count; c++) {
        number = number_of(balance, other->classes.labels[c], &st, err);
        if (number == 0)
            return st;
        balance->classes.sizes[number - 1] += other->classes.sizes[c];
    }
    for (uint64_t i = 0; i < other->count; i++) {
        int64_t label = other->classes.labels[other->numbers[i]];

        number = mdn_classes_number(&balance->classes, label);
        st = put(balance, number - 1, other->draws[i], err);
        if (st != MDN_OK)
            return st;
    }
    return MDN_OK;
}

mdn_status
mdn_balance_load(mdn_balance *balance, const uint64_t *classes,
                 uint64_t class_count, const uint64_t *entries, uint64_t stride,
                 uint64_t count, mdn_error *err)
{
    mdn_status st = MDN_OK;

    for (uint64_t c = 0; c < class_count; c++) {
        uint32_t number = number_of(balance, (int64_t)classes[2 * c], &st, err);

        if (number == 0)
            return st;
        balance->classes.sizes[number - 1] += classes[2 * c + 1];
    }
    for (uint64_t i = 0; st == MDN_OK && i < count; i++) {
        uint64_t number = entries[i * stride + 1];

        if (number >= balance->classes.count)
            return mdn_fail(err, MDN_INVALID,
                            "an entry belongs to class %" PRIu64
                            ", but there are %" PRIu32 " classes",
                            number, balance->classes.count);
        st = put(balance, (uint32_t)number, entries[i * stride], err);
    }
    return st;
}

/* ---- the choice ---- */

/* shares[c] for every class; groups are classes in order of their labels. */
static mdn_status
fill_shares(const mdn_balance *balance, uint64_t *shares, mdn_error *err)
{
    const mdn_classes *classes = &balance->classes;
    uint64_t count = classes->count, bytes = 6 * count * sizeof(uint64_t);
    uint64_t *order = malloc(bytes > 0 ? bytes : 1), *sizes, *filled;
    mdn_status st;

    if (order == NULL)
        return mdn_fail_nomem(err, bytes);
    sizes = order + count;
    filled = sizes + count;
    mdn_classes_order(classes, order, filled);
    for (uint64_t i = 0; i < count; i++)
        sizes[i] = classes->sizes[order[i]];
    st = mdn_shares_fill(sizes, count, balance->limit, balance->mode,
                         balance->seed, filled, err);
    for (uint64_t i = 0; st == MDN_OK && i < count; i++)
        shares[order[i]] = filled[i];
    free(order);
    return st;
}

/* The pool as keys in order. */
static mdn_status
collect(mdn_balance *balance, uint64_t **keys, mdn_error *err)
{
    uint64_t bytes = balance->count * sizeof **keys;

    *keys = malloc(bytes > 0 ? bytes : 1);
    if (*keys == NULL)
        return mdn_fail_nomem(err, bytes);
    if (balance->count == 0)
        return MDN_OK;
    memcpy(*keys, balance->draws, bytes);
    mdn_bottom_keys(balance->start, *keys, balance->count);
    mdn_sort_words(*keys, balance->count, balance->scratch);
    for (uint64_t i = 1; i < balance->count; i++) {
        if ((*keys)[i] == (*keys)[i - 1]) {
            mdn_status st = mdn_fail(err, MDN_INVALID,
                                     "key %" PRIu64 " comes more than once "
                                     "among the candidates",
                                     (*keys)[i]);

            free(*keys);
            *keys = NULL;
            return st;
        }
    }
    return MDN_OK;
}

mdn_status
mdn_balance_keys(mdn_balance *balance, uint64_t **keys, uint64_t *count,
                 mdn_error *err)
{
    uint64_t bytes = balance->classes.count * sizeof(uint64_t);
    uint64_t *shares = malloc(bytes > 0 ? bytes : 1);
    mdn_status st;

    *keys = NULL;
    if (shares == NULL)
        return mdn_fail_nomem(err, bytes);
    if ((st = fill_shares(balance, shares, err)) == MDN_OK
        && (st = keep(balance, shares, 0, err)) == MDN_OK
        && (st = collect(balance, keys, err)) == MDN_OK)
        *count = balance->count;
    free(shares);
    return st;
}
