/* ahead.h - the pages of an epoch's records, read in ahead of its workers.
 *
 * A partition is the batches that begin in a slice of partition_size rows of
 * the pass; at least one.  What their samples need is brought in by the thread
 * of staging.h; what is in memory already costs a look at 256 samples of it.
 *
 *     mdn_ahead_start    nothing (*out is NULL) when it is not wanted
 *     mdn_ahead_wait     before a batch is filled
 *     mdn_ahead_done     after it was
 *     mdn_ahead_close    stop and join
 *     mdn_ahead_free     close, and free the memory
 *
 * How many partitions, and how many reads at a time, may be left open.  Then it
 * is looked whether the pass is in memory, when nothing is read ahead; and if
 * not, the first partitions are read with different numbers of requests, for at
 * most two seconds, and the fewest that come close to the best are kept. */
#ifndef MDN_PREFETCH_AHEAD_H
#define MDN_PREFETCH_AHEAD_H

#include "base/error.h"
#include "prefetch/cut.h"
#include "prefetch/lookup.h"
#include "prefetch/pass.h"
#include "storage/view.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#define MDN_AHEAD_OPEN                                                         \
    UINT32_MAX /* of partitions or requests: to be chosen                      \
                */
#define MDN_AHEAD_PARTITIONS_MAX 1024u
#define MDN_AHEAD_REQUESTS_MAX 1024u
#define MDN_AHEAD_TRIED 3

typedef enum {
    MDN_AHEAD_NOT_YET,  /* no epoch has begun */
    MDN_AHEAD_OFF,      /* 0 partitions were asked for */
    MDN_AHEAD_RESIDENT, /* all is in memory: 0 partitions */
    MDN_AHEAD_PROBING,
    MDN_AHEAD_PROBED,
    MDN_AHEAD_GIVEN, /* nothing was left open */
} mdn_ahead_state;

/* What is done, and why. */
typedef struct {
    mdn_ahead_state state;
    uint32_t partitions, requests;
    uint32_t tried_count; /* numbers of requests that were tried */
    uint32_t tried[MDN_AHEAD_TRIED];
    double rates[MDN_AHEAD_TRIED]; /* bytes per second */
    double probe_seconds;
    uint64_t partition_bytes; /* of the last one that was read */
} mdn_ahead_choice;

/* Where a choice is kept from epoch to epoch. */
typedef struct {
    pid_t pid; /* of the process that made it */
    pthread_mutex_t lock;
    mdn_ahead_choice choice; /* guarded: of the epoch that began last */
    mdn_ahead_choice probed; /* guarded: the last one that was probed for */
} mdn_ahead_memory;

mdn_status mdn_ahead_memory_init(mdn_ahead_memory *memory, mdn_error *err);
void mdn_ahead_memory_destroy(mdn_ahead_memory *memory);
/* As of now; in a forked child MDN_AHEAD_NOT_YET. */
mdn_ahead_choice mdn_ahead_memory_look(mdn_ahead_memory *memory);

/* All borrowed; must outlive it. */
typedef struct {
    mdn_view *view;
    const mdn_samples *samples;
    const mdn_cut *cut;
    const mdn_pass *pass;
    mdn_ahead_memory *memory;
    uint64_t first_batch, stride; /* >= 1: ticket t is batch first + t*stride */
    uint64_t ticket_count;
    uint64_t partition_size; /* rows; >= 1 */
    uint64_t window_batches; /* that are sorted together; 0: none */
    unsigned what;           /* MDN_WANT_... */
    uint32_t partitions;     /* ahead; 0: none, so off; or MDN_AHEAD_OPEN */
    uint32_t requests;       /* at a time; >= 1, or MDN_AHEAD_OPEN */
    uint32_t depth;          /* of the prefetcher */
    uint64_t budget_bytes;   /* of what was read in and is not used yet */
} mdn_ahead_options;

typedef struct mdn_ahead mdn_ahead;

mdn_status mdn_ahead_start(const mdn_ahead_options *options, mdn_ahead **out,
                           mdn_error *err);

/* All of these accept NULL, and do nothing then. */
void mdn_ahead_wait(mdn_ahead *ahead, uint64_t ticket);
bool mdn_ahead_is_ready(const mdn_ahead *ahead,
                        uint64_t ticket); /* NULL: true */
void mdn_ahead_done(mdn_ahead *ahead, uint64_t ticket);
void mdn_ahead_close(mdn_ahead *ahead);
void mdn_ahead_free(mdn_ahead *ahead);

#endif
