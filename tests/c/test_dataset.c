/* test_dataset.c - append, reopen, fetch, refresh; who may write. */
#include "base/io.h"
#include "check.h"
#include "faulty_io.h"
#include "metadata/stream.h"
#include "samples.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* What one thread does is much work and nothing to see for TSan. */
#ifdef __SANITIZE_THREAD__
#define THREADS_ONLY 1
#else
#define THREADS_ONLY 0
#endif

static const char *const SCHEMAS[] = {FIXED, RAGGED};

static mdn_view *
view_of(mdn_dataset *dataset)
{
    mdn_view *view;

    if (mdn_dataset_view(dataset, &view, NULL) != MDN_OK)
        abort();
    return view;
}

static bool
shows(mdn_dataset *dataset, uint64_t count)
{
    mdn_view *view = view_of(dataset);
    mdn_error err = {.status = MDN_OK};
    bool right = mdn_view_count(view) == count
                 && samples_check(view, 1, &err) == MDN_OK
                 && samples_check(view, 3, &err) == MDN_OK;

    if (!right)
        fprintf(stderr, "count %llu: %s\n",
                (unsigned long long)mdn_view_count(view), err.message);
    mdn_view_release(view);
    return right;
}

static mdn_dataset *
reopen(const char *path, bool writable)
{
    mdn_dataset *dataset;
    mdn_error err;

    if (mdn_dataset_open(&mdn_io_system, path, writable, &dataset, &err)
        != MDN_OK) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    return dataset;
}

/* Batches that end before, at and behind the ends of blocks and segments. */
static void
what_was_appended_is_there_now_and_after_reopening(void)
{
    static const uint64_t sizes[] = {1, 0,    4094, 1, 1,     4095,
                                     2, 8191, 8192, 3, 20000, 66000};

    for (int s = 0; s < 2; s++) {
        for (int labels = 0; labels < 2; labels++) {
            const char *path = samples_path();
            mdn_dataset *dataset =
                samples_create(&mdn_io_system, path, SCHEMAS[s], labels);
            uint64_t count = 0;

            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                CHECK(samples_append(dataset, count, sizes[i], NULL) == MDN_OK);
                count += sizes[i];
                CHECK(shows(dataset, count));
                if (i % 3 == 2) {
                    mdn_dataset_free(dataset);
                    dataset = reopen(path, true);
                    CHECK(shows(dataset, count));
                }
            }
            mdn_dataset_free(dataset);
            dataset = reopen(path, false);
            CHECK(shows(dataset, count));
            mdn_dataset_free(dataset);
            samples_remove(path);
        }
    }
}

static void
a_view_stays_what_it_was(void)
{
    for (int s = 0; s < 2; s++) {
        const char *path = samples_path();
        mdn_dataset *dataset =
            samples_create(&mdn_io_system, path, SCHEMAS[s], true);
        mdn_view *views[40];

        for (uint64_t i = 0; i < 40; i++) { /* outgrows its first store */
            CHECK(samples_append(dataset, 3001 * i, 3001, NULL) == MDN_OK);
            views[i] = view_of(dataset);
        }
        mdn_dataset_free(dataset);
        samples_remove(path);
        for (uint64_t i = 40; i-- > 0;) {
            CHECK(mdn_view_count(views[i]) == 3001 * (i + 1));
            /* What was never mapped is gone with its directory. */
            CHECK(samples_check(views[i], 1, NULL) == MDN_IO);
            mdn_view_release(views[i]);
        }

        dataset = samples_create(&mdn_io_system, path, SCHEMAS[s], true);
        CHECK(samples_append(dataset, 0, 9000, NULL) == MDN_OK);
        views[0] = view_of(dataset);
        CHECK(samples_check(views[0], 1, NULL) == MDN_OK);
        CHECK(samples_append(dataset, 9000, 9000, NULL) == MDN_OK);
        mdn_dataset_free(dataset);
        samples_remove(path);
        CHECK(samples_check(views[0], 1, NULL) == MDN_OK); /* mapped: stays */
        mdn_view_release(views[0]);
    }
}

