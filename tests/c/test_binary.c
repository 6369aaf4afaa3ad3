/* test_binary.c - readers of binary files where memory and disks matter.
 *
 * What whole files give is held against NumPy, tarfile and the twins in
 * tests/python/test_binary.py. */
#include "base/crc32.h"
#include "check.h"
#include "faulty_io.h"
#include "ingest/crew.h"
#include "ingest/files.h"
#include "ingest/fixed.h"
#include "ingest/input.h"
#include "ingest/npy.h"
#include "ingest/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[] = "/tmp/mdn-test-binary-XXXXXX";
static char path[64], label_path[64];

static void
put_at(const char *name, const void *bytes, uint64_t size)
{
    mdn_file file;

    CHECK(mdn_file_open(&mdn_io_system, name, O_WRONLY | O_CREAT | O_TRUNC,
                        &file, NULL)
          == MDN_OK);
    CHECK(mdn_file_write(&file, bytes, size, 0, NULL) == MDN_OK);
    mdn_file_close(&file);
}

static void
put(const void *bytes, uint64_t size)
{
    put_at(path, bytes, size);
}

static mdn_schema *
schema_of(const char *text)
{
    mdn_schema *schema;

    CHECK(mdn_schema_parse(text, strlen(text), &schema, NULL) == MDN_OK);
    return schema;
}

/* The formats under test, each with a file of samples 0, 1, 2, ... ------- */

enum { FIXED, NPY, NPZ, TAR, FILES, KINDS };
#define SAMPLES 40

static mdn_schema *numbers, *contents; /* of the first three, of the others */

static uint64_t
npy_image(uint8_t *out)
{
    static const char text[] =
        "{'descr': '<i4', 'fortran_order': False, 'shape': (40,), }";
    uint64_t size = 10 + sizeof text - 1;

    memcpy(out, "\x93NUMPY\1\0", 8);
    out[8] = sizeof text - 1;
    out[9] = 0;
    memcpy(out + 10, text, sizeof text - 1);
    for (int32_t i = 0; i < SAMPLES; i++)
        memcpy(out + size + 4 * i, &i, 4);
    return size + 4 * SAMPLES;
}

static void
put_u32(uint8_t *at, uint64_t value)
{
    uint32_t narrow = (uint32_t)value;

    memcpy(at, &narrow, 4);
}

static uint64_t
npz_image(uint8_t *out)
{
    uint8_t *data = out + 30 + 5, *entry, *end;
    uint64_t size = npy_image(data);

    memset(out, 0, 30);
    memcpy(out, "PK\3\4", 4);
    out[26] = 5;
    memcpy(out + 30, "x.npy", 5);
    entry = data + size;
    memset(entry, 0, 46);
    memcpy(entry, "PK\1\2", 4);
    put_u32(entry + 16, mdn_crc32(0, data, size));
    put_u32(entry + 20, size);
    put_u32(entry + 24, size);
    entry[28] = 5;
    memcpy(entry + 46, "x.npy", 5);
    end = entry + 51;
    memset(end, 0, 22);
    memcpy(end, "PK\5\6", 4);
    end[10] = 1;
    put_u32(end + 12, 51);
    put_u32(end + 16, (uint64_t)(entry - out));
    return (uint64_t)(end + 22 - out);
}

static uint64_t
tar_image(uint8_t *out)
{
    uint64_t at = 0;

    memset(out, 0, SAMPLES * 2048 + 1024);
    for (int i = 0; i < 2 * SAMPLES; i++, at += 1024) {
        char *header = (char *)out + at;
        unsigned sum = 0;

        snprintf(header, 100, "d/%d.%s", i / 2, i % 2 ? "cls" : "x");
        snprintf(header + 124, 12, "%011o", i / 2 < 10 ? 1u : 2u);
        snprintf(header + 136, 12, "%011o", 7u);
        memset(header + 148, ' ', 8);
        header[156] = '0';
        memcpy(header + 257, "ustar\00000", 8);
        for (int b = 0; b < 512; b++)
            sum += (uint8_t)header[b];
        snprintf(header + 148, 8, "%06o", sum);
        snprintf(header + 512, 12, "%d", i / 2);
    }
    return at + 1024;
}

