/* trainset.h - the file that says which samples one trigger trains on.
 *
 * A trigger training set is (key, weight) rows, ascending by key, immutable,
 * and named by the digest of its content: `<digest>.set`.  The same choice is
 * the same file, so that writing it again is no work and a model can say for
 * ever what it was trained on.  docs/format-trainset.md describes every byte.
 *
 *     mdn_trainset_write                   a file, atomic and durable
 *     mdn_trainset_open / retain / release a mapped, verified set, counted
 *     mdn_trainset_slice                   rows first .. first+count-1
 */
#ifndef MDN_SELECTOR_TRAINSET_H
#define MDN_SELECTOR_TRAINSET_H

#include "base/blake2b.h"
#include "base/error.h"
#include "base/io.h"

#include <stdint.h>

#define MDN_UUID_SIZE 16

/* What a training set holds.  All borrowed. */
typedef struct {
    const uint64_t *keys;  /* ascending, each once */
    const double *weights; /* finite, >= 0; NULL: no weights, all count as 1 */
    uint64_t count;        /* may be 0 */
    const uint8_t *dataset_uuid; /* MDN_UUID_SIZE bytes; NULL: not known */
} mdn_trainset_rows;

/* Write `<digest>.set` into a directory that exists, and say the digest.  All
 * or nothing and durable on return; when the file is there and whole nothing
 * is written, and a damaged one is replaced.  Any number of processes may
 * write the same set at the same time.
 * MDN_INVALID names the first row that breaks a rule above; MDN_IO. */
mdn_status mdn_trainset_write(const mdn_io *io, const char *directory,
                              const mdn_trainset_rows *rows,
                              uint8_t digest[MDN_DIGEST_SIZE], mdn_error *err);

/* A mapped training set: immutable, for any number of threads.  It stays valid
 * until the last reference is released, also when the file is unlinked. */
typedef struct mdn_trainset mdn_trainset;

/* Map a file and verify all of it: size, header, order of keys, weights, and
 * the digest, also against the name if that is `<64 hex digits>.set`.
 * MDN_CORRUPT names the file and what is wrong with it; MDN_UNSUPPORTED a
 * version or flag of a later format; MDN_IO. */
mdn_status mdn_trainset_open(const mdn_io *io, const char *path,
                             mdn_trainset **out, mdn_error *err);
mdn_trainset *mdn_trainset_retain(mdn_trainset *set);
void mdn_trainset_release(mdn_trainset *set); /* any thread; accepts NULL */

/* Facts; none of them can fail.  Pointers are valid as long as the set is. */
uint64_t mdn_trainset_count(const mdn_trainset *set);
const uint64_t *mdn_trainset_keys(const mdn_trainset *set);
const double *mdn_trainset_weights(const mdn_trainset *set); /* or NULL */
const uint8_t *mdn_trainset_digest(const mdn_trainset *set);
const uint8_t *mdn_trainset_uuid(const mdn_trainset *set);
const char *mdn_trainset_path(const mdn_trainset *set);

/* Rows first .. first+count-1, borrowed from the set; *weights is NULL without
 * weights.  MDN_INVALID beyond the end. */
mdn_status mdn_trainset_slice(const mdn_trainset *set, uint64_t first,
                              uint64_t count, const uint64_t **keys,
                              const double **weights, mdn_error *err);

#endif