static void
a_reader_sees_more_only_after_refresh(void)
{
    const char *path = samples_path();
    mdn_dataset *writer = samples_create(&mdn_io_system, path, RAGGED, true);
    mdn_dataset *reader = reopen(path, false);
    uint64_t count = 0;
    bool grown;

    for (uint64_t i = 0; i < 30; i++) {
        CHECK(shows(reader, count));
        CHECK(mdn_dataset_refresh(reader, &grown, NULL) == MDN_OK && !grown);
        CHECK(samples_append(writer, count, 100 * i + 1, NULL) == MDN_OK);
        CHECK(shows(reader, count));
        count += 100 * i + 1;
        CHECK(mdn_dataset_refresh(reader, &grown, NULL) == MDN_OK && grown);
        CHECK(shows(reader, count));
    }
    mdn_dataset_free(reader);
    mdn_dataset_free(writer);
    samples_remove(path);
}

static void
only_one_handle_writes(void)
{
    const char *path = samples_path();
    mdn_dataset *writer = samples_create(&mdn_io_system, path, FIXED, true);
    mdn_dataset *second = NULL;
    mdn_error err;
    char pid[40];

    snprintf(pid, sizeof pid, "pid %ld on ", (long)getpid());
    CHECK(mdn_dataset_open(&mdn_io_system, path, true, &second, &err)
          == MDN_BUSY);
    CHECK(second == NULL && strstr(err.message, pid) != NULL);
    second = reopen(path, false);
    CHECK(samples_append(second, 0, 1, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "open for reading") != NULL);
    mdn_dataset_free(second);
    mdn_dataset_close(writer);
    second = reopen(path, true);
    CHECK(samples_append(second, 0, 1, NULL) == MDN_OK);
    mdn_dataset_free(second);
    mdn_dataset_free(writer);
    samples_remove(path);
}

