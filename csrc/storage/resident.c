/* resident.c - reading ahead through the page cache.
 *
 * Two ways, by the size of what is wanted.
 *
 *   A run (2 MiB and more) is advised to be of huge pages and populated.  The
 *   kernel reads it by the huge page, the next one ahead of it, and one entry
 *   of the page table then serves 2 MiB.  Two threads read 1.25 times as fast
 *   as one where this was measured.
 *
 *   Anything smaller is asked for with MADV_WILLNEED, which starts a read and
 *   does not wait for it.  `requests` behind, each range is populated, which
 *   waits for its read and maps it.  So one thread keeps the disk as busy as
 *   an io_uring of the same depth does; a hundred threads that fault, populate
 *   or pread did less, since each of their reads wakes and sleeps.
 *
 * The kernel cuts what it is asked to read ahead at a limit of the device, of
 * 128 KiB or more: so that is the size of a request. */
#include "storage/resident.h"

#include "base/parallel.h"

#include <errno.h>
#include <stdlib.h>

#define PAGE UINT64_C(4096)
#define GAP UINT64_C(16384)     /* read rather than asked for separately */
#define RUN UINT64_C(0x200000)  /* a huge page */
#define SPAN UINT64_C(0x800000) /* a span reaches up to a multiple of this */
#define REQUEST UINT64_C(131072)
#define REQUESTS_PER_READER                                                    \
    16 /* a reader of runs has a huge page under way                           \
        */
#define READERS_MAX 4

/* ----- the list ----- */

static mdn_status
push(mdn_spans *spans, const uint8_t *at, uint64_t size, mdn_error *err)
{
    if (spans->count == spans->room) {
        uint64_t room = spans->room == 0 ? 64 : 2 * spans->room;
        mdn_span *items = realloc(spans->items, room * sizeof *items);

        if (items == NULL)
            return mdn_fail_nomem(err, room * sizeof *items);
        spans->items = items;
        spans->room = room;
    }
    spans->items[spans->count++] = (mdn_span){at, size};
    spans->bytes += size;
    return MDN_OK;
}

/* Bytes from here to where a span ends at the latest. */
static uint64_t
left_in_span(const uint8_t *at)
{
    return SPAN - (uint64_t)(uintptr_t)at % SPAN;
}

mdn_status
mdn_spans_add(mdn_spans *spans, const uint8_t *home, const uint8_t *at,
              uint64_t size, mdn_error *err)
{
    uint64_t lead = (uint64_t)(uintptr_t)at % PAGE;
    const uint8_t *from = at - lead;
    uint64_t left = (size + lead + PAGE - 1) & ~(PAGE - 1);
    const uint8_t *to = from + left;
    mdn_status st = MDN_OK;

    if (spans->count > 0 && spans->home == home) {
        mdn_span *last = &spans->items[spans->count - 1];
        const uint8_t *end = last->at + last->size;

        if (to <= end)
            return MDN_OK;
        if (from <= end || (uint64_t)(from - end) <= GAP) {
            uint64_t more = (uint64_t)(to - end);
            uint64_t fits = left_in_span(last->at) - last->size;

            if (more < fits)
                fits = more;
            last->size += fits;
            spans->bytes += fits;
            from = end + fits;
        }
    }
    spans->home = home;
    while (st == MDN_OK && from < to) {
        left = (uint64_t)(to - from);
        if (left > left_in_span(from))
            left = left_in_span(from);
        st = push(spans, from, left, err);
        from += left;
    }
    return st;
}

void
mdn_spans_free(mdn_spans *spans)
{
    free(spans->items);
    *spans = (mdn_spans){0};
}

uint64_t
mdn_spans_resident(const mdn_spans *spans, const mdn_io *io)
{
    uint8_t pages[SPAN / PAGE];
    uint64_t bytes = 0;

    for (uint64_t i = 0; i < spans->count; i++) {
        const mdn_span *span = &spans->items[i];

        if (io->resident(io->self, span->at, span->size, pages) < 0)
            continue;
        for (uint64_t p = 0; p < span->size / PAGE; p++)
            bytes += (pages[p] & 1) * PAGE;
    }
    return bytes;
}

