/* input.h - an incoming file: whose it is nobody knows, and it is only read.
 *
 * Only regular files are taken; opening never waits, whatever the path is
 * (a pipe without a writer, a terminal).  The size is the one it had when it
 * was opened: what is added later is not read, and a file that shrinks while
 * it is read is an error. */
#ifndef MDN_INGEST_INPUT_H
#define MDN_INGEST_INPUT_H

#include "base/file.h"

typedef struct {
    mdn_file file;
    mdn_file_facts facts; /* when it was opened */
    const char *name;     /* for messages: the end of the path, if it is long */
} mdn_input;

#define MDN_INPUT_CLOSED ((mdn_input){.file = {.fd = -1}})

/* MDN_IO; MDN_INVALID if it is no regular file, or a symbolic link that shall
 * not be followed.  On failure *out is MDN_INPUT_CLOSED. */
mdn_status mdn_input_open(const mdn_io *io, const char *path, bool follow,
                          mdn_input *out, mdn_error *err);
void mdn_input_close(mdn_input *input); /* accepts MDN_INPUT_CLOSED */

/* Exactly size bytes.  MDN_IO; MDN_INVALID if the file has shrunk. */
mdn_status mdn_input_read(const mdn_input *input, void *buf, uint64_t size,
                          uint64_t at, mdn_error *err);

/* Continue *crc (crc32c.h) over [first, first + size) of the file. */
mdn_status mdn_input_check(const mdn_input *input, uint64_t first,
                           uint64_t size, uint32_t *crc, mdn_error *err);

/* The end of a path, short enough for a message. */
const char *mdn_input_name(const char *path);

#endif
