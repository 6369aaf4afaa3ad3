/* journal.c - reader and writer of `events` and `sources`.
 *
 *   header   0  8  magic "MDNEVNT\0" or "MDNSRCE\0"
 *            8  4  version, 1
 *           12  4  zero
 *           16 16  uuid of the dataset
 *           32 28  zero
 *           60  4  crc32c of the 60 bytes before
 *   entry    0  4  magic "MDNE"
 *            4  4  kind
 *            8  8  size of the payload, bytes
 *           16  8  wall time, ns
 *           24  8  zero
 *           32  -  payload, padded with zeros to a multiple of 8
 *            - 32  digest: BLAKE2b-256 of the check before and of this entry
 *                  up to here
 *
 * A check is the first half of a digest: of the entry before, or of the header
 * for the first entry.  A mark is the length up to an entry's end and its
 * check, so that the manifest vouches for every byte before; and since entries
 * are chained to checks, a writer never has to believe what it reads back. */
#include "storage/journal.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_SIZE 64
#define HEADER_CRC_AT 60
#define VERSION 1
#define HEAD_SIZE 32

typedef unsigned long long ull;

static const char ENTRY_MAGIC[4] = "MDNE";

const char *
mdn_journal_name(mdn_journal_kind which)
{
    return which == MDN_EVENTS ? "events" : "sources";
}

static uint64_t
padded(uint64_t size)
{
    return (size + 7) & ~UINT64_C(7);
}

static void
build_header(const mdn_layout *layout, mdn_journal_kind which,
             uint8_t head[HEADER_SIZE])
{
    memset(head, 0, HEADER_SIZE);
    memcpy(head, which == MDN_EVENTS ? "MDNEVNT" : "MDNSRCE", 8);
    mdn_store_u32(head + 8, VERSION);
    memcpy(head + 16, layout->uuid, MDN_UUID_SIZE);
    mdn_store_u32(head + HEADER_CRC_AT, mdn_crc32c(0, head, HEADER_CRC_AT));
}

/* The check before the entry behind this mark. */
static void
check_before(const mdn_layout *layout, mdn_journal_kind which,
             const mdn_mark *mark, uint8_t check[MDN_CHECK_SIZE])
{
    uint8_t head[HEADER_SIZE], digest[MDN_DIGEST_SIZE];
    mdn_blake2b hash;

    if (mark->size_bytes > 0) {
        memcpy(check, mark->check, MDN_CHECK_SIZE);
        return;
    }
    build_header(layout, which, head);
    mdn_blake2b_init(&hash);
    mdn_blake2b_update(&hash, head, HEADER_SIZE);
    mdn_blake2b_final(&hash, digest);
    memcpy(check, digest, MDN_CHECK_SIZE);
}

/* The digest of the entry whose `size` bytes, less the digest, stand at
 * entry. */
static void
digest_entry(const uint8_t check[MDN_CHECK_SIZE], const void *entry,
             uint64_t size, uint8_t digest[MDN_DIGEST_SIZE])
{
    mdn_blake2b hash;

    mdn_blake2b_init(&hash);
    mdn_blake2b_update(&hash, check, MDN_CHECK_SIZE);
    mdn_blake2b_update(&hash, entry, size);
    mdn_blake2b_final(&hash, digest);
}

static mdn_status
open_file(const mdn_io *io, const char *directory, mdn_journal_kind which,
          int flags, mdn_file *out, mdn_error *err)
{
    char *path = mdn_path_join(directory, mdn_journal_name(which));
    mdn_status st;

    *out = MDN_FILE_CLOSED;
    if (path == NULL)
        return mdn_fail_nomem(err, strlen(directory) + 9);
    st = mdn_file_open(io, path, flags | O_NOFOLLOW | O_NONBLOCK, out, err);
    free(path);
    return st;
}

/* Writing. */

void
mdn_journal_init(mdn_journal *journal, const mdn_io *io, const char *directory,
                 const mdn_layout *layout, mdn_journal_kind which)
{
    *journal = (mdn_journal){.io = io,
                             .directory = directory,
                             .layout = layout,
                             .which = which,
                             .file = MDN_FILE_CLOSED};
}

