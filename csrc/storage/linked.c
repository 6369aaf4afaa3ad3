/* linked.c - mapping and watching the files of the user.
 *
 * A segment is one mapping that begins at a huge page, like those of our own
 * files, and for that at a huge page of the file, in front of its first row:
 *
 *     file     |......[row 0 ][row 1 ] ...     [row last]
 *     mapping  |......^ base, then every `stride` bytes  |
 *
 * Which file lies at a path is asked each time by the path, so that no
 * descriptor is held.  A file that was replaced by one of the same size and
 * mtime is fine for who maps it anew, and an error for who has mapped the one
 * before: nobody could say whether that one is still as it was. */
#include "storage/linked.h"

#include "base/crc32c.h"
#include "base/file.h"
#include "base/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define HUGE_SIZE UINT64_C(0x200000)
#define PAGE UINT64_C(4096)
#define TIME_SIZE 48

typedef unsigned long long ull;

/* What is wrong with it. */

static void
format_time(int64_t ns, char out[TIME_SIZE])
{
    time_t seconds = (time_t)(ns / 1000000000 - (ns % 1000000000 < 0));
    long rest = (long)(ns - seconds * 1000000000);
    char text[32] = "?";
    struct tm utc;

    if (gmtime_r(&seconds, &utc) != NULL)
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &utc);
    snprintf(out, TIME_SIZE, "%s.%09ld UTC", text, rest);
}

mdn_status
mdn_link_compare(const mdn_link *link, const mdn_file_facts *facts,
                 mdn_error *err)
{
    char now[TIME_SIZE], then[TIME_SIZE];

    if (!facts->regular)
        return mdn_fail(err, MDN_CORRUPT,
                        "%s: is not a file any more; it was when it was linked",
                        link->path);
    if (facts->size != link->what.size)
        return mdn_fail(err, MDN_CORRUPT,
                        "%s: has %llu bytes, and had %llu when it was linked",
                        link->path, (ull)facts->size, (ull)link->what.size);
    if (facts->mtime_ns == link->what.mtime_ns)
        return MDN_OK;
    format_time(facts->mtime_ns, now);
    format_time(link->what.mtime_ns, then);
    return mdn_fail(err, MDN_CORRUPT,
                    "%s: was changed at %s; when it was linked, the last "
                    "change was at %s",
                    link->path, now, then);
}

/* Is the file at the path the one that was linked, and the one mapped? */
static mdn_status
check_file(const mdn_store *store, const mdn_segment *seg, mdn_error *err)
{
    mdn_file_facts facts;
    mdn_status st;
    int result;

    do
        result = store->io->look(store->io->self, seg->link->path, &facts);
    while (result == -EINTR);
    if (result < 0)
        return mdn_fail_errno(err, -result, "%s: is linked, and cannot be read",
                              seg->link->path);
    st = mdn_link_compare(seg->link, &facts, err);
    if (st == MDN_OK
        && (facts.device != seg->device || facts.inode != seg->inode))
        st = mdn_fail(err, MDN_CORRUPT,
                      "%s: was replaced by another file; open %s again to read "
                      "that one",
                      seg->link->path, store->path);
    return st;
}

/* A page is gone, or the disk under it. */
static mdn_status
fail_page(const mdn_store *store, const mdn_segment *seg, mdn_error *err)
{
    mdn_status st = check_file(store, seg, err);

    if (st != MDN_OK)
        return st;
    return mdn_fail_errno(err, EIO,
                          "%s: is linked, and was cut, or cannot be read, at a "
                          "place that was mapped; open %s again",
                          seg->link->path, store->path);
}

/* Mapping. */

uint64_t
mdn_linked_span(const mdn_store *store, const mdn_link *link)
{
    uint64_t rows = UINT64_C(1) << store->layout.segment_shift;

    return (rows - 1) * link->what.stride + store->layout.record_size;
}

static mdn_status
map_file(mdn_store *store, const mdn_file *file, uint64_t segment,
         const mdn_link *link, mdn_error *err)
{
    uint64_t row =
        link->what.first_row
        + ((segment - link->what.first_segment) << store->layout.segment_shift);
    uint64_t at = link->what.offset + row * link->what.stride;
    uint64_t lead = at % HUGE_SIZE, size = lead + mdn_linked_span(store, link);
    uint8_t *base = NULL;
    void *place = NULL;
    mdn_status st = mdn_reserve_add(&store->ranges, size, &base, err);
    int result;

    if (st != MDN_OK)
        return st;
    result = store->io->map(store->io->self, base, size, file->fd, at - lead,
                            &place);
    if (result < 0)
        return mdn_fail_errno(err, -result, "%s: cannot be mapped", file->path);
    store->places[segment].stride = link->what.stride;
    atomic_store_explicit(&store->places[segment].base, base + lead,
                          memory_order_release);
    return MDN_OK;
}

