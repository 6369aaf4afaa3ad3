/* test_link_faults.c - every call of a link fails once, in every way.
 *
 * As in test_dataset_faults.c: the n-th call fails, for n = 0, 1, 2, ... until
 * none does, and then the dataset shows all of the file or nothing of it. */
#include "check.h"
#include "faulty_io.h"
#include "samples.h"

#include "storage/compact.h"
#include "storage/layout.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROWS UINT64_C(8192)
#define BEFORE UINT64_C(8100)
#define IN_FILE (92 + 2 * ROWS + 40)

#if defined(__SANITIZE_THREAD__)
#define STRIDE 41
#elif defined(__SANITIZE_ADDRESS__)
#define STRIDE 11
#else
#define STRIDE 1
#endif

typedef struct {
    faulty_fault fault;
    bool sticky;
    bool power_cut;
} mode;

/* Not FAULT_FLIP: what is read wrongly from the file of the user cannot be
 * told from what is in it. */
static const mode MODES[] = {
    {FAULT_EIO, false, false},    {FAULT_EIO, true, false},
    {FAULT_EIO, false, true},     {FAULT_EIO, true, true},
    {FAULT_ENOSPC, false, false}, {FAULT_ENOSPC, true, false},
    {FAULT_ENOSPC, true, true},   {FAULT_EINTR, false, false},
    {FAULT_SHORT, false, false},  {FAULT_SHORT, true, false},
    {FAULT_KILL, false, false},   {FAULT_KILL, false, true},
    {FAULT_TORN, false, false},   {FAULT_TORN, false, true},
    {FAULT_LIE, false, false},    {FAULT_LIE, true, false},
};
#define MODE_COUNT (sizeof MODES / sizeof MODES[0])

/* The system is itself again: either everything is there or nothing, nothing
 * is left behind, and the dataset goes on, by a link at best. */
static bool
survives(const char *path, const char *file, uint64_t at_least,
         uint64_t at_most, mdn_error *err)
{
    mdn_link_options options = samples_link_options(file, 1);
    mdn_dataset *dataset = NULL;
    mdn_link_report report;
    uint64_t count = 0, again;
    bool good = samples_check_path(path, &count, err) == MDN_OK
                && (count == at_least || count == at_most);

    if (good)
        good = mdn_dataset_open(&mdn_io_system, path, true, &dataset, err)
               == MDN_OK;
    for (uint64_t s = (count + ROWS - 1) / ROWS; good && s < 5; s++) {
        char *name = mdn_layout_path(path, s, 0, "col");

        good = access(name, F_OK) != 0;
        free(name);
    }
    if (good && count == BEFORE) {
        good = mdn_dataset_link(dataset, &options, "s", 1, NULL, &report, err)
               == MDN_OK;
        count += IN_FILE;
    }
    if (good)
        good = samples_append(dataset, count, 9, err) == MDN_OK;
    mdn_dataset_free(dataset);
    return good && samples_check_path(path, &again, err) == MDN_OK
           && again == count + 9;
}

/* With a fault at call n; false if there was none. */
static bool
one_link(const mode *m, int n, const char *file)
{
    const char *path = samples_path();
    mdn_dataset *dataset = samples_create(&mdn_io_system, path, FIXED, true);
    mdn_link_options options = samples_link_options(file, 1);
    faulty disk = {.fault = m->fault,
                   .fail_at = n,
                   .sticky = m->sticky,
                   .record = m->power_cut};
    uint64_t at_least = BEFORE, at_most = BEFORE;
    mdn_link_report report;
    mdn_error err = {.status = MDN_OK};
    mdn_status st;

    CHECK(samples_append(dataset, 0, BEFORE, NULL) == MDN_OK);
    mdn_dataset_free(dataset);
    st = mdn_dataset_open(faulty_io(&disk), path, true, &dataset, &err);
    if (st == MDN_OK)
        st = mdn_dataset_link(dataset, &options, "s", 1, NULL, &report, &err);
    if (st == MDN_OK)
        at_least = at_most = BEFORE + IN_FILE;
    else if (disk.dead || strstr(err.message, "is known when") != NULL)
        at_most = BEFORE + IN_FILE;
    CHECK(st == MDN_OK || (disk.fired && err.message[0] != '\0'));
    mdn_dataset_free(dataset);
    CHECK(disk.open_files == 0);
    if (m->power_cut)
        faulty_power_cut(&disk);
    faulty_forget(&disk);
    err.message[0] = '\0';
    if (!survives(path, file, at_least, at_most, &err)) {
        CHECK(!"the dataset survives");
        fprintf(stderr, "fault %d sticky %d cut %d at call %d: %s\n", m->fault,
                m->sticky, m->power_cut, n, err.message);
    }
    samples_remove(path);
    return n < disk.calls;
}

