/* orchestrator.c - the loop of a pipeline, over a table of callbacks.
 *
 *   (1) a block of arrivals comes, in stream order
 *   (2) the trigger policy is informed: a trigger is due after n of them, or
 *       none is, and all of them are consumed
 *   (3) the selection policy chooses from the candidates
 *   (4) its choice becomes a training set: a file, named by its digest
 *   (5) the ledger commits position, policy state and digest in one transaction
 *   (6) the trigger is handed out, to be trained on; (2) goes on with the rest
 *
 * All before (5) can be done again with the same outcome, so that after a
 * crash the loop goes on from the last commit and there is nothing to mend.
 * Within a process the stage says what was done for the trigger at hand, so
 * that after a failure the next call takes up the step that failed.
 *
 *     starts[0] = 0 <= ... <= starts[trigger] <= position
 *
 * starts[i] is where the new samples of trigger i begin, and where those of
 * trigger i - 1 end.  Where labels come late, a sample is a candidate at the
 * first trigger that finds its label known: the candidates that trigger i
 * brings are those from known(starts[i]) to known(starts[i + 1]). */
#include "orchestrator/orchestrator.h"
#include "base/bytes.h"
#include "orchestrator/choice.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef enum {
    SEEKING, /* no trigger yet: (1), (2) */
    DUE,     /* (3) is next */
    CHOSEN,  /* (4) is next, and then (5) */
} stage;

struct mdn_orchestrator {
    mdn_steps steps;
    const uint64_t *order; /* borrowed; must outlive this */
    uint64_t tail_triggers;
    uint64_t advance_every;

    uint64_t position;
    uint64_t recorded; /* position of the last commit or advance */
    uint64_t trigger;  /* the one that is sought */
    uint64_t *starts;  /* owned: trigger + 1 of them */
    uint64_t capacity; /* of starts, >= trigger + 2 from DUE on */

    mdn_metadata_block rest; /* of the block at hand, not yet consumed */
    uint64_t offset;         /* samples of that block consumed */
    uint64_t quiet_blocks;   /* consumed since the last commit or advance */

    stage stage;
    mdn_transition transition; /* from DUE on; its candidates from CHOSEN on */
    mdn_choice choice;         /* from CHOSEN on; borrowed from the steps */
};

static void
consume(mdn_orchestrator *o, uint64_t count)
{
    if (o->rest.positions == NULL) {
        o->position += count;
    } else if (count > 0) {
        o->position = o->rest.positions[count - 1];
        o->rest.positions += count;
    }
    o->rest.count -= count;
    o->rest.keys += count;
    o->rest.timestamps += count;
    if (o->rest.labels != NULL)
        o->rest.labels += count;
    o->offset += count;
}

static mdn_status
check_answer(const mdn_orchestrator *o, mdn_answer answer, mdn_error *err)
{
    const char *name = o->steps.trigger_name;
    bool empty, empty_before;

    if (!answer.due)
        return MDN_OK;
    if (answer.after < 0 || (uint64_t)answer.after > o->rest.count)
        return mdn_fail(err, MDN_INVALID,
                        "%s answered %" PRId64 " when informed of %" PRIu64
                        " samples: a trigger falls due after 0 to %" PRIu64
                        " of them, or not at all (None)",
                        name, answer.after, o->rest.count, o->rest.count);
    empty = answer.after == 0 && o->position == o->starts[o->trigger];
    empty_before =
        o->trigger > 0 && o->starts[o->trigger - 1] == o->starts[o->trigger];
    if (empty && empty_before)
        return mdn_fail(err, MDN_INVALID,
                        "%s answered 0 again at position %" PRIu64
                        ", after a trigger there without new samples: it "
                        "would never go on; answer None, or at least 1",
                        name, o->position);
    return MDN_OK;
}

