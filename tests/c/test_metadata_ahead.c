/* test_metadata_ahead.c - blocks that are read while one is looked at. */
#include "check.h"

#include "metadata/ahead.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
#define THREADS_ONLY 1 /* TSan does not follow a fork with threads */
#else
#define THREADS_ONLY 0
#endif

#define SAMPLES UINT64_C(1000)
#define BLOCK UINT64_C(64)
#define NOBODY UINT64_MAX

/* ----- a stream that is made of a story ----- */

/* Position p holds key 3p; positions that are a multiple of `gap` hold none.
 * Every block is put into the same buffer, so that who keeps one without
 * copying it sees the next. */
typedef struct {
    uint64_t gap;  /* 0: no positions are told */
    bool in_place; /* blocks are parts of columns that stay */
    bool unlabelled;
    uint64_t fail_at; /* the call of next(), counted from 0, that fails */
    uint64_t stop_at; /* the call that waits until its pulse ends it */
    bool only_slow;   /* a call takes a while */
    _Atomic uint64_t calls, opened, freed, asked;
    _Atomic uint64_t opened_at;
    atomic_bool is_out_of_turn; /* two calls at once */
} story;

typedef struct {
    mdn_metadata_stream base;
    story *of;
    const mdn_pulse *pulse;
    atomic_bool is_busy;
    uint64_t position;
    uint64_t keys[BLOCK], positions[BLOCK];
    int64_t timestamps[BLOCK], labels[BLOCK];
} story_stream;

static uint64_t all_keys[SAMPLES];
static int64_t all_timestamps[SAMPLES], all_labels[SAMPLES];

static void
sleep_ms(long ms)
{
    struct timespec wait = {.tv_nsec = ms * 1000000};

    nanosleep(&wait, NULL);
}

static void
make_columns(void)
{
    for (uint64_t p = 0; p < SAMPLES; p++) {
        all_keys[p] = 3 * p;
        all_timestamps[p] = (int64_t)(1000 + p);
        all_labels[p] = (int64_t)(p % 7);
    }
}

static void
put_block(story_stream *s, mdn_metadata_block *out)
{
    uint64_t n = 0, gap = s->of->gap;

    for (; n < BLOCK && s->position < SAMPLES; s->position++) {
        uint64_t p = s->position;

        if (gap > 0 && p % gap == 0)
            continue;
        s->keys[n] = all_keys[p];
        s->timestamps[n] = all_timestamps[p];
        s->labels[n] = all_labels[p];
        s->positions[n++] = p + 1;
    }
    *out = (mdn_metadata_block){.count = n,
                                .keys = s->keys,
                                .timestamps = s->timestamps,
                                .labels = s->of->unlabelled ? NULL : s->labels,
                                .positions = gap > 0 ? s->positions : NULL};
}

static mdn_status
wait_for_the_end(story_stream *s, mdn_error *err)
{
    mdn_status st = MDN_OK;

    while (st == MDN_OK) {
        st = mdn_pulse_ask(s->pulse, err);
        atomic_fetch_add(&s->of->asked, 1);
        sleep_ms(1);
    }
    return st;
}

static mdn_status
story_next(mdn_metadata_stream *stream, mdn_metadata_block *out, mdn_error *err)
{
    story_stream *s = (story_stream *)stream;
    uint64_t call = atomic_fetch_add(&s->of->calls, 1);
    mdn_status st = MDN_OK;

    if (atomic_exchange(&s->is_busy, true))
        atomic_store(&s->of->is_out_of_turn, true);
    if (s->of->only_slow)
        sleep_ms(1);
    if (call == s->of->stop_at)
        st = wait_for_the_end(s, err);
    else if (call == s->of->fail_at)
        st = mdn_fail(err, MDN_CORRUPT, "call %d fails", (int)call);
    if (st == MDN_OK && s->of->in_place) {
        uint64_t left = SAMPLES - s->position;

        *out = (mdn_metadata_block){.count = left < BLOCK ? left : BLOCK,
                                    .keys = all_keys + s->position,
                                    .timestamps = all_timestamps + s->position};
        s->position += out->count;
    } else if (st == MDN_OK) {
        put_block(s, out);
    } else {
        out->count = 5; /* which must not be believed */
    }
    atomic_store(&s->is_busy, false);
    return st;
}

static mdn_status
story_hold(mdn_metadata_stream *stream, uint64_t calls, mdn_error *err)
{
    (void)stream, (void)calls, (void)err;
    return MDN_OK;
}

static void
story_rewind(mdn_metadata_stream *stream)
{
    ((story_stream *)stream)->position = 0;
}

static void
story_free(mdn_metadata_stream *stream)
{
    atomic_fetch_add(&((story_stream *)stream)->of->freed, 1);
    free(stream);
}

