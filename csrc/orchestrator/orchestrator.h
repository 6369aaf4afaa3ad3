/* orchestrator.h - the loop of a pipeline, over a table of callbacks.
 *
 * A stream is a sequence of samples; a position says how many of them were
 * consumed, those included that were erased meanwhile and are passed over.  The
 * loop goes along it and stops at each trigger: there, the selection policy
 * chooses from the candidates, the choice becomes a training set, and the whole
 * transition is committed.  What lies behind the callbacks (policies, files, a
 * ledger) is not known here.
 *
 *     mdn_orchestrator_new       from position 0, or from where a run stopped
 *     mdn_orchestrator_next      on to the next trigger, committed
 *     mdn_orchestrator_free
 *
 * For one thread at a time.  A callback must not call back. */
#ifndef MDN_ORCHESTRATOR_ORCHESTRATOR_H
#define MDN_ORCHESTRATOR_ORCHESTRATOR_H

#include "base/blake2b.h"
#include "metadata/stream.h"

#include <stdbool.h>
#include <stdint.h>

/* What a trigger policy says of a block: nothing is due in it, and all of it
 * is consumed; or a trigger is due after so many of its samples. */
typedef struct {
    bool due;
    int64_t after; /* as the policy says it; checked by the loop */
} mdn_answer;

/* What a selection policy chose: strictly ascending keys of candidates. */
typedef struct {
    uint64_t count;
    const uint64_t *keys;
    const double *weights; /* NULL: all alike; else finite, >= 0 */
} mdn_choice;

typedef struct {
    uint64_t trigger;          /* its index */
    uint64_t first;            /* position of its first new sample */
    uint64_t position;         /* and the end of its new samples, exclusive */
    uint64_t candidates_first; /* candidates: positions from here */
    uint64_t candidates_last;  /* to here, exclusive; at most position */
    uint64_t sample_count;     /* chosen; from `write` on */
    uint8_t digest[MDN_DIGEST_SIZE]; /* of the training set; from `write` on */
} mdn_transition;

/* The callbacks.  Each failure ends mdn_orchestrator_next with its status, and
 * the next call tries the same step again; nothing else was lost or changed.
 *
 * arrive   the next block of arrivals, in stream order, starting at the resume
 *          position; count 0 at the end of the stream.  Valid until the next
 *          arrive.
 * inform   ask the trigger policy about the rest of the block.  `offset`
 *          samples of it were consumed already; rest->count >= 1.
 * select   ask the selection policy; there is at least one candidate (without
 *          any the choice is empty, and nobody is asked).  What *out points to
 *          stays valid until the next select.
 * write    make the choice a training set and put its digest down.  Writing
 *          the same choice again must be harmless.
 * commit   all of *transition, and the state of the policies, at once.  Called
 *          again after a failure: for the same transition it must be harmless.
 * advance  between triggers: everything up to `position` was consumed without
 *          a trigger; merely a place from which to resume.
 * known    up to which position samples can be learned from, at a position of
 *          the stream: the others have no label yet.  At most that position,
 *          and the same or further for a later one.  NULL: all of them. */
typedef struct {
    void *ctx;
    const char *trigger_name; /* of the policies, for errors; borrowed */
    const char *selection_name;
    mdn_status (*arrive)(void *ctx, mdn_metadata_block *out, mdn_error *err);
    mdn_status (*inform)(void *ctx, const mdn_metadata_block *rest,
                         uint64_t offset, mdn_answer *out, mdn_error *err);
    mdn_status (*select)(void *ctx, const mdn_transition *transition,
                         mdn_choice *out, mdn_error *err);
    mdn_status (*write)(void *ctx, const mdn_choice *choice,
                        uint8_t digest[MDN_DIGEST_SIZE], mdn_error *err);
    mdn_status (*commit)(void *ctx, const mdn_transition *transition,
                         mdn_error *err);
    mdn_status (*advance)(void *ctx, uint64_t position, mdn_error *err);
    mdn_status (*known)(void *ctx, uint64_t position, uint64_t *out,
                        mdn_error *err);
} mdn_steps;

#define MDN_TAIL_ALL UINT64_MAX /* candidates are all samples so far */

typedef struct {
    const uint64_t *order;  /* keys in stream order; borrowed, must outlive the
                               orchestrator; NULL for arrival order */
    uint64_t tail_triggers; /* former triggers whose samples are candidates */
    uint64_t advance_every; /* blocks from one advance to the next, >= 1 */
    uint64_t position;      /* where to go on; block 1 starts here */
    uint64_t trigger;       /* the index of the trigger sought */
    const uint64_t *starts; /* first positions of triggers 0 .. trigger, the
                               last being the one sought; copied */
} mdn_plan;

typedef struct mdn_orchestrator mdn_orchestrator;

/* steps is copied.  MDN_INVALID when starts do not begin at 0, do not ascend,
 * or go beyond position. */
mdn_status mdn_orchestrator_new(const mdn_steps *steps, const mdn_plan *plan,
                                mdn_orchestrator **out, mdn_error *err);
void mdn_orchestrator_free(mdn_orchestrator *orchestrator); /* accepts NULL */

/* Go on to the next trigger and commit it; *ended instead when the stream ends
 * first (ask again when it may have grown).  MDN_INVALID names the policy and
 * its wrong answer:
 *   - a trigger after more samples than there are, or after less than none;
 *   - two triggers in a row without new samples, since there would be no end;
 *   - a choice of keys that are no candidates, are not strictly ascending, or
 *     have weights that are not finite or below 0. */
mdn_status mdn_orchestrator_next(mdn_orchestrator *orchestrator,
                                 mdn_transition *out, bool *ended,
                                 mdn_error *err);

/* How far it is: the samples consumed, and the trigger sought. */
uint64_t mdn_orchestrator_position(const mdn_orchestrator *orchestrator);
uint64_t mdn_orchestrator_trigger(const mdn_orchestrator *orchestrator);

#endif
