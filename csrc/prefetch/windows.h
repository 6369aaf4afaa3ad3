/* windows.h - what batches share: made once, by the first worker that comes.
 *
 * Windows are numbered; each has a plan, an array, and a number of uses, after
 * which it is freed.  A worker that comes to a window whose plan another one is
 * making waits for it; others make the plans of other windows meanwhile.
 * Whoever makes a plan waits for nobody, so that all of them come to an end. */
#ifndef MDN_PREFETCH_WINDOWS_H
#define MDN_PREFETCH_WINDOWS_H

#include "base/error.h"

#include <stdint.h>

typedef struct mdn_windows mdn_windows;

typedef struct {
    /* Plans that exist at the same time.  Users in the order of windows need
     * one each, and one more: a window of which some uses have not begun. */
    uint32_t live_max;
    void *ctx; /* borrowed; must outlive the windows */
    /* Called without a lock, for each window once: an array to be freed with
     * free, or a failure, which every use of the window gets. */
    mdn_status (*plan)(void *ctx, uint64_t window, uint64_t **out,
                       mdn_error *err);
    uint64_t (*uses)(void *ctx, uint64_t window); /* >= 1 */
} mdn_windows_options;

mdn_status mdn_windows_new(const mdn_windows_options *options,
                           mdn_windows **out, mdn_error *err);
/* Accepts NULL.  In a forked child the memory stays: the lock in it may be held
 * for ever. */
void mdn_windows_free(mdn_windows *windows);

/* The plan of a window, valid until the same number is put back.  Each get is
 * one use, and is followed by one put, also when it failed. */
mdn_status mdn_windows_get(mdn_windows *windows, uint64_t window,
                           const uint64_t **out, mdn_error *err);
void mdn_windows_put(mdn_windows *windows, uint64_t window);

#endif
