/* choice.c - the check of a selection policy's answer.
 *
 * In arrival order the candidates are a range of keys, and ascending keys are
 * in it if their ends are.  In time order each chosen key sets a bit, each
 * candidate clears its own, and a bit that is left names a key that was no
 * candidate: two passes over the candidates, nothing sorted, nothing copied. */
#include "orchestrator/choice.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static mdn_status
check_ascending(const mdn_choice *choice, const char *policy, mdn_error *err)
{
    const uint64_t *keys = choice->keys;

    for (uint64_t i = 1; i < choice->count; i++) {
        if (keys[i - 1] < keys[i])
            continue;
        if (keys[i - 1] == keys[i])
            return mdn_fail(err, MDN_INVALID, "%s chose key %" PRIu64 " twice",
                            policy, keys[i]);
        return mdn_fail(err, MDN_INVALID,
                        "%s: keys must ascend, but %" PRIu64
                        " comes after %" PRIu64,
                        policy, keys[i], keys[i - 1]);
    }
    return MDN_OK;
}

static mdn_status
check_weights(const mdn_choice *choice, const char *policy, mdn_error *err)
{
    if (choice->weights == NULL)
        return MDN_OK;
    for (uint64_t i = 0; i < choice->count; i++) {
        if (!isfinite(choice->weights[i]) || choice->weights[i] < 0)
            return mdn_fail(
                err, MDN_INVALID,
                "%s gave key %" PRIu64
                " the weight %g: weights must be finite and at least 0",
                policy, choice->keys[i], choice->weights[i]);
    }
    return MDN_OK;
}

static mdn_status
no_candidate(uint64_t key, uint64_t first, uint64_t last, const char *policy,
             mdn_error *err)
{
    return mdn_fail(err, MDN_INVALID,
                    "%s chose key %" PRIu64 ", which is not among its %" PRIu64
                    " candidates (from position %" PRIu64
                    " of the stream to %" PRIu64 ", exclusive)",
                    policy, key, last - first, first, last);
}

/* The lowest bit that is set, or span if there is none. */
static uint64_t
lowest_bit(const uint64_t *bits, uint64_t span)
{
    for (uint64_t word = 0; word <= span / 64; word++) {
        if (bits[word] != 0)
            return 64 * word + (uint64_t)__builtin_ctzll(bits[word]);
    }
    return span;
}

/* order[first .. last-1] against keys that lie within its extremes. */
static mdn_status
check_members(const mdn_choice *choice, const uint64_t *order, uint64_t first,
              uint64_t last, const char *policy, mdn_error *err)
{
    uint64_t low = choice->keys[0];
    uint64_t span = choice->keys[choice->count - 1] - low + 1;
    uint64_t left;
    uint64_t *bits = calloc(span / 64 + 1, sizeof *bits);

    if (bits == NULL)
        return mdn_fail_nomem(err, span / 8);
    for (uint64_t i = 0; i < choice->count; i++) {
        uint64_t bit = choice->keys[i] - low;
        bits[bit / 64] |= UINT64_C(1) << (bit % 64);
    }
    for (uint64_t i = first; i < last; i++) {
        uint64_t bit = order[i] - low; /* wraps for keys below low */
        if (bit < span)
            bits[bit / 64] &= ~(UINT64_C(1) << (bit % 64));
    }
    left = lowest_bit(bits, span);
    free(bits);
    if (left < span)
        return no_candidate(low + left, first, last, policy, err);
    return MDN_OK;
}

mdn_status
mdn_choice_check(const mdn_choice *choice, const uint64_t *order,
                 uint64_t first, uint64_t last, const char *policy,
                 mdn_error *err)
{
    uint64_t low = UINT64_MAX, high = 0; /* the extreme candidates */
    mdn_status st;

    if ((st = check_ascending(choice, policy, err)) != MDN_OK)
        return st;
    if ((st = check_weights(choice, policy, err)) != MDN_OK)
        return st;
    if (choice->count == 0)
        return MDN_OK;
    if (order == NULL && first < last) {
        low = first;
        high = last - 1;
    }
    for (uint64_t i = first; order != NULL && i < last; i++) {
        low = order[i] < low ? order[i] : low;
        high = order[i] > high ? order[i] : high;
    }
    if (choice->keys[0] < low)
        return no_candidate(choice->keys[0], first, last, policy, err);
    if (choice->keys[choice->count - 1] > high)
        return no_candidate(choice->keys[choice->count - 1], first, last,
                            policy, err);
    if (order == NULL)
        return MDN_OK;
    return check_members(choice, order, first, last, policy, err);
}