static void
put_kind(int kind)
{
    static uint8_t image[SAMPLES * 2048 + 2048];
    uint64_t size = 0;

    if (kind == FIXED) {
        for (int32_t i = 0; i < SAMPLES; i++, size += 4)
            memcpy(image + size, &i, 4);
    } else if (kind == NPY || kind == NPZ) {
        size = kind == NPY ? npy_image(image) : npz_image(image);
    } else {
        size = tar_image(image);
    }
    put(image, size);
}

static const char *
file_paths(uint64_t *size)
{
    static char paths[SAMPLES * 160];
    char *at = paths;

    for (int i = 0; i < SAMPLES; i++) {
        at = stpcpy(at, path) + 1;
        at = stpcpy(at, label_path) + 1;
    }
    *size = (uint64_t)(at - paths);
    return paths;
}

static mdn_status
open_kind(int kind, const mdn_io *io, uint32_t threads, mdn_reader **out,
          mdn_error *err)
{
    static const uint64_t offset;
    static const bool big;
    static const char *const extension = "x";
    const mdn_reader_file file = {.io = io,
                                  .path = path,
                                  .schema = kind < TAR ? numbers : contents,
                                  .threads = threads};
    const mdn_fixed_options fixed = {.file = file,
                                     .record_size = 4,
                                     .offsets = &offset,
                                     .big_endian = &big,
                                     .label = {.size = 4, .is_signed = true}};
    const mdn_npy_options npy = {.file = file};
    const mdn_tar_options tar = {
        .file = file, .extensions = &extension, .label = "cls"};
    mdn_files_options files = {.file = file, .count = SAMPLES, .labels = true};

    files.paths = file_paths(&files.paths_size);
    switch (kind) {
    case FIXED: return mdn_fixed_open(&fixed, out, err);
    case TAR: return mdn_tar_open(&tar, out, err);
    case FILES: return mdn_files_open(&files, out, err);
    default: return mdn_npy_open(&npy, out, err);
    }
}

/* Open and read all.  *count says how many samples there were. */
static mdn_status
read_kind(int kind, const mdn_io *io, uint32_t threads, uint64_t *count,
          mdn_error *err)
{
    mdn_progress progress = MDN_READER_MORE;
    mdn_reader *reader;
    mdn_block *block;
    mdn_status st = open_kind(kind, io, threads, &reader, err);

    *count = 0;
    if (st != MDN_OK) {
        CHECK(reader == NULL);
        return st;
    }
    CHECK(mdn_block_new(kind < TAR ? numbers : contents, reader->labels,
                        reader->timestamps, &block, NULL)
          == MDN_OK);
    while (st == MDN_OK && progress != MDN_READER_END)
        st = mdn_reader_fill(reader, block, UINT64_MAX, &progress, err);
    *count = block->count;
    for (uint64_t i = 0; i < block->count; i++) {
        int32_t value = (int32_t)i;

        if (kind < TAR)
            memcpy(&value, (const char *)block->columns[0].values + 4 * i, 4);
        if (block->labels != NULL && kind < FILES)
            CHECK(block->labels[i] == (int64_t)i);
        CHECK(value == (int32_t)i);
    }
    mdn_block_free(block);
    mdn_reader_free(reader);
    return st;
}

/* Disks ----------------------------------------------------------------- */

static void
every_format_reads_what_is_there(void)
{
    for (int kind = 0; kind < KINDS; kind++) {
        for (uint32_t threads = 1; threads < 4; threads++) {
            uint64_t count;

            put_kind(kind);
            CHECK(read_kind(kind, &mdn_io_system, threads, &count, NULL)
                  == MDN_OK);
            CHECK(count == SAMPLES);
        }
    }
}

static void
short_and_interrupted_calls_change_nothing(void)
{
    const faulty_fault faults[] = {FAULT_SHORT, FAULT_EINTR};

    for (int kind = 0; kind < KINDS; kind++) {
        put_kind(kind);
        for (int f = 0; f < 2; f++) {
            bool fired = true;

            for (int n = 0; fired; n++) {
                faulty disk = {.fault = faults[f], .fail_at = n};
                uint64_t count;

                CHECK(read_kind(kind, faulty_io(&disk), 1, &count, NULL)
                      == MDN_OK);
                CHECK(count == SAMPLES && disk.open_files == 0);
                fired = disk.fired;
            }
        }
    }
}

