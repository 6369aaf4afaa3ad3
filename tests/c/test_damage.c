/* test_damage.c - flipped bits, cut, torn, swapped and foreign files.
 *
 * Whatever is done to the files of a dataset, a reader shows the right bytes or
 * an error that names what is wrong; it never shows wrong bytes and never
 * crashes. */
#include "check.h"
#include "samples.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Every bit as a plain program, a part of them where that is slow. */
#if defined(__SANITIZE_THREAD__)
#define STRIDE 997
#elif defined(__SANITIZE_ADDRESS__)
#define STRIDE 41
#else
#define STRIDE 1
#endif

#define SECTOR 512
#define RECORD 128
#define COLUMNS_AT 65536
#define COLUMN_SIZE 65536 /* of 8192 rows */

static const char *const SCHEMAS[] = {FIXED, RAGGED};

/* A file held in memory, and where it came from. */
typedef struct {
    char path[300];
    uint8_t *bytes;
    uint64_t size;
} content;

static content
load(const char *directory, const char *name)
{
    content c;
    struct stat st;
    int fd;

    snprintf(c.path, sizeof c.path, "%s/%s", directory, name);
    fd = open(c.path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) < 0)
        abort();
    c.size = (uint64_t)st.st_size;
    c.bytes = malloc(c.size + 1);
    if (c.bytes == NULL || read(fd, c.bytes, c.size) != st.st_size)
        abort();
    close(fd);
    return c;
}

static void
put(const content *c, const void *bytes, uint64_t size, uint64_t at)
{
    int fd = open(c->path, O_WRONLY);

    if (fd < 0 || pwrite(fd, bytes, size, (off_t)at) != (ssize_t)size)
        abort();
    close(fd);
}

static void
cut(const content *c, uint64_t size)
{
    if (truncate(c->path, (off_t)size) < 0)
        abort();
}

static void
restore(const content *c)
{
    cut(c, c->size);
    put(c, c->bytes, c->size, 0);
}

static void
drop(content *c)
{
    restore(c);
    free(c->bytes);
}

/* A dataset of these batches. */
static const char *
make(const char *schema, const uint64_t *sizes, int size_count)
{
    const char *path = samples_path();
    mdn_dataset *dataset = samples_create(&mdn_io_system, path, schema, true);
    uint64_t count = 0;

    for (int i = 0; i < size_count; i++) {
        if (samples_append(dataset, count, sizes[i], NULL) != MDN_OK)
            abort();
        count += sizes[i];
    }
    mdn_dataset_free(dataset);
    return path;
}

/* All count samples right, or an error of damage; says which in *detected. */
static bool
right_or_named(const char *path, uint64_t count, bool *detected)
{
    mdn_error err = {.status = MDN_OK};
    uint64_t seen;
    mdn_status st = samples_check_path(path, &seen, &err);

    *detected = st != MDN_OK;
    if (st == MDN_OK && seen == count)
        return true;
    if ((st == MDN_CORRUPT || st == MDN_UNSUPPORTED)
        && strstr(err.message, path) != NULL)
        return true;
    fprintf(stderr, "status %d, %llu samples: %s\n", st,
            (unsigned long long)seen, err.message);
    return false;
}

/* Flip each bit of [first, end) of a file, and look.  Returns how many flips
 * were detected. */
static uint64_t
flip_all(const char *path, const content *c, uint64_t first, uint64_t end,
         uint64_t stride, uint64_t count)
{
    uint64_t found = 0;

    for (uint64_t bit = 8 * first; bit < 8 * end; bit += stride) {
        uint8_t flipped = c->bytes[bit / 8] ^ (uint8_t)(1 << bit % 8);
        bool detected;

        put(c, &flipped, 1, bit / 8);
        if (!right_or_named(path, count, &detected)) {
            CHECK(!"right or named");
            fprintf(stderr, "%s, bit %llu\n", c->path, (unsigned long long)bit);
        }
        put(c, &c->bytes[bit / 8], 1, bit / 8);
        found += detected;
    }
    return found;
}

static uint64_t
tries(uint64_t first, uint64_t end, uint64_t stride)
{
    return (8 * (end - first) + stride - 1) / stride;
}

