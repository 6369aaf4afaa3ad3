/* repair.h - a damaged dataset is made to open again, with every whole commit.
 *
 * The rules are those of docs/repair.md.  In short: the last good record of the
 * manifest says what there is; commits are given up only at the end and only if
 * their own rows are gone; erasures are never given up; blocks that are damaged
 * stay as they are. */
#ifndef MDN_STORAGE_REPAIR_H
#define MDN_STORAGE_REPAIR_H

#include "base/io.h"
#include "storage/layout.h"

typedef enum {
    MDN_STEP_HEADER,   /* of a .col file or journal: written anew */
    MDN_STEP_EXTENDED, /* a file was too short, or is made anew */
    MDN_STEP_LOST,     /* commits whose records are damaged at the end */
    MDN_STEP_GIVEN_UP, /* commits whose rows are gone */
    MDN_STEP_KEPT,     /* rows that are gone, of commits that stay */
    MDN_STEP_EVENTS,   /* entries that a lost commit had named are kept */
    MDN_STEP_SOURCES,  /* the journal is cut behind its last whole entry */
    MDN_STEP_MANIFEST, /* written anew; text says where the old one is */
    MDN_STEP_LEFT,     /* damage that was not touched */
} mdn_step_kind;

typedef struct {
    mdn_step_kind kind;
    const char *file;
    uint64_t number, number_count; /* of commits or entries, or 0 */
    uint64_t first_key, key_count; /* samples that are concerned, or 0 */
    const char *text;
} mdn_step;

const char *mdn_step_name(mdn_step_kind kind);

typedef mdn_status (*mdn_step_visit)(void *ctx, const mdn_step *step,
                                     mdn_error *err);

typedef struct {
    bool dry_run;     /* say what would be done; no lock is taken */
    bool cut_sources; /* allow to cut the journal of sources */
} mdn_repair_options;

/* All steps are visited before the first byte is written, but for the header of
 * `events`, without which no more can be planned.  A visit that fails ends it.
 * A crash in the middle leaves the dataset as it was, or repaired; the next
 * repair goes on.  MDN_CORRUPT, with words, where nothing can be done: a
 * damaged header of the manifest, damaged events; then nothing was changed.
 * MDN_BUSY while somebody writes. */
mdn_status mdn_repair_dataset(const mdn_io *io, const char *path,
                              const mdn_repair_options *options,
                              mdn_step_visit visit, void *ctx, mdn_error *err);

#endif
