/* test_keyruns.c - sets of keys against plain arrays of flags. */
#include "check.h"

#include "base/random.h"
#include "selector/keypart.h"
#include "selector/keyruns.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PARTS 6
#define KEYS (PARTS * (uint64_t)MDN_PART_KEYS)

static uint64_t seed = 20261121;

static uint64_t
draw(uint64_t below)
{
    return mdn_mix(seed++) % below;
}

/* What parts of a set may look like: nothing, all, a row, many short runs, few
 * keys, some, about half, all but a few, the ends alone. */
enum { SHAPES = 9 };

static void
draw_part(bool *flags, uint64_t shape)
{
    uint64_t one_in = shape == 4 ? 200 : shape == 5 ? 12 : 2;
    uint64_t first = draw(MDN_PART_KEYS / 2), length = 1 + draw(20000);

    for (uint64_t i = 0; i < MDN_PART_KEYS; i++) {
        switch (shape) {
        case 0: flags[i] = false; break;
        case 1: flags[i] = true; break;
        case 2: flags[i] = i >= first && i < first + length; break;
        case 3: flags[i] = i % 997 < 30; break;
        case 7: flags[i] = draw(5000) > 0; break;
        case 8: flags[i] = i == 0 || i == MDN_PART_KEYS - 1; break;
        default: flags[i] = draw(one_in) == 0;
        }
    }
}

static void
draw_flags(bool *flags)
{
    for (uint64_t p = 0; p < PARTS; p++)
        draw_part(flags + p * MDN_PART_KEYS, draw(SHAPES));
}

/* The keys that are set, moved up by base; there is room. */
static uint64_t
keys_of(const bool *flags, uint64_t base, uint64_t *keys)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i < KEYS; i++) {
        if (flags[i])
            keys[count++] = base + i;
    }
    return count;
}

static mdn_keyruns *
set_of(const bool *flags, uint64_t base, uint32_t threads)
{
    uint64_t *keys = malloc(KEYS * sizeof *keys);
    mdn_keyruns *set;

    CHECK(mdn_keyruns_of_keys(keys, keys_of(flags, base, keys), threads, &set,
                              NULL)
          == MDN_OK);
    free(keys);
    return set;
}

/* Whether a set holds what is set in flags, by each of its answers. */
static bool
holds(const mdn_keyruns *set, const bool *flags, uint64_t base)
{
    uint64_t *keys = malloc((KEYS + 1) * sizeof *keys);
    uint64_t *listed = malloc((KEYS + 1) * sizeof *listed);
    uint64_t count = keys_of(flags, base, keys), middle = count / 2;
    bool right = mdn_keyruns_count(set) == count;

    for (uint64_t i = 0; i < KEYS; i++)
        right &= mdn_keyruns_contains(set, base + i) == flags[i];
    right &= mdn_keyruns_list(set, NULL, MDN_KEYRUNS_ALL, 0, listed, KEYS + 1)
             == count;
    right &= memcmp(listed, keys, count * sizeof *keys) == 0;
    if (count > 0) {
        right &= mdn_keyruns_list(set, NULL, MDN_KEYRUNS_ALL, keys[middle],
                                  listed, 3)
                 == (count - middle < 3 ? count - middle : 3);
        right &= listed[0] == keys[middle];
    }
    free(listed);
    free(keys);
    return right;
}

static void
a_set_answers_what_its_keys_say(void)
{
    bool *flags = malloc(KEYS);

    for (int round = 0; round < 12; round++) {
        uint64_t base = round % 3 == 0 ? 0 : draw(1 << 30) << 16;
        mdn_keyruns *set;

        draw_flags(flags);
        set = set_of(flags, base, 1);
        CHECK(holds(set, flags, base));
        CHECK(!mdn_keyruns_contains(set, base + KEYS));
        CHECK(base == 0 || !mdn_keyruns_contains(set, base - 1));
        mdn_keyruns_free(set);
    }
    free(flags);
}

