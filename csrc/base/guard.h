/* guard.h - reading mapped files that somebody else may cut.
 *
 * To touch a page of a mapping behind the end of its file raises SIGBUS, which
 * ends the process.  Work that is run under a guard is left at that place
 * instead, if the guard owns the address.
 *
 *     mdn_guard_run    do some work; false if it had to be left
 *
 * The handler is the process's and stands from the first run on; signals that
 * no guard owns go to the handler before it, as if ours was not there. */
#ifndef MDN_BASE_GUARD_H
#define MDN_BASE_GUARD_H

#include <stdbool.h>

typedef struct {
    /* Asked by the signal handler, so that it may only look. */
    bool (*owns)(void *ctx, const void *address);
    void *ctx;
} mdn_guard;

/* work(arg) must hold nothing (no lock, memory, file) where it reads what the
 * guard owns, for it may never come back from there: then the result is false
 * and *address the place.  Runs may be nested. */
bool mdn_guard_run(const mdn_guard *guard, void (*work)(void *arg), void *arg,
                   const void **address);

#endif
