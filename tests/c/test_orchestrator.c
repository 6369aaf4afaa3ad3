/* test_orchestrator.c - the loop over a small pipeline that lives in arrays. */
#include "base/random.h"
#include "check.h"
#include "orchestrator/choice.h"
#include "orchestrator/orchestrator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 100, TRIGGERS_MAX = 32 };

typedef enum {
    NOTHING,
    ARRIVE,
    INFORM,
    SELECT,
    WRITE,
    COMMIT,
    ADVANCE,
    KNOWN
} step;

/* A pipeline whose trigger is due after every `every` samples, whose selection
 * takes every second candidate, and whose ledger is two arrays.  The state of
 * the policy is `missing`; the ledger keeps it with each transition. */
typedef struct {
    uint64_t block_count;
    int64_t every;
    int64_t lag;           /* samples whose labels are not known; 0: none */
    const uint64_t *order; /* NULL: arrival order */

    uint64_t next; /* of the stream */
    int64_t missing;
    uint64_t chosen[SAMPLES];
    uint64_t offset; /* that inform has to be given next */

    mdn_transition ledger[TRIGGERS_MAX];
    uint64_t committed;
    uint64_t position; /* of the last commit or advance */
    int64_t saved;     /* missing, as of then */
    uint64_t advances;

    step fail_in; /* refuse call number fail_at of this step */
    uint64_t fail_at;
    uint64_t calls[KNOWN + 1];
} pipeline;

static uint64_t keys[SAMPLES];
static int64_t timestamps[SAMPLES], labels[SAMPLES];

static bool
refused(pipeline *p, step which)
{
    return p->calls[which]++ == p->fail_at && p->fail_in == which;
}

static mdn_status
refuse(mdn_error *err)
{
    return mdn_fail(err, MDN_CALLBACK, "refused");
}

static mdn_status
arrive(void *ctx, mdn_metadata_block *out, mdn_error *err)
{
    pipeline *p = ctx;
    uint64_t left = SAMPLES - p->next;

    if (refused(p, ARRIVE)) {
        out->count = 5; /* half a block must not be believed */
        return refuse(err);
    }
    out->count = left < p->block_count ? left : p->block_count;
    out->keys = (p->order ? p->order : keys) + p->next;
    out->timestamps = timestamps + p->next;
    out->labels = labels + p->next;
    p->next += out->count;
    p->offset = 0;
    return MDN_OK;
}

static mdn_status
inform(void *ctx, const mdn_metadata_block *rest, uint64_t offset,
       mdn_answer *out, mdn_error *err)
{
    pipeline *p = ctx;

    if (refused(p, INFORM))
        return refuse(err);
    CHECK(rest->count >= 1);
    CHECK(offset == p->offset);
    CHECK(rest->timestamps[0] == rest->labels[0]);
    if ((int64_t)rest->count < p->missing) {
        p->missing -= (int64_t)rest->count;
        return MDN_OK;
    }
    *out = (mdn_answer){.due = true, .after = p->missing};
    p->offset += (uint64_t)p->missing;
    p->missing = p->every;
    return MDN_OK;
}

static int
by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static mdn_status
choose(void *ctx, const mdn_transition *t, mdn_choice *out, mdn_error *err)
{
    pipeline *p = ctx;
    uint64_t count = 0;

    if (refused(p, SELECT))
        return refuse(err);
    for (uint64_t i = t->candidates_first; i < t->candidates_last; i += 2)
        p->chosen[count++] = p->order ? p->order[i] : i;
    qsort(p->chosen, count, sizeof *p->chosen, by_value);
    *out = (mdn_choice){.count = count, .keys = p->chosen};
    return MDN_OK;
}

static mdn_status
write_set(void *ctx, const mdn_choice *choice, uint8_t digest[MDN_DIGEST_SIZE],
          mdn_error *err)
{
    mdn_blake2b hash;

    if (refused(ctx, WRITE))
        return refuse(err);
    mdn_blake2b_init(&hash);
    mdn_blake2b_update(&hash, choice->keys, choice->count * 8);
    mdn_blake2b_final(&hash, digest);
    return MDN_OK;
}

static mdn_status
commit(void *ctx, const mdn_transition *transition, mdn_error *err)
{
    pipeline *p = ctx;

    if (refused(p, COMMIT))
        return refuse(err);
    CHECK(p->committed == transition->trigger);
    p->ledger[p->committed++] = *transition;
    p->position = transition->position;
    p->saved = p->missing;
    return MDN_OK;
}

