/* trainset.c - writer and reader of trigger training sets.
 *
 *   offset  size  field (integers are little-endian)
 *        0     8  magic, "MDNSET\0\0"
 *        8     4  version, 1
 *       12     4  flags; bit 0: there are weights
 *       16     8  count
 *       24    16  uuid of the dataset, or zeros
 *       40    32  digest: BLAKE2b-256 over bytes 0 .. 39, keys and weights
 *       72    52  zeros
 *      124     4  CRC-32C over bytes 0 .. 123
 *      128     -  count keys, u64
 *        -     -  count weights, f64, if there are any
 *
 * The digest is known only when all rows were seen, and it is the name of the
 * file; so the writer goes over the rows twice, once to check and digest them,
 * once to write.  The temporary name is the final one and ".tmp".  Whoever
 * else writes it writes the same bytes to the same places, so two writers need
 * no lock, and what a killed one left behind is overwritten by its rerun
 * instead of staying for ever.  Neither truncates the file before it has
 * written all, since the other may have renamed it to its final name by then.
 */
#include "selector/trainset.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HEADER_SIZE 128
#define VERSION 1
#define FLAG_WEIGHTS UINT32_C(1)
#define AT_VERSION 8
#define AT_FLAGS 12
#define AT_COUNT 16
#define AT_UUID 24
#define AT_DIGEST 40 /* what stands before it is the identity */
#define AT_ZEROS 72
#define AT_CRC 124
#define PIECE_ROWS 131072 /* rows written at a time: 1 MiB */

static const char MAGIC[8] = "MDNSET\0";

struct mdn_trainset {
    const uint8_t *bytes; /* the mapping: size_bytes from the file's start */
    uint64_t size_bytes;
    uint64_t count;
    const uint64_t *keys;
    const double *weights; /* NULL without */
    char *path;            /* owned */
    atomic_uint references;
};

/* ---- rows ---- */

static mdn_status
check_keys(const char *what, mdn_status status, const uint64_t *keys,
           uint64_t count, mdn_error *err)
{
    for (uint64_t i = 1; i < count; i++)
        if (keys[i] <= keys[i - 1])
            return mdn_fail(err, status,
                            "%s: keys must be ascending and different, but "
                            "row %" PRIu64 " has key %" PRIu64
                            " after %" PRIu64,
                            what, i, keys[i], keys[i - 1]);
    return MDN_OK;
}

static mdn_status
check_weights(const char *what, mdn_status status, const double *weights,
              uint64_t count, mdn_error *err)
{
    for (uint64_t i = 0; i < count; i++)
        if (!(weights[i] >= 0.0 && weights[i] <= DBL_MAX))
            return mdn_fail(err, status,
                            "%s: weights must be finite and not negative, but "
                            "row %" PRIu64 " has weight %g",
                            what, i, weights[i]);
    return MDN_OK;
}

/* ---- writing ---- */

/* -0.0 is stored as 0.0, so that equal weights have one digest. */
static void
plain_weights(const double *weights, uint64_t count, double *out)
{
    for (uint64_t i = 0; i < count; i++)
        out[i] = weights[i] + 0.0;
}

/* Feed the weights through a piece of memory, to the digest or, if file is not
 * NULL, to the file from offset `at`. */
static mdn_status
put_weights(const mdn_trainset_rows *rows, mdn_blake2b *hash, mdn_file *file,
            uint64_t at, mdn_error *err)
{
    double *piece = malloc(PIECE_ROWS * sizeof *piece);
    mdn_status st = MDN_OK;

    if (piece == NULL)
        return mdn_fail_nomem(err, PIECE_ROWS * sizeof *piece);
    for (uint64_t i = 0; i < rows->count && st == MDN_OK; i += PIECE_ROWS) {
        uint64_t rest = rows->count - i;
        uint64_t count = rest < PIECE_ROWS ? rest : PIECE_ROWS;

        plain_weights(rows->weights + i, count, piece);
        if (file == NULL)
            mdn_blake2b_update(hash, piece, count * sizeof *piece);
        else
            st = mdn_file_write(file, piece, count * sizeof *piece,
                                at + i * sizeof *piece, err);
    }
    free(piece);
    return st;
}

