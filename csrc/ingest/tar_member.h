/* tar_member.h - the members of a tar archive, one after the other.
 *
 *   archive = { member } end      end: two blocks of zeros
 *   member  = { extension } header data      each padded to blocks of 512 bytes
 *
 * ustar, its pax extensions (path, size, mtime) and GNU's (long names, sizes
 * in binary).  Directories are stepped over.  Links, devices, pipes and sparse
 * files are refused: they have no content of their own here.  So is a global
 * extension that sets a name or a size, since reading may begin anywhere. */
#ifndef MDN_INGEST_TAR_MEMBER_H
#define MDN_INGEST_TAR_MEMBER_H

#include "ingest/input.h"

#define MDN_TAR_BLOCK 512u
#define MDN_TAR_NAME_MAX (UINT64_C(64) << 10)

typedef struct {
    const mdn_input *input; /* borrowed */
    uint8_t *window;        /* owned; bytes of the file */
    uint64_t window_at, window_size;
} mdn_tar;

typedef enum {
    MDN_TAR_MEMBER, /* a regular file */
    MDN_TAR_END,    /* the end of the archive */
    MDN_TAR_CUT,    /* the file ends before the member, or the end, does */
} mdn_tar_kind;

typedef struct {
    mdn_tar_kind kind;
    uint64_t at; /* where it begins, extensions included; or the end does */
    uint64_t data_at, size;
    uint64_t next; /* where the next one begins */
    int64_t mtime_ns;
    char *name;         /* reused by the next call; see mdn_tar_member_clear */
    uint64_t name_size; /* without the NUL; holds none */
    uint64_t name_room;
} mdn_tar_member;

mdn_status mdn_tar_init(mdn_tar *tar, const mdn_input *input, mdn_error *err);
void mdn_tar_clear(mdn_tar *tar);

/* The next regular file at or behind byte `at`, where a member begins. */
mdn_status mdn_tar_next(mdn_tar *tar, uint64_t at, mdn_tar_member *member,
                        mdn_error *err);
void mdn_tar_member_clear(mdn_tar_member *member);

/* From the end of the archive on there are only zeros, and no more than
 * programs pad archives with; otherwise MDN_INVALID:
 * something was appended that would be lost. */
mdn_status mdn_tar_check_rest(mdn_tar *tar, uint64_t at, mdn_error *err);

#endif
