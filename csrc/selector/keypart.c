/* keypart.c - shapes of up to 65,536 keys, and what two of them share. */
#include "selector/keypart.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define LOW 0xffffu
#define MERGED 64 /* arrays this short are merged, longer ones marked */

struct mdn_part_data {
    atomic_uint references;
    uint64_t words[]; /* or lows, see below */
};

static inline uint16_t *
lows_of(const mdn_part *part)
{
    return (uint16_t *)part->data->words;
}

/* Making a part ---------------------------------------------------------- */

/* Room for the data of a part, whose references are 1. */
static mdn_status
make_data(mdn_part *part, uint64_t size_bytes, mdn_error *err)
{
    part->data = malloc(sizeof *part->data + size_bytes);
    if (part->data == NULL)
        return mdn_fail_nomem(err, sizeof *part->data + size_bytes);
    atomic_init(&part->data->references, 1);
    return MDN_OK;
}

/* Say what shape so many keys in so many runs have; return its bytes. */
static uint64_t
choose_shape(mdn_part *part, uint32_t count, uint32_t runs)
{
    part->count = count;
    if (count == MDN_PART_KEYS) {
        part->kind = MDN_PART_IS_FULL;
        return 0;
    }
    if (runs <= MDN_PART_RUNS && 2 * runs <= count) {
        part->kind = MDN_PART_IS_RUNS;
        part->runs = (uint16_t)runs;
        return runs * 2 * sizeof(uint16_t);
    }
    if (count <= MDN_PART_ARRAY) {
        part->kind = MDN_PART_IS_ARRAY;
        return count * sizeof(uint16_t);
    }
    part->kind = MDN_PART_IS_BITMAP;
    return MDN_KEYBITS_BYTES;
}

/* Put down the bits, or the ends of their runs. */
static void
write_lows(mdn_part *part, const uint64_t *words)
{
    uint16_t *lows = lows_of(part);
    uint64_t before = 0; /* the last bit of the word before */

    for (uint32_t i = 0, first = 0, last = 0; i < MDN_KEYBITS_WORDS; i++) {
        uint64_t behind = i + 1 < MDN_KEYBITS_WORDS ? words[i + 1] << 63 : 0;
        uint64_t starts = words[i], ends = 0;

        if (part->kind == MDN_PART_IS_RUNS) {
            starts = words[i] & ~(words[i] << 1 | before);
            ends = words[i] & ~(words[i] >> 1 | behind);
        }
        for (; starts != 0; starts &= starts - 1, first++)
            lows[part->kind == MDN_PART_IS_RUNS ? 2 * first : first] =
                (uint16_t)(i * 64 + (uint32_t)__builtin_ctzll(starts));
        for (; ends != 0; ends &= ends - 1, last++)
            lows[2 * last + 1] =
                (uint16_t)(i * 64 + (uint32_t)__builtin_ctzll(ends));
        before = words[i] >> 63;
    }
}

mdn_status
mdn_part_of_bits(uint64_t high, const uint64_t *words, mdn_part *out,
                 mdn_error *err)
{
    uint32_t runs, count = mdn_keybits_count(words, &runs);
    uint64_t size_bytes;
    mdn_status st;

    *out = (mdn_part){.high = high};
    if (count == 0)
        return MDN_OK;
    size_bytes = choose_shape(out, count, runs);
    if (out->kind == MDN_PART_IS_FULL)
        return MDN_OK;
    if ((st = make_data(out, size_bytes, err)) != MDN_OK)
        return st;
    if (out->kind == MDN_PART_IS_BITMAP)
        memcpy(out->data->words, words, MDN_KEYBITS_BYTES);
    else
        write_lows(out, words);
    return MDN_OK;
}

/* Whether keys ascend and are all of one part; *runs is how many they make. */
static bool
look_at(const uint64_t *keys, uint32_t count, uint32_t *runs)
{
    uint32_t wrong = keys[0] >> 16 != keys[count - 1] >> 16, breaks = 1;

    for (uint32_t i = 1; i < count; i++) {
        wrong |= keys[i] <= keys[i - 1];
        breaks += keys[i] != keys[i - 1] + 1;
    }
    *runs = breaks;
    return wrong == 0;
}