static mdn_status
advance(void *ctx, uint64_t position, mdn_error *err)
{
    pipeline *p = ctx;

    if (refused(p, ADVANCE))
        return refuse(err);
    CHECK(position > p->position);
    p->position = position;
    p->saved = p->missing;
    p->advances++;
    return MDN_OK;
}

static mdn_status
known(void *ctx, uint64_t position, uint64_t *out, mdn_error *err)
{
    pipeline *p = ctx;
    int64_t known = (int64_t)position - p->lag;

    if (refused(p, KNOWN))
        return refuse(err);
    *out = known > 0 ? (uint64_t)known : 0;
    return MDN_OK;
}

static pipeline
make_pipeline(uint64_t block_count, int64_t every)
{
    return (pipeline){.block_count = block_count,
                      .every = every,
                      .missing = every,
                      .saved = every};
}

static mdn_steps
steps_of(pipeline *p)
{
    return (mdn_steps){.ctx = p,
                       .trigger_name = "Every",
                       .selection_name = "Second",
                       .arrive = arrive,
                       .inform = inform,
                       .select = choose,
                       .write = write_set,
                       .commit = commit,
                       .advance = advance,
                       .known = p->lag != 0 ? known : NULL};
}

/* A fresh loop over what the pipeline's ledger says. */
static mdn_orchestrator *
resume(pipeline *p, uint64_t tail, uint64_t advance_every)
{
    mdn_steps steps = steps_of(p);
    mdn_orchestrator *o = NULL;
    uint64_t starts[TRIGGERS_MAX + 1] = {0};
    mdn_plan plan = {.order = p->order,
                     .tail_triggers = tail,
                     .advance_every = advance_every,
                     .position = p->position,
                     .trigger = p->committed,
                     .starts = starts};

    for (uint64_t i = 0; i < p->committed; i++)
        starts[i + 1] = p->ledger[i].position;
    p->next = p->position;
    p->missing = p->saved;
    CHECK(mdn_orchestrator_new(&steps, &plan, &o, NULL) == MDN_OK);
    return o;
}

/* To the end of the stream; the number of triggers. */
static uint64_t
run(mdn_orchestrator *o)
{
    mdn_transition t;
    bool ended = false;
    uint64_t count = 0;

    while (mdn_orchestrator_next(o, &t, &ended, NULL) == MDN_OK && !ended)
        count++;
    CHECK(ended);
    return count;
}

static bool
same_ledgers(const pipeline *a, const pipeline *b)
{
    bool same = a->committed == b->committed && a->position == b->position;

    for (uint64_t i = 0; same && i < a->committed; i++)
        same = memcmp(&a->ledger[i], &b->ledger[i], sizeof a->ledger[i]) == 0;
    return same;
}

static pipeline
undisturbed_late(uint64_t tail, const uint64_t *order, int64_t lag)
{
    pipeline p = make_pipeline(SAMPLES, 7);
    mdn_orchestrator *o;

    p.order = order;
    p.lag = lag;
    o = resume(&p, tail, 1);
    CHECK(run(o) == SAMPLES / 7);
    mdn_orchestrator_free(o);
    return p;
}

static pipeline
undisturbed(uint64_t tail, const uint64_t *order)
{
    return undisturbed_late(tail, order, 0);
}

static void
a_transition_names_its_samples_and_its_candidates(void)
{
    pipeline p = undisturbed(2, NULL);

    for (uint64_t i = 0; i < p.committed; i++) {
        CHECK(p.ledger[i].trigger == i);
        CHECK(p.ledger[i].first == 7 * i);
        CHECK(p.ledger[i].position == 7 * (i + 1));
        CHECK(p.ledger[i].candidates_first == (i < 2 ? 0 : 7 * (i - 2)));
        CHECK(p.ledger[i].candidates_last == p.ledger[i].position);
    }
    CHECK(p.ledger[0].sample_count == 4);
    CHECK(p.ledger[5].sample_count == 11);
    CHECK(p.position == SAMPLES); /* the end of the stream is recorded too */
}

static void
tails_reach_from_nothing_to_everything(void)
{
    pipeline none = undisturbed(0, NULL), all = undisturbed(MDN_TAIL_ALL, NULL);

    CHECK(none.ledger[9].candidates_first == none.ledger[9].first);
    CHECK(all.ledger[9].candidates_first == 0);
}

