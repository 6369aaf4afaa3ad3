/* test_link.c - files that are served from where they lie, and their users. */
#include "check.h"
#include "samples.h"

#include "faulty_io.h"
#include "storage/check.h"
#include "storage/compact.h"
#include "storage/events.h"
#include "storage/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROWS UINT64_C(8192)

static char file[200];

/* A dataset of `before` appended samples, and the file of the next ones. */
static mdn_dataset *
make(const char *path, uint64_t before, uint64_t rows)
{
    mdn_dataset *dataset = samples_create(&mdn_io_system, path, FIXED, true);

    CHECK(samples_append(dataset, 0, before, NULL) == MDN_OK);
    snprintf(file, sizeof file, "%s.bin", path);
    samples_write_file(file, before, rows);
    return dataset;
}

static mdn_status
link_file(mdn_dataset *dataset, uint32_t threads, mdn_link_report *out,
          mdn_error *err)
{
    mdn_link_options options = samples_link_options(file, threads);

    return mdn_dataset_link(dataset, &options, "s", 1, NULL, out, err);
}

static void
clean(mdn_dataset *dataset, const char *path)
{
    mdn_dataset_free(dataset);
    samples_remove(path);
    unlink(file);
}

static mdn_view *
view_of(mdn_dataset *dataset)
{
    mdn_view *view;

    if (mdn_dataset_view(dataset, &view, NULL) != MDN_OK)
        abort();
    return view;
}

static mdn_status
check_view(mdn_dataset *dataset, mdn_error *err)
{
    mdn_view *view = view_of(dataset);
    mdn_status st = samples_check(view, 2, err);

    mdn_view_release(view);
    return st;
}

static bool
there(const char *path, uint64_t segment, uint64_t generation,
      const char *suffix)
{
    char *name = mdn_layout_path(path, segment, generation, suffix);
    bool found = access(name, F_OK) == 0;

    free(name);
    return found;
}

static void
linked_samples_are_those_of_the_file(void)
{
    const struct {
        uint64_t before, rows, linked;
    } cases[] = {
        {0, 3 * ROWS + 100, 3 * ROWS},
        {0, 2 * ROWS, 2 * ROWS},
        {5000, 4 * ROWS + 7, 3 * ROWS},
        {ROWS, ROWS, ROWS},
        {ROWS - 1, ROWS + 1, ROWS},
        {1, 2 * ROWS - 2, 0}, /* no whole segment: a copy */
        {0, ROWS - 1, 0},
        {5, 0, 0},
    };

    for (size_t i = 0; i < 2 * (sizeof cases / sizeof cases[0]); i++) {
        const char *path = samples_path();
        uint64_t before = cases[i / 2].before, rows = cases[i / 2].rows;
        uint64_t count = 0;
        mdn_dataset *dataset = make(path, before, rows);
        mdn_link_report report;
        mdn_error err = {.status = MDN_OK};

        CHECK(link_file(dataset, i % 2 ? 3 : 1, &report, &err) == MDN_OK);
        CHECK(report.first_key == before && report.samples == rows
              && report.linked == cases[i / 2].linked);
        CHECK(check_view(dataset, &err) == MDN_OK);
        CHECK(samples_append(dataset, before + rows, 50, &err) == MDN_OK);
        CHECK(check_view(dataset, &err) == MDN_OK);
        mdn_dataset_free(dataset);
        CHECK(samples_check_path(path, &count, &err) == MDN_OK);
        CHECK(count == before + rows + 50);
        CHECK(
            there(path, (before + ROWS - 1) / ROWS, 0, "seg")
            == (report.linked == 0
                && (before + rows + 49) / ROWS >= (before + ROWS - 1) / ROWS));
        if (err.message[0] != '\0')
            fprintf(stderr, "case %zu: %s\n", i, err.message);
        clean(NULL, path);
    }
}

