/* test_dataset_faults.c - every call to the system fails once, in every way.
 *
 * A scenario runs on a disk whose n-th call fails, for n = 0, 1, 2, ... until
 * none does.  Then the dataset is opened with the system's own calls, and must
 * show all that was acknowledged, and nothing in part.  A batch whose append
 * failed may be there whole only when the message said that this is not
 * known, or when the process died. */
#include "check.h"
#include "faulty_io.h"
#include "samples.h"

#include <errno.h>
#include <string.h>

static const char *const SCHEMAS[] = {FIXED, RAGGED};

/* Every call as a plain program; a part of them where they are slow. */
#if defined(__SANITIZE_THREAD__)
#define STRIDE 101
#elif defined(__SANITIZE_ADDRESS__)
#define STRIDE 11
#else
#define STRIDE 1
#endif

typedef struct {
    faulty_fault fault;
    bool sticky;
    bool power_cut; /* afterwards what was not synced is gone */
} mode;

static const mode MODES[] = {
    {FAULT_EIO, false, false},    {FAULT_EIO, true, false},
    {FAULT_EIO, false, true},     {FAULT_EIO, true, true},
    {FAULT_ENOSPC, false, false}, {FAULT_ENOSPC, true, false},
    {FAULT_ENOSPC, true, true},   {FAULT_EINTR, false, false},
    {FAULT_SHORT, false, false},  {FAULT_SHORT, true, false},
    {FAULT_KILL, false, false},   {FAULT_KILL, false, true},
    {FAULT_TORN, false, false},   {FAULT_TORN, false, true},
    {FAULT_FLIP, false, false},   {FAULT_FLIP, true, false},
    {FAULT_LIE, false, false},    {FAULT_LIE, true, false},
};
#define MODE_COUNT (sizeof MODES / sizeof MODES[0])

/* What the outside knows after a scenario. */
typedef struct {
    uint64_t acknowledged; /* samples of appends that returned MDN_OK */
    uint64_t possible;     /* and those of appends whose outcome is unknown */
} knowledge;

static faulty
disk_of(const mode *m, int n)
{
    return (faulty){.fault = m->fault,
                    .fail_at = n,
                    .sticky = m->sticky,
                    .record = m->power_cut};
}

static void
append(mdn_dataset *dataset, const faulty *disk, uint64_t count,
       knowledge *known)
{
    mdn_error err = {.status = MDN_OK};
    bool was_dead = disk->dead;
    mdn_status st = samples_append(dataset, known->acknowledged, count, &err);

    if (was_dead)
        return;
    if (st == MDN_OK) {
        CHECK(known->possible == known->acknowledged); /* no append after it */
        known->acknowledged += count;
        known->possible = known->acknowledged;
    } else if (disk->dead || strstr(err.message, "is known when") != NULL) {
        known->possible = known->acknowledged + count;
    }
    CHECK(st == MDN_OK || err.message[0] != '\0');
}

/* The system is itself again: all that was acknowledged is there and right,
 * and the dataset goes on. */
static bool
survives(const char *path, const knowledge *known, const mode *m, int n)
{
    uint64_t count, again;
    mdn_error err = {.status = MDN_OK};
    mdn_dataset *dataset = NULL;
    bool good = samples_check_path(path, &count, &err) == MDN_OK
                && (count == known->acknowledged || count == known->possible);

    if (good)
        good = mdn_dataset_open(&mdn_io_system, path, true, &dataset, &err)
                   == MDN_OK
               && samples_append(dataset, count, 9, &err) == MDN_OK;
    mdn_dataset_free(dataset);
    if (good)
        good = samples_check_path(path, &again, &err) == MDN_OK
               && again == count + 9;
    if (!good)
        fprintf(stderr,
                "fault %d sticky %d cut %d at call %d: %llu to %llu samples "
                "expected, %llu found; %s\n",
                m->fault, m->sticky, m->power_cut, n,
                (unsigned long long)known->acknowledged,
                (unsigned long long)known->possible, (unsigned long long)count,
                err.message);
    return good;
}

/* Open, append across the end of a segment, and once more. */
static void
write_on(faulty *disk, const char *path, knowledge *known)
{
    mdn_dataset *dataset;
    mdn_error err = {.status = MDN_OK};

    if (mdn_dataset_open(faulty_io(disk), path, true, &dataset, &err)
        != MDN_OK) {
        CHECK(dataset == NULL && disk->fired && err.message[0] != '\0');
        return;
    }
    append(dataset, disk, 3, known);
    append(dataset, disk, 4100, known);
    append(dataset, disk, 5, known);
    mdn_dataset_free(dataset);
}

