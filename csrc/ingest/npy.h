/* npy.h - samples from NumPy's files: .npy and .npz.
 *
 * Which of the two a file is, its first bytes say.
 *
 *   .npy, plain        the schema has one field; shape (n, *shape of the field)
 *   .npy, structured   shape (n,); fields, label and timestamp by name
 *   .npz               plain arrays of n samples each, by name; stored, as
 *                      np.savez does; their checksums are verified before the
 *                      first sample is given
 *
 * Types are those of the schema; big-endian numbers are converted.  Label and
 * timestamp are integers of any size.  Fortran order is refused, except for
 * one dimension, where it is none. */
#ifndef MDN_INGEST_NPY_H
#define MDN_INGEST_NPY_H

#include "ingest/reader.h"

typedef struct {
    mdn_reader_file file;
    /* The array of each field, in schema order; NULL: its own name.  Means
     * nothing for a plain .npy.  Borrowed until mdn_npy_open returns. */
    const char *const *names;
    const char *label;     /* NULL: there is none */
    const char *timestamp; /* NULL: there is none */
} mdn_npy_options;

/* MDN_INVALID: the file is none of these, or not what the schema says, or it
 * ends too early or too late (of a growing .npy, whole samples are given).
 * Positions are bytes of an .npy, and samples of an .npz. */
mdn_status mdn_npy_open(const mdn_npy_options *options, mdn_reader **out,
                        mdn_error *err);

#endif