static mdn_status
make_header(const mdn_trainset_rows *rows, uint8_t header[HEADER_SIZE],
            mdn_error *err)
{
    mdn_blake2b hash;
    mdn_status st;

    memset(header, 0, HEADER_SIZE);
    memcpy(header, MAGIC, sizeof MAGIC);
    mdn_store_u32(header + AT_VERSION, VERSION);
    mdn_store_u32(header + AT_FLAGS, rows->weights != NULL ? FLAG_WEIGHTS : 0);
    mdn_store_u64(header + AT_COUNT, rows->count);
    if (rows->dataset_uuid != NULL)
        memcpy(header + AT_UUID, rows->dataset_uuid, MDN_UUID_SIZE);

    mdn_blake2b_init(&hash);
    mdn_blake2b_update(&hash, header, AT_DIGEST);
    mdn_blake2b_update(&hash, rows->keys, rows->count * sizeof *rows->keys);
    if (rows->weights != NULL
        && (st = put_weights(rows, &hash, NULL, 0, err)) != MDN_OK)
        return st;
    mdn_blake2b_final(&hash, header + AT_DIGEST);
    mdn_store_u32(header + AT_CRC, mdn_crc32c(0, header, AT_CRC));
    return MDN_OK;
}

static mdn_status
write_content(mdn_file *file, const uint8_t header[HEADER_SIZE],
              const mdn_trainset_rows *rows, mdn_error *err)
{
    uint64_t keys_size = rows->count * sizeof *rows->keys;
    uint64_t size = HEADER_SIZE + keys_size;
    mdn_status st;

    if ((st = mdn_file_write(file, header, HEADER_SIZE, 0, err)) != MDN_OK)
        return st;
    for (uint64_t i = 0; i < rows->count; i += PIECE_ROWS) {
        uint64_t rest = rows->count - i;
        uint64_t count = rest < PIECE_ROWS ? rest : PIECE_ROWS;

        st = mdn_file_write(file, rows->keys + i, count * sizeof *rows->keys,
                            HEADER_SIZE + i * sizeof *rows->keys, err);
        if (st != MDN_OK)
            return st;
    }
    if (rows->weights != NULL) {
        if ((st = put_weights(rows, NULL, file, size, err)) != MDN_OK)
            return st;
        size += rows->count * sizeof *rows->weights;
    }
    if ((st = mdn_file_truncate(file, size, err)) != MDN_OK)
        return st;
    return mdn_file_sync_all(file, err);
}

/* Whether the file is there and whole, with this digest in its name. */
static bool
is_whole(const mdn_io *io, const char *path)
{
    mdn_trainset *set;

    if (mdn_trainset_open(io, path, &set, NULL) != MDN_OK)
        return false;
    mdn_trainset_release(set);
    return true;
}

/* ENOENT: another writer of the same set was faster, which is as good. */
static mdn_status
rename_to(const mdn_io *io, const char *temporary, const char *path,
          mdn_error *err)
{
    int result;

    do
        result = io->rename(io->self, temporary, path);
    while (result == -EINTR);
    if (result == 0 || (result == -ENOENT && is_whole(io, path)))
        return MDN_OK;
    return mdn_fail_errno(err, -result, "%s: cannot be renamed to %s",
                          temporary, path);
}

static mdn_status
write_file(const mdn_io *io, const char *path,
           const uint8_t header[HEADER_SIZE], const mdn_trainset_rows *rows,
           mdn_error *err)
{
    mdn_file file = MDN_FILE_CLOSED;
    char *temporary;
    mdn_status st;

    if (asprintf(&temporary, "%s.tmp", path) < 0)
        return mdn_fail_nomem(err, strlen(path) + 5);
    st = mdn_file_open(io, temporary, O_WRONLY | O_CREAT, &file, err);
    if (st == MDN_OK) {
        st = write_content(&file, header, rows, err);
        mdn_file_close(&file);
        if (st == MDN_OK)
            st = rename_to(io, temporary, path, err);
        if (st != MDN_OK)
            io->unlink(io->self, temporary);
    }
    free(temporary);
    return st;
}

mdn_status
mdn_trainset_write(const mdn_io *io, const char *directory,
                   const mdn_trainset_rows *rows,
                   uint8_t digest[MDN_DIGEST_SIZE], mdn_error *err)
{
    char name[2 * MDN_DIGEST_SIZE + sizeof ".set"];
    uint8_t header[HEADER_SIZE];
    char *path;
    mdn_status st;

    st = check_keys("training set", MDN_INVALID, rows->keys, rows->count, err);
    if (st == MDN_OK && rows->weights != NULL)
        st = check_weights("training set", MDN_INVALID, rows->weights,
                           rows->count, err);
    if (st != MDN_OK || (st = make_header(rows, header, err)) != MDN_OK)
        return st;
    mdn_digest_hex(header + AT_DIGEST, name);
    strcpy(name + 2 * MDN_DIGEST_SIZE, ".set");
    path = mdn_path_join(directory, name);
    if (path == NULL)
        return mdn_fail_nomem(err, strlen(directory) + sizeof name + 1);
    if (!is_whole(io, path))
        st = write_file(io, path, header, rows, err);
    free(path);
    /* Also when it was there: its writer may have died before this line. */
    if (st == MDN_OK)
        st = mdn_dir_sync(io, directory, err);
    if (st == MDN_OK)
        memcpy(digest, header + AT_DIGEST, MDN_DIGEST_SIZE);
    return st;
}

