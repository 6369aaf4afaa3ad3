/* test_file.c - whole transfers, replacement and poisoning on faulty disks. */
#include "base/file.h"
#include "check.h"
#include "faulty_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[] = "/tmp/mdn-test-file-XXXXXX";
static char path[64];

static const mdn_io *const SYSTEM = &mdn_io_system;

/* The content of path is this text. */
static bool
holds(const char *text)
{
    char buf[64];
    int fd = open(path, O_RDONLY);
    ssize_t got = fd < 0 ? -1 : read(fd, buf, sizeof buf);

    if (fd >= 0)
        close(fd);
    return got == (ssize_t)strlen(text) && memcmp(buf, text, (size_t)got) == 0;
}

static void
put(const char *text)
{
    CHECK(mdn_file_replace(SYSTEM, path, text, strlen(text), NULL) == MDN_OK);
}

static void
empty_directory(void)
{
    DIR *dir = opendir(directory);

    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
        unlinkat(dirfd(dir), e->d_name, 0);
    closedir(dir);
}

static int
files_in_directory(void)
{
    DIR *dir = opendir(directory);
    int count = 0;

    while (dir != NULL && readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count - 2;
}

static void
what_is_written_is_read(void)
{
    mdn_file file;
    char buf[8] = {0};
    uint64_t size;

    CHECK(mdn_file_open(SYSTEM, path, O_RDWR | O_CREAT | O_TRUNC, &file, NULL)
          == MDN_OK);
    CHECK(mdn_file_write(&file, "abcdef", 6, 2, NULL) == MDN_OK);
    CHECK(mdn_file_read(&file, buf, 8, 0, NULL) == MDN_OK);
    CHECK(memcmp(buf, "\0\0abcdef", 8) == 0);
    CHECK(mdn_file_sync(&file, NULL) == MDN_OK);
    CHECK(mdn_file_sync_all(&file, NULL) == MDN_OK);
    CHECK(mdn_file_truncate(&file, 5, NULL) == MDN_OK);
    CHECK(mdn_file_size(&file, &size, NULL) == MDN_OK && size == 5);
    CHECK(mdn_file_allocate(&file, 0, 9000, NULL) == MDN_OK);
    CHECK(mdn_file_allocate(&file, 0, 0, NULL) == MDN_OK);
    CHECK(mdn_dir_sync(SYSTEM, directory, NULL) == MDN_OK);
    mdn_file_close(&file);
    CHECK(file.fd == -1 && file.path == NULL);
    mdn_file_close(&file);
}

static void
facts_are_what_the_file_system_says(void)
{
    const struct timespec times[2] = {{.tv_sec = 5}, {-3, 250}};
    const struct timespec late[2] = {{.tv_sec = 5}, {INT64_C(1) << 33, 7}};
    struct stat st;
    mdn_file file;
    mdn_file_facts facts;

    put("12345");
    CHECK(utimensat(AT_FDCWD, path, times, 0) == 0 && stat(path, &st) == 0);
    CHECK(mdn_file_open(SYSTEM, path, O_RDONLY, &file, NULL) == MDN_OK);
    CHECK(mdn_file_facts_of(&file, &facts, NULL) == MDN_OK);
    CHECK(facts.regular && facts.size == 5);
    CHECK(facts.mtime_ns == INT64_C(-2999999750));
    CHECK(facts.device == st.st_dev && facts.inode == st.st_ino);
    CHECK(utimensat(AT_FDCWD, path, late, 0) == 0);
    CHECK(mdn_file_facts_of(&file, &facts, NULL) == MDN_OK);
    CHECK(facts.mtime_ns == (INT64_C(1) << 33) * 1000000000 + 7);
    mdn_file_close(&file);

    CHECK(mdn_file_open(SYSTEM, directory, O_RDONLY, &file, NULL) == MDN_OK);
    CHECK(mdn_file_facts_of(&file, &facts, NULL) == MDN_OK && !facts.regular);
    mdn_file_close(&file);
}

static void
a_map_shows_the_file(void)
{
    mdn_file file;
    void *place;

    put("mapped");
    CHECK(mdn_file_open(SYSTEM, path, O_RDONLY, &file, NULL) == MDN_OK);
    CHECK(SYSTEM->map(SYSTEM->self, NULL, 6, file.fd, 0, &place) == 0);
    CHECK(memcmp(place, "mapped", 6) == 0);
    munmap(place, 6);
    CHECK(SYSTEM->map(SYSTEM->self, NULL, 6, -1, 0, &place) == -EBADF);
    mdn_file_close(&file);
}

static void
a_lock_is_for_one(void)
{
    mdn_file first, second;

    put("");
    CHECK(mdn_file_open(SYSTEM, path, O_RDWR, &first, NULL) == MDN_OK);
    CHECK(mdn_file_open(SYSTEM, path, O_RDWR, &second, NULL) == MDN_OK);
    CHECK(SYSTEM->lock(SYSTEM->self, first.fd) == 0);
    CHECK(SYSTEM->lock(SYSTEM->self, second.fd) == -EWOULDBLOCK);
    mdn_file_close(&first);
    CHECK(SYSTEM->lock(SYSTEM->self, second.fd) == 0);
    mdn_file_close(&second);
}

static void
a_missing_file_is_named(void)
{
    mdn_file file;
    mdn_error err;

    CHECK(mdn_file_open(SYSTEM, "/no/such/file", O_RDONLY, &file, &err)
          == MDN_IO);
    CHECK(err.sys_errno == ENOENT && file.fd == -1 && file.path == NULL);
    CHECK(strcmp(err.message, "/no/such/file: cannot be opened: "
                              "No such file or directory")
          == 0);
    CHECK(mdn_dir_sync(SYSTEM, "/no/such", &err) == MDN_IO);
    CHECK(strstr(err.message, "/no/such: ") == err.message);
}

static void
an_early_end_is_damage_and_says_where(void)
{
    mdn_file file;
    mdn_error err;
    char buf[10], expected[200];

    put("short");
    CHECK(mdn_file_open(SYSTEM, path, O_RDONLY, &file, NULL) == MDN_OK);
    CHECK(mdn_file_read(&file, buf, 10, 1, &err) == MDN_CORRUPT);
    snprintf(expected, sizeof expected,
             "%s: ends at 5, but 10 bytes at 1 are expected", path);
    CHECK(strcmp(err.message, expected) == 0);
    mdn_file_close(&file);
}

/* Transfers of one byte, and interruptions, are not seen by callers. */
static void
short_and_interrupted_transfers_are_completed(void)
{
    const faulty_fault faults[] = {FAULT_SHORT, FAULT_EINTR};
    bool fired = true;

    for (int f = 0; f < 2; f++) {
        for (int n = 0; fired; n++) {
            faulty disk = {.fault = faults[f], .fail_at = n};
            mdn_file file;
            char buf[16] = {0};
            uint64_t size = 0;
            mdn_file_facts facts = {.size = 0};

            disk.sticky = faults[f] == FAULT_SHORT;
            CHECK(mdn_file_open(faulty_io(&disk), path,
                                O_RDWR | O_CREAT | O_TRUNC, &file, NULL)
                  == MDN_OK);
            CHECK(mdn_file_allocate(&file, 0, 16, NULL) == MDN_OK);
            CHECK(mdn_file_truncate(&file, 0, NULL) == MDN_OK);
            CHECK(mdn_file_write(&file, "0123456789abcdef", 16, 0, NULL)
                  == MDN_OK);
            CHECK(mdn_file_sync(&file, NULL) == MDN_OK);
            CHECK(mdn_file_read(&file, buf, 16, 0, NULL) == MDN_OK);
            CHECK(mdn_file_size(&file, &size, NULL) == MDN_OK && size == 16);
            CHECK(mdn_file_facts_of(&file, &facts, NULL) == MDN_OK
                  && facts.size == 16);
            CHECK(memcmp(buf, "0123456789abcdef", 16) == 0);
            CHECK(mdn_dir_sync(&disk.io, directory, NULL) == MDN_OK);
            mdn_file_close(&file);
            CHECK(mdn_file_replace(&disk.io, path, "new", 3, NULL) == MDN_OK);
            CHECK(holds("new") && disk.open_files == 0);
            fired = disk.fired;
        }
        fired = true;
    }
}

static void
a_refused_call_is_reported_with_its_reason(void)
{
    const unsigned calls[] = {FAULTY_OPEN,     FAULTY_ALLOCATE, FAULTY_WRITE,
                              FAULTY_TRUNCATE, FAULTY_READ,     FAULTY_SIZE,
                              FAULTY_SYNC,     FAULTY_STAT,     FAULTY_START};
    mdn_file_facts facts;
    uint64_t size;
    char buf[4];

    for (int c = 0; c < 9; c++) {
        faulty disk = {.fault = FAULT_EIO, .only = calls[c]};
        mdn_error err = {.status = MDN_OK};
        mdn_status st;
        mdn_file file;

        put("abcd");
        st = mdn_file_open(faulty_io(&disk), path, O_RDWR, &file, &err);
        if (st == MDN_OK)
            st = mdn_file_allocate(&file, 0, 8, &err);
        if (st == MDN_OK)
            st = mdn_file_write(&file, "efgh", 4, 0, &err);
        if (st == MDN_OK)
            st = mdn_file_truncate(&file, 4, &err);
        if (st == MDN_OK)
            st = mdn_file_read(&file, buf, 4, 0, &err);
        if (st == MDN_OK)
            st = mdn_file_size(&file, &size, &err);
        if (st == MDN_OK)
            st = mdn_file_facts_of(&file, &facts, &err);
        if (st == MDN_OK)
            st = mdn_file_start(&file, 0, 4, &err);
        if (st == MDN_OK)
            st = mdn_file_sync(&file, &err);
        CHECK(st == MDN_IO && err.status == MDN_IO && err.sys_errno == EIO);
        CHECK(strstr(err.message, path) == err.message);
        CHECK(strstr(err.message, ": Input/output error") != NULL);
        CHECK(disk.fired);
        mdn_file_close(&file);
        CHECK(disk.open_files == 0);
    }
}

static void
a_full_disk_is_reported_and_leaves_the_file_usable(void)
{
    faulty disk = {.fault = FAULT_ENOSPC, .only = FAULTY_WRITE};
    mdn_error err;
    mdn_file file;

    put("old");
    CHECK(mdn_file_open(faulty_io(&disk), path, O_RDWR, &file, NULL) == MDN_OK);
    CHECK(mdn_file_write(&file, "new", 3, 0, &err) == MDN_IO);
    CHECK(err.sys_errno == ENOSPC && holds("old"));
    CHECK(mdn_file_write(&file, "new", 3, 0, &err) == MDN_OK && holds("new"));
    mdn_file_close(&file);
}

/* A retried fsync may claim success for data that is gone. */
static void
a_failed_sync_poisons_the_file(void)
{
    faulty disk = {.fault = FAULT_EIO, .only = FAULTY_SYNC};
    mdn_error err;
    mdn_file file;
    char c;

    put("x");
    CHECK(mdn_file_open(faulty_io(&disk), path, O_RDWR, &file, NULL) == MDN_OK);
    CHECK(mdn_file_sync(&file, &err) == MDN_IO);
    CHECK(mdn_file_sync(&file, &err) == MDN_IO && err.sys_errno == EIO);
    CHECK(strstr(err.message, "an earlier sync failed") != NULL);
    CHECK(mdn_file_sync_all(&file, NULL) == MDN_IO);
    CHECK(mdn_file_write(&file, "y", 1, 0, NULL) == MDN_IO);
    CHECK(mdn_file_truncate(&file, 0, NULL) == MDN_IO);
    CHECK(mdn_file_allocate(&file, 0, 9, NULL) == MDN_IO);
    CHECK(mdn_file_read(&file, &c, 1, 0, NULL) == MDN_OK && c == 'x');
    CHECK(disk.calls == 1);
    mdn_file_close(&file);
}

static void
a_failed_start_poisons_the_file(void)
{
    faulty disk = {.fault = FAULT_EIO, .only = FAULTY_START};
    mdn_error err;
    mdn_file file;

    put("x");
    CHECK(mdn_file_open(faulty_io(&disk), path, O_RDWR, &file, NULL) == MDN_OK);
    CHECK(mdn_file_start(&file, 0, 1, &err) == MDN_IO);
    CHECK(strstr(err.message, "writing out 1 bytes at 0 failed") != NULL);
    CHECK(mdn_file_start(&file, 0, 1, NULL) == MDN_IO && disk.calls == 1);
    CHECK(mdn_file_write(&file, "y", 1, 0, NULL) == MDN_IO);
    CHECK(mdn_file_sync(&file, NULL) == MDN_IO);
    mdn_file_close(&file);
}

static int
no_start(void *self, int fd, uint64_t at, uint64_t size)
{
    (void)self, (void)fd, (void)at, (void)size;
    return -EINVAL;
}

static void
a_start_is_left_out_where_there_is_no_such_call(void)
{
    mdn_io io = mdn_io_system;
    mdn_file file;

    put("x");
    for (int i = 0; i < 2; i++) {
        io.start = i == 0 ? no_start : NULL;
        CHECK(mdn_file_open(&io, path, O_RDWR, &file, NULL) == MDN_OK);
        CHECK(mdn_file_start(&file, 0, 1, NULL) == MDN_OK);
        CHECK(mdn_file_start(&file, UINT64_MAX, 1, NULL) == MDN_OK);
        CHECK(mdn_file_sync(&file, NULL) == MDN_OK);
        mdn_file_close(&file);
    }
    CHECK(mdn_file_open(&mdn_io_system, path, O_RDWR, &file, NULL) == MDN_OK);
    CHECK(mdn_file_start(&file, 0, 1, NULL) == MDN_OK);
    CHECK(mdn_file_start(&file, 0, 0, NULL) == MDN_OK);
    CHECK(mdn_file_start(&file, INT64_MAX, 1, NULL) == MDN_IO);
    mdn_file_close(&file);
}

static int
no_room_kept(void *self, int fd, uint64_t at, uint64_t size)
{
    (void)self, (void)fd, (void)at, (void)size;
    return -EOPNOTSUPP;
}

static int64_t
writes_nothing(void *self, int fd, const void *buf, uint64_t size, uint64_t at)
{
    (void)self, (void)fd, (void)buf, (void)size, (void)at;
    return 0;
}

static void
odd_file_systems_are_borne(void)
{
    mdn_io odd = mdn_io_system;
    mdn_file file;
    mdn_error err;

    odd.allocate = no_room_kept;
    odd.pwrite = writes_nothing;
    CHECK(mdn_file_open(&odd, path, O_RDWR | O_CREAT, &file, NULL) == MDN_OK);
    CHECK(mdn_file_allocate(&file, 0, 100, NULL) == MDN_OK);
    CHECK(mdn_file_write(&file, "abc", 3, 0, &err) == MDN_IO);
    CHECK(err.sys_errno == EIO);
    mdn_file_close(&file);
}

/* Whatever call fails, path holds the old or the new content, whole, and no
 * temporary file is left, unless the process died. */
static void
replacing_is_all_or_nothing(void)
{
    const faulty_fault faults[] = {FAULT_EIO, FAULT_ENOSPC, FAULT_KILL,
                                   FAULT_TORN};

    for (int f = 0; f < 4; f++) {
        bool fired = true;
        for (int n = 0; fired || n < 5; n++) {
            faulty disk = {.fault = faults[f], .fail_at = n};
            mdn_error err = {.status = MDN_OK};
            mdn_status st;

            empty_directory();
            put("old content");
            st = mdn_file_replace(faulty_io(&disk), path, "new", 3, &err);
            fired = disk.fired;
            CHECK(disk.open_files == 0);
            CHECK((st == MDN_OK) == !fired || faults[f] == FAULT_ENOSPC);
            CHECK(holds(st == MDN_OK ? "new" : "old content") || holds("new"));
            CHECK(st == MDN_OK || err.message[0] != '\0');
            CHECK(disk.dead || files_in_directory() == 1);
        }
    }
}

static void
what_the_dead_have_left_does_not_stand_in_the_way(void)
{
    empty_directory();
    for (int n = 1; n < 4; n++) {
        faulty disk = {.fault = FAULT_KILL, .only = FAULTY_SYNC};
        CHECK(mdn_file_replace(faulty_io(&disk), path, "new", 3, NULL)
              == MDN_IO);
        CHECK(files_in_directory() == n);
    }
    put("last");
    CHECK(holds("last"));
}

static void
replaced_content_survives_a_power_cut_and_unsynced_does_not(void)
{
    faulty disk = {.record = true};
    const mdn_io *io = faulty_io(&disk);
    mdn_file file;

    CHECK(mdn_file_replace(io, path, "durable", 7, NULL) == MDN_OK);
    CHECK(mdn_file_open(io, path, O_RDWR, &file, NULL) == MDN_OK);
    CHECK(mdn_file_write(&file, "lost and longer", 15, 0, NULL) == MDN_OK);
    CHECK(mdn_file_truncate(&file, 4, NULL) == MDN_OK && holds("lost"));
    mdn_file_close(&file);
    faulty_power_cut(&disk);
    CHECK(holds("durable"));

    disk.fault = FAULT_LIE;
    disk.sticky = true;
    CHECK(mdn_file_replace(io, path, "lied about", 10, NULL) == MDN_OK);
    CHECK(disk.fired && holds("lied about"));
    faulty_power_cut(&disk);
    CHECK(holds(""));
    faulty_forget(&disk);
}

static void
a_flipped_bit_is_what_the_disk_makes_of_it(void)
{
    faulty disk = {.fault = FAULT_FLIP, .only = FAULTY_READ};
    mdn_file file;
    char buf[3];

    put("abc");
    CHECK(mdn_file_open(faulty_io(&disk), path, O_RDONLY, &file, NULL)
          == MDN_OK);
    CHECK(mdn_file_read(&file, buf, 3, 0, NULL) == MDN_OK);
    CHECK(memcmp(buf, "arc", 3) == 0);
    CHECK(mdn_file_read(&file, buf, 3, 0, NULL) == MDN_OK);
    CHECK(memcmp(buf, "abc", 3) == 0);
    mdn_file_close(&file);
}

static void
replacing_works_in_the_working_directory(void)
{
    char *joined = mdn_path_join("some/where", "file");

    CHECK(joined != NULL && strcmp(joined, "some/where/file") == 0);
    free(joined);
    CHECK(chdir(directory) == 0);
    CHECK(mdn_file_replace(SYSTEM, "file", "here", 4, NULL) == MDN_OK);
    CHECK(holds("here"));
}

int
main(void)
{
    if (mkdtemp(directory) == NULL)
        return 1;
    snprintf(path, sizeof path, "%s/file", directory);
    RUN(what_is_written_is_read);
    RUN(facts_are_what_the_file_system_says);
    RUN(a_map_shows_the_file);
    RUN(a_lock_is_for_one);
    RUN(a_missing_file_is_named);
    RUN(an_early_end_is_damage_and_says_where);
    RUN(short_and_interrupted_transfers_are_completed);
    RUN(a_refused_call_is_reported_with_its_reason);
    RUN(a_full_disk_is_reported_and_leaves_the_file_usable);
    RUN(a_failed_sync_poisons_the_file);
    RUN(a_failed_start_poisons_the_file);
    RUN(a_start_is_left_out_where_there_is_no_such_call);
    RUN(odd_file_systems_are_borne);
    RUN(replacing_is_all_or_nothing);
    RUN(what_the_dead_have_left_does_not_stand_in_the_way);
    RUN(replaced_content_survives_a_power_cut_and_unsynced_does_not);
    RUN(a_flipped_bit_is_what_the_disk_makes_of_it);
    RUN(replacing_works_in_the_working_directory);
    empty_directory();
    rmdir(directory);
    return check_report("test_file");
}
