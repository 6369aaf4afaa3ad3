/* history.c - summing up events.
 *
 * Histories are copies of an array with one entry per segment, and share the
 * bits of the segments in which nothing was erased meanwhile.  While a history
 * is being made, `fresh` says which bits are its own and may be written. */
#include "storage/history.h"

#include "storage/events.h"
#include "storage/journal.h"

#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

typedef struct {
    mdn_history *history;
    const mdn_layout *layout;
    const char *directory;
    uint64_t count; /* samples of the commit */
    bool *fresh;    /* per segment */
} making;

static uint64_t
words_of(const mdn_layout *layout)
{
    return (UINT64_C(1) << layout->segment_shift) / 64;
}

static void
release_bits(mdn_bits *bits)
{
    if (bits != NULL
        && atomic_fetch_sub_explicit(&bits->references, 1, memory_order_acq_rel)
               == 1)
        free(bits);
}

const mdn_link *
mdn_link_retain(const mdn_link *link)
{
    atomic_fetch_add_explicit(&((mdn_link *)(uintptr_t)link)->references, 1,
                              memory_order_relaxed);
    return link;
}

void
mdn_link_release(const mdn_link *link)
{
    mdn_link *own = (mdn_link *)(uintptr_t)link;

    if (own != NULL
        && atomic_fetch_sub_explicit(&own->references, 1, memory_order_acq_rel)
               == 1)
        free(own);
}

mdn_status
mdn_history_new(mdn_history **out, mdn_error *err)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return mdn_fail_nomem(err, sizeof **out);
    atomic_init(&(*out)->references, 1);
    return MDN_OK;
}

mdn_history *
mdn_history_retain(mdn_history *history)
{
    atomic_fetch_add_explicit(&history->references, 1, memory_order_relaxed);
    return history;
}

void
mdn_history_release(mdn_history *history)
{
    if (history == NULL
        || atomic_fetch_sub_explicit(&history->references, 1,
                                     memory_order_acq_rel)
               != 1)
        return;
    for (uint64_t s = 0; s < history->segment_count; s++)
        release_bits(history->fates[s].erased);
    for (uint64_t i = 0; i < history->link_count; i++)
        mdn_link_release(history->links[i]);
    free(history->links);
    free(history->fates);
    free(history);
}

/* The history before, with room for all segments of the commit. */
static mdn_status
copy(const mdn_history *before, uint64_t segments, mdn_history **out,
     mdn_error *err)
{
    mdn_history *history;
    mdn_status st = mdn_history_new(&history, err);

    if (st != MDN_OK)
        return st;
    if (segments < before->segment_count)
        segments = before->segment_count;
    history->fates = calloc(segments + 1, sizeof *history->fates);
    history->links = calloc(before->link_count + 1, sizeof *history->links);
    if (history->fates == NULL || history->links == NULL) {
        mdn_history_release(history);
        return mdn_fail_nomem(err, segments * sizeof *history->fates);
    }
    history->mark = before->mark;
    history->entries = before->entries;
    history->erased_count = before->erased_count;
    history->moves = before->moves;
    history->segment_count = segments;
    for (uint64_t s = 0; s < before->segment_count; s++) {
        history->fates[s] = before->fates[s];
        if (history->fates[s].erased != NULL)
            atomic_fetch_add_explicit(&history->fates[s].erased->references, 1,
                                      memory_order_relaxed);
    }
    history->link_count = before->link_count;
    for (uint64_t i = 0; i < before->link_count; i++) {
        mdn_link_retain(before->links[i]);
        history->links[i] = before->links[i];
    }
    *out = history;
    return MDN_OK;
}

/* The bits of a segment, to be written. */
static mdn_status
own_bits(making *m, uint64_t segment, mdn_bits **out, mdn_error *err)
{
    mdn_fate *fate = &m->history->fates[segment];
    uint64_t size = sizeof(mdn_bits) + 8 * words_of(m->layout);
    mdn_bits *bits;

    if (!m->fresh[segment]) {
        if ((bits = calloc(1, size)) == NULL)
            return mdn_fail_nomem(err, size);
        if (fate->erased != NULL)
            memcpy(bits, fate->erased, size);
        atomic_init(&bits->references, 1);
        release_bits(fate->erased);
        fate->erased = bits;
        m->fresh[segment] = true;
    }
    *out = fate->erased;
    return MDN_OK;
}

/* False if one of them was erased before. */
static bool
set_bits(mdn_bits *bits, uint64_t row, uint64_t count)
{
    bits->count += count;
    while (count > 0) {
        uint64_t n = 64 - row % 64 < count ? 64 - row % 64 : count;
        uint64_t mask = (n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1)
                        << (row % 64);

        if (bits->words[row / 64] & mask)
            return false;
        bits->words[row / 64] |= mask;
        row += n;
        count -= n;
    }
    return true;
}

static mdn_status
fail_event(const making *m, const mdn_entry *entry, mdn_error *err)
{
    return mdn_fail(err, MDN_CORRUPT,
                    "%s/events: entry %llu, of kind %u, does not make sense",
                    m->directory, (ull)entry->number, entry->kind);
}

