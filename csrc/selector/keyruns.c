/* keyruns.c - sets of keys: their life, their union, and what they answer.
 *
 * Two sets are gone through side by side, as lists that are merged. */
#include "selector/keyruns.h"

#include "base/parallel.h"
#include "selector/keyruns_set.h"

#include <stdlib.h>
#include <string.h>

/* Life ------------------------------------------------------------------- */

void
mdn_keyruns_free(mdn_keyruns *set)
{
    if (set == NULL)
        return;
    for (uint64_t i = 0; i < set->part_count; i++)
        mdn_part_release(&set->parts[i]);
    free(set->parts);
    free(set);
}

mdn_status
mdn_keyruns_new(mdn_keyruns **out, mdn_error *err)
{
    *out = calloc(1, sizeof **out);
    return *out != NULL ? MDN_OK : mdn_fail_nomem(err, sizeof **out);
}

mdn_status
mdn_keyruns_reserve(mdn_keyruns *set, mdn_error *err)
{
    uint64_t room = set->room > 0 ? 2 * set->room : 16;
    mdn_part *parts;

    if (set->part_count < set->room)
        return MDN_OK;
    parts = realloc(set->parts, room * sizeof *parts);
    if (parts == NULL)
        return mdn_fail_nomem(err, room * sizeof *parts);
    set->parts = parts;
    set->room = room;
    return MDN_OK;
}

void
mdn_keyruns_append(mdn_keyruns *set, mdn_part part, bool shared)
{
    set->parts[set->part_count++] = part;
    set->count += part.count;
    set->size_bytes += shared ? 0 : mdn_part_size_bytes(&part);
}

void
mdn_keyruns_trim(mdn_keyruns *set)
{
    mdn_part *parts = NULL;

    if (set->part_count > 0)
        parts = realloc(set->parts, set->part_count * sizeof *parts);
    if (parts != NULL) {
        set->parts = parts;
        set->room = set->part_count;
    }
}

/* Union ------------------------------------------------------------------ */

/* The union of two parts with equal high: shared where one holds the other. */
static mdn_status
join(const mdn_part *a, const mdn_part *b, mdn_part *out, bool *shared,
     mdn_error *err)
{
    uint64_t bits[MDN_KEYBITS_WORDS] = {0};
    uint32_t common = mdn_part_common(a, b);

    *shared = common == a->count || common == b->count;
    if (*shared) {
        *out = mdn_part_share(common == b->count ? a : b);
        return MDN_OK;
    }
    mdn_part_set(a, bits);
    mdn_part_set(b, bits);
    return mdn_part_of_bits(a->high, bits, out, err);
}

mdn_status
mdn_keyruns_union(const mdn_keyruns *a, const mdn_keyruns *b, mdn_keyruns **out,
                  mdn_error *err)
{
    const mdn_part *x = a->parts, *x_end = x + a->part_count;
    const mdn_part *y = b->parts, *y_end = y + b->part_count;
    mdn_keyruns *set;
    mdn_status st;

    *out = NULL;
    if ((st = mdn_keyruns_new(&set, err)) != MDN_OK)
        return st;
    while (x < x_end || y < y_end) {
        bool shared = true;
        mdn_part part;

        if ((st = mdn_keyruns_reserve(set, err)) != MDN_OK)
            break;
        if (y == y_end || (x < x_end && x->high < y->high))
            part = mdn_part_share(x++);
        else if (x == x_end || y->high < x->high)
            part = mdn_part_share(y++);
        else if ((st = join(x++, y++, &part, &shared, err)) != MDN_OK)
            break;
        mdn_keyruns_append(set, part, shared);
    }
    if (st != MDN_OK) {
        mdn_keyruns_free(set);
        return st;
    }
    mdn_keyruns_trim(set);
    *out = set;
    return MDN_OK;
}

/* Asking ----------------------------------------------------------------- */

uint64_t
mdn_keyruns_count(const mdn_keyruns *set)
{
    return set->count;
}

uint64_t
mdn_keyruns_size_bytes(const mdn_keyruns *set)
{
    return sizeof *set + set->room * sizeof *set->parts + set->size_bytes;
}