static void
write_runs(mdn_part *part, const uint64_t *keys)
{
    uint16_t *lows = lows_of(part);

    *lows++ = (uint16_t)keys[0];
    for (uint32_t i = 1; i < part->count; i++) {
        if (keys[i] != keys[i - 1] + 1) {
            *lows++ = (uint16_t)keys[i - 1];
            *lows++ = (uint16_t)keys[i];
        }
    }
    *lows = (uint16_t)keys[part->count - 1];
}

mdn_status
mdn_part_of_keys(const uint64_t *keys, uint32_t count, mdn_part *out,
                 mdn_error *err)
{
    uint64_t size_bytes;
    uint32_t runs;
    mdn_status st;

    *out = (mdn_part){.high = keys[0] >> 16};
    if (!look_at(keys, count, &runs))
        return mdn_fail(err, MDN_INVALID,
                        "keys must ascend, each once: they do not between "
                        "%" PRIu64 " and %" PRIu64,
                        keys[0], keys[count - 1]);
    size_bytes = choose_shape(out, count, runs);
    if (out->kind == MDN_PART_IS_FULL)
        return MDN_OK;
    if ((st = make_data(out, size_bytes, err)) != MDN_OK)
        return st;
    if (out->kind == MDN_PART_IS_RUNS) {
        write_runs(out, keys);
    } else if (out->kind == MDN_PART_IS_ARRAY) {
        for (uint32_t i = 0; i < count; i++)
            lows_of(out)[i] = (uint16_t)keys[i];
    } else {
        memset(out->data->words, 0, MDN_KEYBITS_BYTES);
        for (uint32_t i = 0; i < count; i++)
            out->data->words[(keys[i] & LOW) / 64] |= UINT64_C(1)
                                                      << (keys[i] % 64);
    }
    return MDN_OK;
}

mdn_part
mdn_part_share(const mdn_part *part)
{
    if (part->data != NULL)
        atomic_fetch_add_explicit(&part->data->references, 1,
                                  memory_order_relaxed);
    return *part;
}

void
mdn_part_release(mdn_part *part)
{
    mdn_part_data *data = part->data;

    part->data = NULL;
    part->kind = MDN_PART_IS_FULL;
    if (data != NULL
        && atomic_fetch_sub_explicit(&data->references, 1, memory_order_acq_rel)
               == 1)
        free(data);
}

uint64_t
mdn_part_size_bytes(const mdn_part *part)
{
    uint64_t lows =
        part->kind == MDN_PART_IS_RUNS ? 2 * (uint64_t)part->runs : part->count;

    if (part->kind == MDN_PART_IS_FULL)
        return 0;
    if (part->kind == MDN_PART_IS_BITMAP)
        return sizeof *part->data + 16 + MDN_KEYBITS_BYTES;
    return sizeof *part->data + 16 + lows * sizeof(uint16_t);
}

/* Asking ----------------------------------------------------------------- */

