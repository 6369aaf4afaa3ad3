/* buckets.c - a stable sort of rows by the length of a payload.
 *
 * A word holds the length of a row above its number, and words are sorted by
 * the length alone, a byte at a time from the lowest, each pass stable.  Three
 * arrays of 8 bytes a row do for everything: what is in them changes with the
 * step that is done,
 *
 *     positions   positions                      (kept)
 *     words       keys       words of rows       sorted words
 *     spare       offsets    room for a pass     positions, sorted
 */
#include "prefetch/buckets.h"

#include "base/random.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

#define DIGITS 256

/* Move words to where they belong by the byte at shift; false, and nothing
 * done, when all have the same. */
static bool
sort_by_byte(const uint64_t *words, uint64_t count, uint32_t shift,
             uint64_t *out)
{
    uint64_t place[DIGITS] = {0}, next = 0;

    for (uint64_t i = 0; i < count; i++)
        place[words[i] >> shift & (DIGITS - 1)]++;
    if (place[words[0] >> shift & (DIGITS - 1)] == count)
        return false;
    for (uint32_t d = 0; d < DIGITS; d++) {
        uint64_t here = place[d];

        place[d] = next;
        next += here;
    }
    for (uint64_t i = 0; i < count; i++)
        out[place[words[i] >> shift & (DIGITS - 1)]++] = words[i];
    return true;
}

/* Positions in the order of the lengths that offsets tell; words and offsets
 * are both used up.  Which of the two arrays holds the outcome. */
static uint64_t *
sort_positions(const uint64_t *positions, uint64_t rows, uint64_t *words,
               int64_t *offsets)
{
    uint64_t *other = (uint64_t *)(void *)offsets;

    for (uint64_t i = 0; i < rows; i++)
        words[i] = (uint64_t)(offsets[i + 1] - offsets[i]) << 32 | i;
    for (uint32_t shift = 32; shift < 64; shift += 8)
        if (sort_by_byte(words, rows, shift, other)) {
            uint64_t *sorted = other;

            other = words;
            words = sorted;
        }
    for (uint64_t i = 0; i < rows; i++)
        words[i] = positions[words[i] & UINT32_MAX];
    return words;
}

uint64_t
mdn_buckets_window(const mdn_buckets *buckets, uint64_t batch)
{
    return batch / buckets->window_batches;
}

uint64_t
mdn_buckets_first_row(const mdn_buckets *buckets, uint64_t window)
{
    return window * buckets->window_batches * buckets->cut->batch_size;
}

uint64_t
mdn_buckets_rows(const mdn_buckets *buckets, uint64_t window)
{
    uint64_t most = buckets->window_batches * buckets->cut->batch_size;
    uint64_t left = mdn_cut_rows(buckets->cut) - window * most;

    return left < most ? left : most;
}

uint64_t
mdn_buckets_batch(const mdn_buckets *buckets, const mdn_pass *pass,
                  uint64_t batch)
{
    uint64_t window = mdn_buckets_window(buckets, batch);
    uint64_t first = window * buckets->window_batches;
    uint64_t whole =
        mdn_buckets_rows(buckets, window) / buckets->cut->batch_size;
    mdn_deal order;
    uint64_t word;

    if (pass->shuffle == MDN_AS_GIVEN || batch - first >= whole)
        return batch;
    word = mdn_draw(mdn_stream(pass->seed, MDN_STREAM_WINDOWS), pass->epoch);
    mdn_deal_init(&order, whole);
    mdn_deal_by(&order, mdn_draw(word, window));
    return first + mdn_deal_at(&order, batch - first);
}

mdn_status
mdn_buckets_plan(const mdn_buckets *buckets, const mdn_pass *pass,
                 uint64_t window, uint64_t **out, mdn_error *err)
{
    uint64_t first = mdn_buckets_first_row(buckets, window);
    uint64_t rows = mdn_buckets_rows(buckets, window);
    uint64_t *positions = malloc(rows * sizeof *positions);
    uint64_t *words = malloc(rows * sizeof *words);
    int64_t *offsets = malloc((rows + 1) * sizeof *offsets);
    mdn_status st;

    assert(rows >= 1 && rows <= MDN_BUCKET_ROWS_MAX);
    *out = NULL;
    if (positions == NULL || words == NULL || offsets == NULL)
        st = mdn_fail_nomem(err, 3 * rows * sizeof *words);
    else {
        mdn_pass_positions(pass, first, rows, positions);
        mdn_lookup_at(buckets->samples, positions, rows, words, NULL);
        st = mdn_view_offsets(buckets->view, words, rows, buckets->field,
                              offsets, err);
    }
    if (st == MDN_OK)
        *out = sort_positions(positions, rows, words, offsets);
    free(positions);
    if (*out != words)
        free(words);
    if (*out == NULL || (void *)*out != (void *)offsets)
        free(offsets);
    return st;
}
