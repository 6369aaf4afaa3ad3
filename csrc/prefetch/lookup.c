/* lookup.c - positions become keys and weights, block by block.
 *
 * While the positions of one block are drawn, which is arithmetic, the keys of
 * the block before it are on their way. */
#include "prefetch/lookup.h"

#include <stdbool.h>
#include <string.h>

#define BLOCK 32 /* rows */

static uint64_t
block_size(uint64_t at, uint64_t rows)
{
    return rows - at < BLOCK ? rows - at : BLOCK;
}

/* Put positions where the keys will be, and ask for what lies there. */
static void
draw_block(const mdn_samples *samples, const mdn_pass *pass, uint64_t first,
           uint64_t count, uint64_t *positions)
{
    mdn_pass_positions(pass, first, count, positions);
    for (uint64_t i = 0; i < count; i++)
        __builtin_prefetch(&samples->keys[positions[i]]);
    for (uint64_t i = 0; samples->weights != NULL && i < count; i++)
        __builtin_prefetch(&samples->weights[positions[i]]);
}

/* positions may be the same array as keys. */
void
mdn_lookup_at(const mdn_samples *samples, const uint64_t *positions,
              uint64_t count, uint64_t *keys, double *weights)
{
    for (uint64_t i = 0; weights != NULL && i < count; i++)
        weights[i] = samples->weights[positions[i]];
    for (uint64_t i = 0; i < count; i++)
        keys[i] = samples->keys[positions[i]];
}

static void
look_up_shuffled(const mdn_samples *samples, const mdn_pass *pass,
                 uint64_t first, uint64_t rows, uint64_t *keys, double *weights)
{
    draw_block(samples, pass, first, block_size(0, rows), keys);
    for (uint64_t at = 0; at < rows; at += BLOCK) {
        uint64_t next = at + BLOCK;

        if (next < rows)
            draw_block(samples, pass, first + next, block_size(next, rows),
                       keys + next);
        mdn_lookup_at(samples, keys + at, block_size(at, rows), keys + at,
                      weights != NULL ? weights + at : NULL);
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
    else
        look_up_shuffled(samples, pass, first, rows, keys, weights);
}
