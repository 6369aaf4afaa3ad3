/* manifest.c - reader and writer of the manifest.
 *
 *   sector  bytes  content
 *        0    512  header, below
 *     1, 2    512  two reach slots, written in turns
 *     3 ..         schema text, padded with zeros to whole sectors
 *     then         commit records of 128 bytes, numbered from 1
 *
 *   header  0  8  magic "MDNDATA\0"         36  4  segment shift
 *           8  4  version, 1                 40  4  size of schema text
 *          12  4  flags: 1 labels,           44  8  time of creation, ns
 *                 2 compressed               52 456 zero
 *          16 16  uuid                      508  4  crc32c of all other bytes
 *          32  4  time unit                        of the header and the
 *                                                   padded schema
 *
 * Records and slots are those of record.c.
 *
 * A record lies within one sector, so it is there or not.  That alone cannot
 * tell a damaged last record from one that was never whole; the reach can (and
 * where a slot is damaged too, nothing is called torn).  It is written after
 * the sync of each commit and not synced itself: it reaches the disk with the
 * next one at the latest, and the page cache at once.
 *
 * A reader reads the reach before the records: then all that the reach covers
 * is there to be read, however fast the writer goes on. */
#include "storage/manifest.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "storage/record.h"
#include "storage/zstd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512
#define VERSION 1
#define HEADER_CRC_AT 508
#define SCHEMA_AT (3 * SECTOR)
#define SCHEMA_SIZE_MAX 65536
#define FLAG_LABELS 1u
#define FLAG_COMPRESSED 2u

#define READ_RECORDS 512 /* at a time */

static const char HEADER_MAGIC[8] = "MDNDATA";

typedef unsigned long long ull;

static uint64_t
padded(uint64_t schema_size)
{
    return (schema_size + SECTOR - 1) / SECTOR * SECTOR;
}

/* head is the header sector; schema is padded. */
static uint32_t
header_crc(const uint8_t *head, const uint8_t *schema, uint64_t padded_size)
{
    uint32_t crc = mdn_crc32c(0, head, HEADER_CRC_AT);

    return mdn_crc32c(crc, schema, padded_size);
}

static uint64_t
record_at(const mdn_manifest *manifest, uint64_t sequence)
{
    return manifest->records_at + (sequence - 1) * MDN_RECORD_SIZE;
}

/* Reach slots. */

/* A reach is a second opinion about commits that stand by themselves, so that
 * a slot alone may be *damaged; no slot was written before the first commit. */
static mdn_status
read_reach(const mdn_manifest *manifest, const mdn_layout *layout,
           uint64_t *out, bool *damaged, mdn_error *err)
{
    uint8_t slots[2 * SECTOR];
    mdn_status st;

    *out = 0;
    *damaged = false;
    st = mdn_file_read(&manifest->file, slots, sizeof slots, SECTOR, err);
    if (st != MDN_OK)
        return st;
    for (const uint8_t *slot = slots; slot < slots + sizeof slots;
         slot += SECTOR) {
        uint64_t sequence;

        if (mdn_reach_load(layout, slot, &sequence) == MDN_REACH_DAMAGED)
            *damaged = true;
        if (sequence > *out)
            *out = sequence;
    }
    return MDN_OK;
}

/* Say how far commits are durable.  The commits stand without it, so that a
 * failure here is nobody's failure. */
static void
write_reach(mdn_manifest *manifest, const mdn_layout *layout)
{
    uint8_t slot[MDN_REACH_SIZE];

    mdn_reach_build(layout, manifest->sequence, slot);
    mdn_file_write(&manifest->file, slot, sizeof slot,
                   SECTOR * (1 + manifest->sequence % 2), NULL);
}

/* Header. */

mdn_status
mdn_manifest_create(const mdn_io *io, const char *directory,
                    const mdn_layout *layout, const char *schema,
                    mdn_error *err)
{
    uint64_t schema_size = strlen(schema);
    uint64_t size = SCHEMA_AT + padded(schema_size);
    uint8_t *head = calloc(1, size);
    char *path = mdn_path_join(directory, "manifest");
    mdn_status st;

    if (head == NULL || path == NULL) {
        st = mdn_fail_nomem(err, size);
    } else {
        memcpy(head, HEADER_MAGIC, sizeof HEADER_MAGIC);
        mdn_store_u32(head + 8, VERSION);
        mdn_store_u32(head + 12,
                      (layout->has[MDN_LABELS] ? FLAG_LABELS : 0)
                          | (layout->compressed ? FLAG_COMPRESSED : 0));
        memcpy(head + 16, layout->uuid, MDN_UUID_SIZE);
        mdn_store_u32(head + 32, (uint32_t)layout->time_unit);
        mdn_store_u32(head + 36, layout->segment_shift);
        mdn_store_u32(head + 40, (uint32_t)schema_size);
        mdn_store_u64(head + 44, mdn_wall_ns());
        memcpy(head + SCHEMA_AT, schema, schema_size);
        mdn_store_u32(head + HEADER_CRC_AT,
                      header_crc(head, head + SCHEMA_AT, padded(schema_size)));
        st = mdn_file_replace(io, path, head, size, err);
    }
    free(path);
    free(head);
    return st;
}