static void
a_forked_child_reads_but_does_not_write(void)
{
    const char *path = samples_path();
    mdn_dataset *writer = samples_create(&mdn_io_system, path, FIXED, true);
    int status = -1;
    pid_t child;

    CHECK(samples_append(writer, 0, 9000, NULL) == MDN_OK);
    fflush(NULL);
    child = fork();
    if (child == 0) {
        mdn_error err;
        bool right = shows(writer, 9000)
                     && samples_append(writer, 9000, 1, &err) == MDN_CLOSED;

        mdn_dataset_close(writer);
        _exit(right ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(samples_append(writer, 9000, 5, NULL) == MDN_OK);
    CHECK(shows(writer, 9005));
    mdn_dataset_free(writer);
    samples_remove(path);
}

static void
creating_again_touches_nothing(void)
{
    const char *path = samples_path();
    mdn_dataset_options options = {.schema = FIXED};
    mdn_dataset *dataset = samples_create(&mdn_io_system, path, FIXED, true);
    mdn_dataset *second = NULL;
    mdn_error err;

    CHECK(samples_append(dataset, 0, 10, NULL) == MDN_OK);
    CHECK(mdn_dataset_create(&mdn_io_system, path, &options, &second, &err)
          == MDN_IO);
    CHECK(second == NULL && err.sys_errno == EEXIST);
    mdn_dataset_close(dataset);
    CHECK(mdn_dataset_create(&mdn_io_system, path, &options, &second, &err)
          == MDN_IO);
    CHECK(err.sys_errno == EEXIST);
    mdn_dataset_free(dataset);
    dataset = reopen(path, true);
    CHECK(shows(dataset, 10));
    mdn_dataset_free(dataset);
    samples_remove(path);
}

static void
a_closed_handle_says_so(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = samples_create(&mdn_io_system, path, FIXED, true);
    mdn_view *view;
    bool grown;

    mdn_dataset_close(dataset);
    mdn_dataset_close(dataset);
    CHECK(samples_append(dataset, 0, 1, NULL) == MDN_CLOSED);
    CHECK(mdn_dataset_refresh(dataset, &grown, NULL) == MDN_CLOSED);
    CHECK(mdn_dataset_view(dataset, &view, NULL) == MDN_CLOSED);
    CHECK(view == NULL);
    mdn_dataset_free(dataset);
    samples_remove(path);
}

static void
wrong_arguments_are_refused_and_write_nothing(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = samples_create(&mdn_io_system, path, RAGGED, false);
    const uint8_t bytes[8] = {0};
    int64_t ends[3] = {0, 5, 3}, good[3] = {0, 1, 2}, times[2] = {0};
    mdn_column columns[4] = {
        {bytes, ends}, {bytes, NULL}, {bytes, good}, {bytes, NULL}};
    uint64_t first;
    mdn_error err;

    CHECK(mdn_dataset_append(dataset, 2, columns, NULL, times, &first, &err)
          == MDN_INVALID);
    CHECK(strstr(err.message, "field 's', row 1") != NULL);
    ends[0] = -1;
    CHECK(mdn_dataset_append(dataset, 2, columns, NULL, times, &first, &err)
          == MDN_INVALID);
    CHECK(mdn_dataset_append(dataset, 2, columns, times, times, &first, &err)
          == MDN_INVALID);
    CHECK(strstr(err.message, "has no labels") != NULL);
    CHECK(shows(dataset, 0));
    CHECK(samples_append(dataset, 0, 50, NULL) == MDN_OK);
    CHECK(shows(dataset, 50));
    mdn_dataset_free(dataset);
    samples_remove(path);
}

static void
an_unknown_key_is_named_whatever_the_threads(void)
{
    enum { COUNT = 20000 };
    const char *path = samples_path();
    mdn_dataset *dataset = samples_create(&mdn_io_system, path, FIXED, true);
    uint64_t *keys = calloc(COUNT, sizeof *keys);
    int32_t *a = malloc(COUNT * sizeof *a);
    int64_t *times = malloc(COUNT * sizeof *times);
    mdn_target target = {0, a, NULL};
    mdn_view *view;
    mdn_error err;

    CHECK(samples_append(dataset, 0, 100, NULL) == MDN_OK);
    view = view_of(dataset);
    keys[7000] = 100;
    keys[8000] = UINT64_MAX;
    keys[19999] = 101;
    for (uint32_t threads = 1; threads < 8; threads++) {
        CHECK(mdn_view_fetch(view, keys, COUNT, &target, 1, NULL, NULL, threads,
                             &err)
              == MDN_NO_KEY);
        CHECK(strstr(err.message, "key 100: keys are 0 to 99") != NULL);
        CHECK(mdn_view_fetch(view, keys, COUNT, NULL, 0, NULL, times, threads,
                             &err)
              == MDN_NO_KEY);
        CHECK(strstr(err.message, "key 100: keys are 0 to 99") != NULL);
    }
    keys[0] = UINT64_MAX;
    CHECK(mdn_view_fetch(view, keys, 1, &target, 1, NULL, NULL, 1, &err)
          == MDN_NO_KEY);
    mdn_view_release(view);
    mdn_dataset_free(dataset);
    samples_remove(path);
    free(a);
    free(times);
    free(keys);
}

static void
columns_beyond_the_end_are_refused(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = samples_create(&mdn_io_system, path, FIXED, false);
    const int64_t *times, *labels;
    mdn_view *view;

    CHECK(samples_append(dataset, 0, 10, NULL) == MDN_OK);
    view = view_of(dataset);
    CHECK(mdn_view_columns(view, 0, 10, &times, &labels, NULL) == MDN_OK);
    CHECK(times != NULL && labels == NULL);
    CHECK(mdn_view_columns(view, 10, 0, &times, &labels, NULL) == MDN_OK);
    CHECK(mdn_view_columns(view, 0, 11, &times, &labels, NULL) == MDN_NO_KEY);
    CHECK(mdn_view_columns(view, 11, 0, &times, &labels, NULL) == MDN_NO_KEY);
    CHECK(mdn_view_columns(view, 5, UINT64_MAX, &times, &labels, NULL)
          == MDN_NO_KEY);
    CHECK(times == NULL && labels == NULL);
    mdn_view_release(view);
    mdn_dataset_free(dataset);
    samples_remove(path);
}

/* Fields of every size class of the copies, with a guard behind each array:
 * a move too far is seen at once. */
static void
a_gather_writes_what_it_was_asked_for_and_no_more(void)
{
    enum { COUNT = 37 };
    char schema[64];
    uint64_t keys[COUNT];
    long page = sysconf(_SC_PAGESIZE);

    for (uint64_t i = 0; i < COUNT; i++)
        keys[i] = i * 13 % 50;
    for (uint64_t size = 1; size < 320; size += size < 70 ? 1 : 13) {
        const char *path = samples_path();
        uint64_t room = (COUNT * size / (uint64_t)page + 1) * (uint64_t)page;
        uint8_t *base, *values, *all = malloc(50 * size);
        int64_t times[50] = {0};
        mdn_dataset *dataset;
        mdn_column column = {all, NULL};
        mdn_target target = {0, NULL, NULL};
        uint64_t first;
        mdn_view *view;

        snprintf(schema, sizeof schema, "x: uint8[%d]\n", (int)size);
        for (uint64_t i = 0; i < 50 * size; i++)
            all[i] = (uint8_t)(i * 31 + i / 256);
        dataset = samples_create(&mdn_io_system, path, schema, false);
        CHECK(
            mdn_dataset_append(dataset, 50, &column, NULL, times, &first, NULL)
            == MDN_OK);
        view = view_of(dataset);
        base = mmap(NULL, room + (uint64_t)page, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(mprotect(base + room, (uint64_t)page, PROT_NONE) == 0);
        values = base + room - COUNT * size;
        target.values = values;
        CHECK(mdn_view_fetch(view, keys, COUNT, &target, 1, NULL, NULL, 1, NULL)
              == MDN_OK);
        for (uint64_t i = 0; i < COUNT; i++)
            CHECK(memcmp(values + i * size, all + keys[i] * size, size) == 0);
        munmap(base, room + (uint64_t)page);
        mdn_view_release(view);
        mdn_dataset_free(dataset);
        samples_remove(path);
        free(all);
    }
}

/* Records of 100 KB (streamed) and of 5 MB with payloads (longer than the
 * writer's buffer). */
static void
large_records_come_back(void)
{
    static const char *const schemas[] = {"x: uint8[100000]\n",
                                          "x: uint8[3]\ny: bytes\n"};
    enum { COUNT = 30, SIZE = 100000, LONG = 5 << 20 };
    uint8_t *data = malloc(COUNT * (uint64_t)SIZE + LONG);
    int64_t times[COUNT] = {0}, offsets[COUNT + 1] = {0};
    uint64_t first, keys[3] = {29, 0, 29};

    for (uint64_t i = 0; i < COUNT * (uint64_t)SIZE + LONG; i++)
        data[i] = (uint8_t)(i * 7 + i / 251 + i / 65536);
    for (int i = 0; i < COUNT; i++)
        offsets[i + 1] = offsets[i] + (i == 29 ? LONG : i == 3 ? 0 : SIZE / 7);
    for (int s = 0; s < 2; s++) {
        const char *path = samples_path();
        mdn_dataset *dataset =
            samples_create(&mdn_io_system, path, schemas[s], false);
        mdn_column columns[2] = {{data, NULL}, {data, offsets}};
        uint64_t sizes[2] = {s == 0 ? SIZE : 3, 0};
        uint8_t *out = malloc(3 * SIZE + 2 * LONG + SIZE);
        int64_t at[4];
        mdn_target target = {(uint32_t)s, out, s == 0 ? NULL : at};
        mdn_view *view;

        CHECK(mdn_dataset_append(dataset, COUNT, columns, NULL, times, &first,
                                 NULL)
              == MDN_OK);
        view = view_of(dataset);
        if (s == 1)
            CHECK(mdn_view_offsets(view, keys, 3, 1, at, NULL) == MDN_OK);
        CHECK(mdn_view_fetch(view, keys, 3, &target, 1, NULL, NULL, 1, NULL)
              == MDN_OK);
        for (int k = 0; k < 3; k++) {
            uint64_t from =
                s == 0 ? keys[k] * sizes[0] : (uint64_t)offsets[keys[k]];
            uint64_t size =
                s == 0 ? sizes[0]
                       : (uint64_t)(offsets[keys[k] + 1] - offsets[keys[k]]);

            CHECK(memcmp(
                      out + (s == 0 ? (uint64_t)k * sizes[0] : (uint64_t)at[k]),
                      data + from, size)
                  == 0);
        }
        mdn_view_release(view);
        mdn_dataset_free(dataset);
        samples_remove(path);
        free(out);
    }
    free(data);
}

/* What payloads show is theirs as long as the view is, and what a copy shows.
 */
static void
payloads_are_where_they_are_as_long_as_the_view_is(void)
{
    enum { COUNT = 9000, ASKED = 100 };
    const char *path = samples_path();
    mdn_dataset *dataset = samples_create(&mdn_io_system, path, RAGGED, true);
    uint64_t keys[ASKED], sizes[ASKED], bad[3] = {0, COUNT, 1};
    int64_t offsets[ASKED + 1];
    const uint8_t *payloads[ASKED];
    mdn_target target = {2, NULL, offsets};
    mdn_view *view;

    CHECK(samples_append(dataset, 0, COUNT, NULL) == MDN_OK);
    view = view_of(dataset);
    CHECK(samples_check(view, 1, NULL) == MDN_OK); /* maps the files */
    mdn_dataset_free(dataset);
    samples_remove(path);
    for (uint64_t i = 0; i < ASKED; i++)
        keys[i] = i * 8191 % COUNT;
    CHECK(mdn_view_payloads(view, bad, 1, 1, payloads, sizes, NULL)
          == MDN_INVALID);
    CHECK(mdn_view_payloads(view, bad, 1, 4, payloads, sizes, NULL)
          == MDN_INVALID);
    CHECK(mdn_view_payloads(view, bad, 3, 2, payloads, sizes, NULL)
          == MDN_NO_KEY);
    CHECK(mdn_view_payloads(view, keys, ASKED, 2, payloads, sizes, NULL)
          == MDN_OK);
    CHECK(mdn_view_offsets(view, keys, ASKED, 2, offsets, NULL) == MDN_OK);
    target.values = malloc((size_t)offsets[ASKED] + 1);
    CHECK(mdn_view_fetch(view, keys, ASKED, &target, 1, NULL, NULL, 1, NULL)
          == MDN_OK);
    for (uint64_t i = 0; i < ASKED; i++) {
        CHECK((int64_t)sizes[i] == offsets[i + 1] - offsets[i]);
        CHECK(memcmp((char *)target.values + offsets[i], payloads[i], sizes[i])
              == 0);
    }
    free(target.values);
    mdn_view_release(view);
}

static void
warming_changes_nothing(void)
{
    for (int s = 0; s < 2; s++) {
        const char *path = samples_path();
        mdn_dataset *dataset =
            samples_create(&mdn_io_system, path, SCHEMAS[s], true);
        mdn_view *view = view_of(dataset);

        mdn_view_warm(view);
        mdn_view_release(view);
        CHECK(samples_append(dataset, 0, 20000, NULL) == MDN_OK);
        view = view_of(dataset);
        mdn_view_warm(view);
        mdn_view_release(view);
        CHECK(shows(dataset, 20000));
        mdn_dataset_free(dataset);
        samples_remove(path);
    }
}

/* Threads. */

typedef struct {
    _Atomic(mdn_view *) view; /* NULL: somebody is exchanging it */
    atomic_bool stop;
    atomic_int wrong, rounds;
} stage;

/* A reference to the current view. */
static mdn_view *
take(stage *s)
{
    mdn_view *view, *mine;

    while ((view = atomic_exchange(&s->view, NULL)) == NULL)
        sched_yield();
    mine = mdn_view_retain(view);
    atomic_store(&s->view, view);
    return mine;
}

static void *
read_on(void *argument)
{
    stage *s = argument;

    while (!atomic_load(&s->stop)) {
        mdn_view *view = take(s);

        if (samples_check(view, 2, NULL) != MDN_OK)
            atomic_fetch_add(&s->wrong, 1);
        mdn_view_release(view);
        atomic_fetch_add(&s->rounds, 1);
    }
    return NULL;
}

static void
threads_read_while_one_appends(void)
{
    for (int k = 0; k < 2; k++) {
        const char *path = samples_path();
        mdn_dataset *dataset =
            samples_create(&mdn_io_system, path, SCHEMAS[k], true);
        pthread_t readers[3];
        stage s = {.view = view_of(dataset)};

        for (int t = 0; t < 3; t++)
            CHECK(pthread_create(&readers[t], NULL, read_on, &s) == 0);
        for (uint64_t i = 0; i < 10; i++) {
            mdn_view *view, *next;

            CHECK(samples_append(dataset, 1101 * i, 1101, NULL) == MDN_OK);
            next = view_of(dataset);
            while ((view = atomic_exchange(&s.view, NULL)) == NULL)
                sched_yield();
            atomic_store(&s.view, next);
            mdn_view_release(view);
        }
        mdn_dataset_free(dataset);
        while (atomic_load(&s.rounds) < 9)
            sched_yield();
        atomic_store(&s.stop, true);
        for (int t = 0; t < 3; t++)
            pthread_join(readers[t], NULL);
        mdn_view_release(atomic_load(&s.view));
        CHECK(atomic_load(&s.wrong) == 0);
        samples_remove(path);
    }
}

/* What the threads below do: fetch what is left, and one sample that is not. */
static void *
read_what_is_left(void *argument)
{
    enum { COUNT = 9000 };
    stage *s = argument;
    mdn_view *view = take(s);
    uint64_t left[COUNT], gone = 3 * 2500, count = 0;
    int64_t time;

    for (uint64_t key = 0; key < COUNT; key++) {
        if (key % 3 != 0)
            left[count++] = key;
    }
    if (samples_check_keys(view, left, count, 2, NULL) != MDN_OK
        || mdn_view_fetch(view, &gone, 1, NULL, 0, NULL, &time, 1, NULL)
               != MDN_NO_KEY)
        atomic_fetch_add(&s->wrong, 1);
    mdn_view_release(view);
    return NULL;
}

/* The bits of a view that say which samples may be read are set by whoever
 * comes first, also of the last, not full block. */
static void
threads_come_first_to_a_view_with_erased_samples(void)
{
    enum { COUNT = 9000, THREADS = 4 };

    for (int k = 0; k < 2; k++) {
        const char *path = samples_path();
        mdn_dataset *dataset =
            samples_create(&mdn_io_system, path, SCHEMAS[k], true);
        uint64_t erased[COUNT / 3], n = 0;
        pthread_t readers[THREADS];
        stage s = {.stop = false};

        CHECK(samples_append(dataset, 0, COUNT, NULL) == MDN_OK);
        for (uint64_t i = 0; i < COUNT / 3; i++)
            erased[i] = 3 * i;
        CHECK(mdn_dataset_erase(dataset, erased, COUNT / 3, "me", "", &n, NULL)
              == MDN_OK);
        CHECK(n == COUNT / 3);
        s.view = view_of(dataset);
        for (int t = 0; t < THREADS; t++)
            CHECK(pthread_create(&readers[t], NULL, read_what_is_left, &s)
                  == 0);
        for (int t = 0; t < THREADS; t++)
            pthread_join(readers[t], NULL);
        CHECK(atomic_load(&s.wrong) == 0);
        mdn_view_release(atomic_load(&s.view));
        mdn_dataset_free(dataset);
        samples_remove(path);
    }
}

/* Metadata streams. */

static void
a_stream_yields_positions_in_order_and_again(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = samples_create(&mdn_io_system, path, FIXED, true);
    uint64_t *order = malloc(9000 * sizeof *order);
    const int64_t *times, *labels;
    mdn_metadata_stream *stream;
    mdn_metadata_block block;
    mdn_view *view;

    CHECK(samples_append(dataset, 0, 9000, NULL) == MDN_OK);
    view = view_of(dataset);
    CHECK(mdn_view_columns(view, 0, 9000, &times, &labels, NULL) == MDN_OK);
    for (uint64_t i = 0; i < 9000; i++)
        order[i] = i * 7 % 9000;
    for (int o = 0; o < 2; o++) {
        CHECK(mdn_metadata_from_view(view, o ? order : NULL, 100, 8500, 1000,
                                     &stream, NULL)
              == MDN_OK);
        CHECK(stream->count == 8400);
        for (int round = 0; round < 2; round++) {
            uint64_t at = 100;

            for (;;) {
                CHECK(stream->next(stream, &block, NULL) == MDN_OK);
                if (block.count == 0)
                    break;
                CHECK(block.count == (at < 8100 ? 1000 : 400));
                for (uint64_t i = 0; i < block.count; i++, at++) {
                    CHECK(block.keys[i] == (o ? order[at] : at));
                    CHECK(block.timestamps[i] == times[block.keys[i]]);
                    CHECK(block.labels[i] == labels[block.keys[i]]);
                }
            }
            CHECK(at == 8500);
            CHECK(stream->next(stream, &block, NULL) == MDN_OK);
            CHECK(block.count == 0);
            stream->rewind(stream);
        }
        stream->free(stream);
    }
    CHECK(mdn_metadata_from_view(view, NULL, 0, 9001, 10, &stream, NULL)
          == MDN_INVALID);
    CHECK(mdn_metadata_from_view(view, NULL, 3, 2, 10, &stream, NULL)
          == MDN_INVALID);
    CHECK(mdn_metadata_from_view(view, NULL, 3, 3, 10, &stream, NULL)
          == MDN_OK);
    CHECK(stream->next(stream, &block, NULL) == MDN_OK && block.count == 0);
    stream->free(stream);
    mdn_view_release(view);
    mdn_dataset_free(dataset);
    samples_remove(path);
    free(order);
}

int
main(void)
{
    RUN(an_unknown_key_is_named_whatever_the_threads);
    RUN(threads_read_while_one_appends);
    RUN(threads_come_first_to_a_view_with_erased_samples);
    if (THREADS_ONLY)
        return check_report("test_dataset");
    RUN(what_was_appended_is_there_now_and_after_reopening);
    RUN(a_view_stays_what_it_was);
    RUN(a_reader_sees_more_only_after_refresh);
    RUN(only_one_handle_writes);
    RUN(a_forked_child_reads_but_does_not_write);
    RUN(creating_again_touches_nothing);
    RUN(a_closed_handle_says_so);
    RUN(wrong_arguments_are_refused_and_write_nothing);
    RUN(columns_beyond_the_end_are_refused);
    RUN(a_gather_writes_what_it_was_asked_for_and_no_more);
    RUN(large_records_come_back);
    RUN(payloads_are_where_they_are_as_long_as_the_view_is);
    RUN(warming_changes_nothing);
    RUN(a_stream_yields_positions_in_order_and_again);
    return check_report("test_dataset");
}