static void
a_second_file_and_a_reader_that_refreshes(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = make(path, 10, 2 * ROWS), *reader;
    mdn_link_report report;
    mdn_linked_file facts;
    mdn_view *view;
    char other[198];
    bool grown;
    uint64_t count;

    CHECK(mdn_dataset_open(&mdn_io_system, path, false, &reader, NULL)
          == MDN_OK);
    CHECK(link_file(dataset, 1, &report, NULL) == MDN_OK);
    strncpy(other, file, sizeof other - 1);
    other[sizeof other - 1] = '\0';
    snprintf(file, sizeof file, "%s.2", other);
    samples_write_file(file, 10 + 2 * ROWS, 3 * ROWS);
    CHECK(link_file(dataset, 2, &report, NULL) == MDN_OK);
    CHECK(report.linked == 2 * ROWS);
    CHECK(mdn_dataset_refresh(reader, &grown, NULL) == MDN_OK && grown);
    CHECK(check_view(reader, NULL) == MDN_OK);
    view = view_of(reader);
    CHECK(mdn_view_link_count(view) == 2);
    facts = mdn_view_link(view, 1);
    CHECK(strcmp(facts.path, file) == 0 && facts.stride == 40
          && facts.samples == 2 * ROWS && facts.first_key == 3 * ROWS
          && facts.offset == 16 + 9 + 40 * (ROWS - 10));
    mdn_view_warm(view);
    mdn_view_release(view);
    mdn_dataset_free(reader);
    mdn_dataset_free(dataset);
    CHECK(samples_check_path(path, &count, NULL) == MDN_OK);
    unlink(other);
    clean(NULL, path);
}

static void
set_mtime(int64_t seconds, long ns)
{
    const struct timespec times[2] = {{seconds, ns}, {seconds, ns}};

    CHECK(utimensat(AT_FDCWD, file, times, 0) == 0);
}

static void
overwrite(uint64_t at)
{
    int fd = open(file, O_WRONLY | O_CLOEXEC);

    CHECK(pwrite(fd, "!?", 2, (off_t)at) == 2);
    close(fd);
}

/* What was done to the file, and what is said of it. */
static void
a_file_that_changed_is_an_error_that_says_how(void)
{
    const struct {
        const char *says;
        mdn_status status;
    } cases[] = {
        {"has 655000 bytes, and had 655376 when it was linked", MDN_CORRUPT},
        {"was changed at ", MDN_CORRUPT},
        {"No such file", MDN_IO},
        {"the checksum of records block 2 (keys 8192 to 12287", MDN_CORRUPT},
        {"is not a file any more", MDN_CORRUPT},
    };

    for (int mapped = 0; mapped < 2; mapped++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            const char *path = samples_path();
            mdn_dataset *dataset = make(path, 0, 2 * ROWS);
            mdn_link_report report;
            mdn_error err = {.status = MDN_OK};

            CHECK(link_file(dataset, 1, &report, NULL) == MDN_OK);
            if (mapped)
                CHECK(check_view(dataset, NULL) == MDN_OK);
            switch (i) {
            case 0: CHECK(truncate(file, 655000) == 0); break;
            case 1: overwrite(100); break;
            case 3:
                overwrite(16 + ROWS * 40 + 9);
                set_mtime(1000000000, 5);
                break;
            default: unlink(file);
            }
            if (i == 4)
                CHECK(mkdir(file, 0700) == 0);
            if (i == 3 && mapped) { /* openly not noticed */
                clean(dataset, path);
                continue;
            }
            CHECK(check_view(dataset, &err) == cases[i].status);
            CHECK(strstr(err.message, cases[i].says) != NULL
                  && strncmp(err.message, file, strlen(file)) == 0);
            if (strstr(err.message, cases[i].says) == NULL)
                fprintf(stderr, "%s\n", err.message);
            rmdir(file);
            clean(dataset, path);
        }
    }
}