static void
every_pair_of_shapes_is_compared_and_joined(void)
{
    bool *a = calloc(KEYS, 1), *b = calloc(KEYS, 1), *both = calloc(KEYS, 1);
    uint64_t *keys = malloc(KEYS * sizeof *keys);
    uint64_t *right = malloc(KEYS * sizeof *right);

    for (uint64_t s = 0; s < SHAPES * SHAPES; s++) {
        mdn_keyruns *x, *y, *united;
        uint64_t common = 0, n = 0, only = 0;

        memset(a, 0, KEYS);
        memset(b, 0, KEYS);
        draw_part(a + MDN_PART_KEYS, s % SHAPES);
        draw_part(b + MDN_PART_KEYS, s / SHAPES);
        draw_part(a + 2 * MDN_PART_KEYS, s % SHAPES); /* that a has alone */
        draw_part(b + 4 * MDN_PART_KEYS, s / SHAPES);
        x = set_of(a, 0, 1);
        y = set_of(b, 0, 1);
        for (uint64_t i = 0; i < KEYS; i++) {
            both[i] = a[i] || b[i];
            common += a[i] && b[i];
            if (a[i] && b[i])
                right[n++] = i;
        }
        CHECK(mdn_keyruns_common(x, y, 1) == common);
        CHECK(mdn_keyruns_common(y, x, 2) == common);
        CHECK(mdn_keyruns_list(x, y, MDN_KEYRUNS_BOTH, 0, keys, KEYS) == n);
        CHECK(memcmp(keys, right, n * sizeof *keys) == 0);
        for (uint64_t i = 0; i < KEYS; i++) {
            if (a[i] && !b[i])
                right[only++] = i;
        }
        CHECK(mdn_keyruns_list(x, y, MDN_KEYRUNS_WITHOUT, 0, keys, KEYS)
              == only);
        CHECK(memcmp(keys, right, only * sizeof *keys) == 0);
        CHECK(mdn_keyruns_union(x, y, &united, NULL) == MDN_OK);
        mdn_keyruns_free(x); /* what is shared stays */
        CHECK(holds(united, both, 0));
        mdn_keyruns_free(y);
        mdn_keyruns_free(united);
    }
    free(right);
    free(keys);
    free(both);
    free(b);
    free(a);
}

static void
ranges_make_the_set_that_their_keys_make(void)
{
    static const uint64_t firsts[] = {3, 9, 65530, 65540, 262144, 327679};
    static const uint64_t lasts[] = {3, 65529, 65539, 200000, 327677, 327679};
    bool *flags = calloc(KEYS, 1);
    mdn_keyruns *set, *twin;

    for (int r = 0; r < 6; r++)
        memset(flags + firsts[r], 1, lasts[r] - firsts[r] + 1);
    CHECK(mdn_keyruns_of_ranges(firsts, lasts, 6, &set, NULL) == MDN_OK);
    CHECK(holds(set, flags, 0));
    twin = set_of(flags, 0, 1);
    CHECK(mdn_keyruns_size_bytes(twin) == mdn_keyruns_size_bytes(set));
    mdn_keyruns_free(twin);
    mdn_keyruns_free(set);
    free(flags);
}

static void
a_set_takes_the_memory_that_is_promised(void)
{
    static const struct {
        uint64_t shape, most_bytes;
    } cases[] = {{0, 0}, {1, 0}, {2, 100}, {3, 400}, {4, 1100}, {6, 8300}};
    bool *flags = malloc(KEYS);

    for (int c = 0; c < 6; c++) {
        mdn_keyruns *set;

        for (uint64_t p = 0; p < PARTS; p++)
            draw_part(flags + p * MDN_PART_KEYS, cases[c].shape);
        set = set_of(flags, 0, 1);
        CHECK(mdn_keyruns_size_bytes(set)
              <= 100 + PARTS * (40 + cases[c].most_bytes));
        mdn_keyruns_free(set);
    }
    free(flags);
}

static void
threads_change_nothing(void)
{
    enum { COUNT = 40000 };
    uint64_t *keys = malloc(COUNT * sizeof *keys);
    uint64_t *listed = malloc(COUNT * sizeof *listed);
    mdn_keyruns *one, *some, *odd;
    uint64_t odds = 0;

    for (uint64_t i = 0, key = 0; i < COUNT; i++)
        keys[i] = key += 1 + draw(60000); /* 18,000 parts */
    CHECK(mdn_keyruns_of_keys(keys, COUNT, 1, &one, NULL) == MDN_OK);
    CHECK(mdn_keyruns_of_keys(keys, COUNT, 7, &some, NULL) == MDN_OK);
    CHECK(mdn_keyruns_size_bytes(one) == mdn_keyruns_size_bytes(some));
    CHECK(mdn_keyruns_list(some, NULL, MDN_KEYRUNS_ALL, 0, listed, COUNT)
          == COUNT);
    CHECK(memcmp(keys, listed, COUNT * sizeof *keys) == 0);
    for (uint64_t i = 0; i < COUNT; i += 1 + draw(3))
        keys[odds++] = keys[i];
    CHECK(mdn_keyruns_of_keys(keys, odds, 3, &odd, NULL) == MDN_OK);
    for (uint32_t threads = 1; threads < 9; threads++) {
        CHECK(mdn_keyruns_common(one, odd, threads) == odds);
        CHECK(mdn_keyruns_common(odd, some, threads) == odds);
    }
    mdn_keyruns_free(odd);
    mdn_keyruns_free(some);
    mdn_keyruns_free(one);
    free(listed);
    free(keys);
}

