/* timesort.h - which of many numbers comes first. */
#ifndef MDN_STORAGE_TIMESORT_H
#define MDN_STORAGE_TIMESORT_H

#include "base/error.h"

#include <stdint.h>

/* The numbers 0 .. count-1, malloc'd, so that times[out[i]] ascends; equal
 * times in the order of their numbers.  The result is the same for any number
 * of threads.  2^48 numbers at most; 16 bytes of memory for each. */
mdn_status mdn_time_sort(const int64_t *times, uint64_t count, uint32_t threads,
                         uint64_t **out, mdn_error *err);

#endif