/* The candidates of all triggers, one behind the other, leave nothing out. */
static void
samples_are_candidates_once_their_labels_are_known(void)
{
    pipeline p = undisturbed_late(0, NULL, 10), all, few;
    uint64_t last = 0;

    for (uint64_t i = 0; i < p.committed; i++) {
        CHECK(p.ledger[i].first == 7 * i);
        CHECK(p.ledger[i].candidates_first == last);
        last = p.ledger[i].candidates_last;
        CHECK(last == (i == 0 ? 0 : 7 * (i + 1) - 10));
    }
    CHECK(p.calls[SELECT] == p.committed - 1); /* no label at the first */
    all = undisturbed_late(MDN_TAIL_ALL, NULL, 10);
    CHECK(all.ledger[9].candidates_first == 0);
    CHECK(all.ledger[9].candidates_last == 60);
    few = undisturbed_late(2, NULL, 10);
    CHECK(few.ledger[9].candidates_first == 7 * 7 - 10);
    CHECK(few.ledger[9].sample_count == 11);
}

static void
labels_of_what_was_not_followed_yet_cannot_be_known(void)
{
    pipeline p = make_pipeline(10, 7);
    mdn_orchestrator *o;
    mdn_transition t;
    mdn_error err;
    bool ended;

    p.lag = -1;
    o = resume(&p, 0, 1);
    CHECK(mdn_orchestrator_next(o, &t, &ended, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "contradict the position 7") != NULL);
    CHECK(p.committed == 0);
    mdn_orchestrator_free(o);
}

static void
blocks_do_not_matter(void)
{
    pipeline expected = undisturbed(2, NULL);

    for (uint64_t block_count = 1; block_count <= SAMPLES; block_count++) {
        pipeline p = make_pipeline(block_count, 7);
        mdn_orchestrator *o = resume(&p, 2, 3);

        run(o);
        CHECK(same_ledgers(&p, &expected));
        mdn_orchestrator_free(o);
    }
}

/* After any failing call the loop goes on where it stopped: in the same
 * process, or in a fresh one that knows only the ledger. */
static void
a_failed_step_loses_nothing(void)
{
    pipeline expected = undisturbed_late(2, NULL, 10);

    for (int fresh = 0; fresh < 2; fresh++) {
        for (step which = ARRIVE; which <= KNOWN; which++) {
            for (uint64_t at = 0;; at++) {
                pipeline p = make_pipeline(3, 7);
                mdn_orchestrator *o;
                mdn_transition t;
                bool ended = false;
                mdn_status st;

                p.lag = 10;
                p.fail_in = which;
                p.fail_at = at;
                o = resume(&p, 2, 1);
                do
                    st = mdn_orchestrator_next(o, &t, &ended, NULL);
                while (st == MDN_OK && !ended);
                if (st == MDN_OK) { /* there is no such call */
                    mdn_orchestrator_free(o);
                    break;
                }
                CHECK(st == MDN_CALLBACK);
                if (fresh) {
                    mdn_orchestrator_free(o);
                    o = resume(&p, 2, 1);
                }
                run(o);
                CHECK(same_ledgers(&p, &expected));
                mdn_orchestrator_free(o);
            }
        }
    }
}

static void
advances_come_between_triggers_every_so_many_blocks(void)
{
    pipeline p = make_pipeline(1, 1000);
    mdn_orchestrator *o = resume(&p, 0, 8);

    CHECK(run(o) == 0);
    CHECK(p.advances == 13); /* at 8, 16, ... 96 and at the end */
    CHECK(p.position == SAMPLES);
    CHECK(mdn_orchestrator_position(o) == SAMPLES);
    CHECK(mdn_orchestrator_trigger(o) == 0);
    mdn_orchestrator_free(o);
}

static void
a_stream_that_ends_at_a_trigger_is_recorded_by_its_commit(void)
{
    pipeline p = make_pipeline(7, 10);
    mdn_orchestrator *o = resume(&p, 0, 1000);

    CHECK(run(o) == 10);
    CHECK(p.position == SAMPLES && p.advances == 0);
    mdn_orchestrator_free(o);
}

/* A selection policy has a state: in one process it is asked once. */
static void
a_choice_that_could_not_be_written_is_not_made_again(void)
{
    pipeline p = make_pipeline(10, 10);
    mdn_orchestrator *o = resume(&p, 0, 1);
    mdn_transition t;
    bool ended;

    p.fail_in = WRITE;
    CHECK(mdn_orchestrator_next(o, &t, &ended, NULL) == MDN_CALLBACK);
    CHECK(mdn_orchestrator_next(o, &t, &ended, NULL) == MDN_OK);
    CHECK(p.calls[SELECT] == 1 && p.calls[INFORM] == 1);
    CHECK(t.sample_count == 5);
    mdn_orchestrator_free(o);
}

static void
an_empty_stream_has_no_trigger(void)
{
    pipeline p = make_pipeline(10, 1);
    mdn_orchestrator *o;

    p.position = SAMPLES;
    o = resume(&p, 0, 1);
    CHECK(run(o) == 0);
    CHECK(p.advances == 0);
    mdn_orchestrator_free(o);
}

