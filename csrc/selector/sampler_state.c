/* sampler_state.c - a sampler as words, to go to another process.
 *
 *   word  what
 *      0  "MDNSMPL1"
 *      1  kind, limit, seed, mode, merging, seen: one word each
 *      7  candidates offered (UNIFORM)
 *      8  entries, classes, words of the total (0, or 2 * MDN_EXACT_PARTS)
 *     11  of each entry: its order or draw, its key or class, its weight
 *         of each class: label, size
 *         of each part of the total: low word, high word
 *   last  CRC-32C of all before it
 *
 * Loading puts entries in as if they were offered, and so trusts nothing but
 * their values. */
#include "selector/sampler_state.h"

#include "base/crc32c.h"

#include <stdlib.h>
#include <string.h>

#define MAGIC UINT64_C(0x314c504d534e444d) /* "MDNSMPL1" */
#define HEADER 11
#define ENTRY 3
#define CLASS 2
#define TOTAL (UINT64_C(2) * MDN_EXACT_PARTS)

static uint64_t
checksum(const uint64_t *words, uint64_t count)
{
    return mdn_crc32c(0, words, count * sizeof *words);
}

static uint64_t
entry_count(const mdn_sampler *sampler)
{
    switch (sampler->options.kind) {
    case MDN_SAMPLER_UNIFORM: return sampler->uniform.bottom.count;
    case MDN_SAMPLER_BALANCED: return sampler->balance.count;
    default: return sampler->lowest.count;
    }
}

static void
save_entry(const mdn_sampler *sampler, uint64_t i, uint64_t *at)
{
    const mdn_lowest *lowest = &sampler->lowest;

    memset(at, 0, ENTRY * sizeof *at);
    switch (sampler->options.kind) {
    case MDN_SAMPLER_UNIFORM: at[0] = sampler->uniform.draws[i]; break;
    case MDN_SAMPLER_BALANCED:
        at[0] = sampler->balance.draws[i];
        at[1] = sampler->balance.numbers[i];
        break;
    default:
        at[0] = lowest->orders[i];
        at[1] = lowest->keys[i];
        if (lowest->weighted)
            memcpy(&at[2], &lowest->weights[i], sizeof *at);
    }
}

mdn_status
mdn_sampler_save(const mdn_sampler *sampler, uint64_t **words, uint64_t *count,
                 mdn_error *err)
{
    const mdn_sampler_options *options = &sampler->options;
    const mdn_classes *classes = &sampler->balance.classes;
    uint64_t entries = entry_count(sampler);
    uint64_t total = sampler->total != NULL ? TOTAL : 0, *at;

    *count = HEADER + ENTRY * entries + CLASS * classes->count + total + 1;
    *words = at = malloc(*count * sizeof **words);
    if (at == NULL)
        return mdn_fail_nomem(err, *count * sizeof **words);
    memcpy(at,
           (const uint64_t[HEADER]){
               MAGIC, options->kind, options->limit, options->seed,
               options->mode, options->merging, sampler->seen,
               sampler->uniform.offered, entries, classes->count, total},
           HEADER * sizeof *at);
    at += HEADER;
    for (uint64_t i = 0; i < entries; i++, at += ENTRY)
        save_entry(sampler, i, at);
    for (uint32_t c = 0; c < classes->count; c++, at += CLASS) {
        at[0] = (uint64_t)classes->labels[c];
        at[1] = classes->sizes[c];
    }
    for (uint64_t i = 0; i < total / 2; i++, at += 2) {
        at[0] = (uint64_t)sampler->total->parts[i];
        at[1] = (uint64_t)(sampler->total->parts[i] >> 64);
    }
    *at = checksum(*words, *count - 1);
    return MDN_OK;
}

/* ---- loading ---- */

static mdn_status
damaged(mdn_error *err)
{
    return mdn_fail(err, MDN_INVALID, "this is not the state of a sampler");
}

/* Whether words are whole, and their header fits itself and their number. */
static bool
is_state(const uint64_t *words, uint64_t count)
{
    uint64_t entries, classes;

    if (count <= HEADER || words[0] != MAGIC || words[1] > MDN_SAMPLER_ARRIVALS
        || words[4] > MDN_SHARES_EQUAL || words[5] > 1 || words[8] > count
        || words[9] > MDN_CLASSES_MAX)
        return false;
    entries = words[8];
    classes = words[9];
    return words[10] == (words[1] == MDN_SAMPLER_ARRIVALS ? TOTAL : 0)
           && (classes == 0 || words[1] == MDN_SAMPLER_BALANCED)
           && (words[1] != MDN_SAMPLER_UNIFORM || words[7] >= entries)
           && count
                  == HEADER + ENTRY * entries + CLASS * classes + words[10] + 1
           && words[count - 1] == checksum(words, count - 1);
}

static mdn_status
load_lowest(mdn_lowest *lowest, const uint64_t *at, uint64_t count,
            mdn_error *err)
{
    mdn_status st = MDN_OK;
    double weight;

    for (uint64_t i = 0; st == MDN_OK && i < count; i++, at += ENTRY) {
        memcpy(&weight, &at[2], sizeof weight);
        st = mdn_lowest_put(lowest, at[0], at[1], weight, err);
    }
    return st;
}

static mdn_status
load(mdn_sampler *sampler, const uint64_t *words, mdn_error *err)
{
    const uint64_t *entries = words + HEADER, count = words[8];
    const uint64_t *classes = entries + ENTRY * count, class_count = words[9];
    const uint64_t *total = classes + CLASS * class_count;

    sampler->seen = words[6];
    for (uint64_t i = 0; i < words[10] / 2; i++)
        sampler->total->parts[i] =
            (mdn_wide)total[2 * i + 1] << 64 | total[2 * i];
    switch (sampler->options.kind) {
    case MDN_SAMPLER_UNIFORM:
        return mdn_uniform_load(&sampler->uniform, words[7], entries, ENTRY,
                                count, err);
    case MDN_SAMPLER_BALANCED:
        return mdn_balance_load(&sampler->balance, classes, class_count,
                                entries, ENTRY, count, err);
    default: return load_lowest(&sampler->lowest, entries, count, err);
    }
}

mdn_status
mdn_sampler_load(const uint64_t *words, uint64_t count, mdn_sampler **out,
                 mdn_error *err)
{
    mdn_sampler_options options;
    mdn_status st;

    *out = NULL;
    if (!is_state(words, count))
        return damaged(err);
    options = (mdn_sampler_options){
        .kind = (mdn_sampler_kind)words[1],
        .limit = words[2],
        .seed = words[3],
        .mode = (mdn_shares_mode)words[4],
        .merging = words[5] != 0,
    };
    if ((st = mdn_sampler_new(&options, out, err)) != MDN_OK)
        return st;
    if ((st = load(*out, words, err)) != MDN_OK) {
        mdn_sampler_free(*out);
        *out = NULL;
    }
    return st;
}
