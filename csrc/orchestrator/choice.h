/* choice.h - is what a selection policy chose among its candidates? */
#ifndef MDN_ORCHESTRATOR_CHOICE_H
#define MDN_ORCHESTRATOR_CHOICE_H

#include "orchestrator/orchestrator.h"

/* The keys must ascend strictly and be candidates: positions first .. last-1
 * of order (NULL: arrival order, where a position is its key).  The weights
 * must be finite and not below 0.  MDN_INVALID names the policy and the first
 * wrong key. Takes one bit per key between the smallest and the largest chosen.
 */
mdn_status mdn_choice_check(const mdn_choice *choice, const uint64_t *order,
                            uint64_t first, uint64_t last, const char *policy,
                            mdn_error *err);

#endif
