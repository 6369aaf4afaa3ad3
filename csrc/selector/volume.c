/* volume.c - which way is the shorter. */
#include "selector/volume.h"

#include "selector/volume_ways.h"

#include <stddef.h>

#define WIDTH_MOST 2048u /* of the space: its inverse takes 32 MiB */

mdn_status
mdn_volume(const mdn_features *features, mdn_volume_kind kind, double ridge,
           mdn_volume_way way, const mdn_greedy_options *options,
           uint64_t count, uint64_t *chosen, double *gains, mdn_error *err)
{
    bool plain = features->embeddings.width == 0;
    mdn_objective objective;
    mdn_status st;

    if (!(ridge > 0))
        return mdn_fail(err, MDN_INVALID, "ridge must be above 0, got %g",
                        ridge);
    if (way == MDN_VOLUME_AUTO)
        way = plain && features->rows.width <= WIDTH_MOST ? MDN_VOLUME_SPACE
                                                          : MDN_VOLUME_KERNEL;
    if (way == MDN_VOLUME_SPACE && !plain)
        return mdn_fail(err, MDN_INVALID,
                        "embeddings need the way by the kernel");
    if (way == MDN_VOLUME_SPACE)
        st = mdn_volume_space_open(features, kind, ridge, &objective, err);
    else
        st = mdn_volume_kernel_open(features, kind, ridge, count, &objective,
                                    err);
    if (st != MDN_OK)
        return st;
    st =
        mdn_greedy_choose(&objective, options, count, chosen, gains, NULL, err);
    if (way == MDN_VOLUME_SPACE)
        mdn_volume_space_close(&objective);
    else
        mdn_volume_kernel_close(&objective);
    return st;
}