/* Room for one more start, so that nothing can fail after a commit. */
static mdn_status
reserve_start(mdn_orchestrator *o, mdn_error *err)
{
    uint64_t capacity = 2 * (o->trigger + 2), size;
    uint64_t *starts;

    if (o->trigger + 2 <= o->capacity)
        return MDN_OK;
    if (mdn_mul_overflows(capacity, sizeof *starts, &size))
        return mdn_fail_nomem(err, UINT64_MAX);
    starts = realloc(o->starts, size);
    if (starts == NULL)
        return mdn_fail_nomem(err, size);
    o->starts = starts;
    o->capacity = capacity;
    return MDN_OK;
}

static mdn_status
advance(mdn_orchestrator *o, mdn_error *err)
{
    mdn_status st = o->steps.advance(o->steps.ctx, o->position, err);

    if (st == MDN_OK) {
        o->recorded = o->position;
        o->quiet_blocks = 0;
    }
    return st;
}

/* The trigger is due here: which samples are its own? */
static void
start_transition(mdn_orchestrator *o)
{
    o->transition = (mdn_transition){
        .trigger = o->trigger,
        .first = o->starts[o->trigger],
        .position = o->position,
    };
    o->stage = DUE;
}

static mdn_status
known(const mdn_orchestrator *o, uint64_t position, uint64_t *out,
      mdn_error *err)
{
    *out = position;
    if (o->steps.known == NULL || position == 0)
        return MDN_OK;
    return o->steps.known(o->steps.ctx, position, out, err);
}

/* And which are its candidates? */
static mdn_status
find_candidates(mdn_orchestrator *o, mdn_error *err)
{
    mdn_transition *t = &o->transition;
    uint64_t tail = o->tail_triggers;
    uint64_t oldest = tail < o->trigger ? o->trigger - tail : 0;
    mdn_status st;

    st = known(o, o->starts[oldest], &t->candidates_first, err);
    if (st == MDN_OK)
        st = known(o, o->position, &t->candidates_last, err);
    if (st != MDN_OK)
        return st;
    if (t->candidates_first <= t->candidates_last
        && t->candidates_last <= o->position)
        return MDN_OK;
    return mdn_fail(err, MDN_INVALID,
                    "candidates from position %" PRIu64 " to %" PRIu64
                    " contradict the position %" PRIu64,
                    t->candidates_first, t->candidates_last, o->position);
}

/* (1) and (2), until a trigger is due or the stream ends. */
static mdn_status
seek(mdn_orchestrator *o, bool *ended, mdn_error *err)
{
    const mdn_steps *s = &o->steps;
    mdn_answer answer = {.due = false};
    mdn_status st;

    if ((st = reserve_start(o, err)) != MDN_OK)
        return st;
    while (!answer.due) {
        if (o->quiet_blocks >= o->advance_every
            && (st = advance(o, err)) != MDN_OK)
            return st;
        if (o->rest.count == 0) {
            o->offset = 0;
            st = s->arrive(s->ctx, &o->rest, err);
            if (st != MDN_OK) {
                o->rest.count = 0;
                return st;
            }
        }
        if (o->rest.count == 0) {
            *ended = true;
            return o->recorded < o->position ? advance(o, err) : MDN_OK;
        }
        answer = (mdn_answer){.due = false};
        if ((st = s->inform(s->ctx, &o->rest, o->offset, &answer, err))
            != MDN_OK)
            return st;
        if ((st = check_answer(o, answer, err)) != MDN_OK)
            return st;
        consume(o, answer.due ? (uint64_t)answer.after : o->rest.count);
        if (!answer.due)
            o->quiet_blocks++;
    }
    start_transition(o);
    return MDN_OK;
}

/* (3) */
static mdn_status
choose(mdn_orchestrator *o, mdn_error *err)
{
    const mdn_transition *t = &o->transition;
    mdn_choice choice = {.count = 0};
    mdn_status st = find_candidates(o, err);

    if (st == MDN_OK && t->candidates_first < t->candidates_last)
        st = o->steps.select(o->steps.ctx, t, &choice, err);
    if (st != MDN_OK)
        return st;
    st = mdn_choice_check(&choice, o->order, t->candidates_first,
                          t->candidates_last, o->steps.selection_name, err);
    if (st != MDN_OK)
        return st;
    o->choice = choice;
    o->transition.sample_count = choice.count;
    o->stage = CHOSEN;
    return MDN_OK;
}