static mdn_status
story_open(void *ctx, uint64_t first, const mdn_pulse *pulse,
           mdn_metadata_stream **out, mdn_error *err)
{
    story *of = ctx;
    story_stream *s = calloc(1, sizeof *s);

    *out = NULL;
    if (s == NULL)
        return mdn_fail_nomem(err, sizeof *s);
    s->base = (mdn_metadata_stream){.count = SAMPLES - first,
                                    .in_place = of->in_place,
                                    .next = story_next,
                                    .rewind = story_rewind,
                                    .hold = of->in_place ? story_hold : NULL,
                                    .free = story_free};
    s->of = of;
    s->pulse = pulse;
    s->position = first;
    atomic_fetch_add(&of->opened, 1);
    atomic_store(&of->opened_at, first);
    *out = &s->base;
    return MDN_OK;
}

static mdn_metadata_stream *
open_story(story *of, uint64_t first, const mdn_pulse *pulse)
{
    mdn_metadata_opening opening = {.open = story_open, .ctx = of};
    mdn_metadata_stream *stream;

    CHECK(mdn_metadata_ahead(&opening, first, BLOCK, pulse, &stream, NULL)
          == MDN_OK);
    return stream;
}

/* What it is for: until so many calls were made, without one of ours. */
static bool
calls_come_to(story *of, uint64_t calls)
{
    for (int ms = 0; ms < 10000; ms++) {
        if (atomic_load(&of->calls) >= calls)
            return true;
        sleep_ms(1);
    }
    return false;
}

/* Whether a block holds the samples from position `from` on; then behind it. */
static bool
is_right(const story *of, const mdn_metadata_block *block, uint64_t *from)
{
    bool ok = (block->positions != NULL) == (of->gap > 0);

    for (uint64_t i = 0; i < block->count; i++) {
        uint64_t p = (*from)++;

        if (of->gap > 0 && p % of->gap == 0)
            p = (*from)++;
        ok = ok && block->keys[i] == 3 * p
             && block->timestamps[i] == (int64_t)(1000 + p)
             && (block->labels == NULL || block->labels[i] == (int64_t)(p % 7))
             && (block->positions == NULL || block->positions[i] == p + 1);
    }
    return ok;
}

/* The rest of the stream is what is due from position `from` on. */
static void
check_rest(const story *of, mdn_metadata_stream *stream, uint64_t from)
{
    mdn_metadata_block block;

    do {
        CHECK(stream->next(stream, &block, NULL) == MDN_OK);
        CHECK(is_right(of, &block, &from));
    } while (block.count > 0);
    CHECK(from == SAMPLES);
}

/* ----- facts ----- */

static void
all_blocks_come_as_they_are(void)
{
    for (uint64_t variant = 0; variant < 16; variant++) {
        story of = {.gap = variant & 1 ? 10 : 0,
                    .unlabelled = variant & 2,
                    .in_place = variant & 4,
                    .only_slow = variant & 8,
                    .fail_at = NOBODY,
                    .stop_at = NOBODY};
        mdn_metadata_stream *stream;

        if (of.in_place)
            of.gap = 0;
        stream = open_story(&of, 0, NULL);
        check_rest(&of, stream, 0);
        check_rest(&of, stream, SAMPLES); /* asked again, it still ends */
        stream->rewind(stream);
        check_rest(&of, stream, 0);
        stream->free(stream);
        CHECK(of.opened == 2 && of.freed == 2);
        CHECK(!of.is_out_of_turn);
    }
}

static void
the_next_blocks_are_read_while_one_is_looked_at(void)
{
    story of = {.gap = 10, .fail_at = NOBODY, .stop_at = NOBODY};
    mdn_metadata_stream *stream = open_story(&of, 0, NULL);
    mdn_metadata_block block;
    uint64_t from = 0;

    CHECK(of.calls == 0); /* nothing is read before the first next() */
    CHECK(stream->next(stream, &block, NULL) == MDN_OK);
    CHECK(calls_come_to(&of, 3));
    sleep_ms(5);
    CHECK(of.calls == 3); /* and no more: blocks take memory */
    CHECK(is_right(&of, &block, &from));
    CHECK(stream->next(stream, &block, NULL) == MDN_OK);
    CHECK(calls_come_to(&of, 4));
    CHECK(is_right(&of, &block, &from));
    stream->free(stream);
    CHECK(of.freed == 1);
}