static void
a_file_that_comes_back_is_read_again(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = make(path, 0, 2 * ROWS), *fresh;
    mdn_link_report report;
    mdn_error err;

    CHECK(link_file(dataset, 1, &report, NULL) == MDN_OK);
    unlink(file);
    CHECK(check_view(dataset, &err) == MDN_IO);
    samples_write_file(file, 0, 2 * ROWS);
    CHECK(check_view(dataset, &err) == MDN_OK);
    unlink(file); /* and once more, now that the old one is mapped */
    samples_write_file(file, 0, 2 * ROWS);
    if (check_view(dataset, &err) != MDN_OK) /* not of the same inode */
        CHECK(err.status == MDN_CORRUPT
              && strstr(err.message, "was replaced by another file"));
    CHECK(mdn_dataset_open(&mdn_io_system, path, false, &fresh, NULL)
          == MDN_OK);
    CHECK(check_view(fresh, &err) == MDN_OK);
    mdn_dataset_free(fresh);
    clean(dataset, path);
}

/* Threads read while the file is cut, removed and replaced. */

typedef struct {
    const char *path;
    _Atomic bool *stop;
    _Atomic uint64_t right;
    uint64_t failed, wrong;
    pthread_t thread;
} reading;

static void *
read_on(void *argument)
{
    reading *r = argument;

    while (!atomic_load(r->stop)) {
        mdn_dataset *dataset;
        mdn_error err;

        if (mdn_dataset_open(&mdn_io_system, r->path, false, &dataset, &err)
            != MDN_OK)
            abort();
        for (int i = 0; i < 3; i++) {
            mdn_status st = check_view(dataset, &err);

            r->right += st == MDN_OK;
            r->failed += st == MDN_CORRUPT || st == MDN_IO;
            r->wrong += st != MDN_OK && st != MDN_CORRUPT && st != MDN_IO;
            if (st != MDN_OK && strstr(err.message, ".bin") == NULL)
                r->wrong++;
        }
        mdn_dataset_free(dataset);
    }
    return NULL;
}

/* Leave the file alone until somebody has read all of it. */
static void
wait_for_a_reader(reading *readers)
{
    uint64_t before = atomic_load(&readers[0].right);

    for (int i = 0; i < 60000 && atomic_load(&readers[0].right) == before; i++)
        usleep(1000);
}

static void
disturb(int round)
{
    const uint64_t size = 16 + 40 * (2 * ROWS + 5);
    char fresh[210];
    int fd;

    switch (round % 4) {
    case 0: /* cut somewhere */
        CHECK(truncate(file, (off_t)((uint64_t)round * 7919 % size)) == 0);
        break;
    case 1: unlink(file); break;
    case 2: /* as `cp` does: cut and written again, with other bytes */
        fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        CHECK(ftruncate(fd, (off_t)size) == 0);
        close(fd);
        break;
    default: /* nothing, for a while */ break;
    }
    usleep(300);
    snprintf(fresh, sizeof fresh, "%s.new", file);
    samples_write_file(fresh, 0, 2 * ROWS + 5);
    CHECK(rename(fresh, file) == 0);
    usleep(300);
}

static void
whatever_happens_to_the_file_bytes_are_right_or_an_error_comes(void)
{
    const char *path = samples_path(), *wanted = getenv("MODYN_LINK_ROUNDS");
    int rounds = wanted ? atoi(wanted) : 200;
    mdn_dataset *dataset = make(path, 0, 2 * ROWS + 5);
    mdn_link_report report;
    _Atomic bool stop = false;
    reading readers[8] = {{NULL}};
    uint64_t right = 0, failed = 0, wrong = 0;

    CHECK(link_file(dataset, 1, &report, NULL) == MDN_OK);
    for (int i = 0; i < 8; i++) {
        readers[i].path = path;
        readers[i].stop = &stop;
        if (pthread_create(&readers[i].thread, NULL, read_on, &readers[i]) != 0)
            abort();
    }
    for (int round = 0; round < rounds; round++) {
        disturb(round);
        if (round % 50 == 0)
            wait_for_a_reader(readers);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 8; i++) {
        pthread_join(readers[i].thread, NULL);
        right += readers[i].right;
        failed += readers[i].failed;
        wrong += readers[i].wrong;
    }
    if (wanted)
        printf("%d rounds: %llu right, %llu errors, %llu wrong\n", rounds,
               (unsigned long long)right, (unsigned long long)failed,
               (unsigned long long)wrong);
    CHECK(right > 0 && failed > 0 && wrong == 0);
    CHECK(check_view(dataset, NULL) == MDN_OK);
    clean(dataset, path);
}

