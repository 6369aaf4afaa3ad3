/* manifest.h - the log whose records are the commits of a dataset.
 *
 * A batch of samples exists when its commit record stands whole in the
 * manifest; everything else in the directory counts for nothing by itself.
 *
 *     mdn_manifest_create     a manifest without commits, made at once
 *     mdn_manifest_open       read the header; no commit is read yet
 *     mdn_manifest_advance    read the commits that came since
 *     mdn_manifest_cut        the writer's first act: drop a torn tail
 *     mdn_manifest_commit     add one commit, durably */
#ifndef MDN_STORAGE_MANIFEST_H
#define MDN_STORAGE_MANIFEST_H

#include "base/file.h"
#include "storage/layout.h"
#include "storage/schema.h"

typedef struct {
    mdn_file file;
    uint64_t records_at; /* place of the first commit record */
    uint64_t sequence;   /* number of the last commit read; 0: none yet */
    uint32_t chain;      /* its checksum, or the header's */
    mdn_tail tail;       /* how far it reaches */
} mdn_manifest;

#define MDN_MANIFEST_CLOSED ((mdn_manifest){.file = {.fd = -1}})

/* Make the file <directory>/manifest, durably; replaces an existing one. */
mdn_status mdn_manifest_create(const mdn_io *io, const char *directory,
                               const mdn_layout *layout, const char *schema,
                               mdn_error *err);

/* Read and check the header.  On success *schema is owned by the caller. */
mdn_status mdn_manifest_open(const mdn_io *io, const char *directory,
                             bool writable, mdn_manifest *out,
                             mdn_layout *layout, mdn_schema **schema,
                             mdn_error *err);
/* Accepts MDN_MANIFEST_CLOSED. */
void mdn_manifest_close(mdn_manifest *manifest);

/* Read on to the last whole commit.  MDN_CORRUPT when a commit that is known
 * to have been durable is damaged or missing; the manifest then stays where it
 * was.  A torn tail beyond that is no error. */
mdn_status mdn_manifest_advance(mdn_manifest *manifest,
                                const mdn_layout *layout, mdn_error *err);

/* After the first advance of a writer: cut what lies behind the last commit,
 * and make sure that this commit is durable. */
mdn_status mdn_manifest_cut(mdn_manifest *manifest, const mdn_layout *layout,
                            mdn_error *err);

/* Commit tail, the content of which is durable.  On failure the record is
 * taken back; if a failed sync leaves that unknown, the message says so. */
mdn_status mdn_manifest_commit(mdn_manifest *manifest, const mdn_layout *layout,
                               const mdn_tail *tail, mdn_error *err);

#endif
