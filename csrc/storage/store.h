/* store.h - what the views of one handle share: mappings and verified bits.
 *
 * A store has room for a number of segments; when a dataset outgrows it, later
 * views get a new store and the old one lives as long as its last view.  The
 * files of a segment are mapped when one of its rows is first touched.
 *
 * Each column is one reserved range of addresses in which the columns of the
 * segments are mapped one after the other, so that it is one array by key.
 *
 * A compaction removes the files of a segment as soon as it has committed the
 * new ones.  What is mapped stays; a segment that this store comes to only then
 * is `late`: mapped from the new files, which hold the same but for samples
 * that were erased in the meantime.  These must not be shown, and all that was
 * read is held against mdn_store_check_late at the end.
 *
 * The records of a linked segment lie in a file of the user, with a stride of
 * their own, and are mapped from there: linked.c, which also knows what to do
 * when somebody changes that file.
 *
 * A set bit of `verified` says: this block is full, mapped and was checked.
 * It is set after that with release and read with acquire, so that whoever
 * sees it may read the block. */
#ifndef MDN_STORAGE_STORE_H
#define MDN_STORAGE_STORE_H

#include "base/io.h"
#include "storage/history.h"
#include "storage/layout.h"
#include "storage/reserve.h"
#include "storage/schema.h"

#include <stdatomic.h>

/* Where the records of a segment are; with bytes fields the stride is that of
 * nothing.  Side by side, since a gather reads both for every key. */
typedef struct {
    _Atomic(const uint8_t *) base; /* NULL: not mapped */
    uint64_t stride;               /* written before base is */
} mdn_place;

typedef struct {
    /* As in `places` of the store, with how much of it is in the file. */
    _Atomic uint64_t readable;
    uint64_t mapped;             /* guarded by lock: bytes of address space */
    _Atomic uint64_t generation; /* of the files; written under the lock */
    _Atomic(const uint32_t *) checksums; /* NULL: columns are not mapped yet */
    _Atomic(const mdn_bits *) late; /* rows erased by now; NULL: as it was */
    /* Where it is mapped from, if it is linked: one reference, and which file
     * that was.  Written before `base` is. */
    const mdn_link *link;
    uint64_t device, inode;
} mdn_segment;

typedef struct {
    /* Written before anybody shares the store. */
    const mdn_io *io; /* borrowed; must outlive the store */
    char *path;
    mdn_schema *schema;
    mdn_layout layout;
    uint64_t capacity;          /* segments */
    uint8_t *column[MDN_KINDS]; /* reserved; NULL for records and absent ones */
    _Atomic uint64_t *verified[MDN_KINDS]; /* one bit per full block */
    mdn_place *places;                     /* per segment */
    mdn_segment *segments;

    mdn_history *history; /* one reference: as of when it was made */

    atomic_uint references;
    atomic_bool any_late; /* set before what is late can be read */
    /* One thread at a time maps: the pid of its process, or 0.  A child that
     * was forked meanwhile sees a foreign pid and takes the lock over; mapping
     * what its parent was about to map is no harm. */
    atomic_int lock;
    mdn_range *ranges;   /* guarded by lock */
    mdn_history *now;    /* guarded by lock: the latest known; or NULL */
    mdn_history **kept;  /* guarded by lock: those that `late` is of */
    uint64_t kept_count; /* guarded by lock */
} mdn_store;

/* path and schema are copied, history is retained; one reference. */
mdn_status mdn_store_new(const mdn_io *io, const char *path,
                         const mdn_schema *schema, const mdn_layout *layout,
                         mdn_history *history, uint64_t capacity,
                         mdn_store **out, mdn_error *err);
mdn_store *mdn_store_retain(mdn_store *store);
void mdn_store_release(mdn_store *store); /* accepts NULL */

/* Map columns and checksums of a segment, if they are not yet. */
mdn_status mdn_store_map_columns(mdn_store *store, uint64_t segment,
                                 mdn_error *err);
/* Map the records of a segment so that the first `bytes` can be read.
 * MDN_CORRUPT when the file is shorter. */
mdn_status mdn_store_map_records(mdn_store *store, uint64_t segment,
                                 uint64_t bytes, mdn_error *err);

/* For one thread at a time: mapping. */
void mdn_store_lock(mdn_store *store);
void mdn_store_unlock(mdn_store *store);

/* After rows of `keys` were read: MDN_NO_KEY if one of them was erased and
 * removed before it could be read. */
mdn_status mdn_store_check_late(const mdn_store *store, const uint64_t *keys,
                                uint64_t count, mdn_error *err);

static inline bool
mdn_store_verified(const mdn_store *store, mdn_kind kind, uint64_t block)
{
    uint64_t word = atomic_load_explicit(&store->verified[kind][block / 64],
                                         memory_order_acquire);

    return (word >> (block % 64)) & 1;
}

static inline void
mdn_store_set_verified(mdn_store *store, mdn_kind kind, uint64_t block)
{
    atomic_fetch_or_explicit(&store->verified[kind][block / 64],
                             UINT64_C(1) << (block % 64), memory_order_release);
}

/* Valid once a block of the segment was verified. */
static inline const uint8_t *
mdn_store_records(const mdn_store *store, uint64_t segment)
{
    return atomic_load_explicit(&store->places[segment].base,
                                memory_order_acquire);
}

static inline const int64_t *
mdn_store_column(const mdn_store *store, mdn_kind kind)
{
    return (const int64_t *)(const void *)store->column[kind];
}

#endif
