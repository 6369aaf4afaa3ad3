/* faulty_io.h - a file system that fails at a chosen call.
 *
 *     faulty disk = { .fault = FAULT_ENOSPC, .fail_at = 3 };
 *     mdn_dataset_create(faulty_io(&disk), ...);
 *     CHECK(disk.open_files == 0);
 *
 * Calls are numbered from 0 in the order they come; close is never counted and
 * never fails, since nothing may depend on it.  A loop over fail_at that ends
 * when `fired` stays false has tried every call.  For one thread at a time,
 * except that the counters are then merely inexact.
 *
 * With .record it also remembers what was changed and not synced.  A power cut
 * takes that back: all of the writes, and the files hold what they held at
 * their last honest sync; or what a seed says, as faulty_record.h tells. */
#ifndef TESTS_FAULTY_IO_H
#define TESTS_FAULTY_IO_H

#include "base/io.h"
#include "faulty_record.h"

typedef enum {
    FAULT_NONE,
    FAULT_EIO,    /* the call is refused with EIO */
    FAULT_ENOSPC, /* refused with ENOSPC, if it is one that needs room */
    FAULT_EDQUOT, /* the same with EDQUOT */
    FAULT_EMFILE, /* refused with EMFILE, if it is one that opens something */
    FAULT_EINTR,  /* refused with EINTR; sticky makes no sense */
    FAULT_SHORT,  /* a transfer moves a part only, of few bytes one */
    FAULT_KILL,   /* this call and every later one are refused: the process
                     is as good as dead */
    FAULT_TORN,   /* a write of half its bytes, then as FAULT_KILL */
    FAULT_LIE,    /* a sync that claims success and does nothing */
    FAULT_FLIP,   /* a read whose middle bit is wrong */
} faulty_fault;

/* Which calls count, as bits; 0 is all of them. */
enum {
    FAULTY_OPEN = 1,
    FAULTY_READ = 2,
    FAULTY_WRITE = 4,
    FAULTY_SYNC = 8,
    FAULTY_SYNC_DIR = 16,
    FAULTY_TRUNCATE = 32,
    FAULTY_ALLOCATE = 64,
    FAULTY_SIZE = 128,
    FAULTY_RENAME = 256,
    FAULTY_UNLINK = 512,
    FAULTY_MKDIR = 1024,
    FAULTY_LOCK = 2048,
    FAULTY_MAP = 4096,
    FAULTY_STAT = 8192,
    FAULTY_LIST = 16384,
    FAULTY_START = 32768,
    FAULTY_ADVISE = 65536,
    FAULTY_RESIDENT = 131072,
};

typedef struct {
    /* Set by the test. */
    faulty_fault fault;
    int fail_at;   /* number of the first call that fails */
    bool sticky;   /* so do all after it; otherwise only this one */
    unsigned only; /* FAULTY_... bits: what is counted and may fail */
    bool record;   /* remember unsynced writes, for faulty_power_cut */
    /* Told to the test. */
    int calls; /* counted so far */
    int open_files;
    bool fired; /* the fault has had its effect at least once */
    bool dead;  /* FAULT_KILL or FAULT_TORN has struck */
    /* Its own. */
    mdn_io io;
    faulty_record changes;
} faulty;

/* The table of this disk, borrowed. */
const mdn_io *faulty_io(faulty *disk);

/* Take back all that was written and not synced since (needs .record); names
 * stay.  Or some of it, and of the changes of names. */
void faulty_power_cut(faulty *disk);
void faulty_power_cut_some(faulty *disk, uint64_t seed);

/* Forget the record; accepts a disk that was never used. */
void faulty_forget(faulty *disk);

#endif