static void
a_failed_call_is_reported_and_leaves_nothing_open(void)
{
    for (int kind = 0; kind < KINDS; kind++) {
        bool fired = true;

        put_kind(kind);
        for (int n = 0; fired; n++) {
            faulty disk = {.fault = FAULT_EIO, .fail_at = n};
            mdn_error err = {.status = MDN_OK};
            uint64_t count;
            mdn_status st = read_kind(kind, faulty_io(&disk), 1, &count, &err);

            fired = disk.fired;
            CHECK(disk.open_files == 0);
            CHECK(st == (fired ? MDN_IO : MDN_OK));
            if (!fired)
                continue;
            CHECK(err.status == MDN_IO && err.sys_errno == EIO);
            CHECK(strstr(err.message, directory) == err.message);
            if (kind != TAR) /* opening, facts and content of two files each */
                CHECK(count == (kind == FILES ? (uint64_t)n / 6 : 0));
        }
    }
}

/* A file that is cut under the reader: the size is that of its opening. */
static void
a_file_that_shrinks_is_said_to(void)
{
    for (int kind = 0; kind < FILES; kind++) {
        mdn_progress progress;
        mdn_reader *reader;
        mdn_block *block;
        mdn_error err = {.status = MDN_OK};

        put_kind(kind);
        CHECK(open_kind(kind, &mdn_io_system, 2, &reader, NULL) == MDN_OK);
        CHECK(mdn_block_new(kind < TAR ? numbers : contents, reader->labels,
                            reader->timestamps, &block, NULL)
              == MDN_OK);
        CHECK(truncate(path, 100) == 0);
        CHECK(mdn_reader_fill(reader, block, UINT64_MAX, &progress, &err)
              == MDN_INVALID);
        CHECK(strstr(err.message, "has shrunk while it was read") != NULL);
        CHECK(block->count == 0);
        mdn_block_free(block);
        mdn_reader_free(reader);
    }
}

/* Cut at every byte; of the archive, which is long, at bytes of every kind. */
static void
a_file_that_is_cut_is_refused_wherever_it_is(void)
{
    for (int kind = 0; kind < FILES; kind++) {
        mdn_file_facts facts;
        mdn_file file;
        uint64_t step = kind == TAR ? 101 : 1;

        put_kind(kind);
        CHECK(mdn_file_open(&mdn_io_system, path, O_RDONLY, &file, NULL)
              == MDN_OK);
        CHECK(mdn_file_facts_of(&file, &facts, NULL) == MDN_OK);
        mdn_file_close(&file);
        if (kind == TAR) /* without its end mark, of which half will do */
            facts.size -= 1024;
        for (uint64_t size = facts.size; size > step; size -= step) {
            uint64_t count, cut = kind == TAR ? size : size - 1;
            mdn_error err = {.status = MDN_OK};
            mdn_status st;

            CHECK(truncate(path, (off_t)cut) == 0);
            st = read_kind(kind, &mdn_io_system, 2, &count, &err);
            if (kind == FIXED && cut % 4 == 0) {
                CHECK(st == MDN_OK && count == cut / 4);
                continue;
            }
            CHECK(st == MDN_INVALID && err.status == st);
            CHECK(strstr(err.message, directory) == err.message);
            CHECK(count <= cut / 2048);
        }
    }
}

/* What is shared -------------------------------------------------------- */

static void
only_regular_files_are_opened(void)
{
    char link[80], pipe[80];
    mdn_input input;
    mdn_error err;

    snprintf(link, sizeof link, "%s/link", directory);
    snprintf(pipe, sizeof pipe, "%s/pipe", directory);
    put("abc", 3);
    CHECK(symlink(path, link) == 0);
    CHECK(mdn_input_open(&mdn_io_system, link, true, &input, NULL) == MDN_OK);
    CHECK(input.facts.size == 3);
    mdn_input_close(&input);
    CHECK(mdn_input_open(&mdn_io_system, link, false, &input, &err)
          == MDN_INVALID);
    CHECK(strstr(err.message, "link: a symbolic link") != NULL);
    CHECK(mdn_input_open(&mdn_io_system, directory, true, &input, &err)
          == MDN_INVALID);
    CHECK(strstr(err.message, "not a regular file") != NULL);
    CHECK(mknod(pipe, S_IFIFO | 0600, 0) == 0);
    CHECK(mdn_input_open(&mdn_io_system, pipe, true, &input, NULL)
          == MDN_INVALID);
    CHECK(mdn_input_open(&mdn_io_system, "/dev/tty", true, &input, NULL)
          != MDN_OK);
    CHECK(input.file.fd == -1);
    unlink(link);
    unlink(pipe);
}

