/* compact.c - erased bytes leave the files.
 *
 * One segment at a time:
 *
 *     its files are written anew, as the generation that is the number of the
 *         entry of `events` to come, and synced
 *     that entry is written and committed: from here on the new files count
 *     the old ones are unlinked
 *
 * A crash before the commit leaves files that no event names; one after it,
 * files that an event has replaced.  Both are known by name, and a writer
 * removes them when it opens, before it does anything else: they hold what is
 * erased, or what may yet be. */
#include "storage/compact.h"

#include "storage/events.h"
#include "storage/handle.h"
#include "storage/orderfile.h"

#include <errno.h>
#include <stdlib.h>

static mdn_status
remove_file(mdn_dataset *dataset, uint64_t segment, uint64_t generation,
            const char *suffix, mdn_error *err)
{
    char *path = mdn_layout_path(dataset->path, segment, generation, suffix);
    mdn_status st = MDN_OK;
    int result;

    if (path == NULL)
        return mdn_fail_nomem(err, 64);
    do
        result = dataset->io->unlink(dataset->io->self, path);
    while (result == -EINTR);
    if (result < 0 && result != -ENOENT)
        st = mdn_fail_errno(err, -result, "%s: cannot be removed", path);
    free(path);
    return st;
}

static mdn_status
remove_files(mdn_dataset *dataset, uint64_t segment, uint64_t generation,
             mdn_error *err)
{
    mdn_status st = remove_file(dataset, segment, generation, "seg", err);

    if (st == MDN_OK)
        st = remove_file(dataset, segment, generation, "col", err);
    return st;
}

mdn_status
mdn_compact_clean(mdn_dataset *dataset, mdn_error *err)
{
    const mdn_history *history = dataset->history;
    bool tried = false;
    mdn_status st = MDN_OK;

    for (uint64_t s = 0; s < history->segment_count && st == MDN_OK; s++) {
        const mdn_fate *fate = &history->fates[s];

        if (fate->generation > 0) {
            tried = true;
            st = remove_files(dataset, s, fate->previous, err);
        }
        if (st == MDN_OK && fate->erased != NULL
            && fate->erased->count > fate->wiped) {
            tried = true;
            st = remove_files(dataset, s, history->entries + 1, err);
        }
    }
    /* Also what was gone already: whoever removed it may have died before the
     * sync, and the names would be back after a loss of power, when another
     * event has taken the number. */
    if (st == MDN_OK && tried)
        st = mdn_dir_sync(dataset->io, dataset->path, err);
    return st;
}

/* The first segment with erased bytes in its files; false if there is none. */
static bool
find_segment(const mdn_history *history, uint64_t *out)
{
    for (uint64_t s = 0; s < history->segment_count; s++) {
        const mdn_fate *fate = &history->fates[s];

        if (fate->erased != NULL && fate->erased->count > fate->wiped) {
            *out = s;
            return true;
        }
    }
    return false;
}

/* The new files are there: what a commit of them would show.  The writer goes
 * on in the new files if they are those of the last segment. */
static mdn_status
prepare(mdn_dataset *dataset, uint64_t segment, uint64_t bytes, mdn_next *next,
        mdn_error *err)
{
    mdn_compacted moved = {.segment = segment, .bytes = bytes};
    uint64_t size;
    uint8_t *payload;
    mdn_status st = mdn_dir_sync(dataset->io, dataset->path, err);

    if (st == MDN_OK)
        st = mdn_compact_encode(&moved, 1, &payload, &size, err);
    if (st != MDN_OK)
        return st;
    st = mdn_handle_note(dataset, MDN_EVENTS, MDN_EVENT_COMPACT, payload, size,
                         &next->tail, err);
    free(payload);
    if (st == MDN_OK)
        st = mdn_handle_prepare(dataset, next, err);
    return st;
}

/* There is no commit: remove the new files.  What cannot be removed now has to
 * be when a writer opens, and until then no event may take the number that is
 * its name. */
static void
give_up(mdn_dataset *dataset, uint64_t segment, uint64_t generation)
{
    if (remove_files(dataset, segment, generation, NULL) != MDN_OK
        || mdn_dir_sync(dataset->io, dataset->path, NULL) != MDN_OK)
        mdn_writer_break(dataset->writer);
}

static mdn_status
compact_segment(mdn_dataset *dataset, uint64_t segment, const mdn_pulse *pulse,
                mdn_error *err)
{
    uint64_t generation = dataset->history->entries + 1, bytes;
    mdn_next next = {.tail = dataset->manifest.tail};
    mdn_writer *writer = NULL;
    mdn_status st;

    st = mdn_rewrite_segment(dataset->view, segment, generation, pulse,
                             &next.tail, &bytes, err);
    if (st == MDN_OK)
        st = prepare(dataset, segment, bytes, &next, err);
    if (st == MDN_OK)
        st = mdn_handle_make_writer(dataset, next.history, &next.tail, &writer,
                                    err);
    if (st != MDN_OK) {
        mdn_handle_drop(&next);
        give_up(dataset, segment, generation);
        return st;
    }
    st = mdn_handle_commit(dataset, &next, err);
    if (st != MDN_OK) {
        mdn_writer_close(writer);
        if (mdn_writer_check(dataset->writer, NULL) == MDN_OK)
            give_up(dataset, segment, generation);
        return st; /* else nobody knows which files count */
    }
    mdn_writer_close(dataset->writer);
    dataset->writer = writer;
    return mdn_compact_clean(dataset, err);
}

mdn_status
mdn_dataset_compact(mdn_dataset *dataset, const mdn_pulse *pulse,
                    mdn_compaction *out, mdn_error *err)
{
    uint64_t segment;
    mdn_status st = mdn_handle_check_writable(dataset, err);

    *out = (mdn_compaction){.segments = 0};
    if (st == MDN_OK)
        st = mdn_compact_clean(dataset, err);
    while (st == MDN_OK && find_segment(dataset->history, &segment)) {
        const mdn_fate *fate = &dataset->history->fates[segment];
        uint64_t samples =
            fate->link == NULL ? fate->erased->count - fate->wiped : 0;

        /* It knows the places of erased samples in time; before the segment, so
         * that the directory is synced, and after it, since readers make it. */
        st = mdn_orderfile_remove(dataset->io, dataset->path, err);
        if (st == MDN_OK)
            st = compact_segment(dataset, segment, pulse, err);
        if (st == MDN_OK)
            st = mdn_orderfile_remove(dataset->io, dataset->path, err);
        if (st == MDN_OK) {
            out->segments++;
            out->samples += samples;
        }
    }
    return st;
}
