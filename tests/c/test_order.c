/* test_order.c - the time order is right or there is an error, whatever is
 * done to the file that keeps it and whichever call fails. */
#include "check.h"
#include "faulty_io.h"
#include "samples.h"

#include "base/random.h"
#include "storage/order.h"
#include "storage/timesort.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
#define STRIDE 101
#elif defined(__SANITIZE_ADDRESS__)
#define STRIDE 7
#else
#define STRIDE 1
#endif

#define SCHEMA "x: uint8\n"

/* Times. */

typedef enum {
    ASCENDING,
    TIES,  /* 0 .. 3 */
    MIXED, /* any int64, the extremes among them */
    LATE,  /* ascending, every 100th comes some late */
    SHAPES,
} shape;

static int64_t
time_of(shape s, uint64_t key)
{
    uint64_t random = mdn_mix(key + 1);

    switch (s) {
    case ASCENDING: return (int64_t)(key / 3) - 50;
    case TIES: return (int64_t)(random % 4);
    case MIXED:
        if (random % 5 == 0)
            return random % 2 ? INT64_MIN : INT64_MAX;
        return (int64_t)mdn_mix(random);
    case LATE:
        return (int64_t)key * 10
               - (random % 100 == 0 ? (int64_t)(random % 5000) : 0);
    case SHAPES: break;
    }
    return 0;
}

static mdn_status
add(mdn_dataset *dataset, shape s, uint64_t first, uint64_t count)
{
    int64_t *times = malloc(8 * count + 1);
    uint8_t *values = calloc(1, count + 1);
    mdn_column column = {values, NULL};
    uint64_t key;
    mdn_status st;

    for (uint64_t i = 0; i < count; i++)
        times[i] = time_of(s, first + i);
    st = mdn_dataset_append(dataset, count, &column, NULL, times, &key, NULL);
    free(times);
    free(values);
    return st;
}

static mdn_dataset *
new_dataset(const char *path, shape s, uint64_t count)
{
    mdn_dataset *dataset = samples_create(&mdn_io_system, path, SCHEMA, false);

    CHECK(add(dataset, s, 0, count) == MDN_OK);
    return dataset;
}

/* Strictly ascending by (time, key), count keys below count: that is all. */
static bool
is_right(const mdn_order *order, shape s, uint64_t count)
{
    const uint64_t *keys = mdn_order_keys(order);

    if (mdn_order_count(order) != count)
        return false;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t key = keys == NULL ? i : keys[i];
        uint64_t before = i == 0 ? 0 : keys == NULL ? i - 1 : keys[i - 1];

        if (key >= count)
            return false;
        if (i > 0
            && (time_of(s, before) > time_of(s, key)
                || (time_of(s, before) == time_of(s, key) && before >= key)))
            return false;
    }
    return true;
}

static bool
view_is_right(mdn_view *view, shape s, uint32_t threads)
{
    mdn_order *order;
    bool good;

    if (mdn_view_time_order(view, threads, &order, NULL) != MDN_OK)
        return false;
    good = is_right(order, s, mdn_view_count(view));
    mdn_order_free(order);
    return good;
}

static bool
path_is_right(const char *path, shape s, uint64_t count)
{
    mdn_dataset *dataset;
    mdn_view *view = NULL;
    bool good =
        mdn_dataset_open(&mdn_io_system, path, false, &dataset, NULL) == MDN_OK
        && mdn_dataset_view(dataset, &view, NULL) == MDN_OK
        && mdn_view_count(view) == count && view_is_right(view, s, 1);

    mdn_view_release(view);
    mdn_dataset_free(dataset);
    return good;
}

static const char *
order_path(const char *path)
{
    static char name[400];

    snprintf(name, sizeof name, "%s/time.order", path);
    return name;
}

static int64_t
file_size(const char *name)
{
    struct stat st;

    return stat(name, &st) < 0 ? -1 : (int64_t)st.st_size;
}

/* Sorting. */

