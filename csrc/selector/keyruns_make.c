/* keyruns_make.c - sets of keys from keys, and from ranges.
 *
 * A set from keys is made in two steps: a search finds where each part begins,
 * then threads fill the parts, each a row of them. */
#include "selector/keyruns.h"

#include "base/parallel.h"
#include "selector/keyruns_set.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* From keys -------------------------------------------------------------- */

/* What the threads that fill the parts share. */
typedef struct {
    const uint64_t *keys;
    const uint64_t *firsts; /* of each part, its place in keys; one more */
    mdn_part *parts;
    uint64_t part_count;
    uint32_t threads;
    struct {
        uint64_t done; /* of its parts, from the first on */
        mdn_status status;
        mdn_error error;
    } results[MDN_PARTS_MAX];
} filling;

static void
fill(void *ctx, uint32_t thread)
{
    filling *work = ctx;
    uint64_t first = mdn_part_first(work->part_count, work->threads, thread);
    uint64_t end = mdn_part_first(work->part_count, work->threads, thread + 1);
    mdn_status st = MDN_OK;
    uint64_t i;

    for (i = first; i < end && st == MDN_OK; i++) {
        uint64_t at = work->firsts[i];

        st = mdn_part_of_keys(work->keys + at,
                              (uint32_t)(work->firsts[i + 1] - at),
                              &work->parts[i], &work->results[thread].error);
    }
    work->results[thread].done = st == MDN_OK ? i - first : i - 1 - first;
    work->results[thread].status = st;
}

/* The place behind the keys that are of one part with the first of them. */
static uint64_t
end_of_part(const uint64_t *keys, uint64_t first, uint64_t count)
{
    uint64_t high = keys[first] >> 16, end = count;

    if (count - first > MDN_PART_KEYS)
        end = first + MDN_PART_KEYS;
    for (first++; first < end;) {
        uint64_t middle = first + (end - first) / 2;

        if (keys[middle] >> 16 > high)
            end = middle;
        else
            first = middle + 1;
    }
    return end;
}

/* Where parts begin, and the end: an owned array of *part_count + 1 places.
 * Of keys that do not ascend too many parts may come, but no endless row. */
static mdn_status
find_parts(const uint64_t *keys, uint64_t count, uint64_t **out,
           uint64_t *part_count, mdn_error *err)
{
    uint64_t room = 64, found = 0, *firsts = malloc(room * sizeof *firsts);

    *out = NULL;
    for (uint64_t at = 0; firsts != NULL; at = end_of_part(keys, at, count)) {
        if (found == room) {
            uint64_t *more = realloc(firsts, 2 * room * sizeof *firsts);

            if (more == NULL)
                free(firsts);
            firsts = more;
            room *= 2;
            if (firsts == NULL)
                break;
        }
        firsts[found++] = at;
        if (at == count)
            break;
    }
    if (firsts == NULL)
        return mdn_fail_nomem(err, room * sizeof *firsts);
    *out = firsts;
    *part_count = found - 1;
    return MDN_OK;
}

/* Whether a part begins behind the end of the one before. */
static mdn_status
check_order(const filling *work, mdn_error *err)
{
    for (uint64_t i = 1; i < work->part_count; i++) {
        uint64_t key = work->keys[work->firsts[i]];
        uint64_t before = work->keys[work->firsts[i] - 1];

        if (key <= before || key >> 16 == before >> 16)
            return mdn_fail(err, MDN_INVALID,
                            "keys must ascend, each once: %" PRIu64
                            " stands behind %" PRIu64,
                            key, before);
    }
    return MDN_OK;
}

/* Let threads fill the parts; on failure none is left. */
static mdn_status
fill_all(filling *work, uint32_t threads, mdn_error *err)
{
    mdn_status st = MDN_OK;

    work->threads =
        mdn_parallel_parts(work->part_count, MDN_KEYRUNS_MADE, threads);
    mdn_parallel(work->threads, fill, work);
    for (uint32_t t = 0; t < work->threads && st == MDN_OK; t++) {
        st = work->results[t].status;
        if (st != MDN_OK && err != NULL)
            *err = work->results[t].error;
    }
    if (st == MDN_OK)
        st = check_order(work, err);
    for (uint32_t t = 0; t < work->threads && st != MDN_OK; t++) {
        uint64_t first = mdn_part_first(work->part_count, work->threads, t);

        for (uint64_t i = 0; i < work->results[t].done; i++)
            mdn_part_release(&work->parts[first + i]);
    }
    return st;
}

