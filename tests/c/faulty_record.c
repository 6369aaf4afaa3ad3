/* faulty_record.c - a list of what bytes and names were before.
 *
 * Each entry of content has a descriptor of its own to the file (through
 * /proc), so that it survives close and rename.  A file that a rename or an
 * unlink takes the name from gets another one first, beside its directory,
 * under which it waits to come back.  Cuts go through the lists newest first:
 * once a sector (or a size) is kept as it is, what was done to it before is
 * kept, too. */
#include "faulty_record.h"

#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR UINT64_C(512)
#define PATH_SIZE 400

struct faulty_undo {
    faulty_undo *next;
    int fd; /* owned */
    dev_t device;
    ino_t inode;
    uint64_t old_size, new_size; /* of the file */
    uint64_t at, length;         /* of the change; 0 for one of size only */
    uint64_t size;               /* old bytes that it overwrites or cuts off */
    char bytes[];
};

typedef enum { CREATED, RENAMED, UNLINKED } change;

struct faulty_name {
    faulty_name *next;
    change what;
    char path[PATH_SIZE];  /* created, unlinked or renamed to */
    char from[PATH_SIZE];  /* renamed */
    char saved[PATH_SIZE]; /* where what had the name waits, or "" */
};

static void
check(bool good)
{
    if (!good)
        abort();
}

/* Content. */

static faulty_undo *
undo_free(faulty_undo *undo)
{
    faulty_undo *next = undo->next;

    close(undo->fd);
    free(undo);
    return next;
}

/* Remember what [at, at+size) holds; the file will have new_size bytes. */
static void
remember(faulty_record *record, int fd, uint64_t at, uint64_t length,
         uint64_t size, uint64_t new_size)
{
    char name[64];
    struct stat st;
    faulty_undo *undo;

    check(fstat(fd, &st) == 0);
    if (at >= (uint64_t)st.st_size)
        size = 0;
    else if (size > (uint64_t)st.st_size - at)
        size = (uint64_t)st.st_size - at;
    check((undo = malloc(sizeof *undo + size)) != NULL);
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    *undo = (faulty_undo){.next = record->undo,
                          .fd = open(name, O_RDWR | O_CLOEXEC),
                          .device = st.st_dev,
                          .inode = st.st_ino,
                          .old_size = (uint64_t)st.st_size,
                          .new_size = new_size,
                          .at = at,
                          .length = length,
                          .size = size};
    check(undo->fd >= 0
          && pread(undo->fd, undo->bytes, size, (off_t)at) == (ssize_t)size);
    record->undo = undo;
}

static uint64_t
size_of(int fd)
{
    struct stat st;

    check(fstat(fd, &st) == 0);
    return (uint64_t)st.st_size;
}

void
faulty_before_write(faulty_record *record, int fd, uint64_t at, uint64_t size)
{
    uint64_t before;

    if (!record->on)
        return;
    before = size_of(fd);
    remember(record, fd, at, size, size,
             at + size > before ? at + size : before);
}

void
faulty_before_resize(faulty_record *record, int fd, uint64_t new_size)
{
    if (record->on)
        remember(record, fd, new_size, 0, UINT64_MAX, new_size);
}

void
faulty_after_sync(faulty_record *record, int fd)
{
    struct stat st;

    if (record->undo == NULL || fstat(fd, &st) < 0)
        return;
    for (faulty_undo **link = &record->undo; *link != NULL;) {
        if ((*link)->device == st.st_dev && (*link)->inode == st.st_ino)
            *link = undo_free(*link);
        else
            link = &(*link)->next;
    }
}

static void
put(int fd, const void *bytes, uint64_t size, uint64_t at)
{
    check(pwrite(fd, bytes, size, (off_t)at) == (ssize_t)size);
}

void
faulty_record_cut(faulty_record *record)
{
    while (record->undo != NULL) {
        faulty_undo *undo = record->undo;

        put(undo->fd, undo->bytes, undo->size, undo->at);
        check(ftruncate(undo->fd, (off_t)undo->old_size) == 0);
        record->undo = undo_free(undo);
    }
}

