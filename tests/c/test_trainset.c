/* test_trainset.c - training set files: whole, or not there, or refused. */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "selector/trainset.h"

#include "check.h"
#include "faulty_io.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/test_trainset_XXXXXX";
static const uint64_t KEYS[] = {2, 5, 9, UINT64_MAX};
static const double WEIGHTS[] = {2.0, 0.0, 1.0, 0.25};
static const uint8_t UUID[MDN_UUID_SIZE] = "0123456789abcdef";

static const mdn_trainset_rows SMALL = {
    .keys = KEYS, .weights = WEIGHTS, .count = 4, .dataset_uuid = UUID};

/* ---- helpers ---- */

/* How many files there are; removes them if told to. */
static int
count_files(bool remove_them)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    int count = 0;

    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        count++;
        if (remove_them)
            unlinkat(dirfd(dir), entry->d_name, 0);
    }
    closedir(dir);
    return count;
}

/* "<folder>/<digest of rows>.set", in a buffer of its own. */
static const char *
path_of(const mdn_trainset_rows *rows)
{
    static char path[512];
    char elsewhere[] = "/tmp/test_trainset_XXXXXX";
    char hex[2 * MDN_DIGEST_SIZE + 1];
    uint8_t digest[MDN_DIGEST_SIZE];

    if (mkdtemp(elsewhere) == NULL)
        abort();
    CHECK(mdn_trainset_write(&mdn_io_system, elsewhere, rows, digest, NULL)
          == MDN_OK);
    mdn_digest_hex(digest, hex);
    snprintf(path, sizeof path, "%s/%s.set", elsewhere, hex);
    unlink(path);
    rmdir(elsewhere);
    snprintf(path, sizeof path, "%s/%s.set", folder, hex);
    return path;
}

static bool
holds(const char *path, const mdn_trainset_rows *rows)
{
    mdn_trainset *set;
    uint64_t size = rows->count * 8;
    bool same;

    if (mdn_trainset_open(&mdn_io_system, path, &set, NULL) != MDN_OK)
        return false;
    same =
        mdn_trainset_count(set) == rows->count
        && (size == 0 || memcmp(mdn_trainset_keys(set), rows->keys, size) == 0)
        && (mdn_trainset_weights(set) != NULL) == (rows->weights != NULL)
        && (rows->weights == NULL
            || memcmp(mdn_trainset_weights(set), rows->weights, size) == 0);
    mdn_trainset_release(set);
    return same;
}

static void
put(const char *path, const void *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);

    CHECK(write(fd, bytes, size) == (ssize_t)size);
    close(fd);
}

static size_t
get(const char *path, uint8_t *bytes, size_t room)
{
    int fd = open(path, O_RDONLY);
    ssize_t size = read(fd, bytes, room);

    close(fd);
    return size < 0 ? 0 : (size_t)size;
}

/* ---- facts ---- */

static void
what_was_written_is_read(void)
{
    uint8_t digest[MDN_DIGEST_SIZE];
    mdn_trainset *set;
    const char *path = path_of(&SMALL);

    CHECK(mdn_trainset_write(&mdn_io_system, folder, &SMALL, digest, NULL)
          == MDN_OK);
    CHECK(mdn_trainset_open(&mdn_io_system, path, &set, NULL) == MDN_OK);
    CHECK(memcmp(mdn_trainset_digest(set), digest, sizeof digest) == 0);
    CHECK(memcmp(mdn_trainset_uuid(set), UUID, sizeof UUID) == 0);
    CHECK(strcmp(mdn_trainset_path(set), path) == 0);
    CHECK(memcmp(mdn_trainset_keys(set), KEYS, sizeof KEYS) == 0);
    CHECK(memcmp(mdn_trainset_weights(set), WEIGHTS, sizeof WEIGHTS) == 0);
    mdn_trainset_release(set);
    mdn_trainset_release(NULL);
    CHECK(count_files(true) == 1);
}

static void
a_set_may_be_empty(void)
{
    const mdn_trainset_rows empty = {0};
    uint8_t digest[MDN_DIGEST_SIZE];
    const char *path = path_of(&empty);

    CHECK(mdn_trainset_write(&mdn_io_system, folder, &empty, digest, NULL)
          == MDN_OK);
    CHECK(holds(path, &empty));
    count_files(true);
}