static mdn_status
check_header(const char *path, const uint8_t *head, mdn_error *err)
{
    uint32_t version = mdn_load_u32(head + 8);
    uint32_t schema_size = mdn_load_u32(head + 40);

    if (memcmp(head, HEADER_MAGIC, sizeof HEADER_MAGIC) != 0)
        return mdn_fail(err, MDN_CORRUPT,
                        "%s: does not begin like a manifest of a dataset",
                        path);
    if (version != VERSION)
        return mdn_fail(err, MDN_UNSUPPORTED,
                        "%s: format version %u; this modyn reads version %u",
                        path, version, VERSION);
    if (schema_size > SCHEMA_SIZE_MAX)
        return mdn_fail(err, MDN_CORRUPT,
                        "%s: damaged header: a schema text of %u bytes", path,
                        schema_size);
    return MDN_OK;
}

/* The header is whole: what it says has been said by a writer. */
static mdn_status
use_header(mdn_manifest *manifest, const uint8_t *head, const char *text,
           mdn_layout *layout, mdn_schema **schema, mdn_error *err)
{
    mdn_error inner = {.status = MDN_OK};
    uint32_t flags = mdn_load_u32(head + 12);
    uint32_t unit = mdn_load_u32(head + 32);
    uint32_t shift = mdn_load_u32(head + 36);
    uint32_t size = mdn_load_u32(head + 40);
    mdn_status st;

    if ((flags & ~(FLAG_LABELS | FLAG_COMPRESSED)) != 0 || unit > MDN_NS
        || shift == 0)
        return mdn_fail(err, MDN_UNSUPPORTED,
                        "%s: flags %u, time unit %u, segment shift %u are not "
                        "known to this modyn",
                        manifest->file.path, flags, unit, shift);
    st = mdn_schema_parse(text, size, schema, &inner);
    if (st == MDN_OK)
        st = mdn_layout_init(layout, *schema, (flags & FLAG_LABELS) != 0, shift,
                             &inner);
    if (st == MDN_OK && (flags & FLAG_COMPRESSED) != 0)
        st = layout->has[MDN_OFFSETS]
                 ? mdn_zstd_load(&inner)
                 : mdn_fail(&inner, MDN_INVALID,
                            "compressed, but no field is bytes");
    if (st == MDN_INVALID)
        st = mdn_fail(err, MDN_CORRUPT, "%s: %.300s", manifest->file.path,
                      inner.message);
    else if (st != MDN_OK)
        mdn_fail(err, st, "%s", inner.message);
    if (st != MDN_OK && err != NULL)
        err->sys_errno = inner.sys_errno;
    if (st != MDN_OK) {
        mdn_schema_free(*schema);
        *schema = NULL;
        return st;
    }
    layout->compressed = (flags & FLAG_COMPRESSED) != 0;
    memcpy(layout->uuid, head + 16, MDN_UUID_SIZE);
    layout->time_unit = (mdn_time_unit)unit;
    manifest->records_at = SCHEMA_AT + padded(size);
    manifest->chain = mdn_load_u32(head + HEADER_CRC_AT);
    return MDN_OK;
}

static mdn_status
read_header(mdn_manifest *manifest, mdn_layout *layout, mdn_schema **schema,
            mdn_error *err)
{
    uint8_t head[SECTOR], *text;
    uint64_t size;
    mdn_status st;

    if ((st = mdn_file_read(&manifest->file, head, SECTOR, 0, err)) != MDN_OK)
        return st;
    if ((st = check_header(manifest->file.path, head, err)) != MDN_OK)
        return st;
    size = padded(mdn_load_u32(head + 40));
    if ((text = malloc(size + 1)) == NULL)
        return mdn_fail_nomem(err, size + 1);
    st = mdn_file_read(&manifest->file, text, size, SCHEMA_AT, err);
    if (st == MDN_OK
        && header_crc(head, text, size) != mdn_load_u32(head + HEADER_CRC_AT))
        st = mdn_fail(err, MDN_CORRUPT,
                      "%s: the header or the schema is damaged (checksum)",
                      manifest->file.path);
    if (st == MDN_OK)
        st = use_header(manifest, head, (char *)text, layout, schema, err);
    free(text);
    return st;
}

