/* strays.h - files in the directory of a dataset that are no part of it. */
#ifndef MDN_STORAGE_STRAYS_H
#define MDN_STORAGE_STRAYS_H

#include "storage/check_segment.h"

/* Visit them, sorted by name. */
mdn_status mdn_check_strays(const mdn_subject *subject, mdn_finding_visit visit,
                            void *ctx, mdn_error *err);

#endif