static void
sorting_is_stable_for_any_number_of_threads(void)
{
    static const uint64_t counts[] = {0,    1,     2,     3,      255,
                                      4096, 65537, 70000, 200001, 262144};

    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        int64_t *times = malloc(8 * counts[c] + 1);

        for (shape s = ASCENDING; s < SHAPES; s++) {
            uint64_t *one, *many;

            for (uint64_t i = 0; i < counts[c]; i++)
                times[i] = time_of(s, i);
            CHECK(mdn_time_sort(times, counts[c], 1, &one, NULL) == MDN_OK);
            for (uint64_t i = 1; i < counts[c]; i++)
                CHECK(times[one[i - 1]] < times[one[i]]
                      || (times[one[i - 1]] == times[one[i]]
                          && one[i - 1] < one[i]));
            for (uint32_t threads = 2; threads < 8; threads += 3) {
                CHECK(mdn_time_sort(times, counts[c], threads, &many, NULL)
                      == MDN_OK);
                CHECK(memcmp(one, many, 8 * counts[c]) == 0);
                free(many);
            }
            free(one);
        }
        free(times);
    }
}

/* Growing. */

static void
an_order_grows_with_its_dataset(void)
{
    static const uint64_t steps[] = {1, 1, 4094, 1, 9000, 3, 30000, 20000, 2};

    for (shape s = ASCENDING; s < SHAPES; s++) {
        const char *path = samples_path();
        mdn_dataset *dataset =
            samples_create(&mdn_io_system, path, SCHEMA, false);
        mdn_view *views[16];
        uint64_t count = 0, n = 0;

        for (; n < sizeof steps / sizeof steps[0]; n++) {
            CHECK(add(dataset, s, count, steps[n]) == MDN_OK);
            count += steps[n];
            CHECK(mdn_dataset_view(dataset, &views[n], NULL) == MDN_OK);
            CHECK(view_is_right(views[n], s, 1 + (uint32_t)n % 3));
            CHECK(path_is_right(path, s, count)); /* from the file */
        }
        CHECK((file_size(order_path(path)) == 4096) == (s == ASCENDING));
        while (n-- > 0) { /* earlier views have their own */
            CHECK(view_is_right(views[n], s, 2));
            mdn_view_release(views[n]);
        }
        mdn_dataset_free(dataset);
        samples_remove(path);
    }
}

static void
an_order_in_use_stays_when_the_dataset_grows(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = new_dataset(path, LATE, 5000);
    mdn_order *order;
    mdn_view *view;

    CHECK(mdn_dataset_view(dataset, &view, NULL) == MDN_OK);
    CHECK(mdn_view_time_order(view, 1, &order, NULL) == MDN_OK);
    for (uint64_t n = 0; n < 9; n++) {
        CHECK(add(dataset, LATE, 5000 + n * 700, 700) == MDN_OK);
        CHECK(path_is_right(path, LATE, 5700 + n * 700));
        CHECK(is_right(order, LATE, 5000));
    }
    mdn_order_free(order);
    mdn_view_release(view);
    mdn_dataset_free(dataset);
    samples_remove(path);
}

/* Damage. */

static void
poke(const char *name, uint64_t at, uint8_t mask)
{
    int fd = open(name, O_RDWR);
    uint8_t byte;

    if (fd < 0 || pread(fd, &byte, 1, (off_t)at) != 1)
        abort();
    byte ^= mask;
    if (pwrite(fd, &byte, 1, (off_t)at) != 1)
        abort();
    close(fd);
}

/* Copy a file, whatever is there. */
static void
copy(const char *from, const char *to)
{
    int in = open(from, O_RDONLY), out;
    struct stat st;
    char *bytes;

    if (in < 0 || fstat(in, &st) < 0)
        abort();
    bytes = malloc((size_t)st.st_size + 1);
    unlink(to);
    out = open(to, O_WRONLY | O_CREAT, 0600);
    if (read(in, bytes, (size_t)st.st_size) != st.st_size
        || write(out, bytes, (size_t)st.st_size) != st.st_size)
        abort();
    free(bytes);
    close(in);
    close(out);
}