mdn_status
mdn_manifest_open(const mdn_io *io, const char *directory, bool writable,
                  mdn_manifest *out, mdn_layout *layout, mdn_schema **schema,
                  mdn_error *err)
{
    char *path = mdn_path_join(directory, "manifest");
    int flags = (writable ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_NONBLOCK;
    mdn_status st;

    *out = MDN_MANIFEST_CLOSED;
    *schema = NULL;
    if (path == NULL)
        return mdn_fail_nomem(err, strlen(directory) + 10);
    st = mdn_file_open(io, path, flags, &out->file, err);
    free(path);
    if (st == MDN_OK)
        st = read_header(out, layout, schema, err);
    if (st != MDN_OK)
        mdn_manifest_close(out);
    return st;
}

void
mdn_manifest_close(mdn_manifest *manifest)
{
    mdn_file_close(&manifest->file);
    *manifest = MDN_MANIFEST_CLOSED;
}

/* Records. */

static mdn_status
fail_damaged(const mdn_manifest *manifest, uint64_t reach, mdn_error *err)
{
    uint64_t sequence = manifest->sequence + 1;

    return mdn_fail(err, MDN_CORRUPT,
                    "%s: commit %llu at offset %llu is damaged or missing; at "
                    "least %llu commits were made",
                    manifest->file.path, (ull)sequence,
                    (ull)record_at(manifest, sequence), (ull)reach);
}

/* Take the records in buffer, count of them, up to the first that is not whole.
 * *stopped says that there was one; *later is then the number of a later one
 * that is whole, or 0. */
static mdn_status
take_records(mdn_manifest *manifest, const mdn_layout *layout,
             const uint8_t *buffer, uint64_t count, bool *stopped,
             uint64_t *later, mdn_error *err)
{
    uint64_t first = manifest->sequence + 1;
    const uint8_t *record = buffer;
    uint64_t i;

    for (i = 0; i < count; i++, record += MDN_RECORD_SIZE) {
        mdn_tail next;

        if (!mdn_record_is_whole(layout, record, first + i))
            break;
        if (!mdn_record_is_known(record))
            return mdn_fail(err, MDN_UNSUPPORTED,
                            "%s: record %llu is of kind %u, which this modyn "
                            "does not know",
                            manifest->file.path, (ull)(first + i),
                            mdn_record_kind(record));
        mdn_record_load(record, &next);
        if (mdn_record_chain(record) != manifest->chain
            || !mdn_record_follows(layout, &manifest->tail, &next))
            return fail_damaged(manifest, first + i, err);
        manifest->sequence = first + i;
        manifest->chain = mdn_record_check(record);
        manifest->tail = next;
    }
    *stopped = i < count;
    for (; i < count; i++, record += MDN_RECORD_SIZE) {
        if (mdn_record_is_whole(layout, record, first + i))
            *later = first + i;
    }
    return MDN_OK;
}

/* Advance once.  MDN_TIMEOUT: a record is not whole, but a later one is, or a
 * slot is not either; that is damage or a writer at work: look again. */
static mdn_status
read_records(mdn_manifest *manifest, const mdn_layout *layout, uint8_t *buffer,
             mdn_error *err)
{
    uint64_t reach, size, at = record_at(manifest, manifest->sequence + 1);
    uint64_t later = 0;
    bool stopped = false, damaged;
    mdn_status st;

    st = read_reach(manifest, layout, &reach, &damaged, err);
    if (st != MDN_OK)
        return st;
    if ((st = mdn_file_size(&manifest->file, &size, err)) != MDN_OK)
        return st;
    while (!stopped && at + MDN_RECORD_SIZE <= size) {
        uint64_t count = (size - at) / MDN_RECORD_SIZE;

        if (count > READ_RECORDS)
            count = READ_RECORDS;
        st = mdn_file_read(&manifest->file, buffer, count * MDN_RECORD_SIZE, at,
                           err);
        if (st == MDN_OK)
            st = take_records(manifest, layout, buffer, count, &stopped, &later,
                              err);
        if (st != MDN_OK)
            return st;
        at += count * MDN_RECORD_SIZE;
    }
    if (manifest->sequence < reach)
        return fail_damaged(manifest, reach, err);
    if (damaged && stopped && later == 0)
        later = manifest->sequence + 1;
    if (later > 0) {
        fail_damaged(manifest, later, err);
        return MDN_TIMEOUT;
    }
    return MDN_OK;
}

mdn_status
mdn_manifest_advance(mdn_manifest *manifest, const mdn_layout *layout,
                     mdn_error *err)
{
    mdn_manifest before = *manifest;
    uint8_t *buffer = malloc(READ_RECORDS * MDN_RECORD_SIZE);
    mdn_status st = MDN_TIMEOUT;

    if (buffer == NULL)
        return mdn_fail_nomem(err, READ_RECORDS * MDN_RECORD_SIZE);
    for (int tries = 0; tries < 3 && st == MDN_TIMEOUT; tries++)
        st = read_records(manifest, layout, buffer, err);
    free(buffer);
    if (st != MDN_OK)
        *manifest = before;
    return st == MDN_TIMEOUT ? MDN_CORRUPT : st;
}

/* Writing. */

mdn_status
mdn_manifest_cut(mdn_manifest *manifest, const mdn_layout *layout,
                 mdn_error *err)
{
    uint64_t end = record_at(manifest, manifest->sequence + 1);
    uint8_t record[MDN_RECORD_SIZE];
    uint64_t size;
    mdn_status st;

    if ((st = mdn_file_size(&manifest->file, &size, err)) != MDN_OK)
        return st;
    if (size > end
        && (st = mdn_file_truncate(&manifest->file, end, err)) != MDN_OK)
        return st;
    if (manifest->sequence == 0)
        return size > end ? mdn_file_sync_all(&manifest->file, err) : MDN_OK;

    /* The last writer may have died before, or at, the sync of its last commit,
     * and a page that failed to be written counts as clean: make it dirty. */
    end -= MDN_RECORD_SIZE;
    st = mdn_file_read(&manifest->file, record, MDN_RECORD_SIZE, end, err);
    if (st == MDN_OK
        && !mdn_record_is_whole(layout, record, manifest->sequence))
        st = mdn_fail(err, MDN_CORRUPT,
                      "%s: commit %llu was whole a moment ago and is not now",
                      manifest->file.path, (ull)manifest->sequence);
    if (st == MDN_OK)
        st = mdn_file_write(&manifest->file, record, MDN_RECORD_SIZE, end, err);
    if (st == MDN_OK)
        st = mdn_file_sync_all(&manifest->file, err);
    if (st == MDN_OK)
        write_reach(manifest, layout);
    return st;
}

/* A commit was written but its sync failed: take it back.  Our own descriptor
 * is poisoned, so with a fresh one; the change of size is new, so that its
 * sync can be believed. */
static bool
take_back(const mdn_manifest *manifest, uint64_t at)
{
    mdn_file file;
    mdn_status st = mdn_file_open(manifest->file.io, manifest->file.path,
                                  O_RDWR | O_NOFOLLOW, &file, NULL);

    if (st != MDN_OK)
        return false;
    st = mdn_file_truncate(&file, at, NULL);
    if (st == MDN_OK)
        st = mdn_file_sync_all(&file, NULL);
    mdn_file_close(&file);
    return st == MDN_OK;
}

mdn_status
mdn_manifest_commit(mdn_manifest *manifest, const mdn_layout *layout,
                    const mdn_tail *tail, mdn_error *err)
{
    uint64_t at = record_at(manifest, manifest->sequence + 1);
    uint8_t record[MDN_RECORD_SIZE];
    mdn_error inner;
    mdn_status st;

    mdn_record_build(layout, manifest->sequence + 1, manifest->chain, tail,
                     record);
    st = mdn_file_write(&manifest->file, record, MDN_RECORD_SIZE, at, err);
    if (st != MDN_OK)
        return st; /* not whole, so not there; the next one overwrites it */
    st = mdn_file_sync(&manifest->file, &inner);
    if (st != MDN_OK) {
        bool gone = take_back(manifest, at);

        mdn_fail(err, st, "%.400s%s", inner.message,
                 gone ? ""
                      : "; whether this commit stands is known when the "
                        "dataset is opened again");
        if (err != NULL)
            err->sys_errno = inner.sys_errno;
        return st;
    }
    manifest->sequence++;
    manifest->chain = mdn_record_check(record);
    manifest->tail = *tail;
    write_reach(manifest, layout);
    return MDN_OK;
}
