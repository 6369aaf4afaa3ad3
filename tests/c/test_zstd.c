/* test_zstd.c - compressed payloads come back as they were given, whichever
 * call fails while they are written and whichever bit is wrong. */
#include "check.h"
#include "faulty_io.h"
#include "samples.h"

#include "base/random.h"
#include "storage/zstd.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
#define STRIDE 101
#elif defined(__SANITIZE_ADDRESS__)
#define STRIDE 5
#else
#define STRIDE 1
#endif

static const char *const SCHEMAS[] = {"t: bytes\n",
                                      "a: bytes\nx: int32\nb: bytes\n"};

static uint8_t
word(uint64_t i, uint64_t random)
{
    static const char text[] = "some words ";

    return (uint8_t)((uint64_t)text[i % 11] + random % 3);
}

/* Payload of a key: a third is empty, random or of few words. */
static uint64_t
payload(uint8_t *to, uint64_t key, uint64_t field)
{
    uint64_t random = mdn_mix(key * 2 + field), size = random % 700;

    if (key % 500 == 499)
        size *= 64;
    if (random >> 60 < 5)
        return 0;
    for (uint64_t i = 0; i < size; i++)
        to[i] = random >> 60 < 8 ? (uint8_t)mdn_mix(random + i) : word(i, key);
    return size;
}
#define PAYLOAD_MAX (700 * 64)

static mdn_dataset *
create(const mdn_io *io, const char *path, const char *schema)
{
    mdn_dataset_options options = {
        .schema = schema, .segment_shift = 13, .compressed = true};
    mdn_dataset *dataset;
    mdn_error err;

    if (mdn_dataset_create(io, path, &options, &dataset, &err) != MDN_OK) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    return dataset;
}

/* Samples first .. first+count-1. */
static mdn_status
append(mdn_dataset *dataset, uint64_t first, uint64_t count, mdn_error *err)
{
    mdn_column columns[3] = {{NULL, NULL}};
    int64_t *times = calloc(count, 8);
    int32_t *numbers = malloc(4 * count);
    uint64_t first_key, fields;
    mdn_view *view;
    mdn_status st = mdn_dataset_view(dataset, &view, err);

    if (st != MDN_OK)
        goto done;
    fields = mdn_view_schema(view)->field_count;
    mdn_view_release(view);
    for (uint64_t i = 0; i < count; i++)
        numbers[i] = (int32_t)(first + i);
    for (uint64_t f = 0; f < fields; f++) {
        uint8_t *values = malloc(count * 1200 + PAYLOAD_MAX);
        int64_t *offsets = calloc(count + 1, 8);

        columns[f] = (mdn_column){values, offsets};
        for (uint64_t i = 0; f != 1 && i < count; i++)
            offsets[i + 1] =
                offsets[i]
                + (int64_t)payload(values + offsets[i], first + i, f);
        if (f == 1)
            memcpy(values, numbers, 4 * count);
    }
    st = mdn_dataset_append(dataset, count, columns, NULL, times, &first_key,
                            err);
    for (uint64_t f = 0; f < fields; f++) {
        free((void *)(uintptr_t)columns[f].values);
        free((void *)(uintptr_t)columns[f].offsets);
    }
done:
    free(times);
    free(numbers);
    return st;
}

/* All keys, scrambled; of each field alone, and of all at once. */
static mdn_status
fetch(mdn_view *view, uint32_t only, uint32_t threads, bool *right,
      mdn_error *err)
{
    const mdn_schema *schema = mdn_view_schema(view);
    uint64_t count = mdn_view_count(view), *keys = malloc(8 * count + 8);
    uint8_t *room = malloc(PAYLOAD_MAX);
    mdn_target targets[3];
    uint32_t n = 0;
    mdn_status st = MDN_OK;

    for (uint64_t i = 0; i < count; i++)
        keys[i] = i * 7919 % count;
    for (uint32_t f = 0; f < schema->field_count && st == MDN_OK; f++) {
        int64_t *offsets = NULL;
        uint64_t size = 4 * count;

        if (only != f && only < schema->field_count)
            continue;
        if (schema->fields[f].dtype == MDN_BYTES) {
            offsets = calloc(count + 1, 8);
            st = mdn_view_offsets(view, keys, count, f, offsets, err);
            size = st == MDN_OK ? (uint64_t)offsets[count] : 0;
        }
        targets[n++] = (mdn_target){f, malloc(size + 1), offsets};
    }
    if (st == MDN_OK)
        st = mdn_view_fetch(view, keys, count, targets, n, NULL, NULL, threads,
                            err);
    *right = true;
    for (uint64_t i = 0; i < count && st == MDN_OK; i++) {
        for (uint32_t t = 0; t < n; t++) {
            const int64_t *at = targets[t].offsets;
            uint64_t size = 4;
            int32_t number = (int32_t)keys[i];
            const uint8_t *got = targets[t].values;

            if (at == NULL) {
                memcpy(room, &number, 4);
                got += 4 * i;
            } else {
                size = payload(room, keys[i], targets[t].field);
                got += at[i];
                *right &= at[i + 1] - at[i] == (int64_t)size;
            }
            *right = *right && memcmp(got, room, size) == 0;
        }
    }
    for (uint32_t t = 0; t < n; t++) {
        free(targets[t].values);
        free(targets[t].offsets);
    }
    free(room);
    free(keys);
    return st;
}