typedef struct {
    atomic_int done;
    uint64_t bad;
} pile;

static mdn_status
count_item(void *self, uint64_t item, uint32_t worker, mdn_error *err)
{
    pile *p = self;

    CHECK(worker < 4);
    if (item >= p->bad && item % 7 == p->bad % 7)
        return mdn_fail(err, MDN_INVALID, "item %d", (int)item);
    atomic_fetch_add(&p->done, 1);
    return MDN_OK;
}

static void
a_crew_does_all_items_or_all_before_the_first_bad_one(void)
{
    for (uint32_t threads = 1; threads < 5; threads++) {
        for (int round = 0; round < 200; round++) {
            pile p = {.bad = UINT64_MAX};
            uint64_t failed;
            mdn_error err;

            CHECK(mdn_crew_run(threads, 100, count_item, &p, &failed, NULL)
                  == MDN_OK);
            CHECK(p.done == 100 && failed == 100);
            p = (pile){.bad = 31};
            CHECK(mdn_crew_run(threads, 100, count_item, &p, &failed, &err)
                  == MDN_INVALID);
            CHECK(failed == 31 && p.done >= 31);
            CHECK(strcmp(err.message, "item 31") == 0);
            CHECK(mdn_crew_run(threads, 0, count_item, &p, &failed, NULL)
                  == MDN_OK);
        }
    }
}

static void
the_checksum_of_archives_is_that_of_zlib(void)
{
    char bytes[100];

    CHECK(mdn_crc32(0, "123456789", 9) == UINT32_C(0xcbf43926));
    CHECK(mdn_crc32(0, "", 0) == 0);
    for (int i = 0; i < 100; i++)
        bytes[i] = (char)(i * 37);
    for (uint64_t cut = 0; cut <= 100; cut++)
        CHECK(mdn_crc32(mdn_crc32(0, bytes, cut), bytes + cut, 100 - cut)
              == mdn_crc32(0, bytes, 100));
}

/* A bad value is found at its record, whichever thread comes first. */
static void
the_first_bad_record_is_the_one_that_is_told(void)
{
    enum { COUNT = 3 << 20 };
    static const uint64_t offset;
    static const bool big;
    uint8_t *bytes = calloc(1, COUNT);
    mdn_schema *flags = schema_of("x: bool\n");
    mdn_fixed_options options = {
        .file = {.io = &mdn_io_system, .path = path, .schema = flags},
        .record_size = 1,
        .offsets = &offset,
        .big_endian = &big};

    bytes[COUNT - 9] = bytes[COUNT / 2] = 2;
    put(bytes, COUNT);
    for (options.file.threads = 1; options.file.threads < 5;
         options.file.threads++) {
        mdn_progress progress;
        mdn_reader *reader;
        mdn_block *block;
        mdn_error err;

        CHECK(mdn_fixed_open(&options, &reader, NULL) == MDN_OK);
        CHECK(mdn_block_new(flags, false, false, &block, NULL) == MDN_OK);
        CHECK(mdn_reader_fill(reader, block, UINT64_MAX, &progress, &err)
              == MDN_INVALID);
        CHECK(strstr(err.message, "record 1572864 at byte 1572864") != NULL);
        CHECK(block->count == COUNT / 2);
        CHECK(mdn_reader_position(reader) == COUNT / 2);
        mdn_block_free(block);
        mdn_reader_free(reader);
    }
    mdn_schema_free(flags);
    free(bytes);
}

int
main(void)
{
    CHECK(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/a", directory);
    snprintf(label_path, sizeof label_path, "%s/label", directory);
    put_at(label_path, "7\n", 2);
    numbers = schema_of("x: int32\n");
    contents = schema_of("x: bytes\n");

    RUN(every_format_reads_what_is_there);
    RUN(short_and_interrupted_calls_change_nothing);
    RUN(a_failed_call_is_reported_and_leaves_nothing_open);
    RUN(a_file_that_shrinks_is_said_to);
    RUN(a_file_that_is_cut_is_refused_wherever_it_is);
    RUN(only_regular_files_are_opened);
    RUN(a_crew_does_all_items_or_all_before_the_first_bad_one);
    RUN(the_checksum_of_archives_is_that_of_zlib);
    RUN(the_first_bad_record_is_the_one_that_is_told);

    mdn_schema_free(numbers);
    mdn_schema_free(contents);
    unlink(path);
    unlink(label_path);
    rmdir(directory);
    return check_report("test_binary");
}
