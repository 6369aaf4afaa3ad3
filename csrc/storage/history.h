/* history.h - what was done to samples after they had come.
 *
 * The journal `events`, read and summed up: which samples are erased, and in
 * which files each segment lies, its own or one that was linked.  A history
 * never changes and is shared by handles, stores and views; a later one shares
 * with it what stayed the same.
 *
 *     mdn_history_new       nothing was ever done
 *     mdn_history_extend    the same and the events that a commit brought
 *     mdn_history_retain, mdn_history_release */
#ifndef MDN_STORAGE_HISTORY_H
#define MDN_STORAGE_HISTORY_H

#include "base/io.h"
#include "storage/events.h"
#include "storage/layout.h"

#include <stdatomic.h>
#include <stddef.h>

/* Erased rows of one segment: 2^segment_shift bits. */
typedef struct {
    atomic_uint references;
    uint64_t count;
    uint64_t words[];
} mdn_bits;

/* A user's file in which the records of some segments lie. */
typedef struct {
    atomic_uint references;
    uint64_t number; /* 0 for the first link of the dataset */
    mdn_link_event what;
    char path[]; /* what.path, with its NUL */
} mdn_link;

/* What became of one segment. */
typedef struct {
    const mdn_link *link; /* where its records lie; NULL: in a file of ours */
    mdn_bits *erased;     /* one reference; NULL: none */
    uint64_t wiped;       /* erased rows whose bytes a compaction removed */
    uint64_t generation;  /* of its files; 0: as first written */
    uint64_t previous;    /* generation before that */
} mdn_fate;

typedef struct {
    atomic_uint references;
    mdn_mark mark;          /* of the events it knows */
    uint64_t entries;       /* how many they are */
    uint64_t erased_count;  /* samples */
    uint64_t moves;         /* events that moved segments to other files */
    uint64_t segment_count; /* segments beyond have no fate yet */
    mdn_fate *fates;
    uint64_t link_count;
    mdn_link **links; /* one reference each */
} mdn_history;

mdn_status mdn_history_new(mdn_history **out, mdn_error *err);
mdn_history *mdn_history_retain(mdn_history *history);
void mdn_history_release(mdn_history *history); /* accepts NULL */

/* One reference to what is known as of this tail, given an earlier history.
 * MDN_CORRUPT when an event cannot have been written by a writer. */
mdn_status mdn_history_extend(mdn_history *before, const mdn_io *io,
                              const char *directory, const mdn_layout *layout,
                              const mdn_tail *tail, mdn_history **out,
                              mdn_error *err);

/* NULL where nothing was done to the segment. */
static inline const mdn_fate *
mdn_history_fate(const mdn_history *history, uint64_t segment)
{
    return segment < history->segment_count ? &history->fates[segment] : NULL;
}

static inline uint64_t
mdn_history_generation(const mdn_history *history, uint64_t segment)
{
    const mdn_fate *fate = mdn_history_fate(history, segment);

    return fate ? fate->generation : 0;
}

static inline const mdn_link *
mdn_history_link(const mdn_history *history, uint64_t segment)
{
    const mdn_fate *fate = mdn_history_fate(history, segment);

    return fate ? fate->link : NULL;
}

const mdn_link *mdn_link_retain(const mdn_link *link);
void mdn_link_release(const mdn_link *link); /* accepts NULL */

static inline bool
mdn_bits_has(const mdn_bits *bits, uint64_t row)
{
    return (bits->words[row / 64] >> (row % 64)) & 1;
}

#endif