static mdn_status
erase(mdn_dataset *dataset, uint64_t first, uint64_t count)
{
    uint64_t *keys = malloc(count * sizeof *keys), erased;
    mdn_status st;

    if (keys == NULL)
        abort();
    for (uint64_t i = 0; i < count; i++)
        keys[i] = first + i;
    st = mdn_dataset_erase(dataset, keys, count, "me", "test", &erased, NULL);
    free(keys);
    return st;
}

/* The samples of [first, last) but those of [from, to). */
static bool
shows_all_but(mdn_dataset *dataset, uint64_t last, uint64_t from, uint64_t to)
{
    mdn_view *view = view_of(dataset);
    uint64_t key = 0;
    uint8_t a[4];
    int64_t label;
    const mdn_target target = {0, a, NULL};
    bool good = true;

    for (key = 0; key < last && good; key += 37) {
        mdn_error err;
        mdn_status st =
            mdn_view_fetch(view, &key, 1, &target, 1, &label, NULL, 1, &err);

        good = st == (key >= from && key < to ? MDN_NO_KEY : MDN_OK);
    }
    mdn_view_release(view);
    return good;
}

static void
erased_samples_leave_our_files_and_stay_in_the_users(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = make(path, 100, 3 * ROWS), *late;
    const uint64_t count = 100 + 3 * ROWS;
    mdn_link_report report;
    mdn_compaction done;
    mdn_view *view;
    struct stat before, after;

    CHECK(link_file(dataset, 2, &report, NULL) == MDN_OK);
    CHECK(mdn_dataset_open(&mdn_io_system, path, false, &late, NULL) == MDN_OK);
    CHECK(stat(file, &before) == 0);
    CHECK(erase(dataset, ROWS + 50, ROWS) == MDN_OK);
    CHECK(shows_all_but(dataset, count, ROWS + 50, 2 * ROWS + 50));
    CHECK(mdn_dataset_compact(dataset, NULL, &done, NULL) == MDN_OK);
    CHECK(done.segments == 2 && done.samples == 0);
    CHECK(there(path, 1, 2 + 1, "col") != there(path, 1, 2 + 2, "col"));
    CHECK(!there(path, 1, 0, "col") && !there(path, 1, 3, "seg"));
    CHECK(shows_all_but(dataset, count, ROWS + 50, 2 * ROWS + 50));
    view = view_of(dataset);
    CHECK(mdn_view_link(view, 0).erased == ROWS);
    mdn_view_release(view);
    CHECK(stat(file, &after) == 0);
    CHECK(before.st_mtim.tv_nsec == after.st_mtim.tv_nsec
          && before.st_size == after.st_size);
    /* A reader from before finds the columns in the new files. */
    CHECK(shows_all_but(late, count, ROWS + 50, 2 * ROWS + 50));
    mdn_dataset_free(late);
    mdn_dataset_free(dataset);
    CHECK(mdn_dataset_open(&mdn_io_system, path, true, &dataset, NULL)
          == MDN_OK);
    CHECK(shows_all_but(dataset, count, ROWS + 50, 2 * ROWS + 50));
    CHECK(samples_append(dataset, count, 10, NULL) == MDN_OK);
    clean(dataset, path);
}

