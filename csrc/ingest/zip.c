/* zip.c - the directory of a zip archive.
 *
 *   members       local header (30 bytes, name, extra), data
 *   directory     per member 46 bytes, name, extra, comment
 *   end 64        56 bytes, where 32-bit fields do not do
 *   locator 64    20 bytes: where end 64 is
 *   end           22 bytes, comment
 *
 * All numbers are little-endian.  A 32-bit field of all ones stands for one of
 * 64 bits elsewhere: in end 64, or in extra record 1 of the member. */
#include "ingest/zip.h"

#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

#define END_SIZE 22
#define LOCATOR_SIZE 20
#define END64_SIZE 56
#define ENTRY_SIZE 46
#define LOCAL_SIZE 30
#define COMMENT_MAX 65535
#define DIRECTORY_MAX (UINT64_C(64) << 20)

#define ENCRYPTED 1u
#define STORED 0u

typedef unsigned long long ull;

static uint32_t
load_u16(const uint8_t *at)
{
    return (uint32_t)(at[0] | at[1] << 8);
}

static mdn_status
fail(const mdn_input *input, const char *what, uint64_t at, mdn_error *err)
{
    return mdn_fail(err, MDN_INVALID, "%s: byte %llu: %s", input->name, (ull)at,
                    what);
}

/* End ------------------------------------------------------------------- */

/* The last place in the tail where the end may stand: its comment reaches
 * exactly to the end of the file.  False if there is none. */
static bool
find_end(const uint8_t *tail, uint64_t size, uint64_t *out)
{
    for (uint64_t back = END_SIZE; back <= size; back++) {
        const uint8_t *at = tail + size - back;

        if (memcmp(at, "PK\5\6", 4) == 0
            && load_u16(at + 20) == back - END_SIZE) {
            *out = size - back;
            return true;
        }
    }
    return false;
}

typedef struct {
    uint64_t at; /* of the end, or of end 64 */
    uint64_t count, directory_size, directory_at;
} archive_end;

/* Replace what the end says by what end 64 says, if there is one. */
static mdn_status
read_end64(const mdn_input *input, archive_end *end, mdn_error *err)
{
    uint8_t locator[LOCATOR_SIZE], end64[END64_SIZE];
    uint64_t at;
    mdn_status st;

    if (end->at < LOCATOR_SIZE)
        return MDN_OK;
    st = mdn_input_read(input, locator, LOCATOR_SIZE, end->at - LOCATOR_SIZE,
                        err);
    if (st != MDN_OK || memcmp(locator, "PK\6\7", 4) != 0)
        return st;
    at = mdn_load_u64(locator + 8);
    if (end->at - LOCATOR_SIZE < END64_SIZE
        || at > end->at - LOCATOR_SIZE - END64_SIZE)
        return fail(input, "the archive's locator points beyond the archive",
                    end->at - LOCATOR_SIZE, err);
    st = mdn_input_read(input, end64, END64_SIZE, at, err);
    if (st != MDN_OK)
        return st;
    if (memcmp(end64, "PK\6\6", 4) != 0)
        return fail(input, "no end of an archive, where one is said to be", at,
                    err);
    *end = (archive_end){.at = at,
                         .count = mdn_load_u64(end64 + 32),
                         .directory_size = mdn_load_u64(end64 + 40),
                         .directory_at = mdn_load_u64(end64 + 48)};
    return MDN_OK;
}