static void
a_flipped_bit_is_never_believed(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = new_dataset(path, LATE, 4500);
    char kept[400];
    uint64_t size;

    CHECK(path_is_right(path, LATE, 4500));
    size = (uint64_t)file_size(order_path(path));
    CHECK(size == 65536 + 8 * 4500);
    snprintf(kept, sizeof kept, "%s/kept", path);
    copy(order_path(path), kept);
    for (uint64_t bit = 0; bit < 8 * size; bit += STRIDE) {
        uint64_t at = bit / 8;

        if (at > 1040 && at < 4096) /* means nothing */
            continue;
        if (at > 4112 && at < 65536)
            continue;
        if (at >= 65536 && bit % 37 != 0) /* a part of the keys */
            continue;
        copy(kept, order_path(path));
        poke(order_path(path), at, (uint8_t)(1u << bit % 8));
        CHECK(path_is_right(path, LATE, 4500));
    }
    mdn_dataset_free(dataset);
    samples_remove(path);
}

static void
a_cut_or_foreign_file_is_never_believed(void)
{
    const char *path = samples_path(), *other;
    mdn_dataset *dataset = new_dataset(path, LATE, 4500), *elsewhere;
    char first[200], kept[400];

    snprintf(first, sizeof first, "%s", path);
    path = first;
    CHECK(path_is_right(path, LATE, 4500));
    snprintf(kept, sizeof kept, "%s/kept", path);
    copy(order_path(path), kept);
    for (int64_t size = file_size(kept) - 1; size >= 0;
         size -= size > 65536  ? 8 * 37
                 : size > 4200 ? 997
                               : STRIDE) {
        copy(kept, order_path(path));
        if (truncate(order_path(path), size) < 0)
            abort();
        CHECK(path_is_right(path, LATE, 4500));
    }
    other = samples_path();
    elsewhere = new_dataset(other, TIES, 4500);
    copy(kept, order_path(other));
    CHECK(path_is_right(other, TIES, 4500));
    mdn_dataset_free(elsewhere);
    samples_remove(other);
    mdn_dataset_free(dataset);
    samples_remove(path);
}

/* Faults. */

typedef struct {
    faulty_fault fault;
    bool sticky, power_cut;
} mode;

static const mode MODES[] = {
    {FAULT_EIO, false, false},   {FAULT_EIO, true, false},
    {FAULT_EIO, true, true},     {FAULT_ENOSPC, false, false},
    {FAULT_ENOSPC, true, false}, {FAULT_ENOSPC, true, true},
    {FAULT_EINTR, false, false}, {FAULT_SHORT, false, false},
    {FAULT_SHORT, true, false},  {FAULT_KILL, false, false},
    {FAULT_KILL, false, true},   {FAULT_TORN, false, false},
    {FAULT_TORN, false, true},   {FAULT_FLIP, false, false},
    {FAULT_FLIP, true, false},   {FAULT_LIE, false, false},
    {FAULT_LIE, true, true},
};

/* One order on a bad disk: it is right, or there is an error.  (An error comes
 * from timestamps that could not be read alone.) */
static void
order_on(faulty *disk, const char *path, shape s)
{
    mdn_dataset *dataset;
    mdn_order *order = NULL;
    mdn_view *view = NULL;
    mdn_error err = {.status = MDN_OK};
    mdn_status st =
        mdn_dataset_open(faulty_io(disk), path, false, &dataset, &err);

    if (st == MDN_OK)
        st = mdn_dataset_view(dataset, &view, &err);
    if (st == MDN_OK)
        st = mdn_view_time_order(view, 2, &order, &err);
    CHECK((st == MDN_OK) == (order != NULL));
    if (st == MDN_OK)
        /* A flipped bit of the newest commit looks torn: fewer samples. */
        CHECK(is_right(order, s, mdn_view_count(view)));
    else
        CHECK(disk->fired && err.message[0] != '\0');
    mdn_order_free(order);
    mdn_view_release(view);
    mdn_dataset_free(dataset);
    CHECK(disk->open_files == 0);
}