/* The samples at path, or an error of damage. */
static bool
path_is_right(const char *path, uint64_t *count, mdn_error *err)
{
    mdn_dataset *dataset;
    mdn_view *view = NULL;
    bool right = true;
    mdn_status st =
        mdn_dataset_open(&mdn_io_system, path, false, &dataset, err);

    if (st == MDN_OK)
        st = mdn_dataset_view(dataset, &view, err);
    if (st == MDN_OK)
        *count = mdn_view_count(view);
    for (uint32_t only = 0; only < 4 && st == MDN_OK && right; only++)
        st = fetch(view, only, 1 + only % 2, &right, err);
    mdn_view_release(view);
    mdn_dataset_free(dataset);
    return st == MDN_OK && right;
}

static void
what_is_put_comes_back(void)
{
    static const uint64_t steps[] = {1, 3, 700, 5000, 8000, 2};

    for (int s = 0; s < 2; s++) {
        const char *path = samples_path();
        mdn_dataset *dataset = create(&mdn_io_system, path, SCHEMAS[s]);
        uint64_t count = 0, seen;
        mdn_error err;

        for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
            CHECK(append(dataset, count, steps[i], &err) == MDN_OK);
            count += steps[i];
            CHECK(path_is_right(path, &seen, &err) && seen == count);
        }
        mdn_dataset_free(dataset);
        samples_remove(path);
    }
}

static void
a_schema_without_bytes_is_not_compressed(void)
{
    mdn_dataset_options options = {.schema = FIXED, .compressed = true};
    mdn_dataset *dataset;
    mdn_error err;

    CHECK(mdn_dataset_create(&mdn_io_system, samples_path(), &options, &dataset,
                             &err)
          == MDN_INVALID);
    CHECK(strstr(err.message, "bytes") != NULL && dataset == NULL);
}

typedef struct {
    faulty_fault fault;
    bool sticky, power_cut;
} mode;

static const mode MODES[] = {
    {FAULT_EIO, false, false},    {FAULT_EIO, true, true},
    {FAULT_ENOSPC, false, false}, {FAULT_ENOSPC, true, true},
    {FAULT_EINTR, false, false},  {FAULT_SHORT, false, false},
    {FAULT_SHORT, true, false},   {FAULT_KILL, false, false},
    {FAULT_KILL, false, true},    {FAULT_TORN, false, false},
    {FAULT_TORN, false, true},    {FAULT_LIE, false, false},
};

/* Batches of 900, 60 and 7 samples, of which those before `count` were
 * acknowledged. */
static void
any_fault_of_an_append_leaves_whole_batches(void)
{
    for (size_t k = 0; k < 2 * sizeof MODES / sizeof MODES[0]; k++) {
        const mode *m = &MODES[k / 2];
        bool fired = true;

        for (int n = 0; fired; n += STRIDE) {
            const char *path = samples_path();
            mdn_dataset *dataset = create(&mdn_io_system, path, SCHEMAS[k % 2]);
            faulty disk = {.fault = m->fault,
                           .fail_at = n,
                           .sticky = m->sticky,
                           .record = m->power_cut};
            uint64_t known = 900, seen = 0, maybe;
            mdn_error err = {.status = MDN_OK};

            CHECK(append(dataset, 0, 900, NULL) == MDN_OK);
            mdn_dataset_free(dataset);
            if (mdn_dataset_open(faulty_io(&disk), path, true, &dataset, &err)
                == MDN_OK) {
                if (append(dataset, known, 60, &err) == MDN_OK)
                    known += 60;
                maybe = known + (known == 900 ? 60 : 7);
                if (known == 960 && append(dataset, known, 7, &err) == MDN_OK)
                    known += 7;
            } else {
                maybe = known;
            }
            mdn_dataset_free(dataset);
            fired = disk.fired;
            CHECK(disk.open_files == 0);
            if (m->power_cut)
                faulty_power_cut(&disk);
            faulty_forget(&disk);
            CHECK(path_is_right(path, &seen, &err));
            CHECK(seen == known || seen == maybe);
            CHECK(fired || known == 967);
            samples_remove(path);
        }
    }
}

