#include "player.h"

#include "base/random.h"
#include "samples.h"
#include "storage/compact.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const player_names[OPS] = {"append", "cross", "reopen",  "refresh",
                                       "source", "erase", "compact", "order"};

_Thread_local bool player_in_core;

#define SEGMENT 8192
#define FEW 3

static uint64_t
draw(player *p, uint64_t below)
{
    return mdn_draw(p->stream, p->draws++) % below;
}

void
player_complain(player *p, const char *what, const mdn_error *err)
{
    p->wrong++;
    fprintf(stderr, "WRONG: %s: %s (%s; fault %d at call %d of %d%s; %s)\n",
            what, err->message, p->played, p->disk->fault, p->disk->fail_at,
            p->disk->calls, p->disk->dead ? ", dead" : "", p->about);
}

static void
expect(player *p, bool good, const char *what, const mdn_error *err)
{
    if (!good)
        player_complain(p, what, err);
}

/* A failure is one of the disk, and says something. */
static void
expect_fault(player *p, const char *what, const mdn_error *err)
{
    expect(p,
           p->disk->fired && err->message[0] != '\0' && err->status != MDN_OK,
           what, err);
}

/* Whether a view of this handle shows a state (NULL: the truth, of which it
 * may be in doubt).  A fault may be in the way, never wrong bytes. */
static void
look(player *p, mdn_dataset *dataset, const truth_state *state,
     const char *what)
{
    mdn_error err = {.status = MDN_OK};
    mdn_view *view = NULL;
    mdn_status st = mdn_dataset_view(dataset, &view, &err);

    if (st == MDN_OK && state == NULL)
        state = truth_state_of(&p->truth, dataset, view);
    if (st == MDN_OK && state != NULL)
        st = truth_compare(&p->truth, state, dataset, view, p->threads, &err);
    if (st == MDN_INVALID)
        player_complain(p, what, &err);
    else if (st != MDN_OK)
        expect_fault(p, what, &err);
    mdn_view_release(view);
}

/* The state that a handle shows is copied to *out: what became of an operation
 * in doubt.  False when a fault is in the way. */
static bool
copy_shown(player *p, mdn_dataset *dataset, truth_state *out)
{
    mdn_error err = {.status = MDN_OK, .message = "the journal"};
    mdn_view *view = NULL;
    const truth_state *state = NULL;

    if (mdn_dataset_view(dataset, &view, &err) == MDN_OK)
        state = truth_state_of(&p->truth, dataset, view);
    if (state != NULL && state != out)
        truth_copy(out, state);
    if (state == NULL)
        expect(p, p->disk->fired, "what is there cannot be read", &err);
    mdn_view_release(view);
    return state != NULL;
}

/* What the reader sees now is what it shows until it is refreshed. */
static void
note_seen(player *p)
{
    p->seen_known = copy_shown(p, p->reader, &p->seen);
    if (p->seen_known)
        look(p, p->reader, &p->seen, "the reader");
}

/* What a writer found is durable, and so the truth is in doubt no more. */
static void
settle(player *p, mdn_dataset *dataset)
{
    if (copy_shown(p, dataset, &p->truth.now))
        p->truth.in_doubt = false;
}

static bool
open_writer(player *p)
{
    mdn_error err = {.status = MDN_OK};
    mdn_status st =
        mdn_dataset_open(faulty_io(p->disk), p->path, true, &p->writer, &err);

    if (st != MDN_OK) {
        expect_fault(p, "opening for writing", &err);
        expect(p, p->writer == NULL, "a handle in spite of an error", &err);
        return false;
    }
    settle(p, p->writer);
    look(p, p->writer, NULL, "the writer, opened");
    return true;
}

static void
open_reader(player *p)
{
    mdn_error err = {.status = MDN_OK};
    mdn_status st =
        mdn_dataset_open(faulty_io(p->disk), p->path, false, &p->reader, &err);

    if (st == MDN_OK)
        note_seen(p);
    else
        expect_fault(p, "opening for reading", &err);
}

bool
player_open(player *p)
{
    bool good = open_writer(p);

    open_reader(p);
    return good;
}

/* An operation that would make p->truth.then of the truth has this outcome. */
static void
judge(player *p, mdn_status st, bool was_dead, const char *what,
      const mdn_error *err)
{
    if (st == MDN_OK) {
        expect(p, !p->truth.in_doubt, "success behind a doubt", err);
        truth_copy(&p->truth.now, &p->truth.then);
        return;
    }
    expect_fault(p, what, err);
    if (!was_dead && !p->truth.in_doubt)
        p->truth.in_doubt =
            p->disk->dead || strstr(err->message, "is known when") != NULL;
}

