/* volume_ways.h - inside volume: an objective for each of the two ways. */
#ifndef MDN_SELECTOR_VOLUME_WAYS_H
#define MDN_SELECTOR_VOLUME_WAYS_H

#include "selector/volume.h"

/* Both open an objective, whose ctx _close gives back. */
mdn_status mdn_volume_space_open(const mdn_features *features,
                                 mdn_volume_kind kind, double ridge,
                                 mdn_objective *out, mdn_error *err);
void mdn_volume_space_close(mdn_objective *objective);

mdn_status mdn_volume_kernel_open(const mdn_features *features,
                                  mdn_volume_kind kind, double ridge,
                                  uint64_t count, mdn_objective *out,
                                  mdn_error *err);
void mdn_volume_kernel_close(mdn_objective *objective);

#endif