/* ---- reading ---- */

/* What can be told from the first 128 bytes and the size of the file. */
static mdn_status
check_header(const char *path, const uint8_t *header, uint64_t size,
             mdn_error *err)
{
    static const uint8_t zeros[AT_CRC - AT_ZEROS];
    uint32_t version = mdn_load_u32(header + AT_VERSION);
    uint32_t flags = mdn_load_u32(header + AT_FLAGS);
    uint64_t count = mdn_load_u64(header + AT_COUNT);
    uint64_t expected;

    if (memcmp(header, MAGIC, sizeof MAGIC) != 0)
        return mdn_fail(err, MDN_CORRUPT,
                        "%s: not a training set (wrong magic bytes)", path);
    if (mdn_load_u32(header + AT_CRC) != mdn_crc32c(0, header, AT_CRC))
        return mdn_fail(err, MDN_CORRUPT,
                        "%s: the header is damaged (its checksum is wrong)",
                        path);
    if (version != VERSION)
        return mdn_fail(err, MDN_UNSUPPORTED,
                        "%s: training set of format version %" PRIu32
                        "; this program knows version %d",
                        path, version, VERSION);
    if ((flags & ~FLAG_WEIGHTS) != 0
        || memcmp(header + AT_ZEROS, zeros, sizeof zeros) != 0)
        return mdn_fail(err, MDN_UNSUPPORTED,
                        "%s: training set with features that this program "
                        "does not know (flags %#" PRIx32 ")",
                        path, flags);
    if (mdn_mul_overflows(count, flags & FLAG_WEIGHTS ? 16 : 8, &expected)
        || mdn_add_overflows(expected, HEADER_SIZE, &expected)
        || expected != size)
        return mdn_fail(err, MDN_CORRUPT,
                        "%s: has %" PRIu64 " bytes, which is not the size of "
                        "%" PRIu64 " rows %s weights",
                        path, size, count,
                        flags & FLAG_WEIGHTS ? "with" : "without");
    return MDN_OK;
}

/* A file that lies under another set's name is the wrong set. */
static mdn_status
check_name(const char *path, const char hex[2 * MDN_DIGEST_SIZE + 1],
           mdn_error *err)
{
    const size_t digits = 2 * (size_t)MDN_DIGEST_SIZE;
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;

    if (strspn(name, "0123456789abcdef") != digits
        || strcmp(name + digits, ".set") != 0 || memcmp(name, hex, digits) == 0)
        return MDN_OK;
    return mdn_fail(err, MDN_CORRUPT,
                    "%s: holds the training set %s, not that of its name", path,
                    hex);
}

static mdn_status
check_content(const mdn_trainset *set, mdn_error *err)
{
    uint8_t digest[MDN_DIGEST_SIZE];
    char hex[2 * MDN_DIGEST_SIZE + 1];
    mdn_blake2b hash;
    mdn_status st;

    mdn_blake2b_init(&hash);
    mdn_blake2b_update(&hash, set->bytes, AT_DIGEST);
    mdn_blake2b_update(&hash, set->bytes + HEADER_SIZE,
                       set->size_bytes - HEADER_SIZE);
    mdn_blake2b_final(&hash, digest);
    if (memcmp(digest, set->bytes + AT_DIGEST, sizeof digest) != 0)
        return mdn_fail(err, MDN_CORRUPT,
                        "%s: the rows are damaged (the digest of %" PRIu64
                        " rows is wrong)",
                        set->path, set->count);
    mdn_digest_hex(digest, hex);
    if ((st = check_name(set->path, hex, err)) != MDN_OK)
        return st;
    st = check_keys(set->path, MDN_CORRUPT, set->keys, set->count, err);
    if (st == MDN_OK && set->weights != NULL)
        st = check_weights(set->path, MDN_CORRUPT, set->weights, set->count,
                           err);
    return st;
}