static mdn_status
open_and_map(mdn_store *store, uint64_t segment, const mdn_link *link,
             mdn_error *err)
{
    mdn_segment *seg = &store->segments[segment];
    mdn_file_facts facts;
    mdn_file file;
    mdn_status st = mdn_file_open(store->io, link->path,
                                  O_RDONLY | O_NONBLOCK | O_NOCTTY, &file, err);

    if (st != MDN_OK)
        return st;
    st = mdn_file_facts_of(&file, &facts, err);
    if (st == MDN_OK)
        st = mdn_link_compare(link, &facts, err);
    if (st == MDN_OK) {
        if (seg->link == NULL)
            seg->link = mdn_link_retain(link);
        seg->device = facts.device;
        seg->inode = facts.inode;
        st = map_file(store, &file, segment, link, err);
    }
    mdn_file_close(&file);
    return st;
}

mdn_status
mdn_linked_map(mdn_store *store, uint64_t segment, const mdn_link *link,
               mdn_error *err)
{
    mdn_status st = MDN_OK;

    if (mdn_store_records(store, segment) != NULL)
        return MDN_OK;
    mdn_store_lock(store);
    if (mdn_store_records(store, segment) == NULL)
        st = open_and_map(store, segment, link, err);
    mdn_store_unlock(store);
    return st;
}

/* Reading. */

/* The linked segment in whose mapping an address lies; NULL if in none.  Asked
 * by the signal handler, too. */
static const mdn_segment *
segment_at(const mdn_store *store, const void *address)
{
    const uint8_t *at = address;

    for (uint64_t s = 0; s < store->capacity; s++) {
        const uint8_t *base = mdn_store_records(store, s);
        const mdn_segment *seg = &store->segments[s];

        if (base != NULL && seg->link != NULL && at >= base
            && (uint64_t)(at - base) < mdn_linked_span(store, seg->link))
            return seg;
    }
    return NULL;
}

static bool
owns(void *ctx, const void *address)
{
    return segment_at(ctx, address) != NULL;
}

mdn_status
mdn_linked_read(mdn_store *store, void (*work)(void *arg), void *arg,
                mdn_error *err)
{
    const mdn_guard guard = {.owns = owns, .ctx = store};
    const void *address = NULL;

    if (mdn_guard_run(&guard, work, arg, &address))
        return MDN_OK;
    return fail_page(store, segment_at(store, address), err);
}

typedef struct {
    const uint8_t *from;
    uint64_t rows, size, stride;
    uint32_t crc;
} summing;

static void
sum_rows(void *arg)
{
    summing *s = arg;

    if (s->stride == s->size) {
        s->crc = mdn_crc32c(s->crc, s->from, s->rows * s->size);
        return;
    }
    for (uint64_t i = 0; i < s->rows; i++)
        s->crc = mdn_crc32c(s->crc, s->from + i * s->stride, s->size);
}

/* Read pages in; false if that would raise a signal. */
static bool
populate(const mdn_io *io, const uint8_t *from, uint64_t size)
{
    uint64_t lead = (uint64_t)(uintptr_t)from % PAGE;

    return io->advise(io->self, from - lead, size + lead, MDN_ADVICE_NOW)
           != -EFAULT;
}

mdn_status
mdn_linked_verify(mdn_store *store, uint64_t key, uint64_t rows, uint32_t *crc,
                  mdn_error *err)
{
    const mdn_layout *layout = &store->layout;
    uint64_t segment = key >> layout->segment_shift;
    const mdn_segment *seg = &store->segments[segment];
    const mdn_place *place = &store->places[segment];
    summing s = {.from = mdn_store_records(store, segment)
                         + mdn_layout_row(layout, key) * place->stride,
                 .rows = rows,
                 .size = layout->record_size,
                 .stride = place->stride,
                 .crc = *crc};
    mdn_status st = check_file(store, seg, err);

    if (st == MDN_OK
        && !populate(store->io, s.from, (rows - 1) * s.stride + s.size))
        st = fail_page(store, seg, err);
    if (st == MDN_OK)
        st = mdn_linked_read(store, sum_rows, &s, err);
    *crc = s.crc;
    return st;
}

/* One bit per link: this one was looked at. */
mdn_status
mdn_linked_check(const mdn_view *view, const uint64_t *keys, uint64_t count,
                 mdn_error *err)
{
    const mdn_store *store = view->store;
    uint32_t shift = store->layout.segment_shift;
    uint64_t size = view->history->link_count / 64 + 1, last = UINT64_MAX;
    uint64_t *seen = calloc(size, sizeof *seen);
    mdn_status st = MDN_OK;

    if (seen == NULL)
        return mdn_fail_nomem(err, size * sizeof *seen);
    for (uint64_t i = 0; i < count && st == MDN_OK; i++) {
        const mdn_link *link;
        uint64_t segment = keys[i] >> shift;

        if (segment == last
            || (link = mdn_history_link(view->history, segment)) == NULL)
            continue;
        last = segment;
        if ((seen[link->number / 64] >> (link->number % 64)) & 1)
            continue;
        seen[link->number / 64] |= UINT64_C(1) << (link->number % 64);
        st = check_file(store, &store->segments[segment], err);
    }
    free(seen);
    return st;
}