static void
columns_in_place_are_read_ahead_once_that_takes_long(void)
{
    story of = {.in_place = true, .fail_at = NOBODY, .stop_at = NOBODY};
    mdn_metadata_stream *stream = open_story(&of, 0, NULL);
    mdn_metadata_block block;
    uint64_t calls = 0;

    of.only_slow = true;
    while (of.calls == calls) {
        CHECK(stream->next(stream, &block, NULL) == MDN_OK);
        CHECK(block.keys >= all_keys && block.keys < all_keys + SAMPLES);
        calls++;
        sleep_ms(10);
    }
    CHECK(of.calls > calls && calls < SAMPLES / BLOCK);
    check_rest(&of, stream, (uint64_t)(block.keys - all_keys) + block.count);
    stream->free(stream);
    CHECK(!of.is_out_of_turn);
}

static void
errors_come_at_their_block_and_lose_nothing(void)
{
    for (uint64_t at = 0; at < SAMPLES / BLOCK + 2; at++) {
        story of = {.fail_at = at, .stop_at = NOBODY};
        mdn_metadata_stream *stream = open_story(&of, 0, NULL);
        mdn_metadata_block block;
        mdn_status st = MDN_OK;
        mdn_error err;
        uint64_t from = 0, good = 0;

        while (good <= at
               && (st = stream->next(stream, &block, &err)) == MDN_OK) {
            CHECK(is_right(&of, &block, &from));
            good++;
        }
        CHECK(good == at);
        CHECK(st == MDN_CORRUPT && block.count == 0);
        CHECK(strncmp(err.message, "call ", 5) == 0);
        sleep_ms(1);
        CHECK(of.calls == at + 1); /* behind it nothing is read */
        check_rest(&of, stream, from);
        stream->free(stream);
        CHECK(of.opened == 1 && of.freed == 1);
    }
}

static void
it_can_be_left_at_any_time(void)
{
    for (uint64_t blocks = 0; blocks < SAMPLES / BLOCK + 2; blocks++) {
        story of = {.gap = 5, .fail_at = NOBODY, .stop_at = NOBODY};
        mdn_metadata_stream *stream = open_story(&of, 7, NULL);
        mdn_metadata_block block;
        uint64_t from = 7;

        of.only_slow = blocks % 2;
        for (uint64_t i = 0; i < blocks; i++)
            CHECK(stream->next(stream, &block, NULL) == MDN_OK);
        if (blocks % 3 == 0) {
            stream->rewind(stream);
            CHECK(stream->next(stream, &block, NULL) == MDN_OK);
            CHECK(is_right(&of, &block, &from));
        }
        stream->free(stream);
        CHECK(of.opened == of.freed);
    }
}

static void
who_waits_for_a_server_is_told_to_leave(void)
{
    story of = {.fail_at = NOBODY, .stop_at = 2};
    mdn_metadata_stream *stream = open_story(&of, 0, NULL);
    mdn_metadata_block block;

    CHECK(stream->next(stream, &block, NULL) == MDN_OK);
    CHECK(calls_come_to(&of, 3));
    stream->free(stream); /* does not hang */
    CHECK(of.asked > 0 && of.freed == 1);
}

/* ----- the client's pulse ----- */

typedef struct {
    pthread_t thread; /* that may ask */
    _Atomic uint64_t asked;
    uint64_t end_from, end_to; /* questions that are answered with an end */
    atomic_bool is_other_thread;
} client;

static mdn_status
client_ask(void *ctx, mdn_error *err)
{
    client *c = ctx;
    uint64_t n = atomic_fetch_add(&c->asked, 1);

    if (!pthread_equal(pthread_self(), c->thread))
        atomic_store(&c->is_other_thread, true);
    if (n >= c->end_from && n < c->end_to)
        return mdn_fail(err, MDN_CALLBACK, "Ctrl-C");
    return MDN_OK;
}

static void
a_signal_ends_the_wait_and_loses_nothing(void)
{
    story of = {.fail_at = NOBODY, .stop_at = NOBODY, .only_slow = true};
    client me = {.thread = pthread_self(), .end_from = 1, .end_to = 4};
    mdn_pulse pulse = {.ask = client_ask, .ctx = &me};
    mdn_metadata_stream *stream = open_story(&of, 0, &pulse);
    mdn_metadata_block block;
    mdn_status st;
    uint64_t from = 0, ends = 0;

    while (from < SAMPLES) {
        st = stream->next(stream, &block, NULL);
        CHECK(st == MDN_OK || (st == MDN_CALLBACK && block.count == 0));
        CHECK(is_right(&of, &block, &from));
        ends += st == MDN_CALLBACK;
        sleep_ms(25); /* a beat */
    }
    CHECK(ends == 3);
    CHECK(!me.is_other_thread);
    stream->free(stream);
}