/* The place of the first of count lows that is at least low. */
static uint32_t
lower_bound(const uint16_t *lows, uint32_t count, uint16_t low)
{
    uint32_t first = 0;

    while (count > 0) {
        uint32_t half = count / 2;

        if (lows[first + half] < low) {
            first += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return first;
}

bool
mdn_part_contains(const mdn_part *part, uint16_t low)
{
    uint32_t at;

    switch ((mdn_part_kind)part->kind) {
    case MDN_PART_IS_FULL: return true;
    case MDN_PART_IS_BITMAP: return mdn_keybits_has(part->data->words, low);
    case MDN_PART_IS_ARRAY:
        at = lower_bound(lows_of(part), part->count, low);
        return at < part->count && lows_of(part)[at] == low;
    case MDN_PART_IS_RUNS:
        /* At an odd place stands the last of a run that begins before. */
        at = lower_bound(lows_of(part), 2u * part->runs, low);
        return at < 2u * part->runs
               && (at % 2 == 1 || lows_of(part)[at] == low);
    }
    return false;
}

void
mdn_part_set(const mdn_part *part, uint64_t *words)
{
    const uint16_t *lows;

    if (part->kind == MDN_PART_IS_FULL) {
        memset(words, 0xff, MDN_KEYBITS_BYTES);
        return;
    }
    lows = lows_of(part);
    if (part->kind == MDN_PART_IS_BITMAP) {
        for (uint32_t i = 0; i < MDN_KEYBITS_WORDS; i++)
            words[i] |= part->data->words[i];
    } else if (part->kind == MDN_PART_IS_ARRAY) {
        for (uint32_t i = 0; i < part->count; i++)
            words[lows[i] / 64] |= UINT64_C(1) << (lows[i] % 64);
    } else {
        for (uint32_t i = 0; i < part->runs; i++)
            mdn_keybits_set(words, lows[2 * i], lows[2 * i + 1]);
    }
}

/* In common -------------------------------------------------------------- */

static uint32_t
array_and_bits(const mdn_part *array, const uint64_t *words)
{
    const uint16_t *lows = lows_of(array);
    uint32_t found = 0;

    for (uint32_t i = 0; i < array->count; i++)
        found += mdn_keybits_has(words, lows[i]);
    return found;
}

static uint32_t
merge_arrays(const mdn_part *a, const mdn_part *b)
{
    const uint16_t *x = lows_of(a), *y = lows_of(b);
    const uint16_t *x_end = x + a->count, *y_end = y + b->count;
    uint32_t found = 0;

    while (x < x_end && y < y_end) {
        uint16_t p = *x, q = *y;

        found += p == q;
        x += p <= q;
        y += q <= p;
    }
    return found;
}

/* Long arrays: a bit for each key of one, and a look for each of the other. */
static uint32_t
two_arrays(const mdn_part *a, const mdn_part *b)
{
    uint64_t marked[MDN_KEYBITS_WORDS];

    if (a->count < MERGED || b->count < MERGED)
        return merge_arrays(a, b);
    memset(marked, 0, sizeof marked);
    mdn_part_set(a, marked);
    return array_and_bits(b, marked);
}

static uint32_t
array_and_runs(const mdn_part *array, const mdn_part *runs)
{
    const uint16_t *x = lows_of(array), *pair = lows_of(runs);
    uint32_t found = 0;

    for (uint32_t i = 0, r = 0; i < array->count && r < runs->runs;) {
        if (x[i] > pair[2 * r + 1]) {
            r++;
        } else {
            found += x[i] >= pair[2 * r];
            i++;
        }
    }
    return found;
}

static uint32_t
two_runs(const mdn_part *a, const mdn_part *b)
{
    const uint16_t *x = lows_of(a), *y = lows_of(b);
    uint32_t found = 0;

    for (uint32_t i = 0, j = 0; i < a->runs && j < b->runs;) {
        uint32_t first = x[2 * i] > y[2 * j] ? x[2 * i] : y[2 * j];
        uint32_t x_last = x[2 * i + 1], y_last = y[2 * j + 1];
        uint32_t last = x_last < y_last ? x_last : y_last;

        found += first <= last ? last - first + 1 : 0;
        i += x_last <= y_last;
        j += y_last <= x_last;
    }
    return found;
}

uint32_t
mdn_part_common(const mdn_part *a, const mdn_part *b)
{
    if (a->kind > b->kind) {
        const mdn_part *other = a;

        a = b;
        b = other;
    }
    if (b->kind == MDN_PART_IS_FULL || a->data == b->data)
        return a->count;
    if (a->kind == MDN_PART_IS_BITMAP)
        return mdn_keybits_common(a->data->words, b->data->words);
    if (b->kind == MDN_PART_IS_BITMAP)
        return a->kind == MDN_PART_IS_ARRAY
                   ? array_and_bits(a, b->data->words)
                   : mdn_keybits_within(b->data->words, lows_of(a), a->runs);
    if (b->kind == MDN_PART_IS_ARRAY)
        return two_arrays(a, b);
    return a->kind == MDN_PART_IS_ARRAY ? array_and_runs(a, b) : two_runs(a, b);
}