static mdn_status
read_end(const mdn_input *input, archive_end *end, bool *cut, mdn_error *err)
{
    uint64_t file_size = input->facts.size, tail_at, stop;
    uint64_t size = END_SIZE + COMMENT_MAX, at = 0;
    uint8_t *tail;
    mdn_status st;

    size = size < file_size ? size : file_size;
    tail_at = file_size - size;
    tail = malloc(size + 1);
    if (tail == NULL)
        return mdn_fail_nomem(err, size);
    st = mdn_input_read(input, tail, size, tail_at, err);
    *cut = st == MDN_OK && !find_end(tail, size, &at);
    if (*cut)
        st = mdn_fail(err, MDN_INVALID,
                      "%s: the end of the archive is missing; is the file "
                      "complete?",
                      input->name);
    if (st == MDN_OK)
        *end = (archive_end){.at = tail_at + at,
                             .count = load_u16(tail + at + 10),
                             .directory_size = mdn_load_u32(tail + at + 12),
                             .directory_at = mdn_load_u32(tail + at + 16)};
    free(tail);
    if (st == MDN_OK)
        st = read_end64(input, end, err);
    if (st != MDN_OK)
        return st;
    if (mdn_add_overflows(end->directory_at, end->directory_size, &stop)
        || stop != end->at)
        return fail(input, "the archive's directory does not end here", end->at,
                    err);
    if (end->directory_size > DIRECTORY_MAX
        || end->count > end->directory_size / ENTRY_SIZE)
        return fail(input, "the archive's directory has a wrong size", end->at,
                    err);
    return MDN_OK;
}

/* Directory ------------------------------------------------------------- */

/* One of the fields that extra record 1 holds, if its 32 bits are all ones. */
static bool
widen(uint64_t *field, const uint8_t **extra, uint64_t *left)
{
    if (*field != UINT32_MAX)
        return true;
    if (*left < 8)
        return false;
    *field = mdn_load_u64(*extra);
    *extra += 8;
    *left -= 8;
    return true;
}

static bool
widen_fields(mdn_zip_entry *entry, const uint8_t *extra, uint64_t size)
{
    while (size >= 4) {
        uint64_t id = load_u16(extra), left = load_u16(extra + 2);

        extra += 4;
        size -= 4;
        if (left > size)
            return false;
        if (id == 1)
            return widen(&entry->size, &extra, &left)
                   && widen(&entry->packed_size, &extra, &left)
                   && widen(&entry->header_at, &extra, &left);
        extra += left;
        size -= left;
    }
    return entry->size != UINT32_MAX && entry->packed_size != UINT32_MAX
           && entry->header_at != UINT32_MAX;
}

static mdn_status
read_entries(mdn_zip *zip, const mdn_input *input, uint64_t size,
             mdn_error *err)
{
    uint64_t at = 0;

    for (uint64_t i = 0; i < zip->count; i++) {
        const uint8_t *from = zip->directory + at;
        mdn_zip_entry *entry = &zip->entries[i];
        uint64_t name_size, extra_size, whole;

        if (size - at < ENTRY_SIZE || memcmp(from, "PK\1\2", 4) != 0)
            return fail(input, "no entry of the archive's directory",
                        zip->directory_at + at, err);
        name_size = load_u16(from + 28);
        extra_size = load_u16(from + 30);
        whole = ENTRY_SIZE + name_size + extra_size + load_u16(from + 32);
        if (size - at < whole)
            return fail(input, "an entry beyond the archive's directory",
                        zip->directory_at + at, err);
        *entry = (mdn_zip_entry){.name = (const char *)from + ENTRY_SIZE,
                                 .name_size = name_size,
                                 .header_at = mdn_load_u32(from + 42),
                                 .size = mdn_load_u32(from + 24),
                                 .packed_size = mdn_load_u32(from + 20),
                                 .crc = mdn_load_u32(from + 16),
                                 .method = load_u16(from + 10),
                                 .flags = load_u16(from + 8)};
        if (!widen_fields(entry, from + ENTRY_SIZE + name_size, extra_size))
            return fail(input, "an entry without its 64-bit sizes",
                        zip->directory_at + at, err);
        at += whole;
    }
    return MDN_OK;
}