/* What of the content is kept: sectors of files, and sizes, as a hash set.
 * The number of a size is that of no sector. */
#define SIZE_OF_FILE UINT64_MAX

typedef struct {
    uint64_t *slots; /* mixed names, 0 is free */
    uint64_t count, mask;
    uint64_t stream, draws;
    uint64_t chance; /* to keep, of 2^64 */
} kept;

static bool
kept_put(kept *set, uint64_t name)
{
    uint64_t slot = name & set->mask;

    while (set->slots[slot] != 0 && set->slots[slot] != name)
        slot = (slot + 1) & set->mask;
    if (set->slots[slot] == name)
        return false;
    set->slots[slot] = name;
    return true;
}

static void
kept_grow(kept *set)
{
    kept larger = *set;

    larger.mask = set->mask * 2 + 1;
    check((larger.slots = calloc(larger.mask + 1, 8)) != NULL);
    for (uint64_t i = 0; i <= set->mask; i++) {
        if (set->slots[i] != 0)
            kept_put(&larger, set->slots[i]);
    }
    free(set->slots);
    *set = larger;
}

/* Whether this is kept: because it was already, or because the draw says so. */
static bool
keeps(kept *set, const faulty_undo *undo, uint64_t number)
{
    uint64_t name =
        mdn_mix(mdn_mix(undo->inode * 31 + undo->device) ^ number) | 1;
    uint64_t slot = name & set->mask;

    while (set->slots[slot] != 0) {
        if (set->slots[slot] == name)
            return true;
        slot = (slot + 1) & set->mask;
    }
    if (mdn_draw(set->stream, set->draws++) >= set->chance)
        return false;
    if (2 * ++set->count > set->mask)
        kept_grow(set);
    kept_put(set, name);
    return true;
}

/* One sector of a write, or the part of it that was written, as it was: old
 * bytes, and zeros where there were none. */
static void
restore_sector(const faulty_undo *undo, uint64_t sector)
{
    static const char zeros[SECTOR];
    uint64_t first = sector * SECTOR, end = first + SECTOR;
    uint64_t old_end = undo->at + undo->size, file_end = size_of(undo->fd);

    if (first < undo->at)
        first = undo->at;
    if (end > undo->at + undo->length)
        end = undo->at + undo->length;
    if (end > file_end)
        end = file_end;
    if (first < end && first < old_end) {
        uint64_t size = (end < old_end ? end : old_end) - first;

        put(undo->fd, undo->bytes + (first - undo->at), size, first);
        first += size;
    }
    if (first < end)
        put(undo->fd, zeros, end - first, first);
}

static void
cut_content(faulty_record *record, kept *set)
{
    while (record->undo != NULL) {
        faulty_undo *undo = record->undo;
        bool resized = undo->old_size != undo->new_size;
        bool back = resized && !keeps(set, undo, SIZE_OF_FILE);

        if (back)
            check(ftruncate(undo->fd, (off_t)undo->old_size) == 0);
        if (back && undo->new_size < undo->old_size)
            put(undo->fd, undo->bytes, undo->size, undo->at);
        for (uint64_t at = undo->at / SECTOR;
             undo->length > 0 && at <= (undo->at + undo->length - 1) / SECTOR;
             at++) {
            if (!keeps(set, undo, at))
                restore_sector(undo, at);
        }
        record->undo = undo_free(undo);
    }
}

/* Names. */

static faulty_name *
add_name(faulty_record *record, change what, const char *path)
{
    faulty_name *name = calloc(1, sizeof *name);

    check(name != NULL && strlen(path) < PATH_SIZE);
    name->what = what;
    strcpy(name->path, path);
    name->next = record->name;
    record->name = name;
    return name;
}