/* Map an open file whose header is right. */
static mdn_status
map_file(mdn_trainset *set, const mdn_file *file, uint64_t size, mdn_error *err)
{
    void *mapped;
    int result;

    do
        result =
            file->io->map(file->io->self, NULL, size, file->fd, 0, &mapped);
    while (result == -EINTR);
    if (result < 0)
        return mdn_fail_errno(err, -result,
                              "%s: %" PRIu64 " bytes cannot be mapped",
                              set->path, size);
    set->bytes = mapped;
    set->size_bytes = size;
    set->count = mdn_load_u64(set->bytes + AT_COUNT);
    set->keys = (const uint64_t *)(const void *)(set->bytes + HEADER_SIZE);
    if (mdn_load_u32(set->bytes + AT_FLAGS) & FLAG_WEIGHTS)
        set->weights = (const double *)(const void *)(set->keys + set->count);
    return MDN_OK;
}

static mdn_status
load(mdn_trainset *set, const mdn_file *file, mdn_error *err)
{
    uint8_t header[HEADER_SIZE];
    uint64_t size;
    mdn_status st;

    if ((st = mdn_file_size(file, &size, err)) != MDN_OK)
        return st;
    if (size < HEADER_SIZE)
        return mdn_fail(err, MDN_CORRUPT,
                        "%s: has %" PRIu64 " bytes, too few for a training "
                        "set",
                        set->path, size);
    if ((st = mdn_file_read(file, header, HEADER_SIZE, 0, err)) != MDN_OK
        || (st = check_header(set->path, header, size, err)) != MDN_OK
        || (st = map_file(set, file, size, err)) != MDN_OK)
        return st;
    if (memcmp(set->bytes, header, HEADER_SIZE) != 0)
        return mdn_fail(err, MDN_CORRUPT, "%s: changed while it was opened",
                        set->path);
    return check_content(set, err);
}

mdn_status
mdn_trainset_open(const mdn_io *io, const char *path, mdn_trainset **out,
                  mdn_error *err)
{
    mdn_trainset *set = calloc(1, sizeof *set);
    mdn_file file = MDN_FILE_CLOSED;
    mdn_status st;

    *out = NULL;
    if (set == NULL || (set->path = strdup(path)) == NULL) {
        free(set);
        return mdn_fail_nomem(err, sizeof *set + strlen(path) + 1);
    }
    atomic_init(&set->references, 1);
    if ((st = mdn_file_open(io, path, O_RDONLY, &file, err)) == MDN_OK)
        st = load(set, &file, err);
    mdn_file_close(&file); /* the mapping holds the file */
    if (st != MDN_OK) {
        mdn_trainset_release(set);
        return st;
    }
    *out = set;
    return MDN_OK;
}

mdn_trainset *
mdn_trainset_retain(mdn_trainset *set)
{
    atomic_fetch_add_explicit(&set->references, 1, memory_order_relaxed);
    return set;
}

void
mdn_trainset_release(mdn_trainset *set)
{
    if (set == NULL
        || atomic_fetch_sub_explicit(&set->references, 1, memory_order_acq_rel)
               > 1)
        return;
    if (set->bytes != NULL)
        munmap((void *)(uintptr_t)set->bytes, set->size_bytes);
    free(set->path);
    free(set);
}

uint64_t
mdn_trainset_count(const mdn_trainset *set)
{
    return set->count;
}

const uint64_t *
mdn_trainset_keys(const mdn_trainset *set)
{
    return set->keys;
}

const double *
mdn_trainset_weights(const mdn_trainset *set)
{
    return set->weights;
}

const uint8_t *
mdn_trainset_digest(const mdn_trainset *set)
{
    return set->bytes + AT_DIGEST;
}

const uint8_t *
mdn_trainset_uuid(const mdn_trainset *set)
{
    return set->bytes + AT_UUID;
}

const char *
mdn_trainset_path(const mdn_trainset *set)
{
    return set->path;
}

mdn_status
mdn_trainset_slice(const mdn_trainset *set, uint64_t first, uint64_t count,
                   const uint64_t **keys, const double **weights,
                   mdn_error *err)
{
    if (first > set->count || count > set->count - first)
        return mdn_fail(err, MDN_INVALID,
                        "%s: rows %" PRIu64 " and %" PRIu64
                        " more are beyond the end of %" PRIu64 " rows",
                        set->path, first, count, set->count);
    *keys = set->keys + first;
    *weights = set->weights != NULL ? set->weights + first : NULL;
    return MDN_OK;
}