mdn_status
mdn_zip_open(const mdn_input *input, mdn_zip *out, bool *cut, mdn_error *err)
{
    archive_end end = {.at = 0};
    mdn_status st;

    *out = (mdn_zip){.count = 0};
    *cut = false;
    if ((st = read_end(input, &end, cut, err)) != MDN_OK)
        return st;
    out->count = end.count;
    out->directory_at = end.directory_at;
    out->directory = malloc(end.directory_size + 1);
    out->entries = calloc(end.count + 1, sizeof *out->entries);
    if (out->directory == NULL || out->entries == NULL)
        st = mdn_fail_nomem(err, end.directory_size);
    else
        st = mdn_input_read(input, out->directory, end.directory_size,
                            end.directory_at, err);
    if (st == MDN_OK)
        st = read_entries(out, input, end.directory_size, err);
    if (st != MDN_OK)
        mdn_zip_clear(out);
    return st;
}

void
mdn_zip_clear(mdn_zip *zip)
{
    free(zip->directory);
    free(zip->entries);
    *zip = (mdn_zip){.count = 0};
}

/* Members --------------------------------------------------------------- */

static mdn_status
check_packing(const mdn_zip_entry *entry, const mdn_input *input,
              const char *name, mdn_error *err)
{
    if (entry->flags & ENCRYPTED)
        return mdn_fail(err, MDN_INVALID, "%s: %s is encrypted", input->name,
                        name);
    if (entry->method == STORED && entry->size == entry->packed_size)
        return MDN_OK;
    return mdn_fail(err, MDN_INVALID,
                    "%s: %s is compressed, which is not read; np.savez stores "
                    "arrays as they are, unlike np.savez_compressed: convert "
                    "it with np.savez(new, **np.load(old))",
                    input->name, name);
}

/* Behind the local header, which must be of the same member. */
static mdn_status
find_data(const mdn_zip *zip, const mdn_input *input,
          const mdn_zip_entry *entry, uint64_t *at, mdn_error *err)
{
    uint8_t local[LOCAL_SIZE];
    char *name;
    uint64_t end = zip->directory_at, room;
    bool same;
    mdn_status st;

    if (entry->header_at > end || end - entry->header_at < LOCAL_SIZE)
        return fail(input, "a member beyond the archive", entry->header_at,
                    err);
    st = mdn_input_read(input, local, LOCAL_SIZE, entry->header_at, err);
    if (st != MDN_OK)
        return st;
    *at = entry->header_at + LOCAL_SIZE + load_u16(local + 26)
          + load_u16(local + 28);
    room = *at < end ? end - *at : 0;
    if (memcmp(local, "PK\3\4", 4) != 0
        || load_u16(local + 26) != entry->name_size || *at > end
        || entry->size > room)
        return fail(input, "a member other than the archive's directory says",
                    entry->header_at, err);
    name = malloc(entry->name_size + 1);
    if (name == NULL)
        return mdn_fail_nomem(err, entry->name_size + 1);
    st = mdn_input_read(input, name, entry->name_size,
                        entry->header_at + LOCAL_SIZE, err);
    same = st == MDN_OK && memcmp(name, entry->name, entry->name_size) == 0;
    free(name);
    if (st == MDN_OK && !same)
        return fail(input, "a member other than the archive's directory says",
                    entry->header_at, err);
    return st;
}

mdn_status
mdn_zip_find(const mdn_zip *zip, const mdn_input *input, const char *name,
             const mdn_zip_entry **out, uint64_t *at, mdn_error *err)
{
    uint64_t size = strlen(name);
    mdn_status st;

    *out = NULL;
    for (uint64_t i = 0; i < zip->count; i++) {
        const mdn_zip_entry *entry = &zip->entries[i];

        if (entry->name_size != size || memcmp(entry->name, name, size) != 0)
            continue;
        if (*out != NULL)
            return mdn_fail(err, MDN_INVALID, "%s: %s is there twice",
                            input->name, name);
        *out = entry;
    }
    if (*out == NULL)
        return mdn_fail(err, MDN_INVALID, "%s: there is no member %s",
                        input->name, name);
    if ((st = check_packing(*out, input, name, err)) != MDN_OK)
        return st;
    return find_data(zip, input, *out, at, err);
}