static void
append(player *p, uint64_t count, bool with_source)
{
    mdn_error err = {.status = MDN_OK};
    bool was_dead = p->disk->dead;
    uint64_t first_key = UINT64_MAX, size = 0;
    truth_batch batch = truth_draw(&p->truth, count);
    uint8_t *source = truth_draw_source(&p->truth, &size);
    mdn_status st;

    if (!p->truth.in_doubt) /* else the handle refuses */
        truth_append(&p->truth, count, with_source, &p->truth.then);
    player_in_core = true;
    st = mdn_dataset_append_from(p->writer, count, batch.columns, batch.labels,
                                 batch.timestamps, with_source ? source : NULL,
                                 size, &first_key, &err);
    player_in_core = false;
    truth_free_batch(&batch);
    free(source);
    if (st == MDN_OK)
        expect(p, first_key == p->truth.now.count, "first key", &err);
    judge(p, st, was_dead, "append", &err);
    if (!p->truth.in_doubt)
        look(p, p->writer, &p->truth.now, "the writer, after an append");
}

/* Ascending keys to be erased: single ones, a range, or seldom all. */
static uint64_t
draw_keys(player *p, uint64_t *keys)
{
    uint64_t total = p->truth.now.count, count = 0;
    uint64_t how = draw(p, 16), first = draw(p, total);
    uint64_t length = how == 0 ? total : 1 + draw(p, 20);

    if (how < 8) {
        for (uint64_t key = how == 0 ? 0 : first; key < total && length-- > 0;)
            keys[count++] = key++;
        return count;
    }
    for (uint64_t key = first; key < total && count < 5;
         key += 1 + draw(p, total / 4 + 2))
        keys[count++] = key;
    return count;
}

static void
erase(player *p)
{
    mdn_error err = {.status = MDN_OK};
    bool was_dead = p->disk->dead;
    uint64_t erased = 0, count, before = p->truth.now.erased_count;
    uint64_t *keys;
    mdn_status st;

    if (p->truth.now.count == 0)
        return;
    if ((keys = malloc(p->truth.now.count * sizeof *keys)) == NULL)
        abort();
    count = draw_keys(p, keys);
    if (!p->truth.in_doubt)
        truth_erase(&p->truth, keys, count, &p->truth.then);
    player_in_core = true;
    st = mdn_dataset_erase(p->writer, keys, count, "a test", "to see", &erased,
                           &err);
    player_in_core = false;
    free(keys);
    if (st == MDN_OK && erased == 0 && p->truth.in_doubt)
        return; /* nothing was to be done */
    judge(p, st, was_dead, "erase", &err);
    if (st == MDN_OK)
        expect(p, erased == p->truth.now.erased_count - before,
               "how many were erased", &err);
    if (!p->truth.in_doubt)
        look(p, p->writer, &p->truth.now, "the writer, after erasing");
}

/* Nothing changes but the files, whatever comes of it. */
static void
compact(player *p)
{
    mdn_error err = {.status = MDN_OK};
    bool was_dead = p->disk->dead;
    mdn_compaction done;
    mdn_status st;

    if (!p->truth.in_doubt)
        truth_copy(&p->truth.then, &p->truth.now);
    player_in_core = true;
    st = mdn_dataset_compact(p->writer, NULL, &done, &err);
    player_in_core = false;
    if (st == MDN_OK && done.segments == 0 && p->truth.in_doubt)
        return; /* a handle that refuses to write, and nothing to be done */
    judge(p, st, was_dead, "compact", &err);
    if (st == MDN_OK
        && truth_check_files(&p->truth, p->path, true, &err) != MDN_OK)
        player_complain(p, "files, after compaction", &err);
    if (!p->truth.in_doubt)
        look(p, p->writer, &p->truth.now, "the writer, after compaction");
}

static void
refresh(player *p)
{
    mdn_error err = {.status = MDN_OK};
    bool grown;
    mdn_status st;

    if (p->reader == NULL)
        return;
    player_in_core = true;
    st = mdn_dataset_refresh(p->reader, &grown, &err);
    player_in_core = false;
    if (st != MDN_OK)
        expect_fault(p, "refresh", &err);
    /* A flipped bit of the newest commit hides it for now. */
    if (st == MDN_OK
        && (grown || p->disk->fault != FAULT_FLIP || !p->disk->fired))
        note_seen(p);
    else
        look(p, p->reader, &p->seen, "the reader, stale");
}

