/* faulty_record.h - what a disk was told and has not made durable yet.
 *
 * faulty_io.c reports each change before it happens and each sync after it.
 * Losing power then takes changes back: all writes (faulty_power_cut), or what
 * a disk may really lose (faulty_power_cut_some):
 *
 *     content   of each 512-byte sector any prefix of its unsynced writes, so
 *               that one write is torn wherever a sector ends, and a later one
 *               is there without an earlier one to another sector;
 *     sizes     of each file a prefix of their unsynced changes; what lies
 *               between what was kept is zeros;
 *     names     a prefix of all creations, renames, unlinks and mkdirs whose
 *               directory was not synced.  The sync of a file does not keep
 *               its name. */
#ifndef TESTS_FAULTY_RECORD_H
#define TESTS_FAULTY_RECORD_H

#include <stdbool.h>
#include <stdint.h>

typedef struct faulty_undo faulty_undo;
typedef struct faulty_name faulty_name;

typedef struct {
    bool on;           /* otherwise nothing is remembered */
    faulty_undo *undo; /* content and sizes, newest first */
    faulty_name *name; /* newest first */
} faulty_record;

/* [at, at+size) of fd is about to be written, allocated or, with a size that
 * shrinks to at, cut off. */
void faulty_before_write(faulty_record *record, int fd, uint64_t at,
                         uint64_t size);
void faulty_before_resize(faulty_record *record, int fd, uint64_t new_size);
void faulty_after_sync(faulty_record *record, int fd);

void faulty_before_rename(faulty_record *record, const char *from,
                          const char *to);
void faulty_before_unlink(faulty_record *record, const char *path);
/* A file or a directory of this name is new. */
void faulty_after_create(faulty_record *record, const char *path);
void faulty_after_sync_dir(faulty_record *record, const char *path);

/* Take back all unsynced writes; names stay. */
void faulty_record_cut(faulty_record *record);
/* Take back what this seed says, names included. */
void faulty_record_cut_some(faulty_record *record, uint64_t seed);
void faulty_record_forget(faulty_record *record);

#endif