/* The place of the first part that is not below. */
static uint64_t
place_of(const mdn_keyruns *set, uint64_t high)
{
    uint64_t first = 0, count = set->part_count;

    while (count > 0) {
        uint64_t half = count / 2;

        if (set->parts[first + half].high < high) {
            first += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return first;
}

/* The part with this high, or NULL. */
static const mdn_part *
part_of(const mdn_keyruns *set, uint64_t high)
{
    uint64_t at = place_of(set, high);

    return at < set->part_count && set->parts[at].high == high ? &set->parts[at]
                                                               : NULL;
}

bool
mdn_keyruns_contains(const mdn_keyruns *set, uint64_t key)
{
    const mdn_part *part = part_of(set, key >> 16);

    return part != NULL && mdn_part_contains(part, (uint16_t)key);
}

typedef struct {
    const mdn_keyruns *a, *b;
    uint32_t threads;
    uint64_t found[MDN_PARTS_MAX];
} comparing;

static void
compare(void *ctx, uint32_t thread)
{
    comparing *work = ctx;
    const mdn_keyruns *a = work->a, *b = work->b;
    uint64_t i = mdn_part_first(a->part_count, work->threads, thread);
    uint64_t end = mdn_part_first(a->part_count, work->threads, thread + 1);
    uint64_t j = i < end ? place_of(b, a->parts[i].high) : 0;
    uint64_t found = 0;

    while (i < end && j < b->part_count) {
        const mdn_part *x = &a->parts[i], *y = &b->parts[j];

        if (x->high == y->high)
            found += mdn_part_common(x, y);
        i += x->high <= y->high;
        j += y->high <= x->high;
    }
    work->found[thread] = found;
}

uint64_t
mdn_keyruns_common(const mdn_keyruns *a, const mdn_keyruns *b, uint32_t threads)
{
    comparing work = {.a = a, .b = b};
    uint64_t found = 0;

    work.threads =
        mdn_parallel_parts(a->part_count, MDN_KEYRUNS_COMPARED, threads);
    mdn_parallel(work.threads, compare, &work);
    for (uint32_t t = 0; t < work.threads; t++)
        found += work.found[t];
    return found;
}

/* The bits of a part that are asked for; false if there is none for sure. */
static bool
choose(const mdn_part *x, const mdn_part *y, mdn_keyruns_which which,
       uint64_t *bits)
{
    uint64_t others[MDN_KEYBITS_WORDS] = {0};
    bool both = which == MDN_KEYRUNS_BOTH;

    if (y == NULL && both)
        return false;
    if (y != NULL && !both && y->kind == MDN_PART_IS_FULL)
        return false;
    memset(bits, 0, MDN_KEYBITS_BYTES);
    mdn_part_set(x, bits);
    if (y == NULL)
        return true;
    mdn_part_set(y, others);
    for (uint32_t i = 0; i < MDN_KEYBITS_WORDS; i++)
        bits[i] &= both ? others[i] : ~others[i];
    return true;
}

uint64_t
mdn_keyruns_list(const mdn_keyruns *a, const mdn_keyruns *b,
                 mdn_keyruns_which which, uint64_t from, uint64_t *keys,
                 uint64_t room)
{
    uint64_t bits[MDN_KEYBITS_WORDS];
    uint64_t found = 0;

    for (uint64_t i = place_of(a, from >> 16); i < a->part_count; i++) {
        const mdn_part *x = &a->parts[i], *y = NULL;

        if (which != MDN_KEYRUNS_ALL)
            y = part_of(b, x->high);
        if (!choose(x, y, which, bits))
            continue;
        for (uint32_t w = 0; w < MDN_KEYBITS_WORDS; w++) {
            for (uint64_t word = bits[w]; word != 0; word &= word - 1) {
                uint64_t key =
                    x->high << 16 | w * 64u | (uint32_t)__builtin_ctzll(word);

                if (key < from)
                    continue;
                if (found == room)
                    return found;
                keys[found++] = key;
            }
        }
    }
    return found;
}