static void
a_flipped_bit_of_a_record_is_found(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = create(&mdn_io_system, path, SCHEMAS[1]);
    char name[300];
    int64_t end;
    int fd;

    CHECK(append(dataset, 0, 60, NULL) == MDN_OK);
    mdn_dataset_free(dataset);
    snprintf(name, sizeof name, "%s/000000.col", path);
    fd = open(name, O_RDONLY); /* the end of the last record */
    if (pread(fd, &end, 8, 2 * 65536 + 59 * 8) != 8 || end < 1500)
        abort();
    close(fd);
    snprintf(name, sizeof name, "%s/000000.seg", path);
    fd = open(name, O_RDWR);
    for (off_t bit = 0; bit < 8 * 1500; bit += STRIDE) {
        mdn_error err = {.status = MDN_OK};
        uint8_t byte, wrong;
        uint64_t seen;

        if (pread(fd, &byte, 1, bit / 8) != 1)
            abort();
        wrong = byte ^ (uint8_t)(1u << bit % 8);
        if (pwrite(fd, &wrong, 1, bit / 8) != 1)
            abort();
        CHECK(!path_is_right(path, &seen, &err) && err.status == MDN_CORRUPT
              && strstr(err.message, path) != NULL);
        if (pwrite(fd, &byte, 1, bit / 8) != 1)
            abort();
    }
    close(fd);
    samples_remove(path);
}

/* Whatever a frame is changed to, unpacking stays within its room. */
static void
a_wrong_frame_is_refused(void)
{
    uint8_t text[3000], frame[3000], wrong[3000], room[3000];
    mdn_zstd zstd = {NULL, NULL};
    uint64_t size;

    for (size_t i = 0; i < sizeof text; i++)
        text[i] = word(i, mdn_mix(i));
    CHECK(mdn_zstd_load(NULL) == MDN_OK);
    size = mdn_zstd_pack(&zstd, text, sizeof text, frame);
    CHECK(size > 0 && size < sizeof text);
    CHECK(mdn_zstd_holds(frame, size, sizeof text));
    CHECK(!mdn_zstd_holds(frame, size, sizeof text - 1));
    CHECK(mdn_zstd_unpack(&zstd, frame, size, room, sizeof room));
    CHECK(memcmp(room, text, sizeof text) == 0);
    CHECK(!mdn_zstd_unpack(&zstd, frame, size, room, sizeof room - 1));
    for (uint64_t cut = 0; cut < size; cut++)
        CHECK(!mdn_zstd_unpack(&zstd, frame, cut, room, sizeof room));
    for (uint64_t bit = 0; bit < 8 * size; bit++) { /* it may pass: no check */
        memcpy(wrong, frame, size);
        wrong[bit / 8] ^= (uint8_t)(1u << bit % 8);
        mdn_zstd_unpack(&zstd, wrong, size, room, sizeof room);
    }
    mdn_zstd_free(&zstd);
}

static void *
fetch_all(void *argument)
{
    bool right = false;

    return fetch(argument, 9, 2, &right, NULL) == MDN_OK && right ? argument
                                                                  : NULL;
}

static void
threads_fetch_at_once(void)
{
    const char *path = samples_path();
    mdn_dataset *dataset = create(&mdn_io_system, path, SCHEMAS[1]);
    pthread_t threads[3];
    mdn_view *view;
    void *good;

    CHECK(append(dataset, 0, 9000, NULL) == MDN_OK);
    CHECK(mdn_dataset_view(dataset, &view, NULL) == MDN_OK);
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, fetch_all, view) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(pthread_join(threads[i], &good) == 0 && good == view);
    mdn_view_release(view);
    mdn_dataset_free(dataset);
    samples_remove(path);
}

int
main(void)
{
    RUN(what_is_put_comes_back);
    RUN(a_schema_without_bytes_is_not_compressed);
    RUN(any_fault_of_an_append_leaves_whole_batches);
    RUN(a_flipped_bit_of_a_record_is_found);
    RUN(a_wrong_frame_is_refused);
    RUN(threads_fetch_at_once);
    return check_report("test_zstd");
}
