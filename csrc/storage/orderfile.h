/* orderfile.h - the file in which the time order of a dataset is kept.
 *
 * It holds nothing that the timestamps do not say, too.  So whatever is wrong
 * with it, or with writing it, is a reason to do without. */
#ifndef MDN_STORAGE_ORDERFILE_H
#define MDN_STORAGE_ORDERFILE_H

#include "base/file.h"
#include "storage/reserve.h"

#include <stdbool.h>

#define MDN_ORDER_DIGEST_SIZE 16

/* What one slot of the header says. */
typedef struct {
    bool identity;    /* arrival order is time order; no keys are stored */
    uint64_t count;   /* keys covered, >= 1 */
    uint64_t keys_at; /* place of the first key; 0 without */
    uint8_t digest[MDN_ORDER_DIGEST_SIZE]; /* of the timestamps covered */
    uint32_t crc;                          /* of the last, not full block */
} mdn_order_head;

typedef struct {
    mdn_file file;
    uint8_t uuid[16]; /* of the dataset */
    mdn_order_head head;
    uint32_t slot;        /* in which head stands */
    const uint64_t *keys; /* mapped, checked; NULL before and without */
    mdn_range *mapping;   /* of keys */
} mdn_orderfile;

#define MDN_ORDERFILE_CLOSED ((mdn_orderfile){.file = {.fd = -1}})

/* Keys of an order on their way into a file: keep of those there were, in
 * kept (NULL: 0, 1, 2, ...), then count in keys. */
typedef struct {
    const uint64_t *kept;
    uint64_t keep;
    const uint64_t *keys;
    uint64_t count;
} mdn_order_parts;

/* Read the header.  An error where there is no file, or none to be used. */
mdn_status mdn_orderfile_open(const mdn_io *io, const char *directory,
                              const uint8_t uuid[16], bool writable,
                              mdn_orderfile *out, mdn_error *err);
/* Map the keys and check every block of them, on several threads. */
mdn_status mdn_orderfile_map(mdn_orderfile *file, uint32_t threads,
                             mdn_error *err);
/* Accepts MDN_ORDERFILE_CLOSED. */
void mdn_orderfile_close(mdn_orderfile *file);

/* Whoever writes holds this lock.  MDN_BUSY while another does. */
mdn_status mdn_orderfile_lock(const mdn_io *io, const char *directory,
                              mdn_file *out, mdn_error *err);
/* Whether count keys have room in this file, which holds fewer. */
bool mdn_orderfile_has_room(const mdn_orderfile *file, uint64_t count);
/* Put keys behind those of a file that was opened for writing.  Who has the
 * file mapped, or open, sees what was there. */
mdn_status mdn_orderfile_extend(mdn_orderfile *file, const mdn_order_head *head,
                                const uint64_t *keys, mdn_error *err);
/* A new file in the place of the one that is there, if any.  parts is not
 * looked at when head says identity. */
mdn_status mdn_orderfile_replace(const mdn_io *io, const char *directory,
                                 const uint8_t uuid[16],
                                 const mdn_order_head *head,
                                 const mdn_order_parts *parts, mdn_error *err);

/* Remove it, and what a process left that died while it wrote one: for a
 * compaction, since the place of an erased key tells about when it was. */
mdn_status mdn_orderfile_remove(const mdn_io *io, const char *directory,
                                mdn_error *err);

#endif