mdn_status
mdn_keyruns_of_keys(const uint64_t *keys, uint64_t count, uint32_t threads,
                    mdn_keyruns **out, mdn_error *err)
{
    filling *work = calloc(1, sizeof *work);
    uint64_t *firsts = NULL, parts = 0;
    mdn_keyruns *set = NULL;
    mdn_status st;

    *out = NULL;
    if (work == NULL)
        return mdn_fail_nomem(err, sizeof *work);
    if ((st = mdn_keyruns_new(&set, err)) != MDN_OK
        || (st = find_parts(keys, count, &firsts, &parts, err)) != MDN_OK)
        goto fail;
    set->parts = calloc(parts > 0 ? parts : 1, sizeof *set->parts);
    if (set->parts == NULL) {
        st = mdn_fail_nomem(err, parts * sizeof *set->parts);
        goto fail;
    }
    *work = (filling){.keys = keys,
                      .firsts = firsts,
                      .parts = set->parts,
                      .part_count = parts};
    if ((st = fill_all(work, threads, err)) != MDN_OK)
        goto fail;
    set->room = parts;
    for (uint64_t i = 0; i < parts; i++)
        mdn_keyruns_append(set, set->parts[i], false);
    free(firsts);
    free(work);
    *out = set;
    return MDN_OK;

fail:
    mdn_keyruns_free(set);
    free(firsts);
    free(work);
    return st;
}

/* From ranges ------------------------------------------------------------ */

/* The part that is being made of ranges. */
typedef struct {
    uint64_t high;
    uint64_t bits[MDN_KEYBITS_WORDS];
    bool any;
} making;

/* Append the part, if it has keys, and begin anew. */
static mdn_status
end_part(mdn_keyruns *set, making *now, mdn_error *err)
{
    mdn_part part;
    mdn_status st;

    if (!now->any)
        return MDN_OK;
    if ((st = mdn_keyruns_reserve(set, err)) != MDN_OK
        || (st = mdn_part_of_bits(now->high, now->bits, &part, err)) != MDN_OK)
        return st;
    mdn_keyruns_append(set, part, false);
    memset(now->bits, 0, sizeof now->bits);
    now->any = false;
    return MDN_OK;
}

/* Append parts that a range covers wholly. */
static mdn_status
append_full(mdn_keyruns *set, uint64_t high, mdn_error *err)
{
    mdn_status st = mdn_keyruns_reserve(set, err);

    if (st == MDN_OK)
        mdn_keyruns_append(set,
                           (mdn_part){.high = high,
                                      .count = MDN_PART_KEYS,
                                      .kind = MDN_PART_IS_FULL},
                           false);
    return st;
}

static mdn_status
add_range(mdn_keyruns *set, making *now, uint64_t first, uint64_t last,
          mdn_error *err)
{
    mdn_status st = MDN_OK;

    for (uint64_t high = first >> 16; st == MDN_OK; high++) {
        uint64_t from = high == first >> 16 ? first & 0xffff : 0;
        uint64_t to = high == last >> 16 ? last & 0xffff : 0xffff;

        if (!now->any || now->high != high)
            st = end_part(set, now, err);
        if (st == MDN_OK && from == 0 && to == 0xffff) {
            st = append_full(set, high, err);
        } else if (st == MDN_OK) {
            now->high = high;
            now->any = true;
            mdn_keybits_set(now->bits, (uint32_t)from, (uint32_t)to);
        }
        if (high == last >> 16)
            break;
    }
    return st;
}

mdn_status
mdn_keyruns_of_ranges(const uint64_t *firsts, const uint64_t *lasts,
                      uint64_t count, mdn_keyruns **out, mdn_error *err)
{
    making *now = calloc(1, sizeof *now);
    mdn_keyruns *set = NULL;
    mdn_status st;

    *out = NULL;
    if (now == NULL)
        return mdn_fail_nomem(err, sizeof *now);
    st = mdn_keyruns_new(&set, err);
    for (uint64_t i = 0; i < count && st == MDN_OK; i++) {
        if (lasts[i] < firsts[i] || (i > 0 && firsts[i] <= lasts[i - 1]))
            st = mdn_fail(err, MDN_INVALID,
                          "ranges must ascend and not overlap: %" PRIu64
                          " to %" PRIu64 " does not, ranges[%" PRIu64 "]",
                          firsts[i], lasts[i], i);
        else
            st = add_range(set, now, firsts[i], lasts[i], err);
    }
    if (st == MDN_OK)
        st = end_part(set, now, err);
    free(now);
    if (st != MDN_OK) {
        mdn_keyruns_free(set);
        return st;
    }
    mdn_keyruns_trim(set);
    *out = set;
    return MDN_OK;
}