static void
slices_are_rows_of_the_set(void)
{
    uint8_t digest[MDN_DIGEST_SIZE];
    mdn_trainset *set;
    const uint64_t *keys;
    const double *weights;
    const char *path = path_of(&SMALL);
    mdn_error err;

    mdn_trainset_write(&mdn_io_system, folder, &SMALL, digest, NULL);
    CHECK(mdn_trainset_open(&mdn_io_system, path, &set, NULL) == MDN_OK);
    for (uint64_t first = 0; first <= 4; first++) {
        for (uint64_t count = 0; count <= 4 - first; count++) {
            CHECK(mdn_trainset_slice(set, first, count, &keys, &weights, &err)
                  == MDN_OK);
            CHECK(keys == mdn_trainset_keys(set) + first
                  && weights == mdn_trainset_weights(set) + first);
        }
        CHECK(mdn_trainset_slice(set, first, 5 - first, &keys, &weights, &err)
              == MDN_INVALID);
    }
    CHECK(mdn_trainset_slice(set, 5, 0, &keys, &weights, &err) == MDN_INVALID);
    CHECK(mdn_trainset_slice(set, 2, UINT64_MAX, &keys, &weights, &err)
          == MDN_INVALID);
    mdn_trainset_release(set);
    count_files(true);
}

static void
rows_that_break_a_rule_leave_no_file(void)
{
    const uint64_t twice[] = {1, 4, 4}, falling[] = {1, 4, 3};
    const uint64_t good[] = {1, 4, 5};
    const double bad[][3] = {
        {1, -1, 1}, {1, 1, NAN}, {INFINITY, 1, 1}, {1, -INFINITY, 1}};
    uint8_t digest[MDN_DIGEST_SIZE];
    mdn_trainset_rows rows = {.keys = twice, .count = 3};
    mdn_error err;

    CHECK(mdn_trainset_write(&mdn_io_system, folder, &rows, digest, &err)
          == MDN_INVALID);
    CHECK(strstr(err.message, "row 2 has key 4 after 4") != NULL);
    rows.keys = falling;
    CHECK(mdn_trainset_write(&mdn_io_system, folder, &rows, digest, &err)
          == MDN_INVALID);
    rows.keys = good;
    for (int i = 0; i < 4; i++) {
        rows.weights = bad[i];
        CHECK(mdn_trainset_write(&mdn_io_system, folder, &rows, digest, &err)
              == MDN_INVALID);
        CHECK(strstr(err.message, "weight") != NULL);
    }
    CHECK(count_files(false) == 0);
}

static void
every_flipped_bit_and_every_length_is_refused(void)
{
    uint8_t digest[MDN_DIGEST_SIZE], bytes[512];
    const char *path = path_of(&SMALL);
    mdn_trainset *set;
    mdn_error err;
    size_t size;

    mdn_trainset_write(&mdn_io_system, folder, &SMALL, digest, NULL);
    size = get(path, bytes, sizeof bytes);
    CHECK(size == 128 + 4 * 16);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        put(path, bytes, size);
        CHECK(mdn_trainset_open(&mdn_io_system, path, &set, &err)
              == MDN_CORRUPT);
        CHECK(set == NULL && strstr(err.message, path) != NULL);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t length = 0; length < sizeof bytes; length++) {
        put(path, bytes, length);
        CHECK((mdn_trainset_open(&mdn_io_system, path, &set, NULL) == MDN_OK)
              == (length == size));
        mdn_trainset_release(set);
    }
    count_files(true);
}

/* A header whose checksum is right but that asks for the impossible. */
static void
a_count_that_overflows_is_refused(void)
{
    const uint64_t counts[] = {UINT64_MAX, UINT64_C(1) << 60, UINT64_C(1) << 61,
                               5, 3};
    uint8_t digest[MDN_DIGEST_SIZE], bytes[512];
    const char *path = path_of(&SMALL);
    mdn_trainset *set;
    size_t size;

    mdn_trainset_write(&mdn_io_system, folder, &SMALL, digest, NULL);
    size = get(path, bytes, sizeof bytes);
    for (int i = 0; i < 5; i++) {
        mdn_store_u64(bytes + 16, counts[i]);
        mdn_store_u32(bytes + 124, mdn_crc32c(0, bytes, 124));
        put(path, bytes, size);
        CHECK(mdn_trainset_open(&mdn_io_system, path, &set, NULL)
              == MDN_CORRUPT);
    }
    count_files(true);
}