/* What has this name, if anything has, gets another one, too. */
static void
save(faulty_name *name)
{
    static unsigned number;
    char directory[PATH_SIZE];
    char *slash;

    strcpy(directory, name->path);
    slash = strrchr(directory, '/');
    check(slash != NULL);
    *slash = '\0';
    check(snprintf(name->saved, PATH_SIZE, "%s.lost-%u", directory, number++)
          < PATH_SIZE);
    if (link(name->path, name->saved) < 0) {
        check(errno == ENOENT);
        name->saved[0] = '\0';
    }
}

void
faulty_before_rename(faulty_record *record, const char *from, const char *to)
{
    faulty_name *name;

    if (!record->on)
        return;
    name = add_name(record, RENAMED, to);
    check(strlen(from) < PATH_SIZE);
    strcpy(name->from, from);
    save(name);
}

void
faulty_before_unlink(faulty_record *record, const char *path)
{
    if (record->on && access(path, F_OK) == 0)
        save(add_name(record, UNLINKED, path));
}

void
faulty_after_create(faulty_record *record, const char *path)
{
    if (record->on)
        add_name(record, CREATED, path);
}

static faulty_name *
name_free(faulty_name *name)
{
    faulty_name *next = name->next;

    if (name->saved[0] != '\0')
        unlink(name->saved);
    free(name);
    return next;
}

static bool
lies_in(const char *path, const char *directory)
{
    size_t size = (size_t)(strrchr(path, '/') - path);
    size_t other = strlen(directory);

    while (other > 0 && directory[other - 1] == '/')
        other--;
    return size == other && strncmp(path, directory, size) == 0;
}

void
faulty_after_sync_dir(faulty_record *record, const char *path)
{
    for (faulty_name **link = &record->name; *link != NULL;) {
        if (lies_in((*link)->path, path))
            *link = name_free(*link);
        else
            link = &(*link)->next;
    }
}

/* A directory whose own name is lost takes along what was synced in it. */
static void
remove_created(const char *path)
{
    char command[PATH_SIZE + 16];

    if (unlink(path) == 0 || rmdir(path) == 0 || errno == ENOENT)
        return;
    check(errno == ENOTEMPTY);
    snprintf(command, sizeof command, "rm -r '%s'", path);
    check(system(command) == 0);
}

static void
take_name_back(const faulty_name *name)
{
    switch (name->what) {
    case CREATED: remove_created(name->path); break;
    case RENAMED: check(rename(name->path, name->from) == 0); break;
    case UNLINKED: break;
    }
    if (name->saved[0] != '\0')
        check(link(name->saved, name->path) == 0);
}

static void
cut_names(faulty_record *record, uint64_t back)
{
    for (; record->name != NULL; back -= back > 0) {
        if (back > 0)
            take_name_back(record->name);
        record->name = name_free(record->name);
    }
}

/* Half of the cuts keep all, none or few of either; the rest is in between. */
static uint64_t
draw_chance(uint64_t stream, uint64_t index)
{
    static const uint64_t chances[] = {0,
                                       UINT64_MAX / 16,
                                       UINT64_MAX / 4,
                                       UINT64_MAX / 2,
                                       UINT64_MAX / 2,
                                       UINT64_MAX / 4 * 3,
                                       UINT64_MAX / 16 * 15,
                                       UINT64_MAX};

    return chances[mdn_draw(stream, index) % 8];
}

void
faulty_record_cut_some(faulty_record *record, uint64_t seed)
{
    uint64_t stream = mdn_stream(seed, 1), names = 0;
    kept set = {.mask = 1023, .stream = mdn_stream(seed, 2)};

    check((set.slots = calloc(set.mask + 1, 8)) != NULL);
    set.chance = draw_chance(stream, 0);
    for (faulty_name *name = record->name; name != NULL; name = name->next)
        names++;
    /* Content first: a name may be the last one that a file has. */
    cut_content(record, &set);
    cut_names(record, mdn_draw(stream, 1) % (names + 1));
    free(set.slots);
}

void
faulty_record_forget(faulty_record *record)
{
    while (record->undo != NULL)
        record->undo = undo_free(record->undo);
    cut_names(record, 0);
}
