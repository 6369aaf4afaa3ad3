/* test_hugecopy.c - views whose records lie in memory of their own. */
#include "check.h"
#include "samples.h"

#include "base/random.h"
#include "faulty_io.h"
#include "storage/compact.h"
#include "storage/hugecopy.h"
#include "storage/verify.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT UINT64_C(20000)
#define HUGE_SIZE UINT64_C(0x200000)

static const char *const SCHEMAS[] = {FIXED, RAGGED};

static mdn_dataset *
make(const char *path, int schema)
{
    mdn_dataset *dataset =
        samples_create(&mdn_io_system, path, SCHEMAS[schema], true);

    if (samples_append(dataset, 0, COUNT, NULL) != MDN_OK)
        abort();
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

static mdn_view *
copy_of(mdn_view *view, uint64_t first, uint64_t end, uint32_t threads)
{
    mdn_view *copy = NULL;
    mdn_error err;

    if (mdn_hugecopy_new(view, first, end, threads, NULL, &copy, &err)
        != MDN_OK) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    return copy;
}

/* Make every file of the dataset unreadable to those who map it. */
static void
spoil(const char *path, const char *suffix)
{
    for (int s = 0; s < 3; s++) {
        char file[256];
        int fd;

        snprintf(file, sizeof file, "%s/%06d.%s", path, s, suffix);
        fd = open(file, O_WRONLY);
        if (fd < 0)
            continue;
        for (off_t at = 0; at < 4000000; at += 1000)
            if (lseek(fd, 0, SEEK_END) > at)
                CHECK(pwrite(fd, "spoilt!", 7, at) == 7);
        close(fd);
    }
}

static void
a_copy_shows_the_same_and_needs_no_file_for_it(void)
{
    static const uint64_t ranges[][2] = {
        {0, COUNT}, {0, 1}, {COUNT - 1, COUNT}, {8191, 8193}, {5000, 19000}};

    for (int s = 0; s < 2; s++) {
        for (int r = 0; r < 5; r++) {
            const char *path = samples_path();
            mdn_dataset *dataset = make(path, s);
            mdn_view *view = view_of(dataset);
            uint64_t first = ranges[r][0], end = ranges[r][1];
            mdn_view *copy = copy_of(view, first, end, 1 + (uint32_t)r % 3);

            CHECK(samples_check(copy, 2, NULL) == MDN_OK);
            mdn_view_release(view);
            spoil(path, "seg");
            for (uint64_t key = first; key < end; key += 1 + key % 7)
                CHECK(samples_check_keys(copy, &key, 1, 1, NULL) == MDN_OK);
            mdn_dataset_free(dataset);
            CHECK(samples_check_keys(copy, &first, 1, 1, NULL) == MDN_OK);
            mdn_view_release(copy);
            samples_remove(path);
        }
    }
}

static void
its_size_is_that_of_its_huge_pages(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = make(path, 0);
    mdn_view *view = view_of(dataset);
    uint64_t one = 0, all = 0;

    CHECK(mdn_hugecopy_size(view, 9000, 9001, &one, NULL) == MDN_OK);
    CHECK(one == HUGE_SIZE);
    CHECK(mdn_hugecopy_size(view, 0, COUNT, &all, NULL) == MDN_OK);
    CHECK(all == 3 * HUGE_SIZE); /* three segments of 8192 * 28 bytes */
    mdn_view_release(view);
    mdn_dataset_free(dataset);
    samples_remove(path);
}

static void
damage_is_found_while_it_is_made(void)
{
    for (int s = 0; s < 2; s++) {
        const char *path = samples_path();
        mdn_dataset *dataset = make(path, s);
        mdn_view *view = view_of(dataset), *copy;
        mdn_error err;

        spoil(path, "seg");
        for (uint32_t threads = 1; threads < 4; threads++) {
            CHECK(mdn_hugecopy_new(view, 0, COUNT, threads, NULL, &copy, &err)
                  == MDN_CORRUPT);
            CHECK(copy == NULL && strstr(err.message, path));
        }
        mdn_view_release(view);
        mdn_dataset_free(dataset);
        samples_remove(path);
    }
}

static void
a_linked_file_is_copied_and_what_becomes_of_it_is_told(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = samples_create(&mdn_io_system, path, FIXED, true);
    mdn_link_report report;
    mdn_link_options options;
    mdn_view *view, *copy;
    uint64_t key = 9000;
    char file[256];

    CHECK(samples_append(dataset, 0, 8192, NULL) == MDN_OK);
    snprintf(file, sizeof file, "%s.bin", path);
    samples_write_file(file, 8192, 2 * 8192);
    options = samples_link_options(file, 1);
    CHECK(mdn_dataset_link(dataset, &options, "s", 1, NULL, &report, NULL)
          == MDN_OK);
    view = view_of(dataset);
    copy = copy_of(view, 4000, 3 * 8192, 2);
    CHECK(samples_check(copy, 2, NULL) == MDN_OK);
    CHECK(truncate(file, 100) == 0);
    CHECK(samples_check_keys(copy, &key, 1, 1, NULL) == MDN_CORRUPT);
    mdn_view_release(copy);
    CHECK(mdn_hugecopy_new(view, 4000, 3 * 8192, 2, NULL, &copy, NULL)
          == MDN_CORRUPT);
    mdn_view_release(view);
    mdn_dataset_free(dataset);
    unlink(file);
    samples_remove(path);
}

/* As of its view: what is erased later is still there; what was before is not,
 * also when its bytes are gone. */
static void
erasing_means_what_it_means_for_any_view(void)
{
    for (int s = 0; s < 2; s++) {
        const char *path = samples_path();
        mdn_dataset *dataset = make(path, s);
        uint64_t before = 100, later = 12000, erased;
        mdn_compaction report;
        mdn_view *view, *copy;

        CHECK(
            mdn_dataset_erase(dataset, &before, 1, "me", "test", &erased, NULL)
            == MDN_OK);
        view = view_of(dataset);
        copy = copy_of(view, 0, COUNT, 2);
        CHECK(mdn_dataset_erase(dataset, &later, 1, "me", "test", &erased, NULL)
              == MDN_OK);
        CHECK(mdn_dataset_compact(dataset, NULL, &report, NULL) == MDN_OK);
        CHECK(samples_check_keys(copy, &before, 1, 1, NULL) == MDN_NO_KEY);
        CHECK(samples_check_keys(copy, &later, 1, 1, NULL) == MDN_OK);
        mdn_view_release(copy);
        /* A view that comes to the files only now. */
        copy = copy_of(view, 0, COUNT, 2);
        CHECK(samples_check_keys(copy, &later, 1, 1, NULL) == MDN_NO_KEY);
        for (uint64_t key = 0; key < COUNT; key += 371)
            if (key != before && key != later)
                CHECK(samples_check_keys(copy, &key, 1, 1, NULL) == MDN_OK);
        mdn_view_release(copy);
        mdn_view_release(view);
        view = view_of(dataset); /* and one of today */
        copy = copy_of(view, 0, COUNT, 2);
        CHECK(samples_check_keys(copy, &later, 1, 1, NULL) == MDN_NO_KEY);
        CHECK(samples_check_keys(copy, &before, 1, 1, NULL) == MDN_NO_KEY);
        mdn_view_release(copy);
        mdn_view_release(view);
        mdn_dataset_free(dataset);
        samples_remove(path);
    }
}

static mdn_status
refuse(void *ctx, mdn_error *err)
{
    int *left = ctx;

    return --*left < 0 ? mdn_fail(err, MDN_CALLBACK, "enough") : MDN_OK;
}

static void
a_pulse_that_says_no_ends_it(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = make(path, 1);
    mdn_view *view = view_of(dataset), *copy = NULL;
    int ended = 0;

    for (int n = 0; n < 8; n++) {
        int left = n;
        mdn_pulse pulse = {.ask = refuse, .ctx = &left};
        mdn_status st =
            mdn_hugecopy_new(view, 0, COUNT, 1, &pulse, &copy, NULL);

        CHECK(st == MDN_OK || st == MDN_CALLBACK);
        CHECK((st == MDN_OK) == (copy != NULL));
        ended += st != MDN_OK;
        mdn_view_release(copy);
    }
    CHECK(ended >= 3);
    mdn_view_release(view);
    mdn_dataset_free(dataset);
    samples_remove(path);
}

/* Whichever call fails: an error, and nothing is held. */
static void
a_failing_call_is_an_error(void)
{
    for (int s = 0; s < 2; s++) {
        const char *path = samples_path();
        mdn_dataset *writer = make(path, s);
        bool fired = true;

        for (int n = 0; fired; n++) {
            faulty disk = {.fault = FAULT_NONE};
            mdn_dataset *dataset;
            mdn_view *view, *copy = NULL;
            mdn_status st;

            CHECK(
                mdn_dataset_open(faulty_io(&disk), path, false, &dataset, NULL)
                == MDN_OK);
            view = view_of(dataset);
            disk.fault = FAULT_EIO;
            disk.fail_at = disk.calls + n;
            st = mdn_hugecopy_new(view, 0, COUNT, 1, NULL, &copy, NULL);
            fired = disk.fired;
            disk.fault = FAULT_NONE;
            CHECK((st == MDN_OK) == !fired && (st == MDN_OK) == (copy != NULL));
            mdn_view_release(copy);
            mdn_view_release(view);
            mdn_dataset_free(dataset);
            CHECK(disk.open_files == 0);
        }
        mdn_dataset_free(writer);
        samples_remove(path);
    }
}

int
main(void)
{
    RUN(a_copy_shows_the_same_and_needs_no_file_for_it);
    RUN(its_size_is_that_of_its_huge_pages);
    RUN(damage_is_found_while_it_is_made);
    RUN(a_linked_file_is_copied_and_what_becomes_of_it_is_told);
    RUN(erasing_means_what_it_means_for_any_view);
    RUN(a_pulse_that_says_no_ends_it);
    RUN(a_failing_call_is_an_error);
    return check_report("test_hugecopy");
}