static void
later_versions_flags_and_fields_are_unsupported(void)
{
    const size_t places[] = {8, 12, 72, 123};
    uint8_t digest[MDN_DIGEST_SIZE], bytes[512];
    const char *path = path_of(&SMALL);
    mdn_trainset *set;
    size_t size;

    mdn_trainset_write(&mdn_io_system, folder, &SMALL, digest, NULL);
    size = get(path, bytes, sizeof bytes);
    for (int i = 0; i < 4; i++) {
        bytes[places[i]] ^= 2;
        mdn_store_u32(bytes + 124, mdn_crc32c(0, bytes, 124));
        put(path, bytes, size);
        CHECK(mdn_trainset_open(&mdn_io_system, path, &set, NULL)
              == MDN_UNSUPPORTED);
        bytes[places[i]] ^= 2;
    }
    count_files(true);
}

static mdn_trainset_rows
large_rows(void)
{
    static uint64_t keys[140000];
    static double weights[140000];

    for (uint64_t i = 0; i < 140000; i++) {
        keys[i] = 3 * i;
        weights[i] = (double)(i % 7);
    }
    return (mdn_trainset_rows){
        .keys = keys, .weights = weights, .count = 140000};
}

/* Let call number n fail, for every n; returns how many calls there were. */
static int
sweep(const mdn_trainset_rows *rows, faulty_fault fault, bool sticky)
{
    const char *path = path_of(rows);
    uint8_t digest[MDN_DIGEST_SIZE];
    int n = 0;

    for (bool fired = true; fired; n++) {
        faulty disk = {
            .fault = fault,
            .fail_at = n,
            .sticky = sticky,
            .only = fault == FAULT_SHORT ? FAULTY_READ | FAULTY_WRITE : 0,
            .record = true,
        };
        bool harmless = fault == FAULT_EINTR || fault == FAULT_SHORT;
        bool deadly = fault == FAULT_KILL || fault == FAULT_TORN;
        mdn_status st =
            mdn_trainset_write(faulty_io(&disk), folder, rows, digest, NULL);

        fired = disk.fired;
        CHECK(disk.open_files == 0);
        CHECK(st == MDN_OK || fired);
        CHECK(st == MDN_OK || !harmless);
        CHECK(st != MDN_OK || holds(path, rows));
        /* Only a dead process leaves something unfinished behind, or one
         * whose unlink fails as well. */
        if (!deadly && !sticky)
            CHECK(count_files(false) == (access(path, F_OK) == 0));
        faulty_power_cut(&disk);
        faulty_forget(&disk);
        CHECK(st != MDN_OK || holds(path, rows));
        CHECK(access(path, F_OK) != 0 || holds(path, rows));
        CHECK(mdn_trainset_write(&mdn_io_system, folder, rows, digest, NULL)
              == MDN_OK);
        CHECK(holds(path, rows) && count_files(true) == 1);
        if (n > 500)
            abort();
    }
    return n;
}

static void
whichever_call_fails_the_file_is_whole_or_not_there(void)
{
    mdn_trainset_rows large = large_rows();
    const faulty_fault faults[] = {FAULT_EIO,   FAULT_ENOSPC, FAULT_EINTR,
                                   FAULT_SHORT, FAULT_KILL,   FAULT_TORN};

    for (int f = 0; f < 6; f++) {
        int calls = sweep(&SMALL, faults[f], false);

        CHECK(calls > (faults[f] == FAULT_SHORT ? 3 : 6));
    }
    CHECK(sweep(&SMALL, FAULT_EIO, true) > 4);
    CHECK(sweep(&large, FAULT_ENOSPC, false) > 10);
    CHECK(sweep(&large, FAULT_TORN, false) > 10);
}

static void
a_sync_that_lies_costs_the_file_but_never_passes_for_it(void)
{
    const char *path = path_of(&SMALL);
    uint8_t digest[MDN_DIGEST_SIZE];
    faulty disk = {.fault = FAULT_LIE, .sticky = true, .record = true};

    CHECK(mdn_trainset_write(faulty_io(&disk), folder, &SMALL, digest, NULL)
          == MDN_OK);
    faulty_power_cut(&disk);
    faulty_forget(&disk);
    CHECK(access(path, F_OK) == 0 && !holds(path, &SMALL));
    CHECK(mdn_trainset_write(&mdn_io_system, folder, &SMALL, digest, NULL)
          == MDN_OK);
    CHECK(holds(path, &SMALL) && count_files(true) == 1);
}