void
mdn_journal_close(mdn_journal *journal)
{
    mdn_file_close(&journal->file);
}

/* Entry, and header if there is no entry before, ready to be written; malloc'd
 * or NULL.  It ends with its digest. */
static uint8_t *
build_entry(const mdn_journal *journal, uint32_t kind, const void *payload,
            uint64_t payload_size, const mdn_mark *mark, uint64_t *size)
{
    uint64_t lead = mark->size_bytes == 0 ? HEADER_SIZE : 0;
    uint64_t body = HEAD_SIZE + padded(payload_size);
    uint8_t *all = calloc(1, lead + body + MDN_DIGEST_SIZE);
    uint8_t check[MDN_CHECK_SIZE], *entry;

    if (all == NULL)
        return NULL;
    entry = all + lead;
    if (lead > 0)
        build_header(journal->layout, journal->which, all);
    memcpy(entry, ENTRY_MAGIC, sizeof ENTRY_MAGIC);
    mdn_store_u32(entry + 4, kind);
    mdn_store_u64(entry + 8, payload_size);
    mdn_store_u64(entry + 16, mdn_wall_ns());
    if (payload_size > 0)
        memcpy(entry + HEAD_SIZE, payload, payload_size);
    check_before(journal->layout, journal->which, mark, check);
    digest_entry(check, entry, body, entry + body);
    *size = lead + body + MDN_DIGEST_SIZE;
    return all;
}

static mdn_status
have_file(mdn_journal *journal, const mdn_mark *mark, mdn_error *err)
{
    int flags = O_RDWR | (mark->size_bytes == 0 ? O_CREAT : 0);

    if (journal->file.fd >= 0)
        return MDN_OK;
    return open_file(journal->io, journal->directory, journal->which, flags,
                     &journal->file, err);
}

mdn_status
mdn_journal_append(mdn_journal *journal, uint32_t kind, const void *payload,
                   uint64_t size, mdn_mark *mark, mdn_error *err)
{
    uint8_t *all;
    bool first = mark->size_bytes == 0;
    uint64_t all_size = 0;
    mdn_status st;

    if (size > MDN_ENTRY_MAX)
        return mdn_fail(err, MDN_INVALID,
                        "%s/%s: an entry of %llu bytes; the limit is %llu",
                        journal->directory, mdn_journal_name(journal->which),
                        (ull)size, (ull)MDN_ENTRY_MAX);
    if ((st = have_file(journal, mark, err)) != MDN_OK)
        return st;
    all = build_entry(journal, kind, payload, size, mark, &all_size);
    if (all == NULL)
        return mdn_fail_nomem(err, size);
    st = mdn_file_write(&journal->file, all, all_size, mark->size_bytes, err);
    if (st == MDN_OK)
        st = mdn_file_sync(&journal->file, err);
    if (st == MDN_OK && first)
        st = mdn_dir_sync(journal->io, journal->directory, err);
    if (st == MDN_OK) {
        mark->size_bytes += all_size;
        memcpy(mark->check, all + all_size - MDN_DIGEST_SIZE, MDN_CHECK_SIZE);
    }
    free(all);
    return st;
}

/* Reading. */

typedef struct {
    mdn_file file;
    const mdn_mark *to;
    uint64_t at;                     /* place of the next entry */
    uint8_t check[MDN_CHECK_SIZE];   /* before it */
    uint8_t digest[MDN_DIGEST_SIZE]; /* of the one before, if one was read */
    uint8_t *buffer;                 /* owned */
    uint64_t capacity;
} reading;

static mdn_status
fail_entry(const reading *r, const char *what, mdn_error *err)
{
    return mdn_fail(err, MDN_CORRUPT, "%s: damaged: the entry at byte %llu %s",
                    r->file.path, (ull)r->at, what);
}