static void
every_flipped_bit_of_the_manifest_is_harmless_or_named(void)
{
    static const uint64_t sizes[] = {5, 20, 3};
    const char *path = make(FIXED, sizes, 3);
    content c = load(path, "manifest");
    uint64_t records = c.size - 3 * RECORD;
    uint64_t found;

    CHECK(c.size == 4 * SECTOR + 3 * RECORD);
    found = flip_all(path, &c, 0, SECTOR, STRIDE, 28);
    CHECK(found == tries(0, SECTOR, STRIDE)); /* each one in the header */
    found = flip_all(path, &c, SECTOR, 3 * SECTOR, STRIDE, 28);
    CHECK(found == 0); /* a reach slot is a second opinion */
    found = flip_all(path, &c, 3 * SECTOR, records, STRIDE, 28);
    CHECK(found == tries(3 * SECTOR, records, STRIDE)); /* the schema */
    found = flip_all(path, &c, records, c.size, STRIDE, 28);
    CHECK(found == tries(records, c.size, STRIDE)); /* the last record, too */
    drop(&c);
    samples_remove(path);
}

/* Bytes of the open segment, as the last commit record says. */
static uint64_t
committed(const char *path)
{
    content manifest = load(path, "manifest");
    uint64_t bytes;

    memcpy(&bytes, manifest.bytes + manifest.size - RECORD + 24, 8);
    drop(&manifest);
    return bytes;
}

/* Bytes of the first, full segment, as its offsets say. */
static uint64_t
last_end(const char *path)
{
    content col = load(path, "000000.col");
    uint64_t bytes;

    memcpy(&bytes, col.bytes + COLUMNS_AT + 3 * COLUMN_SIZE - 8, 8);
    drop(&col);
    return bytes;
}

static void
every_flipped_bit_of_a_segment_is_named(void)
{
    for (int s = 0; s < 2; s++) {
        static const uint64_t sizes[] = {3, 37};
        const char *path = make(SCHEMAS[s], sizes, 2);
        content seg = load(path, "000000.seg");
        content col = load(path, "000000.col");
        uint64_t used = committed(path), found;
        uint64_t checks = COLUMNS_AT + (s == 0 ? 2 : 3) * COLUMN_SIZE;

        CHECK(used > 0 && used < seg.size);
        found = flip_all(path, &seg, 0, used, STRIDE, 40);
        CHECK(found == tries(0, used, STRIDE));
        found = flip_all(path, &seg, used, used + 64, STRIDE, 40);
        CHECK(found == 0); /* not yet part of it */
        found = flip_all(path, &col, 0, 4096, STRIDE, 40);
        CHECK(found == tries(0, 4096, STRIDE));
        for (uint64_t k = 0; k < (s == 0 ? 2 : 3); k++) {
            uint64_t at = COLUMNS_AT + k * COLUMN_SIZE;

            found = flip_all(path, &col, at, at + 40 * 8, STRIDE, 40);
            CHECK(found == tries(at, at + 40 * 8, STRIDE));
            found = flip_all(path, &col, at + 40 * 8, at + 42 * 8, STRIDE, 40);
            CHECK(found == 0);
        }
        /* With bytes fields each record is a block, with a checksum. */
        found = flip_all(path, &col, checks, checks + 40 * 4, STRIDE, 40);
        CHECK(found == (s == 0 ? 0 : tries(0, 40 * 4, STRIDE)));
        drop(&seg);
        drop(&col);
        samples_remove(path);
    }
}

/* Full blocks have their checksums in the .col file, the rest in the commit. */
static void
flipped_bits_of_full_and_partial_blocks_are_named(void)
{
    for (int s = 0; s < 2; s++) {
        static const uint64_t sizes[] = {8192, 4100};
        const uint64_t count = 12292, stride = 18013 * (STRIDE > 1 ? 9 : 1);
        const char *path = make(SCHEMAS[s], sizes, 2);
        const char *const names[] = {"000000.seg", "000001.seg", "000000.col",
                                     "000001.col"};

        for (int f = 0; f < 4; f++) {
            content c = load(path, names[f]);
            uint64_t end = c.size, found;

            if (f == 0)
                end = s == 0 ? 8192 * 28 : last_end(path);
            if (f == 1)
                end = committed(path);
            found = flip_all(path, &c, 0, end, stride, count);
            CHECK(found > 0);
            if (f < 2)
                CHECK(found == tries(0, end, stride));
            drop(&c);
        }
        samples_remove(path);
    }
}

