/* player.h - operations on a dataset, and what must come of them.
 *
 * A player has a handle that writes and one that reads, both on a disk that
 * may fail, and the truth about the dataset.  Each operation compares its
 * outcome with the rules:
 *
 *     it succeeds       the truth is what it says, and both handles show it
 *     it fails          the disk has had a fault, the message is not empty,
 *                       nothing is changed
 *     nobody knows      the process is dead, or the message says so
 *
 * A broken rule is counted in `wrong` and printed with all that is needed to
 * play it again. */
#ifndef TESTS_PLAYER_H
#define TESTS_PLAYER_H

#include "faulty_io.h"
#include "truth.h"

typedef enum {
    OP_APPEND,  /* a few samples */
    OP_CROSS,   /* as many as end the segment, and two more */
    OP_REOPEN,  /* the writer is closed and opened again */
    OP_REFRESH, /* of the reader */
    OP_SOURCE,  /* a few samples or none, and an entry of `sources` */
    OP_ERASE,   /* some samples, some of which may be erased already */
    OP_COMPACT,
    OP_ORDER, /* samples in time order, as the reader sees them */
    OPS,
} player_op;

extern const char *const player_names[OPS];

/* Whether this thread is in an operation of the core, for a test that lets
 * memory run out there. */
extern _Thread_local bool player_in_core;

typedef struct {
    faulty *disk;
    char path[128];
    truth truth;
    mdn_dataset *writer, *reader; /* NULL where opening failed */
    truth_state seen;             /* by the reader at its last refresh */
    bool seen_known;
    uint32_t threads;
    uint64_t draws;    /* for what operations choose */
    uint64_t stream;   /* of these draws */
    char played[200];  /* what was played so far, for messages */
    uint64_t wrong;    /* rules broken */
    const char *about; /* how to play it again; printed with what is wrong */
} player;

/* A dataset of count samples made by the system's own calls, in a new
 * directory. */
void player_start(player *p, faulty *disk, bool ragged, bool labels,
                  uint64_t count, uint64_t seed);
/* Open both handles; returns whether the writer could be. */
bool player_open(player *p);
void player_play(player *p, player_op op);
/* Let go of both handles, as a process that ends does. */
void player_close(player *p);

/* With the system's own calls: a reader and then a writer find what is true,
 * the writer goes on, nothing strange is left.  The truth is settled. */
void player_recover(player *p);
/* Remove the dataset. */
void player_end(player *p);

/* Count what is wrong, and say so. */
void player_complain(player *p, const char *what, const mdn_error *err);

#endif
