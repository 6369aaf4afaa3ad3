/* journal.h - append-only files of entries, each chained to the one before.
 *
 * A dataset has two of them.  `events` holds what was done to samples after
 * they had come (erased, compacted, linked), and every reader reads it.
 * `sources` holds what ingest has taken from which file, and only ingest does.
 * Neither is there before its first entry.
 *
 * Whether an entry counts is said by the manifest: each commit names a mark in
 * both journals, their length and the digest of all that lies before.  So
 * entries take effect together with the samples of the same commit.
 *
 *     mdn_journal_append    write an entry behind a mark, durably
 *     mdn_journal_read      the entries between two marks */
#ifndef MDN_STORAGE_JOURNAL_H
#define MDN_STORAGE_JOURNAL_H

#include "base/blake2b.h"
#include "base/file.h"
#include "storage/layout.h"

/* An entry as it is read; the payload is valid during the visit. */
typedef struct {
    uint64_t number; /* 1 for the first of the journal */
    uint32_t kind;
    uint64_t wall_ns; /* since 1970; for people */
    const uint8_t *payload;
    uint64_t payload_size;
    uint8_t digest[MDN_DIGEST_SIZE]; /* of this entry and all before */
} mdn_entry;

/* The writer's side; for one thread at a time. */
typedef struct {
    const mdn_io *io; /* borrowed, as the next two */
    const char *directory;
    const mdn_layout *layout;
    mdn_journal_kind which;
    mdn_file file; /* opened by the first append */
} mdn_journal;

#define MDN_JOURNAL_CLOSED ((mdn_journal){.file = {.fd = -1}})

void mdn_journal_init(mdn_journal *journal, const mdn_io *io,
                      const char *directory, const mdn_layout *layout,
                      mdn_journal_kind which);
void mdn_journal_close(mdn_journal *journal); /* accepts MDN_JOURNAL_CLOSED */

/* Write an entry behind *mark, sync it, and move *mark behind it.  What lies
 * behind the mark already was never committed and is overwritten.  On failure
 * *mark has not moved; after a failed sync every later append is refused. */
mdn_status mdn_journal_append(mdn_journal *journal, uint32_t kind,
                              const void *payload, uint64_t size,
                              mdn_mark *mark, mdn_error *err);

typedef mdn_status (*mdn_journal_visit)(void *ctx, const mdn_entry *entry,
                                        mdn_error *err);

/* Visit the entries between two marks of the manifest, oldest first; `number`
 * is that of the entry before.  MDN_CORRUPT when the file does not hold what
 * the marks promise, MDN_UNSUPPORTED for a version that is not known; a visit
 * that fails ends it. */
mdn_status mdn_journal_read(const mdn_io *io, const char *directory,
                            const mdn_layout *layout, mdn_journal_kind which,
                            const mdn_mark *from, const mdn_mark *to,
                            uint64_t number, mdn_journal_visit visit, void *ctx,
                            mdn_error *err);

/* Visit the entries behind `from` for as long as they are whole and continue
 * its chain, up to byte `limit` at most; *reached is behind the last of them,
 * and *entries becomes its number.  What is damaged, or not there, ends it
 * with MDN_OK.  The header is not looked at: only one is right.  visit may be
 * NULL. */
mdn_status mdn_journal_scan(const mdn_io *io, const char *directory,
                            const mdn_layout *layout, mdn_journal_kind which,
                            const mdn_mark *from, uint64_t limit,
                            uint64_t *entries, mdn_journal_visit visit,
                            void *ctx, mdn_mark *reached, mdn_error *err);
/* Bytes of an entry in the file, and of the header before the first. */
uint64_t mdn_journal_entry_size(const mdn_entry *entry);
/* Write the header anew, durably. */
mdn_status mdn_journal_write_header(const mdn_io *io, const char *directory,
                                    const mdn_layout *layout,
                                    mdn_journal_kind which, mdn_error *err);

const char *mdn_journal_name(mdn_journal_kind which); /* of the file */

#endif
