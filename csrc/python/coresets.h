/* coresets.h - what the files that bind the greedy methods share. */
#ifndef MDN_PYTHON_CORESETS_H
#define MDN_PYTHON_CORESETS_H

#include "python/python.h"

#include "selector/features.h"
#include "selector/greedy.h"

/* Features as Python gives them: float32 of shape (n, width), or None. */
typedef struct {
    Py_buffer rows, embeddings; /* obj is NULL without */
    uint32_t threads;
    PyThreadState *thread; /* of who calls, without the GIL */
    mdn_pulse pulse;       /* looks for signals */
    mdn_beat beat;
} mdn_py_features;

/* 0, or -1 and an exception.  Must not move afterwards. */
int mdn_py_features_read(PyObject *rows, PyObject *embeddings, uint32_t threads,
                         mdn_py_features *out);
void mdn_py_features_release(mdn_py_features *given);

/* Without the GIL: mdn_features_init of what was given. */
mdn_status mdn_py_features_init(mdn_py_features *given, mdn_features *out,
                                mdn_error *err);
uint64_t mdn_py_features_count(const mdn_py_features *given);

/* A column of the answer: numbers of 8 bytes, malloc'd. */
typedef struct {
    void *data;
    mdn_dtype dtype;
    uint64_t count;
} mdn_py_column;

/* Zeros for each column; -1 and MemoryError with nothing to clean up. */
int mdn_py_columns_new(mdn_py_column *columns, Py_ssize_t count);
/* A tuple of arrays, or what err says; takes the columns over. */
PyObject *mdn_py_columns(PyObject *module, mdn_status st, const mdn_error *err,
                         mdn_py_column *columns, Py_ssize_t count);

/* "O&" of PyArg_ParseTuple: (how, batch, epsilon, beta, seed). */
int mdn_py_read_greedy(PyObject *object, void *options);

/* coresets_more.c */
int mdn_py_add_coresets_more(PyObject *module);

#endif