static void
a_link_is_all_or_nothing_whatever_fails(void)
{
    char file[200];
    int points = 0;

    snprintf(file, sizeof file, "%s.bin", samples_path());
    samples_write_file(file, BEFORE, IN_FILE);
    for (size_t k = 0; k < MODE_COUNT; k++) {
        /* A file that is read byte by byte takes its time. */
        bool slow = MODES[k].fault == FAULT_SHORT && MODES[k].sticky;

        for (int n = 0; one_link(&MODES[k], n, file); points++)
            n += slow ? 29 * STRIDE : STRIDE;
    }
    if (getenv("MODYN_LINK_ROUNDS"))
        printf("%d points\n", points);
    unlink(file);
}

/* A reader shows what is right or fails, and the same view shows everything
 * once the fault is gone. */
static void
reading_a_linked_file_is_right_or_fails(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = samples_create(&mdn_io_system, path, FIXED, true);
    mdn_link_report report;
    char file[200];

    snprintf(file, sizeof file, "%s.bin", path);
    samples_write_file(file, 0, 2 * ROWS);
    mdn_link_options options = samples_link_options(file, 1);
    CHECK(mdn_dataset_link(dataset, &options, NULL, 0, NULL, &report, NULL)
          == MDN_OK);
    mdn_dataset_free(dataset);
    for (size_t k = 0; k < MODE_COUNT; k++) {
        bool more = true; /* calls that have not failed yet */

        for (int n = 0; more && !MODES[k].power_cut; n += STRIDE) {
            faulty disk = {.fault = MODES[k].fault,
                           .fail_at = n,
                           .sticky = MODES[k].sticky};
            mdn_view *view = NULL;
            mdn_error err;
            mdn_status st =
                mdn_dataset_open(faulty_io(&disk), path, false, &dataset, &err);

            if (st == MDN_OK)
                st = mdn_dataset_view(dataset, &view, &err);
            if (st == MDN_OK)
                st = samples_check(view, 1, &err);
            CHECK(st == MDN_OK || (st != MDN_INVALID && disk.fired));
            if (view != NULL && disk.fired && !disk.sticky && !disk.dead)
                CHECK(samples_check(view, 1, &err) == MDN_OK);
            more = n < disk.calls;
            mdn_view_release(view);
            mdn_dataset_free(dataset);
            CHECK(disk.open_files == 0);
        }
    }
    samples_remove(path);
    unlink(file);
}

/* Erased and compacted while every call fails once. */
static void
compacting_a_linked_segment_survives_any_fault(void)
{
    char file[200];

    snprintf(file, sizeof file, "%s.bin", samples_path());
    samples_write_file(file, 0, ROWS);
    for (size_t k = 0; k < MODE_COUNT; k++) {
        bool more = true; /* calls that have not failed yet */

        for (int n = 0; more; n += STRIDE) {
            const char *path = samples_path();
            mdn_dataset *dataset =
                samples_create(&mdn_io_system, path, FIXED, true);
            mdn_link_options options = samples_link_options(file, 1);
            const uint64_t keys[2] = {5, 4097};
            uint64_t erased, at = 4096;
            int64_t label;
            mdn_link_report report;
            mdn_compaction done;
            mdn_view *view;
            mdn_error err;
            faulty disk = {.fault = MODES[k].fault,
                           .fail_at = n,
                           .sticky = MODES[k].sticky,
                           .record = MODES[k].power_cut};

            CHECK(mdn_dataset_link(dataset, &options, NULL, 0, NULL, &report,
                                   NULL)
                  == MDN_OK);
            CHECK(mdn_dataset_erase(dataset, keys, 2, "a", "b", &erased, NULL)
                  == MDN_OK);
            mdn_dataset_free(dataset);
            if (mdn_dataset_open(faulty_io(&disk), path, true, &dataset, &err)
                == MDN_OK)
                mdn_dataset_compact(dataset, NULL, &done, &err);
            more = n < disk.calls;
            mdn_dataset_free(dataset);
            CHECK(disk.open_files == 0);
            if (MODES[k].power_cut)
                faulty_power_cut(&disk);
            faulty_forget(&disk);
            CHECK(mdn_dataset_open(&mdn_io_system, path, true, &dataset, &err)
                  == MDN_OK);
            CHECK(mdn_dataset_compact(dataset, NULL, &done, &err) == MDN_OK);
            CHECK(mdn_dataset_view(dataset, &view, &err) == MDN_OK);
            CHECK(mdn_view_fetch(view, &at, 1, NULL, 0, &label, NULL, 1, &err)
                  == MDN_OK);
            CHECK(mdn_view_fetch(view, keys, 1, NULL, 0, &label, NULL, 1, &err)
                  == MDN_NO_KEY);
            CHECK(mdn_view_link(view, 0).erased == 2);
            mdn_view_release(view);
            mdn_dataset_free(dataset);
            samples_remove(path);
        }
    }
    unlink(file);
}

int
main(void)
{
    RUN(a_link_is_all_or_nothing_whatever_fails);
    RUN(reading_a_linked_file_is_right_or_fails);
    RUN(compacting_a_linked_segment_survives_any_fault);
    return check_report("test_link_faults");
}