static void
order(player *p)
{
    mdn_error err = {.status = MDN_OK};
    mdn_view *view = NULL;
    mdn_status st;

    if (p->reader == NULL)
        return;
    st = mdn_dataset_view(p->reader, &view, &err);
    if (st == MDN_OK)
        st = truth_compare_order(view, p->threads, &err);
    if (st == MDN_INVALID)
        player_complain(p, "time order", &err);
    else if (st != MDN_OK)
        expect_fault(p, "time order", &err);
    mdn_view_release(view);
}

void
player_play(player *p, player_op op)
{
    size_t used = strlen(p->played);

    snprintf(p->played + used, sizeof p->played - used, " %s",
             player_names[op]);
    if (op == OP_REOPEN) {
        mdn_dataset_free(p->writer);
        p->writer = NULL;
        open_writer(p);
    } else if (op == OP_REFRESH) {
        refresh(p);
    } else if (op == OP_ORDER) {
        order(p);
    } else if (p->writer != NULL) {
        switch (op) {
        case OP_APPEND: append(p, 1 + draw(p, FEW), false); break;
        case OP_SOURCE: append(p, draw(p, FEW), true); break;
        case OP_ERASE: erase(p); break;
        case OP_COMPACT: compact(p); break;
        case OP_CROSS:
            append(p, SEGMENT - p->truth.now.count % SEGMENT + 2, false);
            break;
        default: break;
        }
    }
    if (p->reader != NULL && p->seen_known && op != OP_REFRESH)
        look(p, p->reader, &p->seen, "the reader, not refreshed");
}

void
player_start(player *p, faulty *disk, bool ragged, bool labels, uint64_t count,
             uint64_t seed)
{
    mdn_error err = {.status = MDN_OK};
    mdn_dataset *dataset;
    truth_batch batch;
    uint64_t first;

    *p = (player){
        .disk = disk, .threads = 1, .about = "", .stream = mdn_stream(seed, 3)};
    snprintf(p->path, sizeof p->path, "%s", samples_path());
    truth_init(&p->truth, ragged, labels);
    dataset = truth_create(&p->truth, &mdn_io_system, p->path);
    batch = truth_draw(&p->truth, count);
    if (mdn_dataset_append(dataset, count, batch.columns, batch.labels,
                           batch.timestamps, &first, &err)
        != MDN_OK)
        abort();
    truth_append(&p->truth, count, false, &p->truth.then);
    truth_copy(&p->truth.now, &p->truth.then);
    truth_free_batch(&batch);
    mdn_dataset_free(dataset);
}

void
player_close(player *p)
{
    mdn_error none = {.status = MDN_OK};

    mdn_dataset_free(p->writer);
    mdn_dataset_free(p->reader);
    p->writer = p->reader = NULL;
    p->seen_known = false;
    expect(p, p->disk->open_files == 0, "files left open", &none);
}

/* Open with the system's calls, and look. */
static void
open_and_look(player *p, bool writable, const char *what)
{
    mdn_error err = {.status = MDN_OK};
    mdn_dataset *dataset;

    if (mdn_dataset_open(&mdn_io_system, p->path, writable, &dataset, &err)
        != MDN_OK) {
        player_complain(p, what, &err);
        return;
    }
    if (writable)
        settle(p, dataset);
    look(p, dataset, NULL, what);
    if (writable) {
        p->writer = dataset;
        append(p, 1 + draw(p, FEW), draw(p, 2));
        if (draw(p, 2))
            compact(p);
        p->writer = NULL;
    }
    mdn_dataset_free(dataset);
}

void
player_recover(player *p)
{
    bool fired = p->disk->fired, dead = p->disk->dead;
    mdn_error err = {.status = MDN_OK};
    uint64_t wrong = p->wrong;

    p->disk->fired = p->disk->dead = false; /* what fails now is no fault */
    open_and_look(p, false, "a reader, recovered");
    open_and_look(p, true, "a writer, recovered");
    if (p->wrong == wrong)
        open_and_look(p, false, "a reader, after the writer went on");
    if (truth_check_files(&p->truth, p->path, false, &err) != MDN_OK)
        player_complain(p, "files", &err);
    p->disk->fired = fired;
    p->disk->dead = dead;
}

void
player_end(player *p)
{
    samples_remove(p->path);
    truth_free(&p->truth);
    truth_free_state(&p->seen);
}
