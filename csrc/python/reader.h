/* reader.h - modyn._core.Reader: any mdn_reader as seen from Python.
 *
 * Each format has a file of its own (read_csv.c, ...) with one function of the
 * module, which reads its arguments, opens its reader and wraps it here. */
#ifndef MDN_PYTHON_READER_H
#define MDN_PYTHON_READER_H

#include "python/python.h"

#include "ingest/reader.h"

/* What the functions of all formats take: the file, the schema of the dataset,
 * and how to read.  Fill with mdn_py_reader_begin. */
typedef struct {
    PyObject *path;       /* owned: bytes */
    mdn_schema *schema;   /* owned */
    mdn_reader_file file; /* borrows both */
} mdn_py_reader_file;

/* path: str, bytes or os.PathLike.  -1 and an exception on failure, with
 * nothing to clean up. */
int mdn_py_reader_begin(mdn_py_state *state, PyObject *path, const char *schema,
                        unsigned threads, int growing, mdn_py_reader_file *out);
/* A _core.Reader over what was opened, or the exception for err if reader is
 * NULL.  Takes over the reader and the schema, also when it fails, and clears
 * *file. */
PyObject *mdn_py_reader_end(mdn_py_state *state, mdn_py_reader_file *file,
                            mdn_reader *reader, const mdn_error *err);

/* A _core.Reader; takes over both, also when it fails. */
PyObject *mdn_py_reader_new(mdn_py_state *state, mdn_schema *schema,
                            mdn_reader *reader);

#endif
