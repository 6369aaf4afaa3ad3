/* test_model.c - long random histories of one dataset, crashes included.
 *
 * The model is the truth of truth.h; the store lies on a disk that records
 * what is not synced yet.  A step is one operation of player.h, or a crash:
 * the process dies at a drawn call of the next operation, the power fails and
 * takes a drawn part of what was not synced, recovery may die, too.  After each
 * step every sample that either handle shows is compared with the model.  Some
 * histories begin just before the end of a segment, some have payloads of
 * megabytes, some are read by several threads. */
#include "campaign.h"
#include "player.h"

#include "base/random.h"

#include <stdio.h>

#define STEPS_MAX 400      /* of one history */
#define LONG_ONE_IN 12     /* histories that cross the end of a segment */
#define LARGE_ONE_IN 40    /* histories with large payloads */
#define LARGE_SIZE 5000000 /* more than is written at once */

typedef struct {
    uint64_t steps, histories, crashes, cuts, faults, wrong;
    uint64_t by_op[OPS];
} tally;

/* One history. */
typedef struct {
    player p;
    faulty disk;
    uint64_t stream, draws;
    bool is_long;
} history;

static uint64_t
draw(history *h, uint64_t below)
{
    return mdn_draw(h->stream, h->draws++) % below;
}

/* The next calls are sound. */
static void
mend(faulty *disk)
{
    disk->fault = FAULT_NONE;
    disk->fired = disk->dead = false;
    disk->only = 0;
}

/* A process dies, and perhaps the power fails. */
static void
end_process(history *h, tally *sum)
{
    uint64_t what = draw(h, 4);

    player_close(&h->p);
    sum->crashes += h->disk.dead;
    sum->cuts += what > 0;
    if (what == 1)
        faulty_power_cut(&h->disk);
    if (what >= 2)
        faulty_power_cut_some(&h->disk, draw(h, UINT64_MAX));
    if (what > 0)
        faulty_forget(&h->disk);
    mend(&h->disk);
}

/* Start again, which may fail as well; after a few times it goes through. */
static void
start_again(history *h, tally *sum)
{
    for (int tries = 0; draw(h, 4) == 0 && tries < 3; tries++) {
        h->disk.fault = draw(h, 2) ? FAULT_KILL : FAULT_TORN;
        h->disk.fail_at = h->disk.calls + (int)draw(h, 40);
        player_open(&h->p);
        end_process(h, sum);
    }
    if (draw(h, 4) == 0) {
        faulty_forget(&h->disk); /* the system's calls sync for themselves */
        player_recover(&h->p);
    }
    player_open(&h->p);
}

/* From now on one of the next calls fails. */
static void
plant(history *h)
{
    static const faulty_fault soft[] = {FAULT_ENOSPC, FAULT_EINTR, FAULT_SHORT,
                                        FAULT_EDQUOT};
    static const faulty_fault hard[] = {FAULT_KILL, FAULT_KILL, FAULT_TORN,
                                        FAULT_TORN, FAULT_EIO};

    if (draw(h, 3) == 0) {
        h->disk.fault = soft[draw(h, 4)];
        /* What no room is found for fails when it is written; a sync that
         * fails ends the handle. */
        h->disk.only = FAULTY_WRITE | FAULTY_ALLOCATE | FAULTY_TRUNCATE;
        h->disk.calls = 0;
        h->disk.fail_at = (int)draw(h, 12);
    } else {
        h->disk.fault = hard[draw(h, 5)];
        h->disk.fail_at = h->disk.calls + (int)draw(h, 30);
    }
}

static player_op
draw_op(history *h)
{
    player_op op = (player_op)draw(h, OPS);

    if (op == OP_CROSS && (!h->is_long || h->p.truth.now.count > 8192))
        op = OP_APPEND;
    return op;
}

static void
step(history *h, tally *sum)
{
    bool planted = draw(h, 6) == 0;
    faulty_fault fault;
    player_op op = draw_op(h);

    if (planted)
        plant(h);
    fault = h->disk.fault;
    player_play(&h->p, op);
    sum->by_op[op]++;
    sum->steps++;
    if (!planted)
        return;
    sum->faults += h->disk.fired;
    /* For want of room it may not have been opened; and a compaction that
     * fails may leave a handle that refuses to write. */
    if (h->disk.fired
        && (fault == FAULT_KILL || fault == FAULT_TORN || fault == FAULT_EIO
            || h->p.writer == NULL || op == OP_COMPACT)) {
        end_process(h, sum);
        start_again(h, sum);
    } else {
        mend(&h->disk);
    }
}

static void
play_history(uint64_t seed, uint64_t number, uint64_t steps, tally *sum)
{
    history h = {.stream = mdn_stream(seed, number), .disk = {.record = true}};
    char about[80];

    snprintf(about, sizeof about, "--seed %llu --only %llu",
             (unsigned long long)seed, (unsigned long long)number);
    h.is_long = draw(&h, LONG_ONE_IN) == 0;
    player_start(&h.p, &h.disk, draw(&h, 2), draw(&h, 2),
                 h.is_long ? 8150 + draw(&h, 40) : draw(&h, 5),
                 draw(&h, UINT64_MAX));
    h.p.about = about;
    h.p.threads = draw(&h, 4) == 0 ? 3 : 1;
    if (draw(&h, LARGE_ONE_IN) == 0)
        h.p.truth.large_payload = LARGE_SIZE;
    player_open(&h.p);
    if (h.is_long || h.p.truth.large_payload > 0)
        steps /= 4;
    for (uint64_t i = 0; i < steps && h.p.wrong == 0; i++) {
        if (i % 16 == 0)
            h.p.played[0] = '\0';
        step(&h, sum);
    }
    player_close(&h.p);
    faulty_forget(&h.disk);
    player_recover(&h.p);
    player_end(&h.p);
    sum->wrong += h.p.wrong > 0;
    sum->histories++;
}

int
main(int argc, char **argv)
{
    campaign c = campaign_arguments(argc, argv, 20000);
    tally sum = {0};

    printf("test_model: seed %llu\n", (unsigned long long)c.seed);
    fflush(stdout);
    if (c.only != UINT64_MAX)
        play_history(c.seed, c.only, STEPS_MAX, &sum);
    for (uint64_t i = 0; c.only == UINT64_MAX && sum.steps < c.count; i++) {
        uint64_t left = c.count - sum.steps;

        play_history(c.seed, i, left < STEPS_MAX ? left : STEPS_MAX, &sum);
    }
    printf("test_model: %llu steps of %llu histories:",
           (unsigned long long)sum.steps, (unsigned long long)sum.histories);
    for (int op = 0; op < OPS; op++)
        printf(" %llu %s", (unsigned long long)sum.by_op[op], player_names[op]);
    printf(", %llu faults, %llu crashes, %llu cuts; ",
           (unsigned long long)sum.faults, (unsigned long long)sum.crashes,
           (unsigned long long)sum.cuts);
    campaign_end(sum.wrong);
    return sum.wrong > 0;
}
