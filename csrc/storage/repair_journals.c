/* repair_journals.c - what a repair makes of `events` and `sources`.
 *
 * Events are never dropped, since what was erased would come back; on the
 * contrary, those behind the last good commit that a lost one may have named
 * are taken on.  Sources may be cut, if the caller says so. */
#include "storage/repair_plan.h"

#include "storage/events.h"
#include "storage/journal.h"
#include "storage/mend.h"

#include <errno.h>
#include <string.h>

#define LOOKS 3 /* at a journal in which something seems wrong */

static mdn_status
ignore_entry(void *ctx, const mdn_entry *entry, mdn_error *err)
{
    (void)ctx, (void)entry, (void)err;
    return MDN_OK;
}

/* MDN_OK, and *whole: nothing is wrong up to the mark, or *header alone; else
 * *reached is behind the last whole entry. */
static mdn_status
read_journal(mdn_repairing *r, mdn_journal_kind which, bool *whole,
             bool *header, mdn_mark *reached, uint64_t *entries, mdn_error *err)
{
    const mdn_mark nothing = {.size_bytes = 0};
    const mdn_mark *mark = &r->tail.journal[which];
    mdn_error inner = {.status = MDN_OK};
    mdn_status st = mdn_journal_read(r->io, r->path, r->layout, which, &nothing,
                                     mark, 0, ignore_entry, NULL, &inner);

    *reached = *mark;
    *entries = 0;
    *whole = st == MDN_OK;
    *header = false;
    if (st == MDN_OK)
        return MDN_OK;
    if (st != MDN_CORRUPT && st != MDN_UNSUPPORTED
        && !(st == MDN_IO && inner.sys_errno == ENOENT)) {
        if (err != NULL)
            *err = inner;
        return st;
    }
    st = mdn_journal_scan(r->io, r->path, r->layout, which, &nothing,
                          mark->size_bytes, entries, NULL, NULL, reached, err);
    if (st != MDN_OK)
        return st;
    *whole = reached->size_bytes == mark->size_bytes
             && memcmp(reached->check, mark->check, MDN_CHECK_SIZE) == 0;
    *header = *whole;
    return MDN_OK;
}

/* The same; a damaged header is told and will be written anew. */
static mdn_status
look_at_journal(mdn_repairing *r, mdn_journal_kind which, bool *whole,
                mdn_mark *reached, uint64_t *entries, mdn_error *err)
{
    mdn_status st = MDN_OK;
    bool header = false;

    *whole = false;
    for (int looks = 0; looks < LOOKS && st == MDN_OK && !*whole; looks++)
        st = read_journal(r, which, whole, &header, reached, entries, err);
    if (st != MDN_OK || !header)
        return st;
    r->mend_header[which] = true;
    return mdn_repair_tell(r, MDN_STEP_HEADER, mdn_journal_name(which),
                           "the header is written anew; all entries are whole",
                           err);
}

static mdn_status
fail_events(const mdn_repairing *r, const char *what, mdn_error *err)
{
    return mdn_fail(err, MDN_CORRUPT,
                    "%s/events: %s; nothing was repaired, since without it "
                    "erased samples would come back: put back a copy of the "
                    "file and try again",
                    r->path, what);
}

/* The files that a compaction has written. */
static mdn_status
compacted_files_are_there(mdn_repairing *r, const mdn_entry *entry, bool *there,
                          mdn_error *err)
{
    uint64_t count;
    mdn_status st = MDN_OK;

    *there = mdn_compact_decode(entry, &count);
    for (uint64_t i = 0; *there && i < count && st == MDN_OK; i++) {
        mdn_mending place = {.io = r->io,
                             .path = r->path,
                             .layout = r->layout,
                             .segment = mdn_compact_at(entry, i).segment,
                             .generation = entry->number};
        mdn_condition c;

        place.linked = mdn_history_link(r->history, place.segment) != NULL;

        st = mdn_mend_look(&place, &c, err);
        *there = st == MDN_OK && c.seg_there && c.col_there && !c.header_damaged
                 && !c.foreign && c.col_size >= r->layout->col_size;
    }
    return st;
}

/* The open segment has other files now; what the commit said of them is lost,
 * and is computed from them. */
static mdn_status
move_tail(mdn_repairing *r, const mdn_entry *entry, mdn_tail *tail,
          mdn_error *err)
{
    uint64_t open = tail->count >> r->layout->segment_shift, count;

    if (!mdn_compact_decode(entry, &count)
        || mdn_layout_row(r->layout, tail->count) == 0)
        return MDN_OK;
    for (uint64_t i = 0; i < count; i++) {
        mdn_compacted moved = mdn_compact_at(entry, i);
        mdn_mending place = {.io = r->io,
                             .path = r->path,
                             .layout = r->layout,
                             .segment = open,
                             .generation = entry->number,
                             .rows = mdn_layout_row(r->layout, tail->count)};

        if (moved.segment == open)
            return mdn_mend_tail(&place, tail, err);
    }
    return MDN_OK;
}

/* An entry that does not apply is left out, and so are all behind it, unless
 * samples that are still there would come back. */
static mdn_status
leave_orphan(mdn_repairing *r, const mdn_entry *entry, mdn_error *err)
{
    mdn_erase_event event;
    uint64_t first, count = 1;

    r->orphans_end = true;
    if (entry->kind != MDN_EVENT_ERASE || !mdn_erase_decode(entry, &event))
        return MDN_OK;
    while (count > 0) {
        if (!mdn_erase_next(&event, &first, &count))
            break;
        if (count > 0 && first < r->tail.count)
            return fail_events(r,
                               "an entry that a lost commit had made erases "
                               "samples that are there and such that are lost",
                               err);
    }
    return MDN_OK;
}