static mdn_status
check_header(const reading *r, const mdn_layout *layout, mdn_journal_kind which,
             mdn_error *err)
{
    uint8_t head[HEADER_SIZE], right[HEADER_SIZE];
    mdn_status st = mdn_file_read(&r->file, head, HEADER_SIZE, 0, err);

    if (st != MDN_OK)
        return st;
    build_header(layout, which, right);
    if (memcmp(head, right, HEADER_SIZE) == 0)
        return MDN_OK;
    if (memcmp(head, right, 8) == 0 && mdn_load_u32(head + 8) != VERSION
        && mdn_load_u32(head + HEADER_CRC_AT)
               == mdn_crc32c(0, head, HEADER_CRC_AT))
        return mdn_fail(err, MDN_UNSUPPORTED,
                        "%s: format version %u; this modyn reads version %u",
                        r->file.path, mdn_load_u32(head + 8), VERSION);
    return mdn_fail(err, MDN_CORRUPT,
                    "%s: the header is damaged, or of another dataset",
                    r->file.path);
}

/* Read the entry at r->at, whole and checked, into the buffer. */
static mdn_status
read_entry(reading *r, uint64_t *payload_size, mdn_error *err)
{
    uint64_t left = r->to->size_bytes - r->at, size;
    uint8_t head[HEAD_SIZE];
    mdn_status st;

    if (left < HEAD_SIZE + MDN_DIGEST_SIZE)
        return fail_entry(r, "has no room", err);
    if ((st = mdn_file_read(&r->file, head, HEAD_SIZE, r->at, err)) != MDN_OK)
        return st;
    *payload_size = mdn_load_u64(head + 8);
    if (memcmp(head, ENTRY_MAGIC, sizeof ENTRY_MAGIC) != 0
        || *payload_size > left - HEAD_SIZE - MDN_DIGEST_SIZE)
        return fail_entry(r, "does not begin like one", err);
    size = HEAD_SIZE + padded(*payload_size) + MDN_DIGEST_SIZE;
    if (size > left)
        return fail_entry(r, "reaches behind its end", err);
    if (size > r->capacity) {
        uint8_t *grown = realloc(r->buffer, size);

        if (grown == NULL)
            return mdn_fail_nomem(err, size);
        r->buffer = grown;
        r->capacity = size;
    }
    st = mdn_file_read(&r->file, r->buffer, size, r->at, err);
    if (st != MDN_OK)
        return st;
    digest_entry(r->check, r->buffer, size - MDN_DIGEST_SIZE, r->digest);
    if (memcmp(r->digest, r->buffer + size - MDN_DIGEST_SIZE, MDN_DIGEST_SIZE)
        != 0)
        return fail_entry(r, "has the wrong digest", err);
    memcpy(r->check, r->digest, MDN_CHECK_SIZE);
    r->at += size;
    return MDN_OK;
}

/* The entry that was read last; its number and size are known. */
static void
fill_entry(const reading *r, mdn_entry *entry)
{
    entry->kind = mdn_load_u32(r->buffer + 4);
    entry->wall_ns = mdn_load_u64(r->buffer + 16);
    entry->payload = r->buffer + HEAD_SIZE;
    memcpy(entry->digest, r->digest, MDN_DIGEST_SIZE);
}

static mdn_status
read_entries(reading *r, uint64_t number, mdn_journal_visit visit, void *ctx,
             mdn_error *err)
{
    mdn_status st = MDN_OK;

    while (st == MDN_OK && r->at < r->to->size_bytes) {
        mdn_entry entry = {.number = ++number};

        if ((st = read_entry(r, &entry.payload_size, err)) != MDN_OK)
            return st;
        fill_entry(r, &entry);
        st = visit(ctx, &entry, err);
    }
    if (st == MDN_OK && memcmp(r->check, r->to->check, MDN_CHECK_SIZE) != 0)
        st = mdn_fail(err, MDN_CORRUPT,
                      "%s: its digest is not that of the manifest: the file "
                      "was exchanged or changed",
                      r->file.path);
    return st;
}