static void
the_last_keys_that_there_are_can_be_held(void)
{
    static const uint64_t keys[] = {0, UINT64_MAX - 65536, UINT64_MAX};
    static const uint64_t first = UINT64_MAX - 100000, last = UINT64_MAX;
    uint64_t listed[4];
    mdn_keyruns *set, *range;

    CHECK(mdn_keyruns_of_keys(keys, 3, 1, &set, NULL) == MDN_OK);
    CHECK(mdn_keyruns_of_ranges(&first, &last, 1, &range, NULL) == MDN_OK);
    CHECK(mdn_keyruns_contains(set, UINT64_MAX));
    CHECK(mdn_keyruns_count(range) == 100001);
    CHECK(mdn_keyruns_common(set, range, 1) == 2);
    CHECK(mdn_keyruns_list(set, range, MDN_KEYRUNS_WITHOUT, 0, listed, 4) == 1);
    CHECK(listed[0] == 0);
    mdn_keyruns_free(range);
    mdn_keyruns_free(set);
}

static void
an_empty_set_is_a_set(void)
{
    mdn_keyruns *none, *ranges, *united;
    uint64_t key;

    CHECK(mdn_keyruns_of_keys(NULL, 0, 2, &none, NULL) == MDN_OK);
    CHECK(mdn_keyruns_of_ranges(NULL, NULL, 0, &ranges, NULL) == MDN_OK);
    CHECK(mdn_keyruns_union(none, ranges, &united, NULL) == MDN_OK);
    CHECK(mdn_keyruns_count(united) == 0);
    CHECK(!mdn_keyruns_contains(united, 0));
    CHECK(mdn_keyruns_common(united, none, 2) == 0);
    CHECK(mdn_keyruns_list(united, none, MDN_KEYRUNS_BOTH, 0, &key, 1) == 0);
    mdn_keyruns_free(united);
    mdn_keyruns_free(ranges);
    mdn_keyruns_free(none);
    mdn_keyruns_free(NULL);
}

static void
keys_that_do_not_ascend_are_refused(void)
{
    enum { COUNT = 140000 };
    uint64_t *keys = malloc(COUNT * sizeof *keys);
    mdn_keyruns *set;
    mdn_error err;

    for (uint32_t round = 0; round < 60; round++) {
        uint64_t at = draw(COUNT - 1);
        uint64_t gap = round % 3 == 0 ? 1 : 1 + draw(300);

        for (uint64_t i = 0; i < COUNT; i++)
            keys[i] = (i + 10) * gap;
        keys[at + 1] = round % 2 ? keys[at] : draw(keys[at]);
        CHECK(mdn_keyruns_of_keys(keys, COUNT, 1 + round % 3, &set, &err)
              == MDN_INVALID);
        CHECK(set == NULL);
        CHECK(strstr(err.message, "keys must ascend") != NULL);
    }
    free(keys);
}

static void
ranges_that_overlap_are_refused(void)
{
    static const uint64_t firsts[] = {5, 10}, lasts[] = {10, 20};
    static const uint64_t backwards[] = {4, 30};
    mdn_keyruns *set;
    mdn_error err;

    CHECK(mdn_keyruns_of_ranges(firsts, lasts, 2, &set, &err) == MDN_INVALID);
    CHECK(set == NULL);
    CHECK(strstr(err.message, "ranges[1]") != NULL);
    CHECK(mdn_keyruns_of_ranges(firsts, backwards, 1, &set, NULL)
          == MDN_INVALID);
}

int
main(void)
{
    RUN(a_set_answers_what_its_keys_say);
    RUN(every_pair_of_shapes_is_compared_and_joined);
    RUN(ranges_make_the_set_that_their_keys_make);
    RUN(a_set_takes_the_memory_that_is_promised);
    RUN(threads_change_nothing);
    RUN(the_last_keys_that_there_are_can_be_held);
    RUN(an_empty_set_is_a_set);
    RUN(keys_that_do_not_ascend_are_refused);
    RUN(ranges_that_overlap_are_refused);
    return check_report("test_keyruns");
}