/* How many findings, and the last one's text and file. */
typedef struct {
    uint64_t count;
    mdn_found what;
    uint64_t keys;
    bool names_file;
} heard;

static mdn_status
hear(void *ctx, const mdn_finding *finding, mdn_error *err)
{
    heard *h = ctx;

    (void)err;
    h->count++;
    h->what = finding->what;
    h->keys = finding->key_count;
    h->names_file = strcmp(finding->file, file) == 0;
    return MDN_OK;
}

static heard
findings(const char *path)
{
    mdn_check_report report;
    heard h = {0};

    CHECK(mdn_check_dataset(&mdn_io_system, path, 2, hear, &h, NULL, &report,
                            NULL)
          == MDN_OK);
    return h;
}

static void
a_check_of_the_dataset_reads_the_linked_files(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = make(path, 5, 2 * ROWS);
    mdn_link_report report;
    mdn_compaction done;
    heard h;

    CHECK(link_file(dataset, 1, &report, NULL) == MDN_OK);
    CHECK(report.linked == ROWS);
    CHECK(findings(path).count == 0);
    CHECK(erase(dataset, ROWS + 3, 5000) == MDN_OK);
    CHECK(mdn_dataset_compact(dataset, NULL, &done, NULL) == MDN_OK);
    CHECK(findings(path).count == 0);
    overwrite(16 + 40 * (ROWS - 5) + 9);
    set_mtime(1000000000, 5);
    h = findings(path);
    CHECK(h.count == 1 && h.what == MDN_FOUND_BLOCK && h.keys == 4096
          && h.names_file);
    CHECK(truncate(file, 1000) == 0);
    h = findings(path);
    CHECK(h.count >= 1 && h.names_file);
    clean(dataset, path);
}

static void
what_cannot_be_linked_is_refused_and_nothing_is_added(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = make(path, 7, 2 * ROWS);
    const char *says[] = {
        "use mode='copy'",
        "use mode='copy'",
        "needs labels",
        "a label of 3 bytes",
        "a timestamp of 8 bytes at byte 33",
        "ends in the middle of a record",
        "5 timestamps for 16384 records",
        "use mode='copy'",
        "has 655376 bytes, but the first record is to begin at 655377",
        "record 0: timestamp",
    };
    const int64_t times[5] = {0};

    for (size_t i = 0; i < sizeof says / sizeof says[0]; i++) {
        mdn_link_options options = samples_link_options(file, 2);
        mdn_link_report report;
        mdn_error err = {.status = MDN_OK};
        mdn_view *view;

        switch (i) {
        case 0: options.fields_at = 13; break;
        case 1: options.path = "relative"; break;
        case 2: options.label.size = 0; break;
        case 3: options.label.size = 3; break;
        case 4: options.timestamp.offset = 33; break;
        case 5: options.first_record = 15; break;
        case 6:
            options.timestamp.size = 0;
            options.timestamps = times;
            options.timestamp_count = 5;
            break;
        case 7: options.record_size = UINT64_C(1) << 32; break;
        case 8: options.first_record = 655377; break;
        case 9:
            options.timestamp = (mdn_number_at){.offset = 32, .size = 8};
            break;
        }
        CHECK(mdn_dataset_link(dataset, &options, "s", 1, NULL, &report, &err)
              == MDN_INVALID);
        CHECK(strstr(err.message, says[i]) != NULL);
        if (strstr(err.message, says[i]) == NULL)
            fprintf(stderr, "%zu: %s\n", i, err.message);
        view = view_of(dataset);
        CHECK(mdn_view_count(view) == 7);
        mdn_view_release(view);
    }
    clean(dataset, path);
}

/* Interrupted after some blocks. */
static mdn_status
stop_at(void *ctx, mdn_error *err)
{
    int *left = ctx;

    return --*left < 0 ? mdn_fail(err, MDN_CALLBACK, "stopped") : MDN_OK;
}

