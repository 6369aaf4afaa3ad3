/* npy_header.h - what an array in NumPy's format says of itself.
 *
 *   offset  size  field
 *        0     6  magic, "\x93NUMPY"
 *        6     2  version: 1.0, 2.0 or 3.0
 *        8   2/4  length of the header, little-endian; 2 bytes in version 1
 *        -     -  header: a Python dictionary as text, its keys 'descr',
 *                 'fortran_order' and 'shape'
 *        -     -  the array
 *
 * The dictionary is read by a parser of just this form; nothing is evaluated,
 * and an array of Python objects (a pickle) is refused. */
#ifndef MDN_INGEST_NPY_HEADER_H
#define MDN_INGEST_NPY_HEADER_H

#include "ingest/input.h"
#include "storage/schema.h"

#define MDN_NPY_NDIM_MAX 64
#define MDN_NPY_MEMBERS_MAX 4096

/* A field of a structured array, or what a plain array holds. */
typedef struct {
    const char *name; /* in the text; NULL for a plain array */
    uint64_t name_size;
    char kind; /* NumPy's letter: b i u f c, or one that has no dtype here */
    uint64_t item; /* bytes of one number */
    bool big_endian;
    uint32_t ndim; /* of a field that is itself an array */
    uint64_t shape[MDN_NDIM_MAX];
    uint64_t offset, size; /* in the record */
} mdn_npy_member;

typedef struct {
    uint64_t data_at; /* from the beginning of the array's bytes */
    bool structured;
    bool fortran_order;
    uint32_t ndim;
    uint64_t shape[MDN_NPY_NDIM_MAX];
    uint64_t item_size; /* of a number, or of a record */
    mdn_npy_member *members;
    uint32_t member_count; /* 1 for a plain array */
    char *text;
} mdn_npy_header;

/* The header of the array that begins at byte `at` of the file and has `size`
 * bytes there.  `what` names it in messages.  *cut: the bytes end within the
 * header, which alone is wrong with it.  On failure *out is zeroed. */
mdn_status mdn_npy_header_read(const mdn_input *input, uint64_t at,
                               uint64_t size, const char *what,
                               mdn_npy_header *out, bool *cut, mdn_error *err);
void mdn_npy_header_clear(mdn_npy_header *header);

/* The member is this type: NumPy's letter, and the bytes of one number. */
bool mdn_npy_is(const mdn_npy_member *member, mdn_dtype dtype);

#endif