mdn_status
mdn_journal_read(const mdn_io *io, const char *directory,
                 const mdn_layout *layout, mdn_journal_kind which,
                 const mdn_mark *from, const mdn_mark *to, uint64_t number,
                 mdn_journal_visit visit, void *ctx, mdn_error *err)
{
    reading r = {.to = to, .at = from->size_bytes};
    mdn_status st;

    if (to->size_bytes == from->size_bytes)
        return MDN_OK;
    st = open_file(io, directory, which, O_RDONLY, &r.file, err);
    if (st != MDN_OK)
        return st;
    if (r.at == 0) {
        st = check_header(&r, layout, which, err);
        r.at = HEADER_SIZE;
    }
    check_before(layout, which, from, r.check);
    if (st == MDN_OK)
        st = read_entries(&r, number, visit, ctx, err);
    free(r.buffer);
    mdn_file_close(&r.file);
    return st;
}

static mdn_status
scan_entries(reading *r, uint64_t *entries, mdn_journal_visit visit, void *ctx,
             mdn_mark *reached, mdn_error *err)
{
    mdn_error inner;
    mdn_status st = MDN_OK;

    while (st == MDN_OK && r->at < r->to->size_bytes) {
        mdn_entry entry = {.number = *entries + 1};

        st = read_entry(r, &entry.payload_size, &inner);
        if (st == MDN_CORRUPT)
            return MDN_OK;
        if (st != MDN_OK) {
            if (err != NULL)
                *err = inner;
            return st;
        }
        fill_entry(r, &entry);
        if (visit != NULL)
            st = visit(ctx, &entry, err);
        if (st == MDN_OK) {
            *entries = entry.number;
            reached->size_bytes = r->at;
            memcpy(reached->check, r->check, MDN_CHECK_SIZE);
        }
    }
    return st;
}

mdn_status
mdn_journal_scan(const mdn_io *io, const char *directory,
                 const mdn_layout *layout, mdn_journal_kind which,
                 const mdn_mark *from, uint64_t limit, uint64_t *entries,
                 mdn_journal_visit visit, void *ctx, mdn_mark *reached,
                 mdn_error *err)
{
    mdn_mark end = {.size_bytes = 0};
    reading r = {.to = &end, .at = from->size_bytes};
    mdn_error inner;
    mdn_status st;

    *reached = *from;
    st = open_file(io, directory, which, O_RDONLY, &r.file, &inner);
    if (st == MDN_IO && inner.sys_errno == ENOENT)
        return MDN_OK;
    if (st == MDN_OK)
        st = mdn_file_size(&r.file, &end.size_bytes, &inner);
    if (st != MDN_OK) {
        if (err != NULL)
            *err = inner;
        mdn_file_close(&r.file);
        return st;
    }
    if (end.size_bytes > limit)
        end.size_bytes = limit;
    if (r.at == 0)
        r.at = HEADER_SIZE;
    check_before(layout, which, from, r.check);
    st = scan_entries(&r, entries, visit, ctx, reached, err);
    free(r.buffer);
    mdn_file_close(&r.file);
    return st;
}

uint64_t
mdn_journal_entry_size(const mdn_entry *entry)
{
    uint64_t lead = entry->number == 1 ? HEADER_SIZE : 0;

    return lead + HEAD_SIZE + padded(entry->payload_size) + MDN_DIGEST_SIZE;
}

mdn_status
mdn_journal_write_header(const mdn_io *io, const char *directory,
                         const mdn_layout *layout, mdn_journal_kind which,
                         mdn_error *err)
{
    uint8_t head[HEADER_SIZE];
    mdn_file file;
    mdn_status st = open_file(io, directory, which, O_RDWR, &file, err);

    if (st != MDN_OK)
        return st;
    build_header(layout, which, head);
    st = mdn_file_write(&file, head, HEADER_SIZE, 0, err);
    if (st == MDN_OK)
        st = mdn_file_sync(&file, err);
    mdn_file_close(&file);
    return st;
}