static void
every_truncation_is_named(void)
{
    for (int s = 0; s < 2; s++) {
        static const uint64_t sizes[] = {8190, 2, 13};
        const char *path = make(SCHEMAS[s], sizes, 3);
        const char *const names[] = {"manifest", "000000.seg", "000000.col",
                                     "000001.seg", "000001.col"};

        for (int f = 0; f < 5; f++) {
            content c = load(path, names[f]);
            uint64_t step = f == 0 ? 1 : c.size / 60 + 1, used = c.size;
            bool detected;

            if (f == 1)
                used = s == 0 ? 8192 * 28 : last_end(path);
            if (f == 3) { /* preallocated; the commit says how much counts */
                used = committed(path);
                step = 1;
            }
            for (uint64_t size = 0; size < used; size += step) {
                cut(&c, size);
                CHECK(right_or_named(path, 8205, &detected) && detected);
            }
            cut(&c, used - 1);
            CHECK(right_or_named(path, 8205, &detected) && detected);
            restore(&c);
            cut(&c, used);
            CHECK(right_or_named(path, 8205, &detected) && !detected);
            drop(&c);
        }
        samples_remove(path);
    }
}

/* A writer refuses to go on behind rows that are gone. */
static void
a_writer_refuses_truncated_files(void)
{
    static const uint64_t sizes[] = {100};
    const char *path = make(FIXED, sizes, 1);
    const char *const names[] = {"000000.seg", "000000.col", "manifest"};

    for (int f = 0; f < 3; f++) {
        content c = load(path, names[f]);
        mdn_dataset *dataset;
        mdn_error err;

        cut(&c, f == 0 ? 2799 : c.size - 1);
        CHECK(mdn_dataset_open(&mdn_io_system, path, true, &dataset, &err)
              == MDN_CORRUPT);
        CHECK(strstr(err.message, path) != NULL);
        drop(&c);
    }
    samples_remove(path);
}

/* A crash in the middle of a commit: its record is there in part, and the
 * reach does not speak of it yet. */
static void
a_torn_commit_is_cut_and_costs_nothing_else(void)
{
    for (uint64_t whole = 0; whole < RECORD; whole += STRIDE > 1 ? 17 : 1) {
        static const uint64_t sizes[] = {30, 70};
        const char *path = make(RAGGED, sizes, 1);
        content before = load(path, "manifest");
        content after;
        mdn_dataset *dataset;
        uint64_t count = 0;
        bool detected;

        CHECK(mdn_dataset_open(&mdn_io_system, path, true, &dataset, NULL)
              == MDN_OK);
        CHECK(samples_append(dataset, 30, 70, NULL) == MDN_OK);
        mdn_dataset_free(dataset);
        after = load(path, "manifest");
        put(&after, before.bytes, before.size, 0); /* the reach of then */
        for (int tail = 0; tail < 2; tail++) {
            uint8_t rest[RECORD];

            memset(rest, tail ? 0xff : 0, sizeof rest);
            put(&after, rest, RECORD, before.size);
            put(&after, after.bytes + before.size, whole, before.size);
            CHECK(right_or_named(path, 30, &detected) && !detected);
            cut(&after, before.size + whole);
            CHECK(right_or_named(path, 30, &detected) && !detected);
        }
        CHECK(mdn_dataset_open(&mdn_io_system, path, true, &dataset, NULL)
              == MDN_OK);
        CHECK(samples_append(dataset, 30, 11, NULL) == MDN_OK);
        mdn_dataset_free(dataset);
        CHECK(samples_check_path(path, &count, NULL) == MDN_OK);
        CHECK(count == 41);
        free(before.bytes);
        free(after.bytes);
        samples_remove(path);
    }
}