static void
an_interrupted_link_leaves_nothing(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = make(path, 5, 4 * ROWS);
    mdn_link_options options = samples_link_options(file, 2);
    mdn_link_report report;
    mdn_status st = MDN_CALLBACK;
    mdn_error err;

    for (int n = 0; st == MDN_CALLBACK; n++) {
        int left = n;
        const mdn_pulse pulse = {stop_at, &left};

        st =
            mdn_dataset_link(dataset, &options, NULL, 0, &pulse, &report, &err);
        CHECK(st == MDN_OK
              || (!there(path, 1, 0, "col") && !there(path, 2, 0, "col")));
        CHECK(check_view(dataset, NULL) == MDN_OK);
    }
    CHECK(st == MDN_OK);
    clean(dataset, path);
}

static void
a_writer_removes_what_a_crash_left(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = make(path, 5, 10);
    char *name;

    mdn_dataset_free(dataset);
    for (uint64_t s = 1; s < 5; s++) {
        name = mdn_layout_path(path, s, 0, "col");
        close(open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        free(name);
    }
    CHECK(mdn_dataset_open(&mdn_io_system, path, true, &dataset, NULL)
          == MDN_OK);
    CHECK(there(path, 0, 0, "col"));
    for (uint64_t s = 1; s < 5; s++)
        CHECK(!there(path, s, 0, "col"));
    clean(dataset, path);
}

/* Payloads as no writer makes them. */
static void
an_event_that_does_not_fit_is_refused(void)
{
    const mdn_link_event good = {.size = 16 + 40 * 3 * ROWS,
                                 .mtime_ns = -5,
                                 .offset = 16,
                                 .stride = 40,
                                 .first_row = ROWS,
                                 .first_segment = 7,
                                 .segments = 2,
                                 .path = "/a",
                                 .path_size = 2};
    uint8_t *payload;
    uint64_t size;
    mdn_link_event back;

    for (int i = 0; i < 10; i++) {
        mdn_link_event event = good;
        mdn_entry entry;

        switch (i) {
        case 1: event.size--; break;
        case 2: event.stride = 27; break;
        case 3: event.segments = 0; break;
        case 4: event.segments = UINT64_MAX; break;
        case 5: event.first_row = UINT64_MAX - 5; break;
        case 6: event.offset = UINT64_MAX - 100; break;
        case 7: event.path = "a/"; break;
        case 8: event.path = "/\0"; break;
        case 9: event.first_segment = UINT64_C(1) << 48; break;
        }
        if (i == 1) /* the stride of the last row is not needed */
            event.size -= 12;
        CHECK(mdn_link_encode(&event, &payload, &size, NULL) == MDN_OK);
        entry = (mdn_entry){.payload = payload, .payload_size = size};
        CHECK(mdn_link_decode(&entry, 28, 13, &back) == (i == 0));
        CHECK(i > 0
              || (back.mtime_ns == -5 && back.stride == 40
                  && back.path_size == 2));
        entry.payload_size = 56;
        CHECK(!mdn_link_decode(&entry, 28, 13, &back));
        free(payload);
    }
}

int
main(void)
{
    RUN(linked_samples_are_those_of_the_file);
    RUN(a_second_file_and_a_reader_that_refreshes);
    RUN(a_file_that_changed_is_an_error_that_says_how);
    RUN(a_file_that_comes_back_is_read_again);
    RUN(whatever_happens_to_the_file_bytes_are_right_or_an_error_comes);
    RUN(erased_samples_leave_our_files_and_stay_in_the_users);
    RUN(a_check_of_the_dataset_reads_the_linked_files);
    RUN(what_cannot_be_linked_is_refused_and_nothing_is_added);
    RUN(an_interrupted_link_leaves_nothing);
    RUN(a_writer_removes_what_a_crash_left);
    RUN(an_event_that_does_not_fit_is_refused);
    return check_report("test_link");
}