/* sizes: of the dataset when its order was first made, and now. */
static void
sweep(const mode *m, shape s, uint64_t before, uint64_t now)
{
    bool fired = true;

    for (int n = 0; fired; n += STRIDE) {
        const char *path = samples_path();
        mdn_dataset *dataset = new_dataset(path, s, before > 0 ? before : now);
        faulty disk = {.fault = m->fault,
                       .fail_at = n,
                       .sticky = m->sticky,
                       .record = m->power_cut};

        if (before > 0) {
            CHECK(path_is_right(path, s, before));
            CHECK(add(dataset, s, before, now - before) == MDN_OK);
        }
        order_on(&disk, path, s);
        fired = disk.fired;
        if (m->power_cut)
            faulty_power_cut(&disk);
        faulty_forget(&disk);
        CHECK(path_is_right(path, s, now));
        CHECK(path_is_right(path, s, now));
        mdn_dataset_free(dataset);
        samples_remove(path);
    }
}

static void
any_fault_leaves_a_right_order_or_none(void)
{
    for (size_t k = 0; k < sizeof MODES / sizeof MODES[0]; k++) {
        sweep(&MODES[k], LATE, 0, 4200);         /* a new file */
        sweep(&MODES[k], LATE, 4000, 4200);      /* merged */
        sweep(&MODES[k], ASCENDING, 4000, 4200); /* identity, extended */
        sweep(&MODES[k], TIES, 4000, 9000);      /* merged, new segment */
    }
}

/* Behind: an order with keys, then samples later than all of them. */
static void
any_fault_of_an_extension_leaves_the_old_order(void)
{
    for (size_t k = 0; k < sizeof MODES / sizeof MODES[0]; k++) {
        bool fired = true;

        for (int n = 0; fired; n += STRIDE) {
            const char *path = samples_path();
            mdn_dataset *dataset = new_dataset(path, LATE, 4090);
            int64_t size;
            faulty disk = {.fault = MODES[k].fault,
                           .fail_at = n,
                           .sticky = MODES[k].sticky,
                           .record = MODES[k].power_cut};

            CHECK(path_is_right(path, LATE, 4090));
            size = file_size(order_path(path));
            CHECK(add(dataset, LATE, 4090, 10) == MDN_OK);
            order_on(&disk, path, LATE);
            fired = disk.fired;
            if (!fired)
                CHECK(file_size(order_path(path)) == size + 80);
            if (MODES[k].power_cut)
                faulty_power_cut(&disk);
            faulty_forget(&disk);
            CHECK(path_is_right(path, LATE, 4100));
            CHECK(add(dataset, LATE, 4100, 7) == MDN_OK);
            CHECK(path_is_right(path, LATE, 4107));
            mdn_dataset_free(dataset);
            samples_remove(path);
        }
    }
}

/* At once. */

static void *
order_of_view(void *view)
{
    return view_is_right(view, LATE, 2) ? view : NULL;
}

static void
threads_and_processes_that_make_it_at_once_do_no_harm(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = new_dataset(path, LATE, 3000);
    uint64_t count = 3000;

    for (int round = 0; round < 20; round++) {
        pthread_t threads[4];
        pid_t children[3];
        void *good;
        int status;
        mdn_view *view;

        CHECK(add(dataset, LATE, count, 999) == MDN_OK);
        count += 999;
        for (int i = 0; i < 3; i++) {
            if ((children[i] = fork()) == 0)
                _exit(!path_is_right(path, LATE, count));
        }
        CHECK(mdn_dataset_view(dataset, &view, NULL) == MDN_OK);
        for (int i = 0; i < 4; i++)
            CHECK(pthread_create(&threads[i], NULL, order_of_view, view) == 0);
        for (int i = 0; i < 4; i++)
            CHECK(pthread_join(threads[i], &good) == 0 && good == view);
        for (int i = 0; i < 3; i++)
            CHECK(waitpid(children[i], &status, 0) == children[i]
                  && status == 0);
        mdn_view_release(view);
    }
    mdn_dataset_free(dataset);
    samples_remove(path);
}

int
main(void)
{
    RUN(sorting_is_stable_for_any_number_of_threads);
    RUN(an_order_grows_with_its_dataset);
    RUN(an_order_in_use_stays_when_the_dataset_grows);
    RUN(a_flipped_bit_is_never_believed);
    RUN(a_cut_or_foreign_file_is_never_believed);
    RUN(any_fault_leaves_a_right_order_or_none);
    RUN(any_fault_of_an_extension_leaves_the_old_order);
    RUN(threads_and_processes_that_make_it_at_once_do_no_harm);
    return check_report("test_order");
}