static void
tails_of_any_kind_are_ignored(void)
{
    static const uint64_t sizes[] = {30, 70};
    const char *path = make(FIXED, sizes, 2);
    content c = load(path, "manifest");

    for (int kind = 0; kind < 4; kind++) {
        for (uint64_t size = 1; size < 2 * RECORD + 3; size += 7) {
            uint8_t tail[2 * RECORD + 3];
            bool detected;

            memset(tail, kind == 1 ? 0xff : 0, sizeof tail);
            if (kind == 2) /* old records */
                memcpy(tail, c.bytes + c.size - 2 * RECORD, 2 * RECORD);
            if (kind == 3) /* the beginning of the file */
                memcpy(tail, c.bytes, sizeof tail);
            put(&c, tail, size, c.size);
            CHECK(right_or_named(path, 100, &detected) && !detected);
            restore(&c);
        }
    }
    drop(&c);
    samples_remove(path);
}

/* The reach has been lost, as after a loss of power; a record that is not the
 * last is missed even so, since the one behind it speaks for it. */
static void
a_damaged_commit_is_noticed_by_its_successor(void)
{
    static const uint64_t sizes[] = {30, 70, 5};
    const char *path = make(FIXED, sizes, 3);
    content c = load(path, "manifest");
    uint8_t zero[SECTOR] = {0};
    bool detected;

    put(&c, zero, SECTOR, SECTOR);
    put(&c, zero, SECTOR, 2 * SECTOR);
    CHECK(right_or_named(path, 105, &detected) && !detected);
    put(&c, zero, 9, c.size - 2 * RECORD + 30);
    CHECK(right_or_named(path, 105, &detected) && detected);
    drop(&c);
    samples_remove(path);
}

/* Overwrite a file by another, look, and put it right again. */
static bool
is_named_in_place_of(const char *path, const content *wrong,
                     const content *here)
{
    bool detected, named;

    cut(here, wrong->size);
    put(here, wrong->bytes, wrong->size, 0);
    named = right_or_named(path, 16384, &detected) && detected;
    restore(here);
    return named;
}

static void
files_in_the_wrong_place_are_named(void)
{
    for (int s = 0; s < 2; s++) {
        static const uint64_t sizes[] = {8192, 8192};
        static const char *const names[][2] = {{"000000.seg", "000001.seg"},
                                               {"000000.col", "000001.col"}};
        char path[128];
        const char *other;
        uint64_t count;

        strcpy(path, make(SCHEMAS[s], sizes, 2));
        other = make(SCHEMAS[s], sizes, 2);
        for (int f = 0; f < 2; f++) {
            content here = load(path, names[f][0]);
            content next = load(path, names[f][1]);
            content foreign = load(other, names[f][0]);

            CHECK(is_named_in_place_of(path, &next, &here));
            /* The records are the same ones, so that only .col is foreign. */
            CHECK(is_named_in_place_of(path, &foreign, &here) == (f == 1));
            CHECK(samples_check_path(path, &count, NULL) == MDN_OK);
            unlink(here.path); /* gone altogether: an error of the system */
            CHECK(samples_check_path(path, &count, NULL) == MDN_IO);
            close(open(here.path, O_CREAT | O_WRONLY, 0666));
            drop(&here);
            drop(&next);
            drop(&foreign);
        }
        CHECK(samples_check_path(path, &count, NULL) == MDN_OK);
        samples_remove(path);
        samples_remove(other);
    }
}

int
main(void)
{
    RUN(every_flipped_bit_of_the_manifest_is_harmless_or_named);
    RUN(every_flipped_bit_of_a_segment_is_named);
    RUN(flipped_bits_of_full_and_partial_blocks_are_named);
    RUN(every_truncation_is_named);
    RUN(a_writer_refuses_truncated_files);
    RUN(a_torn_commit_is_cut_and_costs_nothing_else);
    RUN(tails_of_any_kind_are_ignored);
    RUN(a_damaged_commit_is_noticed_by_its_successor);
    RUN(files_in_the_wrong_place_are_named);
    return check_report("test_damage");
}