static void
a_failed_open_holds_nothing_whichever_call_fails(void)
{
    const faulty_fault faults[] = {FAULT_EIO, FAULT_KILL, FAULT_FLIP};
    const char *path = path_of(&SMALL);
    uint8_t digest[MDN_DIGEST_SIZE];

    mdn_trainset_write(&mdn_io_system, folder, &SMALL, digest, NULL);
    for (int f = 0; f < 3; f++) {
        bool fired = true;

        for (int n = 0; fired || n < 6; n++) {
            faulty disk = {.fault = faults[f], .fail_at = n};
            mdn_trainset *set = NULL;
            mdn_status st =
                mdn_trainset_open(faulty_io(&disk), path, &set, NULL);

            fired = disk.fired;
            CHECK(disk.open_files == 0);
            CHECK((st == MDN_OK) == !fired && (set != NULL) == !fired);
            mdn_trainset_release(set);
        }
    }
    count_files(true);
}

static void
a_whole_file_is_not_written_again_and_a_damaged_one_is(void)
{
    const char *path = path_of(&SMALL);
    uint8_t digest[MDN_DIGEST_SIZE];
    faulty quiet = {.only = FAULTY_WRITE};

    mdn_trainset_write(&mdn_io_system, folder, &SMALL, digest, NULL);
    CHECK(mdn_trainset_write(faulty_io(&quiet), folder, &SMALL, digest, NULL)
          == MDN_OK);
    CHECK(quiet.calls == 0);
    put(path, "rubbish", 7);
    CHECK(mdn_trainset_write(faulty_io(&quiet), folder, &SMALL, digest, NULL)
          == MDN_OK);
    CHECK(quiet.calls > 0 && holds(path, &SMALL));
    CHECK(count_files(true) == 1);
}

/* ---- threads ---- */

static void *
write_and_read(void *shared)
{
    const mdn_trainset_rows *rows = shared;
    uint8_t digest[MDN_DIGEST_SIZE];
    uintptr_t wrong = 0;

    for (int i = 0; i < 5; i++)
        wrong += mdn_trainset_write(&mdn_io_system, folder, rows, digest, NULL)
                 != MDN_OK;
    return (void *)wrong;
}

static void
many_writers_of_one_set_agree(void)
{
    mdn_trainset_rows rows = large_rows();
    const char *path = path_of(&rows);
    pthread_t threads[4];
    void *wrong;

    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, write_and_read, &rows) == 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &wrong);
        CHECK(wrong == NULL);
    }
    CHECK(holds(path, &rows) && count_files(true) == 1);
}

static void *
drop(void *set)
{
    mdn_trainset_release(set);
    return NULL;
}

static void
the_last_reference_may_go_on_any_thread(void)
{
    uint8_t digest[MDN_DIGEST_SIZE];
    const char *path = path_of(&SMALL);
    mdn_trainset *set;
    pthread_t threads[8];

    mdn_trainset_write(&mdn_io_system, folder, &SMALL, digest, NULL);
    CHECK(mdn_trainset_open(&mdn_io_system, path, &set, NULL) == MDN_OK);
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, drop, mdn_trainset_retain(set));
    unlink(path);
    CHECK(mdn_trainset_keys(set)[3] == UINT64_MAX);
    mdn_trainset_release(set);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    CHECK(count_files(false) == 0);
}

int
main(void)
{
    if (mkdtemp(folder) == NULL)
        return 2;
    RUN(what_was_written_is_read);
    RUN(a_set_may_be_empty);
    RUN(slices_are_rows_of_the_set);
    RUN(rows_that_break_a_rule_leave_no_file);
    RUN(every_flipped_bit_and_every_length_is_refused);
    RUN(a_count_that_overflows_is_refused);
    RUN(later_versions_flags_and_fields_are_unsupported);
    RUN(whichever_call_fails_the_file_is_whole_or_not_there);
    RUN(a_sync_that_lies_costs_the_file_but_never_passes_for_it);
    RUN(a_failed_open_holds_nothing_whichever_call_fails);
    RUN(a_whole_file_is_not_written_again_and_a_damaged_one_is);
    RUN(many_writers_of_one_set_agree);
    RUN(the_last_reference_may_go_on_any_thread);
    rmdir(folder);
    return check_report("test_trainset");
}