static void
what_was_acknowledged_survives_any_fault_of_an_append(void)
{
    for (size_t k = 0; k < 2 * MODE_COUNT; k++) {
        const mode *m = &MODES[k / 2];
        bool more = true; /* calls that have not failed yet */

        for (int n = 0; more; n += STRIDE) {
            const char *path = samples_path();
            mdn_dataset *dataset =
                samples_create(&mdn_io_system, path, SCHEMAS[k % 2], k % 4 < 2);
            knowledge known = {4090, 4090};
            faulty disk = disk_of(m, n);

            CHECK(samples_append(dataset, 0, 4090, NULL) == MDN_OK);
            mdn_dataset_free(dataset);
            write_on(&disk, path, &known);
            more = n < disk.calls;
            CHECK(disk.open_files == 0);
            if (m->power_cut)
                faulty_power_cut(&disk);
            faulty_forget(&disk);
            CHECK(survives(path, &known, m, n));
            CHECK(disk.fired || known.acknowledged == 4090 + 4108);
            samples_remove(path);
        }
    }
}

/* The same where a segment begins: the second batch fills the first one. */
static void
a_new_segment_is_safe_from_any_fault(void)
{
    for (size_t k = 0; k < MODE_COUNT; k++) {
        const mode *m = &MODES[k];
        bool more = true; /* calls that have not failed yet */

        for (int n = 0; more; n += STRIDE) {
            const char *path = samples_path();
            mdn_dataset *dataset =
                samples_create(&mdn_io_system, path, SCHEMAS[k % 2], true);
            knowledge known = {8189, 8189};
            faulty disk = disk_of(m, n);

            CHECK(samples_append(dataset, 0, 8189, NULL) == MDN_OK);
            mdn_dataset_free(dataset);
            write_on(&disk, path, &known);
            more = n < disk.calls;
            CHECK(disk.open_files == 0);
            if (m->power_cut)
                faulty_power_cut(&disk);
            faulty_forget(&disk);
            CHECK(survives(path, &known, m, n));
            samples_remove(path);
        }
    }
}

/* A handle that lost one append for want of room goes on when there is room. */
static void
a_full_disk_costs_one_batch_and_no_handle(void)
{
    bool more = true; /* calls that have not failed yet */

    for (int n = 0; more; n += STRIDE) {
        const char *path = samples_path();
        mdn_dataset *dataset;
        faulty disk = {.fault = FAULT_ENOSPC, .fail_at = INT32_MAX};
        mdn_error err;
        mdn_status st;
        uint64_t count = 8000;

        dataset = samples_create(faulty_io(&disk), path, RAGGED, true);
        CHECK(samples_append(dataset, 0, count, NULL) == MDN_OK);
        disk.only = FAULTY_WRITE | FAULTY_ALLOCATE | FAULTY_TRUNCATE;
        disk.calls = 0;
        disk.fail_at = n;
        disk.sticky = true;
        st = samples_append(dataset, count, 900, &err);
        more = n < disk.calls;
        /* The reach is written after the commit, and may fail. */
        CHECK(st == MDN_OK
              || (st == MDN_IO && err.sys_errno == ENOSPC && disk.fired));
        disk.fault = FAULT_NONE;
        if (st == MDN_OK)
            count += 900;
        CHECK(samples_append(dataset, count, 300, &err) == MDN_OK);
        mdn_dataset_free(dataset);
        CHECK(samples_check_path(path, &count, NULL) == MDN_OK);
        CHECK(count == 8300 || count == 9200);
        samples_remove(path);
    }
}

static void
a_handle_refuses_to_write_after_a_failed_sync(void)
{
    /* The syncs of .seg, .col and manifest; the starts of .seg and .col. */
    for (int n = 0; n < 5; n++) {
        const char *path = samples_path();
        mdn_dataset *dataset;
        faulty disk = {.fault = FAULT_EIO, .fail_at = INT32_MAX};
        mdn_error err;
        uint64_t count;

        dataset = samples_create(faulty_io(&disk), path, FIXED, true);
        CHECK(samples_append(dataset, 0, 10, NULL) == MDN_OK);
        disk.only = n < 3 ? FAULTY_SYNC : FAULTY_START;
        disk.calls = 0;
        disk.fail_at = n % 3;
        CHECK(samples_append(dataset, 10, 10, &err) == MDN_IO);
        CHECK(err.sys_errno == EIO && disk.fired);
        CHECK(strstr(err.message, n < 3 ? "sync failed" : "writing out")
              != NULL);
        disk.fault = FAULT_NONE;
        CHECK(samples_append(dataset, 10, 10, &err) == MDN_CLOSED);
        CHECK(strstr(err.message, "open it again") != NULL);
        mdn_dataset_free(dataset);
        CHECK(samples_check_path(path, &count, NULL) == MDN_OK);
        CHECK(count == 10);
        samples_remove(path);
    }
}

