/* lookup.c - positions become keys and weights.
 *
 * Keys of a large set lie anywhere in memory, and each costs a line of it.  So
 * the line of a row is asked for AHEAD rows before its turn; positions are
 * drawn a block before that.  10 ns a row is what it comes to on a machine that
 * serves 100 million such lines a second, whatever the block and the distance:
 * only what is not looked up is cheaper.  A range of keys, which every sample
 * of a dataset is, is computed. */
#include "prefetch/lookup.h"

#include <string.h>

#define BLOCK UINT64_C(256) /* rows drawn together */
#define AHEAD UINT64_C(32)  /* at most BLOCK */

mdn_samples
mdn_samples_of(const uint64_t *keys, const double *weights, uint64_t count,
               bool ascending)
{
    bool is_range = count > 0 && keys[count - 1] == keys[0] + (count - 1);

    for (uint64_t i = 0; is_range && !ascending && i < count; i++)
        is_range = keys[i] == keys[0] + i;
    return (mdn_samples){keys, weights, count, is_range};
}

static uint64_t
smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void
request(const mdn_samples *samples, uint64_t position)
{
    __builtin_prefetch(&samples->keys[position]);
    if (samples->weights != NULL)
        __builtin_prefetch(&samples->weights[position]);
}

/* count rows, whose lines were asked for; those of later ones, of which there
 * are known - count positions, are on the way. */
static void
look_up(const mdn_samples *samples, const uint64_t *positions, uint64_t count,
        uint64_t known, uint64_t *keys, double *weights)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t position = positions[i];

        if (i + AHEAD < known)
            request(samples, positions[i + AHEAD]);
        if (weights != NULL)
            weights[i] = samples->weights[position];
        keys[i] = samples->keys[position];
    }
}

static void
add_first_key(const mdn_samples *samples, const uint64_t *positions,
              uint64_t count, uint64_t *keys)
{
    const uint64_t first = samples->keys[0];

    for (uint64_t i = 0; i < count; i++)
        keys[i] = first + positions[i];
}

void
mdn_lookup_at(const mdn_samples *samples, const uint64_t *positions,
              uint64_t count, uint64_t *keys, double *weights)
{
    if (samples->is_range && weights == NULL) {
        add_first_key(samples, positions, count, keys);
        return;
    }
    for (uint64_t i = 0; i < smaller(AHEAD, count); i++)
        request(samples, positions[i]);
    look_up(samples, positions, count, count, keys, weights);
}

/* Positions are drawn to where their keys will be. */
static void
look_up_shuffled(const mdn_samples *samples, const mdn_pass *pass,
                 uint64_t first, uint64_t rows, uint64_t *keys, double *weights)
{
    uint64_t drawn = smaller(BLOCK, rows);

    mdn_pass_positions(pass, first, drawn, keys);
    for (uint64_t i = 0; i < smaller(AHEAD, rows); i++)
        request(samples, keys[i]);
    for (uint64_t at = 0; at < rows; at += BLOCK) {
        uint64_t more = smaller(BLOCK, rows - drawn);

        mdn_pass_positions(pass, first + drawn, more, keys + drawn);
        drawn += more;
        look_up(samples, keys + at, smaller(BLOCK, rows - at), drawn - at,
                keys + at, weights != NULL ? weights + at : NULL);
    }
}

/* As given: an epoch, or what is asked of it, is one piece. */
static void
copy_pieces(const mdn_samples *samples, uint64_t first, uint64_t rows,
            uint64_t *keys, double *weights)
{
    for (uint64_t done = 0, piece; done < rows; done += piece) {
        uint64_t at = (first + done) % samples->count;

        piece = samples->count - at;
        if (piece > rows - done)
            piece = rows - done;
        memcpy(keys + done, samples->keys + at, piece * sizeof *keys);
        if (weights != NULL)
            memcpy(weights + done, samples->weights + at,
                   piece * sizeof *weights);
    }
}

void
mdn_lookup_rows(const mdn_samples *samples, const mdn_pass *pass,
                uint64_t first, uint64_t rows, uint64_t *keys, double *weights)
{
    if (rows == 0)
        return;
    if (pass->shuffle == MDN_AS_GIVEN)
        copy_pieces(samples, first, rows, keys, weights);
    else if (samples->is_range && weights == NULL) {
        mdn_pass_positions(pass, first, rows, keys);
        add_first_key(samples, keys, rows, keys);
    } else
        look_up_shuffled(samples, pass, first, rows, keys, weights);
}