/* ----- bringing ----- */

typedef struct {
    const mdn_spans *spans;
    uint64_t last;
    const mdn_io *io;
    uint32_t requests;
    const atomic_bool *stop;
    _Atomic uint64_t next; /* span to be looked at by the next reader of runs */
} bringing;

static bool
is_stopped(const bringing *b)
{
    return b->stop != NULL
           && atomic_load_explicit(b->stop, memory_order_relaxed);
}

static bool
is_run(const mdn_span *span)
{
    return span->size >= RUN;
}

static int
advise(const bringing *b, const uint8_t *at, uint64_t size, mdn_advice advice)
{
    return b->io->advise(b->io->self, at, size, advice);
}

/* Kernels before 5.14 do not populate; then the reads are at least begun. */
static void
begin_run(const bringing *b, const mdn_span *span)
{
    for (uint64_t at = 0; at < span->size && !is_stopped(b); at += REQUEST) {
        uint64_t left = span->size - at;

        advise(b, span->at + at, left < REQUEST ? left : REQUEST,
               MDN_ADVICE_SOON);
    }
}

static void
read_runs(void *ctx, uint32_t part)
{
    bringing *b = ctx;

    (void)part;
    while (!is_stopped(b)) {
        uint64_t i = atomic_fetch_add(&b->next, 1);
        const mdn_span *span;

        if (i >= b->last)
            return;
        span = &b->spans->items[i];
        if (!is_run(span))
            continue;
        advise(b, span->at, span->size, MDN_ADVICE_HUGE);
        if (advise(b, span->at, span->size, MDN_ADVICE_NOW) == -EINVAL)
            begin_run(b, span);
    }
}

/* Reads that are under way: the oldest is waited for when there are as many as
 * there may be. */
typedef struct {
    const bringing *b;
    mdn_span ring[MDN_REQUESTS_MAX];
    uint64_t begun, ended;
} window;

static void
end_one(window *w)
{
    const mdn_span *oldest = &w->ring[w->ended++ % MDN_REQUESTS_MAX];

    advise(w->b, oldest->at, oldest->size, MDN_ADVICE_NOW);
}

static void
begin_one(window *w, const uint8_t *at, uint64_t size)
{
    if (w->begun - w->ended == w->b->requests)
        end_one(w);
    advise(w->b, at, size, MDN_ADVICE_SOON);
    w->ring[w->begun++ % MDN_REQUESTS_MAX] = (mdn_span){at, size};
}

static void
read_scattered(const bringing *b, uint64_t first)
{
    window w = {.b = b};

    for (uint64_t i = first; i < b->last; i++) {
        const mdn_span *span = &b->spans->items[i];
        uint64_t left;

        if (is_run(span))
            continue;
        for (uint64_t at = 0; at < span->size; at += REQUEST) {
            if (is_stopped(b))
                return;
            left = span->size - at;
            begin_one(&w, span->at + at, left < REQUEST ? left : REQUEST);
        }
    }
    while (w.ended < w.begun && !is_stopped(b))
        end_one(&w);
}

void
mdn_spans_bring(const mdn_spans *spans, uint64_t first, uint64_t last,
                const mdn_io *io, uint32_t requests, const atomic_bool *stop)
{
    bringing b = {.spans = spans,
                  .last = last,
                  .io = io,
                  .requests = requests,
                  .stop = stop};
    uint32_t readers = requests / REQUESTS_PER_READER;
    uint64_t runs = 0;

    if (b.requests < 1)
        b.requests = 1;
    if (b.requests > MDN_REQUESTS_MAX)
        b.requests = MDN_REQUESTS_MAX;
    atomic_init(&b.next, first);
    for (uint64_t i = first; i < last; i++)
        runs += is_run(&spans->items[i]);
    if (readers > READERS_MAX)
        readers = READERS_MAX;
    if (readers > runs)
        readers = (uint32_t)runs;
    if (runs > 0)
        mdn_parallel(readers > 0 ? readers : 1, read_runs, &b);
    if (runs < last - first)
        read_scattered(&b, first);
}
