/* crew.h - a numbered pile of work, done by some threads. */
#ifndef MDN_INGEST_CREW_H
#define MDN_INGEST_CREW_H

#include "base/error.h"

#include <stdint.h>

#define MDN_CREW_MAX 256 /* threads */

/* Do item `item`; `worker` < threads is its own for that long. */
typedef mdn_status mdn_crew_work(void *self, uint64_t item, uint32_t worker,
                                 mdn_error *err);

/* Do items 0 .. count-1, in this order if there is one thread.  After a failure
 * no later item is begun; the outcome is that of the first item, by number,
 * that failed, whose number is in *failed: all before it are done.  The caller
 * is one of the threads; those that cannot be started are done without. */
mdn_status mdn_crew_run(uint32_t threads, uint64_t count, mdn_crew_work *work,
                        void *self, uint64_t *failed, mdn_error *err);

#endif