/* Answers what the test says, whatever it is. */
static mdn_status
recite(void *ctx, const mdn_metadata_block *rest, uint64_t offset,
       mdn_answer *out, mdn_error *err)
{
    pipeline *p = ctx;

    (void)rest;
    (void)offset;
    (void)err;
    *out = (mdn_answer){.due = true, .after = p->every};
    return MDN_OK;
}

static mdn_status
first_answer(int64_t answer, mdn_error *err)
{
    pipeline p = make_pipeline(10, answer);

    mdn_steps steps = steps_of(&p);
    mdn_plan plan = {.advance_every = 1, .starts = &(uint64_t){0}};
    mdn_orchestrator *o = NULL;
    mdn_transition t;
    bool ended;
    mdn_status st;

    steps.inform = recite;
    CHECK(mdn_orchestrator_new(&steps, &plan, &o, NULL) == MDN_OK);
    st = mdn_orchestrator_next(o, &t, &ended, err);
    if (st == MDN_OK && answer == 0)
        st = mdn_orchestrator_next(o, &t, &ended, err);
    mdn_orchestrator_free(o);
    return st;
}

static void
an_impossible_answer_is_refused_by_name(void)
{
    mdn_error err;

    CHECK(first_answer(10, NULL) == MDN_OK);
    CHECK(first_answer(11, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "Every answered 11 ") != NULL);
    CHECK(strstr(err.message, "0 to 10") != NULL);
    CHECK(first_answer(-1, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "Every answered -1 ") != NULL);
    CHECK(first_answer(INT64_MIN, NULL) == MDN_INVALID);
    CHECK(first_answer(INT64_MAX, NULL) == MDN_INVALID);
}

static void
a_trigger_without_new_samples_comes_once(void)
{
    mdn_error err;

    CHECK(first_answer(0, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "Every answered 0 again at position 0") != NULL);
}

static void
nobody_is_asked_to_choose_from_nothing(void)
{
    pipeline p = make_pipeline(10, 0); /* a trigger before the first sample */
    mdn_steps steps = steps_of(&p);
    mdn_plan plan = {.advance_every = 1, .starts = &(uint64_t){0}};
    mdn_orchestrator *o = NULL;
    mdn_transition t;
    bool ended;

    steps.inform = recite;
    CHECK(mdn_orchestrator_new(&steps, &plan, &o, NULL) == MDN_OK);
    CHECK(mdn_orchestrator_next(o, &t, &ended, NULL) == MDN_OK && !ended);
    CHECK(t.position == 0 && t.sample_count == 0);
    CHECK(p.calls[SELECT] == 0 && p.calls[WRITE] == 1 && p.committed == 1);
    mdn_orchestrator_free(o);
}

static mdn_status
planned(uint64_t position, uint64_t trigger, const uint64_t *starts)
{
    pipeline p = make_pipeline(1, 1);
    mdn_steps steps = steps_of(&p);
    mdn_plan plan = {.advance_every = 1,
                     .position = position,
                     .trigger = trigger,
                     .starts = starts};
    mdn_orchestrator *o = NULL;
    mdn_status st = mdn_orchestrator_new(&steps, &plan, &o, NULL);

    CHECK((o != NULL) == (st == MDN_OK));
    mdn_orchestrator_free(o);
    return st;
}

static void
a_plan_that_cannot_be_is_refused(void)
{
    CHECK(planned(9, 2, (uint64_t[]){0, 4, 9}) == MDN_OK);
    CHECK(planned(9, 2, (uint64_t[]){0, 4, 4}) == MDN_OK);
    CHECK(planned(9, 2, (uint64_t[]){1, 4, 9}) == MDN_INVALID);
    CHECK(planned(9, 2, (uint64_t[]){0, 5, 4}) == MDN_INVALID);
    CHECK(planned(9, 2, (uint64_t[]){0, 4, 10}) == MDN_INVALID);
}

static mdn_status
chosen(uint64_t count, const uint64_t *some, const double *weights,
       const uint64_t *order, mdn_error *err)
{
    mdn_choice choice = {.count = count, .keys = some, .weights = weights};

    return mdn_choice_check(&choice, order, 2, 6, "Second", err);
}