static void
finish_transition(mdn_orchestrator *o)
{
    assert(o->trigger + 2 <= o->capacity);
    o->trigger++;
    o->starts[o->trigger] = o->position;
    o->recorded = o->position;
    o->quiet_blocks = 0;
    o->stage = SEEKING;
}

static mdn_status
check_plan(const mdn_plan *plan, mdn_error *err)
{
    if (plan->starts[0] != 0)
        return mdn_fail(err, MDN_INVALID,
                        "trigger 0 must start at position 0, not %" PRIu64,
                        plan->starts[0]);
    for (uint64_t i = 1; i <= plan->trigger; i++) {
        if (plan->starts[i] < plan->starts[i - 1])
            return mdn_fail(err, MDN_INVALID,
                            "trigger %" PRIu64 " starts at position %" PRIu64
                            ", before trigger %" PRIu64 " at %" PRIu64,
                            i, plan->starts[i], i - 1, plan->starts[i - 1]);
    }
    if (plan->starts[plan->trigger] > plan->position)
        return mdn_fail(err, MDN_INVALID,
                        "trigger %" PRIu64 " starts at position %" PRIu64
                        ", beyond the position %" PRIu64 " to go on from",
                        plan->trigger, plan->starts[plan->trigger],
                        plan->position);
    return MDN_OK;
}

mdn_status
mdn_orchestrator_new(const mdn_steps *steps, const mdn_plan *plan,
                     mdn_orchestrator **out, mdn_error *err)
{
    mdn_orchestrator *o;
    mdn_status st;

    assert(plan->advance_every >= 1);
    *out = NULL;
    if ((st = check_plan(plan, err)) != MDN_OK)
        return st;
    o = calloc(1, sizeof *o);
    if (o == NULL)
        return mdn_fail_nomem(err, sizeof *o);
    o->steps = *steps;
    o->order = plan->order;
    o->tail_triggers = plan->tail_triggers;
    o->advance_every = plan->advance_every;
    o->position = o->recorded = plan->position;
    o->trigger = plan->trigger;
    if ((st = reserve_start(o, err)) != MDN_OK) {
        mdn_orchestrator_free(o);
        return st;
    }
    memcpy(o->starts, plan->starts, (plan->trigger + 1) * sizeof *o->starts);
    *out = o;
    return MDN_OK;
}

void
mdn_orchestrator_free(mdn_orchestrator *orchestrator)
{
    if (orchestrator == NULL)
        return;
    free(orchestrator->starts);
    free(orchestrator);
}

mdn_status
mdn_orchestrator_next(mdn_orchestrator *o, mdn_transition *out, bool *ended,
                      mdn_error *err)
{
    const mdn_steps *s = &o->steps;
    mdn_transition *t = &o->transition;
    mdn_status st;

    *ended = false;
    if (o->stage == SEEKING) {
        st = seek(o, ended, err); /* 1, 2 */
        if (st != MDN_OK || *ended)
            return st;
    }
    if (o->stage == DUE && (st = choose(o, err)) != MDN_OK) /* 3 */
        return st;
    if ((st = s->write(s->ctx, &o->choice, t->digest, err)) != MDN_OK) /* 4 */
        return st;
    if ((st = s->commit(s->ctx, t, err)) != MDN_OK) /* 5 */
        return st;
    finish_transition(o);
    *out = *t; /* the caller trains: 6 */
    return MDN_OK;
}

uint64_t
mdn_orchestrator_position(const mdn_orchestrator *orchestrator)
{
    return orchestrator->position;
}

uint64_t
mdn_orchestrator_trigger(const mdn_orchestrator *orchestrator)
{
    return orchestrator->trigger;
}
