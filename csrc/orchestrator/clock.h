/* clock.h - timestamps of a few positions of a stream that is far away.
 *
 * A pipeline asks for the timestamps of the first and the last sample of a
 * trigger, and of the last one consumed.  Where samples lie in memory that is
 * a look; here they pass by in blocks, so the clock remembers those that may be
 * asked for, and asks the source for any other.
 *
 *     mdn_clock_forget   the block at hand is about to go
 *     mdn_clock_pass     the next one is here
 *     mdn_clock_mark     the next trigger begins here
 *     mdn_clock_at       the timestamp at a position
 *
 * For one thread at a time; there is nothing to free. */
#ifndef MDN_ORCHESTRATOR_CLOCK_H
#define MDN_ORCHESTRATOR_CLOCK_H

#include "metadata/source.h"

typedef struct {
    bool known;
    uint64_t position;
    int64_t timestamp;
} mdn_moment;

typedef struct {
    mdn_metadata_source *source; /* borrowed */
    mdn_metadata_block block;    /* at hand; count 0: none */
    uint64_t end;                /* where the stream is, behind it */
    mdn_moment start;            /* of the trigger that is sought */
    mdn_moment before;           /* the last sample before the block */
    mdn_moment asked;            /* the source's last answer */
} mdn_clock;

/* The stream is at `position`; the trigger sought began at `start`. */
mdn_clock mdn_clock_new(mdn_metadata_source *source, uint64_t position,
                        uint64_t start);
void mdn_clock_forget(mdn_clock *clock);
/* After forget; the block is borrowed until the next one. */
void mdn_clock_pass(mdn_clock *clock, const mdn_metadata_block *block);
void mdn_clock_mark(mdn_clock *clock, uint64_t position);

/* The timestamp of the sample at a position, or of the nearest one before it
 * (behind it, if there is none) where it holds none any more.  Fails as the
 * source does, and with MDN_INVALID where there is no sample at all. */
mdn_status mdn_clock_at(mdn_clock *clock, uint64_t position,
                        const mdn_pulse *pulse, int64_t *out, mdn_error *err);

#endif