/* An entry behind what the last good commit names, which a lost commit may have
 * named: it is taken if it applies. */
static mdn_status
take_orphan(void *ctx, const mdn_entry *entry, mdn_error *err)
{
    mdn_repairing *r = ctx;
    mdn_tail tail = r->tail;
    mdn_mark *mark = &tail.journal[MDN_EVENTS];
    mdn_step step = {.kind = MDN_STEP_EVENTS,
                     .file = "events",
                     .number = entry->number,
                     .number_count = 1};
    mdn_history *history = NULL;
    bool applies = !r->orphans_end;
    mdn_status st = MDN_OK;

    mark->size_bytes += mdn_journal_entry_size(entry);
    memcpy(mark->check, entry->digest, MDN_CHECK_SIZE);
    if (applies && entry->kind == MDN_EVENT_COMPACT)
        st = compacted_files_are_there(r, entry, &applies, err);
    if (st == MDN_OK && applies) {
        st = mdn_history_extend(r->history, r->io, r->path, r->layout, &tail,
                                &history, NULL);
        applies = st == MDN_OK;
        st = st == MDN_NOMEM ? mdn_fail_nomem(err, 64) : MDN_OK;
    }
    if (st == MDN_OK && applies && entry->kind == MDN_EVENT_COMPACT)
        st = move_tail(r, entry, &tail, err);
    if (st == MDN_OK && applies) {
        mdn_history_release(r->history);
        r->history = history;
        r->tail = tail;
        r->extra = true;
        step.text = entry->kind == MDN_EVENT_ERASE
                        ? "an erasure that a lost commit had made stays made"
                        : "a compaction that a lost commit had made is taken "
                          "on with its files";
        return r->visit(r->ctx, &step, err);
    }
    mdn_history_release(history);
    return st == MDN_OK ? leave_orphan(r, entry, err) : st;
}

mdn_status
mdn_repair_plan_events(mdn_repairing *r, mdn_error *err)
{
    mdn_history *nothing;
    mdn_mark reached, from;
    mdn_error inner = {.status = MDN_OK};
    uint64_t entries;
    bool whole;
    mdn_status st =
        look_at_journal(r, MDN_EVENTS, &whole, &reached, &entries, err);

    if (st == MDN_OK && !whole)
        return fail_events(r, "damaged", err);
    if (st == MDN_OK && r->mend_header[MDN_EVENTS] && !r->options->dry_run)
        st = mdn_journal_write_header(r->io, r->path, r->layout, MDN_EVENTS,
                                      err);
    if (st == MDN_OK)
        st = mdn_history_new(&nothing, err);
    if (st != MDN_OK)
        return st;
    st = mdn_history_extend(nothing, r->io, r->path, r->layout, &r->tail,
                            &r->history, &inner);
    mdn_history_release(nothing);
    if (st == MDN_CORRUPT && r->mend_header[MDN_EVENTS]
        && r->options->dry_run) {
        r->unplanned = true;
        return mdn_repair_tell(
            r, MDN_STEP_LEFT, "events",
            "what else is to be done can be said once its header is "
            "right",
            err);
    }
    if (st != MDN_OK) {
        if (err != NULL)
            *err = inner;
        return st;
    }
    if (r->survey.lost == 0)
        return MDN_OK;
    from = r->tail.journal[MDN_EVENTS];
    entries = r->history->entries;
    st = mdn_journal_scan(r->io, r->path, r->layout, MDN_EVENTS, &from,
                          UINT64_MAX, &entries, take_orphan, r, &reached, err);
    return st;
}

/* Records speak of the journal no farther than it reaches now. */
static void
clamp(mdn_tail *tail, const mdn_mark *reached)
{
    mdn_mark *mark = &tail->journal[MDN_SOURCES];

    if (mark->size_bytes > reached->size_bytes)
        *mark = *reached;
}

mdn_status
mdn_repair_plan_sources(mdn_repairing *r, mdn_error *err)
{
    mdn_mark reached;
    uint64_t entries;
    bool whole;
    mdn_step step = {.kind = MDN_STEP_SOURCES,
                     .file = "sources",
                     .text = "cut behind its last whole entry: files that "
                             "later ones spoke of may be ingested twice"};
    mdn_status st =
        look_at_journal(r, MDN_SOURCES, &whole, &reached, &entries, err);

    if (st != MDN_OK || whole)
        return st;
    step.number = entries + 1;
    step.number_count = 1;
    if (!r->options->cut_sources) {
        step.kind = MDN_STEP_LEFT;
        step.text = "damaged from this entry on; cut_sources cuts it there, "
                    "and files may then be ingested twice";
        return r->visit(r->ctx, &step, err);
    }
    for (uint64_t i = 0; i < r->count; i++) {
        clamp(&r->records[i].tail, &reached);
        mdn_record_set_journals(&r->records[i].tail, r->records[i].bytes);
    }
    clamp(&r->tail, &reached);
    r->rewrite = true;
    /* Behind the header, which may be damaged, too. */
    r->mend_header[MDN_SOURCES] = reached.size_bytes > 0;
    return r->visit(r->ctx, &step, err);
}
