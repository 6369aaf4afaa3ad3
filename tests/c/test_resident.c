/* test_resident.c - which ranges keys need, and bringing them in. */
#include "check.h"
#include "samples.h"

#include "base/random.h"
#include "faulty_io.h"
#include "storage/verify.h"
#include "storage/wants.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE UINT64_C(4096)
#define PAGES UINT64_C(16384) /* 64 MiB of addresses, never touched */
#define COUNT UINT64_C(20000)

static const char *const SCHEMAS[] = {FIXED, RAGGED};

/* ----- the list ----- */

static uint8_t *
addresses(void)
{
    uint8_t *at = mmap(NULL, PAGES * PAGE, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (at == MAP_FAILED)
        abort();
    return at;
}

/* Ascending, whole pages, no page twice, at most 8 MiB, none across a multiple
 * of that; bytes is their sum. */
static bool
are_sound(const mdn_spans *spans)
{
    const uint64_t most = UINT64_C(8) << 20;
    uint64_t bytes = 0;

    for (uint64_t i = 0; i < spans->count; i++) {
        const mdn_span *s = &spans->items[i];
        uint64_t at = (uint64_t)(uintptr_t)s->at;

        bytes += s->size;
        if (at % PAGE != 0 || s->size % PAGE != 0 || s->size == 0
            || at / most != (at + s->size - 1) / most)
            return false;
        if (i > 0 && s->at < s[-1].at + s[-1].size)
            return false;
    }
    return bytes == spans->bytes;
}

/* Against a list of pages: all that was asked for is there, and what is there
 * besides lies in gaps of at most four pages. */
static void
spans_cover_what_was_added_and_small_gaps_only(void)
{
    static uint8_t wanted[PAGES], got[PAGES];
    uint8_t *home = addresses();

    for (uint64_t seed = 0; seed < 60; seed++) {
        mdn_spans spans = {0};
        uint64_t at = mdn_mix(seed) % 100000;
        uint64_t step_max = UINT64_C(1) << (4 + seed % 18);

        memset(wanted, 0, sizeof wanted);
        memset(got, 0, sizeof got);
        for (uint64_t n = 0; at + step_max < PAGES * PAGE && n < 3000; n++) {
            uint64_t size = 1 + mdn_mix(seed * 99991 + n) % step_max;

            CHECK(mdn_spans_add(&spans, home, home + at, size, NULL) == MDN_OK);
            for (uint64_t p = at / PAGE; p <= (at + size - 1) / PAGE; p++)
                wanted[p] = 1;
            at += size + mdn_mix(seed * 77773 + n) % step_max;
        }
        CHECK(are_sound(&spans));
        for (uint64_t i = 0; i < spans.count; i++)
            memset(got + (spans.items[i].at - home) / 4096, 1,
                   spans.items[i].size / PAGE);
        for (uint64_t p = 0, extra = 0; p < PAGES; p++) {
            CHECK(!wanted[p] || got[p]);
            extra = got[p] && !wanted[p] ? extra + 1 : 0;
            CHECK(extra <= 4);
            if (p >= 2 && wanted[p] && wanted[p - 2])
                CHECK(got[p - 1]); /* a small gap is joined */
        }
        mdn_spans_free(&spans);
    }
    munmap(home, PAGES * PAGE);
}

static void
ranges_of_different_mappings_are_not_joined(void)
{
    uint8_t *home = addresses();
    mdn_spans spans = {0};

    CHECK(mdn_spans_add(&spans, home, home, 10, NULL) == MDN_OK);
    CHECK(mdn_spans_add(&spans, home + 8192, home + 8192, 10, NULL) == MDN_OK);
    CHECK(spans.count == 2 && spans.bytes == 2 * PAGE);
    CHECK(mdn_spans_add(&spans, home + 8192, home + 8200, 10, NULL) == MDN_OK);
    CHECK(spans.count == 2 && spans.bytes == 2 * PAGE);
    mdn_spans_free(&spans);
    CHECK(spans.items == NULL && spans.count == 0 && spans.bytes == 0);
    munmap(home, PAGES * PAGE);
}

/* ----- a table that remembers what it was told ----- */

typedef struct {
    mdn_io io;
    int refusal; /* what all advice is answered with; nothing is done */
    _Atomic uint64_t huge, soon, now, asked;
    _Atomic uint64_t soon_ahead; /* most reads begun and not waited for */
    atomic_bool *stop;           /* set by the first advice */
    mdn_span populated[8192];
} notebook;

static int
note_advice(void *self, const void *at, uint64_t size, mdn_advice advice)
{
    notebook *book = self;

    CHECK((uint64_t)(uintptr_t)at % PAGE == 0 && size > 0);
    book->huge += advice == MDN_ADVICE_HUGE;
    book->soon += advice == MDN_ADVICE_SOON;
    if (advice == MDN_ADVICE_NOW)
        book->populated[book->now++ % 8192] = (mdn_span){at, size};
    if (advice == MDN_ADVICE_SOON)
        CHECK(size <= 131072);
    if (book->soon - book->now > book->soon_ahead && book->soon > book->now)
        book->soon_ahead = book->soon - book->now;
    if (book->stop != NULL)
        atomic_store(book->stop, true);
    return book->refusal;
}

static int
note_question(void *self, const void *at, uint64_t size, uint8_t *pages)
{
    notebook *book = self;

    (void)at;
    book->asked++;
    memset(pages, 1, size / PAGE);
    return 0;
}

static void
open_book(notebook *book)
{
    memset(book, 0, sizeof *book);
    book->io = mdn_io_system;
    book->io.self = book;
    book->io.advise = note_advice;
    book->io.resident = note_question;
}

/* Whether ranges in ascending order hold all of these bytes. */
static bool
hold(const mdn_span *ranges, uint64_t count, const void *at, uint64_t size)
{
    const uint8_t *from = at;

    for (uint64_t i = 0; i < count && size > 0; i++) {
        const mdn_span *s = &ranges[i];

        if (from >= s->at && from < s->at + s->size) {
            uint64_t here = (uint64_t)(s->at + s->size - from);

            here = here < size ? here : size;
            from += here;
            size -= here;
        }
    }
    return size == 0;
}

/* Spans of one page and of a few MiB, in turn. */
static mdn_spans
mixed_spans(const uint8_t *home)
{
    mdn_spans spans = {0};

    for (uint64_t i = 0; i < 6; i++) {
        const uint8_t *at = home + i * (UINT64_C(10) << 20);

        for (uint64_t k = 0; k < 50; k++)
            CHECK(mdn_spans_add(&spans, home, at + k * 65536, 100, NULL)
                  == MDN_OK);
        CHECK(mdn_spans_add(&spans, home, at + (UINT64_C(4) << 20),
                            UINT64_C(5) << 20, NULL)
              == MDN_OK);
    }
    return spans;
}

/* Every span, run or not, is populated once. */
static uint64_t
populated_of(const mdn_spans *spans, uint64_t first, uint64_t last,
             const notebook *book)
{
    uint64_t bytes = 0;

    for (uint64_t i = 0; i < book->now; i++)
        bytes += book->populated[i].size;
    for (uint64_t i = first; i < last; i++) {
        const mdn_span *s = &spans->items[i];

        CHECK(hold(book->populated, book->now, s->at, s->size));
    }
    return bytes;
}

static void
all_spans_are_populated_with_so_many_reads_under_way(void)
{
    static const uint32_t requests[] = {0, 1, 2, 32, 128, 5000};
    uint8_t *home = addresses();
    mdn_spans spans = mixed_spans(home);

    for (size_t r = 0; r < sizeof requests / sizeof *requests; r++) {
        static notebook book;

        open_book(&book);
        mdn_spans_bring(&spans, 0, spans.count, &book.io, requests[r], NULL);
        CHECK(populated_of(&spans, 0, spans.count, &book) == spans.bytes);
        CHECK(book.huge > 0 && book.soon >= 300);
        CHECK(book.soon_ahead <= (requests[r] < 1 ? 1 : requests[r]));
    }
    mdn_spans_free(&spans);
    munmap(home, PAGES * PAGE);
}

static void
a_part_of_the_spans_can_be_brought(void)
{
    uint8_t *home = addresses();
    mdn_spans spans = mixed_spans(home);
    static notebook book;
    uint64_t right = 0;

    open_book(&book);
    mdn_spans_bring(&spans, 10, 70, &book.io, 4, NULL);
    for (uint64_t i = 10; i < 70; i++)
        right += spans.items[i].size;
    CHECK(populated_of(&spans, 10, 70, &book) == right && right > 0);
    mdn_spans_free(&spans);
    munmap(home, PAGES * PAGE);
}

static void
bringing_stops_when_it_is_told(void)
{
    uint8_t *home = addresses();
    mdn_spans spans = mixed_spans(home);
    atomic_bool stop = true;
    static notebook book;

    open_book(&book);
    mdn_spans_bring(&spans, 0, spans.count, &book.io, 32, &stop);
    CHECK(book.huge + book.soon + book.now == 0);
    stop = false;
    book.stop = &stop;
    mdn_spans_bring(&spans, 0, spans.count, &book.io, 1, &stop);
    CHECK(book.huge + book.soon + book.now <= 4);
    mdn_spans_free(&spans);
    munmap(home, PAGES * PAGE);
}

/* Linux before 5.14. */
static void
where_nothing_can_be_populated_reads_are_begun(void)
{
    uint8_t *home = addresses();
    mdn_spans spans = mixed_spans(home);
    static notebook book;

    open_book(&book);
    book.refusal = -EINVAL;
    mdn_spans_bring(&spans, 0, spans.count, &book.io, 32, NULL);
    CHECK(book.soon * 131072 >= spans.bytes);
    mdn_spans_free(&spans);
    munmap(home, PAGES * PAGE);
}

static void
what_the_kernel_does_not_say_counts_as_not_there(void)
{
    uint8_t *home = addresses();
    mdn_spans spans = mixed_spans(home);
    faulty disk = {.fault = FAULT_EIO, .sticky = true};
    static notebook book;

    open_book(&book);
    CHECK(mdn_spans_resident(&spans, &book.io) == spans.bytes);
    CHECK(mdn_spans_resident(&spans, faulty_io(&disk)) == 0);
    CHECK(disk.fired);
    mdn_spans_free(&spans);
    munmap(home, PAGES * PAGE);
}

/* ----- of a view ----- */

static mdn_dataset *
make(const mdn_io *io, const char *path, int schema, uint64_t count)
{
    mdn_dataset *dataset = samples_create(io, path, SCHEMAS[schema], true);
    mdn_error err;

    if (samples_append(dataset, 0, count, &err) != MDN_OK) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    return dataset;
}

static mdn_view *
view_of(mdn_dataset *dataset)
{
    mdn_view *view;

    if (mdn_dataset_view(dataset, &view, NULL) != MDN_OK)
        abort();
    return view;
}

static mdn_dataset *
open_at(const mdn_io *io, const char *path)
{
    mdn_dataset *dataset;
    mdn_error err;

    if (mdn_dataset_open(io, path, false, &dataset, &err) != MDN_OK) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    return dataset;
}

static uint64_t *
random_keys(uint64_t count, uint64_t end, uint64_t seed)
{
    uint64_t *keys = malloc(count * sizeof *keys + 1);

    for (uint64_t i = 0; i < count; i++)
        keys[i] = mdn_mix(seed * 1000003 + i) % end;
    return keys;
}

static bool
holds_sample(const mdn_view *view, const mdn_spans *spans, uint64_t key)
{
    const mdn_store *store = view->store;
    uint64_t size = store->layout.record_size;

    if (store->layout.has[MDN_OFFSETS])
        size = mdn_view_record_size(view, key);
    return hold(spans->items, spans->count, mdn_view_record(view, key), size)
           && hold(spans->items, spans->count,
                   mdn_store_column(store, MDN_LABELS) + key, 8)
           && hold(spans->items, spans->count,
                   mdn_store_column(store, MDN_TIMESTAMPS) + key, 8);
}

static void
the_bytes_of_all_keys_are_wanted(void)
{
    const unsigned all =
        MDN_WANT_RECORDS | MDN_WANT_LABELS | MDN_WANT_TIMESTAMPS;

    for (int s = 0; s < 2; s++) {
        const char *path = samples_path();
        mdn_dataset *writer = make(&mdn_io_system, path, s, COUNT);
        uint64_t counts[] = {0, 1, 3, 100, 5000};

        for (uint64_t c = 0; c < 5; c++) {
            mdn_dataset *dataset = open_at(&mdn_io_system, path);
            mdn_view *view = view_of(dataset);
            uint64_t *keys = random_keys(counts[c], COUNT, c);

            for (int round = 0; round < 2; round++) { /* then verified */
                mdn_spans spans = {0};

                CHECK(
                    mdn_wants_of(view, keys, counts[c], all, NULL, &spans, NULL)
                    == MDN_OK);
                CHECK((spans.bytes == 0) == (counts[c] == 0));
                for (uint64_t i = 0; i < counts[c]; i++)
                    CHECK(holds_sample(view, &spans, keys[i]));
                mdn_spans_bring(&spans, 0, spans.count, &mdn_io_system, 8,
                                NULL);
                CHECK(mdn_spans_resident(&spans, &mdn_io_system)
                      == spans.bytes);
                mdn_spans_free(&spans);
                CHECK(samples_check_keys(view, keys, counts[c], 1, NULL)
                      == MDN_OK);
            }
            free(keys);
            mdn_view_release(view);
            mdn_dataset_free(dataset);
        }
        mdn_dataset_free(writer);
        samples_remove(path);
    }
}

/* 28 bytes a record: a block of 4096 of them, or a page of one. */
static void
a_block_is_wanted_whole_until_it_is_verified(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = make(&mdn_io_system, path, 0, COUNT);
    mdn_view *view = view_of(dataset);
    uint64_t key = 5000;
    mdn_spans before = {0}, after = {0};

    CHECK(mdn_wants_of(view, &key, 1, MDN_WANT_RECORDS, NULL, &before, NULL)
          == MDN_OK);
    CHECK(before.bytes >= 4096 * 28);
    CHECK(samples_check_keys(view, &key, 1, 1, NULL) == MDN_OK);
    CHECK(mdn_wants_of(view, &key, 1, MDN_WANT_RECORDS, NULL, &after, NULL)
          == MDN_OK);
    CHECK(after.count == 1 && after.bytes <= 2 * PAGE);
    mdn_spans_free(&before);
    mdn_spans_free(&after);
    mdn_view_release(view);
    mdn_dataset_free(dataset);
    samples_remove(path);
}

static void
keys_that_are_not_there_want_nothing(void)
{
    static const uint64_t keys[] = {UINT64_MAX, COUNT, 7, UINT64_MAX - 1,
                                    COUNT + 1};

    for (int s = 0; s < 2; s++) {
        const char *path = samples_path();
        mdn_dataset *dataset = make(&mdn_io_system, path, s, COUNT);
        mdn_view *view = view_of(dataset);
        mdn_spans spans = {0}, one = {0};

        CHECK(mdn_wants_of(view, keys, 5, MDN_WANT_RECORDS, NULL, &spans, NULL)
              == MDN_OK);
        CHECK(
            mdn_wants_of(view, keys + 2, 1, MDN_WANT_RECORDS, NULL, &one, NULL)
            == MDN_OK);
        CHECK(spans.bytes == one.bytes && one.bytes > 0);
        mdn_spans_free(&spans);
        mdn_spans_free(&one);
        CHECK(mdn_wants_of(view, keys, 2, MDN_WANT_RECORDS, NULL, &spans, NULL)
              == MDN_OK);
        CHECK(spans.count == 0);
        mdn_view_release(view);
        mdn_dataset_free(dataset);
        samples_remove(path);
    }
}

static void
a_stopped_question_has_no_answer(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = make(&mdn_io_system, path, 1, 100);
    mdn_view *view = view_of(dataset);
    atomic_bool stop = true;
    uint64_t key = 50;
    mdn_spans spans = {0};

    CHECK(mdn_wants_of(view, &key, 1, MDN_WANT_RECORDS, &stop, &spans, NULL)
          == MDN_CANCELLED);
    CHECK(spans.items == NULL && spans.count == 0);
    mdn_view_release(view);
    mdn_dataset_free(dataset);
    samples_remove(path);
}

static void
a_warm_view_has_its_columns_too(void)
{
    for (int s = 0; s < 2; s++) {
        const char *path = samples_path();
        mdn_dataset *writer = make(&mdn_io_system, path, s, COUNT);
        mdn_dataset *dataset;
        static notebook book;
        mdn_view *view;

        open_book(&book);
        dataset = open_at(&book.io, path);
        view = view_of(dataset);
        mdn_view_warm(view);
        for (int kind = MDN_TIMESTAMPS; kind < MDN_KINDS; kind++)
            CHECK(!view->store->layout.has[kind]
                  || hold(book.populated, book.now, view->store->column[kind],
                          COUNT * 8));
        CHECK(samples_check(view, 1, NULL) == MDN_OK);
        for (uint64_t key = 0; key < COUNT; key += 999)
            CHECK(hold(book.populated, book.now, mdn_view_record(view, key),
                       view->store->layout.record_size));
        mdn_view_release(view);
        mdn_dataset_free(dataset);
        mdn_dataset_free(writer);
        samples_remove(path);
    }
}

/* ----- when something is wrong ----- */

/* Ask, bring and warm; whatever the system says. */
static void
bring_all(mdn_view *view, const uint64_t *keys, uint64_t count)
{
    mdn_spans spans = {0};

    mdn_wants_resident(view, keys, count, MDN_WANT_RECORDS);
    if (mdn_wants_of(view, keys, count, MDN_WANT_RECORDS | MDN_WANT_LABELS,
                     NULL, &spans, NULL)
        == MDN_OK) {
        mdn_spans_resident(&spans, view->store->io);
        mdn_spans_bring(&spans, 0, spans.count, view->store->io, 4, NULL);
    }
    mdn_spans_free(&spans);
    mdn_view_warm(view);
}

/* Whichever call fails, and all of them: nothing is lost but time. */
static void
no_failing_call_of_the_system_harms(void)
{
    uint64_t *keys = random_keys(300, COUNT, 5);

    for (int s = 0; s < 2; s++) {
        const char *path = samples_path();
        mdn_dataset *writer = make(&mdn_io_system, path, s, COUNT);
        bool fired = true;

        for (int n = 0; fired; n += 1 + n / 8) {
            for (int sticky = 0; sticky < 2; sticky++) {
                faulty disk = {.fault = FAULT_NONE};
                mdn_dataset *dataset = open_at(faulty_io(&disk), path);
                mdn_view *view = view_of(dataset);

                disk.fault = FAULT_EIO;
                disk.fail_at = disk.calls + n;
                disk.sticky = sticky == 1;
                bring_all(view, keys, 300);
                fired = disk.fired;
                disk.fault = FAULT_NONE;
                CHECK(samples_check_keys(view, keys, 300, 1, NULL) == MDN_OK);
                mdn_view_release(view);
                mdn_dataset_free(dataset);
                CHECK(disk.open_files == 0);
            }
        }
        mdn_dataset_free(writer);
        samples_remove(path);
    }
    free(keys);
}

static void
a_file_that_was_cut_under_its_mapping_ends_nothing(void)
{
    uint64_t *keys = random_keys(300, COUNT, 6);

    for (int s = 0; s < 2; s++) {
        const char *path = samples_path();
        mdn_dataset *dataset = make(&mdn_io_system, path, s, COUNT);
        mdn_view *view = view_of(dataset);
        char file[256];

        bring_all(view, keys, 300); /* all is mapped, nothing verified */
        snprintf(file, sizeof file, "%s/000001.seg", path);
        CHECK(truncate(file, 4096) == 0);
        bring_all(view, keys, 300);
        CHECK(unlink(file) == 0);
        bring_all(view, keys, 300);
        mdn_view_release(view);
        mdn_dataset_free(dataset);
        samples_remove(path);
    }
    free(keys);
}

static void
a_linked_file_is_brought_in_and_may_go(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = make(&mdn_io_system, path, 0, 8192);
    uint64_t *keys = random_keys(300, 3 * 8192, 7);
    mdn_link_report report;
    mdn_link_options options;
    static notebook book;
    mdn_view *view;
    char file[256];

    snprintf(file, sizeof file, "%s.bin", path);
    samples_write_file(file, 8192, 2 * 8192);
    options = samples_link_options(file, 1);
    CHECK(mdn_dataset_link(dataset, &options, "s", 1, NULL, &report, NULL)
          == MDN_OK);
    mdn_dataset_free(dataset);
    open_book(&book);
    dataset = open_at(&book.io, path);
    view = view_of(dataset);
    bring_all(view, keys, 300);
    CHECK(samples_check_keys(view, keys, 300, 1, NULL) == MDN_OK);
    for (int i = 0; i < 300; i++)
        CHECK(
            hold(book.populated, book.now, mdn_view_record(view, keys[i]), 28));
    mdn_view_release(view);
    mdn_dataset_free(dataset);
    dataset = open_at(&mdn_io_system, path);
    view = view_of(dataset);
    bring_all(view, keys, 300);
    CHECK(truncate(file, 100) == 0);
    bring_all(view, keys, 300);
    CHECK(samples_check_keys(view, keys, 300, 1, NULL) == MDN_CORRUPT);
    CHECK(unlink(file) == 0);
    bring_all(view, keys, 300);
    mdn_view_release(view);
    mdn_dataset_free(dataset);
    samples_remove(path);
    free(keys);
}

int
main(void)
{
    RUN(spans_cover_what_was_added_and_small_gaps_only);
    RUN(ranges_of_different_mappings_are_not_joined);
    RUN(all_spans_are_populated_with_so_many_reads_under_way);
    RUN(a_part_of_the_spans_can_be_brought);
    RUN(bringing_stops_when_it_is_told);
    RUN(where_nothing_can_be_populated_reads_are_begun);
    RUN(what_the_kernel_does_not_say_counts_as_not_there);
    RUN(the_bytes_of_all_keys_are_wanted);
    RUN(a_block_is_wanted_whole_until_it_is_verified);
    RUN(keys_that_are_not_there_want_nothing);
    RUN(a_stopped_question_has_no_answer);
    RUN(a_warm_view_has_its_columns_too);
    RUN(no_failing_call_of_the_system_harms);
    RUN(a_file_that_was_cut_under_its_mapping_ends_nothing);
    RUN(a_linked_file_is_brought_in_and_may_go);
    return check_report("test_resident");
}
