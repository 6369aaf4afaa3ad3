/* input.c - opening and reading what others have written. */
#include "ingest/input.h"

#include "base/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_SHOWN 160
#define CHECK_SIZE (UINT64_C(1) << 20) /* read at a time */

typedef unsigned long long ull;

const char *
mdn_input_name(const char *path)
{
    size_t length = strlen(path);

    return length > NAME_MAX_SHOWN ? path + length - NAME_MAX_SHOWN : path;
}

mdn_status
mdn_input_open(const mdn_io *io, const char *path, bool follow, mdn_input *out,
               mdn_error *err)
{
    int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | (follow ? 0 : O_NOFOLLOW);
    mdn_error own, *reason = err != NULL ? err : &own;
    mdn_status st = mdn_file_open(io, path, flags, &out->file, reason);

    out->name = mdn_input_name(path);
    if (st == MDN_IO && reason->sys_errno == ELOOP && !follow)
        return mdn_fail(err, MDN_INVALID,
                        "%s: a symbolic link, which is not followed; give the "
                        "file that it points to",
                        out->name);
    if (st == MDN_IO && reason->sys_errno == ENXIO)
        return mdn_fail(err, MDN_INVALID, "%s: not a regular file", out->name);
    if (st != MDN_OK)
        return st;
    out->name = mdn_input_name(out->file.path);
    st = mdn_file_facts_of(&out->file, &out->facts, err);
    if (st == MDN_OK && !out->facts.regular)
        st = mdn_fail(err, MDN_INVALID, "%s: not a regular file", out->name);
    if (st != MDN_OK)
        mdn_input_close(out);
    return st;
}

void
mdn_input_close(mdn_input *input)
{
    mdn_file_close(&input->file);
}

mdn_status
mdn_input_read(const mdn_input *input, void *buf, uint64_t size, uint64_t at,
               mdn_error *err)
{
    mdn_status st = mdn_file_read(&input->file, buf, size, at, err);

    /* What is damaged is not ours. */
    if (st == MDN_CORRUPT)
        return mdn_fail(err, MDN_INVALID,
                        "%s: has shrunk while it was read: %llu bytes at %llu "
                        "are gone",
                        input->name, (ull)size, (ull)at);
    return st;
}

mdn_status
mdn_input_check(const mdn_input *input, uint64_t first, uint64_t size,
                uint32_t *crc, mdn_error *err)
{
    uint64_t done = 0;
    mdn_status st = MDN_OK;
    char *buffer = malloc(CHECK_SIZE);

    if (buffer == NULL)
        return mdn_fail_nomem(err, CHECK_SIZE);
    while (st == MDN_OK && done < size) {
        uint64_t part = size - done < CHECK_SIZE ? size - done : CHECK_SIZE;

        st = mdn_input_read(input, buffer, part, first + done, err);
        if (st == MDN_OK)
            *crc = mdn_crc32c(*crc, buffer, part);
        done += part;
    }
    free(buffer);
    return st;
}
