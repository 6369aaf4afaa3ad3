/* clock.c - what passed by, else a look at the source.
 *
 *   positions  ... before | gap | block[0] ... block[count-1] | end ...
 *
 * A look goes from the position back in steps that grow, since whole ranges
 * may be erased. */
#include "orchestrator/clock.h"

#include <inttypes.h>

#define LOOK_BLOCK 65536
#define LOOK_GROWTH 64

/* Position of sample i of the block. */
static uint64_t
position_of(const mdn_clock *clock, uint64_t i)
{
    const mdn_metadata_block *block = &clock->block;

    return block->positions ? block->positions[i] - 1
                            : clock->end - block->count + i;
}

static mdn_moment
moment(const mdn_clock *clock, uint64_t i)
{
    return (mdn_moment){.known = true,
                        .position = position_of(clock, i),
                        .timestamp = clock->block.timestamps[i]};
}

/* From what is at hand. */
static bool
remember(const mdn_clock *clock, uint64_t position, int64_t *out)
{
    uint64_t count = clock->block.count, low = 0, high = count;
    uint64_t first = count > 0 ? position_of(clock, 0) : clock->end;

    if (position >= clock->end)
        return false;
    if (position < first) {
        *out = clock->before.timestamp;
        return clock->before.known && position >= clock->before.position;
    }
    while (high - low > 1) { /* low stands at or before it */
        uint64_t middle = low + (high - low) / 2;

        if (position_of(clock, middle) <= position)
            low = middle;
        else
            high = middle;
    }
    *out = clock->block.timestamps[low];
    return true;
}

mdn_clock
mdn_clock_new(mdn_metadata_source *source, uint64_t position, uint64_t start)
{
    return (mdn_clock){
        .source = source, .end = position, .start.position = start};
}

void
mdn_clock_forget(mdn_clock *clock)
{
    if (clock->block.count > 0)
        clock->before = moment(clock, clock->block.count - 1);
    clock->block.count = 0;
}

void
mdn_clock_pass(mdn_clock *clock, const mdn_metadata_block *block)
{
    if (block->count == 0)
        return;
    clock->block = *block;
    clock->end = block->positions ? block->positions[block->count - 1]
                                  : clock->end + block->count;
    if (!clock->start.known)
        mdn_clock_mark(clock, clock->start.position);
}

void
mdn_clock_mark(mdn_clock *clock, uint64_t position)
{
    clock->start.position = position;
    clock->start.known = remember(clock, position, &clock->start.timestamp);
}

/* The last (or first) sample at positions first .. last-1, if there is one. */
static mdn_status
look(mdn_clock *clock, uint64_t first, uint64_t last, bool want_first,
     const mdn_pulse *pulse, bool *found, int64_t *out, mdn_error *err)
{
    mdn_metadata_stream *stream;
    mdn_metadata_block block;
    mdn_status st;

    *found = false;
    st = clock->source->open(clock->source, first, last, LOOK_BLOCK,
                             MDN_WANT_TIMESTAMPS, pulse, &stream, err);
    if (st != MDN_OK)
        return st;
    while ((st = stream->next(stream, &block, err)) == MDN_OK
           && block.count > 0) {
        *found = true;
        *out = block.timestamps[want_first ? 0 : block.count - 1];
        if (want_first)
            break;
    }
    stream->free(stream);
    return st;
}

static mdn_status
ask(mdn_clock *clock, uint64_t position, const mdn_pulse *pulse, int64_t *out,
    mdn_error *err)
{
    uint64_t last = position + 1, span = 1;
    bool found = false;
    mdn_status st = MDN_OK;

    while (!found && last > 0 && st == MDN_OK) {
        uint64_t first = last > span ? last - span : 0;

        st = look(clock, first, last, false, pulse, &found, out, err);
        last = first;
        span *= LOOK_GROWTH;
    }
    if (!found && st == MDN_OK)
        st = look(clock, position + 1, clock->source->count, true, pulse,
                  &found, out, err);
    if (st == MDN_OK && !found)
        st = mdn_fail(err, MDN_INVALID,
                      "the stream holds no sample, so that no time can be said "
                      "for position %" PRIu64,
                      position);
    return st;
}

mdn_status
mdn_clock_at(mdn_clock *clock, uint64_t position, const mdn_pulse *pulse,
             int64_t *out, mdn_error *err)
{
    const mdn_moment *known[] = {&clock->start, &clock->asked};
    mdn_status st;

    if (position >= clock->source->count)
        return mdn_fail(err, MDN_INVALID,
                        "position %" PRIu64 " of a stream of %" PRIu64,
                        position, clock->source->count);
    for (int i = 0; i < 2; i++) {
        if (known[i]->known && known[i]->position == position) {
            *out = known[i]->timestamp;
            return MDN_OK;
        }
    }
    if (remember(clock, position, out))
        return MDN_OK;
    if ((st = ask(clock, position, pulse, out, err)) != MDN_OK)
        return st;
    clock->asked =
        (mdn_moment){.known = true, .position = position, .timestamp = *out};
    return MDN_OK;
}