static void
a_wait_without_end_asks_the_client(void)
{
    story of = {.fail_at = NOBODY, .stop_at = 1};
    client me = {.thread = pthread_self(), .end_from = NOBODY};
    mdn_pulse pulse = {.ask = client_ask, .ctx = &me};
    mdn_metadata_stream *stream = open_story(&of, 0, &pulse);
    mdn_metadata_block block;

    CHECK(stream->next(stream, &block, NULL) == MDN_OK);
    me.end_from = me.asked + 3;
    me.end_to = NOBODY;
    CHECK(stream->next(stream, &block, NULL) == MDN_CALLBACK);
    CHECK(me.asked == me.end_from + 1 && !me.is_other_thread);
    stream->free(stream);
    CHECK(of.freed == 1);
}

/* ----- fork ----- */

static int
child_of(story *of, mdn_metadata_stream *stream, uint64_t from)
{
    check_rest(of, stream, from);
    CHECK(of->opened_at == from);
    stream->free(stream);
    return check_failures > 0;
}

static void
a_forked_child_goes_on_from_where_it_was(void)
{
    story of = {.gap = 10, .fail_at = NOBODY, .stop_at = NOBODY};
    mdn_metadata_stream *stream = open_story(&of, 0, NULL);
    mdn_metadata_block block;
    uint64_t from = 0;
    int status = 1;
    pid_t child;

    CHECK(stream->next(stream, &block, NULL) == MDN_OK);
    CHECK(is_right(&of, &block, &from));
    child = fork();
    if (child == 0)
        _exit(child_of(&of, stream, from));
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    check_rest(&of, stream, from);
    stream->free(stream);
    CHECK(of.opened == 1 && of.freed == 1);
}

static void
a_forked_child_that_frees_it_does_not_wait(void)
{
    story of = {.fail_at = NOBODY, .stop_at = 2};
    mdn_metadata_stream *stream = open_story(&of, 0, NULL);
    mdn_metadata_block block;
    int status = 1;
    pid_t child;

    CHECK(stream->next(stream, &block, NULL) == MDN_OK);
    CHECK(calls_come_to(&of, 3));
    child = fork();
    if (child == 0) {
        stream->free(stream);
        _exit(of.freed != 0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    stream->free(stream);
    CHECK(of.freed == 1);
}

/* ----- without a thread ----- */

static void
one_block_is_read_by_the_client(void)
{
    story of = {.fail_at = NOBODY, .stop_at = NOBODY};
    client me = {.thread = pthread_self(), .end_to = NOBODY};
    mdn_pulse pulse = {.ask = client_ask, .ctx = &me};
    mdn_metadata_stream *stream = open_story(&of, SAMPLES - BLOCK, &pulse);
    mdn_metadata_block block;
    uint64_t from = SAMPLES - BLOCK;

    CHECK(stream->next(stream, &block, NULL) == MDN_OK);
    CHECK(is_right(&of, &block, &from) && from == SAMPLES);
    sleep_ms(2);
    CHECK(of.calls == 1);
    of.stop_at = 1;
    CHECK(stream->next(stream, &block, NULL) == MDN_CALLBACK);
    CHECK(me.asked > 0 && !me.is_other_thread);
    stream->free(stream);
}

static mdn_status
fail_to_open(void *ctx, uint64_t first, const mdn_pulse *pulse,
             mdn_metadata_stream **out, mdn_error *err)
{
    (void)ctx, (void)pulse;
    *out = NULL;
    return mdn_fail(err, MDN_DATABASE, "position %d", (int)first);
}

static void
what_cannot_be_opened_is_none(void)
{
    mdn_metadata_opening opening = {.open = fail_to_open};
    mdn_metadata_stream *stream;
    mdn_error err;

    CHECK(mdn_metadata_ahead(&opening, 9, BLOCK, NULL, &stream, &err)
          == MDN_DATABASE);
    CHECK(stream == NULL && strcmp(err.message, "position 9") == 0);
}

int
main(void)
{
    make_columns();
    RUN(all_blocks_come_as_they_are);
    RUN(the_next_blocks_are_read_while_one_is_looked_at);
    RUN(columns_in_place_are_read_ahead_once_that_takes_long);
    RUN(errors_come_at_their_block_and_lose_nothing);
    RUN(it_can_be_left_at_any_time);
    RUN(who_waits_for_a_server_is_told_to_leave);
    RUN(a_signal_ends_the_wait_and_loses_nothing);
    RUN(a_wait_without_end_asks_the_client);
    if (!THREADS_ONLY) {
        RUN(a_forked_child_goes_on_from_where_it_was);
        RUN(a_forked_child_that_frees_it_does_not_wait);
    }
    RUN(one_block_is_read_by_the_client);
    RUN(what_cannot_be_opened_is_none);
    return check_report("test_metadata_ahead");
}