static void
creating_is_all_or_nothing(void)
{
    const mdn_dataset_options options = {
        .schema = RAGGED, .has_labels = true, .segment_shift = 13};

    for (size_t k = 0; k < MODE_COUNT; k++) {
        bool more = true; /* calls that have not failed yet */

        for (int n = 0; more; n += STRIDE) {
            const char *path = samples_path();
            faulty disk = disk_of(&MODES[k], n);
            mdn_dataset *dataset;
            mdn_error err = {.status = MDN_OK};
            mdn_status st = mdn_dataset_create(faulty_io(&disk), path, &options,
                                               &dataset, &err);
            uint64_t count;

            more = n < disk.calls;
            CHECK((st == MDN_OK) == (dataset != NULL));
            CHECK(st == MDN_OK || (disk.fired && err.message[0] != '\0'));
            mdn_dataset_free(dataset);
            CHECK(disk.open_files == 0);
            if (MODES[k].power_cut)
                faulty_power_cut(&disk);
            faulty_forget(&disk);

            dataset = NULL;
            if (samples_check_path(path, &count, &err) == MDN_OK) {
                CHECK(count == 0);
                CHECK(
                    mdn_dataset_open(&mdn_io_system, path, true, &dataset, &err)
                    == MDN_OK);
            } else {
                CHECK(st != MDN_OK && err.sys_errno == ENOENT);
                CHECK(mdn_dataset_create(&mdn_io_system, path, &options,
                                         &dataset, &err)
                      == MDN_OK);
            }
            CHECK(samples_append(dataset, 0, 10, &err) == MDN_OK);
            mdn_dataset_free(dataset);
            CHECK(samples_check_path(path, &count, &err) == MDN_OK);
            CHECK(count == 10);
            samples_remove(path);
        }
    }
}

/* A view never lies: it shows the right bytes or reports an error. */
static bool
shows_right_or_fails(mdn_dataset *dataset, const faulty *disk, uint64_t count)
{
    mdn_view *view;
    mdn_error err = {.status = MDN_OK};
    mdn_status st;
    bool good;

    if (mdn_dataset_view(dataset, &view, &err) != MDN_OK)
        return false;
    st = samples_check(view, 1, &err);
    good = st == MDN_OK ? mdn_view_count(view) == count
                        : st != MDN_INVALID && disk->fired;
    /* Once the fault is gone the same view shows everything. */
    if (st != MDN_OK && !disk->sticky && !disk->dead)
        good = good && samples_check(view, 1, &err) == MDN_OK;
    mdn_view_release(view);
    return good;
}

static void
a_reader_shows_what_is_right_or_fails(void)
{
    for (size_t k = 0; k < 2 * MODE_COUNT; k++) {
        const mode *m = &MODES[k / 2];
        bool more = true; /* calls that have not failed yet */

        for (int n = 0; more && !m->power_cut; n += STRIDE) {
            const char *path = samples_path();
            mdn_dataset *writer =
                samples_create(&mdn_io_system, path, SCHEMAS[k % 2], true);
            mdn_dataset *reader;
            mdn_error err = {.status = MDN_OK};
            faulty disk = disk_of(m, n);
            bool grown;

            CHECK(samples_append(writer, 0, 8000, NULL) == MDN_OK);
            if (mdn_dataset_open(faulty_io(&disk), path, false, &reader, &err)
                == MDN_OK) {
                CHECK(shows_right_or_fails(reader, &disk, 8000));
                CHECK(samples_append(writer, 8000, 500, NULL) == MDN_OK);
                if (mdn_dataset_refresh(reader, &grown, &err) == MDN_OK) {
                    /* A flipped bit of the newest record looks torn. */
                    CHECK(grown || (m->fault == FAULT_FLIP && disk.fired));
                    CHECK(shows_right_or_fails(reader, &disk,
                                               grown ? 8500 : 8000));
                } else {
                    CHECK(disk.fired && err.message[0] != '\0');
                    CHECK(shows_right_or_fails(reader, &disk, 8000));
                }
            } else {
                CHECK(disk.fired && err.message[0] != '\0');
            }
            more = n < disk.calls;
            mdn_dataset_free(reader);
            CHECK(disk.open_files == 0);
            mdn_dataset_free(writer);
            samples_remove(path);
        }
    }
}

int
main(void)
{
    RUN(what_was_acknowledged_survives_any_fault_of_an_append);
    RUN(a_new_segment_is_safe_from_any_fault);
    RUN(a_full_disk_costs_one_batch_and_no_handle);
    RUN(a_handle_refuses_to_write_after_a_failed_sync);
    RUN(creating_is_all_or_nothing);
    RUN(a_reader_shows_what_is_right_or_fails);
    return check_report("test_dataset_faults");
}