static void
a_choice_must_be_of_candidates(void)
{
    static const uint64_t order[] = {1000, 3, 500, 7, 70, 130, 64, UINT64_MAX};
    mdn_error err;

    CHECK(chosen(0, NULL, NULL, NULL, NULL) == MDN_OK);
    CHECK(chosen(4, (uint64_t[]){2, 3, 4, 5}, NULL, NULL, NULL) == MDN_OK);
    CHECK(chosen(2, (uint64_t[]){1, 3}, NULL, NULL, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "Second chose key 1, ") != NULL);
    CHECK(chosen(2, (uint64_t[]){3, 6}, NULL, NULL, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "Second chose key 6, ") != NULL);

    CHECK(chosen(4, (uint64_t[]){7, 70, 130, 500}, NULL, order, NULL)
          == MDN_OK);
    CHECK(chosen(2, (uint64_t[]){7, 500}, NULL, order, NULL) == MDN_OK);
    CHECK(chosen(2, (uint64_t[]){3, 70}, NULL, order, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "Second chose key 3, ") != NULL);
    CHECK(chosen(3, (uint64_t[]){7, 64, 500}, NULL, order, &err)
          == MDN_INVALID);
    CHECK(strstr(err.message, "Second chose key 64, ") != NULL);
    CHECK(chosen(1, (uint64_t[]){UINT64_MAX}, NULL, order, &err)
          == MDN_INVALID);
}

static void
a_choice_must_ascend_and_weigh(void)
{
    static const uint64_t some[] = {3, 4};
    mdn_error err;

    CHECK(chosen(2, (uint64_t[]){4, 4}, NULL, NULL, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "chose key 4 twice") != NULL);
    CHECK(chosen(2, (uint64_t[]){5, 4}, NULL, NULL, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "4 comes after 5") != NULL);
    CHECK(chosen(2, some, (double[]){0.5, 0}, NULL, NULL) == MDN_OK);
    CHECK(chosen(2, some, (double[]){1, NAN}, NULL, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "key 4") != NULL);
    CHECK(chosen(2, some, (double[]){1, -0.5}, NULL, NULL) == MDN_INVALID);
    CHECK(chosen(2, some, (double[]){INFINITY, 1}, NULL, NULL) == MDN_INVALID);
}

static void
no_key_lies_between_candidates_unless_it_is_one(void)
{
    uint64_t order[64], key;

    for (uint64_t i = 0; i < 64; i++)
        order[i] = (i * 37 % 64) * 3;
    for (key = 0; key < 200; key++) {
        mdn_choice choice = {.count = 1, .keys = &key};
        bool member = false;

        for (uint64_t i = 10; i < 50; i++)
            member |= order[i] == key;
        CHECK((mdn_choice_check(&choice, order, 10, 50, "P", NULL) == MDN_OK)
              == member);
    }
}

static void
time_order_selects_from_the_order(void)
{
    uint64_t order[SAMPLES];
    pipeline whole, p;
    mdn_orchestrator *o;

    for (uint64_t i = 0; i < SAMPLES; i++)
        order[i] = i * 37 % SAMPLES; /* 37 and 100 have no common factor */
    whole = undisturbed(1, order);
    p = make_pipeline(9, 7);
    p.order = order;
    o = resume(&p, 1, 1);
    run(o);
    CHECK(same_ledgers(&p, &whole));
    CHECK(memcmp(p.ledger[3].digest, undisturbed(1, NULL).ledger[3].digest,
                 MDN_DIGEST_SIZE)
          != 0);
    mdn_orchestrator_free(o);
}

int
main(void)
{
    for (int i = 0; i < SAMPLES; i++) {
        keys[i] = (uint64_t)i;
        timestamps[i] = labels[i] = (int64_t)mdn_draw(1, (uint64_t)i);
    }
    RUN(a_transition_names_its_samples_and_its_candidates);
    RUN(tails_reach_from_nothing_to_everything);
    RUN(samples_are_candidates_once_their_labels_are_known);
    RUN(labels_of_what_was_not_followed_yet_cannot_be_known);
    RUN(blocks_do_not_matter);
    RUN(a_failed_step_loses_nothing);
    RUN(advances_come_between_triggers_every_so_many_blocks);
    RUN(a_stream_that_ends_at_a_trigger_is_recorded_by_its_commit);
    RUN(a_choice_that_could_not_be_written_is_not_made_again);
    RUN(an_empty_stream_has_no_trigger);
    RUN(an_impossible_answer_is_refused_by_name);
    RUN(a_trigger_without_new_samples_comes_once);
    RUN(nobody_is_asked_to_choose_from_nothing);
    RUN(a_plan_that_cannot_be_is_refused);
    RUN(a_choice_must_be_of_candidates);
    RUN(a_choice_must_ascend_and_weigh);
    RUN(no_key_lies_between_candidates_unless_it_is_one);
    RUN(time_order_selects_from_the_order);
    return check_report("test_orchestrator");
}