static mdn_status
erase_range(making *m, const mdn_entry *entry, uint64_t first, uint64_t count,
            mdn_error *err)
{
    uint64_t rows = UINT64_C(1) << m->layout->segment_shift;

    if (first >= m->count || count > m->count - first)
        return fail_event(m, entry, err);
    m->history->erased_count += count;
    while (count > 0) {
        uint64_t row = mdn_layout_row(m->layout, first);
        uint64_t n = rows - row < count ? rows - row : count;
        mdn_bits *bits = NULL;
        mdn_status st;

        st = own_bits(m, first >> m->layout->segment_shift, &bits, err);
        if (st != MDN_OK)
            return st;
        if (!set_bits(bits, row, n))
            return fail_event(m, entry, err);
        first += n;
        count -= n;
    }
    return MDN_OK;
}

static mdn_status
take_erase(making *m, const mdn_entry *entry, mdn_error *err)
{
    uint64_t first, count = 1, before = m->history->erased_count;
    mdn_erase_event event;

    if (!mdn_erase_decode(entry, &event))
        return fail_event(m, entry, err);
    while (count > 0) {
        mdn_status st;

        if (!mdn_erase_next(&event, &first, &count))
            return fail_event(m, entry, err);
        if (count > 0
            && (st = erase_range(m, entry, first, count, err)) != MDN_OK)
            return st;
    }
    return m->history->erased_count - before == event.count
               ? MDN_OK
               : fail_event(m, entry, err);
}

static mdn_status
take_compact(making *m, const mdn_entry *entry, mdn_error *err)
{
    uint64_t count;

    if (!mdn_compact_decode(entry, &count))
        return fail_event(m, entry, err);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t segment = mdn_compact_at(entry, i).segment;
        mdn_fate *fate;

        if (segment >= m->history->segment_count
            || m->history->fates[segment].erased == NULL)
            return fail_event(m, entry, err);
        fate = &m->history->fates[segment];
        fate->wiped = fate->erased->count;
        fate->previous = fate->generation;
        fate->generation = entry->number;
    }
    m->history->moves++;
    return MDN_OK;
}

/* One reference to a copy of the link, in the list of links. */
static mdn_status
add_link(making *m, const mdn_link_event *event, mdn_error *err)
{
    mdn_history *history = m->history;
    uint64_t size = (history->link_count + 1) * sizeof *history->links;
    mdn_link *link = malloc(sizeof *link + event->path_size + 1);
    mdn_link **links = realloc(history->links, size);

    if (links != NULL)
        history->links = links;
    if (links == NULL || link == NULL) {
        free(link);
        return mdn_fail_nomem(err, size);
    }
    atomic_init(&link->references, 1);
    link->number = history->link_count;
    link->what = *event;
    memcpy(link->path, event->path, event->path_size);
    link->path[event->path_size] = '\0';
    link->what.path = link->path;
    links[history->link_count++] = link;
    return MDN_OK;
}

static mdn_status
take_link(making *m, const mdn_entry *entry, mdn_error *err)
{
    const mdn_layout *layout = m->layout;
    mdn_history *history = m->history;
    mdn_link_event event;
    mdn_status st;

    if (!mdn_link_decode(entry, layout->record_size, layout->segment_shift,
                         &event)
        || layout->has[MDN_OFFSETS]
        || event.first_segment + event.segments > m->count
               >> layout->segment_shift)
        return fail_event(m, entry, err);
    if ((st = add_link(m, &event, err)) != MDN_OK)
        return st;
    for (uint64_t i = 0; i < event.segments; i++) {
        mdn_fate *fate = &history->fates[event.first_segment + i];

        if (fate->link != NULL || fate->erased != NULL)
            return fail_event(m, entry, err);
        fate->link = history->links[history->link_count - 1];
    }
    return MDN_OK;
}

static mdn_status
take_event(void *ctx, const mdn_entry *entry, mdn_error *err)
{
    making *m = ctx;

    m->history->entries = entry->number;
    switch (entry->kind) {
    case MDN_EVENT_ERASE: return take_erase(m, entry, err);
    case MDN_EVENT_COMPACT: return take_compact(m, entry, err);
    case MDN_EVENT_LINK: return take_link(m, entry, err);
    default:
        return mdn_fail(err, MDN_UNSUPPORTED,
                        "%s/events: entry %llu is of kind %u, which this modyn "
                        "does not know",
                        m->directory, (ull)entry->number, entry->kind);
    }
}

mdn_status
mdn_history_extend(mdn_history *before, const mdn_io *io, const char *directory,
                   const mdn_layout *layout, const mdn_tail *tail,
                   mdn_history **out, mdn_error *err)
{
    const mdn_mark *to = &tail->journal[MDN_EVENTS];
    uint64_t segments = (tail->count >> layout->segment_shift) + 1;
    making m = {.layout = layout, .directory = directory, .count = tail->count};
    mdn_status st;

    *out = NULL;
    if (to->size_bytes == before->mark.size_bytes) {
        *out = mdn_history_retain(before);
        return MDN_OK;
    }
    if ((st = copy(before, segments, &m.history, err)) != MDN_OK)
        return st;
    m.fresh = calloc(m.history->segment_count + 1, sizeof *m.fresh);
    if (m.fresh == NULL)
        st = mdn_fail_nomem(err, segments);
    else
        st = mdn_journal_read(io, directory, layout, MDN_EVENTS, &before->mark,
                              to, before->entries, take_event, &m, err);
    free(m.fresh);
    if (st != MDN_OK) {
        mdn_history_release(m.history);
        return st;
    }
    m.history->mark = *to;
    *out = m.history;
    return MDN_OK;
}
