/* herding.h - choose rows whose mean is that of all, one after the other. */
#ifndef MDN_SELECTOR_HERDING_H
#define MDN_SELECTOR_HERDING_H

#include "selector/features.h"

/* Choice t is the row, of those left, with which the mean of the t rows chosen
 * is nearest to the mean of all; ties go to the lowest row.  errors (count):
 * the distances of the means.  MDN_INVALID when there are fewer rows. */
mdn_status mdn_herding(const mdn_features *features, uint64_t count,
                       uint64_t *chosen, double *errors, mdn_error *err);

#endif
